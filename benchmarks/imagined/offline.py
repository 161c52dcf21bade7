"""Imagined rows beside 1,000 logged steps of a pendulum: who gains, by which penalty and horizon.

    python benchmarks/imagined/offline.py [--seeds 5] [--parts methods curves] [--only SEED]

Each seed has a log of its own, random torques or half of the episodes good, and a model of it. SAC
and CQL alone, SAC with imagined rows of the model (MBPO) or of the pendulum's own equations, with a
penalty (MOPO) and ended where the model does not know (MOReL), and CQL by origin (COMBO), all for
5,000 updates; the same 20 test episodes for all. Finished fits are kept in build/imagined/; writes
build/imagined_offline.json and the tables of docs/imagined.md. Settings were chosen with --choose,
on a seed that is not reported.
"""

import argparse
from typing import Any

import gymnasium
from lightning.pytorch import seed_everything
from worlds import (
    PENDULUM,
    SMALL,
    adam,
    cached_log,
    kept,
    model_of,
    pendulum_log,
    place,
    row,
    score,
    written,
)

from hindsight_rl import CQL, SAC, ImaginedRows, OfflineDataModule, Unknown, known_model

# ``worlds`` puts the folder above on the path.
from results import replace_part  # isort: skip
from shared import CHOICE_SEEDS, FIVE_SEEDS, ROOT, quiet, say, silent_trainer, table  # isort: skip


UPDATES, BATCH = 5_000, 128
LOGS = ("random", "mixed")
ROUND: dict[str, Any] = {"every": 500, "rows": 2_000, "horizon": 5, "keep": 2}
HALVES = {"log": 0.5, "imagined": 0.5}
UNKNOWN = Unknown(quantile=1.0)
KNOWN = known_model(gymnasium.make(PENDULUM), PENDULUM)
# Learner, its options, and what is imagined beside the log.
METHODS: dict[str, tuple[Any, dict[str, Any], dict[str, Any] | None]] = {
    "SAC alone": (SAC, {}, None),
    "SAC, imagined rows (MBPO)": (SAC, {}, {}),
    "SAC, rows of the true equations": (SAC, {}, {"model": KNOWN}),
    "SAC, penalty 1 (MOPO)": (SAC, {}, {"penalty": 1.0}),
    "SAC, ended where unknown (MOReL)": (SAC, {}, {"uncertainty": "pairwise", "unknown": UNKNOWN}),
    "CQL alone": (CQL, {"conservative_weight": 0.5, "samples": 4}, None),
    "CQL by origin (COMBO)": (
        CQL,
        {"conservative_weight": 0.5, "samples": 4, "push_down": "origin"},
        {},
    ),
}
PENALTIES, HORIZONS = (0.0, 0.5, 1.0, 5.0, 25.0), (1, 3, 5, 10, 20)


def fitted(
    kind: str, seed: int, learner: Any, options: dict[str, Any], imagined: dict[str, Any] | None
) -> float:
    """Return the score of a policy."""
    log, more = cached_log(kind, seed), {}
    if imagined is not None:
        given = ROUND | imagined
        if "model" not in given:
            given["model"] = model_of(log, f"pendulum-{kind}", seed, angles=((0, 1),))[0]
        more = {"imagined": ImaginedRows(**given), "mix": HALVES}
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(log, batch_size=BATCH, seed=seed, validation=0.1, **more)
    policy = learner(data.spec, network=SMALL, optimizer=adam, **options)
    silent_trainer(UPDATES, val_check_interval=UPDATES).fit(policy, data)
    return score(policy)


def methods(seeds: tuple[int, ...], wanted: str, finished: bool) -> list[Any]:
    """Return a row for every log and method that begins with some text, or is finished."""
    rows = []
    for kind in LOGS:
        for name, method in METHODS.items():
            if not any(name.startswith(each) for each in wanted.split("|")):
                continue
            if finished and not all(place("offline", f"{kind} {name}", s).exists() for s in seeds):
                continue
            found = [
                kept("offline", f"{kind} {name}", s, lambda: fitted(kind, s, *method))  # noqa: B023
                for s in seeds
            ]
            rows.append(row(f"{kind}: {name}", found, seeds, log=kind, method=name))
    return rows


