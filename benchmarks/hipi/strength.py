"""How strong the posterior of inverse RL by rewards is, and what cloning makes of it.

    python benchmarks/hipi/strength.py [--domains rooms ...] [--all] [--seeds 3] [--choose]

Wandering in four rooms (any goal, and four corners) and of a point mass with linear rewards, and
runs of the scripted shortest path whose goals are known. For every data step: how many tasks a row
chooses among, exp(entropy); the share of rows whose task the rest of the episode fulfils; and the
success (the return, for linear rewards) of cloning. The domains ``steps`` and ``steps_sparse`` fit
SAC by transitions: where their candidates come from. ``--all`` adds data steps that were tried and
not kept. Prints tables, and writes build/strength.json. Finished runs are kept in build/hipi/.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import common
import numpy as np
import torch
from options import corners_success, mass_return
from tensordict import TensorDict
from torch import Tensor
from wandering import as_log, mass_log, rooms_log

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.four_corners import CORNERS
from hindsight_rl.envs.four_rooms import draw_position, step_many
from hindsight_rl.envs.paths import shortest_path
from hindsight_rl.envs.point_mass import HIGH, LOW
from hindsight_rl.files import write_text
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.posterior import mean_perplexity
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks

STEPS, UPDATES, EPISODES = 75, 3000, 400
SPARSE, DENSE = GoalReaching(1.0), GoalReaching(1.0, kind="dense")
ANY: dict[str, Any] = {"candidates": 256}
FULFILLED: dict[str, Any] = {"score": "fulfilled"}
FOUR: dict[str, Any] = {"tasks": np.eye(4).tolist()}
EPISODE, REST_FULFILLED = "episode, as published", "rest, fulfilled"
TRIED = {
    "final goals",
    "random goals",
    "episode, mean",
    "episode, perplexity 4",
    "episode, fulfilled",
    "rest",
    "10 steps, fulfilled",
    "25 steps",
}
LABELS = {
    "rooms": "wandering, any goal",
    "shortest": "shortest paths, any goal",
    "corners": "wandering, four corners",
    "mass": "point mass, linear rewards",
    "steps": "SAC, radius 1",
    "steps_sparse": "SAC, radius 0.3",
}
FACTS = {"perplexity": 1, "temperature": 1, "fulfilled": 2, "supported": 2}  # and their digits
Arms = dict[str, list[Relabeler]]


class Domain(NamedTuple):
    """A log, the family that says which tasks are fulfilled, its data steps, and the score."""

    log: Callable[[], Log]
    family: TaskFamily
    arms: Arms
    frequencies: int
    score: Callable[[Any], float]
    title: str
    learner: Callable[[Any, int], Any]
    batch: int = 256


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all fits."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def cloner(spec: Any, frequencies: int) -> BC:
    """Return what clones."""
    network = Network(hidden=(128, 128), frequencies=frequencies)
    return BC(spec, network=network, head="mixture", optimizer=adam)


def critic(spec: Any, frequencies: int) -> SAC:
    """Return what learns from transitions."""
    network = Network(hidden=(64, 64), frequencies=frequencies)
    return SAC(
        spec,
        network=network,
        optimizer=adam,
        discount=0.98,
        tau=0.02,
        value_range=(-50.0, 0.0),
        compile="off",
    )


def goal_far_from(place: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a goal at least 15 away, as in ``Hindsight/FourRooms-v0``."""
    while True:
        goal = draw_position(generator)
        if np.linalg.norm(goal - place) >= 15:
            return goal


def rooms_success(learner: Any, radius: float = 1.0) -> float:
    """Return the share of fresh goals that are reached within 75 steps."""
    generator = np.random.default_rng(555)
    place = np.stack([draw_position(generator) for _ in range(EPISODES)])
    goal = np.stack([goal_far_from(one, generator) for one in place]).astype(np.float32)
    done = np.zeros(EPISODES, np.bool_)
    for _ in range(STEPS):
        action = np.clip(learner.act_numpy(place.astype(np.float32), goal), -1, 1)
        place = step_many(place, action, generator.standard_normal(EPISODES))
        done |= np.linalg.norm(place - goal, axis=1) <= radius
    return float(done.mean())


def shortest_log(count: int = 300) -> Log:
    """Return runs of the scripted controller, which stays at its goal; the goal is ``task``."""
    generator = np.random.default_rng(0)
    places = [np.stack([draw_position(generator) for _ in range(count)])]
    goal = np.stack([goal_far_from(one, generator) for one in places[0]]).astype(np.float32)
    actions = []
    for _ in range(STEPS):
        actions.append(shortest_path(places[-1], goal))
        places.append(step_many(places[-1], actions[-1], generator.standard_normal(count)))
    log = as_log(np.stack(places, 1).astype(np.float32), np.stack(actions, 1))
    return log.with_columns({"task": torch.from_numpy(goal.repeat(STEPS, 0))})


