"""Models of a pendulum whose velocity is not observed: with a memory and without.

    python benchmarks/imagined/hidden_velocity.py [--seeds 3]

The log is 40 episodes of uniformly random actions, the judge 10 others. Three models: members that
remember, members that do not, and members that do not but are shown the velocity. Errors are those
of cosine and sine alone, by their variance, after 1, 5 and 10 imagined steps; nothing was chosen by
them, arguments are the learners' defaults at small sizes. Writes build/hidden_velocity.json.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(BENCHMARKS)]

from shared import BUILD, interval, quiet, say, silent_trainer, table  # noqa: E402

from hindsight_rl import Dynamics, Log, OfflineDataModule, RecurrentDynamics  # noqa: E402
from hindsight_rl.diagnostics.horizons import HorizonErrors, horizon_errors  # noqa: E402
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

LENGTH, UPDATES, HORIZONS = 200, 1500, (1, 5, 10)
SHOWN = {"hidden": [0, 1], "shown": [0, 1, 2]}


class Case(NamedTuple):
    """One model.

    Attributes:
        kind: Its class.
        shown: What it observes.
        batch: Rows, or segments, of an update.
    """

    kind: Any
    shown: str
    batch: int


CASES = {
    "RecurrentDynamics, velocity hidden": Case(RecurrentDynamics, "hidden", 32),
    "Dynamics, velocity hidden": Case(Dynamics, "hidden", 256),
    "Dynamics, velocity shown": Case(Dynamics, "shown", 256),
}


def recorded(episodes: int, seed: int, shown: list[int]) -> Log:
    """Return episodes of uniformly random actions, and what is shown of their observations."""
    env, draw = gymnasium.make("Pendulum-v1"), np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = []
    for episode in range(episodes):
        here, _ = env.reset(seed=10_000 * seed + episode)
        for step in range(LENGTH):
            action = draw.uniform(-2.0, 2.0, 1).astype(np.float32)
            after, reward, *_ = env.step(action)
            rows.append((here[shown], action, episode, after[shown], reward, step == LENGTH - 1))
            here = after
    keys = (OBSERVATION, ACTION, EPISODE, NEXT_OBSERVATION, REWARD, TRUNCATED)
    columns = {
        key: torch.as_tensor(np.array(part))
        for key, part in zip(keys, zip(*rows, strict=True), strict=True)
    }
    columns[REWARD] = columns[REWARD].float()
    columns[TERMINATED] = torch.zeros(len(rows), dtype=torch.bool)
    return Log.from_columns(columns, {"action": {"low": [-2.0], "high": [2.0]}})


def judged(case: Case, seed: int) -> list[HorizonErrors]:
    """Return the errors of a model fitted with a seed."""
    torch.manual_seed(seed)
    log = recorded(40, seed, SHOWN[case.shown])
    data = OfflineDataModule(
        log, batch_size=case.batch, updates_per_step=50, validation=0.1, seed=seed
    )
    model = case.kind(
        data.spec,
        network=Network(hidden=(64, 64)),
        members=5,
        elites=3,
        termination="none",
        angles=((0, 1),),
    )
    silent_trainer(UPDATES, val_check_interval=500, num_sanity_val_steps=0).fit(model, data)
    others = recorded(10, 1000 + seed, SHOWN[case.shown])
    return horizon_errors(model.eval(), others, horizon=max(HORIZONS), starts=1000, numbers=2)


def main() -> None:
    """Fit, judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    quiet()
    rows, lines = [], []
    for name, case in CASES.items():
        start = time.perf_counter()
        found = [judged(case, seed) for seed in range(given.seeds)]
        seconds = time.perf_counter() - start
        for steps in HORIZONS:
            for what in ("error", "coverage"):
                values = [getattr(errors[steps - 1], what) for errors in found]
                mean, low, high = interval(values)
                rows.append(
                    {"name": f"{name}: {what} after {steps}", "mean": mean, "low": low,
                     "high": high, "seeds": given.seeds, "seconds": seconds}
                )  # fmt: skip
                if what == "error":
                    lines.append([name, steps, f"{mean:.2g} [{low:.2g}, {high:.2g}]"])
        still = interval([errors[0].still for errors in found])[0]
        say(f"{name}: {seconds:.0f} s, nothing changing after 1 step {still:.2g}")
    say(table(("model", "steps", "error, by variance"), lines))
    write_text(BUILD / "hidden_velocity.json", json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
