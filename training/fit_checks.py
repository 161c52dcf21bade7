"""What is checked of a trainer and a learner before the first update of a fit."""

import warnings

from lightning import Trainer
from lightning.pytorch.callbacks import Timer

from hindsight_rl.attached import callbacks_of
from hindsight_rl.diagnostics.evaluation import episodes
from hindsight_rl.ports import LearnerView

# What a trainer may be given: all keep float32 for weights and for what follows the last layer.
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def check_fit(trainer: Trainer, learner: LearnerView) -> None:
    """Check that a fit ends, keeps float32, and can be evaluated where that is asked for.

    Args:
        trainer: Of the fit.
        learner: What is fitted; a step is played in its environment.

    Raises:
        ValueError: Nothing ends the run, the policy does not fit the environment, or the
            trainer's precision is not one of ``PRECISIONS``.
    """
    asked = learner.evaluation
    if trainer.precision not in PRECISIONS:
        raise ValueError(
            f"precision is {trainer.precision}: use one of {', '.join(PRECISIONS)}. "
            "Weights, targets and losses stay in float32: in half of it small steps are lost"
        )
    timed = any(isinstance(callback, Timer) for callback in callbacks_of(trainer))
    if trainer.max_steps < 0 and not timed:
        raise ValueError("batches never run out: set max_steps (updates) or max_time")
    if asked.env:
        episodes(learner, 1, asked.seed, max_steps=1)
    elif asked.every:
        warnings.warn(
            f"evaluation.every is {asked.every}, and there is no environment to "
            "evaluate in: nothing is evaluated. Give --env ID (or Evaluation(env=...))",
            stacklevel=2,
        )
