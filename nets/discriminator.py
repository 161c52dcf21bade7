"""f(s, a, s'): what a discriminator learns of a transition, and keeps as a reward."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from hindsight_rl.arguments import above, at_least, check_choices, check_ranges, within
from hindsight_rl.maths.adversarial import shaped_reward
from hindsight_rl.nets.perceptron import SeededPerceptron

Reads = Literal["action", "state", "next"]


@dataclass(frozen=True)
class Discriminator:
    """What tells expert rows from others.

    Args:
        reads: ``"action"``: state and action; ``"state"``: the state alone, for experts of whom
            only states are known, and for rewards to keep where dynamics change; ``"next"``: state
            and next state.
        hidden: Width of each hidden layer.
        shaped: AIRL: f = g + discount h(s') - h(s), and the logit is f - log pi. ``reads`` is what
            g reads.
        discount: In [0, 1), that of the learner.
        penalty: Weight, at least 0, of (|slope| - 1)^2 between pairs of rows (Gulrajani et al.
            2017); 0 for none.
        smoothing: Taken from the label 1 of expert rows, in [0, 1).
        learning_rate: Of Adam, above 0.
        every: Updates of the learner per update of the discriminator, at least 1.
        stop_above: Share of rows told right, in (0.5, 1], above which an update leaves the
            discriminator as it is: one that is always right teaches the policy little.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    reads: Reads = "action"
    hidden: tuple[int, ...] = (64, 64)
    shaped: bool = False
    discount: float = 0.99
    penalty: float = 10.0
    smoothing: float = 0.0
    learning_rate: float = 3e-4
    every: int = 1
    stop_above: float = 1.0

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        check_choices(Discriminator, vars(self))
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)}: every layer needs at least 1 unit")
        check_ranges(at_least(0, penalty=self.penalty))
        check_ranges(at_least(1, every=self.every), unit="updates")
        check_ranges(within("[0, 1)", discount=self.discount, smoothing=self.smoothing))
        check_ranges(above(0, learning_rate=self.learning_rate))
        check_ranges(within("(0.5, 1]", stop_above=self.stop_above))


class TransitionReward(nn.Module):
    """f of transitions, each one row of numbers: state, action, next state, whether absorbing.

    Args:
        settings: What it reads, and of what it is made.
        observed: O, width of the state.
        acted: A, width of the action.
        absorbing: Whether it is told of the state behind an end.
        seed: Of the first weights.
    """

    columns: Tensor

    def __init__(
        self, settings: Discriminator, observed: int, acted: int, *, absorbing: bool, seed: int
    ) -> None:
        super().__init__()
        self.observed, self.acted, self.discount = observed, acted, settings.discount
        state, action = list(range(observed)), list(range(observed, observed + acted))
        following = list(range(observed + acted, 2 * observed + acted))
        read = {"action": state + action, "state": state, "next": state + following}[settings.reads]
        read += [self.width - 1] if absorbing else []
        self.register_buffer("columns", torch.tensor(read), persistent=False)
        widths = (len(read), *settings.hidden, 1)
        self.reward = SeededPerceptron(widths, seed=seed, activation="tanh")
        self.potential: SeededPerceptron | None = None
        if settings.shaped:
            widths = (observed, *settings.hidden, 1)
            self.potential = SeededPerceptron(widths, seed=seed + 1, activation="tanh")

    @property
    def width(self) -> int:
        """Numbers of a transition."""
        return 2 * self.observed + self.acted + 1

    def forward(self, rows: Tensor, terminated: Tensor) -> Tensor:
        """Return f.

        Args:
            rows: ``[N, width]``, standardised.
            terminated: ``[N]`` bool.

        Returns:
            ``[N]``, nats.
        """
        reward = self.unshaped(rows)
        if self.potential is None:
            return reward
        start = self.observed + self.acted
        height = self.potential(rows[:, : self.observed]).squeeze(-1)
        ahead = self.potential(rows[:, start : start + self.observed]).squeeze(-1)
        return shaped_reward(reward, height, ahead, terminated, discount=self.discount)

    def unshaped(self, rows: Tensor) -> Tensor:
        """Return f, for AIRL without its potential: g, what carries over to other dynamics.

        Args:
            rows: ``[N, width]``, standardised.

        Returns:
            ``[N]``, nats.
        """
        found: Tensor = self.reward(rows[:, self.columns]).squeeze(-1)
        return found
