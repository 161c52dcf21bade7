"""Checkpoints: which learners there are, and how one is read back without its data."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hindsight_rl.plugins import import_installed, import_rooms
from hindsight_rl.restoring import restoring
from hindsight_rl.spec import SpecError
from hindsight_rl.training.checkpoints.arguments import constructor_arguments
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
    import_installed()
    found: dict[str, type[Learner]] = {}
    waiting = [Learner.__subclasses__()]
    while waiting:
        for child in waiting.pop():
            found[f"{child.__module__}.{child.__qualname__}"] = child
            waiting.append(child.__subclasses__())
    return found


def learner_named(name: object) -> type[Learner] | None:
    """Return the learner that a configuration names, ``None`` where it is not one of the imported.

    Args:
        name: Dotted path, or the name of the class.

    Returns:
        The class.
    """
    short = str(name).rpartition(".")[2]
    found = {k for path, k in learner_classes().items() if path.rpartition(".")[2] == short}
    return found.pop() if len(found) == 1 else None


class _Sizes(TorchFunctionMode):
    """Raises on tensors that are larger than all weights of a checkpoint, before they are made.

    Arguments of a damaged checkpoint may ask for networks that fill the memory.

    Args:
        weights: Tensors by name.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = [value.numel() for value in weights.values() if isinstance(value, Tensor)]
        self._most = max(_SMALL, sum(sizes))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of PyTorch, unless it makes a tensor that is too large."""
        if func in _MAKERS:
            sizes = args[0] if len(args) == 1 and isinstance(args[0], Sequence) else args
            asked = math.prod(size for size in sizes if isinstance(size, int))
            if asked > self._most:
                raise RuntimeError(f"a tensor of {asked:,} numbers, and it holds {self._most:,}")
        return func(*args, **(kwargs or {}))


_SMALL = 1 << 20  # numbers that no memory lacks
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand}


def load_learner(
    path: str | Path,
    *,
    seed_index: int | None = None,
    evaluation: Mapping[str, Any] | None = None,
    **changed: Any,
) -> Learner:
    """Return the learner of a checkpoint, on the CPU, in evaluation mode; no data is needed.

    Args:
        path: A checkpoint written by ``fit``.
        seed_index: Which of several seeds; ``None`` for all, the first one selected.
        evaluation: Fields of :class:`hindsight_rl.diagnostics.evaluation.Evaluation` that replace
            those in the checkpoint, such as ``{"env": "CartPole-v1"}``; the others stay.
        **changed: Other arguments of the learner that replace those in the checkpoint.

    Returns:
        The learner.

    Raises:
        CheckpointError: Missing, cut, damaged, or not of a learner.
        ValueError: Of a learner that is not imported, or there is no such seed.
    """
    payload = read_checkpoint(Path(path))
    try:
        name, copies = payload["hindsight"]["learner"], payload["hindsight"].get("copies")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(path, NO_LEARNER, GIVE) from error
    classes = learner_classes()
    if not isinstance(name, str) or name not in classes:
        raise ValueError(
            f"{path}: learner {name} is not imported; import its module first. Add --import MODULE "
            "to a command: the module is looked for in the current folder too."
        )
    try:
        given, weights = dict(payload["hyper_parameters"]), dict(payload["state_dict"])
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(path, NO_LEARNER, GIVE) from error
    alone = {} if seed_index is None else {"seeds": 1}
    try:
        arguments = constructor_arguments(given, classes[name])
        arguments["evaluation"] = replace(arguments["evaluation"], **evaluation or {})
        with _Sizes(weights), restoring():
            learner = classes[name](**arguments | alone | changed)
        learner.load_state_dict(weights)
    except SpecError as error:
        raise CheckpointError(path, str(error), GIVE) from error
    except ValueError:
        raise
    except Exception as error:
        why = f"its learner cannot be made again ({' '.join(str(error).split())[:200]})"
        raise CheckpointError(path, why, "Give one of this version, whole.") from error
    if copies is not None:
        learner.take_seeds(copies, seed_index)
    elif seed_index:
        raise ValueError(f"seed index {seed_index}: {path} holds one seed, 0")
    return learner.eval()
