"""Figures 7 and 8 of HIPI: cloning demonstrations of many tasks that nobody labelled.

    python benchmarks/hipi/cloning.py [--seeds 5] [--choose]

Demonstrators are policies of our own, trained with SAC on aimless wandering and random tasks. Their
episodes are cloned without any task, with the tasks that trajectory-level inverse RL infers
(HIPI-BC), and with the true ones, the ceiling. Figure 8 adds a constant to the reward of one task
and infers with and without the partition function. Prints tables, and writes
build/hipi/cloning.json. Finished runs are kept in build/hipi/.
"""

import argparse
import copy
import functools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import common
import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.nets.network import Network
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching

DEMONSTRATIONS, WALKS, UPDATES, TEACHER_UPDATES = 500, 1000, 3000, 20_000
TEST_EPISODES, TEST_SEED = 200, 2_000_000
Act = Callable[..., np.ndarray]


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


class Biased(DiscreteTasks):
    """Four corners, with a constant added to the reward of the first one.

    Args:
        bias: Reward units per step.
    """

    def __init__(self, bias: float) -> None:
        from hindsight_rl.envs.four_corners import CORNERS

        super().__init__(GoalReaching(1.0), CORNERS.tolist())
        self.bias = bias

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return the reward of the task that is meant, the first one's with the constant."""
        return super().reward(batch, task, pairwise=pairwise) + self.bias * task[..., 0]


def family_of(name: str, bias: float = 0.0) -> Any:
    """Return the family of a domain's tasks."""
    from hindsight_rl.envs.point_mass import HIGH, LOW
    from hindsight_rl.tasks.linear import LinearTasks

    if name == "corners":
        return Biased(bias)
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
    common.trainer(TEACHER_UPDATES).fit(learner, data)
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
    from hindsight_rl.agents.bc import BC
    from hindsight_rl.datamodules.offline import OfflineDataModule
    from hindsight_rl.relabel.inverse_trajectory import InverseRL

    common.quiet(seed)
    domain = DOMAINS[name]
    log, mark = demonstrations(name, seed)
    relabel: list[Any] = []
    if labels.startswith("inverse RL"):
        family = family_of(name, bias)
        choice = {"tasks": np.eye(4).tolist()} if name == "corners" else {"candidates": 512}
        relabel = [InverseRL(family, partition="without" not in labels, **choice)]
    data = OfflineDataModule(log, relabel, seed=seed)
    spec = replace(data.spec, task=None) if labels == "none" else data.spec
    learner = BC(spec, network=domain.network, head="deterministic")
    common.trainer(UPDATES).fit(learner, data)
    act = learner.act_numpy if labels != "none" else lambda seen, task: learner.act_numpy(seen)
    found = {"score": score(domain, act), "teacher": mark}
    if name == "corners" and relabel:
        found["share"] = float(data.relabel.relabelers[0].posterior.mean(0)[0])
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


def job(task: tuple[str, str, int, float]) -> dict[str, Any]:
    """Return one clone, kept from before where it was made."""
    name, labels, seed, bias = task
    asked = {"domain": name, "labels": labels, "seed": seed, "bias": bias, "updates": UPDATES}
    return common.kept("cloning", asked, lambda: clone(name, labels, seed, bias))


FIGURE_7 = ("none", "inverse RL", "true")
FIGURE_8 = [(labels, bias) for bias in (0.0, 1.0, 5.0) for labels in FIGURE_7[1:2]]
FIGURE_8 += [("inverse RL without Z", bias) for bias in (0.0, 1.0, 5.0)]


def of_seed(seed: int) -> list[dict[str, Any]]:
    """Return all clones of a seed: they share demonstrations."""
    jobs = [(name, labels, seed, 0.0) for name in DOMAINS for labels in FIGURE_7]
    jobs += [("corners", labels, seed, bias) for labels, bias in FIGURE_8]
    return [
        {"domain": task[0], "labels": task[1], "bias": task[3]} | job(task)
        for task in dict.fromkeys(jobs)
    ]


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = list(common.CHOICE_SEEDS if options.choose else range(options.seeds))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        found = [one for runs in pool.map(of_seed, seeds) for one in runs]

    def row(key: str = "score", **wanted: Any) -> common.Summary:
        return common.summary(
            [one[key] for one in found if wanted.items() <= one.items() and key in one]
        )

    report: dict[str, Any] = {"seeds": seeds, "figure_7": {}, "figure_8": []}
    for name, domain in DOMAINS.items():
        rows = [(labels, row(domain=name, labels=labels, bias=0.0)) for labels in FIGURE_7]
        rows.append(("demonstrators", row("teacher", domain=name)))
        report["figure_7"][name] = {label: value._asdict() for label, value in rows}
        common.say(f"\nFig. 7, {domain.title}: {domain.score}, {len(seeds)} seeds\n")
        common.say(common.table(("tasks of the clone", domain.score), rows))
    common.say(f"\nFig. 8, a constant on the first of four tasks, {len(seeds)} seeds\n")
    rows = []
    for labels, bias in FIGURE_8:
        wanted = {"domain": "corners", "labels": labels, "bias": bias}
        rows.append((labels, f"{bias:g}", row(**wanted), row("share", **wanted)))
        report["figure_8"].append(wanted | {"score": rows[-1][2], "share": rows[-1][3]})
    header = ("tasks of the clone", "constant", "successes", "rows that got the first task")
    common.say(common.table(header, rows))
    if not options.choose:
        common.write_json("cloning", report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
