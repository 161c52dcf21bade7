"""What comparisons are worth where rewards are missing: a learned reward, CPL, and controls.

    python benchmarks/good/preferences.py [--seeds 5] [--choose] [--no_document]

A log of Pendulum, a third of it good, whose rewards only a synthetic teacher sees. It compares
pairs of segments of 50 steps, without a mistake and with a tenth of its answers wrong. A reward
model and IQL, and CPL, which needs no reward, learn from 100, 500 and 2,000 answers. Beside them:
IQL with the true reward (the ceiling) and with the reward 0 (whoever is no better has learned
nothing from the answers), and cloning. Rewards are standardised over the log in all rows. Finished
seeds are kept in build/good; writes the table of docs/good.md and build/preferences.json.
"""

import argparse
import functools
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the folder above

from lightning.pytorch import seed_everything
from results import replace_part
from shared import BUILD, CHOICE_SEEDS, ROOT, interval, quiet, say, silent_trainer, table

from hindsight_rl import (
    BC,
    CPL,
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

ENV, EPISODES, LENGTH, TESTS, TEST_SEED = "Pendulum-v1", 100, 50, 20, 2_000_000
ANSWERS = ((100, 0.0), (500, 0.0), (2000, 0.0), (500, 0.1))
SETTINGS = {"reward": 1_000, "policy": 4_000}  # updates
HIDDEN = Network(hidden=(128, 128))


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all fits."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def fit(learner: Any, data: Any, updates: int) -> Any:
    """Return the learner after so many updates."""
    silent_trainer(updates).fit(learner, data)
    return learner.eval()


def recorded(folder: Path, seed: int) -> Log:
    """Return a log of a seed, a third of whose episodes are good."""
    words = ["collect", "--env", ENV, "--good", "0.33", "--episodes", str(EPISODES)]
    if not folder.exists():
        _command(*words, "--seed", str(seed), "--output", str(folder))
    return read_log(folder)


def answered(folder: Path, count: int, mistakes: float, seed: int) -> Path:
    """Return a file of what a teacher answers about pairs of segments."""
    path = folder.with_name(f"{folder.name}-{count}-{mistakes:g}.npz")
    words = [
        "compare",
        "--data.source",
        str(folder),
        "--teacher",
        "return",
        "--length",
        str(LENGTH),
    ]
    words += ["--pairs", str(count), "--mistakes", str(mistakes), "--seed", str(seed)]
    if not path.exists():
        _command(*words, "--output", str(path))
    return path


def _command(*words: str) -> None:
    if code := hindsight(list(words)):
        raise SystemExit(code)


def score(learner: Any) -> float:
    """Return the mean return of test episodes."""
    return float(rollout(learner.player(), ENV, episodes=TESTS, seed=TEST_SEED).returns.mean())


def with_reward(log: Log, reward: Any, seed: int) -> float:
    """Return what IQL reaches with the reward that a relabeler writes."""
    data = OfflineDataModule(log, [reward], batch_size=256, seed=seed)
    return score(fit(IQL(data.spec, network=HIDDEN, optimizer=adam), data, SETTINGS["policy"]))


def run(seed: int) -> dict[str, float]:
    """Return the score of every row for one seed of log, answers, weights and draws."""
    quiet()
    folder = BUILD / "good" / f"pendulum-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    log = recorded(folder, seed)
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(log, batch_size=256, seed=seed)
    found = {"cloning": score(fit(BC(data.spec, network=HIDDEN, optimizer=adam), data, 4_000))}
    reward = log.column(REWARD)
    unit = float(reward.std())
    standard = ScaleReward(factor=1 / unit, shift=-float(reward.mean()) / unit)
    found["IQL, true reward"] = with_reward(log, standard, seed)
    found["IQL, reward 0"] = with_reward(log, ScaleReward(factor=0.0), seed)
    for count, mistakes in ANSWERS:
        path, name = answered(folder, count, mistakes, seed), f"{count:,} answers"
        name += f", {mistakes:.0%} wrong" if mistakes else ""
        pairs = PreferenceDataModule(log, path, batch_size=64, seed=seed)
        model = RewardModel(pairs.spec, network=HIDDEN, optimizer=adam)
        fit(model, pairs, SETTINGS["reward"])
        found[f"IQL, reward of {name}"] = with_reward(log, LearnedReward(model), seed)
        policy = CPL(pairs.spec, network=HIDDEN, optimizer=adam)
        found[f"CPL, {name}"] = score(fit(policy, pairs, SETTINGS["policy"]))
    return found


def job(choose: bool, seed: int) -> dict[str, float]:
    """Return a run, kept from before where it was made."""
    path = BUILD / "good" / f"preferences-{'choice-' if choose else ''}{seed}.json"
    if not path.exists():
        write_text(path, json.dumps(run(seed)))
        say(f"seed {seed}: done")
    return dict(json.loads(path.read_text()))


def main() -> int:
    """Print the table, and put it into docs/good.md."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--choose", action="store_true", help="a seed that is not reported")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no_document", action="store_true")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    start, seeds = time.perf_counter(), CHOICE_SEEDS[:1] if given.choose else range(given.seeds)
    (BUILD / "good").mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(given.workers, context) as pool:
        found = list(pool.map(functools.partial(job, given.choose), seeds))
    rows, lines = [], []
    for name in found[0]:
        mean, low, high = interval([one[name] for one in found])
        rows.append((name, f"{mean:,.0f} [{low:,.0f}, {high:,.0f}]"))
        seconds = time.perf_counter() - start
        lines.append({"name": name, "mean": mean, "low": low, "high": high, "seeds": len(found)})
        lines[-1]["seconds"] = seconds
    text = table(("Pendulum", "return [95 %]"), rows)
    say(text)
    if not given.choose:
        write_text(BUILD / "preferences.json", json.dumps(lines, indent=1))
        if not given.no_document:
            replace_part(ROOT / "docs" / "good.md", "preferences", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
