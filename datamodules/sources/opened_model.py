"""Models of the world by name: a checkpoint, or a function of a module."""

import hashlib
import inspect
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from hindsight_rl.plugins import attribute_of
from hindsight_rl.ports import Imagined, Model
from hindsight_rl.training.checkpoints.load import load_learner


@runtime_checkable
class Imagines(Protocol):
    """A learner that is a model of the world."""

    uncertainty: str

    def imagine(self, observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        """Return what follows actions, see :class:`hindsight_rl.ports.Model`."""


class Opened(NamedTuple):
    """A model, and whose it is.

    Attributes:
        imagine: The model.
        learner: The learner it is of, in evaluation; ``None`` where it is none's.
        identity: What tells it from another: the hash of its weights, or its name.
    """

    imagine: Model
    learner: nn.Module | None
    identity: str

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = getattr(self.learner, "device", torch.device("cpu"))
        return device


def opened(source: str | Path | Model | nn.Module, uncertainty: str | None = None) -> Opened:
    """Return a model.

    Args:
        source: Path of a checkpoint of ``Dynamics``, ``module:function``, or the model itself.
        uncertainty: What counts as its disagreement; ``None`` for its own choice.

    Returns:
        The model.

    Raises:
        ValueError: There is no such file, module or function, it is no model, or it says in one way
            alone how much it leaves open.
    """
    name, found = name_of(source), _found(source)
    if isinstance(found, nn.Module) and isinstance(found, Imagines):
        if uncertainty is not None:
            found.uncertainty = uncertainty
        return Opened(found.imagine, found.eval(), _hash_of(found))
    if isinstance(found, nn.Module) and getattr(found, "acts", False):
        raise ValueError(
            f"{name}: {type(found).__name__} does not say what follows actions: give a checkpoint "
            "of Dynamics (hindsight fit --config dynamics), or module:function"
        )
    if not isinstance(found, Model):
        raise ValueError(f"{name}: {type(found).__name__} is no model: nobody can ask it")
    if uncertainty is not None:
        raise ValueError(
            f"{name} knows one disagreement, and imagined.uncertainty is {uncertainty!r}: leave it "
            "out"
        )
    return Opened(found, None, name)


def opened_learner(path: str | Path) -> nn.Module:
    """Return the learner of a checkpoint, in evaluation."""
    return load_learner(path).eval()


def _found(source: str | Path | Model | nn.Module) -> object:
    if not isinstance(source, (str, Path)):
        return source
    module, colon, name = str(source).partition(":")
    if not colon and not Path(source).exists():
        raise ValueError(
            f"{source}: no such model of the world. Fit one (hindsight fit --config dynamics "
            "--data.source LOG --run runs/model) and give its checkpoint, or module:function"
        )
    if not colon or Path(source).exists():
        return load_learner(source)
    what = attribute_of(module, name, f"model {source}")
    return what() if inspect.isclass(what) else what


def name_of(source: object) -> str:
    """Return the name of a model for messages."""
    if isinstance(source, (str, Path)):
        return str(source)
    what = source if inspect.isroutine(source) or inspect.isclass(source) else type(source)
    return getattr(what, "__qualname__", type(source).__name__)


def _hash_of(learner: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in learner.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return f"sha256:{digest.hexdigest()[:16]}"
