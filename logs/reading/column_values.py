"""What may stand in a field of a column map: numbers however they are written, YAML, types.

YAML 1.1 takes ``1e-3`` and ``.5e3`` for text and ``010`` for 8. A column map is written by people,
so numbers are read here as everywhere else in the command.
"""

import math
import re
import reprlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

# How YAML 1.2 writes numbers, and underscores between digits.
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0[0-9_]+)$|0x[0-9a-fA-F]+$")
_FLOAT = re.compile(
    r"""[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?$
    |[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$
    |[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?$
    |[-+]?\.(?:inf|Inf|INF)$
    |\.(?:nan|NaN|NAN)$""",
    re.VERBOSE,
)

SHIFTED = "shifted"
"""Value of ``next_observation`` that asks for the following row instead of a stored column."""

LEFT_OUT = ""
"""Value of a field that was left out and may be guessed; ``None`` says that there is no column."""

DELIMITERS = (
    *("episode", "episode_end", "episode_start", "split_indices"),
    *("episode_length", "episode_jump"),
)
"""Fields that say where episodes begin."""

TOO_LARGE = 2.0**53
"""Counts and rates lie below it."""

LARGEST = 3.4e38
"""Real numbers lie below it: they become float32."""


def yaml_values(text: str) -> Any:
    """Return what a YAML text holds; ``1e-3`` is a number, and ``010`` is ten.

    Args:
        text: The text.

    Returns:
        Plain values.

    Raises:
        yaml.YAMLError: It is no YAML, or would make objects.
    """
    return _loader()(text).get_single_data()


@cache
def _loader() -> Any:
    import yaml  # part of the train install only; a map given in Python does without

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader with the numbers of YAML 1.2."""

        def construct_yaml_int(self, node: Any) -> int:
            """Return a whole number; leading zeros do not make it octal."""
            text = self.construct_scalar(node)
            return int(text, 16) if "x" in text else int(text)

    numbers = ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int")
    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in numbers]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver(numbers[0], _FLOAT, list("-+.0123456789"))
    Loader.add_implicit_resolver(numbers[1], _INT, list("-+0123456789"))
    Loader.add_constructor(numbers[1], Loader.construct_yaml_int)
    return Loader


def converted(value: Any, hint: Any) -> Any:
    """Return a value of a field with numbers that were written as text made numbers.

    Text stays text where the field may hold text: it names a column then.

    Args:
        value: As it was given.
        hint: Type of the field.

    Returns:
        The value of the field's type where there is one, else ``value`` as it is.
    """
    if fits(value, hint):
        return value
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        made = (converted(value, part) for part in inner)
        return next((new for new, part in zip(made, inner, strict=True) if fits(new, part)), value)
    if origin is dict and isinstance(value, Mapping):
        return {name: converted(entry, inner[1]) for name, entry in value.items()}
    if origin is list and isinstance(value, (list, tuple)):
        return [converted(entry, inner[0]) for entry in value]
    if hint not in (float, int) or isinstance(value, bool):
        return value
    number = _number(value) if isinstance(value, str) else value
    if hint is int and isinstance(number, float) and number.is_integer():
        return int(number)
    return value if number is None else number


def _number(text: str) -> float | int | None:
    """Return the number that a text is, or ``None``."""
    text = text.strip()
    if _INT.match(text):
        return int(text, 16) if "x" in text else int(text)
    if not _FLOAT.match(text):
        return None
    plain = text.replace("_", "").lower()
    if plain.lstrip("+-") == ".inf":
        return -math.inf if plain[0] == "-" else math.inf
    return math.nan if plain == ".nan" else float(plain)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value is of a field's type; an int does where a float is asked for."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in inner)
    if origin is Literal:
        return value in inner
    if origin is list:
        return isinstance(value, list) and bool(value) and all(fits(v, inner[0]) for v in value)
    if origin is dict:
        filled = isinstance(value, dict) and (bool(value) or get_origin(inner[1]) is list)
        return filled and all(fits(v, inner[1]) for v in value.values())
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, (int, float) if hint is float else hint)


def readable(hint: Any) -> str:
    """Return a field's type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(readable(part) for part in inner if part is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(inner)
    if origin is list:
        parts = get_args(inner[0]) or (inner[0],)
        return f"a list of {parts[0].__name__}"
    if origin is dict:
        listed = get_origin(inner[1]) is list
        return "a mapping of " + ("lists of str" if listed else readable(inner[1]))
    return {"str": "text", "float": "a number", "int": "a whole number", "bool": "true or false"}[
        hint.__name__
    ]


def columns_in(value: Any) -> list[str]:
    """Return the columns that the value of a field names, in their order.

    Args:
        value: One column, several, or those of entries; anything else names none.

    Returns:
        Names or patterns.
    """
    if isinstance(value, str):
        return [] if value in (LEFT_OUT, SHIFTED) else [value]
    if isinstance(value, dict):
        return [name for part in value.values() for name in columns_in(part)]
    return list(value) if isinstance(value, list) else []


def inline(columns: str | Path) -> bool:
    """Return whether a column map is written out, as in ``{observation: obs}``, and not named."""
    return isinstance(columns, str) and columns.lstrip().startswith("{")


def impossible_numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield problem and fix of each number that no log can have.

    Args:
        values: Fields of a column map, each of its type.

    Yields:
        Two sentences without their full stop.
    """
    for name in ("time_limit", "episode_length", "action_count", "control_rate_hz"):
        if values[name] is not None and not values[name] < TOO_LARGE:
            problem = f"{name}: {reprlib.repr(values[name])} is too large"
            yield problem, f"Give a number below {TOO_LARGE:g}."
    reward = values["reward"]
    if isinstance(reward, (int, float)) and not abs(reward) < LARGEST:
        yield f"reward: {reprlib.repr(reward)} is no number to learn from", "Correct it."
