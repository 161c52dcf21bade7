"""Figures 7 and 8 of HIPI on robots of the paper (``make hipi-robots``).

    python benchmarks/hipi/robot_cloning.py [--domains walker ...] [--seeds 5] [--choose]

As cloning.py. Demonstrators are policies of our own, kept in build/hipi/demonstrators/: SAC that
collected its own episodes, and for the walker the best of many linear policies (gaits.py). What
they show is cloned without any task, with random ones, with those of the highest reward (no log Z),
with those that trajectory-level inverse RL infers (HIPI-BC), and with the true ones, the ceiling.
Needs the extra ``robots``. Writes build/hipi/robot_cloning.json; finished runs are kept in
build/hipi/.
"""

import functools
from typing import Any, NamedTuple

import clones
import common
import gaits
import numpy as np
import torch
from clones import Act

from hindsight_rl.nets.network import Network
from hindsight_rl.tasks.family import GoalReaching, TaskFamily

STEPS, DEMONSTRATIONS, TEST_EPISODES = 100, 250, 100
DEMONSTRATION_SEED, TEST_SEED = 1_000_000, 2_000_000
UPDATES, CANDIDATES = 1_000, 256
TEACHER_SEED = 0
NETWORK = Network(hidden=(128, 128))
_SPARSE: dict[str, Any] = {"discount": 0.95, "value_range": (-20.0, 0.0)}


class School(NamedTuple):
    """Where SAC learned to demonstrate, its arguments, and its steps: as many as updates."""

    env: str
    model: dict[str, Any]
    env_steps: int


class Robot(NamedTuple):
    """A robot, how its demonstrator learned (the walker's by search), and how scores are read."""

    title: str
    env: str
    env_kwargs: dict[str, Any]
    score: str
    school: School | None


_RUN = School("HalfCheetah", {"discount": 0.97}, 16_000)
_TOUCH = School("Reacher", _SPARSE, 8_000)
_REACH = School("SawyerReach", _SPARSE, 12_000)
_AT_2_CM: dict[str, Any] = {"radius": 0.02, "ends": False}
ROBOTS = {
    "walker": Robot("walker, linear rewards", "Walker", {}, "return", None),
    "cheetah": Robot("half-cheetah, speeds", "HalfCheetah", {"pool": 64}, "return", _RUN),
    "reacher_32": Robot("reacher, 32 goals", "Reacher32", _AT_2_CM, "success", _TOUCH),
    "sawyer": Robot("sawyer, goals", "SawyerReach", {"ends": False}, "success", _REACH),
}


def family_of(env: str, bias: float = 0.0) -> TaskFamily:
    """Return the family of an environment's tasks; a constant is for one of 32 places."""
    from hindsight_rl.envs.robots.reacher import PLACES
    from hindsight_rl.envs.robots.walker import HIGH, LOW
    from hindsight_rl.tasks.linear import LinearTasks

    reach = GoalReaching(0.02, ends=False)
    families = {
        "Walker": lambda: LinearTasks(LOW, HIGH),
        "HalfCheetah": lambda: GoalReaching(kind="dense", ends=False, effort=0.05),
        "Reacher": lambda: reach,
        "Reacher32": lambda: clones.Biased(reach, PLACES.tolist(), bias),
        "SawyerReach": lambda: GoalReaching(0.03, ends=False),
    }
    family: TaskFamily = families[env]()
    return family


def teacher(name: str) -> Act:
    """Return the demonstrator of a robot, kept from before; that of 32 goals learned any goal."""
    from hindsight_rl.envs.robots.reacher import PLACES
    from hindsight_rl.export.onnx import export_policy
    from hindsight_rl.export.runtime import OnnxPolicy

    robot, school = ROBOTS[name], ROBOTS[name].school
    if school is None:
        return gaits.demonstrator()
    path = common.BUILD / "demonstrators" / f"{name}-{school.env_steps}.onnx"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export_policy(trained(school, robot.env_kwargs), path)
    act = OnnxPolicy(path).act
    if name != "reacher_32":
        return act
    return lambda observation, task: act(observation, PLACES[task.argmax(-1)])


def trained(school: School, env_kwargs: dict[str, Any]) -> Any:
    """Return SAC that collected its episodes; half of its rows get another task.

    Of sparse rewards it learns goals reached later, as HER; of dense ones any task.
    """
    from hindsight_rl.agents.sac import SAC
    from hindsight_rl.datamodules.collection import Collection
    from hindsight_rl.datamodules.iterated import IteratedDataModule
    from hindsight_rl.relabel.goals import FutureGoal
    from hindsight_rl.relabel.random_task import RandomTask

    common.quiet(TEACHER_SEED)
    kind = FutureGoal if "value_range" in school.model else RandomTask
    data = IteratedDataModule(
        f"hindsight_rl.envs:Hindsight/{school.env}-v0",
        [kind(family_of(school.env), fraction=0.5)],
        env_kwargs=env_kwargs,
        batch_size=128,
        seed=TEACHER_SEED,
        collection=Collection(max_episode_steps=STEPS),
    )
    learner = SAC(
        data.spec,
        network=NETWORK,
        tau=0.01,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3, fused=True),
        compile="update",
        **school.model,
    )
    common.silent_trainer(school.env_steps).fit(learner, data)
    return learner


