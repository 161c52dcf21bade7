"""Exploration: how much of four rooms each collector sees, and what its log is worth afterwards.

    python benchmarks/course/exploration.py [--seeds 5] [--only METHOD] [--choose]

Episodes of 75 steps in eight directions begin in one corner of four rooms, without a reward. Each
method collects 60, ten by random actions first, and fits Q-learning, an update for five steps.
Coverage is the share of the free cells, 1 x 1, that were seen. Afterwards cloning under goals
reached later (GCSL's policy step) is fitted to each log, and asked for goals all over the map from
the corner: those it was never near it cannot know. Settings were set before, and tried on seed 100.
Fits are kept in build/course/exploration. Writes build/course_exploration.json,
docs/exploration/coverage.svg and a table of docs/exploration.md.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import matplotlib
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from lightning.pytorch import seed_everything  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, FIVE_SEEDS, ROOT, interval, quiet, say, silent_trainer, table  # noqa: E402

from hindsight_rl import (  # noqa: E402
    BC,
    DIAYN,
    DQN,
    RND,
    BootstrappedDQN,
    Collection,
    CountBonus,
    DisagreementBonus,
    FutureGoal,
    GoalReaching,
    IteratedDataModule,
    Log,
    Network,
    OfflineDataModule,
    OneOf,
    RareGoal,
    Skew,
    SkewedGoal,
    StateMarginalMatching,
)
from hindsight_rl.envs.four_rooms import SIDE, WALLS, FourRooms  # noqa: E402
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

HOME, PAGE = BUILD / "course" / "exploration", ROOT / "docs" / "exploration.md"
PICTURE = ROOT / "docs" / "exploration" / "coverage.svg"
EPISODES, STEPS, FIRST, ROUND, SHARE = 60, 75, 10, 5, 0.2
TESTS, TEST_SEED, CLONING = 50, 2_000_000, 800
FREE = int((~WALLS).sum())
NETWORK = Network(hidden=(64, 64), frequencies=3)
FAMILY, SKEW = GoalReaching(1.0), Skew(alpha=-1.0)
ALONE: dict[str, Any] = {"coefficient": 1.0, "keep": 0.0}  # the environment's reward is no help
SKILLS = HEADS = 8
METHODS = (
    "random actions",
    "counts",
    "RND",
    "disagreement",
    "marginal matching",
    "heads",
    "Skew-Fit",
    "DIAYN",
)
MOVES = np.array([(math.cos(a), math.sin(a)) for a in np.arange(8) * math.pi / 4], dtype=np.float32)


class Corner(FourRooms):
    """Four rooms whose episodes begin in one corner and never end by themselves."""

    def __init__(self) -> None:
        super().__init__(noise=0.5, ends=False)

    def draw(self, generator: Any, start: Any, task: Any) -> tuple[Any, Any]:
        """Return the corner, and a goal that is far unless it is given."""
        return super().draw(generator, np.array([1.5, 1.5], np.float32), task)

    def step(self, action: Any) -> Any:
        """Take a step, which earns nothing."""
        observation, _, terminated, truncated, info = super().step(action)
        return observation, 0.0, terminated, truncated, info


class Directions(gymnasium.ActionWrapper[Any, Any, Any]):
    """Four rooms by steps in eight directions."""

    def __init__(self) -> None:
        super().__init__(gymnasium.wrappers.TimeLimit(Corner(), STEPS))
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))

    def action(self, action: Any) -> Any:
        """Return the velocity."""
        return MOVES[int(action)]


class Places(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The same without goals: the place alone."""

    def __init__(self) -> None:
        super().__init__(Directions())
        self.observation_space = self.env.observation_space["observation"]

    def observation(self, observation: Any) -> Any:
        """Return the place."""
        return observation["observation"]


