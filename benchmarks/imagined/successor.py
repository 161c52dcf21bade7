"""Rewards named after the log was recorded: successor features beside learners that take a task.

    python benchmarks/imagined/successor.py [--seeds 5] [--choose] [--document]

Four rooms of 104 cells, one step in ten slips. Twelve cells are of four kinds, three of each, and
a reward says what it is worth to enter each kind. The log is 15,000 steps of wandering, and its
rewards are 0 throughout. Successor features, and Q-learning that takes the reward's weights as
task (random tasks, or half of them by inverse RL), are fitted before any reward is named; 100
labelled rows name it. Beside them: Q-learning on one reward of each sort itself, with every row
labelled, and on 100 rows alone. Five training seeds on one log; values are exact, of every cell as
start. Writes build/imagined_successor.json and the table of docs/learners/successor_features.md;
``--document`` writes the table alone.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "good")]

from gridworld import CELLS, STATES, moves_of  # noqa: E402
from results import replace_part  # noqa: E402
from shared import (  # noqa: E402
    BUILD,
    CHOICE_SEEDS,
    ROOT,
    interval,
    quiet,
    say,
    silent_trainer,
    table,
)

from hindsight_rl import (  # noqa: E402
    DQN,
    Learner,
    LinearTasks,
    Log,
    OfflineDataModule,
    RandomTask,
    Relabeler,
    SuccessorFeatures,
    TransitionInverseRL,
)
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import (  # noqa: E402
    NEXT_ACHIEVED,
    NEXT_OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
)
from hindsight_rl.nets.network import Network  # noqa: E402

DISCOUNT, KINDS, EPISODES, LENGTH, LABELLED = 0.95, 4, 300, 50, 100
# Three cells of each kind, none of them beside another of its kind.
PLACES = (
    ((1, 1), (5, 10), (11, 3)),
    ((1, 10), (8, 4), (11, 11)),
    ((5, 1), (3, 8), (9, 10)),
    ((3, 4), (6, 7), (9, 2)),
)
MOVES = moves_of(0.1)
EYE = torch.eye(STATES)
FAMILY = LinearTasks([-1.0] * KINDS, [1.0] * KINDS)
UPDATES, RATE = 6000, 1e-3
# Rewards that nobody knew when policies were fitted, two of each sort.
REWARDS = {
    "drawn from the box": [[0.9, -0.5, 0.3, 0.1], [-0.6, 0.7, -0.2, 0.8]],
    "one kind pays": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]],
    "one kind pays, the others cost": [[-1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, 1.0]],
}
SORTS = [sort for sort, tasks in REWARDS.items() for _ in tasks]
TASKS = [torch.tensor(task) for tasks in REWARDS.values() for task in tasks]


def features() -> Tensor:
    """Return which kind each cell is, ``[S, K]``; most are none."""
    found = torch.zeros(STATES, KINDS)
    for kind, cells in enumerate(PLACES):
        for cell in cells:
            found[CELLS.index(cell), kind] = 1.0
    return found


KIND = features()


def value(policy: Tensor, task: Tensor) -> float:
    """Return what a policy ``[S, A]`` is worth from every cell alike, discounted."""
    reward = (MOVES @ (KIND.double() @ task.double()) * policy).sum(-1)
    steps = (policy[:, :, None] * MOVES).sum(1)
    return float(torch.linalg.solve(torch.eye(STATES).double() - DISCOUNT * steps, reward).mean())


def best(task: Tensor) -> Tensor:
    """Return the best policy ``[S, A]``, by value iteration."""
    reward, values = MOVES @ (KIND.double() @ task.double()), torch.zeros(STATES).double()
    for _ in range(1000):
        q = reward + DISCOUNT * MOVES @ values
        values = q.amax(-1)
    return torch.nn.functional.one_hot(q.argmax(-1), 4).double()


def score(chosen: Tensor, task: Tensor) -> float:
    """Return the value of choices ``[S]``, 0 for uniform actions and 1 for the best ones."""
    chosen = torch.nn.functional.one_hot(chosen, 4).double()
    low = value(torch.full((STATES, 4), 0.25).double(), task)
    return (value(chosen, task) - low) / (value(best(task), task) - low)


def wandering(seed: int) -> Log:
    """Return a log of uniformly random actions without a reward."""
    generator = torch.Generator().manual_seed(seed)
    state = torch.randint(STATES, (EPISODES,), generator=generator)
    steps = []
    for _ in range(LENGTH):
        action = torch.randint(4, (EPISODES,), generator=generator)
        following = torch.multinomial(MOVES[state, action], 1, generator=generator).squeeze(1)
        steps.append((state, action, following))
        state = following
    before, action, after = (torch.stack(part, 1).flatten() for part in zip(*steps, strict=True))
    rows = EPISODES * LENGTH
    columns: dict[Any, Tensor] = {
        "observation": EYE[before],
        "action": action,
        "episode": torch.arange(EPISODES).repeat_interleave(LENGTH),
        NEXT_OBSERVATION: EYE[after],
        NEXT_ACHIEVED: KIND[after],
        REWARD: torch.zeros(rows),
        TERMINATED: torch.zeros(rows, dtype=torch.bool),
        TRUNCATED: torch.arange(rows) % LENGTH == LENGTH - 1,
    }
    return Log.from_columns(columns, {"discrete_actions": 4})


def labels(log: Log, seed: int) -> Tensor:
    """Return row numbers that somebody labelled, ``[100]``: half of them met a kind."""
    generator = torch.Generator().manual_seed(seed)
    met = log.column(NEXT_ACHIEVED).any(-1)
    parts = [rows.nonzero().squeeze(1) for rows in (met, ~met)]
    half = LABELLED // 2
    drawn = [part[torch.randperm(len(part), generator=generator)[:half]] for part in parts]
    return torch.cat(drawn).sort().values


def fitted(
    kind: type[Learner], log: Log, relabel: list[Relabeler], seed: int, seeds: int, **more: Any
) -> Learner:
    """Return a learner of several seeds after its updates."""
    torch.manual_seed(seed)
    data = OfflineDataModule(log, relabel, batch_size=64, seed=seed, updates_per_step=64)
    learner = kind(
        data.spec,
        network=Network(hidden=(128, 128)),
        discount=DISCOUNT,
        optimizer=partial(torch.optim.Adam, lr=RATE, fused=True),
        seeds=seeds,
        compile="off" if seeds == 1 else "update",
        threads=1,
        **more,
    )
    silent_trainer(UPDATES).fit(learner, data)
    return learner.eval()


Q_LEARNING: dict[str, Any] = {"huber": None, "double": True}


def before(log: Log, tasks: dict[int, list[Tensor]], seeds: range) -> list[dict[str, Any]]:
    """Return the scores of policies that were fitted before a reward was named.

    Args:
        log: Without rewards.
        tasks: What the labelled rows of each seed made of every reward.
        seeds: Of the fits, and of which rows were labelled.

    Returns:
        One row for each method, reward and seed.
    """
    found = []
    for name, kind, more in (
        ("SuccessorFeatures", SuccessorFeatures, {}),
        ("DQN, random tasks", DQN, Q_LEARNING),
    ):
        begun = time.perf_counter()
        learner = fitted(kind, log, [RandomTask(FAMILY)], seeds[0], len(seeds), **more)
        seconds = (time.perf_counter() - begun) / len(seeds)
        for number in learner.each_seed():
            seed = seeds[number]
            found += scored(name, taking(learner), tasks[seed], seed, seconds)
            if isinstance(learner, SuccessorFeatures):
                own = f"{name}, no improvement"
                found += scored(own, taking(learner, own=True), tasks[seed], seed, seconds)
    for seed in seeds:  # several seeds cannot share batches there
        begun = time.perf_counter()
        half = TransitionInverseRL(FAMILY, propose="log", fraction=0.5)
        learner = fitted(DQN, log, [RandomTask(FAMILY), half], seed, 1, **Q_LEARNING)
        name, seconds = "DQN, half by inverse RL", time.perf_counter() - begun
        found += scored(name, taking(learner), tasks[seed], seed, seconds)
    return found


def taking(learner: Learner, own: bool = False) -> Callable[[Tensor], Tensor]:
    """Return what a learner chooses in every cell, ``[S]``, for a task ``[K]``."""

    def choose(task: Tensor) -> Tensor:
        tasks = task.float().expand(STATES, -1)
        if own and isinstance(learner, SuccessorFeatures):
            return learner.own_values(EYE, tasks).argmax(-1)
        return learner(EYE, tasks)

    return choose


def scored(
    name: str, choose: Callable[[Tensor], Tensor], told: list[Tensor], seed: int, seconds: float
) -> list[dict[str, Any]]:
    """Return one row for each reward, of a policy that was given what the labels made of it."""
    with torch.no_grad():
        scores = [score(choose(w), task) for w, task in zip(told, TASKS, strict=True)]
    rows = [
        {"name": name, "reward": sort, "seed": seed, "score": one, "seconds": seconds}
        for sort, one in zip(SORTS, scores, strict=True)
    ]
    say(f"{name}, seed {seed}: " + ", ".join(f"{row['score']:.2f}" for row in rows))
    return rows


def after(log: Log, labelled: Tensor, seeds: range) -> list[dict[str, Any]]:
    """Return the scores of policies fitted to one reward of each sort, when it was named."""
    found = []
    for name, rows in (
        ("DQN on the reward, all rows labelled", None),
        (f"DQN on the reward, {LABELLED} rows labelled", labelled),
    ):
        for sort, task in list(dict(zip(reversed(SORTS), reversed(TASKS), strict=True)).items()):
            reward = (log.column(NEXT_ACHIEVED) * task).sum(-1)
            named = log.with_columns({REWARD: reward}).with_rows(rows)
            begun = time.perf_counter()
            learner = fitted(DQN, named, [], seeds[0], len(seeds), **Q_LEARNING)
            seconds = (time.perf_counter() - begun) / len(seeds)
            for number in learner.each_seed():
                with torch.no_grad():
                    one = score(learner(EYE), task)
                found.append({"name": name, "reward": sort, "seed": seeds[number], "score": one})
                found[-1]["seconds"] = seconds
                say(f"{name}, {sort}, seed {seeds[number]}: {one:.2f}")
    return found


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and interval over seeds for each method and sort of reward."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        for sort in dict.fromkeys(SORTS):
            each = [row for row in rows if (row["name"], row["reward"]) == (name, sort)]
            seeds = sorted({row["seed"] for row in each})
            means = [statistics.fmean(r["score"] for r in each if r["seed"] == s) for s in seeds]
            mean, low, high = interval(means)
            seconds = statistics.fmean(row["seconds"] for row in each)
            found.append({"name": name, "reward": sort, "mean": mean, "low": low, "high": high})
            found[-1] |= {"seeds": seeds, "seconds": seconds}
    return found


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of a summary."""
    cells: dict[str, list[str]] = {}
    for row in rows:
        cell = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        cells.setdefault(row["name"], []).append(cell)
    return table(["", *dict.fromkeys(SORTS)], [[name, *each] for name, each in cells.items()])


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds on which settings are chosen")
    parser.add_argument("--document", action="store_true", help="write the table of the page alone")
    given = parser.parse_args()
    quiet()
    place, page = BUILD / "imagined_successor.json", ROOT / "docs/learners/successor_features.md"
    if given.document:
        replace_part(page, "named", shown(json.loads(place.read_text())))
        return 0
    seeds = range(CHOICE_SEEDS[0], CHOICE_SEEDS[-1] + 1) if given.choose else range(given.seeds)
    log = wandering(seeds[0])
    told: dict[int, list[Tensor]] = {}
    for seed in seeds:
        rewards = [(log.column(NEXT_ACHIEVED) * task).sum(-1) for task in TASKS]
        logs = [log.with_columns({REWARD: reward}) for reward in rewards]
        told[seed] = [FAMILY.named(each, labels(log, seed)).weights for each in logs]
    rows = before(log, told, seeds)
    if not given.choose:
        rows += after(log, labels(log, seeds[0]), seeds)
    found = summary(rows)
    if not given.choose:
        write_text(place, json.dumps(found, indent=1))
        replace_part(page, "named", shown(found))
    say(shown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
