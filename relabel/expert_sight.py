"""What an expert is shown of a log, and whether it takes and gives what the log holds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl import entries
from hindsight_rl.keys import ACTION, TASK, Key, key_name
from hindsight_rl.ports import LogView
from hindsight_rl.spec import Spec
from hindsight_rl.spec_parts import ActionSpec

_ROWS, _NUMBERS = 8192, 1 << 25  # rows asked about together, and numbers of what is seen in them


class Sight:
    """What an expert is shown of a log: what the environment showed, offsets added again.

    Args:
        log: The log.
        reads: Columns, ``None`` for the observation.
        spec: What the expert takes and gives, ``None`` where it does not say.

    Raises:
        ValueError: The log does not hold it.
    """

    def __init__(self, log: LogView, reads: Sequence[Key] | None, spec: Spec | None) -> None:
        self._log, self._spec = log, spec
        self._entries: dict[str, Key] = {}
        self._reads = list(reads or ())
        if not self._reads and "observation" in log and (spec is None or spec.whole is not None):
            self._reads = ["observation"]
        if not self._reads:
            names = log.info.get("entries") or [] if spec is None else list(spec.observation)
            self._entries = {n: self._entry(n) for n in names}
        missing = [key for key in self._reads if key not in log]
        if missing:
            raise ValueError(
                f"the expert reads '{missing[0]}', and the log has no such column: name what the "
                "column map makes of it ('observation', or a name in 'extra')"
            )
        if spec is not None:
            self._check(spec)
        one = torch.zeros(1, dtype=torch.int64)
        width = sum(log.take(key, one).numel() for key in (*self._reads, *self._entries.values()))
        self.together = max(1, min(_ROWS, _NUMBERS // max(1, width)))

    def _entry(self, name: str) -> Key:
        """Return the column of an entry: of the observation, or one beside it."""
        found = [key for key in (("observation", name), name) if key in self._log]
        if not found:
            raise ValueError(f"the expert sees '{name}', and the log has no such entry or column")
        return found[0]

    def observation(self, rows: Tensor) -> Any:
        """Return what it sees in rows ``[n]``."""
        if self._entries:
            return {name: self._raw(key, rows) for name, key in self._entries.items()}
        if self._reads == ["observation"]:
            return self._raw("observation", rows)
        parts = [self._raw(key, rows).reshape(len(rows), -1) for key in self._reads]
        return np.concatenate(parts, axis=1)

    def task(self, rows: Tensor) -> NDArray[Any] | None:
        """Return the tasks of rows, ``None`` where it takes none or there is none."""
        takes = self._spec is None or self._spec.task is not None
        return self._raw(TASK, rows) if takes and TASK in self._log else None

    def _raw(self, key: Key, rows: Tensor) -> NDArray[Any]:
        value = self._log.take(key, rows)
        offset = (self._log.info.get("offset") or {}).get(key_name(key))
        if offset is None:
            found: NDArray[Any] = value.numpy()
            return found
        shown: NDArray[Any] = value.double().numpy() + np.asarray(offset)
        return shown

    def _check(self, spec: Spec) -> None:
        """Raise where a file takes or gives something else than the log holds."""
        one = torch.zeros(1, dtype=torch.int64)
        seen = self.observation(one)
        shown = seen if isinstance(seen, dict) else {next(iter(spec.observation)): seen}
        for name, entry in spec.observation.items():
            here = list(np.shape(shown[name])[1:])
            if here != list(entry.shape) and int(np.prod(here)) != int(np.prod(entry.shape)):
                raise ValueError(
                    f"the expert takes {name} of shape {list(entry.shape)}, and the log has "
                    f"{here}: give a log of the robot that it was fitted to, or name what it reads"
                )
        self._check_names(spec)
        if spec.task is not None and spec.task.default is None and TASK not in self._log:
            raise ValueError("the expert takes a task, and the log has none")
        if spec.task is not None and TASK in self._log:
            here = list(self._log.take(TASK, one).shape[1:])
            if here != list(spec.task.shape):
                raise ValueError(
                    f"the expert takes a task of shape {list(spec.task.shape)}, and that of the "
                    f"log is {here}"
                )
        _check_action(spec.action, self._log)

    def _check_names(self, spec: Spec) -> None:
        """Raise on inputs in another order than the log's."""
        if self._reads != ["observation"] or spec.whole is None:
            return
        there = spec.whole.names
        here = (self._log.info.get("names") or {}).get("observation")
        if there is None or entries.are_numbered(there, "observation"):
            return
        if here is None or entries.are_numbered(here, "observation"):
            return
        if problem := entries.mismatch(there, here):
            raise ValueError(f"the observation of the expert {problem}")


def _check_action(action: ActionSpec, log: LogView) -> None:
    """Raise on actions of another kind, number or unit than the log's."""
    logged = log.take(ACTION, torch.zeros(1, dtype=torch.int64))
    if action.discrete != (not logged.is_floating_point()):
        kinds = ("real numbers", "choices")
        raise ValueError(
            f"the expert gives {kinds[action.discrete]}, and the log's actions are "
            f"{kinds[not action.discrete]}"
        )
    if action.discrete:
        return
    if list(action.shape) != list(logged.shape[1:]):
        raise ValueError(
            f"the expert's actions have shape {list(action.shape)}, and those of the log "
            f"{list(logged.shape[1:])}"
        )
    for side, own in (("low", action.low), ("high", action.high)):
        here = (log.info.get("action") or {}).get(side)
        if own is None or here is None:
            continue
        one, two = (np.array([np.nan if x is None else x for x in ends]) for ends in (own, here))
        with np.errstate(invalid="ignore"):
            if (np.abs(one - two) > 1e-5 * (1 + np.abs(two))).any():
                raise ValueError(
                    f"the {side} bound of the expert's actions is {list(own)}, and that of the log "
                    f"{list(here)}: their units differ"
                )
