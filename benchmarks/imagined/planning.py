"""Planners on a pendulum: by its own equations, by a learned model, and distilled into a policy.

    python benchmarks/imagined/planning.py [--seeds 5] [--first 0] [--rows WORD] [--ended]

``Pendulum-v1``, 200 steps, 10 fresh starts for each seed, the same for every row. Planners plan by
the environment's equations, or by a ``Dynamics`` fitted to 5,000 uniformly random rows of the seed.
Students clone what CEM says (equally many updates each): 20 of its episodes, 4, or 4 and then 4 of
their own (DAgger). Settings were chosen on seed 1000. Runs that ended are kept in
build/imagined_planning/. Writes the table of docs/planning.md and build/imagined_planning.json.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from lightning.pytorch import seed_everything
from results import replace_part
from shared import BUILD, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import (
    BC,
    CEM,
    ILQR,
    MPPI,
    Beta,
    Collection,
    Dynamics,
    Expert,
    ExpertAction,
    IteratedDataModule,
    Log,
    Network,
    OfflineDataModule,
    Planner,
    Shooting,
    known_model,
    rollout,
)
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.planning import action_spec
from hindsight_rl.envs.actions import ActionSpace
from hindsight_rl.files import write_text
from hindsight_rl.ports import Act, Actor

ENV, STARTS, TEST, ROWS = "Pendulum-v1", 10, 3_000_000, 5_000
FOLDER = BUILD / "imagined_planning"
SMALL = CEM(horizon=15, samples=100, iterations=3)
LABELS = CEM(horizon=15, samples=100, iterations=5, warm_start=False, momentum=0.0)
UPDATES = 5_000

STRONG = "iCEM, 100 plans, 3 iterations, horizon 20"
PLANNERS: dict[str, Planner] = {
    "CEM, 200 plans, 5 iterations, horizon 20": CEM(horizon=20, samples=200, iterations=5),
    "CEM, 100 plans, 3 iterations, horizon 15": SMALL,
    STRONG: CEM(horizon=20, samples=100, iterations=3, colour=2.0, keep=0.3, shrink=1.25),
    "MPPI, 200 plans, horizon 20": MPPI(horizon=20, samples=200),
    "shooting, 200 plans, horizon 20": Shooting(horizon=20, samples=200),
    "iterative LQR, 5 iterations, horizon 20": ILQR(horizon=20, iterations=5),
}


def acting(planner: Planner, model: Dynamics | None = None) -> Actor:
    """Return a planner in the environment, by its equations where no model is given."""
    env = gymnasium.make(ENV)
    known: Any = known_model(env, ENV) if model is None else model.imagine
    if isinstance(planner, CEM) and planner.lasting:
        known = model
    return planner.actor(known, action_spec(ActionSpace(env, ENV)))


def learned(seed: int, rows: int = ROWS) -> Dynamics:
    """Return a model that was fitted to uniformly random rows."""
    collector = Collector(ENV, seed=50_000 + seed)
    found = collector.collect(None, 0, rows // 200)
    number = torch.arange(rows // 200).repeat_interleave(found.lengths)
    collector.close()
    log = Log.from_columns(found.columns | {"episode": number}, collector.info)
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(log, batch_size=256, seed=seed, updates_per_step=50)
    model = Dynamics(
        data.spec,
        network=Network(hidden=(64, 64)),
        members=5,
        elites=5,
        termination="none",
        compile="off",
    )
    silent_trainer(3_000).fit(model, data)
    return model.eval()


def student(first: int, most: int) -> Callable[[int], Act | Actor]:
    """Return how a policy is fitted to labels of some episodes, the first of them the planner's."""

    def fitted(seed: int) -> Act | Actor:
        seed_everything(seed, verbose=False)
        expert = Expert(planner=LABELS, beta=Beta((1.0, 0.0)), max_episodes=most)
        collection = Collection(
            initial_episodes=first,
            episodes_per_round=4,
            updates_per_env_step=2.5,
            sample=False,
            num_envs=most,
            expert=expert,
        )
        data = IteratedDataModule(
            ENV,
            [ExpertAction()],
            collection=collection,
            batch_size=256,
            seed=seed,
            updates_per_step=50,
        )
        learner = BC(
            data.spec, network=Network(hidden=(64, 64)), head="deterministic", compile="off"
        )
        silent_trainer(UPDATES).fit(learner, data)
        return learner.eval().player()

    return fitted