def gains(rows: list[Any], seeds: tuple[int, ...]) -> list[Any]:
    """Return rows of what methods reach beyond the first, SAC alone, on the same logs."""
    first, found = next(iter(METHODS)), []
    for line in rows:
        kind, name = line["log"], line["method"]
        if name == first or not place("offline", f"{kind} {first}", seeds[-1]).exists():
            continue
        pairs = [
            [kept("offline", f"{kind} {each}", s, float) for each in (name, first)] for s in seeds
        ]
        more = [a | {"value": a["value"] - b["value"]} for a, b in pairs]
        found.append(row(f"{kind}: {name}, gain", more, seeds, log=kind, gain=name))
    return found


def curves(seeds: tuple[int, ...]) -> list[Any]:
    """Return rows of MOPO by penalty at 5 steps, and of MBPO by horizon."""
    rows = []
    for kind in LOGS:
        points: list[tuple[str, float, dict[str, Any]]] = [
            *(("penalty", value, {"penalty": value}) for value in PENALTIES),
            *(("horizon", value, {"horizon": value}) for value in HORIZONS),
        ]
        for what, value, imagined in points:
            name = f"{kind} {what} {value:g}"
            found = [
                kept("curves", name, s, lambda: fitted(kind, s, SAC, {}, imagined))  # noqa: B023
                for s in seeds
            ]
            rows.append(row(name, found, seeds, log=kind, curve=what, value=value))
    return rows


def cell(line: Any) -> str:
    """Return mean and interval of a row."""
    return f"{line['mean']:,.0f} [{line['low']:,.0f}, {line['high']:,.0f}]"


def document(rows: list[Any], more: list[Any], points: list[Any], seeds: int) -> None:
    """Rewrite the tables of docs/imagined.md."""
    page = ROOT / "docs" / "imagined.md"
    found = {(line["log"], line["method"]): cell(line) for line in rows}
    gained = {(line["log"], line["gain"]): cell(line) for line in more}
    spent = {line["method"]: line["seconds"] for line in rows}
    lines = [
        [
            name,
            *(each.get((kind, name), "") for kind in LOGS for each in (found, gained)),
            f"{spent[name]:.0f}",
        ]
        for name in METHODS
        if name in spent
    ]
    header = ["method", *(text for kind in LOGS for text in (f"{kind} log", "gain")), "s"]
    note = (
        f"Mean return of 20 test episodes over {seeds} seeds, Student's 95 % intervals, and its "
        "gain over SAC alone on the same log."
    )
    replace_part(page, "offline", f"{note}\n\n{table(header, lines)}")
    if points:
        replace_part(page, "curves", curve_tables(points))


def curve_tables(points: list[Any]) -> str:
    """Return a table for each curve."""
    found = {(line["log"], line["curve"], line["value"]): line for line in points}
    texts = []
    for what, values in (("penalty", PENALTIES), ("horizon", HORIZONS)):
        lines = [[f"{v:g}", *(cell(found[kind, what, v]) for kind in LOGS)] for v in values]
        texts.append(table([what, *(f"{kind} log" for kind in LOGS)], lines))
    count = len(points[0]["seeds"])
    return f"Over {count} seeds.\n\n" + "\n\n".join(texts)


def main() -> None:
    """Run the parts and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--curve_seeds", type=int, default=3)
    parser.add_argument("--parts", nargs="*", default=["methods", "curves"])
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    parser.add_argument("--rows", default="", help="beginnings of names, A|B; all of them")
    parser.add_argument("--finished", action="store_true", help="rows whose fits are kept")
    parser.add_argument("--only", type=int, help="fit this seed alone, and write nothing else")
    options = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS[:1] if options.choose else FIVE_SEEDS[: options.seeds]
    seeds = seeds if options.only is None else (options.only,)
    for kind in LOGS if options.choose else ():
        log = pendulum_log(kind, seeds[0])
        returns = float(log.column(("next", "reward")).sum() / log.episodes)
        say(f"{kind}: {len(log)} rows, mean return {returns:.0f}")
    rows = methods(seeds, options.rows, options.finished) if "methods" in options.parts else []
    points = curves(seeds[: options.curve_seeds]) if "curves" in options.parts else []
    if not options.choose and options.only is None:
        more = gains(rows, seeds)
        written("offline", [*rows, *more, *points])
        if rows:
            document(rows, more, points, len(seeds))


if __name__ == "__main__":
    main()
