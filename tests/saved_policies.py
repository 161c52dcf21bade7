"""Unfitted policies for an environment, and runs that hold them.

Imported as ``saved_policies`` (``tests`` is on pytest's path).
"""

from pathlib import Path
from typing import Any

from lightning import Trainer
from small_fits import learner_of
from small_replays import iterated

from hindsight_rl.training.learner import Learner


def policy_of(kind: Any, env: str, **arguments: Any) -> Learner:
    """Return an unfitted policy for an environment."""
    data = iterated(env, initial_episodes=2)
    learner = learner_of(kind, data.spec, **arguments)
    if getattr(learner.actor, "log_std", None) is not None:
        learner.actor.log_std.data.fill_(0.0)
    return learner


def saved(learner: Learner, folder: Path) -> Path:
    """Return the folder of a run that holds a policy."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(learner)
    trainer.save_checkpoint(folder / "run" / "checkpoints" / "last.ckpt")
    return folder / "run"
