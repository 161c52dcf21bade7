"""MBPO beside SAC on a pendulum, by steps taken in the environment.

    python benchmarks/imagined/online.py [--seeds 5] [--only SEED] [--choose]

All begin with 3 episodes of random torques (600 steps) and then play one episode of 200 steps at a
time. SAC makes one update a step, or four; MBPO four, with nine of ten rows of a batch imagined in
branches of up to 5 steps, by a model that is fitted on before every round. Returns are those of the
episodes that were played, in the mean over 600 steps. Writes build/imagined_online.json and a table
of docs/imagined.md.
"""

import argparse
import statistics
from typing import Any

from lightning.pytorch import seed_everything
from worlds import PENDULUM, SMALL, adam, kept, row, written

from hindsight_rl import (
    SAC,
    Collection,
    Dynamics,
    Growing,
    ImaginedRows,
    IteratedDataModule,
    Refit,
)

# ``worlds`` puts the folder above on the path.
from results import replace_part  # isort: skip
from shared import CHOICE_SEEDS, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # isort: skip

FIRST, EPISODES, STEPS, BATCH = 3, 12, 200, 128
WINDOW = 3  # episodes
# Updates for each step, and whether a model imagines.
METHODS = {
    "SAC, 1 update a step": (1.0, False),
    "SAC, 4 updates a step": (4.0, False),
    "MBPO, 4 updates a step": (4.0, True),
}


def model_of(seed: int) -> Dynamics:
    """Return a model that was fitted to nothing yet."""
    spec = IteratedDataModule(PENDULUM, collection=Collection(FIRST), seed=seed).spec
    seed_everything(seed, verbose=False)
    return Dynamics(spec, network=SMALL, members=5, elites=3, termination="none", angles=((0, 1),))


def played(method: str, seed: int) -> list[float]:
    """Return the mean return of each three episodes after the random ones."""
    ratio, imagines = METHODS[method]
    more: dict[str, Any] = {}
    if imagines:
        imagined = ImaginedRows(
            model_of(seed),
            every=int(STEPS * ratio),
            rows=2_000,
            horizon=Growing(1, 5, 0, int(STEPS * ratio * EPISODES)),
            keep=1,
            refit=Refit(200),
        )
        more = {"imagined": imagined, "mix": {"collected": 0.1, "imagined": 0.9}}
    seed_everything(seed, verbose=False)
    data = IteratedDataModule(
        PENDULUM,
        collection=Collection(FIRST, 1, updates_per_env_step=ratio, num_envs=1),
        batch_size=BATCH,
        seed=seed + 10,  # evaluation episodes have seeds of their own
        **more,
    )
    policy = SAC(data.spec, network=SMALL, optimizer=adam)
    updates = int((FIRST + EPISODES) * STEPS * ratio)
    silent_trainer(updates).fit(policy, data)
    returns = [each.mean_return for each in data.history[1:]][:EPISODES]
    parts = [returns[at : at + WINDOW] for at in range(0, EPISODES, WINDOW)]
    return [statistics.fmean(part) for part in parts]


def main() -> None:
    """Fit all rows and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", type=int, help="fit this seed alone, and write nothing else")
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    options = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS[:1] if options.choose else FIVE_SEEDS[: options.seeds]
    seeds = seeds if options.only is None else (options.only,)
    rows, lines = [], []
    ends = [STEPS * (FIRST + at + WINDOW) for at in range(0, EPISODES, WINDOW)]
    for method in METHODS:
        found = [kept("online", method, s, lambda: played(method, s)) for s in seeds]  # noqa: B023
        cells = [method]
        for place, end in enumerate(ends):
            values = [each | {"value": each["value"][place]} for each in found]
            rows.append(row(f"{method}, {end} steps", values, seeds, method=method, steps=end))
            mean, low, high = (rows[-1][name] for name in ("mean", "low", "high"))
            cells.append(f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]")
        lines.append([*cells, f"{rows[-1]['seconds']:.0f}"])
    if options.choose or options.only is not None:
        return
    written("online", rows)
    header = ["method", *(f"{end - 600:,} to {end:,} steps" for end in ends), "s of one core"]
    text = (
        f"Mean return of the episodes played over {len(seeds)} seeds, Student's 95 % intervals."
        f"\n\n{table(header, lines)}"
    )
    replace_part(ROOT / "docs" / "imagined.md", "online", text)


if __name__ == "__main__":
    main()
