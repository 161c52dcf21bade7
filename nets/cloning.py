"""What weighted cloning asks of a policy's network: one loss per row, and what its density is.

    L(theta) = E_log[ w * row_loss(s, a, z) ]

The loss is -log pi where there is a density, and what stands in its place elsewhere: a squared
error, a bound, the error of a velocity. It does not matter to a weight. What needs a density itself
(ratios of two policies, labels below 0, an entropy in a soft value) asks for it by
:func:`check_exact`.
"""

from typing import Literal, Protocol

from torch import Tensor

from hindsight_rl.nets.encoders.entries import Observation

Density = Literal["exact", "bound", "none"]


class Clones(Protocol):
    """A network that imitates actions, row by row."""

    @property
    def density(self) -> Density:
        """What minus the loss of a row is: the log-density, a lower bound of it, or neither."""

    @property
    def row_noise(self) -> int:
        """Normal numbers that the loss of a row needs; 0 for none."""

    def row_loss(
        self,
        observation: Observation,
        action: Tensor,
        task: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of each row, not reduced and not weighted.

        Args:
            observation: ``[B, O]``, or ``[B, ...]`` by entry.
            action: ``[B, A]`` in environment units, or ``[B]`` int64.
            task: ``[B, Z]`` where the spec has a task.
            noise: ``[B, row_noise]`` standard normal, where it needs any.

        Returns:
            ``[B]``.
        """


class Judged(Protocol):
    """A policy that says what its density is."""

    @property
    def density(self) -> Density:
        """What is known of the probability of an action."""

    @property
    def kind(self) -> str:
        """Kind of its head."""


_KNOWN = {"bound": "has a lower bound of it alone", "none": "has none"}


def check_exact(owner: str, policy: Judged, why: str) -> None:
    """Check that a policy has an exact density, where one is needed.

    Args:
        owner: What needs it.
        policy: What must have it.
        why: What it is needed for; ends the sentence.

    Raises:
        ValueError: It has a bound or none.
    """
    if policy.density != "exact":
        known = _KNOWN[policy.density]
        raise ValueError(f"{owner} needs an exact density, and head '{policy.kind}' {known}: {why}")
