"""Whether what is collected has the column ``action_log_prob``: a matter of configuration.

A replay has the same columns in all episodes. It has this one where everything that fills it knows
how likely its actions are: the log before, the random first round, and the policy with its share of
exploration. The policy comes last, when training starts; where it does not know, the column is
left out of the rows that are there.
"""

from typing import Any

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.log import LogSource
from hindsight_rl.keys import ACTION_LOG_PROB, Key, key_name
from hindsight_rl.logs.errors import LogError


def unstated_at_first(collector: Collector, log: LogSource | None, initial: int) -> str:
    """Return why rows before training have no ``action_log_prob``.

    Args:
        collector: Plays the episodes.
        log: What comes before them.
        initial: Random episodes of the first round.

    Returns:
        The end of a sentence; "" where they have it.
    """
    found = "" if log is None else log.unstated()
    return found or (collector.unstated(None) if initial else "")


def check_stated(needed: tuple[Key, ...], unstated: str) -> None:
    """Raise where a learner reads ``action_log_prob`` and no row has it.

    Args:
        needed: Keys that the learner reads.
        unstated: Why no row has it, "" where all do.

    Raises:
        LogError: Saying why.
    """
    if unstated and any(key == ACTION_LOG_PROB or key[-1] == ACTION_LOG_PROB for key in needed):
        raise LogError(
            f"the learner needs '{key_name(ACTION_LOG_PROB)}', and what is collected does not have "
            f"it: {unstated}",
            "Let the policy draw from a density (collection.sample true, another head), or clone "
            "the behaviour (behavior 'cloned').",
        )


def stated_in(replay: dict[str, Any]) -> bool:
    """Return whether rows of a checkpoint have ``action_log_prob``; of several replays all do."""
    columns = replay["columns"] if "columns" in replay else next(iter(replay.values()))["columns"]
    return ACTION_LOG_PROB in columns
