"""Arguments that are one of a few words, and numbers in a range."""

import re
from typing import Any, Literal

import pytest

from hindsight_rl.arguments import (
    Range,
    above,
    at_least,
    check_bootstrap,
    check_choices,
    check_ranges,
    within,
)

Norm = Literal["mean", "median"]


def takes(
    rate: float,
    norm: Norm = "mean",
    base: float | Literal["mean", "step"] = 0.0,
    mode: Literal["on"] | None = None,
    name: str = "",
) -> None:
    """Take arguments of every kind."""


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rate": "x", "name": "x", "other": "x"},  # no word is asked for
        {"norm": "median", "base": "step", "mode": "on"},
        {"base": -1.5, "mode": None},
        {"base": 3},
    ],
)
def test_words_and_what_else_a_hint_allows_pass(given: dict[str, Any]) -> None:
    check_choices(takes, given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"norm": "medain"},
            r"norm is 'medain', it must be 'mean' or 'median'\. Did you",
        ),
        ({"norm": "zzz"}, r"norm is 'zzz', it must be 'mean' or 'median'$"),
        ({"norm": None}, r"norm is None, it must be 'mean' or 'median'$"),
        ({"norm": 3}, r"norm is 3, it must be"),
        ({"base": "zzz"}, r"base is 'zzz', it must be 'mean' or 'step' or a number$"),
        ({"mode": "off"}, r"mode is 'off', it must be 'on' or None"),
    ],
)
def test_wrong_words_are_refused_with_the_choices(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_choices(takes, given)


# --- ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kept",
    [
        (above(0, a=1e-9, b=float("inf")),),
        (at_least(1, a=1),),
        (within("(0, 1]", a=1.0), within("[0, 1)", b=0.0)),
        (above(0, a=None),),
        (above(0, a=(1.0, 2.0)),),
    ],
)
def test_numbers_in_their_ranges_pass(kept: tuple[Range, ...]) -> None:
    check_ranges(*kept)


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        ((above(0, a=0.0),), "a is 0.0, it must be above 0"),
        ((at_least(1, a=0),), "a is 0, it must be at least 1"),
        ((within("(0, 1)", a=1.0),), "a is 1.0, it must lie in (0, 1)"),
        ((within("[0, 1)", a=1.0),), "a is 1.0, it must lie in [0, 1)"),
        ((within("(0, 1]", a=0.0),), "a is 0.0, it must lie in (0, 1]"),
        ((at_least(0, a=float("nan")),), "a is nan, it must be at least 0"),
        ((above(0, a=1.0, b=-1.0),), "a 1.0 and b -1.0 must be above 0"),
        ((at_least(1, a=1, b=0, c=3),), "a 1, b 0 and c 3 must be at least 1"),
        ((above(0, a=(1.0, 0.0)),), "a is [1.0, 0.0], it must be above 0"),
        (
            (within("[0, 1]", a=0.5), within("(0, 1]", b=0.0)),
            "a 0.5 must lie in [0, 1] and b 0.0 in (0, 1]",
        ),
        (
            (at_least(0, a=0.0, b=-1.0), above(0, c=1.0), within("[0, 1]", d=0.5)),
            "a 0.0 and b -1.0 must be at least 0, c 1.0 above 0 and d 0.5 in [0, 1]",
        ),
    ],
)
def test_number_out_of_range_is_refused_with_name_value_and_range(
    ranges: tuple[Range, ...], told: str
) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        check_ranges(*ranges)


def test_unit_and_note_stand_with_a_single_number() -> None:
    with pytest.raises(ValueError, match="^a is 0 updates, it must be at least 1, or null$"):
        check_ranges(at_least(1, a=0), unit="updates", note=", or null")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"discount": 1.1}, "discount 1.1 must lie in [0, 1] and tau 1.0 in (0, 1]"),
        ({"tau": 0.0}, "discount 0.5 must lie in [0, 1] and tau 0.0 in (0, 1]"),
        ({"critics": 0}, "critics is 0, it must be at least 1"),
    ],
)
def test_arguments_of_critics_with_targets(arguments: dict[str, Any], told: str) -> None:
    check_bootstrap(discount=0.5, tau=1.0)
    with pytest.raises(ValueError, match=f"^{re.escape(told)}$"):
        check_bootstrap(**{"discount": 0.5, "tau": 1.0} | arguments)
