"""Figures 7 and 8 of HIPI: cloning demonstrations of many tasks that nobody labelled.

    python benchmarks/hipi/cloning.py [--seeds 5] [--choose]

Demonstrators are policies of our own, trained with SAC on aimless wandering and random tasks. Their
episodes are cloned without any task, with the tasks that trajectory-level inverse RL infers
(HIPI-BC), and with the true ones, the ceiling. Figure 8 adds a constant to the reward of one task
and infers with and without the partition function. Prints tables, and writes
build/hipi/cloning.json. Finished runs are kept in build/hipi/.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import clones
import common
import numpy as np
import torch
from clones import Act

from hindsight_rl.nets.network import Network
from hindsight_rl.tasks.family import GoalReaching

DEMONSTRATIONS, WALKS, UPDATES, TEACHER_UPDATES = 500, 1000, 3000, 20_000
TEST_EPISODES, TEST_SEED = 200, 2_000_000


class Domain(NamedTuple):
    """An environment, how its demonstrators learned, and how scores are read."""

    env: str
    family: str
    env_kwargs: dict[str, Any]
    frequencies: int
    model: dict[str, Any]
    score: str
    title: str

    @property
    def network(self) -> Network:
        """Return the network of teachers and clones."""
        return Network(hidden=(128, 128), frequencies=self.frequencies)


_ROOMS = {"discount": 0.98, "value_range": (-50.0, 0.0)}
DOMAINS = {
    "goals": Domain("FourRooms", "goals", {"ends": False}, 3, _ROOMS, "successes", "goals"),
    "corners": Domain(
        "FourCorners", "corners", {"ends": False}, 3, _ROOMS, "successes", "four discrete tasks"
    ),
    "linear": Domain(
        "PointMass",
        "weights",
        {},
        0,
        {"discount": 0.97},
        "returns",
        "linear rewards",
    ),
}


def family_of(name: str, bias: float = 0.0) -> Any:
    """Return the family of a domain's tasks."""
    from hindsight_rl.envs.four_corners import CORNERS
    from hindsight_rl.envs.point_mass import HIGH, LOW
    from hindsight_rl.tasks.linear import LinearTasks

    if name == "corners":
        return clones.Biased(GoalReaching(1.0), CORNERS.tolist(), bias)
    return GoalReaching(1.0) if name == "goals" else LinearTasks(list(LOW), list(HIGH))


def held_actions(env: Any, generator: np.random.Generator) -> Callable[[], np.ndarray]:
    """Return what draws uniform actions, each held for ten steps on average."""
    space = copy.deepcopy(env.action_space)
    space.seed(int(generator.integers(2**31)))
    held = space.sample()

    def act() -> np.ndarray:
        nonlocal held
        if generator.random() < 0.1:
            held = space.sample()
        return held

    return act


def log_of(domain: Domain, act: Act | None, episodes: int, seed: int) -> Any:
    """Return a log of whole episodes, with the task each was played for.

    Args:
        domain: Where.
        act: The policy; ``None`` wanders.
        episodes: How many.
        seed: Seed of starts, tasks and noise.

    Returns:
        The log.
    """
    import gymnasium

    from hindsight_rl.logs.log import Log

    env = gymnasium.make(f"hindsight_rl.envs:Hindsight/{domain.env}-v0", **domain.env_kwargs)
    columns: dict[Any, list[Any]] = {}
    for episode in range(episodes):
        walk = held_actions(env, np.random.default_rng([seed, episode]))
        seen, _ = env.reset(seed=seed * 1_000_003 + episode)
        over = False
        while not over:
            if act is None:
                action = walk()
            else:
                action = act(seen["observation"][None], seen["desired_goal"][None])[0]
            following, reward, terminated, truncated, _ = env.step(action)
            row = {
                "observation": seen["observation"],
                "action": np.float32(action),
                "task": seen["desired_goal"],
                "episode": episode,
                ("next", "observation"): following["observation"],
                ("next", "achieved_goal"): following["achieved_goal"],
                ("next", "reward"): np.float32(reward),
                ("next", "terminated"): terminated,
                ("next", "truncated"): truncated,
            }
            for key, value in row.items():
                columns.setdefault(key, []).append(value)
            seen, over = following, terminated or truncated
    arrays = {key: np.stack(values) for key, values in columns.items()}
    bounds = {"low": env.action_space.low.tolist(), "high": env.action_space.high.tolist()}
    return Log.from_columns(arrays, {"source": domain.env, "action": bounds})


