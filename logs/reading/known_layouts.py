"""Layouts with a second mark of where episodes end: read, or an error that names the map."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading.column_map import DELIMITERS, LEFT_OUT, ColumnMap

Names = Mapping[str, tuple[str, ...]]

_RLDS = ("is_first", "is_last", "is_terminal")


def known_layout(
    given: ColumnMap, filled: ColumnMap, held: Sequence[str], path: Path | str, names: Names
) -> ColumnMap:
    """Return a map that no mark of an episode's end contradicts.

    Args:
        given: The column map as its owner wrote it.
        filled: The same with what was found by usual names.
        held: Names of the columns that the source holds.
        path: The source, for messages.
        names: Usual names of each field.

    Returns:
        ``filled``, episodes delimited by a second flag where there is one.

    Raises:
        LogError: A mark that is not read has a meaning in a known layout; names the map for it.
    """
    _check_rlds(given, held, path)
    _check_masks(given, held, path, names)
    _check_ogbench(given, filled, held, path)
    delimited = any(getattr(filled, name) for name in DELIMITERS)
    ended = filled.terminated or filled.continues
    if delimited or not ended or given.episode_end != LEFT_OUT:
        return filled
    # One flag says where the task ended; another one marks all ends.
    others = names["done"] if given.done == LEFT_OUT else ()
    others = (*others, *(names["terminated"] if filled.continues else ()))
    second = next((name for name in others if name in held and name != ended), None)
    if second and filled.truncated:  # it may mark those alone that the task ended, or more
        return replace(filled, episode_end=[ended, filled.truncated, second])
    return replace(filled, episode_end=second) if second else filled


def _check_rlds(given: ColumnMap, held: Sequence[str], path: Path | str) -> None:
    """Raise for steps of RLDS, whose last one is no step, unless the map says what it is."""
    marks = [name for name in _RLDS if name in held]
    named = [value for value in vars(given).values() if isinstance(value, str)]
    borders = [name for name in marks if name != "is_terminal"]
    if given.last_row is not None or not borders:
        return
    if len(marks) == 1 and borders[0] in named:
        return
    flags = {"episode_end": "is_last", "episode_start": "is_first", "terminated": "is_terminal"}
    if "is_last" in marks:
        flags.pop("episode_start")
    steps = ", ".join(f"{field}: {name}" for field, name in flags.items() if name in marks)
    raise LogError(
        f"it holds {' and '.join(marks)}, as RLDS does, where the last row of an episode is an "
        "observation without an action, and the column map does not say whether it is",
        "Set the column map to rlds_steps, or to one of your own with `last_row: observation`; "
        f"where every row is a step, write {{{steps}, last_row: step}}.",
        path=path,
    )


def _check_masks(given: ColumnMap, held: Sequence[str], path: Path | str, names: Names) -> None:
    """Raise for masks, which are 0 where the task ended, unless the map says what they are."""
    ends_stated = given.terminated or given.done
    if "masks" not in held or given.continues != LEFT_OUT or ends_stated:
        return
    ends = (*names["done"], *names["terminated"], *names["episode_end"])
    end = next((name for name in ends if name in held), None)
    flags = f"episode_end: {end}, " if end else ""
    raise LogError(
        "masks are 0 where the task ended in logs of JAX learners and OGBench, and "
        f"{end or 'a flag beside them'} then marks every end of an episode, cut or not",
        f"Write in the column map {{{flags}continues: masks}}, or `continues: null` if masks mean "
        "something else.",
        path=path,
        column="masks",
    )


def _check_ogbench(
    given: ColumnMap, filled: ColumnMap, held: Sequence[str], path: Path | str
) -> None:
    """Raise for `terminals` of logs without rewards, which end trajectories in OGBench."""
    if filled.terminated != "terminals" or given.terminated != LEFT_OUT:
        return
    if "valids" in held:
        raise LogError(
            "it holds valids, as a compact dataset of OGBench, whose rows are not all steps",
            "Save it with compact_dataset=False, or name `terminated: terminals` in the column "
            "map if every row is a step.",
            path=path,
            column="valids",
        )
    if filled.truncated or filled.next_observation or isinstance(filled.reward, str):
        return
    if not any(getattr(filled, name) for name in DELIMITERS):
        raise LogError(
            "terminals without rewards are those of OGBench, which end a trajectory where "
            "nothing terminates",
            "Set the column map to ogbench; if they are terminal states, write "
            "`terminated: terminals`, with `reward: 0.0`.",
            path=path,
            column="terminals",
        )
