"""Steps of an episode as tokens: every number is the bin of the log that it lies in."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from hindsight_rl.keys import Key
from hindsight_rl.maths.bins import bin_centres, bin_means, bin_of, even_edges, quantile_edges
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.spec import Spec

OUTCOMES: dict[str, Key] = {
    "reward": ("next", "reward"),
    "return": "return_to_go",
    "end": ("next", "terminated"),
}
"""What follows a step's observation and action, by name, and its key in a batch."""
LEAST_WIDTH = 1e-4
"""Of a bin, standard deviations: of a number that a log repeats, several quantiles are equal."""


class StepBins(nn.Module):
    """Bins of a step's numbers: observation, action, reward, return to go and end, in this order.

    Real numbers lie in bins that hold about equally many of the log, and a bin stands for the mean
    of its numbers; choices and ends are bins of their own. Until :meth:`fit` bins are even, over
    three standard deviations on both sides where the spec knows them.

    Args:
        spec: The data's spec.
        bins: G of every number, at least 2.

    Raises:
        ValueError: The observation is no vector, or there are more choices than bins.

    Attributes:
        sizes: How many tokens observation, action and each outcome have, by name.
        first: Place of the first of them, by name.
        slots: D, tokens of a step.
        edges: ``[D, G + 1]``, rising; infinite behind the last choice.
        means: ``[D, G]``, what bins stand for.
        open: ``[D, G]`` bool, False where there is no such choice.
        fitted: ``[]`` bool, whether the bins are those of a log.
    """

    edges: Tensor
    means: Tensor
    open: Tensor
    fitted: Tensor
    _real: Tensor

    def __init__(self, spec: Spec, bins: int) -> None:
        super().__init__()
        self.bins, self.choices = bins, spec.action.n
        if self.choices > bins:
            raise ValueError(f"bins is {bins}, and there are {self.choices} actions: give as many")
        self.scale = ActionScale(spec.action)
        acted = 1 if self.choices else spec.action.width
        self.sizes = {"observation": spec.vector.width, "action": acted} | dict.fromkeys(
            OUTCOMES, 1
        )
        self.first, self.slots = {}, 0
        for name, size in self.sizes.items():
            self.first[name], self.slots = self.slots, self.slots + size
        counted = torch.zeros(self.slots, 1, dtype=torch.int64)
        counted[self.first["action"]], counted[self.first["end"]] = self.choices, 2
        centre, spread = _scales(spec, self.scale, self.slots)
        even = even_edges(centre - 3.0 * spread, centre + 3.0 * spread, bins=bins)
        real, place = counted == 0, torch.arange(bins + 1).expand_as(even)
        numbered = torch.where(place <= counted, place - 0.5, torch.inf)
        self.register_buffer("edges", torch.where(real, even, numbered))
        self.register_buffer("means", torch.where(real, bin_centres(even), place[:, :-1].float()))
        self.register_buffer("open", real | (place[:, :-1] < counted))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.register_buffer("_real", real, persistent=False)

    def forward(self, step: Tensor) -> Tensor:
        """Return the tokens ``[..., D]`` int64 of numbers ``[..., D]``."""
        return bin_of(step, self.edges)

    def numbers(self, batch: Mapping[Key, Tensor]) -> Tensor:
        """Return the numbers ``[..., D]`` of steps, in the order of their tokens.

        Args:
            batch: ``observation [..., O]``, ``action [..., A]`` (or ``[...]`` int64), and the
                outcomes ``[...]`` by their keys.

        Returns:
            ``[..., D]``.
        """
        action = batch["action"].unsqueeze(-1) if self.choices else batch["action"]
        outcomes = [batch[key].unsqueeze(-1) for key in OUTCOMES.values()]
        parts = [batch["observation"], action, *outcomes]
        return torch.cat([part.to(self.edges.dtype) for part in parts], dim=-1)

    def part(self, name: str) -> slice:
        """Return where the tokens of a part are among those of a step."""
        return slice(self.first[name], self.first[name] + self.sizes[name])

    def action(self, tokens: Tensor) -> Tensor:
        """Return the actions that tokens ``[..., size]`` int64 stand for, within every bound.

        Args:
            tokens: ``[..., A]``, or ``[..., 1]`` of a choice.

        Returns:
            ``[..., A]`` in environment units, or ``[...]`` int64 from 0.
        """
        if self.choices:
            return tokens[..., 0]
        means = self.means[self.part("action")].expand(*tokens.shape, self.bins)
        found = means.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        return self.scale.to_environment(self.scale.to_policy(found))

    @torch.no_grad()
    def fit(self, steps: Tensor) -> None:
        """Put the bins of real numbers where those of a log lie.

        Args:
            steps: ``[M, D]``, of the log.
        """
        rows = steps.double()
        mean, std = rows.mean(0), rows.std(0, correction=0)
        std = torch.where(std <= 1e-6 * mean.abs().clamp_min(1.0), 1.0, std)
        place = torch.linspace(0, len(rows) - 1, self.bins + 1, device=rows.device).round().long()
        ordered = ((rows - mean) / std).sort(dim=0).values[place].T
        edges = quantile_edges(ordered, bins=self.bins, least=LEAST_WIDTH)
        found = (mean.unsqueeze(-1) + std.unsqueeze(-1) * edges).to(self.edges.dtype)
        self.edges.copy_(torch.where(self._real, found, self.edges))
        means = bin_means(steps.to(found.dtype), found)
        self.means.copy_(torch.where(self._real, means, self.means))
        self.fitted.fill_(True)


def _scales(spec: Spec, scale: ActionScale, slots: int) -> tuple[Tensor, Tensor]:
    """Return a middle and a spread ``[D]`` of each number, 0 and 1 of what the spec does not know.

    Three spreads on both sides of the middle reach the bounds of actions, where there are both.
    """
    centre, spread = torch.zeros(slots), torch.ones(slots)
    observed = slice(spec.vector.width)
    centre[observed], spread[observed] = (torch.tensor(part) for part in spec.vector.statistics)
    if not spec.action.discrete:
        acted = slice(spec.vector.width, spec.vector.width + spec.action.width)
        centre[acted] = scale.centre
        spread[acted] = scale.scale / 3.0 if scale.bounded else scale.scale
    return centre, spread
