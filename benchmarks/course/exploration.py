"""Exploration: how much of four rooms each collector sees, and what is learned from its log.

    python benchmarks/course/exploration.py [--seeds 5] [--only METHOD] [--choose]

Episodes of 75 steps in eight directions begin in one corner of four rooms, without a reward. Each
method collects 120, ten by random actions first, and fits Q-learning, an update for five steps.
Coverage is the share of the free cells, 1 x 1, that were seen. Afterwards two learners are fitted
to three of the logs: GCSL's policy step, a clone under goals reached later (configs/gcsl), and
hindsight experience replay, which for choices is DQN (configs/her). Both are asked for goals in the
room of the corner, in the two beside it and in the last. Settings were chosen on seeds 100 and 101.
Fits are kept in build/course/exploration. Writes build/course_exploration.json,
docs/exploration/*.svg and a table of docs/exploration.md.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "imagined"), str(HERE.parent)]

import worlds  # noqa: E402
from corner import (  # noqa: E402
    EPISODES,
    FAMILY,
    FREE,
    METHODS,
    NETWORK,
    ROOMS,
    SKILLS,
    Directions,
    adam,
    cells_of,
    collected,
    shortest,
    within,
)
from lightning.pytorch import seed_everything  # noqa: E402
from results import replace_part  # noqa: E402
from shared import (  # noqa: E402
    BUILD,
    CHOICE_SEEDS,
    FIVE_SEEDS,
    ROOT,
    quiet,
    say,
    silent_trainer,
    table,
)

from hindsight_rl import BC, DQN, FutureGoal, Log, OfflineDataModule, RandomTask  # noqa: E402
from hindsight_rl.envs.four_rooms import SIDE, WALLS  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import (  # noqa: E402
    ACHIEVED,
    EPISODE,
    NEXT_ACHIEVED,
    NEXT_OBSERVATION,
    OBSERVATION,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

worlds.HOME = BUILD / "course" / "exploration"
PAGE, PICTURES = ROOT / "docs" / "exploration.md", ROOT / "docs" / "exploration"
FOUND = BUILD / "course_exploration.json"
STOPS = (30, 60, EPISODES)
TESTS, TEST_SEED = 40, 2_000_000
UPDATES = {"GCSL": 4_000, "HER": 5_000}
LEARNED = ("random actions", "counts", "heads")
cached = functools.lru_cache(1)(collected)


def seen(method: str, seed: int) -> dict[str, Any]:
    """Return coverage after ``STOPS`` episodes, visits of cells, and if the last room was seen."""
    log, bound = cached(method, seed)
    cell, episode = cells_of(log), log.column(EPISODE)
    return {
        "coverage": [len(cell[episode < stop].unique()) / FREE for stop in STOPS],
        "visits": torch.bincount(cell, minlength=SIDE * SIDE).tolist(),
        "far": bool(within(log.column(NEXT_OBSERVATION).numpy(), "far").any()),
        "bound": bound,
    }


def reached(act: Any) -> list[float]:
    """Return the shares of goals in each of ``ROOMS`` that a policy reaches from the corner."""
    shares = []
    for room in ROOMS:
        env = functools.partial(Directions, room)
        found = rollout(act, env, episodes=TESTS, seed=TEST_SEED)
        if found.successes is None:
            raise RuntimeError("four rooms report no success")
        shares.append(float(found.successes.mean()))
    return shares


def learned(kind: str, method: str, seed: int) -> list[float]:
    """Return the shares of goals that a learner reaches that was fitted to the log of a method."""
    log, _ = cached(method, seed)
    columns = {key: log.column(key) for key in log.keys() if key != "task"}
    columns |= {ACHIEVED: columns[OBSERVATION], NEXT_ACHIEVED: columns[NEXT_OBSERVATION]}
    seed_everything(seed, verbose=False)
    # Four of five rows get a goal of their own future (k = 4), the fifth one of any row.
    steps = [RandomTask(FAMILY), FutureGoal(FAMILY, 0.8)]
    if kind == "GCSL":
        steps = [FutureGoal(FAMILY, offset="pairs")]
    whole = Log.from_columns(columns, log.info)
    data = OfflineDataModule(whole, steps, batch_size=128, updates_per_step=50, seed=seed)
    plain: dict[str, Any] = {"network": NETWORK, "optimizer": adam, "compile": "off", "threads": 1}
    if kind == "GCSL":
        learner: Any = BC(data.spec, **plain)
    else:
        values = {"discount": 0.98, "tau": 0.05, "target_every": 1, "huber": None}
        learner = DQN(data.spec, double=True, **values, **plain)
    silent_trainer(UPDATES[kind]).fit(learner, data)
    return reached(learner.eval().player())


def found_of(method: str, seed: int) -> dict[str, Any]:
    """Return what a method saw and what was learned from it, found at the first call and kept."""
    found = worlds.kept("seen", method, seed, lambda: seen(method, seed))
    goals = {
        kind: worlds.kept(kind, method, seed, lambda k=kind: learned(k, method, seed))
        for kind in (UPDATES if method in LEARNED else ())
    }
    return {"seen": found, **goals}


def row(name: str, values: list[float], fits: list[Any], seeds: tuple[int, ...]) -> Any:
    """Return a row of the evidence: mean, Student's interval, seeds, seconds of a fit."""
    found = [{"value": v, "seconds": f["seconds"]} for v, f in zip(values, fits, strict=True)]
    return worlds.row(name, found, seeds)


