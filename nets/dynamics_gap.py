"""Two classifiers of where a transition comes from, the second the first and what s' adds to it."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from hindsight_rl.nets.perceptron import SeededPerceptron


class GapLogits(NamedTuple):
    """What the classifiers say of transitions, above 0 for the target."""

    pair: Tensor
    """``[N]``, of state and action alone, nats."""
    gap: Tensor
    """``[N]``, what the next state adds, nats."""


class GapNet(nn.Module):
    """The logit of (s, a, s') is that of (s, a) plus a network of its own, so they share errors.

    Args:
        observed: O, width of the state.
        acted: A, width of the action.
        hidden: Width of each hidden layer.
        seed: Of the first weights.
    """

    def __init__(self, observed: int, acted: int, hidden: Sequence[int], *, seed: int) -> None:
        super().__init__()
        self._pair_width = observed + acted
        self.pair = SeededPerceptron((observed + acted, *hidden, 1), seed=seed)
        self.gap = SeededPerceptron((2 * observed + acted, *hidden, 1), seed=seed + 1)

    def forward(self, rows: Tensor) -> GapLogits:
        """Return the logits of transitions ``[N, O + A + O]``, standardised."""
        pair: Tensor = self.pair(rows[:, : self._pair_width])
        gap: Tensor = self.gap(rows)
        return GapLogits(pair.squeeze(-1), gap.squeeze(-1))
