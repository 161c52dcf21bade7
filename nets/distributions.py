"""Action distributions: plain tensors, nothing that an exported graph could not hold.

Continuous actions are in policy units here: [-1, 1] per dimension for bounded actions, standard
deviations for unbounded ones (:class:`hindsight_rl.nets.policy.Policy` converts). Log-densities
are in those units; in environment units they differ by a constant.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.bins import drawn_bin, drawn_lead, normal_share
from hindsight_rl.maths.draws import normals, uniforms
from hindsight_rl.maths.executed import Units, clipped_laplace, clipped_normal, squashed_normal
from hindsight_rl.maths.losses import (
    categorical_log_prob,
    laplace_log_prob,
    mixture_log_prob,
    normal_log_prob,
    tanh_log_slope,
    tanh_normal_log_prob,
)
from hindsight_rl.maths.mixtures import log_density_at_means
from hindsight_rl.nets.protocols import Distribution as Distribution
from hindsight_rl.nets.protocols import Drawable as Drawable
from hindsight_rl.nets.protocols import FromNoise as FromNoise
from hindsight_rl.nets.protocols import Stated as Stated
from hindsight_rl.ports import Described, DrawNoise


class Deterministic(NamedTuple):
    """A point; its log-probability is minus the mean squared error over dimensions."""

    mean: Tensor
    """``[..., A]``."""
    exploration: float = 0.0
    """Standard deviation of samples around the point."""

    @property
    def mode(self) -> Tensor:
        """Return the point ``[..., A]``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return minus the mean squared error of actions ``[..., A]``, shape ``[...]``."""
        return -(action - self.mean).square().mean(-1)

    def sample(self, draws: Tensor) -> Tensor:
        """Return the point ``[..., A]``, with noise of counters ``[..., 3]`` where it explores."""
        if not self.exploration:
            return self.mean
        return self.made_of(normals(draws, self.mean.shape[-1]))

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the point moved by normal noise ``[..., A]`` where it explores."""
        return self.mean + self.exploration * noise if self.exploration else self.mean

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the point moved by normal noise ``[..., A]`` where it explores, and its score."""
        action = self.mean + self.exploration * noise
        return action, self.log_prob(action)

    def entropy(self) -> Tensor:
        """Return zeros ``[...]``."""
        return torch.zeros_like(self.mean[..., 0])

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability ``[...]`` of executed actions where it explores."""
        return self._around.executed(action, units)

    @property
    def _around(self) -> "DiagonalNormal":
        spread = torch.full_like(self.mean, math.log(self.exploration))
        return DiagonalNormal(self.mean, spread)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of an action where it explores."""
        return DrawNoise(self.mean.shape[-1], zero=True)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the point moved by normal noise ``[..., A]``."""
        return self.made_of(noise), None

    def described(self, units: Units) -> Described:
        """Return mean and spread where it explores."""
        return self._around.described(units)


class DiagonalNormal(NamedTuple):
    """Independent normal distributions; nothing is squashed, so there is no Jacobian."""

    mean: Tensor
    """``[..., A]``."""
    log_std: Tensor
    """``[..., A]``."""

    @property
    def mode(self) -> Tensor:
        """Return the mean ``[..., A]``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]``, shape ``[...]``, nats."""
        return normal_log_prob(action, self.mean, self.log_std)

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[..., A]`` per counter ``[..., 3]``."""
        return self.made_of(normals(draws, self.mean.shape[-1]))

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the action ``[..., A]`` that normal noise makes."""
        return self.mean + self.log_std.exp() * noise

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action ``[..., A]`` that normal noise makes, and its log-density ``[...]``."""
        action = self.made_of(noise)
        return action, self.log_prob(action)

    def entropy(self) -> Tensor:
        """Return the differential entropy ``[...]``, nats."""
        return (self.log_std + 0.5 * torch.log(torch.tensor(2 * torch.pi * torch.e))).sum(-1)

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability ``[...]`` of executed actions ``[..., A]``."""
        mean, std = units.place(self.mean), units.scale * self.log_std.exp()
        return clipped_normal(action, mean, std, units.low, units.high)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of an action."""
        return DrawNoise(self.mean.shape[-1], zero=True)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action ``[..., A]`` that normal noise makes."""
        return self.made_of(noise), None

    def described(self, units: Units) -> Described:
        """Return mean and spread, not clipped."""
        numbers = {"mean": units.place(self.mean), "std": units.scale * self.log_std.exp()}
        return Described("normal", numbers)


