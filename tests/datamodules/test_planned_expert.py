"""A planner as the expert of DAgger: its labels are plans, whoever acts and is played beside."""

from typing import Any

import numpy as np
import pytest
import torch

from hindsight_rl import CEM, UCT, Expert
from hindsight_rl.datamodules.expert import Beta
from hindsight_rl.datamodules.sources.environment import Collector

PLANNER = CEM(horizon=6, samples=30, iterations=2, warm_start=False)


def still(observation: Any, task: Any, draws: Any) -> Any:
    return np.zeros((len(observation), 1), np.float32)


def collected(expert: Expert, number: int = 1, **kwargs: Any) -> Any:
    collector = Collector("Pendulum-v1", expert=expert, max_episode_steps=8, seed=4, **kwargs)
    return collector.collect(still, 0, 5, number=number)


def test_labels_are_plans_and_the_policy_acts() -> None:
    found = collected(Expert(planner=PLANNER)).columns
    assert not found["by_expert"].any() and not found["action"].any()
    labels = found["expert_action"]
    assert labels.isfinite().all() and labels.abs().max() <= 2.0 and labels.std() > 0.5


def test_the_planner_acts_in_its_share() -> None:
    found = collected(Expert(planner=PLANNER, beta=Beta((1.0,))), number=0).columns
    assert found["by_expert"].all() and torch.equal(found["action"], found["expert_action"])


@pytest.mark.parametrize("warm", [False, True])
def test_an_episode_does_not_depend_on_how_many_are_played_together(warm: bool) -> None:
    expert = Expert(planner=CEM(horizon=6, samples=30, iterations=2, warm_start=warm))
    one, many = (collected(expert, num_envs=count).columns for count in (1, 5))
    assert torch.equal(one["expert_action"], many["expert_action"])
    assert torch.equal(one["observation"], many["observation"])


def test_who_is_asked_and_by_what_model() -> None:
    with pytest.raises(ValueError, match=r"expert\.act and expert\.planner are two experts"):
        Expert("policy.onnx", planner=PLANNER)
    with pytest.raises(ValueError, match=r"nobody plans: give expert\.planner"):
        Expert("policy.onnx", model="runs/dynamics")
    with pytest.raises(ValueError, match="UCT searches choices"):
        collected(Expert(planner=UCT()))
    with pytest.raises(ValueError, match=r"no model of it is known"):
        Collector("Acrobot-v1", expert=Expert(planner=UCT()))
