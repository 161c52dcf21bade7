"""What a column map calls the observation: one flat column, or entries by name."""

from typing import NamedTuple

from hindsight_rl.keys import OBSERVATION, Key
from hindsight_rl.logs.reading.column_map import ColumnMap, Named
from hindsight_rl.logs.reading.column_values import SHIFTED


class Observed(NamedTuple):
    """One thing that is observed.

    Args:
        key: ``observation``, or ``("observation", NAME)`` of an entry.
        named: Its column or columns.
        after: Those of one step later, ``None`` where that is the following row.
    """

    key: Key
    named: Named
    after: Named | None


def observed_columns(columns: ColumnMap) -> list[Observed]:
    """Return what is observed, in its order.

    Args:
        columns: A resolved column map.

    Returns:
        One for a flat observation, else one for each entry.
    """
    given, after = columns.observation, columns.next_observation
    if isinstance(given, dict):
        stored = after if isinstance(after, dict) else {}
        return [
            Observed(("observation", name), named, _stored(stored.get(name)))
            for name, named in given.items()
        ]
    assert given is not None, "a resolved map names the observation"
    return [Observed(OBSERVATION, given, None if isinstance(after, dict) else _stored(after))]


def _stored(named: Named | None) -> Named | None:
    return None if named == SHIFTED else named
