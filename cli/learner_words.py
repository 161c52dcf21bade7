"""Words about a learner, those of older layouts too, as the parser of today takes them."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from hindsight_rl.training.checkpoints.arguments import (
    MERGED,
    MOVED,
    default_of,
    merged,
    places,
    record_of,
)
from hindsight_rl.training.checkpoints.load import learner_named

# An argument of the learner, with its value or before it.
_ARGUMENT = re.compile(r"^--model\.((?:init_args\.)?)(\w+)(?:=(.*))?$", re.DOTALL)
_TRANSLATED = {*MOVED, *MERGED, *(one.by for one in MERGED.values())}
_FIELD = re.compile(r"^--model\.((?:init_args\.)?)(\w+)\.")
# Arguments that may be given by one of their fields alone: the field, and its type.
_SHORT: dict[str, tuple[str, type]] = {"head": ("kind", str), "history": ("steps", int)}
_LEARNER = re.compile(r"^--model(?:\.class_path)?(?:=(.*))?$")


def learner_words(words: Sequence[str]) -> list[str]:
    """Return words in which all that concerns the learner is in the spelling of today.

    Args:
        words: Of a command; configurations are paths or texts.

    Returns:
        The words; those of former arguments that another one says today come last.

    Raises:
        ValueError: A former argument has a value that no argument of today stands for, or an
            argument that has fields is given as something else.
    """
    kind, configured = _learner(words)
    _check_fields(words, kind, configured)
    words = former_words(words, kind, configured)
    for name in _SHORT:
        words = _spelled_out(words, name, kind, configured)
    return words


def former_words(
    words: Sequence[str], kind: type | None = None, configured: Mapping[str, Any] | None = None
) -> list[str]:
    """Return words with arguments of the learner in the spelling of today.

    Args:
        words: Of a command.
        kind: Class of the learner; ``None`` where it is not known: what every learner takes.
        configured: Its arguments in configurations.

    Returns:
        The words; those of former arguments that another one says today come last.

    Raises:
        ValueError: A former argument has a value that no argument of today stands for.
    """
    kept: list[str] = []
    given, former = dict(configured or {}), []
    rest = iter(words)
    for word in rest:
        found = _ARGUMENT.match(word)
        if found is None or found[2] not in _TRANSLATED:
            kept.append(word)
            continue
        part, name, joined = found[1], found[2], found[3] is not None
        value = found[3] if joined else next(rest, "")
        given[name] = _value(value)
        other = merged(name, kind)
        if other is not None:
            former.append((part, name, other))
            continue
        for place in places(name, kind) or (name,):
            said = f"--model.{part}{place}"
            kept += [f"{said}={value}"] if joined else [said, value]
    for part, name, other in former:
        today = other.say(given[name], given)
        kept += [f"--model.{part}{n}={'null' if v is None else v}" for n, v in today.items()]
    return kept


def _spelled_out(
    words: Sequence[str], argument: str, kind: type | None, configured: Mapping[str, Any]
) -> list[str]:
    """Return words in which an argument given by one of its fields alone names that field.

    The parser takes ``--model.head mixture --model.head.components 3`` for two heads, of which the
    last one counts; here both words are of one.

    Args:
        words: Of a command, in the spelling of today.
        argument: Name of the argument.
        kind: Class of the learner; ``None`` where it is not known.
        configured: Its arguments in configurations.

    Returns:
        The words.
    """
    if kind is None or record_of(argument, kind) is None:
        return list(words)
    kept: list[str] = []
    base: object = configured.get(argument, default_of(argument, kind))
    field_name, short = _SHORT[argument]
    place = f"{argument}.{field_name}"
    rest = iter(words)
    for word in rest:
        whole, field = _ARGUMENT.match(word), _FIELD.match(word)
        if whole is not None and whole[2] == argument:
            value = next(rest, "") if whole[3] is None else whole[3]
            name = place if type(_value(value)) is short else argument
            kept.append(f"--model.{whole[1]}{name}={value}")
            base = None
        elif field is not None and field[2] == argument and type(base) is short:
            kept += [f"--model.{field[1]}{place}={base}", word]
            base = None
        else:
            kept.append(word)
    return kept


def _check_fields(words: Sequence[str], kind: type | None, configured: Mapping[str, Any]) -> None:
    """Check that arguments with fields are given by field: the parser would end in a TypeError."""
    given, found = (
        dict(configured),
        zip(map(_ARGUMENT.match, words), [*words[1:], ""], strict=False),
    )
    given |= {m[2]: _value(after if m[3] is None else m[3]) for m, after in found if m}
    for name, value in given.items() if kind is not None else ():
        record = record_of(name, kind or object)
        if record is None or value is None or isinstance(value, Mapping):
            continue
        if isinstance(value, str) and value.startswith("${"):
            continue
        if name in _SHORT and type(value) is _SHORT[name][1]:
            continue
        names = ", ".join(field.name for field in fields(record))
        raise ValueError(
            f"{name} is {value!r}, and it has fields: give --model.{name}.FIELD for one or more of "
            f"{names}"
        )


def check_groups(part: str, kind: type, given: Mapping[str, Any]) -> None:
    """Check that no argument with fields is null: the parser would end in a TypeError.

    Args:
        part: ``"model"`` or ``"data"``, for messages.
        kind: The class that takes the arguments.
        given: They, by name.

    Raises:
        ValueError: One is null that may not be.
    """
    hints: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        with suppress(NameError):  # names that only a type checker knows
            hints |= get_type_hints(vars(base).get("__init__", object.__init__))
    for name, value in given.items():
        if value is None and is_dataclass(hints.get(name)):
            names = ", ".join(field.name for field in fields(hints[name]))
            raise ValueError(
                f"{part}.{name} is null, and it has fields: leave it out for their defaults, or "
                f"give --{part}.{name}.FIELD for one or more of {names}"
            )


def _value(text: str) -> Any:
    """Return the value that a word means, as the parser will read it."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _learner(words: Sequence[str]) -> tuple[type | None, dict[str, Any]]:
    """Return the class of the learner that words choose, and its arguments in configurations."""
    name: object = None
    arguments: dict[str, Any] = {}
    for before, word in zip(["", *words], words, strict=False):
        if before in ("-c", "--config"):
            found = content(word)
            model = found.get("model") if isinstance(found, dict) else None
            name = model.get("class_path", name) if isinstance(model, dict) else name
            arguments |= init_args(found, "model")
        elif (chosen := _LEARNER.match(before)) and chosen[1] is None:
            name = word
        if (chosen := _LEARNER.match(word)) and chosen[1] is not None:
            name = chosen[1]
    return learner_named(name) if name else None, arguments


def content(config: str) -> Any:
    """Return what a configuration holds, given as a file or as its text; ``None`` for neither."""
    try:
        text = Path(config).read_text(encoding="utf-8")
    except (OSError, ValueError):
        text = config
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None  # what is wrong with the file is said where it is parsed


def init_args(found: Any, part: str) -> dict[str, Any]:
    """Return the arguments of a part of a configuration, none where it has another form."""
    for name in (part, "init_args"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
