"""Whether a step ends its episode: learned, or a given function of the step."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.dynamics import StepRange
from hindsight_rl.nets.encoders.vector import Standardize
from hindsight_rl.nets.network import Network
from hindsight_rl.plugins import imported
from hindsight_rl.spec import Spec

MOST = 100.0
"""Largest weight of a terminated row."""


class Ending(nn.Module):
    """The odds that a step ends its episode, of observation, action and next observation.

    Args:
        spec: The data's spec, of a flat observation; the task is not looked at.
        network: Inputs and hidden layers.
    """

    weight: Tensor

    def __init__(self, spec: Spec, network: Network) -> None:
        super().__init__()
        self.after = Standardize(*spec.vector.statistics)
        self.critic = Critic(
            replace(spec, task=None), network, members=1, further=spec.vector.width
        )
        self.register_buffer("weight", torch.tensor(1.0))

    def take(self, known: StepRange) -> None:
        """Have terminated rows count as much together as the others, each by 100 at most.

        Args:
            known: Of a log, with at least one that is terminated.

        Raises:
            ValueError: None is.
        """
        if not known.endings:
            raise ValueError(
                f"none of the {known.rows} rows to draw is terminated, and terminations are to be "
                "learned: set termination to 'none' if no episode ends by itself, or to "
                "'module:function' of (observation, action, next observation) if one may"
            )
        self.weight.fill_(min(known.rows / known.endings, MOST))

    def forward(self, observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
        """Return the log-odds that a step is terminated, terminated rows being counted by weight.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            following: ``[..., O]``, the next observation.

        Returns:
            ``[...]``.
        """
        found: Tensor = self.critic(observation, action, further=self.after(following))
        return found.squeeze(0)

    def loss(
        self, observation: Tensor, action: Tensor, following: Tensor, terminated: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the weighted cross-entropy of steps, and what is predicted.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            following: ``[..., O]``, the next observation.
            terminated: ``[...]`` bool.

        Returns:
            ``[...]``, and probabilities ``[...]`` without gradient.
        """
        odds = self(observation, action, following)
        ended = terminated.to(odds.dtype)
        error = binary_cross_entropy_with_logits(
            odds, ended, pos_weight=self.weight, reduction="none"
        )
        return error, self.chance(odds.detach())

    def chance(self, log_odds: Tensor) -> Tensor:
        """Return probabilities ``[...]``, the weight taken off."""
        return torch.sigmoid(log_odds - self.weight.log())

    def ended(
        self, observation: Tensor, action: Tensor, following: Tensor, draws: Tensor | None
    ) -> Tensor:
        """Return whether steps end their episodes, drawn, or what is likelier.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            following: ``[..., O]``, the next observation.
            draws: ``[..., 3]`` int64 counters; ``None`` for none.

        Returns:
            ``[...]`` bool.
        """
        chance = self.chance(self(observation, action, following))
        return chance > (0.5 if draws is None else uniform(fork(draws, "ending")))


class GivenEnding(nn.Module):
    """A function that says whether a step ends its episode; there is nothing to learn.

    Args:
        name: ``"module:function"`` of (observation, action, next observation), environment units;
            ``"none"`` for never.

    Raises:
        ValueError: The module is not imported, or there is no such function.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self._ends = None if name == "none" else imported(name, "termination")

    def take(self, known: StepRange) -> None:
        """Take nothing: what is given does not depend on the log."""

    def ended(
        self, observation: Tensor, action: Tensor, following: Tensor, draws: Tensor | None
    ) -> Tensor:
        """Return whether steps end their episodes.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in environment units, or ``[...]`` int64.
            following: ``[..., O]``, the next observation.
            draws: Not used: nothing is drawn.

        Returns:
            ``[...]`` bool.

        Raises:
            ValueError: The function does not return one value for each row.
        """
        if self._ends is None:
            return torch.zeros_like(following[..., 0], dtype=torch.bool)
        found: object = self._ends(observation, action, following)
        if not isinstance(found, Tensor) or found.shape != following.shape[:-1]:
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(
                f"termination {self.name} must return a tensor {list(following.shape[:-1])} bool, "
                f"one value for each row, and it returned {shape}"
            )
        return found.bool()
