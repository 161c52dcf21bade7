"""A posterior over a fixed set of tasks, as a network that learns it."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from hindsight_rl.maths.skills import log_posterior, posterior_divergence
from hindsight_rl.nets.perceptron import SeededPerceptron
from hindsight_rl.relabel.learned import LearnedStep


class LearnedPosterior(LearnedStep):
    """Base class of data steps that learn q(task | row) from targets, by their divergence.

    Targets are a posterior that inverse RL found for some rows, or tasks that are known, one-hot.
    """

    def __init__(self) -> None:
        super().__init__()
        self._mean = self._std = torch.empty(0)

    def _begin_posterior(
        self, features: Tensor, tasks: int, hidden: Sequence[int], learning_rate: float, seed: int
    ) -> None:
        """Start with a network at its first weights, and the spread of features ``[N, F]``."""
        self._mean, self._std = features.mean(0), features.std(0).clamp_min(1e-6)
        widths = (features.shape[-1], *hidden, tasks)
        self._begin(SeededPerceptron(widths, seed=seed), learning_rate)

    def _log_q(self, features: Tensor) -> Tensor:
        """Return log q(task | features), ``[M, N]``, of features ``[M, F]``."""
        device = features.device
        inputs = (features - self._mean.to(device)) / self._std.to(device)
        return log_posterior(cast(Tensor, cast(SeededPerceptron, self.net)(inputs)))

    def _learn(self, features: Tensor, target: Tensor) -> Tensor:
        """Move q towards targets ``[M, N]``; return the mean divergence, nats."""
        with torch.enable_grad():
            divergence = posterior_divergence(target, self._log_q(features)).mean()
        self._descend(divergence)
        return divergence.detach()

    def _inputs_state(self) -> dict[str, Any]:
        """Return what features are standardised by."""
        return {"mean": self._mean, "std": self._std}

    def _load_inputs_state(self, state: Mapping[str, Any]) -> None:
        self._mean, self._std = state["mean"], state["std"]
