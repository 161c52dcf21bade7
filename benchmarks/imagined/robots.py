"""Imagined rows beside logs of HalfCheetah and Hopper: who gains, what the model knows.

    python benchmarks/imagined/robots.py [--seeds 5] [--only SEED] [--rows A|B] [--choose]

The logs are the replays that ``make logs`` writes: all that a training of SAC played, from random
to good. Each seed has a model of its own, fitted to the log, and 10,000 updates of every method:
cloning, SAC and CQL alone, SAC with imagined rows (MBPO), with a penalty (MOPO), and CQL by origin
(COMBO). Returns are those of ten test episodes. Finished fits are kept in build/imagined/; writes
build/imagined_robots.json and two tables of docs/imagined.md.
"""

import argparse
import functools
from typing import Any

import torch
from lightning.pytorch import seed_everything
from worlds import kept, model_of, place, row, score, written

from hindsight_rl import BC, CQL, SAC, ImaginedRows, Log, Network, OfflineDataModule, read_log
from hindsight_rl.diagnostics.horizons import horizon_errors

# ``worlds`` puts the folder above on the path.
from results import replace_part  # isort: skip
from shared import BUILD, CHOICE_SEEDS, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # isort: skip

LOGS = BUILD / "logs"
# Environment, and whether its episodes end by themselves.
ROBOTS = {"halfcheetah": ("HalfCheetah-v5", False), "hopper": ("Hopper-v5", True)}
UPDATES, BATCH, MODEL_UPDATES, EPISODES = 10_000, 256, 5_000, 10
POLICY, MODEL = Network(hidden=(128, 128)), Network(hidden=(128, 128, 128))
ROUND: dict[str, Any] = {"every": 1_000, "rows": 5_000, "horizon": 5, "keep": 3}
HALVES = {"log": 0.5, "imagined": 0.5}
CAREFUL: dict[str, Any] = {"conservative_weight": 5.0, "samples": 4}
METHODS: dict[str, tuple[Any, dict[str, Any], dict[str, Any] | None]] = {
    "cloning": (BC, {}, None),
    "SAC alone": (SAC, {}, None),
    "SAC, imagined rows (MBPO)": (SAC, {}, {}),
    "SAC, penalty 1 (MOPO)": (SAC, {}, {"penalty": 1.0}),
    "CQL alone": (CQL, CAREFUL, None),
    "CQL by origin (COMBO)": (CQL, CAREFUL | {"push_down": "origin"}, {}),
}
STEPS = (1, 5, 10)


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all policies."""
    return torch.optim.Adam(parameters, lr=3e-4, fused=True)


@functools.cache
def replay(robot: str) -> Log:
    """Return what a training of SAC played."""
    path = LOGS / robot / "replay-v0"
    if not path.exists():
        raise SystemExit(f"error: {path} is not there: make logs writes it")
    return read_log(path)


def world(robot: str, seed: int) -> tuple[str, Any]:
    """Return the checkpoint of a model of a robot's log, and the model."""
    ends = "learned" if ROBOTS[robot][1] else "none"
    options = {"network": MODEL, "termination": ends}
    return model_of(replay(robot), robot, seed, MODEL_UPDATES, **options)


def fitted(
    robot: str, seed: int, learner: Any, options: dict[str, Any], imagined: dict[str, Any] | None
) -> float:
    """Return the score of a policy."""
    more: dict[str, Any] = {}
    if imagined is not None:
        source = ImaginedRows(world(robot, seed)[0], **ROUND | imagined)
        more = {"imagined": source, "mix": HALVES}
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(
        replay(robot), batch_size=BATCH, seed=seed, validation=0.1, updates_per_step=50, **more
    )
    policy = learner(data.spec, network=POLICY, optimizer=adam, **options)
    silent_trainer(UPDATES, val_check_interval=UPDATES).fit(policy, data)
    return score(policy, ROBOTS[robot][0], EPISODES)


