"""A Laplace distribution in each dimension: its loss is the mean absolute error."""

from hindsight_rl.nets.distributions import Laplace
from hindsight_rl.nets.heads.gaussian import SpreadFamily


class LaplaceHead(SpreadFamily):
    """Laplace distributions, not squashed; their median may be."""

    made = Laplace


FAMILY = LaplaceHead