def steps_of(method: str) -> list[Any]:
    """Return the data step of a method."""
    return {
        "counts": [CountBonus(by="cell", width=1.0, **ALONE)],
        "RND": [RND(hidden=(64, 64), learning_rate=1e-3, **ALONE)],
        "disagreement": [DisagreementBonus(hidden=(32, 32), members=4, **ALONE)],
        "marginal matching": [StateMarginalMatching(bandwidth=1.0, centres=512, **ALONE)],
        "heads": [],
        "Skew-Fit": [SkewedGoal(FAMILY, 0.7, SKEW), FutureGoal(FAMILY, 0.4)],
        "DIAYN": [DIAYN(hidden=(64, 64), learning_rate=1e-3)],
    }[method]


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all policies."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def learner_of(method: str, spec: Any) -> Any:
    """Return the policy step of a method: all are Q-learning, drawn from a soft-max."""
    plain: dict[str, Any] = {"network": NETWORK, "optimizer": adam, "compile": "off", "threads": 1}
    plain |= {"discount": 0.95, "target_every": 50, "matmul_precision": "highest"}
    if method == "heads":
        return BootstrappedDQN(spec, heads=HEADS, prior=3.0, **plain)
    return DQN(spec, double=True, temperature=0.1, **plain)


def collected(method: str, seed: int) -> tuple[Log, float]:
    """Return the log of a method, and of DIAYN the share of its bound; else 0."""
    seed_everything(seed, verbose=False)
    env = Directions if method == "Skew-Fit" else Places
    command = {
        "heads": OneOf(HEADS),
        "DIAYN": OneOf(SKILLS),
        "Skew-Fit": RareGoal(SKEW),
    }.get(method)
    first = EPISODES if method == "random actions" else FIRST
    plan = Collection(first, ROUND, SHARE, sample=method != "heads", command=command)
    relabel = [] if method == "random actions" else steps_of(method)
    data = IteratedDataModule(
        env, relabel, collection=plan, batch_size=128, updates_per_step=32, seed=seed
    )
    if method == "random actions":
        return data.log, 0.0
    # The last round is collected when its updates would begin.
    updates = round((EPISODES - ROUND) * STEPS * SHARE) + 1
    learner = learner_of(method, data.spec)
    silent_trainer(updates).fit(learner, data)
    bound = data.relabel.metrics.get("skill_bound", torch.zeros(()))
    return data.log, float(bound)


def cells_of(log: Log) -> torch.Tensor:
    """Return the number of each row's cell, ``[N]``."""
    place = log.column(NEXT_OBSERVATION).floor().long().clamp(0, SIDE - 1)
    return place[:, 0] * SIDE + place[:, 1]


def coverage(log: Log) -> list[float]:
    """Return the share of the free cells that were seen after each ten episodes."""
    cell, episode = cells_of(log), log.column(EPISODE)
    stops = range(10, EPISODES + 1, 10)
    return [len(cell[episode < stop].unique()) / FREE for stop in stops]


def learned(log: Log, seed: int) -> float:
    """Return the share of goals, far from the corner, that cloning from a log reaches."""
    columns = {key: log.column(key) for key in log.keys() if key != "task"}
    columns |= {ACHIEVED: columns[OBSERVATION], NEXT_ACHIEVED: columns[NEXT_OBSERVATION]}
    seed_everything(seed, verbose=False)
    whole = Log.from_columns(columns, log.info)
    data = OfflineDataModule(whole, [FutureGoal(FAMILY)], batch_size=128, seed=seed)
    learner = BC(data.spec, network=NETWORK, optimizer=adam, compile="off", threads=1)
    silent_trainer(CLONING).fit(learner, data)
    found = rollout(learner.eval().player(), Directions, episodes=TESTS, seed=TEST_SEED)
    if found.successes is None:
        raise RuntimeError("four rooms report no success")
    return float(found.successes.mean())


def found_by(method: str, seed: int) -> dict[str, Any]:
    """Return what a method saw, found at the first call and kept in build/course/exploration."""
    path = HOME / f"{method.replace(' ', '-')}-{seed}.json"
    if not path.exists():
        begun = time.process_time()
        log, bound = collected(method, seed)
        seconds = time.process_time() - begun
        count = torch.bincount(cells_of(log), minlength=SIDE * SIDE).tolist()
        kept = {"coverage": coverage(log), "goals": learned(log, seed), "bound": bound}
        write_text(path, json.dumps(kept | {"seconds": seconds, "visits": count}))
        say(f"{method}, seed {seed}: {kept} ({seconds:.0f} s)")
    kept_before: dict[str, Any] = json.loads(path.read_text())
    return kept_before