def known(robot: str, seed: int) -> dict[str, float]:
    """Return the errors of a model on held-out episodes, by number of steps."""
    data = OfflineDataModule(replay(robot), seed=seed, validation=0.1)
    data.setup("fit")
    rows = torch.cat([batch[0]["index"] for batch in data.val_dataloader()])
    found = horizon_errors(world(robot, seed)[1], data.log, rows, horizon=max(STEPS))
    numbers = {}
    for step in STEPS:
        line = found[step - 1]
        numbers[f"error {step}"] = line.error
        numbers[f"coverage {step}"] = line.coverage
        numbers[f"correlation {step}"] = line.correlation["ensemble_std"]
    return numbers


def methods(seeds: tuple[int, ...], wanted: str, finished: bool) -> list[Any]:
    """Return a row for every robot and method that begins with some text, or is finished."""
    rows = []
    for name, method in METHODS.items():
        if not any(name.startswith(each) for each in wanted.split("|")):
            continue
        for robot in ROBOTS:
            title = f"{robot} {name}"
            if finished and not all(place("robots", title, s).exists() for s in seeds):
                continue
            found = [
                kept("robots", title, s, lambda: fitted(robot, s, *method))  # noqa: B023
                for s in seeds
            ]
            rows.append(row(f"{robot}: {name}", found, seeds, robot=robot, method=name))
    return rows


def calibrations(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every robot and number of the calibration of its models."""
    rows = []
    for robot in ROBOTS:
        found = [kept("robots", f"{robot} model", s, lambda: known(robot, s)) for s in seeds]  # noqa: B023
        for what in found[0]["value"]:
            each = [line | {"value": line["value"][what]} for line in found]
            rows.append(row(f"{robot} model: {what}", each, seeds, robot=robot, what=what))
    return rows


def cell(line: Any, form: str = ",.0f") -> str:
    """Return mean and interval of a row."""
    return f"{line['mean']:{form}} [{line['low']:{form}}, {line['high']:{form}}]"


def document(rows: list[Any], models: list[Any], seeds: int) -> None:
    """Rewrite the tables of docs/imagined.md."""
    page = ROOT / "docs" / "imagined.md"
    found = {(line["robot"], line["method"]): line for line in rows}
    lines = [
        [name, *(cell(found[robot, name]) if (robot, name) in found else "" for robot in ROBOTS)]
        for name in METHODS
        if any((robot, name) in found for robot in ROBOTS)
    ]
    logged = [float(replay(robot).column(("next", "reward")).sum()) for robot in ROBOTS]
    means = [value / replay(robot).episodes for value, robot in zip(logged, ROBOTS, strict=True)]
    lines.insert(0, ["the log's episodes", *(f"{value:,.0f}" for value in means)])
    note = f"Mean return of {EPISODES} test episodes over {seeds} seeds, Student's 95 % intervals."
    text = f"{note}\n\n{table(['method', *(name for name, _ in ROBOTS.values())], lines)}"
    told = {(line["robot"], line["what"]): line for line in models}
    kinds = {"error": "error / variance", "coverage": "90 % range", "correlation": "correlation"}
    measured = [
        [ROBOTS[robot][0], step, *(cell(told[robot, f"{kind} {step}"], ".2f") for kind in kinds)]
        for robot in ROBOTS
        for step in STEPS
    ]
    text += f"\n\n{table(['model of', 'steps', *kinds.values()], measured)}"
    replace_part(page, "robots", text)


def main() -> None:
    """Run the fits and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    parser.add_argument("--rows", default="", help="beginnings of names, A|B; all of them")
    parser.add_argument("--finished", action="store_true", help="rows whose fits are kept")
    parser.add_argument("--only", type=int, help="fit this seed alone, and write nothing else")
    options = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS[:1] if options.choose else FIVE_SEEDS[: options.seeds]
    seeds = seeds if options.only is None else (options.only,)
    rows = methods(seeds, options.rows, options.finished)
    models = calibrations(seeds)
    if not options.choose and options.only is None:
        written("robots", [*rows, *models])
        document(rows, models, len(seeds))


if __name__ == "__main__":
    main()
