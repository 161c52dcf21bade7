"""What is wrong with a column map by itself: types, and fields that contradict each other."""

import math
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import text_options
from hindsight_rl.logs.reading.column_values import (
    DELIMITERS,
    LEFT_OUT,
    SHIFTED,
    TOO_LARGE,
    fits,
    impossible_numbers,
    readable,
)

_QUOTES = "Correct the value; YAML reads yes, no, on and off as true and false: put text in quotes."


def _holds_bool(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(entry, bool) for entry in values)


def check_fields(values: Mapping[str, Any], hints: Mapping[str, Any], path: Path | None) -> None:
    """Check the fields of a column map, each by itself and all together.

    Args:
        values: Every field by its name.
        hints: The type of each.
        path: File of the map, for messages; ``None`` where it was given in Python.

    Raises:
        LogError: A value of the wrong type, impossible numbers, or fields that contradict.
    """
    for name, hint in hints.items():
        if not fits(values[name], hint):
            raise LogError(
                f"{name}: {reprlib.repr(values[name])} is not {readable(hint)}",
                _QUOTES if _holds_bool(values[name]) and hint is not bool else "Correct the value.",
                path=path,
            )
    for problem, fix in (*_contradictions(values), *impossible_numbers(values)):
        raise LogError(problem, fix, path=path)


def _contradictions(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = [name for name in DELIMITERS if values[name] not in (None, False, LEFT_OUT)]
    if len(given) > 1:
        yield f"{' and '.join(given)} both say where episodes begin", "Keep one of them."
    if values["done"] and (values["terminated"] or (values["truncated"] and values["done_means"])):
        yield (
            "done is given beside terminated or truncated",
            "Keep done with done_means, done with truncated, or the other two.",
        )
    if values["continues"] and (values["terminated"] or values["done"]):
        yield (
            "continues is given beside terminated or done",
            "Keep one of them: they say the same.",
        )
    if (values["done_means"] == "time_limit") != (values["time_limit"] is not None):
        yield (
            "`done_means: time_limit` and `time_limit: STEPS` go together",
            "Give both or neither.",
        )
    for name in ("time_limit", "episode_length", "action_count", "control_rate_hz", "max_age"):
        if values[name] is not None and not values[name] > 0:
            yield f"{name}: {values[name]} is not above 0", "Give a positive number."
    if values["resize"] is not None and (len(values["resize"]) != 2 or min(values["resize"]) < 1):
        yield f"resize: {values['resize']} is no height and width", "Give two, as in [96, 96]."
    yield from text_options.contradictions(values)
    yield from _entries(values)
    yield from _unknown_keys(values)


def _entries(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the entries of an observation."""
    observed, after = values["observation"], values["next_observation"]
    entries = observed if isinstance(observed, dict) else {}
    for name in entries:
        if not isinstance(name, str) or not name or "." in name:
            yield (
                f"observation: an entry is called {name!r}",
                "Give a text without dots; 'arm/q' for the entry q of an arm.",
            )
    given = after if isinstance(after, dict) else {}
    if given.keys() - entries.keys():
        yield (
            f"next_observation has the entry {min(map(str, given.keys() - entries.keys()))!r}, and "
            "observation does not",
            "Give both the same entries; one left out in next_observation is the following row.",
        )
    if entries and isinstance(after, (str, list)) and after not in (LEFT_OUT, SHIFTED):
        yield (
            "observation has entries, and next_observation is a column",
            "Name the next column of each entry: `next_observation: {ENTRY: COLUMN}`.",
        )
    wrong = sorted((values["observation_choices"] or {}).keys() - entries.keys(), key=str)
    if wrong:
        yield (
            f"observation_choices names {wrong[0]!r}, which is no entry of the observation",
            "Name entries: `observation: {gear: COLUMN}` with `observation_choices: {gear: 5}`.",
        )
    for name, count in (values["observation_choices"] or {}).items():
        if count is not None and not 0 < count < TOO_LARGE:
            yield f"observation_choices: {name} has {count} choices", "Give a positive number."


def _unknown_keys(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names, units and offsets of what is neither observation, action nor task."""
    observed = values["observation"]
    entries = [f"observation.{n}" for n in observed] if isinstance(observed, dict) else []
    for name in ("names", "units", "offset"):
        known = [*(entries or ["observation"]), "action", "task"]
        if name == "offset":  # that of the action is action_offset
            known.remove("action")
        wrong = sorted(set(values[name] or {}) - set(known), key=str)
        if wrong:
            keys = f"{', '.join(known[:-1])} and {known[-1]}"
            yield f"{name} has no key {wrong[0]!r}", f"Its keys are {keys}."
    for key, numbers in (values["offset"] or {}).items():
        if not all(map(math.isfinite, numbers if isinstance(numbers, list) else [numbers])):
            yield f"offset: that of the {key} is not finite", "Give finite numbers."
