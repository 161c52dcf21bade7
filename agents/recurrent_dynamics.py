"""RecurrentDynamics: a model of what follows an action where observations hide part of the state.

    h_t = GRU_e(h_{t-1}, [o_t, a_t]),   y_t = (o_{t+1} - o_t, r_t), standardised over the log
    L = sum_e E[ w_e mean_td( (mu_ed(h_t) - y_td)^2 exp(-lv_ed(h_t)) + lv_ed(h_t) ) ]
        + .01 sum_d(high_d - low_d) + sum_l k_l |W_l|^2 / 2

over segments of steps. What an observation does not show (velocities, delays, what lies behind a
corner) may follow from those before it. Each of E members carries a vector of its own from step to
step, and whoever imagines carries it along. All else is as where states are observed.

Reference: Chua et al. 2018, arXiv 1805.12114 (the ensemble); Ha and Schmidhuber 2018, "World
models", arXiv 1803.10122 (a recurrent model of what is seen).

Deviations:
- The memory is deterministic and the distribution normal; there a mixture, of a learned code.
- A segment may begin anywhere in an episode, and its first h is 0: the steps of a burn-in update h
  and are not fitted (Kapturowski et al. 2019, R2D2), unless the episode begins with them.

Update order: ensemble and terminations together; they share nothing.
"""

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_choices, check_ranges, within
from hindsight_rl.keys import COUNTS, STEP, Key
from hindsight_rl.maths.dynamics import Uncertainty, disagreement, gaussian_loss
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.dynamics import DECAY, GaussianEnsemble, Outcomes
from hindsight_rl.nets.ending import Ending, GivenEnding
from hindsight_rl.nets.foresight import foreseen
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Foreseen, Imagined
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.elites import JudgeMembers
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.training.step_statistics import StepStatistics
from hindsight_rl.windows import Window


