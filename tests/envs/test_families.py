"""The task families of the learning side compute what the environments said."""

import gymnasium
import numpy as np
import pytest
import torch
from tensordict import TensorDict

from hindsight_rl.envs.behaviors import behaviors_for, record
from hindsight_rl.envs.four_corners import CORNERS
from hindsight_rl.envs.four_margins import MARGINS
from hindsight_rl.envs.point_mass import HIGH, LOW
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks

FAMILIES = {
    "FourRooms": GoalReaching(radius=3.0),
    "FourCorners": DiscreteTasks(GoalReaching(radius=3.0), CORNERS.tolist()),
    "FourMargins": GoalReaching(radius=MARGINS),
    "PointMass": LinearTasks(LOW, HIGH),
    "Crossing": GoalReaching(radius=0.5),
}


@pytest.mark.parametrize(("name", "family"), FAMILIES.items())
def test_rewards_and_ends_agree(name: str, family: TaskFamily) -> None:
    # Goals large and close by, so that a few episodes of wandering reach some.
    kwargs = {"apart": 4.0} if name.startswith("Four") else {}
    kwargs |= {"radius": 3.0} if name in ("FourRooms", "FourCorners") else {}
    env = gymnasium.make(f"Hindsight/{name}-v0", **kwargs)
    *_, behavior = behaviors_for(env)
    runs = [record(env, behavior, (0, episode), 100) for episode in range(60)]
    seen = [observation for run in runs for observation in run.observations[1:]]
    achieved, task = (
        torch.tensor(np.stack([x[key] for x in seen])) for key in ("achieved_goal", "desired_goal")
    )
    batch = TensorDict({"next": {"achieved_goal": achieved}}, [len(seen)])
    reward = np.concatenate([run.rewards for run in runs])
    ends = np.zeros(len(seen), bool)
    ends[np.cumsum([len(run.rewards) for run in runs]) - 1] = [run.terminated for run in runs]
    assert np.allclose(family.reward(batch, task), reward, atol=1e-6)
    assert np.array_equal(family.terminated(batch, task), ends)
    assert ends.any() == (name != "PointMass") and len(np.unique(reward)) > 1
