"""Arguments that are one of a few words."""

from typing import Any, Literal

import pytest

from hindsight_rl.arguments import check_choices

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
