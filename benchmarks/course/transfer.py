"""Transfer on a pendulum: many rows of a source, few of a target with other dynamics.

    python benchmarks/course/transfer.py [--seeds 5] [--targets gravity-12] [--choose]

SAC fitted to 10,000 steps of random torques in a source (gravity 10, torques up to 2) and 1,000 in
a target, scored by 20 episodes in the target. Finished fits are kept in build/course/transfer;
writes build/course_transfer.json and the table of docs/transfer.md. ``--choose`` fits a seed that
is not reported: by it the target was chosen, the correction has its defaults.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import torch
from lightning.pytorch import seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # noqa: E402

from hindsight_rl import SAC, DynamicsGap, Log, OfflineDataModule  # noqa: E402
from hindsight_rl.datamodules.sources.environment import Collector  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import EPISODE  # noqa: E402

worlds.HOME = BUILD / "course" / "transfer"
PENDULUM = worlds.PENDULUM
# What differs from the source, gravity 10 and torques up to 2: attributes of the environment.
TARGETS: dict[str, dict[str, float]] = {
    "gravity-12": {"g": 12.0},
    "gravity-7": {"g": 7.0},
    "torque-1": {"max_torque": 1.0},
}
UPDATES, BATCH = 4_000, 128
EPISODES = {"source": 50, "target": 5}  # of 200 steps
# Which logs, and the correction of the source's rewards.
METHODS: dict[str, tuple[tuple[str, ...], dict[str, Any] | None]] = {
    "source only": (("source",), None),
    "target only": (("target",), None),
    "both, as logged": (("target", "source"), None),
    "both, corrected (DARA)": (("target", "source"), {}),
}


def pendulum(**changed: float) -> Any:
    """Return a function that makes a pendulum with changed attributes."""

    def made(**options: Any) -> Any:
        env = gymnasium.make(PENDULUM, **options)
        for name, value in changed.items():
            setattr(env.unwrapped, name, value)
        return env

    return made


@functools.cache
def random_log(target: str, episodes: int, seed: int) -> Log:
    """Return episodes of random torques in a target, "" for the source."""
    collector = Collector(pendulum(**TARGETS.get(target, {})), seed=seed)
    found = collector.collect(None, 0, episodes, None)
    collector.close()
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    return Log.from_columns(found.columns | {EPISODE: number}, collector.info)


def carried(target: str, sides: tuple[str, ...], gap: dict[str, Any] | None, seed: int) -> float:
    """Return the score in the target of a policy of some logs."""
    seed_everything(seed, verbose=False)
    places = {"source": ("", seed), "target": (target, seed + 1000)}
    logs = [random_log(places[side][0], EPISODES[side], places[side][1]) for side in sides]
    log = logs[0] if len(logs) == 1 else Log.concatenate(logs, [float(len(each)) for each in logs])
    relabel = [] if gap is None else [DynamicsGap(seed=seed, **gap)]
    data = OfflineDataModule(log, relabel, batch_size=BATCH, seed=seed)
    policy = SAC(data.spec, network=worlds.SMALL, optimizer=worlds.adam, compile="off")
    silent_trainer(UPDATES).fit(policy, data)
    return worlds.score(policy, pendulum(**TARGETS[target]))


def rows_of(seeds: tuple[int, ...], targets: list[str]) -> list[Any]:
    """Return a row for every target and method; one seed after the other is fitted."""
    found: dict[tuple[str, str], list[Any]] = {}
    for seed in seeds:
        for target in targets:
            for name, method in METHODS.items():
                one = worlds.kept(
                    "dynamics",
                    f"{target} {name}",
                    seed,
                    lambda: carried(target, *method, seed),  # noqa: B023
                )
                found.setdefault((target, name), []).append(one)
    return [
        worlds.row(f"{target}: {name}", each, seeds, target=target, method=name)
        for (target, name), each in found.items()
    ]


def document(rows: list[Any], targets: list[str]) -> None:
    """Rewrite the table of docs/transfer.md."""
    found = {(line["target"], line["method"]): line for line in rows}
    lines = [
        [
            name,
            *(cell(found[target, name]) for target in targets),
            f"{found[targets[0], name]['seconds']:.0f}",
        ]
        for name in METHODS
    ]
    header = ["SAC fitted to", *(f"{target.replace('-', ' ')}" for target in targets), "s"]
    count = len(rows[0]["seeds"])
    note = f"Mean return of 20 episodes in the target over {count} seeds, Student's 95 % intervals."
    replace_part(ROOT / "docs" / "transfer.md", "dynamics", f"{note}\n\n{table(header, lines)}")


def cell(line: Any) -> str:
    """Return mean and interval of a row."""
    return f"{line['mean']:,.0f} [{line['low']:,.0f}, {line['high']:,.0f}]"


def main() -> None:
    """Fit what is not kept, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--targets", nargs="*", choices=TARGETS, default=["gravity-12"])
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    options = parser.parse_args()
    quiet()
    if options.choose:
        rows_of(CHOICE_SEEDS[:1], options.targets)
        return
    rows = rows_of(FIVE_SEEDS[: options.seeds], options.targets)
    write_text(BUILD / "course_transfer.json", json.dumps(rows, indent=1))
    document(rows, options.targets)


if __name__ == "__main__":
    main()