class RecurrentDynamics(Learner):
    """A probabilistic ensemble of what follows an action, whose members remember.

    Args:
        spec: What the data look like; the task is not looked at.
        units: H, numbers that each member remembers, at least 1.
        network: Inputs, and layers behind what is remembered, see :class:`Network`.
        members: Number of members, E.
        elites: How many of them imagine, in [1, E]; all do where no episodes are held out.
        uncertainty: What disagreement is, see :mod:`hindsight_rl.maths.dynamics`.
        termination: ``"learned"``, ``"none"``, or ``"module:function"``, see :class:`Dynamics`.
        angles: Places of (cosine, sine) pairs in the observation: they stay on the circle.
        margin: Share of the log's range by which imagined observations may leave it, at least 0.
        weight_decay: Of each layer behind the memory, at least 0; stretched evenly.
        segment: L, steps of a segment, at least 2.
        burn_in: Steps at the start of a segment that are not fitted, in [0, L), unless the episode
            begins there.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, the observation is no flat vector, or (before the
            first update) no row of the log is terminated, and terminations are to be learned.
    """

    acts = False
    not_exported = (
        "it predicts what follows actions and chooses none; fit a policy, and export that"
    )
    rates = {"ensemble": 1e-3}
    in_keys: tuple[Key, ...] = (
        STEP,
        ("chunk", "observation"),
        ("chunk", "action"),
        ("chunk", "next", "observation"),
        ("chunk", "next", "reward"),
        ("chunk", "valid"),
    )
    optional_keys = ()
    elite: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        units: int = 64,
        network: Network = Network(hidden=(64, 64)),
        members: int = 5,
        elites: int = 3,
        uncertainty: Uncertainty = "ensemble_std",
        termination: str = "learned",
        angles: tuple[tuple[int, int], ...] = (),
        margin: float = 0.1,
        weight_decay: tuple[float, ...] = DECAY,
        segment: int = 16,
        burn_in: int = 4,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_choices(RecurrentDynamics.__init__, locals())
        check_ranges(at_least(1, units=units, members=members))
        check_ranges(at_least(2, segment=segment), within(f"[0, {segment})", burn_in=burn_in))
        check_ranges(within(f"[1, {members}]", elites=elites), note=", the members")
        check_ranges(at_least(0, margin=margin, weight_decay=weight_decay))
        self.elites, self.uncertainty, self.burn_in = elites, uncertainty, burn_in
        self.weight_decay, self.window = tuple(weight_decay) or (0.0,), Window(chunk=segment)
        self.ensemble = GaussianEnsemble(
            self.spec, network, members=members, units=units, horizon=segment
        )
        self.outcomes = Outcomes(self.spec.vector.width, angles, margin)
        learned = termination == "learned"
        self.ending = Ending(self.spec, network) if learned else GivenEnding(termination)
        self.in_keys += (("chunk", "next", "terminated"),) if learned else ()
        self.register_buffer("elite", torch.ones(members))
        self.log_pass = StepStatistics(self.ending.take, self.outcomes.take)

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Return the keys the losses may read, with how often each member counts a segment."""
        return (*super().read_keys, COUNTS)

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with how often each member counts a segment, by its first row."""
        found = super().complete(batch, seed).copy()
        counts = episode_weights(found["index"], len(self.elite), "segments of a model")
        return found.set(COUNTS, counts.movedim(0, -1))

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``ensemble`` and, if learned, ``ending``; held-out rows count once."""
        segment, fitted = batch["chunk"], self._fitted(batch)
        mean, log_variance, y = self._segments(batch)
        loss = gaussian_loss(mean, log_variance, y).mean(-1)  # [E, B, L]
        counts = batch[COUNTS].movedim(-1, 0) if self.training else torch.ones_like(loss[..., 0])
        steps = self.batch_mean(fitted.sum(-1)).clamp_min(1e-6)
        regular = 0.01 * self.ensemble.width_of_bounds() + self.ensemble.decay(self.weight_decay)
        rows = counts * (fitted * loss).sum(-1)
        terms = {"ensemble": rows.mean(-1).sum() / steps + regular}
        said, std = mean.detach(), (0.5 * log_variance.detach()).exp()
        seen = {
            "ensemble/mse": (said.mean(0) - y).square().mean(-1),
            "ensemble/std": std.mean((0, -1)),
            "ensemble/disagreement": disagreement(said, std, self.uncertainty),
        }
        if isinstance(self.ending, Ending):
            step = segment["observation"], segment["action"], segment["next", "observation"]
            ended = segment["next", "terminated"]
            error, chance = self.ending.loss(*step, ended)
            terms["ending"] = (fitted * error).sum(-1).mean() / steps
            seen |= {"ending/predicted": chance, "ending/terminated": ended.float()}
        total = fitted.sum().clamp_min(1.0)
        return LossTerms(terms, {name: (fitted * v).sum() / total for name, v in seen.items()})

    def _segments(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return what members say of segments, ``[E, B, L, D]``, and what came ``[B, L, D]``."""
        segment = batch["chunk"]
        observation, following = segment["observation"], segment["next", "observation"]
        said = self.ensemble.segment(observation, segment["action"])
        y = self.outcomes.standardised(observation, following, segment["next", "reward"])
        return said.mean, said.log_variance, y

    def _fitted(self, batch: TensorDict) -> Tensor:
        """Return ``[B, L]``, 1 for the steps of segments that are fitted, else 0."""
        place = torch.arange(self.window.chunk, device=batch[STEP].device)
        warm = (place >= self.burn_in) | (batch[STEP].unsqueeze(-1) == 0)
        fitted: Tensor = batch["chunk", "valid"] & warm
        return fitted.float()

    def judged(self, batch: TensorDict) -> tuple[Tensor, Tensor, Tensor]:
        """Return means and log-variances of N steps, ``[E, N, D]``, and what came, ``[N, D]``."""
        mean, log_variance, y = self._segments(batch)
        counted = self._fitted(batch).bool()
        return mean[:, counted], log_variance[:, counted], y[counted]

    def configure_callbacks(self) -> list[Callback]:
        """Return what chooses the elites."""
        return [JudgeMembers()]

    def initial_memory(self, n: int) -> dict[str, Tensor]:
        """Return what members remember where n episodes begin: ``hidden [n, E, H]`` zeros."""
        return self.ensemble.initial(n)

    def foresee(
        self,
        observation: Tensor,
        action: Tensor,
        memory: dict[str, Tensor],
        draws: Tensor | None = None,
    ) -> Foreseen:
        """Return what follows actions, and what is remembered: see ``Foresees`` of the ports."""
        said = self.ensemble(observation, action, memory)
        return foreseen(self, said, observation, action, draws)

    def imagine(self, observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        """Raise: a step alone does not say what follows it."""
        raise ValueError(
            "RecurrentDynamics remembers: what follows depends on the steps before. Carry memory "
            "along (initial_memory, foresee), or fit Dynamics where an observation says enough"
        )
