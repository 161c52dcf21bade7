"""Rewards named after the log was recorded: successor features beside learners that take a task.

    python benchmarks/imagined/successor.py [--seeds 5] [--choose]

Four rooms of 104 cells, one step in ten slips. Twelve cells are of four kinds, three of each, and
a reward says what it is worth to enter each kind. The log is 15,000 steps of wandering, and its
rewards are 0 throughout. Successor features, and Q-learning that takes the reward's weights as
task (random tasks, or half of them by inverse RL), are fitted before any reward is named; 100
labelled rows name it. Beside them: Q-learning on the reward itself, with every row labelled, and on
the 100 rows alone. Values are exact, of every cell as start. Writes build/imagined_successor.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "good")]

from gridworld import CELLS, STATES, moves_of  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, interval, quiet, say, silent_trainer, table  # noqa: E402

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
    TASK,
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
UPDATES, RATE = 10_000, 1e-3
Policy = Callable[[Tensor], Tensor]


class Named(NamedTuple):
    """Rewards of one sort, which nobody knew when policies were fitted."""

    name: str
    tasks: list[list[float]]


REWARDS = (
    Named("drawn from the box", [[0.9, -0.5, 0.3, 0.1], [-0.6, 0.7, -0.2, 0.8]]),
    Named("one kind pays", [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]),
    Named("one kind pays, the others cost", [[-1.0, 1.0, -1.0, -1.0], [-1.0, -1.0, -1.0, 1.0]]),
)


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


def score(choose: Policy, task: Tensor) -> float:
    """Return a policy's value, 0 for uniform actions and 1 for the best ones."""
    chosen = torch.nn.functional.one_hot(choose(EYE), 4).double()
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


def labels(log: Log, task: Tensor, seed: int) -> Tensor:
    """Return row numbers that somebody labelled, ``[100]``: half of them met a kind."""
    generator = torch.Generator().manual_seed(seed)
    met = log.column(NEXT_ACHIEVED).any(-1)
    parts = [rows.nonzero().squeeze(1) for rows in (met, ~met)]
    half = LABELLED // 2
    drawn = [part[torch.randperm(len(part), generator=generator)[:half]] for part in parts]
    return torch.cat(drawn)


def fitted(
    kind: type[Learner], log: Log, relabel: list[Relabeler], seed: int, **arguments: Any
) -> Learner:
    """Return a learner after its updates."""
    torch.manual_seed(seed)
    data = OfflineDataModule(log, relabel, batch_size=64, seed=seed, updates_per_step=64)
    learner = kind(
        data.spec,
        network=Network(hidden=(128, 128)),
        discount=DISCOUNT,
        optimizer=partial(torch.optim.Adam, lr=RATE),
        compile="off",
        **arguments,
    )
    silent_trainer(UPDATES).fit(learner, data)
    return learner.eval()


def before(log: Log, seed: int) -> dict[str, tuple[Callable[[Tensor], Policy], float]]:
    """Return what makes policies of tasks, fitted without a reward, and its seconds."""
    q = {"huber": None, "double": True}
    made = {
        "SuccessorFeatures": (SuccessorFeatures, [RandomTask(FAMILY)], {}),
        "DQN, random tasks": (DQN, [RandomTask(FAMILY)], q),
        "DQN, half by inverse RL": (
            DQN,
            [RandomTask(FAMILY), TransitionInverseRL(FAMILY, propose="log", fraction=0.5)],
            q,
        ),
    }
    found: dict[str, tuple[Callable[[Tensor], Policy], float]] = {}
    for name, (kind, relabel, arguments) in made.items():
        begun = time.perf_counter()
        learner = fitted(kind, log, relabel, seed, **arguments)
        seconds = time.perf_counter() - begun
        found[name] = (partial(_taking, learner), seconds)
        if isinstance(learner, SuccessorFeatures):
            found["SuccessorFeatures, no improvement"] = (partial(_own, learner), seconds)
    return found


def _taking(learner: Learner, task: Tensor) -> Policy:
    return lambda states: learner(states, task.expand(len(states), -1))


def _own(learner: SuccessorFeatures, task: Tensor) -> Policy:
    return lambda states: learner.own_values(states, task.expand(len(states), -1)).argmax(-1)


def after(log: Log, task: Tensor, rows: Tensor, seed: int) -> dict[str, tuple[Policy, float]]:
    """Return policies fitted to the named reward, on all rows and on those that were labelled."""
    reward = (log.column(NEXT_ACHIEVED) * task).sum(-1)
    named = log.with_columns({REWARD: reward, TASK: torch.zeros(len(log), 1)})
    found = {}
    for name, one in (
        ("DQN on the reward, all rows labelled", named),
        (f"DQN on the reward, {LABELLED} rows labelled", named.with_rows(rows.sort().values)),
    ):
        begun = time.perf_counter()
        learner = fitted(DQN, one, [], seed, huber=None, double=True)
        policy = _taking(learner, torch.zeros(1))
        found[name] = (policy, time.perf_counter() - begun)
    return found


def run(seed: int, alone: bool) -> list[dict[str, Any]]:
    """Return one row for each method and sort of reward."""
    log, rows = wandering(seed), []
    policies = before(log, seed)
    for sort in REWARDS:
        scores: dict[str, list[float]] = {}
        seconds = {name: spent for name, (_, spent) in policies.items()}
        for task in map(torch.tensor, sort.tasks):
            chosen = labels(log, task, seed)
            reward = (log.column(NEXT_ACHIEVED) * task).sum(-1)
            told = FAMILY.named(log.with_columns({REWARD: reward}), chosen)
            for name, (make, _) in policies.items():
                scores.setdefault(name, []).append(score(make(told.weights.float()), task))
            for name, (policy, spent) in after(log, task, chosen, seed).items() if alone else ():
                scores.setdefault(name, []).append(score(policy, task))
                seconds[name] = seconds.get(name, 0.0) + spent
        rows += [
            {"name": name, "reward": sort.name, "seed": seed, "score": sum(each) / len(each)}
            | {"seconds": seconds[name]}
            for name, each in scores.items()
        ]
        say(f"seed {seed}, {sort.name}: " + json.dumps({r["name"]: r["score"] for r in rows[-6:]}))
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and interval over seeds for each method and sort of reward."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        for sort in REWARDS:
            each = [row for row in rows if (row["name"], row["reward"]) == (name, sort.name)]
            mean, low, high = interval([row["score"] for row in each])
            seconds = sum(row["seconds"] for row in each) / len(each)
            found.append(
                {"name": name, "reward": sort.name, "mean": mean, "low": low, "high": high}
                | {"seeds": [row["seed"] for row in each], "seconds": seconds}
            )
    return found


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="seeds on which settings are chosen")
    given = parser.parse_args()
    quiet()
    rows = []
    for seed in CHOICE_SEEDS if given.choose else range(given.seeds):
        rows += run(seed, alone=not given.choose)
    found = summary(rows)
    if not given.choose:
        write_text(BUILD / "imagined_successor.json", json.dumps(found, indent=1))
    shown: dict[str, list[str]] = {}
    for row in found:
        cell = f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
        shown.setdefault(row["name"], []).append(cell)
    say(table(["", *(sort.name for sort in REWARDS)], [[k, *v] for k, v in shown.items()]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
