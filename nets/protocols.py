"""What may be asked of a distribution of actions, as Protocols.

Actions are in policy units, see :mod:`hindsight_rl.nets.distributions`.
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from hindsight_rl.maths.executed import Units
from hindsight_rl.ports import Described, DrawNoise


class Distribution(Protocol):
    """A distribution of actions in policy units, batch shape ``[...]``."""

    @property
    def mode(self) -> Tensor:
        """Return the likeliest action ``[..., A]``, or ``[...]`` int64."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]``, shape ``[...]``, nats."""

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action per counter ``[..., 3]``."""

    def entropy(self) -> Tensor:
        """Return the entropy ``[...]``, nats, or what a class says instead."""


class Stated(Distribution, Protocol):
    """A distribution of real numbers that says how likely they are as they are executed."""

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability of executed actions, see :mod:`hindsight_rl.maths.executed`.

        Args:
            action: ``[..., A]`` in environment units.
            units: Those of the environment.

        Returns:
            ``[...]``, nats, in the dtype of the units.
        """


@runtime_checkable
class FromNoise(Distribution, Protocol):
    """A distribution that a file can draw from, and whose density it can state.

    It is a named tuple whose tensors have a row for each state.
    """

    @property
    def noise(self) -> DrawNoise:
        """Return what :meth:`from_noise` makes an action of: what :meth:`sample` draws."""

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the action that noise ``[..., S]`` makes, as :meth:`sample` makes it."""

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action that noise makes.

        Args:
            noise: ``[..., S]``, as :attr:`noise` says.

        Returns:
            The action; and where the noise chose one of several, ``[..., 2]``, how far it is from
            another choice, and 0.
        """

    def described(self, units: Units) -> Described:
        """Return the numbers of which :class:`hindsight_rl.densities.Likelihood` is computed."""


class Drawable(Distribution, Protocol):
    """A distribution whose actions are made of normal noise."""

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action that normal noise makes, and its log-density ``[...]``."""
