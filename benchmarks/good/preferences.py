"""What comparisons are worth where rewards are missing: learned rewards, direct methods, controls.

    python benchmarks/good/preferences.py [--world pendulum|cheetah] [--seeds 5] [--choose]

A log of mixed quality (Pendulum: a third of it good; HalfCheetah: see cheetah.py) whose rewards
only a synthetic teacher sees. It compares pairs of segments of 25 steps by the sum of their
rewards, without a mistake and with a tenth of its answers wrong. From its answers learn a reward
model and IQL (P-IQL), IPL and CPL. Beside them: IQL with the true reward (the ceiling) and
with the reward 0 (whoever is no better has learned nothing from the answers), and cloning. Rewards
are standardised over the log in all rows. Finished rows are kept in build/good; writes the tables
of docs/good.md and build/preferences.json.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

import cheetah
from lightning.pytorch import seed_everything
from results import replace_part
from shared import BUILD, CHOICE_SEEDS, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import (
    BC,
    CPL,
    IPL,
    IQL,
    LearnedReward,
    Log,
    Network,
    OfflineDataModule,
    PreferenceDataModule,
    RewardModel,
    ScaleReward,
    read_log,
)
from hindsight_rl.cli.main import main as hindsight
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.files import write_text
from hindsight_rl.keys import REWARD
from hindsight_rl.logs.preferences import Preferences
from hindsight_rl.logs.segments import draw_pairs, places, segment_returns
from hindsight_rl.maths.draws import counters, fork, uniform
from hindsight_rl.maths.preferences import teacher_label

FOLDER = BUILD / "good"
LENGTH, EPISODES, TEST_SEED = 25, 100, 2_000_000
ANSWERS = ((100, 0.0), (500, 0.0), (2000, 0.0), (500, 0.1))
HIDDEN = Network(hidden=(64, 64))
# Updates and pairs of a batch; what else was chosen on a seed that is not reported.
REWARD_UPDATES, IQL_UPDATES, DIRECT_UPDATES, PAIRS = 500, 3_000, 2_000, (32, 8)
DIRECT: dict[str, tuple[Any, dict[str, float]]] = {
    "IPL": (IPL, {}),
    "CPL": (CPL, {"cloning": 1.0}),
}


@dataclass(frozen=True)
class World:
    """A log and where its policies are tried.

    Attributes:
        title: What the table calls it.
        log: Of a seed.
        env: Where policies are tried, as ``rollout`` takes it.
        tests: Episodes of a test.
        beta: IQL's inverse temperature.
        seeds: Seeds that are reported.
    """

    title: str
    log: Callable[[int], Log]
    env: Any
    tests: int
    beta: float
    seeds: int


def pendulum(seed: int) -> Log:
    """Return a log of a seed, a third of whose episodes are good."""
    folder = FOLDER / f"pendulum-{seed}"
    words = ["collect", "--env", "Pendulum-v1", "--good", "0.33", "--episodes", str(EPISODES)]
    if not folder.exists() and (
        code := hindsight([*words, "--seed", str(seed), "--output", str(folder)])
    ):
        raise SystemExit(code)
    return read_log(folder)


WORLDS = {
    "pendulum": World("Pendulum", pendulum, "Pendulum-v1", 20, 10.0, 5),
    "cheetah": World(
        "HalfCheetah",
        lambda seed: cheetah.recorded(FOLDER, EPISODES, seed),
        cheetah.made,
        10,
        3.0,
        5,
    ),
}


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all fits."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def fit(learner: Any, data: Any, updates: int) -> Any:
    """Return the learner after so many updates."""
    silent_trainer(updates).fit(learner, data)
    return learner.eval()


def answered(log: Log, count: int, mistakes: float, seed: int) -> Preferences:
    """Return what a teacher answers about pairs of segments; the first pairs are always the same.

    Args:
        log: The log, with its rewards.
        count: Answers.
        mistakes: Share of them that is wrong.
        seed: Of pairs and mistakes.

    Returns:
        The answers.
    """
    rows = draw_pairs(log, LENGTH, count, seed=seed)
    score = segment_returns(log, rows, LENGTH).float()
    number = torch.arange(count)
    chance = [
        uniform(fork(counters(seed, torch.zeros(1, dtype=torch.int64), number), name))[0]
        for name in ("answer", "mistake")
    ]
    margin = score[:, 1] - score[:, 0]
    label = teacher_label(margin, torch.stack(chance, dim=1), mistakes=mistakes)
    unknown = ("",) * count
    return Preferences(log.hash(), LENGTH, *places(log, rows), label, score, unknown, unknown)


class Run:
    """The fits of one seed of log, answers, weights and draws.

    Args:
        world: Log and tests.
        seed: The seed.
    """

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed, self.log = world, seed, world.log(seed)
        reward = self.log.column(REWARD)
        unit = float(reward.std())
        self.true = ScaleReward(factor=1 / unit, shift=-float(reward.mean()) / unit)

    def score(self, learner: Any) -> float:
        """Return the mean return of test episodes."""
        world = self.world
        found = rollout(learner.player(), world.env, episodes=world.tests, seed=TEST_SEED)
        return float(found.returns.mean())

    def with_reward(self, reward: Any) -> float:
        """Return what IQL reaches with the reward that a relabeler writes."""
        data = OfflineDataModule(self.log, [reward], batch_size=256, seed=self.seed)
        learner = IQL(
            data.spec, network=HIDDEN, optimizer=adam, inverse_temperature=self.world.beta
        )
        return self.score(fit(learner, data, IQL_UPDATES))

    def cloning(self) -> float:
        """Return what cloning reaches."""
        data = OfflineDataModule(self.log, batch_size=256, seed=self.seed)
        return self.score(fit(BC(data.spec, network=HIDDEN, optimizer=adam), data, IQL_UPDATES))

    def pairs(self, answers: tuple[int, float], batch: int) -> PreferenceDataModule:
        """Return the data step of answers."""
        found = answered(self.log, *answers, self.seed)
        return PreferenceDataModule(self.log, found, batch_size=batch, seed=self.seed)

    def learned(self, answers: tuple[int, float], **settings: float) -> float:
        """Return what a reward model and IQL reach."""
        data = self.pairs(answers, PAIRS[0])
        model = RewardModel(data.spec, network=HIDDEN, optimizer=adam, **settings)  # type: ignore[arg-type]
        fit(model, data, REWARD_UPDATES)
        return self.with_reward(LearnedReward(model, least_accuracy=0.0))

    def direct(self, kind: Any, settings: dict[str, float], answers: tuple[int, float]) -> float:
        """Return what a learner of comparisons reaches."""
        data = self.pairs(answers, PAIRS[1])
        learner = kind(data.spec, network=HIDDEN, optimizer=adam, **settings)
        return self.score(fit(learner, data, DIRECT_UPDATES))

    def rows(self) -> dict[str, Callable[[], float]]:
        """Return every row by name, to be called for its score."""
        found: dict[str, Callable[[], float]] = {
            TRUE: functools.partial(self.with_reward, self.true),
            ZERO: functools.partial(self.with_reward, ScaleReward(factor=0.0)),
            CLONING: self.cloning,
            WARNED: functools.partial(self.learned, ANSWERS[-1], random_answers=0.2),
        }
        for given in ANSWERS:
            found[f"{P_IQL}, {named(given)}"] = functools.partial(self.learned, given)
            for name, (kind, settings) in DIRECT.items():
                part = functools.partial(self.direct, kind, settings, given)
                found[f"{name}, {named(given)}"] = part
        return found


WARNED = "P-IQL, 500 answers, 10% wrong, random_answers 0.2"
TRUE, ZERO, CLONING, P_IQL = "IQL, true reward", "IQL, reward 0", "cloning", "P-IQL"
LOG = "the log itself"


def named(answers: tuple[int, float]) -> str:
    """Return what the tables call a set of answers."""
    count, mistakes = answers
    return f"{count:,} answers" + (f", {mistakes:.0%} wrong" if mistakes else "")


def job(name: str, only: str, seed: int) -> dict[str, dict[str, float]]:
    """Return score and seconds of every row; those that were made before are kept."""
    quiet()
    torch.set_num_threads(1)
    path, world = FOLDER / f"preferences-{name}-{seed}.json", WORLDS[name]
    run = Run(world, seed)
    rows = run.rows()
    recorded = {"score": float(run.log.column(REWARD).sum()) / EPISODES, "seconds": 0.0}

    def kept() -> dict[str, dict[str, float]]:
        """Return what was made before, by whatever process."""
        return {LOG: recorded} | (json.loads(path.read_text()) if path.exists() else {})

    for row in (row for row in rows if only in row):
        if row in kept():
            continue
        start = time.process_time()
        seed_everything(seed, verbose=False)
        found = {"score": rows[row](), "seconds": time.process_time() - start}
        write_text(path, json.dumps(kept() | {row: found}, indent=1))
        say(f"{name}, seed {seed}, {row}: {found['score']:.0f} ({found['seconds']:.0f} s)")
    whole = kept()
    return {row: whole[row] for row in (LOG, *rows) if row in whole}


def tables(title: str, found: Sequence[dict[str, dict[str, float]]]) -> str:
    """Return the two tables of a world: without answers, and by their number."""

    def cell(name: str) -> str:
        mean, low, high = interval([one[name]["score"] for one in found])
        return f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"

    head = (f"{title}: no answers", "return [95 %]")
    plain = table(head, [(name, cell(name)) for name in (TRUE, ZERO, CLONING, LOG)])
    methods = (P_IQL, *DIRECT)
    lines = [
        (named(given), *(cell(f"{method}, {named(given)}") for method in methods))
        for given in ANSWERS
    ]
    lines.append((WARNED.partition(", ")[2], cell(WARNED), "–", "–"))
    learned = table((title, f"{P_IQL} [95 %]", *DIRECT), lines)
    return f"{plain}\n\n{learned}"


def main() -> int:
    """Print the tables, and put them into docs/good.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--world", choices=[*WORLDS], action="append", help="all of them")
    parser.add_argument("--seeds", type=int, help="of each world; default 5")
    parser.add_argument("--rows", default="", help="only rows with this in their names; no tables")
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    FOLDER.mkdir(parents=True, exist_ok=True)
    context, path = multiprocessing.get_context("spawn"), BUILD / "preferences.json"
    lines = json.loads(path.read_text()) if path.exists() else []
    for name in given.world or WORLDS:
        world = WORLDS[name]
        seeds = CHOICE_SEEDS[:1] if given.choose else range(given.seeds or world.seeds)
        with ProcessPoolExecutor(given.workers, context) as pool:
            found = list(pool.map(functools.partial(job, name, given.rows), seeds))
        if given.rows:
            continue
        text = tables(world.title, found)
        say(text)
        if given.choose:
            continue
        lines = [line for line in lines if not line["name"].startswith(world.title)]
        for row in found[0]:
            mean, low, high = interval([one[row]["score"] for one in found])
            seconds = sum(one[row]["seconds"] for one in found)
            line = {"name": f"{world.title}, {row}", "mean": mean, "low": low, "high": high}
            lines.append(line | {"seeds": len(found), "seconds": seconds})
        write_text(path, json.dumps(lines, indent=1))
        if not given.no_document:
            replace_part(ROOT / "docs" / "good.md", f"preferences_{name}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