def inverse(family: TaskFamily, **options: Any) -> list[Relabeler]:
    """Return inverse RL by rewards as the only data step."""
    return [InverseRL(family, **options)]


def goal_arms() -> Arms:
    """Return the data steps for goals."""
    sparse: dict[str, Any] = ANY | FULFILLED
    return {
        "future goals": [FutureGoal(SPARSE)],
        "final goals": [FinalGoal(SPARSE)],
        EPISODE: inverse(DENSE, **ANY),
        "episode, fulfilled": inverse(SPARSE, **sparse, perplexity=4),
        "10 steps": inverse(DENSE, **ANY, unit=10),
        REST_FULFILLED: inverse(SPARSE, **sparse, unit="rest", perplexity=4),
    }


def more_goal_arms() -> Arms:
    """Return further data steps for goals of wandering."""
    return {
        "future goals, geometric 0.8": [FutureGoal(SPARSE, offset="geometric", discount=0.8)],
        "random goals": [RandomTask(SPARSE)],
        "episode, mean": inverse(DENSE, **ANY, score="mean"),
        "episode, perplexity 4": inverse(DENSE, **ANY, perplexity=4),
        "rest": inverse(DENSE, **ANY, unit="rest"),
        "10 steps, fulfilled": inverse(SPARSE, **ANY, **FULFILLED, unit=10),
    }


def corner_arms() -> Arms:
    """Return the data steps for four corners."""
    sparse = corners(SPARSE)
    return {
        "random tasks": [RandomTask(sparse)],
        EPISODE: inverse(sparse, **FOUR),
        "episode, fulfilled": inverse(sparse, **FOUR, **FULFILLED),
        REST_FULFILLED: inverse(sparse, **FOUR, **FULFILLED, unit="rest"),
    }


def mass_arms() -> Arms:
    """Return the data steps for linear rewards."""
    family = LinearTasks(list(LOW), list(HIGH))
    return {
        "random tasks": [RandomTask(family)],
        EPISODE: inverse(family, **ANY),
        "episode, mean": inverse(family, **ANY, score="mean"),
        "episode, perplexity 4": inverse(family, **ANY, perplexity=4),
        "rest": inverse(family, **ANY, unit="rest"),
        "25 steps": inverse(family, **ANY, unit=25),
        "10 steps": inverse(family, **ANY, unit=10),
    }


def step_arms(radius: float) -> Arms:
    """Return the data steps of SAC: half of the rows keep a random goal."""
    family = GoalReaching(radius)
    judge = functools.partial(
        TransitionInverseRL, family, candidates=16, fraction=0.5, entropy_scale=0.0
    )
    goals = RandomTask(family)
    return {
        "random goals": [goals],
        "future goals": [goals, FutureGoal(family, fraction=0.5)],
        "transitions, propose prior": [goals, judge(propose="prior")],
        "transitions, propose reached": [goals, judge(propose="reached")],
    }


def corners(family: TaskFamily) -> DiscreteTasks:
    """Return the four corners as tasks."""
    return DiscreteTasks(family, CORNERS.tolist())


def steps(radius: float) -> Domain:
    """Return wandering in four rooms for SAC."""
    return Domain(
        rooms_log,
        GoalReaching(radius),
        step_arms(radius),
        3,
        functools.partial(rooms_success, radius=radius),
        f"wandering in four rooms, SAC by transitions, radius {radius}: success",
        critic,
        128,
    )


DOMAINS = {
    "rooms": Domain(
        rooms_log,
        SPARSE,
        goal_arms() | more_goal_arms(),
        3,
        rooms_success,
        "wandering in four rooms, any goal: success",
        cloner,
    ),
    "shortest": Domain(
        shortest_log,
        SPARSE,
        {"true labels": []} | goal_arms(),
        3,
        rooms_success,
        "runs of the shortest path, any goal: success",
        cloner,
    ),
    "corners": Domain(
        rooms_log,
        corners(SPARSE),
        corner_arms(),
        3,
        corners_success,
        "wandering in four rooms, four corners: success",
        cloner,
    ),
    "mass": Domain(
        functools.partial(mass_log, 1000),
        LinearTasks(list(LOW), list(HIGH)),
        mass_arms(),
        0,
        functools.partial(mass_return, turn=np.eye(5, dtype=np.float32)),
        "wandering of a point mass, linear rewards: return",
        cloner,
    ),
    "steps": steps(1.0),
    "steps_sparse": steps(0.3),
}


