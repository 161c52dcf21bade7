"""Windows and shots: rows of its own episode, or of its own task, that are read with a row."""

from typing import Literal, NamedTuple

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.keys import Key

HISTORY, CHUNK, VALID = "history", "chunk", "valid"
SUPPORT, QUERY = "support", "query"
COMMITTED, COMMITTED_COUNT = "committed", "committed_count"
"""Names of two parts of a state: actions still to be executed, and how many of them count."""

ActionWindow = Literal["executed", "answers", "plan"]
"""What the actions of a window are to a learner.

``executed``: what was done in those steps, as the policy is shown it. ``answers``: what each step
should have been answered with, given what was seen until then. ``plan``: what should be done from
the row on, step after step, without looking again.
"""


class Window(NamedTuple):
    """How many steps around a row t are gathered with it; nothing leaves the row's episode.

    Args:
        history: P, steps before the row: ``("history", name)`` is ``[..., P, ...]``, oldest first,
            t - P to t - 1.
        chunk: C, steps from the row on: ``("chunk", name)`` is ``[..., C, ...]``, t to t + C - 1.
        stride: Of the rows of an episode every so many-th one is drawn, from the first on: equal
            to ``chunk``, chunks lie side by side, and each step is in one.
    """

    history: int = 0
    chunk: int = 1
    stride: int = 1


class Shots(NamedTuple):
    """How many rows of the task of a row are gathered with it, where the policy must find it out.

    Which task that is says the column ``task_id``, or the source that the row comes from.

    Args:
        support: N, rows of other episodes of the task: ``("support", name)`` is ``[..., N, ...]``.
        query: M, rows of the row's own episode: ``("query", name)`` is ``[..., M, ...]``.
        episodes: Episodes that the support is of, in [1, N].
    """

    support: int
    query: int = 0
    episodes: int = 1


class Chunk(NamedTuple):
    """How a policy that answers with several actions at once is executed.

    Args:
        length: C, actions of an answer; the first is for now.
        execute: How many are executed before the policy is asked again, in [1, C].
        ensemble: Decay m of the weights exp(-m i) by which all answers for a step are averaged, the
            oldest being i = 0; the policy is then asked at every step. ``None``: no average.
        committed: D, actions of the old chunk that are still to be executed when the policy is
            asked, while it computes: the first D actions of its answer repeat them.
    """

    length: int
    execute: int
    ensemble: float | None = None
    committed: int = 0

    @classmethod
    def of(
        cls,
        length: int,
        execute: int | None = None,
        ensemble: float | None = None,
        committed: int = 0,
    ) -> "Chunk":
        """Return how answers of so many actions are executed.

        Args:
            length: C, at least 1.
            execute: In [1, C]; ``None`` for half of them, or for 1 where answers are averaged.
            ensemble: Decay m in [-10, 10]; ``None`` for no average. With one, ``execute`` is 1.
            committed: D, at least 0, at most ``execute`` and ``length - execute``; 0 with an
                ``ensemble``.

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
        # Asked after E of C actions, it must answer before it is asked again, and before they end.
        most = 0 if ensemble is not None else min(execute, length - execute)
        note = (
            f": while the policy computes, at most execute ({execute}) and chunk - execute "
            f"({length - execute}) actions are left to execute, and none with an ensemble"
        )
        check_ranges(within(f"[0, {most}]", committed=committed), note=note)
        return cls(length, execute, ensemble, committed)


def window_names(keys: tuple[Key, ...], part: str) -> tuple[Key, ...]:
    """Return the columns that keys ask windows of.

    Args:
        keys: What a learner reads, ``("history", "action")`` say.
        part: ``"history"``, ``"chunk"``, ``"support"`` or ``"query"``.

    Returns:
        The columns' own keys; ``valid`` is none.
    """
    inner = [key[1:] for key in keys if not isinstance(key, str) and key[0] == part]
    return tuple(key[0] if len(key) == 1 else key for key in inner if key != (VALID,))
