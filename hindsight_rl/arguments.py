"""Arguments are checked at construction: words against their ``Literal``, numbers by their range.

The command compares words with type hints before it constructs anything; from Python a misspelt
word would pass, and count as whichever one a body asks for last.

    check_ranges(within("[0, 1]", discount=discount), within("(0, 1]", tau=tau))
    check_ranges(at_least(1, critics=critics))
"""

import difflib
import operator
from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

# A number, several that share a range, or None where an argument may be left out.
Number = float | Sequence[float] | None


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


class Range(NamedTuple):
    """Numbers by name, and where they must lie; made by the functions below."""

    given: Mapping[str, Number]
    verb: str
    where: str
    holds: Callable[[float], bool]

    @property
    def kept(self) -> bool:
        """Return whether every number lies there; NaN lies nowhere, ``None`` is no number."""
        return all(self.holds(number) for value in self.given.values() for number in _each(value))


def above(bound: float, **given: Number) -> Range:
    """Return the range of numbers above a bound, infinity with them."""
    return Range(given, "be", f"above {bound}", lambda number: number > bound)


def at_least(bound: float, **given: Number) -> Range:
    """Return the range of a bound and of all numbers above it, infinity with them."""
    return Range(given, "be", f"at least {bound}", lambda number: number >= bound)


def within(interval: str, **given: Number) -> Range:
    """Return the range between two bounds.

    Args:
        interval: Both bounds in brackets; a square one belongs to the interval: ``"(0, 1]"``.
        **given: Numbers by name.

    Returns:
        The range.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    over = operator.ge if interval[0] == "[" else operator.gt
    under = operator.le if interval[-1] == "]" else operator.lt
    return Range(given, "lie", f"in {interval}", lambda x: over(x, low) and under(x, high))


def check_ranges(*ranges: Range, unit: str = "", note: str = "") -> None:
    """Check that numbers lie in their ranges.

    Args:
        *ranges: Ranges that one sentence names together, with their numbers.
        unit: Follows the value of a single number: ``"updates"``.
        note: Ends the sentence: ``", or null for none"``.

    Raises:
        ValueError: A number is out of its range.
    """
    if all(part.kept for part in ranges):
        return
    (first, *others), count = ranges, sum(len(part.given) for part in ranges)
    if count == 1:
        ((name, value),) = first.given.items()
        said = f"{_said(value)} {unit}" if unit else _said(value)
        raise ValueError(f"{name} is {said}, it must {first.verb} {first.where}{note}")
    parts = [f"{_listed(first.given)} must {first.verb} {first.where}"]
    parts += [f"{_listed(part.given)} {part.where}" for part in others]
    raise ValueError(_joined(parts) + note)


def check_bootstrap(*, discount: float, tau: float, critics: int = 1) -> None:
    """Check the arguments of critics with targets.

    Args:
        discount: In [0, 1].
        tau: Share of the way a target moves, in (0, 1].
        critics: Number of critics, at least 1.

    Raises:
        ValueError: One of them is out of range.
    """
    check_ranges(within("[0, 1]", discount=discount), within("(0, 1]", tau=tau))
    check_ranges(at_least(1, critics=critics))


def _each(value: Number) -> Sequence[float]:
    """Return the numbers of an argument."""
    if value is None:
        return ()
    return value if isinstance(value, Sequence) else (value,)


def _said(value: Number) -> str:
    """Return a value in words."""
    return str(list(value)) if isinstance(value, Sequence) else str(value)


def _listed(given: Mapping[str, Number]) -> str:
    """Return names and values as a list in words."""
    return _joined([f"{name} {_said(value)}" for name, value in given.items()])


def _joined(parts: Sequence[str]) -> str:
    """Return parts of a sentence, ``and`` before the last."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
