"""The best of several actions that a sampler proposes, by the values of critics.

Serves any sampler and any critics, those of a learner or of two that were fitted apart: what the
sampler has learned to do bounds what the critics are asked about.

    best = BestOf(propose, critic, samples=64, width=actor.outputs)
    decision = best(observation, task, noise)
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor

from hindsight_rl.maths.weights import expectile_weight
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.policies.action_values import best_of
from hindsight_rl.ports import Decision

Propose = Callable[[Observation, Tensor | None, Tensor], Tensor]
"""``(observation [B, O], task, noise [n, B, S]) -> actions [n, B, A]``, environment units."""
Values = Callable[[Observation, Tensor, Tensor | None], Tensor]
"""``(observation, actions [n, B, A], task) -> [E, n, B]``, reward units."""
Rank = Callable[[Tensor, Observation, Tensor | None, Tensor], Tensor]
"""``(values [n, B], observation, task, noise [m, B]) -> scores [n, B]``; the largest is taken."""


def exponential_race(log_weight: Tensor, noise: Tensor) -> Tensor:
    """Return scores whose largest is action i with a probability in proportion to its weight.

    log w_i - log e_i, where e_i is exponentially distributed: of two normal numbers half the sum of
    squares is.

    Args:
        log_weight: ``[n, B]``.
        noise: ``[2 n, B]`` standard normal.

    Returns:
        ``[n, B]``.
    """
    one, two = noise.chunk(2)
    clock = 0.5 * (one.square() + two.square())
    return log_weight - clock.clamp(min=1e-30).log()


class BestOf:
    """Takes one of n proposed actions.

    Actions are proposed and valued in float64: of two that are nearly as good rounding would choose
    one, in every runtime on its own.

    Args:
        propose: Makes actions of noise, in the precision of the noise.
        values: The least of the critics' values counts.
        samples: n, at least 1.
        width: S, normal numbers of a proposal.
    """

    rank: Rank | None = None
    more: int = 0

    def __init__(
        self,
        propose: Propose,
        values: Values,
        *,
        samples: int,
        width: int,
    ) -> None:
        self.propose, self.values = propose, values
        self.samples, self.width = samples, width

    def ranked(self, rank: Rank, more: int) -> Self:
        """Return this, choosing by scores that are made of the values.

        Args:
            rank: Makes them; the values themselves count without.
            more: m, further normal numbers that it needs.

        Returns:
            Itself.
        """
        self.rank, self.more = rank, more
        return self

    @property
    def noise(self) -> int:
        """Return how many normal numbers a row needs."""
        return self.samples * self.width + self.more

    def __call__(self, observation: Observation, task: Tensor | None, noise: Tensor) -> Decision:
        """Return the action taken, and the scores that it is the largest of.

        Args:
            observation: ``[B, O]``.
            task: ``[B, Z]`` where there is one.
            noise: ``[B, n * S + m]`` standard normal.

        Returns:
            ``[B, A]`` float32 in environment units, no state, scores ``[B, n]``.
        """
        noise, made = noise.double(), self.samples * self.width
        # Reshaped, not unflattened: a traced graph would no longer know the number of dimensions.
        start = noise[:, :made].reshape(-1, self.samples, self.width).transpose(0, 1)
        action = self.propose(observation, task, start)
        value = self.values(observation, action, task).amin(0)
        scores = value
        if self.rank is not None:
            scores = self.rank(value, observation, task, noise[:, made:].T)
        return Decision(best_of(action, scores).float(), {}, scores.movedim(0, -1).float())


def implicit_scores(value: Tensor, level: Tensor, noise: Tensor, *, expectile: float) -> Tensor:
    """Return scores whose largest is drawn from the policy that an expectile value stands for.

    Args:
        value: Q ``[n, B]``, reward units.
        level: V ``[B]``, reward units.
        noise: ``[2 n, B]`` standard normal.
        expectile: Of the value, in (0, 1).

    Returns:
        ``[n, B]``.

    Reference:
        Hansen-Estruch et al. 2023, arXiv 2304.10573, section 4.
    """
    weight = expectile_weight(value - level, expectile=expectile)
    return exponential_race(torch.log(weight), noise)
