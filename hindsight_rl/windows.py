"""Windows: which neighbours of a row, in its own episode, a learner reads beside it."""

from typing import NamedTuple

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
