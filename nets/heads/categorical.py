"""Discrete actions: one of n."""

from typing import cast

from torch import Tensor

from hindsight_rl.nets.distributions import Categorical, Distribution
from hindsight_rl.nets.heads.family import Chosen, Family, Place


class CategoricalHead(Family):
    """One logit per action; the likeliest one is taken. Heads say nothing of discrete actions."""

    choices = ("mode", "sample_mean", "density")

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution, see :meth:`Family.forward`."""
        return Categorical(output)

    def act(self, distribution: Distribution, noise: Tensor | None = None) -> Chosen:
        """Return the likeliest action, and the logits."""
        logits = cast(Categorical, distribution).logits
        return Chosen(logits.argmax(-1), logits)


FAMILY = CategoricalHead
