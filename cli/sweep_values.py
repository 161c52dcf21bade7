"""What a sweep goes over: options of ``fit``, each with its values or its range."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import yaml

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})\.\.(?P<high>{_NUMBER})(?P<log>:log)?")
_WHOLE = re.compile(r"[-+]?\d+")
OWN = ("run", "ckpt_path", "resume", "seed_everything", "data.seed", "json")
"""Options of ``fit`` that differ between runs, or that a sweep needs, by themselves."""

Setting = dict[str, Any]
"""Options of ``fit`` by name (without ``--``), and what they are in one run."""


class Range(NamedTuple):
    """Numbers between two ends, the ends included."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""
    whole: bool
    """Whether whole numbers only."""
    log: bool
    """Whether drawn evenly on a logarithmic scale."""


Values = list[Any] | Range


class Plan(Protocol):
    """Which settings are tried."""

    def next(self) -> Setting | None:
        """Return a setting that was not returned yet, ``None`` at the end."""

    def tell(self, setting: Setting, value: float) -> None:
        """Take what a setting was worth, the mean over its seeds."""


def parse_over(words: Sequence[str]) -> dict[str, Values]:
    """Return what a sweep goes over.

    Args:
        words: Each ``NAME=VALUES``. Values are a list as YAML has it (``0.7,0.9``, with or without
            brackets; ``[[64,64],[256,256]]``) or a range (``1e-4..1e-2``, ``1e-4..1e-2:log``,
            ``2..8``).

    Returns:
        Values or range by name of an option of ``fit``.

    Raises:
        ValueError: A word is none, a name is given twice or belongs to the sweep itself, or a range
            is empty.
    """
    found: dict[str, Values] = {}
    for word in words:
        name, equals, text = word.removeprefix("--").partition("=")
        if not name or not equals or not text.strip():
            raise ValueError(
                f"--over {word}: write NAME=VALUES, such as model.expectile=0.7,0.9 or "
                "model.learning_rate=1e-4..1e-2:log"
            )
        if name in OWN:
            raise ValueError(f"--over {word}: {name} differs between the runs of a sweep by itself")
        if name in found:
            raise ValueError(f"--over {name} is given twice: write all of its values in one")
        match = _RANGE.fullmatch(text.strip())
        found[name] = _range(word, match) if match else _listed(word, text)
    return found


class Grid:
    """Every combination of values, those of the last name changing fastest.

    Args:
        over: Values by name. Without any there is one setting, without options.

    Raises:
        ValueError: There is a range, which has no combinations.
    """

    def __init__(self, over: Mapping[str, Values]) -> None:
        for name, values in over.items():
            if isinstance(values, Range):
                raise ValueError(
                    f"--over {name} is a range: give --trials N to draw from it, or list its values"
                )
        combinations = itertools.product(*over.values())
        self._left = iter([dict(zip(over, values, strict=True)) for values in combinations])

    def next(self) -> Setting | None:
        """Return a setting that was not returned yet, ``None`` at the end."""
        return next(self._left, None)

    def tell(self, setting: Setting, value: float) -> None:
        """Do nothing: a grid does not depend on what its settings are worth."""


def words_of(setting: Setting) -> list[str]:
    """Return a setting as words of ``fit``.

    Args:
        setting: Options by name.

    Returns:
        ``--name=value`` for each, lists and mappings as JSON.
    """
    return [f"--{name}={as_text(value)}" for name, value in setting.items()]


def as_text(value: Any) -> str:
    """Return a value as a word of ``fit`` has it.

    Args:
        value: A value read from YAML.

    Returns:
        Text as it is, everything else as JSON.
    """
    return value if isinstance(value, str) else json.dumps(value)


def name_of(setting: Setting) -> str:
    """Return the name of a setting's folder, which no other setting has.

    Args:
        setting: Options by name.

    Returns:
        Letters, digits and ``=.,-_``: last parts of names with their values, and six digits of a
        hash of the whole.
    """
    if not setting:
        return "as-given"
    pairs = (f"{name.rpartition('.')[2]}={as_text(value)}" for name, value in setting.items())
    readable = re.sub(r"[^\w=.,-]+", "-", ",".join(pairs))[:80].strip("-.,")
    code = hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:6]
    return f"{readable}-{code}"


def _range(word: str, match: "re.Match[str]") -> Range:
    whole = all(_WHOLE.fullmatch(match[end]) for end in ("low", "high"))
    low, high, log = float(match["low"]), float(match["high"]), bool(match["log"])
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"--over {word}: the first end must be below the second")
    if log and low <= 0:
        raise ValueError(f"--over {word}: a logarithmic range begins above 0")
    return Range(low, high, whole, log)


def _listed(word: str, text: str) -> list[Any]:
    bracketed = text if text.lstrip().startswith("[") else f"[{text}]"
    try:
        values = [_number(value) for value in yaml.safe_load(bracketed)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"--over {word}: {text} is no list of values in YAML") from error
    if not values:
        raise ValueError(f"--over {word}: no values")
    try:
        keys = [json.dumps(value, sort_keys=True) for value in values]
    except TypeError as error:  # YAML has dates and sets
        raise ValueError(
            f"--over {word}: a value is no number, text, list or mapping; put text in quotes"
        ) from error
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"--over {word}: {repeated[0]} is listed twice")
    return values


def _number(value: Any) -> Any:
    """Return 1e-3, which YAML 1.1 reads as text, as the number that it is."""
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        return float(value)
    return value
