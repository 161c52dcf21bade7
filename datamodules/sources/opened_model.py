"""Models of the world by name: a checkpoint, or a function of a module."""

import hashlib
import inspect
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from hindsight_rl.plugins import attribute_of
from hindsight_rl.ports import Model
from hindsight_rl.training.checkpoints.load import load_learner


@runtime_checkable
class Doubting(Protocol):
    """A model that can say in several ways how much it leaves open."""

    uncertainty: str


def opened(source: str | Path | Model, uncertainty: str | None = None) -> Model:
    """Return a model.

    Args:
        source: Path of a checkpoint of ``Dynamics``, ``module:function``, or the model itself.
        uncertainty: What counts as its disagreement; ``None`` for its own choice.

    Returns:
        The model, in evaluation.

    Raises:
        ValueError: There is no such file, module or function, it is no model, or it knows no such
            uncertainty.
    """
    model: Any = source
    if isinstance(source, (str, Path)):
        module, colon, name = str(source).partition(":")
        named = bool(colon) and not Path(source).exists()
        model = attribute_of(module, name, f"model {source}") if named else load_learner(source)
    if inspect.isclass(model):
        model = model()
    if getattr(model, "acts", False) or not isinstance(model, Model):
        raise ValueError(
            f"{name_of(source)}: {type(model).__name__} does not say what follows actions: give a "
            "checkpoint of Dynamics (hindsight fit --config dynamics), or module:function"
        )
    if isinstance(model, torch.nn.Module):
        model = model.eval()
    if uncertainty is not None:
        if not isinstance(model, Doubting):
            raise ValueError(
                f"{name_of(source)} knows one disagreement, and imagined.uncertainty is "
                f"{uncertainty!r}: leave it out"
            )
        model.uncertainty = uncertainty
    found: Model = model
    return found


def name_of(source: object) -> str:
    """Return the name of a model for messages."""
    if isinstance(source, (str, Path)):
        return str(source)
    what = source if inspect.isroutine(source) or inspect.isclass(source) else type(source)
    return getattr(what, "__qualname__", type(source).__name__)


def identity(source: object, model: Model) -> str:
    """Return what tells a model from another: the hash of its weights, or its name."""
    if not isinstance(model, torch.nn.Module):
        return name_of(source)
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"