def rows_of(method: str, found: list[Any], seeds: tuple[int, ...]) -> list[Any]:
    """Return the rows of a method."""
    fits = [each["seen"] for each in found]
    rows = [
        row(f"{method}, seen after {stop}", [f["value"]["coverage"][i] for f in fits], fits, seeds)
        for i, stop in enumerate(STOPS)
    ]
    rows.append(row(f"{method}, far room", [float(f["value"]["far"]) for f in fits], fits, seeds))
    for kind in UPDATES if method in LEARNED else ():
        fits = [each[kind] for each in found]
        for i, room in enumerate(ROOMS):
            name = f"{method}, {kind}, {room}"
            rows.append(row(name, [f["value"][i] for f in fits], fits, seeds))
    return rows


def saved(figure: Any, name: str) -> None:
    """Write a picture; equal results give equal files."""
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})


def picture_of_visits(found: dict[str, list[Any]]) -> None:
    """Draw where each method of the first seed was."""
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.8), layout="constrained")
    for axis, (name, each) in zip(axes.flat, found.items(), strict=True):
        first = each[0]["seen"]["value"]
        visits = torch.tensor(first["visits"]).reshape(SIDE, SIDE).float()
        shown = torch.where(torch.from_numpy(WALLS), torch.nan, (visits + 1).log10())
        axis.imshow(shown, cmap="magma", vmin=0, vmax=2.5)
        axis.set_title(f"{name}: {first['coverage'][-1]:.0%}", fontsize=10)
        axis.set(xticks=[], yticks=[], facecolor="lightgrey")
    saved(figure, "coverage")


def picture_of_goals(by_name: dict[str, Any]) -> None:
    """Draw the shares of goals reached, by learner and room."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained", sharey=True)
    places = np.arange(len(LEARNED))
    for axis, kind in zip(axes, UPDATES, strict=True):
        for i, room in enumerate(ROOMS):
            lines = [by_name[f"{m}, {kind}, {room}"] for m in LEARNED]
            mean = np.array([line["mean"] for line in lines])
            ends = [np.clip([line[e] for line in lines], 0, 1) for e in ("low", "high")]
            axis.errorbar(
                mean, places + 0.2 * (i - 1), xerr=[mean - ends[0], ends[1] - mean], fmt="o",
                capsize=2, label=room,
            )  # fmt: skip
        axis.set(title=kind, xlabel="share of goals reached", xlim=(-0.03, 1.03))
        axis.set_yticks(places, LEARNED)
    axes[0].invert_yaxis()
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, title="room", loc="outside right center")
    saved(figure, "goals")


def cell(line: dict[str, Any]) -> str:
    """Return a share with its interval."""
    return f"{line['mean']:.0%} [{max(line['low'], 0):.0%}, {min(line['high'], 1):.0%}]"


def document(by_name: dict[str, Any], seeds: int) -> None:
    """Rewrite the tables of the page."""
    stops = (60, EPISODES)
    lines = [
        [
            m,
            *(cell(by_name[f"{m}, seen after {stop}"]) for stop in stops),
            f"{round(seeds * by_name[f'{m}, far room']['mean'])} of {seeds}",
        ]
        for m in METHODS
    ]
    header = ["collected by", *(f"seen after {stop} episodes" for stop in stops)]
    first = table([*header, "far room entered"], lines)
    header = [f"{kind}, {room}" for kind in UPDATES for room in ROOMS]
    lines = [[m, *(cell(by_name[f"{m}, {name}"]) for name in header)] for m in LEARNED]
    best = [
        "shortest path",
        *(f"{by_name[f'shortest path, {room}']['mean']:.0%}" for room in ROOMS),
    ]
    second = table(["collected by", *header], [*lines, best + best[1:]])
    text = (
        f"Share of the {FREE} free cells; {seeds} seeds, Student's 95 % intervals.\n\n{first}\n\n"
        f"DIAYN's {SKILLS} skills: the bound is {cell(by_name['DIAYN, share of log K'])} of "
        f"log {SKILLS} at the end.\n\nShare of {TESTS} goals in each room that are reached from "
        f"the corner by what was learned from these logs, and by a shortest path.\n\n{second}"
    )
    replace_part(PAGE, "exploration", text)


def evidence(found: dict[str, list[Any]], seeds: tuple[int, ...]) -> dict[str, Any]:
    """Return all rows by their names."""
    rows = [line for m in METHODS for line in rows_of(m, found[m], seeds)]
    fits = [each["seen"] for each in found["DIAYN"]]
    bounds = [fit["value"]["bound"] for fit in fits]
    rows.append(row("DIAYN, share of log K", bounds, fits, seeds))
    best = worlds.kept("shortest", "path", 0, lambda: reached(shortest))
    for share, room in zip(best["value"], ROOMS, strict=True):
        rows.append(row(f"shortest path, {room}", [share], [best], (0,)))
    return {line["name"]: line for line in rows}


def main() -> None:
    """Collect, fit, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS), help="how many, from 0 on")
    parser.add_argument("--only", choices=METHODS, help="find one method's, and write nothing")
    parser.add_argument("--choose", action="store_true", help="other seeds, and write nothing")
    given = parser.parse_args()
    quiet()
    plt.rcParams["svg.hashsalt"] = "exploration"
    seeds = CHOICE_SEEDS if given.choose else FIVE_SEEDS[: given.seeds]
    methods = (given.only,) if given.only else METHODS
    found = {m: [found_of(m, seed) for seed in seeds] for m in methods}
    if given.choose or given.only:
        for m, each in found.items():
            say(f"{m}: {[fit['seen']['value']['coverage'] for fit in each]}")
        return
    by_name = evidence(found, seeds)
    write_text(FOUND, json.dumps(list(by_name.values()), indent=1))
    picture_of_visits(found)
    picture_of_goals(by_name)
    document(by_name, len(seeds))


if __name__ == "__main__":
    main()
