"""Transfer to other dynamics: many rows of a source, few of a target.

    python benchmarks/course/transfer.py [--seeds 5] [--targets gravity-12 motor] [--choose]

SAC fitted to 10,000 steps of random actions in a source and 1,000 in a target, scored by 20
episodes in the target. *Pendulum*: gravity 10 and torques up to 2 in the source. *Motor*: a motor
of the source does nothing in the target, where a spare one, which costs more, must take its place.
Finished fits are kept in build/course/transfer; writes build/course_transfer.json and the tables of
docs/transfer.md. ``--choose`` fits a seed that is not reported: by it the gravity was chosen, where
the correction has its defaults, and for the motor costs and coefficient (of 0.3 and 1).
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
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
MOTOR, STEPS = "motor", 40
BATCH = 128
# Which logs, and whether the source's rewards are corrected.
METHODS: dict[str, tuple[tuple[str, ...], bool]] = {
    "source only": (("source",), False),
    "target only": (("target",), False),
    "both, as logged": (("target", "source"), False),
    "both, corrected (DARA)": (("target", "source"), True),
}
CORRECTION = {"coefficient": 0.3}  # of the motor; reward per nat


class Yard(gymnasium.Env[Any, Any]):
    """Drive to a goal in a square, -1 to 1, at most 0.2 along each axis in a step.

    One motor drives along y; along x one does, and a spare one, whose square costs beside the
    distance to the goal. Together those are no faster than either.

    Args:
        broken: Whether the motor along x does nothing.
        anywhere: Whether episodes begin anywhere, or about (-0.7, -0.5); the goal is (0.7, -0.5).
    """

    def __init__(self, *, broken: bool = False, anywhere: bool = False) -> None:
        self._works, self._anywhere = 0.0 if broken else 1.0, anywhere
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Return where an episode begins."""
        super().reset(seed=seed)
        drawn = self.np_random.uniform(-1.0, 1.0, 2)
        self._place = drawn if self._anywhere else 0.1 * drawn - [0.7, 0.5]
        self._steps = 0
        return self._place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take a step."""
        along, across, spare = np.clip(action, -1, 1)
        moved = 0.2 * np.clip([self._works * along + spare, across], -1, 1)
        self._place, self._steps = np.clip(self._place + moved, -1, 1), self._steps + 1
        cost = float(np.hypot(*(self._place - [0.7, -0.5])) + spare**2)
        return self._place.astype(np.float32), -cost, False, self._steps >= STEPS, {}


def pendulum(**changed: float) -> Any:
    """Return a function that makes a pendulum with changed attributes."""

    def made(**options: Any) -> Any:
        env = gymnasium.make(PENDULUM, **options)
        for name, value in changed.items():
            setattr(env.unwrapped, name, value)
        return env

    return made


def world(target: str, side: str, *, logged: bool = False) -> Any:
    """Return a function that makes a side, ``"source"`` or ``"target"``, of a target's case."""
    if target == MOTOR:
        broken = side == "target"
        return lambda **_: Yard(broken=broken, anywhere=logged)
    return pendulum(**(TARGETS[target] if side == "target" else {}))


@functools.cache
def random_log(target: str, side: str, seed: int) -> Log:
    """Return 10,000 steps of random actions in a source, 1,000 in a target."""
    steps = {"source": 10_000, "target": 1_000}[side]
    episodes = steps // (STEPS if target == MOTOR else 200)
    collector = Collector(world(target, side, logged=True), seed=seed)
    found = collector.collect(None, 0, episodes, None)
    collector.close()
    number = torch.arange(episodes).repeat_interleave(found.lengths)
    return Log.from_columns(found.columns | {EPISODE: number}, collector.info)


def carried(target: str, sides: tuple[str, ...], gap: dict[str, Any] | None, seed: int) -> float:
    """Return the score in the target of a policy of some logs."""
    seed_everything(seed, verbose=False)
    seeds = {"source": seed, "target": seed + 1000}
    logs = [random_log(target, side, seeds[side]) for side in sides]
    log = logs[0] if len(logs) == 1 else Log.concatenate(logs, [float(len(each)) for each in logs])
    relabel = [] if gap is None else [DynamicsGap(seed=seed, **gap)]
    data = OfflineDataModule(log, relabel, batch_size=BATCH, seed=seed)
    policy = SAC(data.spec, network=worlds.SMALL, optimizer=worlds.adam, compile="off")
    silent_trainer(3_000 if target == MOTOR else 4_000).fit(policy, data)
    return worlds.score(policy, world(target, "target"))


def rows_of(seeds: tuple[int, ...], targets: list[str]) -> list[Any]:
    """Return a row for every target and method; one seed after the other is fitted."""
    found: dict[tuple[str, str], list[Any]] = {}
    for seed in seeds:
        for target in targets:
            correction = CORRECTION if target == MOTOR else {}
            for name, (sides, corrected) in METHODS.items():
                gap = correction if corrected else None
                fit = functools.partial(carried, target, sides, gap, seed)
                one = worlds.kept("dynamics", f"{target} {name}", seed, fit)
                found.setdefault((target, name), []).append(one)
    return [
        worlds.row(f"{target}: {name}", each, seeds, target=target, method=name)
        for (target, name), each in found.items()
    ]


def document(rows: list[Any], targets: list[str]) -> None:
    """Rewrite the tables of docs/transfer.md: of pendulums, and of the motor."""
    pendulums = [target for target in targets if target != MOTOR]
    for part, shown in (("dynamics", pendulums), ("motor", [t for t in targets if t == MOTOR])):
        if shown:
            tabled(part, rows, shown)


def tabled(part: str, rows: list[Any], targets: list[str]) -> None:
    """Rewrite one table of docs/transfer.md."""
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
    replace_part(ROOT / "docs" / "transfer.md", part, f"{note}\n\n{table(header, lines)}")


def cell(line: Any) -> str:
    """Return mean and interval of a row."""
    digits = 0 if abs(line["mean"]) >= 100 else 1
    mean, low, high = (f"{line[name]:,.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def main() -> None:
    """Fit what is not kept, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--targets", nargs="*", choices=[*TARGETS, MOTOR], default=["gravity-12", MOTOR]
    )
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
