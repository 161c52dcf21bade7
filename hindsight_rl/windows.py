"""Windows: which neighbours of a row, in its own episode, a learner reads beside it."""

from typing import NamedTuple

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.keys import Key

HISTORY, CHUNK, VALID = "history", "chunk", "valid"


class Window(NamedTuple):
    """How many steps around a row t are gathered with it; nothing leaves the row's episode.

    Args:
        history: P, steps before the row: ``("history", name)`` is ``[..., P, ...]``, oldest first,
            t - P to t - 1.
        chunk: C, steps from the row on: ``("chunk", name)`` is ``[..., C, ...]``, t to t + C - 1.
    """

    history: int = 0
    chunk: int = 1


class Chunk(NamedTuple):
    """How a policy that answers with several actions at once is executed.

    Args:
        length: C, actions of an answer; the first is for now.
        execute: How many are executed before the policy is asked again, in [1, C].
        ensemble: Decay m of the weights exp(-m i) by which all answers for a step are averaged, the
            oldest being i = 0; the policy is then asked at every step. ``None``: no average.
    """

    length: int
    execute: int
    ensemble: float | None = None

    @classmethod
    def of(cls, length: int, execute: int | None = None, ensemble: float | None = None) -> "Chunk":
        """Return how answers of so many actions are executed.

        Args:
            length: C, at least 1.
            execute: In [1, C]; ``None`` for half of them, or for 1 where answers are averaged.
            ensemble: Decay m in [-10, 10]; ``None`` for no average. With one, ``execute`` is 1.

        Returns:
            The chunk.

        Raises:
            ValueError: An argument is out of range.
        """
        if execute is None:
            execute = max(1, length // 2) if ensemble is None else 1
        check_ranges(at_least(1, chunk=length), within(f"[1, {length}]", execute=execute))
        if ensemble is not None and (execute != 1 or not -10 <= ensemble <= 10):
            raise ValueError(
                f"ensemble {ensemble} must be in [-10, 10], and execute {execute} then be 1: the "
                "policy is asked at every step"
            )
        return cls(length, execute, ensemble)


def window_names(keys: tuple[Key, ...], part: str) -> tuple[Key, ...]:
    """Return the columns that keys ask windows of.

    Args:
        keys: What a learner reads, ``("history", "action")`` say.
        part: ``"history"`` or ``"chunk"``.

    Returns:
        The columns' own keys; ``valid`` is none.
    """
    inner = [key[1:] for key in keys if not isinstance(key, str) and key[0] == part]
    return tuple(key[0] if len(key) == 1 else key for key in inner if key != (VALID,))
