"""``preferences.npz``: which of two segments of a log somebody found better.

An archive of plain arrays, M rows one per answer, in the order in which they were given:

==============  ================  ==================================================================
episode_1, _2   ``[M]`` int64     episode of the first and of the second segment
start_1, _2     ``[M]`` int64     step of that episode at which it begins
label           ``[M]`` float32   probability that the second is better: 0, 1, .5 for a tie
annotator       ``[M]`` text      who answered; empty where nobody said
page            ``[M]`` text      page of pairs that it answers; empty for a synthetic teacher's
score_1, _2     ``[M]`` float32   what a teacher thinks of each segment; NaN where nobody said
length          ``[]`` int64      steps of every segment
log_hash        ``[]`` text       hash of the log
==============  ================  ==================================================================

Rows of a log mean nothing in another one, so a file names its log and is read with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.files import write_whole
from hindsight_rl.keys import STEP
from hindsight_rl.logs.archives import arrays, open_archive
from hindsight_rl.logs.checks import Array, first
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import regular_file
from hindsight_rl.logs.log import Log

_SEGMENTS = ("episode_1", "start_1", "episode_2", "start_2")
_NEEDED = ("label", *_SEGMENTS, "length", "log_hash")
_NUMBERS = ("fiu", "numbers")
_KINDS = {
    **dict.fromkeys((*_SEGMENTS, "length"), ("iu", "whole numbers")),
    **dict.fromkeys(("log_hash", "annotator", "page"), ("U", "text")),
}
_FIX = "Write it with 'hindsight compare'; docs/good.md says what it holds."


@dataclass(frozen=True)
class Preferences:
    """Answers about pairs of segments.

    Args:
        log_hash: Of the log.
        length: Steps of every segment, L.
        episode: ``[M, 2]`` int64, of the first and the second segment.
        start: ``[M, 2]`` int64, steps of those episodes.
        label: ``[M]`` float32 in [0, 1], probability that the second is better.
        score: ``[M, 2]`` float32, what a teacher thinks of each; NaN where nobody said.
        annotator: M names.
        page: M names of pages.
    """

    log_hash: str
    length: int
    episode: Tensor
    start: Tensor
    label: Tensor
    score: Tensor
    annotator: tuple[str, ...]
    page: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    @property
    def scored(self) -> bool:
        """Whether a teacher's scores of all segments are known."""
        return bool(torch.isfinite(self.score).all())

    @property
    def annotators(self) -> list[str]:
        """Names of those who answered, in alphabetical order."""
        return sorted(set(self.annotator))

    def of(self, annotator: str) -> "Preferences":
        """Return the answers of one annotator.

        Args:
            annotator: The name.

        Returns:
            Preferences about the same log.

        Raises:
            LogError: There is none of that name.
        """
        kept = torch.tensor([name == annotator for name in self.annotator], dtype=torch.bool)
        if not kept.any():
            known = ", ".join(name or "(no name)" for name in self.annotators)
            raise LogError(f"no answer is of annotator '{annotator}'", f"There are: {known}.")
        return self[kept.nonzero().squeeze(1)]

    def __getitem__(self, rows: Tensor) -> "Preferences":
        return replace(
            self,
            episode=self.episode[rows],
            start=self.start[rows],
            label=self.label[rows],
            score=self.score[rows],
            annotator=tuple(self.annotator[row] for row in rows.tolist()),
            page=tuple(self.page[row] for row in rows.tolist()),
        )

    def rows(self, log: Log) -> Tensor:
        """Return the row numbers of the segments' first steps, ``[M, 2]`` int64.

        Args:
            log: The log that they are about; :func:`read_preferences` checked them against it.

        Returns:
            Row numbers.
        """
        return episode_starts(log)[self.episode] + self.start

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Args:
            path: The file; one that is there is replaced.

        Raises:
            WriteError: It cannot be written.
        """
        columns: dict[str, Any] = {
            "length": np.int64(self.length),
            "log_hash": np.array(self.log_hash),
            "label": self.label.numpy(),
            "annotator": np.array(self.annotator, dtype=np.str_),
            "page": np.array(self.page, dtype=np.str_),
        }
        for place in range(2):
            columns[f"episode_{place + 1}"] = self.episode[:, place].numpy()
            columns[f"start_{place + 1}"] = self.start[:, place].numpy()
            columns[f"score_{place + 1}"] = self.score[:, place].numpy()
        write_whole(path, lambda file: np.savez(file, **columns))


def episode_starts(log: Log) -> Tensor:
    """Return the row number of each episode's first step, ``[E]`` int64."""
    ends = log.episode_ends()
    return ends - log.column(STEP)[ends]


def joined(first_ones: Preferences, second_ones: Preferences, path: Path) -> Preferences:
    """Return the answers of both; who answered the same pair of the same page again, changed it.

    Args:
        first_ones: What was known. An answer that was changed stays at its place.
        second_ones: What is new.
        path: The file that the first ones are from, for messages.

    Returns:
        All answers.

    Raises:
        LogError: They are about different logs, or lengths of segments.
    """
    for name, what in (("log_hash", "a log with hash {}"), ("length", "segments of {} steps")):
        one, other = getattr(first_ones, name), getattr(second_ones, name)
        if one != other:
            raise LogError(
                f"holds answers about {what.format(one)}, and the new ones are about {other}",
                "Name another file: --output FILE.",
                path=path,
            )
    known = {key: row for row, key in enumerate(_answered(first_ones)) if key[1]}
    label, fresh = first_ones.label.clone(), []
    for row, key in enumerate(_answered(second_ones)):
        if key in known:
            label[known[key]] = second_ones.label[row]
        else:
            fresh.append(row)
    base, new = (
        replace(first_ones, label=label),
        second_ones[torch.tensor(fresh, dtype=torch.int64)],
    )
    both: dict[str, Any] = {}
    for field in fields(Preferences):
        one, other = getattr(base, field.name), getattr(new, field.name)
        if isinstance(one, Tensor):
            both[field.name] = torch.cat([one, other])
        elif isinstance(one, tuple):
            both[field.name] = one + other
    return replace(base, **both)