@functools.cache
def log_of(name: str) -> Log:
    """Return the log of a domain."""
    return DOMAINS[name].log()


def clone(name: str, arm: str, seed: int) -> dict[str, Any]:
    """Return what one clone reaches, and what its data step says of the log.

    Args:
        name: Domain.
        arm: Data step.
        seed: Of weights and draws.

    Returns:
        ``score``; ``perplexity``, tasks per drawn row; ``fulfilled``, the share of drawn rows whose
        task a step of the rest of the episode ends; ``supported``, those (or their steps alone, for
        transitions) that end any candidate; ``temperature``; ``cpu``, seconds.
    """
    common.quiet(seed)
    domain, start = DOMAINS[name], time.process_time()
    data = OfflineDataModule(log_of(name), domain.arms[arm], batch_size=domain.batch, seed=seed)
    learner = domain.learner(data.spec, domain.frequencies)
    common.silent_trainer(UPDATES).fit(learner, data)
    found: dict[str, Any] = {"score": domain.score(learner)}
    found["fulfilled"] = fulfilled(data, domain.family)
    if "supported" in data.relabel.metrics:
        found["supported"] = float(data.relabel.metrics["supported"])
    for part in data.relabel.relabelers:
        if isinstance(part, InverseRL):
            rows = data.log.drawable()
            unit = data.log.column("episode")[rows] if part.unit == "episode" else rows
            found["perplexity"] = float(mean_perplexity(part.posterior[unit[::7]]))
            found["temperature"] = part.temperature
    return found | {"cpu": time.process_time() - start}


def run(name: str, arm: str, seed: int) -> dict[str, Any]:
    """Return one clone, kept from before where it was made."""
    asked = {"domain": name, "arm": arm, "seed": seed, "updates": UPDATES}
    return common.kept("strength", asked, functools.partial(clone, name, arm, seed))


def fulfilled(data: OfflineDataModule, family: TaskFamily) -> float:
    """Return the share of rows whose task a step from the row to the episode's end fulfils."""
    chunk = data._sampler().chunk(10**6, 16)
    row, task = chunk["index"].reshape(-1), data.relabel(chunk)["task"].flatten(0, 1)
    end = data.log.column("episode_end")[row]
    columns = {key: data.log.column(key) for key in family.in_keys}
    done = torch.zeros(len(row), dtype=torch.bool)
    for _ in range(int((end - row).max()) + 1):
        done |= family.terminated(_rows(columns, row), task)
        row = torch.minimum(row + 1, end)
    return float(done.float().mean())


def _rows(columns: dict[Any, Tensor], rows: Tensor) -> TensorDict:
    batch = TensorDict(batch_size=[len(rows)])
    for key, column in columns.items():
        batch.set(key, column[rows])
    return batch


def main() -> int:
    """Clone everything that is asked for and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--domains", nargs="*", default=list(DOMAINS))
    parser.add_argument("--all", action="store_true", help="what was tried and not kept too")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    options = parser.parse_args()
    seeds = [seed + 100 * options.choose for seed in range(options.seeds)]
    arms = {
        name: [arm for arm in DOMAINS[name].arms if options.all or arm not in TRIED]
        for name in options.domains
    }
    found = {
        (name, arm, seed): run(name, arm, seed)
        for seed in seeds
        for name in options.domains
        for arm in arms[name]
    }
    report = []
    for name in options.domains:
        rows = []
        for arm in arms[name]:
            runs = [found[name, arm, seed] for seed in seeds]
            score = common.summary([one["score"] for one in runs])
            facts = {
                key: float(np.mean([one[key] for one in runs])) if key in runs[0] else None
                for key in FACTS
            }
            shown = ("" if v is None else f"{v:.{FACTS[key]}f}" for key, v in facts.items())
            rows.append((arm, *shown, score))
            report.append(
                {"name": f"{LABELS[name]}: {arm}", "mean": score.iqm, "low": score.low}
                | {"high": score.high, "seeds": len(seeds), **facts}
                | {"seconds": sum(one["cpu"] for one in runs)}
            )
        header = ("tasks of batches", *FACTS, "score")
        common.say(f"\n{DOMAINS[name].title}, {len(seeds)} seeds\n")
        common.say(common.table(header, rows))
    if not options.choose:
        write_text(common.ROOT / "build" / "strength.json", json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
