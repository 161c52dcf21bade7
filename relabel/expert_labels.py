"""Labels: what an expert would do in every row of a log."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.float32 import inward
from hindsight_rl.keys import ACTION, EPISODE, EPISODE_END, EXPERT_ACTION, STEP, key_of
from hindsight_rl.maths.draws import fork_key, seed_key
from hindsight_rl.ports import Actor, LogView, Remembering
from hindsight_rl.relabel.expert_answers import read_answers
from hindsight_rl.relabel.expert_sight import Sight
from hindsight_rl.relabel.experts import (
    ExpertFunction,
    ExpertSource,
    asked,
    file_identity,
    identity,
    opened,
    spec_of,
)
from hindsight_rl.relabel.relabeler import Relabeler

_TOGETHER = 256  # episodes that an expert with a state follows side by side


class ExpertLabels(Relabeler):
    """Adds ``expert_action``: what an expert would do in each row's state.

    The executed action stays as it is; :class:`ExpertAction` behind it trains on the expert's.
    Every row is asked about once, when the log is prepared. An expert with a state follows each
    episode from its first step, and remembers what was executed there. Answers are clipped to the
    action bounds that the log states.

    Args:
        expert: An exported file (``policy.onnx``), ``module:function`` (the function takes
            observations ``[n, O]``, tasks or ``None``, and ``None`` in the place of an environment,
            and may answer NaN where it does not know), a table of a person's answers
            (``answers.csv``, see :func:`hindsight_rl.relabel.expert_answers.read_answers`), or from
            Python a function.
        reads: Columns that the expert sees, joined in this order, in the place of the observation;
            they may be columns that the policy does not see. None for a table.
        seed: Of an expert's noise, not negative.

    Raises:
        ValueError: There is no such expert; or (``prepare``) it takes or gives something else than
            the log holds, or a table names other rows.
    """

    out_keys = (EXPERT_ACTION,)

    def __init__(self, expert: ExpertSource, reads: list[str] | None = None, seed: int = 0) -> None:
        super().__init__()
        if seed < 0:
            raise ValueError(f"seed is {seed}, it may not be negative")
        self.expert, self.seed = expert, seed
        self.reads = None if reads is None else [key_of(name) for name in reads]
        if self.reads is not None:
            self.in_keys = tuple(self.reads)
        named = isinstance(expert, (str, Path)) and str(expert).endswith(".csv")
        self._table = Path(str(expert)) if named else None
        if self._table is not None and reads is not None:
            raise ValueError(f"{expert} is a table of answers, which sees nothing: leave out reads")
        self._asked = opened(expert) if self._table is None else None

    @property
    def provenance(self) -> dict[str, Any]:
        """Name and hash of the expert."""
        if self._table is not None:
            return file_identity(self._table)
        return identity(self.expert, self._expert())

    def _expert(self) -> ExpertFunction | Actor:
        if self._asked is None:
            raise RuntimeError("a table is not asked")
        return self._asked

    def prepare(self, log: LogView) -> "ExpertLabels":
        """Return a copy that carries the labels.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: The expert takes or gives something else than the log holds.
        """
        action = log.column(ACTION)
        if self._table is not None:
            answers = read_answers(self._table, log).numpy()
            checked = _checked(answers, action, log, self._name())
            return self.bound(columns={EXPERT_ACTION: torch.from_numpy(checked)})
        sight = Sight(log, self.reads, spec_of(self._expert()))
        follows = isinstance(self._asked, Actor) and bool(self._asked.initial_state(1))
        walk = self._followed if follows else self._rows
        found = torch.full(action.shape, torch.nan)
        for rows, answer in walk(log, sight):
            found[rows] = torch.from_numpy(_checked(answer, action[rows], log, self._name()))
        return self.bound(columns={EXPERT_ACTION: found})

    def _name(self) -> str:
        return f"expert {self.provenance['expert']}"

    def _step(
        self, log: LogView, sight: Sight, rows: Tensor, state: dict[str, NDArray[Any]]
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Return its answers in some rows, and its next state."""
        key = torch.full_like(rows, fork_key(seed_key(self.seed), "expert"))
        noise = torch.stack([key, log.take(EPISODE, rows), log.take(STEP, rows)], dim=-1)
        return asked(
            self._expert(), sight.observation(rows), sight.task(rows), None, state, noise.numpy()
        )

    def _rows(self, log: LogView, sight: Sight) -> Iterator[tuple[Tensor, NDArray[Any]]]:
        """Yield rows, and what an expert without a state answers."""
        for rows in torch.arange(len(log)).split(sight.together):
            yield rows, self._step(log, sight, rows, {})[0]

    def _followed(self, log: LogView, sight: Sight) -> Iterator[tuple[Tensor, NDArray[Any]]]:
        """Yield rows, and what an expert with a state answers along the episodes."""
        expert: Any = self._asked
        row = torch.arange(len(log))
        end = log.column(EPISODE_END)
        first, last = row[log.column(STEP) == 0], row[end == row]
        order = (last - first).argsort(descending=True)
        for group in order.split(min(_TOGETHER, sight.together)):
            here, stop = first[group], last[group]
            state = expert.initial_state(len(here))
            while len(here):
                answer, state = self._step(log, sight, here, state)
                yield here, answer
                if isinstance(expert, Remembering):
                    state = expert.with_executed(state, log.take(ACTION, here).numpy())
                going = here < stop
                here, stop = here[going] + 1, stop[going]
                state = {name: value[going.numpy()] for name, value in state.items()}


def _checked(answer: Any, action: Tensor, log: LogView, name: str) -> NDArray[np.float32]:
    """Return answers as labels ``[n, ...]`` float32, clipped to the bounds that the log states."""
    found = np.asarray(answer)
    if found.shape != tuple(action.shape):
        raise ValueError(
            f"{name} answers {len(action)} rows with shape {list(found.shape)}, and their actions "
            f"have {list(action.shape)}"
        )
    found = found.astype(np.float32)
    rows = found.reshape(len(found), -1)
    there = ~np.isnan(rows).all(axis=1)
    if not np.isfinite(rows[there]).all():
        raise ValueError(
            f"{name} answers with numbers that are not finite: give NaN for all numbers of a row "
            "in which it does not know"
        )
    if action.is_floating_point():
        return _clipped(found, log)
    start = int(log.info.get("action_start") or 0)
    stop = start + int(log.info.get("discrete_actions") or 1 << 16)
    known = found[there]
    wrong = (known != np.rint(known)) | (known < start) | (known >= stop)
    if wrong.any():
        raise ValueError(
            f"{name} chooses {known[wrong][0]:g}, and the choices are {start} to {stop - 1}"
        )
    return found


def _clipped(found: NDArray[np.float32], log: LogView) -> NDArray[np.float32]:
    """Return actions between the bounds that the log states."""
    stated = log.info.get("action") or {}
    for side, clip, open_end in (("low", np.maximum, -np.inf), ("high", np.minimum, np.inf)):
        ends = stated.get(side)
        if ends is not None:
            bound = np.array([open_end if end is None else end for end in ends], np.float64)
            found = clip(found, _inside(bound, side))
    return found


def _inside(bound: NDArray[np.float64], side: str) -> NDArray[np.float32]:
    """Return the nearest float32 numbers inside a bound."""
    return np.array([inward(end, low=side == "low") for end in bound], np.float32)