def _answered(found: Preferences) -> list[tuple[Any, ...]]:
    """Return annotator, page and segments of every answer."""
    segments = torch.cat([found.episode, found.start], dim=1).tolist()
    named = zip(found.annotator, found.page, segments, strict=True)
    return [(annotator, page, *segment) for annotator, page, segment in named]


def read_preferences(path: str | Path, log: Log) -> Preferences:
    """Return the answers that a file holds about a log.

    Args:
        path: The file.
        log: The log.

    Returns:
        At least one answer; every segment lies in its episode.

    Raises:
        LogError: It is missing, damaged, no file of preferences, empty, about another log, or
            names segments that the log does not have.
    """
    if not Path(path).exists():
        raise LogError(
            "no such file",
            "Give one with --data.preferences; 'hindsight compare' writes it, from answers on a "
            "page (--answers) or of a teacher (--teacher return).",
            path=Path(path),
        )
    path = regular_file(Path(path))
    if path.suffix == ".json":
        raise LogError(
            "no file of preferences: a page of 'hindsight compare' saves answers as JSON",
            f"Append them to one first: hindsight compare --data.source LOG --answers {path.name}",
            path=path,
        )
    with open_archive(path) as archive:
        absent = [name for name in _NEEDED if name not in archive.files]
        if absent:
            raise LogError(
                f"no file of preferences: it has no array '{absent[0]}'", _FIX, path=path
            )
        further = ("annotator", "page", "score_1", "score_2")
        names = [*_NEEDED, *(name for name in further if name in archive.files)]
        held = arrays(archive, names, path)
    found = _checked(held, path)
    check_about(found.log_hash, log, path)
    check_segments(found.episode, found.start, found.length, log, path)
    return found


def check_about(log_hash: str, log: Log, path: Path) -> None:
    """Raise on what is about another log.

    Args:
        log_hash: Of the log that it is about.
        log: The log.
        path: Where it is from.

    Raises:
        LogError: It is another one.
    """
    if log_hash != log.hash():
        raise LogError(
            f"is about a log with hash {log_hash}, and {log.sources[0].name} has {log.hash()}",
            "Give the log whose segments were compared, read by the same column map.",
            path=path,
        )


def check_segments(episode: Tensor, start: Tensor, length: int, log: Log, path: Path) -> None:
    """Raise on segments that a log does not have.

    Args:
        episode: ``[M, 2]`` int64.
        start: ``[M, 2]`` int64.
        length: Steps of each.
        log: The log.
        path: Where they are from.

    Raises:
        LogError: An episode does not exist, or a segment leaves it.
    """
    lengths = log.column(STEP)[log.episode_ends()] + 1
    wrong = (episode < 0) | (episode >= log.episodes)
    size = lengths[episode.masked_fill(wrong, 0)]
    row = first((wrong | (start < 0) | (start > size - length)).numpy())
    if row is None:
        return
    place = int((wrong | (start < 0) | (start > size - length))[row].nonzero()[0])
    number, at = int(episode[row, place]), int(start[row, place])
    held = f"the log has episodes 0 to {log.episodes - 1}"
    if not wrong[row, place]:
        held = f"that episode has {int(size[row, place])}"
    raise LogError(
        f"steps {at} to {at + length - 1} of episode {number} are compared, and {held}",
        _FIX,
        path=path,
        row=row,
    )


def _checked(held: dict[str, Array], path: Path) -> Preferences:
    """Return what arrays say, each checked by itself."""
    label = held["label"]
    count = len(label) if label.ndim else 0
    for name in ("annotator", "page"):
        held.setdefault(name, np.full(count, ""))
    for name in ("score_1", "score_2"):
        held.setdefault(name, np.full(count, np.nan))
    for name, found in held.items():
        kinds, what = _KINDS.get(name, _NUMBERS)
        shape = () if name in ("length", "log_hash") else (count,)
        if found.shape != shape or found.dtype.kind not in kinds:
            raise LogError(
                f"shape {list(found.shape)} of {found.dtype}, it must be {list(shape)}, {what}",
                _FIX,
                path=path,
                column=name,
            )
    _check_values(label, int(held["length"]), path)
    return Preferences(
        str(held["log_hash"]),
        int(held["length"]),
        _two(held, "episode", np.int64),
        _two(held, "start", np.int64),
        torch.from_numpy(label.astype(np.float32)),
        _two(held, "score", np.float32),
        tuple(held["annotator"].tolist()),
        tuple(held["page"].tolist()),
    )


def _check_values(label: Array, length: int, path: Path) -> None:
    if not len(label):
        raise LogError(
            "holds no answer", "Answer some pairs first: 'hindsight compare'.", path=path
        )
    row = first(~((label >= 0) & (label <= 1)))
    if row is not None:
        raise LogError(
            f"{label[row]:g} is no probability that the second segment is better",
            "Labels are 0, 1, or .5 for a tie.",
            path=path,
            column="label",
            row=row,
        )
    if not 1 <= length < 1 << 31:
        raise LogError(f"segments of {length} steps", _FIX, path=path, column="length")


def _two(held: dict[str, Array], name: str, kind: type[np.generic]) -> Tensor:
    columns: Sequence[Array] = [held[f"{name}_1"], held[f"{name}_2"]]
    return torch.from_numpy(np.stack([column.astype(kind) for column in columns], axis=1))
