"""Answers that a page of pairs saved: JSON, to be appended to ``preferences.npz``."""

import math
from pathlib import Path
from typing import Any

import torch

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import read_json, regular_file
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import Preferences, check_about, check_segments

FORMAT = "hindsight answers 1"
"""What a file of answers says of itself."""

LABELS = (0.0, 0.5, 1.0)
_FIX = "Give the file that a page of 'hindsight compare' saved, as it is."
_SEGMENT = ("episode_1", "episode_2", "start_1", "start_2")


def read_answers(path: Path, log: Log, *, annotator: str = "") -> Preferences:
    """Return the answers of a page.

    Args:
        path: File of JSON.
        log: The log that they are about.
        annotator: Who answered, in place of what the file says.

    Returns:
        At least one answer.

    Raises:
        LogError: The file is missing, damaged, of another kind, empty, or about another log.
    """
    found = read_json(regular_file(path))
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise LogError(f"no file of answers: it does not say '{FORMAT}'", _FIX, path=path)
    for name in ("page", "log_hash", "annotator"):
        if not isinstance(found.get(name), str):
            raise LogError(f"'{name}' is no text", _FIX, path=path)
    length: Any = found.get("length")
    answers: Any = found.get("answers")
    if not _whole(length) or not 1 <= length < 1 << 31:
        raise LogError(f"'length' is {length!r}, no number of steps", _FIX, path=path)
    if not isinstance(answers, list):
        raise LogError("'answers' is no list", _FIX, path=path)
    if not answers:
        raise LogError("holds no answer", "Answer some pairs and save again.", path=path)
    check_about(found["log_hash"], log, path)
    for row, answer in enumerate(answers):
        _check(answer, row, path)
    segments = torch.tensor([[answer[name] for name in _SEGMENT] for answer in answers])
    episode, start = segments[:, :2], segments[:, 2:]
    check_segments(episode, start, length, log, path)
    count = len(answers)
    return Preferences(
        found["log_hash"],
        length,
        episode,
        start,
        torch.tensor([float(answer["label"]) for answer in answers]),
        torch.full((count, 2), math.nan),
        (annotator or found["annotator"],) * count,
        (found["page"],) * count,
    )


def _check(answer: Any, row: int, path: Path) -> None:
    """Raise on an answer that is none."""
    if not isinstance(answer, dict):
        raise LogError("an answer is no object", _FIX, path=path, row=row)
    for name in _SEGMENT:
        if not _whole(answer.get(name)) or abs(answer[name]) >= 1 << 62:
            raise LogError(f"'{name}' is no whole number", _FIX, path=path, row=row)
    if isinstance(answer.get("label"), bool) or answer.get("label") not in LABELS:
        raise LogError(
            f"'label' is {answer.get('label')!r}, it must be 0, 0.5 or 1", _FIX, path=path, row=row
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
