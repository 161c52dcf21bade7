"""From the columns of any source to the columns of a log: one path for every format.

Episodes, then observations, goals, rewards, flags and actions, each checked as it is made. No row
is dropped; what had to be repeated or was asked to be clipped is counted in ``info``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    ACTION_LOG_PROB,
    EPISODE,
    EPISODE_END,
    EXPERT_ACTION,
    NEXT_ACHIEVED,
    OBSERVATION,
    REWARD,
    STEP,
    TASK,
    TERMINATED,
    TRUNCATED,
    Key,
)
from hindsight_rl.logs import checks
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.packed import next_key
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.actions import scaled
from hindsight_rl.logs.reading.column_map import SHIFTED
from hindsight_rl.logs.reading.dimensions import named_dimensions
from hindsight_rl.logs.reading.entries import Observed, observed_columns
from hindsight_rl.logs.reading.episodes import delimit, ends
from hindsight_rl.logs.reading.equal_ends import warn_of_equal_ends
from hindsight_rl.logs.reading.expert_actions import expert_actions
from hindsight_rl.logs.reading.extras import SUCCESS, extras
from hindsight_rl.logs.reading.last_rows import observed_last
from hindsight_rl.logs.reading.leaked_reset import check_no_leaked_reset
from hindsight_rl.logs.reading.steps import Steps
from hindsight_rl.logs.reading.table import Table
from hindsight_rl.logs.reading.time_order import (
    NO_JUMPS,
    Jumps,
    as_written,
    is_vector,
    jumps_within,
)

# What an image or a further column cannot be called.
_KEYS = (
    *(OBSERVATION, ACTION, TASK, ACHIEVED, EPISODE, STEP, EPISODE_END),
    *(SUCCESS, ACTION_LOG_PROB, EXPERT_ACTION, "next", "index", "draws", "companion", "noise"),
)


@dataclass(frozen=True)
class Assembly:
    """Columns of a log by key, ``[N, ...]`` numpy arrays; its facts; guessed columns by field.

    ``jumps`` are the rows whose stored next observation is not the one that follows.
    """

    columns: dict[Key, Array]
    info: dict[str, Any]
    jumps: Jumps = NO_JUMPS
    guessed: Mapping[str, list[str]] = field(default_factory=dict)


def assemble(table: Table, findings: Problems) -> Assembly:
    """Return the columns and facts of a log.

    Args:
        table: Columns of the source.
        findings: Where it came from; decides whether the first problem is raised.

    Returns:
        Columns that ``Log.from_columns`` takes.

    Raises:
        LogError: Something is wrong with the source, see docs/logs.md.
    """
    given = table.columns
    ended = observed_last(table, findings) if given.last_row == "observation" else None
    table = ended[0] if ended else table
    actions = scaled(table, findings)
    rows = len(actions.values)
    episodes = ended[1] if ended else delimit(table, rows, findings)
    if given.step:
        checks.same_length(table.values[given.step], [rows], given.step, findings)
        checks.runs_forward(table.values[given.step], episodes.lengths, given.step, findings)
    terminated, truncated = ends(table, episodes, findings)
    warn_of_equal_ends(
        terminated[episodes.ends], episodes.lengths, findings.path, given, findings.guessed
    )
    steps = Steps(table, episodes, findings)
    columns: dict[Key, Array] = {EPISODE: episodes.number} | steps.observed() | _goals(steps)
    columns |= steps.images(_KEYS) | {ACTION: actions.values, REWARD: steps.reward()}
    columns |= {TERMINATED: terminated, TRUNCATED: truncated}
    columns |= expert_actions(table, actions, findings)
    columns |= extras(table, actions, episodes, {*_KEYS, *columns}, findings)
    seen = observed_columns(given)
    stored = [part for part in seen if next_key(part.key) not in steps.repeated]
    cut = truncated & ~terminated
    check_no_leaked_reset(table, columns, stored, episodes.ends[cut[episodes.ends]], findings)
    facts = {"repeated_next_observation": int(cut.sum()) if len(stored) < len(seen) else 0}
    if episodes.parted:
        facts["parted_episodes"] = episodes.parted
    jumps = _jumps(table, columns, stored)
    return Assembly(columns, facts | actions.info | _facts(steps, columns), jumps)


def _goals(steps: Steps) -> dict[Key, Array]:
    """Return the task, and the goals that were achieved, at each step and one step later."""
    given, found = steps.table.columns, dict[Key, Array]()
    after = None if given.next_achieved_goal == SHIFTED else given.next_achieved_goal
    if given.achieved_goal:
        found |= steps.pair(ACHIEVED, given.achieved_goal, after)
    elif after:
        found[NEXT_ACHIEVED] = steps.later(NEXT_ACHIEVED, after)
    return found | ({TASK: steps.task(given.task)} if given.task else {})


def _jumps(table: Table, columns: dict[Key, Array], stored: list[Observed]) -> Jumps:
    given = [part for part in stored if part.after and is_vector(columns[part.key])]
    return jumps_within(columns[EPISODE], [as_written(table, part, columns) for part in given])


def _facts(steps: Steps, columns: dict[Key, Array]) -> dict[str, Any]:
    given, facts = steps.table.columns, steps.table.facts
    rate = given.control_rate_hz or facts.get("control_rate_hz")
    info = named_dimensions(steps.table, columns, steps.findings)
    info |= {"control_rate_hz": float(rate) if rate else None}
    info |= {"observation_choices": steps.choices} if steps.choices else {}
    return info | {n: facts[n] for n in ("task_names", "environment", "recording") if facts.get(n)}