def teacher(name: str, seed: int) -> Act:
    """Return a demonstrator; the one of the goals knows the corners too."""
    from hindsight_rl.envs.four_corners import CORNERS

    if name == "corners":
        act = trained("goals", seed)
        return lambda observation, task: act(observation, CORNERS[task.argmax(-1)])
    return trained(name, seed)


@functools.cache
def trained(name: str, seed: int) -> Act:
    """Return SAC fitted to wandering, under random tasks, and half of them of the future."""
    from hindsight_rl.agents.sac import SAC
    from hindsight_rl.datamodules.offline import OfflineDataModule
    from hindsight_rl.relabel.goals import FutureGoal
    from hindsight_rl.relabel.random_task import RandomTask

    domain, family = DOMAINS[name], family_of(name)
    relabel: list[Any] = [RandomTask(family)]
    relabel += [FutureGoal(family, fraction=0.5)] if name == "goals" else []
    data = OfflineDataModule(log_of(domain, None, WALKS, seed), relabel, seed=seed)
    learner = SAC(
        data.spec,
        network=domain.network,
        tau=0.02,
        optimizer=functools.partial(torch.optim.Adam, lr=1e-3, fused=True),
        compile="update",
        **domain.model,
    )
    common.silent_trainer(TEACHER_UPDATES).fit(learner, data)
    return learner.act_numpy


def score(domain: Domain, act: Act) -> float:
    """Return how a policy does on fresh tasks: share of successes, or mean return."""
    from hindsight_rl.envs.rollout import rollout

    env = f"hindsight_rl.envs:Hindsight/{domain.env}-v0"
    found = rollout(act, env, episodes=TEST_EPISODES, seed=TEST_SEED)
    return float(np.mean(getattr(found, domain.score)))


def clone(name: str, labels: str, seed: int, bias: float = 0.0) -> dict[str, Any]:
    """Return the score of one clone, and of whom it cloned.

    Args:
        name: Domain.
        labels: ``none``, ``true``, ``inverse RL`` or ``inverse RL without Z``.
        seed: Seed of demonstrators, demonstrations, weights and draws.
        bias: Constant added to the reward of the first of the discrete tasks.

    Returns:
        ``score`` and ``teacher``; ``share``: how many rows got the first discrete task.
    """
    from hindsight_rl.relabel.inverse_trajectory import InverseRL

    common.quiet(seed)
    domain = DOMAINS[name]
    log, mark = demonstrations(name, seed)
    relabel: list[Any] = []
    if labels.startswith("inverse RL"):
        family = family_of(name, bias)
        choice = {"tasks": np.eye(4).tolist()} if name == "corners" else {"candidates": 512}
        relabel = [InverseRL(family, partition="without" not in labels, **choice)]
    act, data = clones.fitted(log, relabel, domain.network, UPDATES, seed, blind=labels == "none")
    found = {"score": score(domain, act), "teacher": mark}
    if name == "corners" and relabel:
        found["share"] = clones.first_share(data)
    return found


def demonstrations(name: str, seed: int) -> tuple[Any, float]:
    """Return the demonstrations of a seed and their demonstrator's score, kept from before."""
    from hindsight_rl.logs.log import Log

    folder = common.BUILD / "demonstrations" / f"{name}-{seed}"
    if not folder.exists():
        act = teacher(name, seed)
        log = log_of(DOMAINS[name], act, DEMONSTRATIONS, seed + 500)
        log.save(folder)
        common.write_json(f"demonstrations/{name}-{seed}-score", score(DOMAINS[name], act))
    mark = common.read_json(f"demonstrations/{name}-{seed}-score")
    return Log.load(folder), float(mark)


STUDY = clones.Study(
    DOMAINS, ("none", "inverse RL", "true"), "corners", "four tasks", clone, {"updates": UPDATES}
)

if __name__ == "__main__":
    raise SystemExit(clones.compare(STUDY, "cloning", (__doc__ or "").split("\n")[0]))
