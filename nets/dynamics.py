"""An ensemble of normal distributions of what follows an action, in the log's own units."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hindsight_rl.maths.dynamics import soft_bounds, unit_circle
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.entries import Choice, make_inputs
from hindsight_rl.nets.encoders.sequence import Recurrence
from hindsight_rl.nets.layers import mlp
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec

DECAY = (2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4)
"""Of the weights of five layers, Janner et al. 2019, arXiv 1906.08253, their code."""


class StepRange(NamedTuple):
    """What steps of a log look like; D = O + 1: the change of the observation, then the reward.

    Attributes:
        mean: ``[D]``, of s' - s and of r.
        std: ``[D]``, above 0.
        low: ``[D]``, least of s and s', and of r.
        high: ``[D]``, largest of them.
        rows: How many were looked at.
        endings: How many of them are terminated.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    rows: int
    endings: int


class Said(NamedTuple):
    """What members say of steps, standardised.

    Attributes:
        mean: ``[E, ..., D]``.
        log_variance: ``[E, ..., D]``.
        memory: What they keep for the next step, ``[..., S]`` by name; empty where nothing.
    """

    mean: Tensor
    log_variance: Tensor
    memory: dict[str, Tensor]


class Outcomes(nn.Module):
    """Steps as standardised numbers, and back: what an ensemble is fitted to.

    Args:
        width: O, of an observation.
        angles: Places of (cosine, sine) pairs in it.
        margin: Share of the log's range, at least 0, by which imagined numbers may leave it.

    Raises:
        ValueError: An angle is outside of the observation.
    """

    mean: Tensor
    std: Tensor
    low: Tensor
    high: Tensor
    cosines: Tensor
    sines: Tensor
    measured: Tensor

    def __init__(self, width: int, angles: Sequence[tuple[int, int]], margin: float) -> None:
        super().__init__()
        for pair in angles:
            if (
                len(pair) != 2
                or pair[0] == pair[1]
                or not all(0 <= place < width for place in pair)
            ):
                raise ValueError(
                    f"angles names {list(pair)}: give the places of a cosine and of its sine, two "
                    f"numbers from 0 to {width - 1}"
                )
        self.margin = margin
        for name, number in {"mean": 0.0, "std": 1.0, "low": -torch.inf, "high": torch.inf}.items():
            self.register_buffer(name, torch.full((width + 1,), number))
        self.register_buffer("measured", torch.tensor(0.0))
        places = torch.tensor(list(angles), dtype=torch.int64).reshape(-1, 2)
        self.register_buffer("cosines", places[:, 0].clone(), persistent=False)
        self.register_buffer("sines", places[:, 1].clone(), persistent=False)

    def take(self, known: StepRange) -> None:
        """Take the range of a log's steps, and their spread as the unit.

        Args:
            known: Of a log; outcomes that have a unit keep it, as weights are in it.
        """
        self.low.copy_(known.low)
        self.high.copy_(known.high)
        if not self.measured:
            self.mean.copy_(known.mean)
            self.std.copy_(known.std)
            self.measured.fill_(1.0)

    def standardised(self, observation: Tensor, following: Tensor, reward: Tensor) -> Tensor:
        """Return steps as standardised numbers.

        Args:
            observation: ``[..., O]``.
            following: ``[..., O]``, the next observation.
            reward: ``[...]``.

        Returns:
            ``[..., D]``.
        """
        step = torch.cat([following - observation, reward.unsqueeze(-1)], dim=-1)
        return (step - self.mean) / self.std

    def forward(self, observation: Tensor, outcome: Tensor) -> tuple[Tensor, Tensor]:
        """Return the steps that standardised numbers stand for, within the range of the log.

        Args:
            observation: ``[..., O]``.
            outcome: ``[..., D]``.

        Returns:
            The next observation ``[..., O]`` and the reward ``[...]``.
        """
        step = self.mean + self.std * outcome
        beyond = self.margin * (self.high - self.low) if self.margin else 0.0
        low, high = self.low - beyond, self.high + beyond
        following = torch.clamp(observation + step[..., :-1], low[:-1], high[:-1])
        reward = torch.clamp(step[..., -1], self.low[-1], self.high[-1])
        return unit_circle(following, self.cosines, self.sines), reward


