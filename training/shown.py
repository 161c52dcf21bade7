"""Rows of a log as a policy is shown them: as networks take them, or as the environment would."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.keys import OBSERVATION, TASK, Key
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.offsets import has_offset
from hindsight_rl.ports import LogView
from hindsight_rl.spec import Spec

SPAN = 8192  # rows at a time
NUMBERS = 1 << 25  # of what is seen in them: images are shown fewer at a time


def spans(log: LogView, keys: Sequence[Key], rows: Tensor) -> list[Tensor]:
    """Return rows in parts, each small enough for memory.

    Args:
        log: The log.
        keys: What is looked at.
        rows: ``[M]`` int64.

    Returns:
        ``[m]`` int64 each.
    """
    width = sum(log.take(key, rows[:1]).numel() for key in keys)
    return list(rows.split(max(1, min(SPAN, NUMBERS // max(width, 1)))))


class Shown:
    """What a policy is shown of a log.

    Args:
        policy: What the policy takes.
        log: What the log holds, and which offsets were subtracted from it.
    """

    def __init__(self, policy: Spec, log: Spec) -> None:
        self.policy, self.log = policy, log

    def spans(self, log: LogView) -> list[Tensor]:
        """Return all rows of a log in parts, each small enough for memory."""
        return spans(log, self._observed(after=False), torch.arange(len(log)))

    def tensors(
        self, log: LogView, rows: Tensor, *, after: bool, device: torch.device
    ) -> tuple[Observation, Tensor | None]:
        """Return an observation and a task as networks take them.

        Args:
            log: The log.
            rows: ``[n]`` int64.
            after: Whether the next observation of each row is meant.
            device: Where they go.

        Returns:
            ``[n, ...]``, whole or by entry; the task ``None`` where the policy takes none.
        """
        sides = zip(self._observed(after=False), self._observed(after=after), strict=True)
        seen = {now: log.take(key, rows).to(device) for now, key in sides}
        task = None if self.policy.task is None else log.take(TASK, rows).to(device)
        return _named(seen), task

    def arrays(
        self, log: LogView, rows: Tensor, *, after: bool | Tensor
    ) -> tuple[Any, NDArray[Any] | None]:
        """Return an observation and a task as an environment shows them: with their offsets.

        Args:
            log: The log.
            rows: ``[n]`` int64.
            after: Whether the next observation of a row is meant, of all or of each ``[n]``.

        Returns:
            As :meth:`tensors`, float64 where the spec has an offset.
        """
        seen = {}
        later = torch.as_tensor(after).expand(len(rows))
        for now, following in zip(
            self._observed(after=False), self._observed(after=True), strict=True
        ):
            value = log.take(now, rows)
            if bool(later.any()):
                value = value.clone()
                value[later] = log.take(following, rows[later])
            name = now if isinstance(now, str) else now[1]
            seen[now] = _raw(value, self.log.observation.get(name))
        task = None
        if self.policy.task is not None:
            task = _raw(log.take(TASK, rows), self.log.task)
        return _named(seen), task

    def _observed(self, *, after: bool) -> list[Key]:
        found: list[Key] = [("observation", name) for name in self.policy.observation]
        if self.policy.whole:
            found = [OBSERVATION]
        if after:
            found = [("next", *([key] if isinstance(key, str) else key)) for key in found]
        return found


def _raw(value: Tensor, entry: Any) -> NDArray[Any]:
    """Return numbers as the environment shows them, float64 where the spec has an offset."""
    if not has_offset(entry):
        return value.numpy()
    shown: NDArray[Any] = value.double().numpy() + np.asarray(entry.offset)
    return shown


def _named(seen: Mapping[Key, Any]) -> Any:
    """Return one array as it is, entries by name."""
    if len(seen) == 1 and OBSERVATION in seen:
        return seen[OBSERVATION]
    return {key[1]: value for key, value in seen.items()}


def check_fits(name: str, policy: Spec, log: Spec, verb: str = "Judge") -> None:
    """Check that a policy takes and gives what a log holds.

    Args:
        name: Of the policy.
        policy: What it takes.
        log: What the log looks like.
        verb: What is done to the policy by the log, for the message.

    Raises:
        ValueError: It is something else.
    """
    pairs = [
        ("observation", _shapes(policy), _shapes(log)),
        ("action", _action(policy), _action(log)),
    ]
    if policy.task is not None and log.task is not None:
        pairs.append(("task", str(list(policy.task.shape)), str(list(log.task.shape))))
    for what, own, there in pairs:
        if own != there:
            raise ValueError(
                f"{name}: its {what} is {own}, and that of the log {there}. {verb} it by a log of "
                "the robot and the task that it was fitted to"
            )


def _shapes(spec: Spec) -> str:
    return ", ".join(f"{name} {list(entry.shape)}" for name, entry in spec.observation.items())


def _action(spec: Spec) -> str:
    action = spec.action
    if not action.discrete:
        return f"{list(action.shape)} real numbers"
    return f"one of {action.n}" + (f", counted from {action.start}" if action.start else "")
