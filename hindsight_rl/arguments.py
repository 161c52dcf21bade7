"""Arguments that are one of a few words: a wrong one is an error at construction.

The command compares words with type hints before it constructs anything; from Python a misspelt
word would pass, and count as whichever one a body asks for last.
"""

import difflib
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def check_choices(function: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Check that arguments are among the words of their ``Literal``.

    Args:
        function: What takes the arguments, an ``__init__`` say; its type hints hold the words.
        given: Arguments by name, ``locals()`` say; other names are left alone.

    Raises:
        ValueError: An argument is none of its words, nor anything else that its hint allows.
    """
    for name, hint in get_type_hints(function).items():
        members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        words = [w for part in members if get_origin(part) is Literal for w in get_args(part)]
        others = [_called(part) for part in members if get_origin(part) is not Literal]
        if not words or name not in given or given[name] in words:
            continue
        value = given[name]
        # Text can only be a word; whether a number is in range is not checked here.
        if others and not isinstance(value, str):
            continue
        near = difflib.get_close_matches(str(value), map(str, words), n=1)
        allowed = [f"'{word}'" for word in words] + others
        guess = f". Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"{name} is {value!r}, it must be {' or '.join(allowed)}{guess}")


def _called(kind: Any) -> str:
    """Return the words for a type that is no ``Literal``."""
    names = {float: "a number", int: "a whole number", bool: "true or false", type(None): "None"}
    return names.get(kind, str(kind))
