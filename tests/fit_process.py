"""Fits learners in a process of its own, to be killed or to be one of several ranks.

    python tests/fit_process.py JOBS.json

JOBS.json is a list of jobs, see :class:`Job`. :func:`run_jobs` writes it and starts the process.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from imagined_worlds import HALVES
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from small_fits import LEARNERS, data_for, learner_of, trainer_in
from small_replays import iterated

from hindsight_rl.datamodules.base import LogDataModule
from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.priorities import Priorities
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.expert_action import ExpertAction
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.learned_reward import LearnedReward
from hindsight_rl.training.checkpoints.arguments import constructor_arguments


@dataclass(frozen=True)
class Job:
    """One fit; ``folder/final.ckpt`` is what it ends with.

    Args:
        learner: Name of its class.
        log: Folder of a saved log; where it is empty ``data`` names the environment to collect in.
        folder: Where checkpoints go.
        updates: How many to make.
        arguments: Of the learner.
        data: Options of the datamodule.
        trainer: Options of the trainer.
        save_every: Updates between checkpoints in ``folder/checkpoints``.
        kill_after: Updates after which the process kills itself, 0 for never.
        labelled: Train on the column ``expert_action``.
        reward: Checkpoint of a RewardModel whose rewards take the log's place; empty for none.
        imagined: Arguments of ImaginedRows, with half of each batch; empty for none.
        priorities: Arguments of Priorities; ``None`` draws every row as often.
    """

    learner: str
    log: str
    folder: str
    updates: int
    arguments: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    save_every: int = 25
    kill_after: int = 0
    labelled: bool = False
    reward: str = ""
    imagined: dict[str, Any] = field(default_factory=dict)
    priorities: dict[str, Any] | None = None


class _Kill(Callback):
    """Ends the process as ``kill -9`` does, at the first chunk end at or after an update."""

    def __init__(self, update: int) -> None:
        self._update = update

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Kill this process if it is time."""
        if trainer.global_step >= self._update:
            os.kill(os.getpid(), signal.SIGKILL)


def fit_job(job: Job, ckpt_path: Path | None = None) -> Path:
    """Fit, and return the last checkpoint."""
    kind, folder = LEARNERS[job.learner], Path(job.folder)
    arguments = constructor_arguments(job.arguments, kind)  # plain values, where JSON held them
    if job.log:
        more: dict[str, Any] = {"relabel": [ExpertAction()]} if job.labelled else {}
        more |= {"relabel": [LearnedReward(job.reward)]} if job.reward else {}
        if job.imagined:
            more |= {"imagined": ImaginedRows(**job.imagined), "mix": HALVES}
        more |= {} if job.priorities is None else {"priorities": Priorities(**job.priorities)}
        data: LogDataModule = data_for(kind, Log.load(job.log), arguments, **job.data, **more)
    else:
        relabel = [ExpertAction() if job.labelled else FutureGoal()]
        if "epochs" in job.data:  # returns of whole episodes, which goals of rows would break
            relabel = []
        data = iterated(relabel=relabel, **job.data)
    learner = learner_of(kind, data.spec, **arguments)
    saved = ModelCheckpoint(
        folder / "checkpoints", "{step}", every_n_train_steps=job.save_every, save_top_k=-1
    )
    # Before the checkpoint of the same update is written: that one is then lost.
    callbacks = [_Kill(job.kill_after)] if job.kill_after else []
    options = {"callbacks": [*callbacks, saved], "enable_checkpointing": True} | job.trainer
    trainer = trainer_in(folder, job.updates, **options)
    trainer.fit(learner, data, ckpt_path=ckpt_path, weights_only=True)
    trainer.save_checkpoint(folder / "final.ckpt")
    return folder / "final.ckpt"


def run_jobs(jobs: list[Job], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run jobs in a process of their own, one after another, and return how it ended."""
    path = folder / "jobs.json"
    path.write_text(json.dumps([asdict(job) for job in jobs]))
    known = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "RANK")}
    search = os.pathsep.join([str(Path(__file__).parent), known.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, __file__, str(path)],
        env=known | {"PYTHONPATH": search, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=1200,
    )


def differences(one: Any, two: Any, place: str = "") -> list[str]:
    """Return where two nested structures differ, tensors by their bits."""
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if torch.equal(one, two) else [place]
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [d for key in one for d in differences(one[key], two[key], f"{place}.{key}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [d for number, (a, b) in pairs for d in differences(a, b, f"{place}[{number}]")]
    return [] if one == two else [place]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for description in json.loads(Path(sys.argv[1]).read_text()):
        fit_job(Job(**description))
