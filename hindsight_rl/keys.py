"""Keys of batches and logs, and their names in print: what the rooms call a column."""

Key = str | tuple[str, ...]

# One row of a batch or a log, by key; shapes are those of a row.
OBSERVATION: Key = "observation"
"""``[O]`` float32, an image uint8, or entries below it; never a goal."""
ACTION: Key = "action"
"""``[A]`` float32 in environment units, or ``[]`` int64 from 0."""
TASK: Key = "task"
"""``[Z]`` float32: whatever conditions the policy."""
NEXT_OBSERVATION: Key = ("next", "observation")
"""As the observation."""
REWARD: Key = ("next", "reward")
"""``[]`` float32."""
TERMINATED: Key = ("next", "terminated")
"""``[]`` bool: the task ended here; nothing is bootstrapped."""
TRUNCATED: Key = ("next", "truncated")
"""``[]`` bool: the episode was cut here."""
ACHIEVED: Key = "achieved_goal"
"""``[G]`` float32: where the row is, as a goal."""
NEXT_ACHIEVED: Key = ("next", "achieved_goal")
"""Where the step led."""
ACTION_LOG_PROB: Key = "action_log_prob"
"""``[]`` float32, nats: of the executed action under the policy that acted, in environment units;
at a bound to which actions are clipped the mass of what is clipped to it."""
EXPERT_ACTION: Key = "expert_action"
"""``[A]`` float32, or ``[]`` float32 of a choice: what an expert would have done; NaN where nobody
said."""
BY_EXPERT: Key = "by_expert"
"""``[]`` bool: the expert's action was executed."""
EPISODE, STEP, EPISODE_END = "episode", "step", "episode_end"
"""``[]`` int64: number of the episode, time in it, row number of its last step."""
DRAWS, COMPANION, IMPORTANCE = "draws", "companion", "importance"
"""Counters ``[3]`` int64 of a batch's row, and the further rows a relabeler asked for."""

POLICY_ACTION: Key = "policy_action"
"""``[m, A]`` float32 in environment units: samples of a given policy in the row's state, 1 if it is
deterministic."""
NEXT_POLICY_ACTION: Key = ("next", "policy_action")
"""The same in the next state."""
POLICY_PROBABILITY: Key = "policy_probability"
"""``[n]`` float32: how probable a given policy finds each choice in the row's state."""
NEXT_POLICY_PROBABILITY: Key = ("next", "policy_probability")
"""The same in the next state."""

FIRST, SECOND = "first", "second"
"""Segments of a pair: entries ``[L, ...]`` of observation, action and task below them, and
``score`` [] where a teacher gave it."""
PREFERENCE: Key = "preference"
"""``[]`` float32: of a pair the probability that the second segment is better."""
PAIR: Key = "pair"
"""``[]`` int64: number of a pair's answer."""

CONTEXT: Key = "context"
"""``[C]`` float32: what was drawn of an environment for the episode, such as its mass; no robot
knows it."""

TASK_ID: Key = "task_id"
"""``[]``: a number by which tasks are told apart that no policy is told: a robot, its load. All
rows of an episode have the same."""

COUNTS: Key = "member_weight"
"""``[E]`` float32: how often each member of an ensemble counts the row, in its bootstrap."""

ORIGIN: Key = "origin"
"""Where a row comes from: ``[]`` int64, its place in :data:`ORIGINS`; see ``data.mix``."""

ORIGINS = ("log", "collected", "imagined", "planned")
"""What a row's origin may be: logged; collected in an environment; imagined, the next state being a
model's answer; planned, the action being a planner's. Their numbers stay: a new origin goes to the
end."""
IMAGINED = ORIGINS.index("imagined")
"""Number of the one origin whose transitions never happened."""


def key_name(key: Key) -> str:
    """Return the printed name of a key: ``("next", "reward")`` is ``next.reward``."""
    return key if isinstance(key, str) else ".".join(key)


def key_of(name: str) -> Key:
    """Return the key of a printed name, the inverse of :func:`key_name`."""
    parts = tuple(name.split("."))
    return parts[0] if len(parts) == 1 else parts


def is_below(key: Key, outer: Key) -> bool:
    """Return whether a key is another one, or one of its entries."""
    path, wanted = (part if isinstance(part, tuple) else (part,) for part in (key, outer))
    return path[: len(wanted)] == wanted
