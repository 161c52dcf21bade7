"""Goal environments in ``TaskGoals``: relabeled rows hold what the wrapped environment says."""

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from lightning.pytorch.callbacks import Callback
from small_fits import fit, learner_of
from small_replays import iterated

from hindsight_rl.agents.sac import SAC
from hindsight_rl.envs.goals import TaskGoals
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.environment import EnvGoals
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("gymnasium_robotics") is None, reason="needs the extra 'mujoco'"
    ),
    pytest.mark.filterwarnings("ignore"),
]

MAZE = ("gymnasium_robotics:PointMaze_UMaze-v3", {"continuing_task": False})
# Environment, its arguments, reward of success, the family of its tasks.
ROBOTS: list[tuple[str, dict[str, Any], float, TaskFamily]] = [
    ("gymnasium_robotics:FetchReach-v4", {}, 0.0, GoalReaching(0.05)),
    ("gymnasium_robotics:FetchPush-v4", {}, 0.0, GoalReaching(0.05)),
    (*MAZE, 1.0, EnvGoals(*MAZE)),
]


class Seen(Callback):
    """Keeps every batch."""

    def __init__(self) -> None:
        self.chunks: list[Any] = []

    def on_train_batch_start(self, trainer: Any, learner: Any, batch: Any, *_: Any) -> None:
        """Keep what the learner sees."""
        self.chunks.append(batch.clone())


@pytest.mark.parametrize(("name", "kwargs", "success", "family"), ROBOTS)
@pytest.mark.parametrize("kind", [FutureGoal, InverseRL])
def test_relabeled_rewards_and_ends_are_the_environments(
    name: str,
    kwargs: dict[str, Any],
    success: float,
    family: TaskFamily,
    kind: type[Relabeler],
    tmp_path: Path,
) -> None:
    def make() -> TaskGoals:
        made = gymnasium.make(name, disable_env_checker=True, **kwargs)
        return TaskGoals(made, success, ends=True)

    options = {"fraction": 1.0} if kind is FutureGoal else {"fraction": 1.0, "candidates": 8}
    settings = {
        "initial_episodes": 3,
        "episodes_per_round": 1,
        "max_episode_steps": 100,
        "updates_per_env_step": 0.1,
    }
    data = iterated(make, [kind(family, **options)], batch_size=64, updates_per_step=5, **settings)
    seen = Seen()
    fit(learner_of(SAC, data.spec), data, tmp_path, 40, callbacks=[seen])
    assert len(data.history) > 1 and sum(len(chunk) for chunk in seen.chunks) == 40
    env, rewards = make(), set()
    for chunk in seen.chunks:
        achieved, task = chunk["next", "achieved_goal"].numpy(), chunk["task"].numpy()
        expected = env.compute_reward(achieved, task)
        assert np.allclose(chunk["next", "reward"].numpy(), expected, atol=1e-6)
        ends = chunk["next", "terminated"].numpy()
        assert np.array_equal(ends, env.compute_terminated(achieved, task))
        rewards |= set(expected.ravel().tolist())
    assert len(rewards) == 2
