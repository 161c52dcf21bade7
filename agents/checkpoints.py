"""Checkpoints: which learners there are, and how one is read back without its data."""

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import torch

import hindsight_rl.agents
from hindsight_rl.agents.learner import Learner


def learner_classes() -> dict[str, type[Learner]]:
    """Return every learner that is imported, this package's included, by dotted path."""
    for module in pkgutil.iter_modules(hindsight_rl.agents.__path__):
        importlib.import_module(f"hindsight_rl.agents.{module.name}")
    found: dict[str, type[Learner]] = {}
    waiting: list[type[Learner]] = [Learner]
    while waiting:
        for child in waiting.pop().__subclasses__():
            found[f"{child.__module__}.{child.__qualname__}"] = child
            waiting.append(child)
    return found


def load_learner(path: str | Path, **changed: Any) -> Learner:
    """Return the learner of a checkpoint, on the CPU, in evaluation mode; no data is needed.

    Args:
        path: A checkpoint written by ``fit``.
        **changed: Arguments that replace those in the checkpoint, such as ``env``.

    Returns:
        The learner.

    Raises:
        ValueError: Not a readable checkpoint of a learner, or of one that is not imported.
    """
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
        name = payload["hindsight"]["learner"]
    except FileNotFoundError as error:
        raise ValueError(f"{path}: no such checkpoint; give a file written by 'fit'") from error
    except Exception as error:
        raise ValueError(
            f"{path}: not a readable Hindsight checkpoint ({type(error).__name__}); "
            "it may be cut: take the one before"
        ) from error
    classes = learner_classes()
    if name not in classes:
        raise ValueError(f"{path}: learner {name} is not imported; import its module first")
    arguments = {k: v for k, v in payload["hyper_parameters"].items() if not k.startswith("_")}
    learner = classes[name](**arguments | changed)
    learner.load_state_dict(payload["state_dict"])
    return learner.eval()
