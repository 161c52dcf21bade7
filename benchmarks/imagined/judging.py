"""Policies judged in a learned model, beside fitted Q evaluation.

    python benchmarks/imagined/judging.py [--seeds 5] [--document]

Pendulum-v1 and six scripted policies, from one that does nothing to one that swings up and stays.
A poor one with noise records logs of 20 episodes; of each log a ``Dynamics`` is fitted and all six
are judged without an environment, over 200 steps at discount 0.97. What they are worth is what they
earn in the environment from the log's own first states. Writes build/imagined_judging.json and the
table of docs/judging.md; ``--document`` writes the table alone.
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

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "judging")]

from common import coverage, rank_correlation, regret, root_mean_square  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, ROOT, interval, quiet, say, silent_trainer, table  # noqa: E402

from hindsight_rl import Dynamics, Fitting, Log, OfflineDataModule, Question, judge  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import (  # noqa: E402
    ACTION,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
    TRUNCATED,
)
from hindsight_rl.nets.network import Network  # noqa: E402

ENV, DISCOUNT, STEPS, LOGGED = "Pendulum-v1", 0.97, 200, 20
METHODS = ("fqe",)
Array = NDArray[np.float32]
Policy = Callable[[Array], Array]


def controlled(observation: Array, push: float, gain: float) -> Array:
    """Return torques ``[n, 1]``: energy is pumped in, and near the top gains hold it there.

    Args:
        observation: ``[n, 3]``: cosine and sine of the angle from the top, and speed.
        push: Torque that pumps, at most 2.
        gain: Of the angle near the top; 0 holds nothing.
    """
    cosine, sine, speed = observation.T
    energy = speed**2 / 6 - 5 * (1 - cosine)
    pump = -push * np.sign(speed * energy)
    hold = -gain * np.arctan2(sine, cosine) - 0.25 * gain * speed
    near = (cosine > 0.8) & (gain > 0)
    torque: Array = np.where(near, hold, pump).clip(-2, 2)[:, None].astype(np.float32)
    return torque


POLICIES: dict[str, Policy] = {
    "nothing": partial(controlled, push=0.0, gain=0.0),
    "weak push": partial(controlled, push=0.5, gain=0.0),
    "push": partial(controlled, push=2.0, gain=0.0),
    "push, hold a little": partial(controlled, push=1.0, gain=4.0),
    "push, hold": partial(controlled, push=2.0, gain=8.0),
    "push less, hold": partial(controlled, push=1.5, gain=6.0),
}


def record(policy: Policy, episodes: int, seed: int, noise: float = 0.0) -> dict[Any, Array]:
    """Return rows of episodes, ``[N, ...]`` by key."""
    env, generator = gymnasium.make(ENV), np.random.default_rng(seed)
    rows: dict[Any, list[Any]] = {}
    for episode in range(episodes):
        seen = env.reset(seed=seed + episode)[0]
        for _ in range(STEPS):
            action = policy(seen[None])[0] + noise * generator.standard_normal(1)
            action = action.clip(-2, 2).astype(np.float32)
            after, reward, _, _, _ = env.step(action)
            for key, value in (
                (OBSERVATION, seen),
                (ACTION, action),
                (NEXT_OBSERVATION, after),
                (REWARD, np.float32(reward)),
                (EPISODE, episode),
            ):
                rows.setdefault(key, []).append(value)
            seen = after
    return {key: np.stack(values) for key, values in rows.items()}


def first(seed: int) -> int:
    """Return the environment's seed in the first episode of a log."""
    return 10_000 * (1 + seed)


def truth(policy: Policy, seed: int) -> float:
    """Return what a policy earns from the first states of a log."""
    reward = record(policy, LOGGED, first(seed))[REWARD].reshape(LOGGED, STEPS)
    return float((reward.astype(np.float64) * DISCOUNT ** np.arange(STEPS)).sum(1).mean())


def log_of(seed: int) -> Log:
    """Return what a poor policy with much noise recorded."""
    rows = record(POLICIES["weak push"], LOGGED, first(seed), noise=1.5)
    columns = {key: torch.as_tensor(value) for key, value in rows.items()}
    count = LOGGED * STEPS
    columns[TERMINATED] = torch.zeros(count, dtype=torch.bool)
    columns[TRUNCATED] = torch.arange(count) % STEPS == STEPS - 1
    return Log.from_columns(columns, {"action": {"low": [-2.0], "high": [2.0]}})