def episodes(robot: Robot, act: Act, count: int, seed: int) -> dict[Any, np.ndarray]:
    """Return whole episodes of equal length, played together.

    Args:
        robot: Of which robot.
        act: The policy.
        count: E, how many.
        seed: Of the first; the others count on.

    Returns:
        Columns of a log by key, ``[E, T, ...]``, and ``success`` (where there is any).
    """
    import gymnasium

    env = gymnasium.make_vec(
        f"hindsight_rl.envs:Hindsight/{robot.env}-v0",
        count,
        vectorization_mode="vector_entry_point",
        autoreset_mode="Disabled",
        **robot.env_kwargs,
    )
    seen, _ = env.reset(seed=seed)
    rows: list[dict[Any, np.ndarray]] = []
    for _ in range(STEPS):
        action = act(seen["observation"], seen["desired_goal"])
        following, reward, *_, info = env.step(action)
        rows.append(
            {
                "observation": seen["observation"],
                "action": action,
                "task": seen["desired_goal"],
                ("next", "observation"): following["observation"],
                ("next", "achieved_goal"): following["achieved_goal"],
                ("next", "reward"): np.float32(reward),
                "success": info.get("is_success", np.zeros(count, np.bool_)),
            }
        )
        seen = following
    env.close()
    return {key: np.stack([row[key] for row in rows], axis=1) for key in rows[0]}


def score(robot: Robot, played: dict[Any, np.ndarray]) -> float:
    """Return the share of episodes with a success, or the mean return."""
    if robot.score == "success":
        return float(played["success"].any(1).mean())
    return float(played["next", "reward"].sum(1).mean())


@functools.lru_cache(maxsize=1)
def demonstrations(name: str, seed: int) -> tuple[Any, float]:
    """Return the log that a seed clones, and how good the demonstrator is on tasks of tests."""
    from hindsight_rl.logs.log import Log

    robot, act = ROBOTS[name], teacher(name)
    shown = episodes(robot, act, DEMONSTRATIONS, DEMONSTRATION_SEED + 1_000 * seed)
    mark = score(robot, episodes(robot, act, TEST_EPISODES, TEST_SEED))
    del shown["success"]
    columns = {key: value.reshape(-1, *value.shape[2:]) for key, value in shown.items()}
    last = np.tile(np.arange(STEPS) == STEPS - 1, DEMONSTRATIONS)
    columns["episode"] = np.repeat(np.arange(DEMONSTRATIONS), STEPS)
    columns |= {("next", "terminated"): np.zeros_like(last), ("next", "truncated"): last}
    low, high = -np.ones(columns["action"].shape[1]), np.ones(columns["action"].shape[1])
    bounds = {"low": low.tolist(), "high": high.tolist()}
    return Log.from_columns(columns, {"source": robot.env, "action": bounds}), mark


def relabelers(env: str, labels: str, bias: float) -> list[Any]:
    """Return what gives a clone its tasks."""
    from hindsight_rl.relabel.inverse_trajectory import InverseRL
    from hindsight_rl.relabel.random_task import RandomTask

    family = family_of(env, bias)
    if labels == "random":
        return [RandomTask(family)]
    if not labels.startswith("inverse RL"):
        return []
    few = isinstance(family, clones.Biased)
    choice = {"tasks": np.eye(len(family.tasks)).tolist()} if few else {"candidates": CANDIDATES}
    return [InverseRL(family, partition="without" not in labels, **choice)]


def clone(name: str, labels: str, seed: int, bias: float) -> dict[str, Any]:
    """Return the score of one clone on tasks of tests, and of whom it cloned.

    Args:
        name: Robot.
        labels: ``none``, ``random``, ``inverse RL without Z``, ``inverse RL`` or ``true``.
        seed: Seed of demonstrations, weights and draws.
        bias: Constant added to the reward of the first of 32 goals.

    Returns:
        ``score`` and ``teacher``; ``share``: how many episodes got the first of 32 goals.
    """
    robot = ROBOTS[name]
    common.quiet(seed)
    log, mark = demonstrations(name, seed)
    act, data = clones.fitted(
        log,
        relabelers(robot.env, labels, bias),
        NETWORK,
        UPDATES,
        seed,
        blind=labels == "none",
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3, fused=True),
    )
    found = {"score": score(robot, episodes(robot, act, TEST_EPISODES, TEST_SEED)), "teacher": mark}
    if name == "reacher_32" and labels.startswith("inverse RL"):
        found["share"] = clones.first_share(data)
    return found


LABELS = ("none", "random", "inverse RL without Z", "inverse RL", "true")
STUDY = clones.Study(
    ROBOTS,
    LABELS,
    "reacher_32",
    "32 goals",
    clone,
    {"updates": UPDATES, "candidates": CANDIDATES, "demonstrations": DEMONSTRATIONS},
    teacher,
)

if __name__ == "__main__":
    raise SystemExit(clones.compare(STUDY, "robot_cloning", (__doc__ or "").split("\n")[0]))
