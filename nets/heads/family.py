"""Family: what the outputs of a policy's network mean, and which action is taken of it.

A policy asks its family how many numbers to answer with, hands them over, and gets a distribution.
"""

from abc import abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.cloning import Density
from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.network import Acting, Head
from hindsight_rl.spec import ActionSpec

Place = Callable[[Tensor], Tensor]
"""From the network's answer ``[..., A]`` to a mean in policy units: squashed, or relative to what
is observed."""


class Chosen(NamedTuple):
    """An action, and what it is the argmax of."""

    action: Tensor
    """``[..., A]`` in policy units, or ``[...]`` int64."""
    scores: Tensor | None = None
    """``[..., M]``; where two of the largest are equal, rounding decides which action it is."""


class Family(nn.Module):
    """A family of distributions of actions. A module, so that it may have parameters and buffers.

    Args:
        head: What was asked for.
        action: The action part of the spec.
        scale: Of the policy: whether actions are bounded, and their units.

    Attributes:
        density: What the log-probability of its distributions is: the exact one, a lower bound, or
            none (an error of another kind).
        relative: Whether its mean may start from what is observed.
        choices: What ``Head.acting`` may be.
        watched: Whether :meth:`usage` says anything.
        several: Whether it keeps several answers to one state apart, whose mean is none of them.
        outputs: Numbers that the network answers with.
        shared_spread: Whether one spread is learned for all states, beside the network.
        noise_width: Normal numbers that make an action where one is drawn, see
            :meth:`hindsight_rl.nets.distributions.Drawable.act_on`.
        acting_noise: Normal numbers that an acting step needs.

    Raises:
        ValueError: The head does not go with the actions, or chooses in a way that is not its own.
    """

    density: ClassVar[Density] = "exact"
    relative: ClassVar[bool] = False
    choices: ClassVar[tuple[Acting, ...]] = ("mode",)
    several: ClassVar[bool] = False
    watched: ClassVar[bool] = False
    outputs: int
    shared_spread: bool = False
    acting_noise: int = 0

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__()
        if head.acting not in self.choices:
            allowed = " or ".join(f"'{word}'" for word in self.choices)
            raise ValueError(
                f"acting is '{head.acting}', and head '{head.kind}' takes {allowed}: where a head "
                "has one answer, leave acting out"
            )
        self.outputs = self.noise_width = self.width = action.width

    @abstractmethod
    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution of actions in policy units.

        Args:
            output: ``[..., outputs]``.
            place: Makes means of answers.
            log_std: ``[A]``, where one spread is shared by all states.

        Returns:
            The distribution, batch shape ``[...]``.
        """

    def act(self, distribution: Distribution, noise: Tensor | None = None) -> Chosen:
        """Return the action that is taken.

        Args:
            distribution: Of this family.
            noise: ``[..., acting_noise]`` standard normal; without it the likeliest action.

        Returns:
            The action, with what it is the argmax of.
        """
        return Chosen(distribution.mode)

    def unstated(self, units: Units) -> str:
        """Return why the probability of drawn actions as executed is not known.

        Args:
            units: From policy units to executed actions.

        Returns:
            The end of a sentence; "" where it is known.
        """
        return ""

    @property
    def not_drawn(self) -> str:
        """Return why no file can draw actions and state their density: a clause, "" if it can."""
        return ""

    def start(self, last: nn.Linear) -> None:
        """Set the first weights of the network's last layer; left alone by default."""

    def metrics(self, distribution: Distribution) -> dict[str, Tensor]:
        """Return entropy and usage of a batch, ``[]`` each."""
        entropy = {"entropy": distribution.entropy().detach().mean()}
        return entropy | self.usage(distribution)

    def usage(self, distribution: Distribution) -> dict[str, Tensor]:
        """Return what of the head a batch makes use of, ``[]`` each; nothing by default."""
        return {}


def family_of(head: Head, action: ActionSpec, scale: ActionScale) -> Family:
    """Return the family of a head; that of discrete actions is categorical, whatever the head.

    Args:
        head: What was asked for.
        action: The action part of the spec.
        scale: Of the policy.

    Returns:
        The family.

    Raises:
        ValueError: The head does not go with the actions.
    """
    kind = "categorical" if action.discrete else head.kind
    family: type[Family] = import_module(f"hindsight_rl.nets.heads.{kind}").FAMILY
    return family(head, action, scale)
