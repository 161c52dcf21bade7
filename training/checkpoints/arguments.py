"""Arguments of a learner as checkpoints and configurations hold them, those of older layouts too.

Until 2026-11 the arguments of evaluation, network and head stood flat among those of the learner
(``eval_every``, ``hidden``, ``spread``), and some were two that are one now. What is read from a
checkpoint, a configuration file or the command line is translated by the tables here; Python takes
the spelling of today only.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from hindsight_rl.diagnostics.evaluation import Evaluation

# Former argument of a learner: where its value is now, a field of one argument or of several.
MOVED: dict[str, tuple[str, ...]] = {
    "env": ("evaluation.env",),
    "env_kwargs": ("evaluation.env_kwargs",),
    "eval_task": ("evaluation.task",),
    "eval_command": ("evaluation.command",),
    "eval_max_steps": ("evaluation.max_steps",),
    "eval_every": ("evaluation.every",),
    "eval_episodes": ("evaluation.episodes",),
    "test_episodes": ("evaluation.test_episodes",),
    "eval_seed": ("evaluation.seed",),
    "test_seed": ("evaluation.test_seed",),
    "hidden": ("network.hidden",),
    "frequencies": ("network.frequencies", "behavior.frequencies"),
    "task_scale": ("network.task_scale",),
    "gate_task": ("network.gate_task",),
    "behavior_hidden": ("behavior.hidden",),
    "latent": ("behavior.latent",),
    "spread": ("head.spread",),
    "squash_mean": ("head.squash_mean",),
    "relative_to": ("head.relative_to",),
}


def _candidates(acting: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the candidates of CRR: none where the cloned policy acted."""
    if acting not in ("policy", "critic_weighted"):
        raise ValueError(f"acting is {acting!r}: write candidates, 0 for the cloned policy")
    return {"candidates": 0} if acting == "policy" else {}


