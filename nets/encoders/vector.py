"""Inputs of a network: observation and task, standardised, side by side or gated.

The statistics are those of the spec; they are buffers, so they travel with the checkpoint and the
exported graph.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hindsight_rl.spec import Spec, TaskSpec


class Standardize(nn.Module):
    """Returns (x - mean) / std with fixed statistics.

    Args:
        mean: D numbers.
        std: D numbers above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, value: Tensor) -> Tensor:
        """Return the standardised value ``[..., D]``."""
        return (value - self.mean) / self.std


class Inputs(nn.Module):
    """Standardised observation and task, side by side.

    With frequencies, sine and cosine of each number are added: sin(2^k pi x / 2), k = 0, 1, ...
    Plain networks learn smooth functions first; on few numbers, such as positions, walls and other
    edges are learned many times faster with them.

    Args:
        spec: The data's spec.
        task_scale: Divides each number of the task, above 0, instead of the log's statistics.
        frequencies: How many; 0 for the plain numbers. The shortest wave is 2^(3 - frequencies)
            standard deviations long.

    Raises:
        ValueError: The observation is no vector, or an argument is out of range.

    Reference:
        Tancik et al. 2020, "Fourier features let networks learn high frequency functions in low
        dimensional domains", arXiv 2006.10739.
    """

    def __init__(
        self,
        spec: Spec,
        task_scale: Sequence[float] | None = None,
        *,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        if frequencies < 0:
            raise ValueError(f"frequencies is {frequencies}, it must be at least 0")
        self.observation = Standardize(*spec.vector.statistics)
        task = spec.task
        self.task = Standardize(*task_statistics(task, task_scale)) if task else None
        self.task_scale = None if task_scale is None else list(task_scale)
        self.observed = spec.vector.width
        width = self.observed + (task.width if task else 0)
        self.factors = [math.pi * 2.0 ** (k - 1) for k in range(frequencies)]
        self.width = width * (1 + 2 * frequencies)

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return features ``[..., D]``; observations may be broadcast to tasks."""
        return self.join(self.encode(observation), task)

    def encode(self, observation: Tensor) -> Tensor:
        """Return the observation alone, standardised, ``[..., O]``."""
        features: Tensor = self.observation(observation)
        return features

    def join(self, features: Tensor, task: Tensor | None = None) -> Tensor:
        """Return what a network is given.

        Args:
            features: ``[..., O]``, of :meth:`encode`.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., D]``.

        Raises:
            ValueError: The task is missing.
        """
        if self.task is not None:
            if task is None:
                raise ValueError("this network is conditioned on a task: pass task [..., Z]")
            task = self.task(task)
            if features.shape[:-1] != task.shape[:-1]:
                features = features.expand(*task.shape[:-1], -1)
            features = torch.cat([features, task], dim=-1)
        if not self.factors:
            return features
        angles = torch.cat([features * factor for factor in self.factors], dim=-1)
        return torch.cat([features, angles.sin(), angles.cos()], dim=-1)


def task_statistics(
    task: TaskSpec, scale: Sequence[float] | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of a task, the log's unless a scale is given.

    Args:
        task: The task of the spec.
        scale: Divides each number, above 0.

    Returns:
        Z numbers each.

    Raises:
        ValueError: The scale has another length, or a number that is not positive.
    """
    if scale is None:
        return task.statistics
    width = task.width
    if len(scale) != width or not all(unit > 0 for unit in scale):
        raise ValueError(f"task_scale is {list(scale)}: give {width} numbers above 0")
    return [0.0] * width, scale


class GatedInputs(nn.Module):
    """Observation gated by the task: tanh(W s + b) * sigmoid(V z + c).

    A first layer for commands: the task sets how much of every feature passes, and a long
    observation cannot outweigh it.

    Args:
        spec: The data's spec, with a task.
        width: Number of features, D.
        task_scale: As in :class:`Inputs`.

    Raises:
        ValueError: There is no task.

    Reference:
        Srivastava et al. 2019, arXiv 1912.02877, section 2.4 (gated first layer).
    """

    def __init__(self, spec: Spec, width: int, task_scale: Sequence[float] | None = None) -> None:
        super().__init__()
        if spec.task is None:
            raise ValueError("gate_task needs a task: add a relabeler that gives one, or leave it")
        self.inputs = Inputs(spec, task_scale)
        self.tasks = spec.task.width
        self.state = nn.Linear(self.inputs.width - self.tasks, width)
        self.gate = nn.Linear(self.tasks, width)
        self.width = width

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return features ``[..., D]``, in (-1, 1)."""
        features = self.inputs(observation, task)
        state, command = features.split([features.shape[-1] - self.tasks, self.tasks], dim=-1)
        return torch.tanh(self.state(state)) * torch.sigmoid(self.gate(command))
