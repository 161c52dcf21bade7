"""A mixture of normal distributions: several good answers to one situation stay several.

    -log pi(a | s) = -log sum_m w_m(s) prod_d N(a_d; mu_md(s), sigma_md(s))

Reference: Bishop 1994, "Mixture density networks".
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from hindsight_rl.maths.mixtures import components_used, soft_floor
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Distribution, Mixture
from hindsight_rl.nets.heads.family import Chosen, Family, Place
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec


class MixtureHead(Family):
    """M components, each with a weight, a mean and a spread that depend on the state.

    The mean of all components is never taken: it lies between the answers, where none is.
    """

    choices = ("mode", "sample_mean", "density")
    several = True
    watched = True

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__(head, action, scale)
        self.components, self.acting = head.components, head.acting
        self.outputs = self.components * (1 + 2 * self.width)
        self.noise_width = 1 + self.width
        self.acting_noise = 1 if self.acting == "sample_mean" else 0
        self.log_std_range, self.log_floor = head.log_std_range, math.log(head.floor)

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution, see :meth:`Family.forward`."""
        count, width = self.components, self.width
        logits, mean, raw = output.split([count, count * width, count * width], dim=-1)
        shape = (*output.shape[:-1], count, width)
        spread = soft_floor(raw.reshape(shape), log_floor=self.log_floor)
        return Mixture(logits, place(mean.reshape(shape)), spread.clamp(*self.log_std_range))

    def act(self, distribution: Distribution, noise: Tensor | None = None) -> Chosen:
        """Return the mean of a component: the heaviest, the densest, or a drawn one."""
        mixture = cast(Mixture, distribution)
        if self.acting == "density":
            return Chosen(*mixture.densest())
        if self.acting == "sample_mean" and noise is not None:
            return Chosen(*mixture.drawn_mean(noise.squeeze(-1)))
        return Chosen(mixture.mode, mixture.logits)

    def start(self, last: nn.Linear) -> None:
        """Spread the means over the range of actions: components that begin alike stay alike."""
        count = self.components
        means = slice(count, count + count * self.width)
        with torch.no_grad():
            last.bias[means] = torch.empty(count * self.width).uniform_(-1.0, 1.0)

    def usage(self, distribution: Distribution) -> dict[str, Tensor]:
        """Return how many components a batch makes use of."""
        return {"components_used": components_used(cast(Mixture, distribution).logits.detach())}


FAMILY = MixtureHead