def random_actions(observation: Any) -> Any:
    """Return torques drawn from the observation's digits: as good as uniform."""
    share = np.abs(np.sin(observation.sum(-1, keepdims=True) * 1e4))
    return (4.0 * share - 2.0).astype(np.float32)


METHODS: dict[str, Callable[[int], Act | Actor]] = {
    "arbitrary torques": lambda seed: random_actions,
    **{
        name: (lambda seed, planner=planner: acting(planner))  # type: ignore[misc]
        for name, planner in PLANNERS.items()
    },
    **{
        f"{name}, model of {ROWS:,} rows": (
            lambda seed, planner=planner: acting(planner, learned(seed))  # type: ignore[misc]
        )
        for name, planner in PLANNERS.items()
        if planner is SMALL or name == STRONG
    },
    **{
        f"CEM, 100 plans, 3 iterations, horizon 15, model of {rows:,} rows": (
            lambda seed, rows=rows: acting(SMALL, learned(seed, rows))  # type: ignore[misc]
        )
        for rows in (1_000, 20_000)
    },
    "CEM, horizon 15, a future of each of 5 members, model of 5,000 rows": lambda seed: acting(
        replace(SMALL, particles=5, lasting=True), learned(seed)
    ),
    "clone of 20 planned episodes": student(20, 20),
    "clone of 4 planned episodes": student(4, 4),
    "DAgger, 4 planned episodes and 4 of its own": student(4, 8),
}


def kept(name: str, seed: int) -> Path:
    """Return where the result of a row and a seed is kept."""
    return FOLDER / f"{name.replace(' ', '-').replace(',', '')}-{seed}.json"


def run(name: str, seed: int) -> dict[str, Any]:
    """Return what a row reaches with one seed, from its file where it was run before."""
    path = kept(name, seed)
    if path.exists():
        return dict(json.loads(path.read_text()))
    begun = time.perf_counter()
    act = METHODS[name](seed)
    fitted = time.perf_counter()
    found = rollout(act, ENV, episodes=STARTS, seed=TEST + seed, num_envs=STARTS)
    row = {"name": name, "seed": seed, "returns": found.returns.tolist()}
    row |= {"fit": fitted - begun, "action": (time.perf_counter() - fitted) / found.lengths.max()}
    write_text(path, json.dumps(row, indent=1))
    say(f"{name}, seed {seed}: {found.returns.mean():.1f} in {time.perf_counter() - begun:.0f} s")
    return row


def summary(name: str, seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return a row over seeds."""
    each = [run(name, seed) for seed in seeds]
    mean, low, high = interval([statistics.fmean(row["returns"]) for row in each])
    median = statistics.median(value for row in each for value in row["returns"])
    found = {"name": name, "mean": mean, "low": low, "high": high, "seeds": list(seeds)}
    found |= {"median": median, "milliseconds": 1e3 * min(row["action"] for row in each)}
    return found | {"seconds": statistics.fmean(row["fit"] for row in each)}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="first seed; writes no table")
    parser.add_argument("--ended", action="store_true", help="only of what was run before")
    parser.add_argument("--rows", default="", help="rows whose name holds this; writes no table")
    given = parser.parse_args()
    quiet()
    seeds = tuple(range(given.first, given.seeds))
    rows = []
    for name in METHODS:
        ran = tuple(seed for seed in seeds if not given.ended or kept(name, seed).exists())
        if given.rows in name and ran:
            rows.append(summary(name, ran))
    shown = [
        [
            row["name"],
            f"{row['mean']:.0f} [{row['low']:.0f}, {row['high']:.0f}]",
            f"{row['median']:.0f}",
            len(row["seeds"]),
            f"{row['milliseconds']:.1f}",
        ]
        for row in rows
    ]
    text = table(["what acts", "return", "median", "seeds", f"ms for {STARTS} actions"], shown)
    say(text)
    if not given.rows and not given.first:
        write_text(BUILD / "imagined_planning.json", json.dumps(rows, indent=1))
        replace_part(ROOT / "docs" / "planning.md", "planning", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