class Laplace(NamedTuple):
    """Independent Laplace distributions: they fit the median, so rare jumps count little."""

    mean: Tensor
    """``[..., A]``, mean, median and mode."""
    log_std: Tensor
    """``[..., A]``, logarithm of the mean absolute deviation."""

    @property
    def mode(self) -> Tensor:
        """Return the median ``[..., A]``."""
        return self.mean

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]``, shape ``[...]``, nats."""
        return laplace_log_prob(action, self.mean, self.log_std)

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[..., A]`` per counter ``[..., 3]`` (inverse transform)."""
        return self.made_of(uniforms(draws, self.noise.width))

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the action ``[..., A]`` that uniform noise makes."""
        # Half a step away from -0.5 keeps the logarithm finite.
        return self._at(noise - 0.5 + 2.0**-25)

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action ``[..., A]`` that normal noise makes, and its log-density ``[...]``."""
        ends = 0.5 - 2.0**-24
        action = self._at((normal_share(noise) - 0.5).clamp(-ends, ends))
        return action, self.log_prob(action)

    def _at(self, share: Tensor) -> Tensor:
        """Return where the cumulative distribution is 0.5 + share."""
        return self.mean - self.log_std.exp() * share.sign() * torch.log1p(-2.0 * share.abs())

    def entropy(self) -> Tensor:
        """Return the differential entropy ``[...]``, nats."""
        return (self.log_std + 1.0 + math.log(2.0)).sum(-1)

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability ``[...]`` of executed actions ``[..., A]``."""
        median, spread = units.place(self.mean), units.scale * self.log_std.exp()
        return clipped_laplace(action, median, spread, units.low, units.high)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of an action."""
        return DrawNoise(self.mean.shape[-1], "uniform")

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action ``[..., A]`` that uniform noise makes."""
        return self.made_of(noise), None

    def described(self, units: Units) -> Described:
        """Return median and spread, not clipped."""
        numbers = {"median": units.place(self.mean), "spread": units.scale * self.log_std.exp()}
        return Described("laplace", numbers)


class TanhNormal(NamedTuple):
    """tanh(u), u independent normal; the density includes the Jacobian of tanh."""

    mean: Tensor
    """``[..., A]``, of u."""
    log_std: Tensor
    """``[..., A]``, of u."""

    @property
    def mode(self) -> Tensor:
        """Return tanh(mean) ``[..., A]`` (the image of the mode of u)."""
        return torch.tanh(self.mean)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]`` in [-1, 1], shape ``[...]``, nats."""
        return tanh_normal_log_prob(action, self.mean, self.log_std)

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[..., A]`` per counter ``[..., 3]``."""
        return self.made_of(normals(draws, self.mean.shape[-1]))

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the action ``[..., A]`` that normal noise makes."""
        return torch.tanh(self.mean + self.log_std.exp() * noise)

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action ``[..., A]`` that normal noise ``[..., A]`` makes, and its log-density.

        The density ``[...]`` is that of u, so it is exact where tanh(u) rounds to 1.
        """
        u = self.mean + self.log_std.exp() * noise
        density = normal_log_prob(u, self.mean, self.log_std) - tanh_log_slope(u).sum(-1)
        return torch.tanh(u), density

    def entropy(self) -> Tensor:
        """Return the entropy of u ``[...]``, nats, an upper bound of that of the action."""
        return DiagonalNormal(self.mean, self.log_std).entropy()

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability ``[...]`` of executed actions ``[..., A]``."""
        mean, log_std = (value.to(units.scale.dtype) for value in self)
        return squashed_normal(action, mean, log_std.exp(), units)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of an action."""
        return DrawNoise(self.mean.shape[-1], zero=True)

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action ``[..., A]`` that normal noise makes."""
        return self.made_of(noise), None

    def described(self, units: Units) -> Described:
        """Return mean and spread of u."""
        return Described("tanh_normal", {"mean": self.mean, "std": self.log_std.exp()})


