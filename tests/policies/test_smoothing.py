"""Smoothed values: where critics are asked, and which of them counts."""

import pytest
import torch
from small_fits import data_for, learner_of
from torch import Tensor

from hindsight_rl.agents.td3 import TD3
from hindsight_rl.policies.smoothing import smoothed_value


def test_the_least_of_what_critics_say_beside_the_action() -> None:
    """Noise of 1 adds .1 and of -9 takes .3, policy units; critics answer a_1 and a_2 there.

    Bounds are [-2, 2] and [-1, 3]: an action is twice that in policy units, plus 0 and 1.
    """
    learner = learner_of(TD3, data_for(TD3).spec)
    seen = torch.linspace(-1.0, 1.0, 12).view(4, 3)
    chosen = learner.actor(seen).mode

    def critic(observation: Tensor, action: Tensor, task: Tensor | None) -> Tensor:
        assert observation is seen and task is None
        return action.movedim(-1, 0)

    noise = torch.tensor([1.0, -9.0]).expand(4, 2)
    found = smoothed_value(learner.actor, critic, seen, None, noise, std=0.1, limit=0.3)
    beside = 2 * (chosen + torch.tensor([0.1, -0.3])).clamp(-1, 1) + torch.tensor([0.0, 1.0])
    torch.testing.assert_close(found, torch.minimum(beside[:, 0], beside[:, 1]))


def test_negative_widths_are_refused() -> None:
    learner, seen = learner_of(TD3, data_for(TD3).spec), torch.zeros(4, 3)
    with pytest.raises(ValueError, match="std -0.1 and limit 0.5 must be at least 0"):
        smoothed_value(
            learner.actor, learner.critic, seen, None, torch.zeros(4, 2), std=-0.1, limit=0.5
        )
