"""Small worlds whose best plans are known."""

import torch
from torch import Tensor

from hindsight_rl.maths.draws import uniform
from hindsight_rl.ports import Imagined
from hindsight_rl.spec_parts import ActionSpec

PUSH = ActionSpec("continuous", (1,), low=(-1.0,), high=(3.0,))


def imagined(observation: Tensor, reward: Tensor, ended: Tensor | None = None) -> Imagined:
    end = torch.zeros_like(reward, dtype=torch.bool) if ended is None else ended
    return Imagined(observation, reward, end, torch.zeros_like(reward))


def reach(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """X' = x + u, reward -(x' - 5)^2: each step comes as near to 5 as the bounds let it."""
    place = observation + action
    return imagined(place, -(place[..., 0] - 5.0).square())


def track(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Reward -(u - x)^2, x moves by .3 whatever is done: the best plan is x, x + .3, ..."""
    reward = -(action - observation).square().sum(-1)
    return imagined(observation + 0.3, reward)


def gamble(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Reward u (1 + luck): better in the mean the larger u is, and as much less sure."""
    luck = torch.zeros(()) if draws is None else 8.0 * uniform(draws) - 4.0
    return imagined(observation, (action[..., 0] * (1.0 + luck)).expand(observation.shape[:-1]))


def cliff(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """One reward for each step until x > 1, where it ends; pushing on pays 1.5 once."""
    place = observation + action
    ended = place[..., 0] > 1.0
    return imagined(place, torch.where(ended, 1.5, 1.0), ended)


def broken(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """NaN where x is negative; else the best action is 1."""
    reward = -(action[..., 0] - 1.0).square()
    return imagined(observation, torch.where(observation[..., 0] < 0, torch.nan, reward))
