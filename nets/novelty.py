"""Networks that say how new something is: a distilled random network, and members that differ."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hindsight_rl.maths.draws import MASK
from hindsight_rl.maths.dynamics import soft_bounds
from hindsight_rl.nets.perceptron import SeededPerceptron


class Distillation(nn.Module):
    """A network that learns what a random one says: where it was not, it does not know.

    The random network has one hidden layer fewer, and is fixed.

    Args:
        inputs: F.
        hidden: Widths of the learner's hidden layers, at least one.
        outputs: Numbers that the random network says.
        seed: Of the first weights of both.
    """

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, *, seed: int) -> None:
        super().__init__()
        self.predictor = SeededPerceptron((inputs, *hidden, outputs), seed=seed)
        # Another stream of seeds: the two would begin alike where widths are.
        fixed = SeededPerceptron((inputs, *hidden[:-1], outputs), seed=seed ^ MASK)
        self.target = fixed.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the mean squared error ``[N]`` of what is said of features ``[N, F]``."""
        found: Tensor = (self.predictor(features) - self.target(features)).square().mean(-1)
        return found


class SeededEnsemble(nn.Module):
    """Members that each give a normal distribution of D numbers, with first weights of a seed.

    Args:
        inputs: F.
        hidden: Widths of the hidden layers of every member.
        outputs: D.
        members: E.
        seed: Of the first weights.
        bounds: Lower and upper bound of log-variances.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        members: int,
        *,
        seed: int,
        bounds: tuple[float, float] = (-10.0, 0.5),
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            SeededPerceptron((inputs, *hidden, 2 * outputs), seed=seed + (number << 32))
            for number in range(members)
        )
        self.low, self.high = bounds

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and log-variances, ``[E, N, D]`` each, of features ``[N, F]``."""
        members = cast(Iterable[SeededPerceptron], self.members)
        mean, log_variance = torch.stack([member(features) for member in members]).chunk(2, -1)
        low, high = mean.new_tensor(self.low), mean.new_tensor(self.high)
        return mean, soft_bounds(log_variance, low, high)
