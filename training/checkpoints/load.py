"""Checkpoints: which learners there are, and how one is read back without its data."""

from pathlib import Path
from typing import Any

from hindsight_rl.plugins import import_rooms
from hindsight_rl.training.checkpoints.file import (
    GIVE,
    NO_LEARNER,
    CheckpointError,
    read_checkpoint,
)
from hindsight_rl.training.learner import Learner


def learner_classes() -> dict[str, type[Learner]]:
    """Return every learner that is imported, this package's included, by dotted path."""
    import_rooms("agents")
    found: dict[str, type[Learner]] = {}
    waiting: list[type[Learner]] = [Learner]
    while waiting:
        for child in waiting.pop().__subclasses__():
            found[f"{child.__module__}.{child.__qualname__}"] = child
            waiting.append(child)
    return found


def load_learner(path: str | Path, *, seed_index: int | None = None, **changed: Any) -> Learner:
    """Return the learner of a checkpoint, on the CPU, in evaluation mode; no data is needed.

    Args:
        path: A checkpoint written by ``fit``.
        seed_index: Which of several seeds; ``None`` for all, the first one selected.
        **changed: Arguments that replace those in the checkpoint, such as ``env``.

    Returns:
        The learner.

    Raises:
        CheckpointError: Missing, cut, damaged, or not of a learner.
        ValueError: Of a learner that is not imported, or there is no such seed.
    """
    payload = read_checkpoint(Path(path))
    try:
        name = payload["hindsight"]["learner"]
    except (KeyError, TypeError) as error:
        raise CheckpointError(path, NO_LEARNER, GIVE) from error
    classes = learner_classes()
    if name not in classes:
        raise ValueError(f"{path}: learner {name} is not imported; import its module first")
    arguments = {k: v for k, v in payload["hyper_parameters"].items() if not k.startswith("_")}
    alone = {} if seed_index is None else {"seeds": 1}
    learner = classes[name](**arguments | alone | changed)
    learner.load_state_dict(payload["state_dict"])
    copies = payload["hindsight"].get("copies")
    if copies is not None:
        learner.take_copies(copies, seed_index)
    elif seed_index:
        raise ValueError(f"seed index {seed_index}: {path} holds one seed, 0")
    return learner.eval()
