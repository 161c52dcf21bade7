"""MBPO beside SAC on a pendulum and on MuJoCo's cart and pole, by steps in the environment.

    python benchmarks/imagined/online.py [--seeds 5] [--only SEED] [--choose]

All begin with episodes of random actions and then play one at a time. SAC makes one update a step,
or four; MBPO four, with nine of ten rows of a batch imagined in branches of up to 5 steps, by a
model that is fitted on before every round and learns where episodes end, too. Returns are those of
the episodes that were played, in the mean over windows of steps. Writes build/imagined_online.json
and a table of docs/imagined.md.
"""

import argparse
import statistics
from dataclasses import dataclass
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

BATCH = 128


@dataclass(frozen=True)
class World:
    """What is played.

    Attributes:
        env: Gymnasium id.
        first: Episodes of random actions.
        ends: Of the windows, in steps; the first begins where random actions end.
        model: Arguments of the model.
    """

    env: str
    first: int
    ends: tuple[int, ...]
    model: dict[str, Any]


WORLDS = (
    World(PENDULUM, 3, (1_200, 1_800, 2_400, 3_000), {"termination": "none", "angles": ((0, 1),)}),
    World("InvertedPendulum-v5", 30, (1_000, 2_000, 3_000, 4_000), {}),
)
# Updates for each step, and whether a model imagines.
METHODS = {
    "SAC, 1 update a step": (1.0, False),
    "SAC, 4 updates a step": (4.0, False),
    "MBPO, 4 updates a step": (4.0, True),
}


def model_of(world: World, seed: int) -> Dynamics:
    """Return a model that was fitted to nothing yet."""
    spec = IteratedDataModule(world.env, collection=Collection(world.first), seed=seed).spec
    seed_everything(seed, verbose=False)
    return Dynamics(spec, network=SMALL, members=5, elites=3, **world.model)


def played(world: World, method: str, seed: int) -> list[float]:
    """Return the mean return of the episodes that ended in each window."""
    ratio, imagines = METHODS[method]
    more: dict[str, Any] = {}
    if imagines:
        every = int(200 * ratio)
        imagined = ImaginedRows(
            model_of(world, seed),
            every=every,
            rows=2_000,
            horizon=Growing(1, 5, 0, int(world.ends[-1] * ratio)),
            keep=1,
            refit=Refit(200),
        )
        more = {"imagined": imagined, "mix": {"collected": 0.1, "imagined": 0.9}}
    seed_everything(seed, verbose=False)
    data = IteratedDataModule(
        world.env,
        collection=Collection(world.first, 1, updates_per_env_step=ratio, num_envs=1),
        batch_size=BATCH,
        seed=seed + 10,  # evaluation episodes have seeds of their own
        **more,
    )
    policy = SAC(data.spec, network=SMALL, optimizer=adam)
    silent_trainer(int(world.ends[-1] * ratio)).fit(policy, data)
    begin, found = data.history[0].env_steps, []
    for end in world.ends:
        within = [each.mean_return for each in data.history if begin < each.env_steps <= end]
        # An episode may be longer than a window: the one that goes on through it counts.
        later = [each.mean_return for each in data.history if each.env_steps > end]
        found.append(statistics.fmean(within or later[:1] or found[-1:]))
        begin = end
    return found


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
    rows, texts = [], []
    for world in WORLDS:
        lines = []
        for method in METHODS:
            name = f"{world.env} {method}"
            found = [kept("online", name, s, lambda: played(world, method, s)) for s in seeds]  # noqa: B023
            cells = [method]
            for place, end in enumerate(world.ends):
                values = [each | {"value": each["value"][place]} for each in found]
                about = {"env": world.env, "method": method, "steps": end}
                rows.append(row(f"{name}, {end} steps", values, seeds, **about))
                mean, low, high = (rows[-1][part] for part in ("mean", "low", "high"))
                cells.append(f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]")
            lines.append([*cells, f"{rows[-1]['seconds']:.0f}"])
        header = [world.env, *(f"until {end:,} steps" for end in world.ends), "s of one core"]
        texts.append(table(header, lines))
    if options.choose or options.only is not None:
        return
    written("online", rows)
    note = f"Mean return of the episodes played over {len(seeds)} seeds, Student's 95 % intervals."
    replace_part(ROOT / "docs" / "imagined.md", "online", "\n\n".join([note, *texts]))


if __name__ == "__main__":
    main()