def world_of(log: Log, seed: int) -> Dynamics:
    """Return a model fitted to a log."""
    torch.manual_seed(seed)
    data = OfflineDataModule(log, batch_size=256, seed=seed, validation=0.1)
    world = Dynamics(
        data.spec,
        network=Network(hidden=(64, 64)),
        members=5,
        elites=4,
        termination="none",
        angles=((0, 1),),
        compile="off",
        threads=1,
    )
    silent_trainer(3000).fit(world, data)
    return world.eval()


def judged(seed: int) -> dict[str, Any]:
    """Return what a log says of all policies, by estimator: ``[value, low, high, warned]``.

    Beside it, ``true`` is what they are worth.
    """
    log, begun = log_of(seed), time.perf_counter()
    world = world_of(log, seed)
    seconds = {"model": time.perf_counter() - begun}
    found: dict[str, list[Any]] = {}
    for methods in (("model",), METHODS):
        begun = time.perf_counter()
        asked = Question(
            discount=DISCOUNT,
            horizon=STEPS,
            methods=methods,
            by=methods[0],
            model=world if methods == ("model",) else None,
            check=False,
            fitting=Fitting(updates=1000, hidden=(64, 64), members=3, seed=seed),
        )
        said = judge(list(POLICIES.values()), log, asked, names=list(POLICIES))
        seconds[methods[0]] = seconds.get(methods[0], 0.0) + time.perf_counter() - begun
        for method in methods:
            rows = [one.estimate(method) for one in said.policies]
            found[method] = [
                None if row is None else [row.value, *row.interval, bool(row.warnings)]
                for row in rows
            ]
        found["the log's return"] = [[said.logged, *said.logged_interval, False]] * len(POLICIES)
    say(
        f"seed {seed}: " + json.dumps({m: [r and round(r[0]) for r in v] for m, v in found.items()})
    )
    true = [truth(policy, seed) for policy in POLICIES.values()]
    say(f"seed {seed}, worth: " + json.dumps([round(each) for each in true]))
    return {"found": found, "seconds": seconds, "true": true}


def summary(each: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one row for each estimator."""
    rows, true = [], [one["true"] for one in each]
    for method in each[0]["found"]:
        said = [one["found"][method] for one in each]
        pairs = [pair for one in zip(said, true, strict=True) for pair in zip(*one, strict=True)]
        errors = [found[0] - worth for found, worth in pairs]
        mean, low, high = root_mean_square(errors)
        row: dict[str, Any] = {"name": method, "mean": mean, "low": low, "high": high}
        row |= {"bias": statistics.fmean(errors), "seeds": list(range(len(each)))}
        row["seconds"] = statistics.fmean(one["seconds"].get(method, 0.0) for one in each)
        if method != "the log's return":
            ranks = [
                rank_correlation([r[0] for r in one], t) for one, t in zip(said, true, strict=True)
            ]
            row["rank"], row["rank_low"], row["rank_high"] = interval(ranks)
            best = [max(range(len(one)), key=lambda k, one=one: one[k][1]) for one in said]
            row["regret"] = statistics.fmean(regret(k, t) for k, t in zip(best, true, strict=True))
            row |= coverage([(r[1], r[2]) for r, _ in pairs], [worth for _, worth in pairs])
            row["warned"] = statistics.fmean(r[3] for r, _ in pairs)
        rows.append(row)
    return rows


def shown(rows: list[dict[str, Any]]) -> str:
    """Return the table of a summary."""
    lines = [
        [
            row["name"],
            f"{row['mean']:.1f} [{row['low']:.1f}, {row['high']:.1f}]",
            f"{row['bias']:+.1f}",
            *(
                f"{row[fact]:.2f}" if fact in row else "-"
                for fact in ("rank", "regret", "coverage", "warned")
            ),
        ]
        for row in rows
    ]
    header = ("estimator", "error [95 %]", "bias", "rank", "regret@1", "coverage", "warned of")
    return table(header, lines)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--document", action="store_true", help="write the table of the page alone")
    given = parser.parse_args()
    quiet()
    place, page = BUILD / "imagined_judging.json", ROOT / "docs/judging.md"
    if given.document:
        replace_part(page, "modelled", shown(json.loads(place.read_text())["rows"]))
        return 0
    each = [judged(seed) for seed in range(given.seeds)]
    rows = summary(each)
    facts = [{"name": n, "worth": [o["true"][k] for o in each]} for k, n in enumerate(POLICIES)]
    write_text(place, json.dumps({"rows": rows, "policies": facts}, indent=1))
    replace_part(page, "modelled", shown(rows))
    say(shown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
