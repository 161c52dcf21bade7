"""Limits: what of a run a learner cannot do, and why; whoever asks for it is told so.

Most learners can do all of it, and then say nothing. One that looks at pairs of rows, say, or keeps
something outside its buffers, declares what that costs, and nothing is silently wrong:

    class Ranked(Learner):
        limits = {"ranks": "its loss compares every two rows of a batch"}
"""

from collections.abc import Mapping
from typing import Literal, get_args

from lightning import Trainer

Ability = Literal["resume", "ranks", "update", "seeds", "bf16"]
"""``resume``: a run that goes on ends with the bits of one that was never interrupted; ``ranks``:
two processes end with the weights of one; ``update``: the updates of a chunk are one graph;
``seeds``: several seeds are trained at once, each as if alone; ``bf16``: in half precision."""

ABILITIES: tuple[Ability, ...] = get_args(Ability)
Limits = Mapping[Ability, str]


def check_abilities(kind: type, limits: Limits) -> None:
    """Check that a learner's limits are some that there are.

    Args:
        kind: Class of the learner.
        limits: Of it.

    Raises:
        ValueError: Another name is among them: it would limit nothing.
    """
    for name in limits:
        if name not in ABILITIES:
            raise ValueError(
                f"limits of {kind.__name__} names '{name}', which is none of {', '.join(ABILITIES)}"
            )


def check_limits(trainer: Trainer, kind: type, limits: Limits) -> None:
    """Check that a fit asks for nothing that its learner cannot do.

    What becomes of ``update`` and ``seeds`` is decided where the updates are planned.

    Args:
        trainer: Of the fit.
        kind: Class of the learner.
        limits: Of it.

    Raises:
        ValueError: The fit goes on from a checkpoint, has several processes or is in half
            precision, and the learner does not go with it.
    """
    asked: dict[Ability, tuple[bool, str]] = {
        "resume": (trainer.ckpt_path is not None, "resumed. Start again"),
        "ranks": (trainer.world_size > 1, "fitted by several processes. Use one (devices 1)"),
        "bf16": (trainer.precision != "32-true", "fitted in half precision. Use 32-true"),
    }
    for name, (wanted, what) in asked.items():
        if wanted and name in limits:
            done, _, instead = what.partition(". ")
            raise ValueError(f"{kind.__name__} cannot be {done}: {limits[name]}. {instead}")
