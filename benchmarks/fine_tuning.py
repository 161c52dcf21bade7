"""Fit to a log, then go on in the environment: what the second part is worth.

    python benchmarks/fine_tuning.py [--learners IQL,AWAC,SAC] [--seeds 0,1,2,3,4] [--fresh]

Pendulum: 8,000 updates on rllib_pendulum medium (mean return -524), then 10,000 steps
in the environment with an update for each, the log in the replay, the weights those of the
checkpoint; ``--fresh`` starts the second part from fresh weights instead. Both policies play the
same 50 test episodes. Everything else is as in configs/NAME.yaml and configs/NAME_online.yaml.
Finished fits are kept in build/fine_tuning/, by their settings and the code. Without ``--fresh``
docs/iterated-data.md gets the lines of these learners; those of others stay as they are.
"""

import argparse
import hashlib
import json
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from results import BUILD, ROOT, STUDENT, in_one_line, replace_part, source_hash
from shared import silent_trainer

from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.files import write_text
from hindsight_rl.training.learner import Learner

ENV = "Pendulum-v1"
LOG, COLUMNS = "rllib_pendulum/pendulum_medium_sac_50eps.npz", "rllib_pendulum_sac"
OFFLINE, ONLINE, EVERY = 8_000, 10_000, 2_000
LEARNERS = ("IQL", "AWAC", "SAC")


def fit(learner: Learner, data: Any, updates: int, *callbacks: Callback) -> tuple[Trainer, float]:
    """Fit, and return the trainer and the seconds it took."""
    trainer = silent_trainer(updates, callbacks=list(callbacks))
    start = time.perf_counter()
    trainer.fit(learner, data)
    return trainer, time.perf_counter() - start


class Curve(Callback):
    """Keeps the evaluations during a fit: updates and mean return."""

    def __init__(self) -> None:
        self.points: list[list[float]] = []

    def on_train_batch_end(self, _trainer: Any, learner: Any, *_: Any) -> None:
        """Note an evaluation that was just made."""
        if learner.updates % learner.evaluation.every == 0:
            self.points.append([learner.updates, learner.latest["eval/return"]])


def tune(name: str, seed: int, log: Path, fresh: bool) -> dict[str, Any]:
    """Return test returns before and after, the curve between, and seconds of both parts."""
    kind = getattr(import_module(f"hindsight_rl.agents.{name.lower()}"), name)
    seed_everything(seed, verbose=False)
    data: Any = OfflineDataModule(str(log), columns=COLUMNS, seed=seed)
    learner = kind(data.spec, evaluation=Evaluation(env=ENV))
    trainer, offline = fit(learner, data, OFFLINE)
    trainer.test(learner, verbose=False)
    before = learner.test_report["return"]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "offline.ckpt"
        trainer.save_checkpoint(checkpoint)
        data = IteratedDataModule(
            ENV,
            source=str(log),
            columns=COLUMNS,
            collection=Collection(initial_episodes=0, episodes_per_round=1, num_envs=1),
            seed=seed,
        )
        start = None if fresh else str(checkpoint)
        evaluation = Evaluation(env=ENV, every=EVERY)
        learner = kind(data.spec, evaluation=evaluation, weights_from=start)
        curve = Curve()
        trainer, online = fit(learner, data, ONLINE, curve)
    trainer.test(learner, verbose=False)
    return {
        "before": before,
        "after": learner.test_report["return"],
        "env_steps": data.history[-1].env_steps,
        "curve": curve.points,
        "seconds": [round(offline, 1), round(online, 1)],
    }


def kept(name: str, seed: int, log: Path, fresh: bool) -> dict[str, Any]:
    """Return the result of a fit, made unless it is there."""
    settings = json.dumps([name, seed, LOG, OFFLINE, ONLINE, EVERY, fresh])
    folder = BUILD / "fine_tuning"
    key = hashlib.sha256(f"{settings}{source_hash()}".encode()).hexdigest()[:16]
    path = folder / f"{key}.json"
    if not path.exists():
        result = tune(name, seed, log, fresh)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(result))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def cells(name: str, lines: list[dict[str, Any]]) -> list[str]:
    """Return the line of a learner: means over seeds, and the gain with Student's 95 % interval."""
    before, after = (statistics.fmean(line[key] for line in lines) for key in ("before", "after"))
    gains = [line["after"] - line["before"] for line in lines]
    half = STUDENT[len(gains)] * statistics.stdev(gains) / len(gains) ** 0.5
    gain = after - before
    interval = f"{gain:+.0f} [{gain - half:+.0f}, {gain + half:+.0f}]"
    parts = zip(*(line["seconds"] for line in lines), strict=True)
    seconds = [f"{statistics.median(part):.0f}" for part in parts]
    return [name, str(len(lines)), f"{before:.0f}", f"{after:.0f}", interval, *seconds]


def standing(page: str) -> dict[str, str]:
    """Return the lines of the table that stands in a page, by learner."""
    part = page.partition("<!-- fine_tuning -->")[2].partition("<!-- end of fine_tuning -->")[0]
    return {line.split(" | ")[0][2:]: line for line in part.strip().split("\n")[2:]}


HEAD = ["learner", "seeds", "after the log", "after the environment", "gain [95 %]", "s", "s more"]


def main() -> int:
    """Print one line of JSON per fit, and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default), help="folder of real logs")
    parser.add_argument("--learners", default=",".join(LEARNERS))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--fresh", action="store_true", help="the second part from fresh weights")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    if len(seeds) < 2:
        parser.error("an interval needs two seeds or more")
    log = given.data / LOG
    if not log.exists():
        sys.stderr.write(f"error: no {log}: set HINDSIGHT_DATA to the folder of real logs\n")
        return 2
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    about = {"log": LOG, "env": ENV, "offline_updates": OFFLINE, "env_steps": ONLINE}
    sys.stdout.write(json.dumps(about | {"weights": "fresh" if given.fresh else "kept"}) + "\n")
    page = ROOT / "docs" / "iterated-data.md"
    found = {} if given.fresh else standing(page.read_text(encoding="utf-8"))
    for name in given.learners.split(","):
        lines: list[dict[str, Any]] = []
        for seed in seeds:
            lines.append(kept(name, seed, log, given.fresh))
            sys.stdout.write(json.dumps({"learner": name, "seed": seed, **lines[-1]}) + "\n")
            sys.stdout.flush()
        found[name] = in_one_line(cells(name, lines))
    text = "\n".join([in_one_line(HEAD), in_one_line(["---"] * len(HEAD)), *found.values()])
    sys.stdout.write(text + "\n")
    if not given.fresh:
        replace_part(page, "fine_tuning", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