class Mixture(NamedTuple):
    """A mixture of M diagonal normal distributions; the mode is the mean of the likeliest one."""

    logits: Tensor
    """``[..., M]``."""
    mean: Tensor
    """``[..., M, A]``."""
    log_std: Tensor
    """``[..., M, A]``."""

    def _pick(self, component: Tensor, value: Tensor) -> Tensor:
        index = component[..., None, None].expand(*component.shape, 1, value.shape[-1])
        return value.gather(-2, index).squeeze(-2)

    @property
    def mode(self) -> Tensor:
        """Return the mean ``[..., A]`` of the component with the largest weight."""
        return self._pick(self.logits.argmax(-1), self.mean)

    def densest(self) -> tuple[Tensor, Tensor]:
        """Return the mean ``[..., A]`` where the density is largest, and its log at all means."""
        density = log_density_at_means(self.logits, self.mean, self.log_std)
        return self._pick(density.argmax(-1), self.mean), density

    def drawn_mean(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean of a drawn component, and how clear the draw is.

        Args:
            noise: ``[...]`` normal numbers.

        Returns:
            ``[..., A]``; and ``[..., 2]``, how far the draw is from another component, and 0.
        """
        share = normal_share(noise)
        component, _ = drawn_bin(self.logits, share)
        away = drawn_lead(self.logits, share)
        return self._pick(component, self.mean), torch.stack([away, torch.zeros_like(away)], -1)

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the action ``[..., A]`` that normal noise makes.

        Args:
            noise: ``[..., 1 + A]``; the first number draws the component, without a gradient.

        Returns:
            The action.
        """
        component, _ = drawn_bin(self.logits, normal_share(noise[..., 0]))
        # Dimensions before those of the states mean several actions per state.
        many = (*component.shape, *self.mean.shape[-2:])
        mean, spread = (
            self._pick(component, value.expand(many)) for value in (self.mean, self.log_std.exp())
        )
        return mean + spread * noise[..., 1:]

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action of noise ``[..., 1 + A]``, and its log-density ``[...]``."""
        action = self.made_of(noise)
        return action, self.log_prob(action)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]``, shape ``[...]``, nats."""
        return mixture_log_prob(action, self.logits, self.mean, self.log_std)

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[..., A]`` per counter ``[..., 3]``."""
        return self.made_of(normals(draws, self.noise.width))

    def entropy(self) -> Tensor:
        """Return a lower bound ``[...]``: the weighted entropy of the components, nats."""
        parts = DiagonalNormal(self.mean, self.log_std).entropy()
        return (torch.softmax(self.logits, -1) * parts).sum(-1)

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-probability ``[...]`` of executed actions ``[..., A]``."""
        each = DiagonalNormal(self.mean, self.log_std).executed(action.unsqueeze(-2), units)
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + each, -1)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of an action: a number for the component, and one per dimension."""
        return DrawNoise(1 + self.mean.shape[-1])

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the action ``[..., A]`` that normal noise makes, and how clear its choice is."""
        away = drawn_lead(self.logits, normal_share(noise[..., 0]))
        return self.made_of(noise), torch.stack([away, torch.zeros_like(away)], -1)

    def described(self, units: Units) -> Described:
        """Return weights, and means and spreads, not clipped."""
        parts = DiagonalNormal(self.mean, self.log_std).described(units).numbers
        return Described("mixture", {"logits": self.logits} | parts)


class Categorical(NamedTuple):
    """A distribution over n actions."""

    logits: Tensor
    """``[..., n]``."""

    @property
    def mode(self) -> Tensor:
        """Return the likeliest action ``[...]`` int64."""
        return self.logits.argmax(-1)

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-probability of actions ``[...]`` int64, shape ``[...]``, nats."""
        return categorical_log_prob(action, self.logits)

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[...]`` int64 per counter ``[..., 3]`` (inverse transform)."""
        return self.made_of(uniforms(draws, 1))

    def made_of(self, noise: Tensor) -> Tensor:
        """Return the choice ``[...]`` that a share ``[..., 1]`` leads to."""
        cumulative = torch.softmax(self.logits, -1).cumsum(-1)
        return (cumulative <= noise * cumulative[..., -1:]).sum(-1)

    def entropy(self) -> Tensor:
        """Return the entropy ``[...]``, nats."""
        log_prob = torch.log_softmax(self.logits, -1)
        return -(log_prob.exp() * log_prob).sum(-1)

    @property
    def noise(self) -> DrawNoise:
        """Return the noise of a choice."""
        return DrawNoise(1, "uniform")

    def from_noise(self, noise: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the choice ``[...]`` that a share ``[..., 1]`` leads to, and how clear it is."""
        away = drawn_lead(self.logits, noise.squeeze(-1))
        return self.made_of(noise), torch.stack([away, torch.zeros_like(away)], -1)

    def described(self, units: Units | None = None) -> Described:
        """Return the logits."""
        return Described("categorical", {"logits": self.logits})
