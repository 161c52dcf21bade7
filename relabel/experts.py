"""Experts: whoever can be asked what to do, as a function, an exported file, or an actor.

One protocol serves logs and environments: ``expert(observation [n, O], task [n, Z] or None, env)
-> action [n, ...]``, in the environment's units and numbers. ``env`` is the environment of the
rows, in which an expert may see what the policy does not; ``None`` for rows of a log.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.plugins import attribute_of
from hindsight_rl.ports import Actor
from hindsight_rl.spec import Spec

Array = NDArray[Any]
ExpertFunction = Callable[[Any, Any, Any], Any]
"""``expert(observation [n, O], task [n, Z] or None, env or None) -> action [n, ...]``; NaN for all
numbers of a row in which it does not know what to do."""

ExpertSource = str | Path | ExpertFunction | Actor
"""Path of an exported file (``.onnx``), ``module:function``, or from Python a function or actor.
What ``module:function`` names may be a class too: one of it is made, and asked."""


@runtime_checkable
class Lasting(Protocol):
    """An expert that keeps something from one round of collecting to the next."""

    def state_dict(self) -> dict[str, Any]:
        """Return it, plain values and tensors."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take it over."""


def opened(source: ExpertSource) -> ExpertFunction | Actor:
    """Return whom to ask.

    Args:
        source: See :data:`ExpertSource`.

    Returns:
        A function, or an actor with a state: an exported file is one.

    Raises:
        ContractError: A file must not be run as it stands.
        ValueError: There is no such file, module or function.
    """
    if not isinstance(source, (str, Path)):
        return source
    text = str(source)
    if text.endswith(".onnx"):
        if not Path(text).is_file():
            raise ValueError(f"expert {text}: no such file")
        return OnnxPolicy(text)
    if text.endswith(".csv"):
        raise ValueError(
            f"expert {text}: a table of answers labels a log (hindsight relabel LOG --expert "
            f"{text}), and cannot be asked in an environment"
        )
    module, colon, name = text.partition(":")
    if not colon or not module or not name:
        raise ValueError(
            f"expert {text!r} is neither an exported file (policy.onnx) nor module:function"
        )
    found = attribute_of(module, name, f"expert {text}")
    found = found() if inspect.isclass(found) else found
    if not callable(found) and not isinstance(found, Actor):
        raise ValueError(f"expert {text}: {type(found).__name__} is no function that can be asked")
    expert: ExpertFunction | Actor = found
    return expert


def spec_of(expert: ExpertFunction | Actor) -> Spec | None:
    """Return what an expert takes and gives, ``None`` where it does not say."""
    return Spec.of(expert.contract) if isinstance(expert, OnnxPolicy) else None


def identity(source: ExpertSource, expert: ExpertFunction | Actor) -> dict[str, str]:
    """Return the name and the hash of an expert: of a file, or of a function's source file.

    Args:
        source: As it was given.
        expert: What it was opened as.

    Returns:
        ``expert``, and ``expert_hash`` (``sha256:...``) where there is a file.
    """
    named = isinstance(source, (str, Path))
    what: Any = expert if inspect.isroutine(expert) or inspect.isclass(expert) else type(expert)
    name = str(source) if named else f"{what.__module__}:{what.__qualname__}"
    if isinstance(expert, OnnxPolicy) and named:
        file: str | None = str(source)
    else:
        try:
            file = inspect.getsourcefile(what)
        except TypeError:  # built in
            file = None
    if file is None or not Path(file).is_file():
        return {"expert": name}
    return file_identity(Path(file)) | {"expert": name}


def file_identity(path: Path) -> dict[str, str]:
    """Return the name and the hash of a file.

    Args:
        path: Of the file.

    Returns:
        ``expert`` and ``expert_hash``.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"expert": str(path), "expert_hash": f"sha256:{digest}"}


def asked(
    expert: ExpertFunction | Actor,
    observation: Any,
    task: Array | None,
    env: Any,
    state: Mapping[str, Array],
    noise: Array,
) -> tuple[Array, dict[str, Array]]:
    """Return what an expert answers, and its next state.

    Args:
        expert: Of :func:`opened`.
        observation: ``[n, O]``, or ``[n, ...]`` by entry.
        task: ``[n, Z]``, or ``None``.
        env: Of the rows; ``None`` for those of a log.
        state: Of an actor, ``[n, ...]`` by name; empty for a function.
        noise: ``[n, 3]``, counters of an actor's noise.

    Returns:
        Actions ``[n, ...]`` and the state.
    """
    if isinstance(expert, Actor):
        return expert.step(observation, task, dict(state), noise)
    return expert(observation, task, env), {}
