"""What ``hindsight run --record`` writes: a NumPy archive with its column map, or a recording."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.paced import stamps_at
from hindsight_rl.export.recorder import write_episodes
from hindsight_rl.files import write_text, write_whole

UNPACED_HZ = 50.0
"""Steps a second by which a recording is stamped where no rate is known."""


class LogFile:
    """A log of the episodes: ``.npz`` and its column map in ``.yaml`` beside it, or ``.mcap``.

    Args:
        path: A file ending in one of them.
        rate: Steps a second, for the stamps of a recording; ``None`` where it is not known.

    Raises:
        ValueError: It is of another kind.
    """

    def __init__(self, path: Path, rate: float | None = None) -> None:
        if path.suffix.lower() not in (".npz", ".mcap"):
            raise ValueError(
                f"--record {path}: a NumPy archive or a recording is written. End it in .npz or "
                ".mcap."
            )
        self._path, self._rate, self.written = path, rate, ""
        self.stamps: Callable[[], Sequence[int]] | None = None
        """Returns when each step was, ns since 1970, where that is known."""

    def __call__(
        self, columns: Mapping[str, NDArray[Any]], column_map: Mapping[str, Any], unstated: str
    ) -> None:
        """Write what belongs to it, each file whole or not at all."""
        rows = len(columns["reward"])
        if self._path.suffix.lower() == ".npz":
            named: dict[str, Any] = dict(columns)
            write_whole(self._path, lambda file: np.savez(file, **named))
            columns_of = self._path.with_suffix(".yaml")
            write_text(columns_of, json.dumps(column_map, indent=1) + "\n")
            self.written = f"{self._path} ({rows:,} rows; column map {columns_of})"
        else:
            rate = self._rate or UNPACED_HZ
            if self.stamps is None and self._rate is None:
                sys.stderr.write(
                    f"{self._path}: steps are stamped at {rate:g} Hz, as no rate is known: give "
                    "control_rate_hz where it is read\n"
                )
            stamps = stamps_at(rate, rows) if self.stamps is None else self.stamps()
            stated = {"control_rate_hz": self._rate} if self._rate else {}
            told = {**column_map, **stated}
            write_whole(self._path, lambda file: write_episodes(file, columns, told, stamps))
            self.written = f"{self._path} ({rows:,} rows, with their column map)"
        if unstated:
            sys.stderr.write(f"no action_log_prob is recorded: {unstated}\n")