def row(name: str, found: list[Any], seeds: tuple[int, ...], value: Callable[[Any], float]) -> Any:
    """Return a row of the evidence: mean, Student's interval, seeds, seconds of a fit."""
    mean, low, high = interval([value(each) for each in found])
    seconds = sum(each["seconds"] for each in found) / len(found)
    spread = {"mean": mean, "low": low, "high": high}
    return {"name": name, **spread, "seeds": list(seeds), "seconds": seconds}


def picture(found: dict[str, list[Any]]) -> None:
    """Draw where each method of the first seed was."""
    plt.rcParams["svg.hashsalt"] = "exploration"  # equal results give equal files
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.8), layout="constrained")
    for axis, (name, each) in zip(axes.flat, found.items(), strict=True):
        visits = torch.tensor(each[0]["visits"]).reshape(SIDE, SIDE).float()
        shown = torch.where(torch.from_numpy(WALLS), torch.nan, (visits + 1).log10())
        axis.imshow(shown, cmap="magma", vmin=0, vmax=2.5)
        axis.set_title(f"{name}: {each[0]['coverage'][-1]:.0%}", fontsize=10)
        axis.set(xticks=[], yticks=[], facecolor="lightgrey")
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def cell(line: dict[str, Any]) -> str:
    """Return a share with its interval."""
    return f"{line['mean']:.0%} [{max(line['low'], 0):.0%}, {line['high']:.0%}]"


def entered(found: dict[str, Any]) -> bool:
    """Return whether the room opposite the corner was entered."""
    visits = torch.tensor(found["visits"]).reshape(SIDE, SIDE)
    return bool(visits[21:, 18:].any())


def document(rows: list[Any], bound: Any, far: dict[str, int], seeds: int) -> None:
    """Rewrite the table of the page."""
    by_name = {line["name"]: line for line in rows}
    lines = [
        [
            m,
            *(cell(by_name[f"{m}, {what}"]) for what in ("coverage at 30", "coverage")),
            f"{far[m]} of {seeds}",
            cell(by_name[f"{m}, goals"]),
        ]
        for m in METHODS
    ]
    seen = ["seen after 30 episodes", "after 60", "far room entered"]
    header = ["collected by", *seen, "goals reached by cloning"]
    text = (
        f"Share of the {FREE} free cells, and of {TESTS} goals far from the corner; {seeds} seeds, "
        f"Student's 95 % intervals.\n\n{table(header, lines)}\n\n"
        f"DIAYN's {SKILLS} skills: the bound is {cell(bound)} of log {SKILLS} at the end."
    )
    replace_part(PAGE, "exploration", text)


def main() -> None:
    """Collect, fit, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS), help="how many, from 0 on")
    parser.add_argument("--only", choices=METHODS, help="find one method's, and write nothing")
    parser.add_argument("--choose", action="store_true", help="seed 100, and write nothing")
    given = parser.parse_args()
    quiet()
    seeds = (100,) if given.choose else FIVE_SEEDS[: given.seeds]
    methods = (given.only,) if given.only else METHODS
    found: dict[str, list[Any]] = {m: [] for m in methods}
    for seed in seeds:
        for m in methods:
            found[m].append(found_by(m, seed))
    if given.choose or given.only:
        return
    rows = []
    for m in METHODS:
        rows.append(row(f"{m}, coverage at 30", found[m], seeds, lambda each: each["coverage"][2]))
        rows.append(row(f"{m}, coverage", found[m], seeds, lambda each: each["coverage"][-1]))
        rows.append(row(f"{m}, goals", found[m], seeds, lambda each: each["goals"]))
    bound = row("DIAYN, share of log K", found["DIAYN"], seeds, lambda each: each["bound"])
    write_text(BUILD / "course_exploration.json", json.dumps([*rows, bound], indent=1))
    picture(found)
    far = {m: sum(entered(each) for each in found[m]) for m in METHODS}
    document(rows, bound, far, len(seeds))


if __name__ == "__main__":
    main()