def _lambda(target: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return lambda_ of MARWIL: none for Monte Carlo returns, which did not read it."""
    if target not in ("monte_carlo", "td_lambda"):
        raise ValueError(f"target is {target!r}: write lambda_, null for Monte Carlo returns")
    lambda_ = given.get("lambda_")
    return {"lambda_": None if target == "monte_carlo" else 0.95 if lambda_ is None else lambda_}


def _past(past_actions: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the history of BC: with actions by default, or in full where it had none."""
    if past_actions is True:
        return {}
    return {"history": {"steps": given.get("history") or 0, "actions": False}}


def _rule(baseline: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rule of CRR: one over the largest of the policy's own values, or their mean."""
    if baseline not in ("mean", "max"):
        raise ValueError(f"baseline is {baseline!r}: write rule, such as binary or binary_max")
    return {"rule": f"{given.get('rule', 'exponential')}_max"} if baseline == "max" else {}


class Merged(NamedTuple):
    """A former argument that another one says today."""

    by: str
    """That argument."""
    say: Callable[[object, Mapping[str, Any]], dict[str, Any]]
    """From the former value, and all arguments given, to arguments of today."""


MERGED = {
    "acting": Merged("candidates", _candidates),
    "target": Merged("lambda_", _lambda),
    "baseline": Merged("rule", _rule),
    "past_actions": Merged("history", _past),
}


class _Taken(NamedTuple):
    """What a constructor takes as one argument."""

    record: type | None
    """A dataclass, where it is one, or may be one."""
    default: Any


@cache
def _taken(kind: type) -> dict[str, _Taken]:
    """Return the arguments of a learner's constructor by name, those it hands on included."""
    found: dict[str, _Taken] = {}
    for owner in reversed(kind.__mro__):
        init = vars(owner).get("__init__")
        if not inspect.isfunction(init):
            continue
        hints = get_type_hints(init)
        for name, parameter in inspect.signature(init).parameters.items():
            hint = hints.get(name)
            choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
            records = [c for c in choices if isinstance(c, type) and is_dataclass(c)]
            # What may be a mapping as well, such as a spec, the learner reads itself.
            plain = any((get_origin(choice) or choice) in (dict, Mapping) for choice in choices)
            found[name] = _Taken(None if plain or not records else records[0], parameter.default)
    return found


def field_names(kind: type) -> list[str]:
    """Return ``argument.field`` of every argument of a learner that is a dataclass."""
    records = ((name, taken.record) for name, taken in _taken(kind).items())
    return [f"{name}.{each.name}" for name, kind in records if kind for each in fields(kind)]


def record_of(name: str, kind: type) -> type | None:
    """Return the dataclass that a learner takes as an argument, ``None`` where it takes none."""
    return _taken(kind)[name].record if name in _taken(kind) else None


def default_of(name: str, kind: type) -> object:
    """Return the default of an argument that a learner takes."""
    return _taken(kind)[name].default


def places(name: str, kind: type | None) -> tuple[str, ...]:
    """Return where the value of a former argument is today.

    Args:
        name: Of the argument.
        kind: Class of the learner; ``None`` where it is not known: then only what every learner
            takes is.

    Returns:
        ``argument.field``, several where several take it; nothing where the name is of today.
    """
    taken = {"evaluation": _Taken(Evaluation, None)} if kind is None else _taken(kind)
    if name in taken:
        return ()
    found = []
    for place in MOVED.get(name, ()):
        argument, _, field = place.partition(".")
        record = taken[argument].record if argument in taken else None
        if record is not None and field in {each.name for each in fields(record)}:
            found.append(place)
    return tuple(found)


def merged(name: str, kind: type | None) -> Merged | None:
    """Return what says a former argument today; ``None`` where the name is of today.

    Args:
        name: Of the argument.
        kind: Class of the learner; ``None`` where it is not known.

    Returns:
        The argument of today, and how.
    """
    found = None if kind is None or name in _taken(kind) else MERGED.get(name)
    return found if found is not None and found.by in _taken(kind or object) else None


def translated(arguments: Mapping[str, Any], kind: type | None) -> dict[str, Any]:
    """Return a learner's arguments in the spelling of today.

    Args:
        arguments: By name, of any version; those that are objects are mappings of their fields.
        kind: Class of the learner; ``None`` where it is not known.

    Returns:
        The same values. Where both spellings give a field, that of today counts.

    Raises:
        ValueError: A former argument has a value that no argument of today stands for.
    """
    given = dict(arguments)
    if isinstance(given.get("evaluation"), str):  # which policy of CRR acted
        given["acting"] = given.pop("evaluation")
    if given.get("history") and places("frequencies", kind):  # beside it they did nothing
        given.pop("frequencies", None)
    moved: dict[str, dict[str, Any]] = {}
    today: dict[str, Any] = {}
    for name, value in given.items():
        where, other = places(name, kind), merged(name, kind)
        for place in where:
            argument, _, field = place.partition(".")
            if value is not None:  # None was always the default
                moved.setdefault(argument, {})[field] = value
        if other is not None:
            today |= other.say(value, given)
        elif not where:
            today.setdefault(name, value)
    for argument, former in moved.items():
        now = {"kind": value} if isinstance(value := today.get(argument), str) else value
        today[argument] = now if isinstance(now, list) else former | dict(now or {})
    return today


def constructor_arguments(saved: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return what a learner's constructor takes, from the hyperparameters of a checkpoint.

    Args:
        saved: ``hyper_parameters`` of a checkpoint, of any version, or ``learner.hparams``.
        kind: Class of the learner.

    Returns:
        Arguments by name; Lightning's own entries are left out.
    """
    given = translated({k: v for k, v in saved.items() if not k.startswith("_")}, kind)
    given["evaluation"] = given.get("evaluation") or {}
    for name, (record, default) in _taken(kind).items():
        value = given.get(name)
        if record is not None and isinstance(value, Mapping):
            base = vars(default) if isinstance(default, record) else {}
            given[name] = record(**{**base, **value})
    return given