class GaussianEnsemble(nn.Module):
    """Members that share nothing but their standardised input: means and log-variances.

    They are separate networks, not stacked parameters, which are slower on the CPU where many rows
    are imagined at once, and faster by a tenth where few are fitted. The task is not looked at: it
    changes what a step is worth, not where it leads.

    Args:
        spec: The data's spec, of a flat observation.
        network: Inputs and hidden layers.
        members: Number of members, E.
        units: H, numbers that each member remembers of the steps before, in a GRU; 0 for none.
        horizon: Steps over which they begin to remember, at least 2.
        start: Lower and upper bound of log-variances at first, standardised; they are learned.

    Raises:
        ValueError: The observation is no flat vector, or the network does not go with it.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network,
        *,
        members: int,
        units: int = 0,
        horizon: int | None = None,
        start: tuple[float, float] = (-10.0, 0.5),
    ) -> None:
        super().__init__()
        network.check_ungated("a model of the dynamics")
        outputs = spec.vector.width + 1
        self.inputs, hidden = make_inputs(replace(spec, task=None), network)
        self.scale = ActionScale(spec.action)
        self.choices = Choice(spec.action.n)
        width = self.inputs.width + (spec.action.n or spec.action.width)
        self.cells = nn.ModuleList(
            Recurrence(width, units, horizon=horizon) for _ in range(members if units else 0)
        )
        self.members = nn.ModuleList(
            mlp(width + units, hidden, 2 * outputs, nn.SiLU) for _ in range(members)
        )
        self.units = units
        self.low, self.high = (nn.Parameter(torch.full((outputs,), bound)) for bound in start)

    def forward(
        self, observation: Tensor, action: Tensor, memory: Mapping[str, Tensor] | None = None
    ) -> Said:
        """Return what every member says of steps.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            memory: ``hidden [..., E, H]`` of members that remember, see :meth:`initial`.

        Returns:
            Means and log-variances, ``[E, ..., D]`` each, standardised, and the next memory.

        Raises:
            ValueError: The memory is missing.
        """
        now = self._now(observation, action)
        if not self.units:
            return self._said([now] * len(self.members), {})
        if not memory:
            raise ValueError("these members remember: pass memory, of initial or the step before")
        hidden = memory["hidden"].unbind(-2)
        cells = cast(Iterable[Recurrence], self.cells)
        stepped = [cell.step(now, h) for cell, h in zip(cells, hidden, strict=True)]
        seen = [torch.cat([features, now], dim=-1) for features, _ in stepped]
        return self._said(seen, {"hidden": torch.stack([h for _, h in stepped], dim=-2)})

    def segment(self, observation: Tensor, action: Tensor) -> Said:
        """Return what members say of every step of segments that begin with nothing remembered.

        Args:
            observation: ``[..., L, O]``.
            action: ``[..., L, A]`` in environment units, or ``[..., L]`` int64.

        Returns:
            Means and log-variances, ``[E, ..., L, D]`` each; no memory.
        """
        now = self._now(observation, action)
        return self._said([torch.cat([cell(now), now], dim=-1) for cell in self.cells], {})

    def initial(self, n: int) -> dict[str, Tensor]:
        """Return the memory of n episodes that begin: ``hidden [n, E, H]`` zeros, or nothing."""
        shape = (n, len(self.members), self.units)
        return {"hidden": self.low.new_zeros(shape)} if self.units else {}

    def _now(self, observation: Tensor, action: Tensor) -> Tensor:
        chosen = self.choices(action) if self.scale.discrete else self.scale.to_policy(action)
        return torch.cat([self.inputs(observation), chosen], dim=-1)

    def _said(self, features: Sequence[Tensor], memory: dict[str, Tensor]) -> Said:
        pairs = zip(self.members, features, strict=True)
        found = torch.stack([member(given) for member, given in pairs])
        mean, log_variance = found.chunk(2, dim=-1)
        return Said(mean, soft_bounds(log_variance, self.low, self.high), memory)

    def width_of_bounds(self) -> Tensor:
        """Return the sum of upper less lower bounds, ``[]``."""
        return (self.high - self.low).sum()

    def decay(self, rates: Sequence[float]) -> Tensor:
        """Return half the squared weights, each layer by a rate of its own, over all members.

        Args:
            rates: At least 0, from the first layer to the last; stretched evenly over the layers
                where there are more or fewer.

        Returns:
            ``[]``.
        """
        total = self.low.new_zeros(())
        for member in self.members:
            layers = [layer for layer in member.children() if isinstance(layer, nn.Linear)]
            for number, layer in enumerate(layers):
                place = round(number * (len(rates) - 1) / max(len(layers) - 1, 1))
                total = total + 0.5 * rates[place] * layer.weight.square().sum()
        return total
