"""Tasks that are linear in features of the step."""

import copy
from collections.abc import Sequence
from typing import Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_ranges, within
from hindsight_rl.keys import REWARD, TERMINATED, Key, key_name, key_of
from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.maths.successors import LinearReward, linear_reward
from hindsight_rl.ports import LogView
from hindsight_rl.tasks.family import TaskFamily

_NO_VARIANCE = 1e-6  # share of a feature's variance; float32 columns are no more exact


class LinearTasks(TaskFamily):
    """A task is a vector of weights; the reward is its inner product with features of the step.

    The prior is uniform over a box of weights. Such tasks go on for ever.

    Whitened, the features are standardised first. With their mean m, standard deviations s and
    correlation matrix R over the rows that may be drawn,

        z = R^(-1/2) (features - m) / s,        reward = weights . z

    z has mean 0 and the unit matrix as covariance; of all such features they are the ones most like
    the given ones, whatever their units. So the reward of a task has mean 0 and standard deviation
    abs(weights) over the log: no feature dominates, and two that move together do not count twice.
    A feature, or a combination of features, that never varies counts 0. Up to a constant the reward
    is that of the plain weights ``whitening.T @ weights``.

    Args:
        low: Smallest weight of each feature.
        high: Largest weight of each feature, not below ``low``.
        features: Column with the features ``[Z]``, as it is printed (``next.achieved_goal``).
        whiten: Standardise the features by mean and covariance of the log.

    Attributes:
        mean: ``[Z]``, subtracted from the features; ``None`` where they are not whitened.
        whitening: ``[Z, Z]``, R^(-1/2) / s, or ``None``.

    Raises:
        ValueError: The box has no volume, or its sides differ in length.

    Reference:
        Barreto et al. 2017, arXiv 1606.05312; as tasks to relabel with, Eysenbach et al. 2020,
        arXiv 2002.11089. Whitening: Kessy, Lewin, Strimmer 2018, "Optimal whitening and
        decorrelation", ZCA-cor.
    """

    def __init__(
        self,
        low: Sequence[float],
        high: Sequence[float],
        features: str = "next.achieved_goal",
        whiten: bool = False,
    ) -> None:
        if len(low) != len(high) or not len(low):
            raise ValueError(f"low has {len(low)} weights and high {len(high)}: give as many")
        if any(top < bottom for bottom, top in zip(low, high, strict=True)):
            raise ValueError(f"high {list(high)} is below low {list(low)}")
        self.features: Key = key_of(features)
        self.in_keys = (self.features,)
        self.low, self.high = torch.tensor(low).float(), torch.tensor(high).float()
        self.whiten = whiten
        self.mean: Tensor | None = None
        self.whitening: Tensor | None = None

    def prepare(self, log: LogView) -> Self:
        """Return a copy that knows how the log's features are whitened, if they are.

        Args:
            log: The log.

        Returns:
            The bound family.

        Raises:
            ValueError: The log has another number of features than there are weights.
        """
        column = log.column(self.features)
        if tuple(column.shape[1:]) != (len(self.low),):
            raise ValueError(
                f"{len(self.low)} weights for features of shape {list(column.shape[1:])}: give low "
                "and high one number for each feature"
            )
        other = copy.copy(self)
        if self.whiten:
            other.mean, other.whitening = _whitening(column[log.drawable()])
        return other

    def named(
        self,
        log: LogView,
        rows: Tensor | None = None,
        *,
        ridge: float = 1e-6,
        least: float = 0.5,
    ) -> LinearReward:
        """Return the task whose reward is that of a log, as far as it is linear in the features.

        A few rows with a reward are enough to name a task for a policy that was fitted before. What
        every step earns besides is no preference where tasks go on for ever; it is not subtracted
        where the log has steps that terminate.

        Args:
            log: Holds features and rewards; the family is bound to the log of the fit.
            rows: Row numbers ``[M]`` int64 to look at; ``None`` for all.
            ridge: See :func:`linear_reward`.
            least: Share of the rewards' variance, in [0, 1], that must be explained.

        Returns:
            The task ``weights`` ``[Z]``, and how much it explains of these rows.

        Raises:
            ValueError: Less is explained, the rows determine no weights, or an argument is out of
                range.
        """
        check_ranges(within("[0, 1]", least=least))
        rows = torch.arange(len(log)) if rows is None else rows
        features = self._seen(log.take(self.features, rows))
        ends = bool(log.take(TERMINATED, rows).any())
        found = linear_reward(features, log.take(REWARD, rows), ridge=ridge, constant=not ends)
        if found.explained < least:
            raise ValueError(
                f"'{key_name(self.features)}' explains {float(found.explained):.0%} of the "
                f"variance of {len(rows)} rewards (R^2), and {least:.0%} are asked for: a policy "
                "for this task would chase something else. Add features that the reward is about"
            )
        return found

    def sample(self, draws: Tensor) -> Tensor:
        """Return weights ``[..., Z]`` float32, uniform over the box."""
        each = [uniform(fork(draws, number)) for number in range(len(self.low))]
        low, high = self.low.to(draws.device), self.high.to(draws.device)
        return low + (high - low) * torch.stack(each, dim=-1)

    def log_prior(self, task: Tensor) -> Tensor:
        """Return 0 within the box and -inf outside, ``[...]``, nats."""
        inside = (task >= self.low.to(task.device)) & (task <= self.high.to(task.device))
        return torch.where(inside.all(-1), 0.0, -torch.inf)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return weights times features, ``[...]`` or ``[..., N]`` when pairwise.

        Args:
            batch: Transitions ``[...]``.
            task: ``[..., Z]``, or ``[N, Z]`` when pairwise.
            pairwise: Score every row under every task.

        Returns:
            Reward units.

        Raises:
            ValueError: Features are to be whitened, and the family was not bound to a log.
        """
        features = self._seen(batch[self.features])
        return features @ task.T if pairwise else (features * task).sum(-1)

    def _seen(self, features: Tensor) -> Tensor:
        """Return the features that a task weighs, ``[..., Z]``."""
        if not self.whiten:
            return features
        if self.mean is None or self.whitening is None:
            raise ValueError("LinearTasks whitens by the features of a log: call prepare")
        device = features.device
        return (features - self.mean.to(device)) @ self.whitening.to(device).T

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return False throughout."""
        shape = (*batch.batch_size, len(task)) if pairwise else batch.batch_size
        return torch.zeros(shape, dtype=torch.bool, device=task.device)


def _whitening(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean ``[Z]`` and whitening matrix ``[Z, Z]`` of features ``[M, Z]``."""
    mean = features.double().mean(0)
    centred = features.double() - mean
    spread = centred.square().mean(0).sqrt()
    # A constant column of float32 has a spread of its rounding.
    size = features.double().abs().amax(0)
    inverse = torch.where(spread > _NO_VARIANCE * size, 1 / spread, 0.0)
    standard = centred * inverse
    values, vectors = torch.linalg.eigh(standard.T @ standard / len(features))
    root = torch.where(values > _NO_VARIANCE, values.clamp(min=_NO_VARIANCE).rsqrt(), 0.0)
    whitening = (vectors * root) @ vectors.T * inverse
    return mean.float(), whitening.float()
