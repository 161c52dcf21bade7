"""Starting from the weights of another run: fine-tuning.

Networks and targets of a checkpoint in a run of its own: counters, optimiser and data start anew.
What the networks were trained with comes along: mean and spread of observations and tasks are
those of the checkpoint, whatever the new data look like. What else gives weights their meaning,
such as the head of a policy, must be as it was; how actions are explored may change.
"""

import math
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hindsight_rl.restoring import restoring
from hindsight_rl.spec import WHOLE, Spec, SpecError, describe
from hindsight_rl.training.checkpoints.arguments import constructor_arguments
from hindsight_rl.training.checkpoints.file import (
    GIVE,
    NO_LEARNER,
    CheckpointError,
    read_checkpoint,
)

# What a network holds that says how actions are chosen or fitted, not what its weights mean.
_FREE = {"training", "exploration", "temperature", "samples", "std", "kl_weight", "free_bits"}
_FREE |= {"acting", "acting_noise", "draws"}
_OTHER_RUN = "Give the arguments of that run (its config.yaml), such as network, critics or head."


class WarmStart(NamedTuple):
    """Weights to start from, and the spec that they go with.

    Attributes:
        path: The checkpoint.
        spec: The spec of the new data, with what the checkpoint says of observations, actions and
            tasks.
        weights: Parameters and buffers by name, those of the first seed where there are several.
        arguments: Those that the checkpoint's learner was made with.
    """

    path: Path
    spec: Spec
    weights: dict[str, Tensor]
    arguments: dict[str, Any]

    def give_to(self, learner: nn.Module) -> None:
        """Seed the weights, targets included, into a learner.

        Args:
            learner: It; its parameters stay the same objects.

        Raises:
            CheckpointError: Its networks are others, or mean something else by equal weights.
        """
        self._check_settings(learner)
        held = {name: list(value.shape) for name, value in learner.state_dict().items()}
        given = {name: list(value.shape) for name, value in self.weights.items()}
        for name in [*held, *given]:
            if held.get(name) == given.get(name):
                continue
            here, there = (
                "not there" if shape is None else str(shape)
                for shape in (held.get(name), given.get(name))
            )
            raise CheckpointError(
                self.path,
                f"its networks are others: '{name}' is {there} in it and {here} in this learner",
                _OTHER_RUN,
            )
        learner.load_state_dict(self.weights)

    def _check_settings(self, learner: nn.Module) -> None:
        """Raise where networks differ in more than their tensors: a head, a reference, a unit."""
        with torch.random.fork_rng(devices=[]), restoring():
            try:
                origin = type(learner)(**self.arguments)
            except (TypeError, ValueError) as error:
                why = f"its learner cannot be made again ({error})"
                raise CheckpointError(self.path, why, "Give one of this version.") from error
        parts = dict(learner.named_modules())
        for name, part in origin.named_modules():
            # Discrete actions have one family of distributions, whatever the head.
            if not name or name not in parts or getattr(part, "discrete", False):
                continue
            now, there = _settings(parts[name]), _settings(part)
            odd = [
                f"{setting} {there[setting]!r} in it and {now[setting]!r} in this learner"
                for setting in there
                if setting in now and now[setting] != there[setting]
            ]
            if odd:
                why = f"its networks are others: '{name}' has {', '.join(odd)}"
                raise CheckpointError(self.path, why, _OTHER_RUN)


def warm_start(path: str | None, kind: type, spec: Spec, seeds: int) -> WarmStart | None:
    """Return what a learner starts from, ``None`` without a checkpoint.

    Args:
        path: A checkpoint that ``fit`` wrote, or ``None``.
        kind: Class of the learner.
        spec: Spec of the new data.
        seeds: Number of seeds that are trained at once.

    Returns:
        Weights and spec.

    Raises:
        CheckpointError: Missing, cut or damaged, of another learner, or of other data.
        ValueError: There are several seeds.
    """
    if path is None:
        return None
    if seeds > 1:
        raise ValueError(
            f"weights_from would give all {seeds} seeds the same weights: set seeds to 1 and "
            "start one run per seed"
        )
    payload = read_checkpoint(Path(path))
    try:
        learner, given = payload["hindsight"]["learner"], payload["hyper_parameters"]
        there = Spec.from_dict(given["spec"])
    except SpecError as error:
        raise CheckpointError(path, str(error), GIVE) from error
    except (KeyError, TypeError) as error:
        raise CheckpointError(path, NO_LEARNER, GIVE) from error
    name = f"{kind.__module__}.{kind.__qualname__}"
    if learner != name:
        raise CheckpointError(
            path,
            f"of {learner.rpartition('.')[2]}, and this is {kind.__name__}",
            "Choose the learner that it was trained with, or another checkpoint.",
        )
    _check_spec(there, spec, path)
    return WarmStart(
        Path(path),
        replace(
            spec,
            observation=there.observation,
            action=there.action,
            task=there.task,
            beside={**spec.beside, **there.beside},
        ),
        payload["state_dict"],
        constructor_arguments(given, kind),
    )


def _settings(part: nn.Module) -> dict[str, Any]:
    """Return what a network holds beside tensors and other networks, by name."""
    if isinstance(part, nn.Linear):  # all of it is in the shapes
        return {}
    held = {name: value for name, value in vars(part).items() if not name.startswith("_")}
    for name, value in vars(part).items():
        if is_dataclass(value) and not isinstance(value, type):
            held |= {f"{name}.{field}": given for field, given in asdict(value).items()}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in held.items()
        if name.rpartition(".")[2] not in _FREE
        and isinstance(value, (bool, int, float, str, list, tuple, type(None)))
    }


def _built_for(spec: Spec) -> dict[str, dict[str, Any]]:
    """Return what of the data the networks are built for, and must be the same, by part."""
    action = describe(spec.action)
    kept = ("kind", "shape", "n", "start", "low", "high")
    parts = {
        name if name == WHOLE else f"observation.{name}": {
            "shape": list(entry.shape),
            "dtype": entry.dtype,
        }
        for name, entry in spec.observation.items()
    }
    return parts | {
        "action": {fact: action.get(fact) for fact in kept},
        "task": {"shape": None if spec.task is None else list(spec.task.shape)},
    }


def _check_spec(there: Spec, here: Spec, path: str) -> None:
    """Raise where a checkpoint's observations, actions or tasks are others."""
    given, new = _built_for(there), _built_for(here)
    if list(given) != list(new):  # entries in another order are other inputs, too
        named = [", ".join(spec.observation) for spec in (there, here)]
        raise CheckpointError(
            path,
            f"it observes {named[0]}, and these data hold {named[1]}",
            "Give data with the same entries in the same order.",
        )
    for part, facts in given.items():
        for fact, value in facts.items():
            if not _alike(value, new[part][fact]):
                raise CheckpointError(
                    path,
                    f"its {part} has {fact} {value}, and that of these data {new[part][fact]}",
                    "Give data like those of that run: the same environment, column map and "
                    "relabelers.",
                )


def _alike(one: Any, two: Any) -> bool:
    """Return whether two facts agree, numbers up to float32 rounding; an open bound is ``None``."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_alike, one, two))
    if isinstance(one, float) and isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-5, abs_tol=1e-8)
    return bool(one == two)
