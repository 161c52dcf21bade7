"""Classes that configurations name in an older spelling, in that of today.

Until 2026-11 what a datamodule collects stood flat among its arguments (``episodes_per_round``),
and one class judged trajectories or transitions, by an argument: ``InverseRL`` with ``level``. Run
folders and the rules that relabeled logs hold name them, with every argument.
"""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from hindsight_rl.datamodules.collection import Collection

INVERSE_HINT = (
    "InverseRL judges trajectories, TransitionInverseRL transitions: name one of the two in place "
    "of 'level'"
)

_TRAJECTORY, _TRANSITION = "hindsight_rl.InverseRL", "hindsight_rl.TransitionInverseRL"
_MOVED = "hindsight_rl.relabel.inverse.InverseRL"  # a module that is no more
_NAMES = ("InverseRL", _TRAJECTORY, _MOVED)
# Level: the class of today, and the arguments that did nothing at this level.
_LEVELS = {
    "trajectory": (_TRAJECTORY, {"entropy_scale", "rate"}),
    "transition": (_TRANSITION, {"seed"}),
}


_ITERATED = "IteratedDataModule"
_COLLECTION = [field.name for field in fields(Collection)]
_FLAT = re.compile(rf"^--data\.(init_args\.)?({'|'.join(_COLLECTION)})(?=[=.]|$)")


def current_word(word: str) -> str:
    """Return a word about the data in the spelling of today.

    Args:
        word: Of a command whose datamodule is an ``IteratedDataModule``.

    Returns:
        The same word; what is collected is named as a part of ``collection``.
    """
    return _FLAT.sub(lambda found: f"--data.{found[1] or ''}collection.{found[2]}", word)


def is_iterated(class_path: object) -> bool:
    """Return whether the name of a class is that of the datamodule that collects."""
    return isinstance(class_path, str) and class_path.rpartition(".")[2] == _ITERATED


def current_classes(found: Any) -> Any:
    """Return what a configuration holds, with classes in the spelling of today.

    Args:
        found: All of it, or a part; nested as YAML is.

    Returns:
        The same structure; equal to what was given where nothing is of an older spelling. A level
        that never was one is left to the parser, which reports it.
    """
    if isinstance(found, str):
        return _TRAJECTORY if found == _MOVED else found
    if isinstance(found, list):
        return [current_classes(part) for part in found]
    if not isinstance(found, dict):
        return found
    if found.get("class_path") in _NAMES:
        found = _inverse(found)
    if is_iterated(found.get("class_path")):
        found = _iterated(found)
    return {name: current_classes(value) for name, value in found.items()}


def _iterated(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of a datamodule that collects, with its collection as an argument."""
    given = entry.get("init_args")
    if not isinstance(given, dict) or not set(given) & set(_COLLECTION):
        return entry
    kept = {name: value for name, value in given.items() if name not in _COLLECTION}
    moved = {name: value for name, value in given.items() if name in _COLLECTION}
    return entry | {"init_args": kept | {"collection": moved | dict(kept.get("collection") or {})}}


def _inverse(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the entry of an ``InverseRL`` as that of the class that its level means today."""
    given = entry.get("init_args")
    arguments: Mapping[str, Any] = given if isinstance(given, dict) else {}
    if "level" not in arguments and entry["class_path"] != _MOVED:
        return entry
    level = arguments.get("level", "trajectory")
    if not isinstance(level, str) or level not in _LEVELS:
        return entry
    path, unused = _LEVELS[level]
    kept = {name: value for name, value in arguments.items() if name not in {"level", *unused}}
    return entry | {"class_path": path} | ({"init_args": kept} if given is not None else {})
