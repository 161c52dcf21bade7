"""The column map: which column of somebody else's log is what, and what its numbers mean.

One flat dataclass, so that a map reads the same in Python, in YAML and on the command line. A field
given is taken literally and must exist in the log; a field left out is filled from the usual names
(``resolve.py``), and one that is ``null`` stays empty.
"""

import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_type_hints

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import nearest
from hindsight_rl.logs.reading.column_values import DELIMITERS as DELIMITERS
from hindsight_rl.logs.reading.column_values import LEFT_OUT as LEFT_OUT
from hindsight_rl.logs.reading.column_values import SHIFTED as SHIFTED
from hindsight_rl.logs.reading.column_values import converted, inline
from hindsight_rl.logs.reading.map_checks import check_fields
from hindsight_rl.logs.reading.map_files import mapping_of, packaged
from hindsight_rl.logs.reading.map_files import short_names as short_names

Format = Literal[
    "npz",
    "csv",
    "hdf5",
    "demonstrations",
    "minari",
    "parquet",
    "lerobot",
    "rosbag",
    "zarr",
    "log",
]
DoneMeans = Literal["terminated", "truncated", "time_limit"]
LastRow = Literal["step", "observation"]
ActionAt = Literal["now", "next"]
Stamps = Literal["header", "receive"]
MissingChunks = Literal["fill"]

Named = str | list[str]
"""A column, a pattern, or several that are joined."""
Entries = dict[str, Named]
"""Columns of an observation's entries by their names, in their order."""


@dataclass(frozen=True)
class ColumnMap:
    """Which column of a log is what. Every field may be left out where the usual names are used.

    A column is named as the file names it. A list of columns is joined in the order given. In a
    name, ``*`` stands for a number: ``obs_*`` is ``obs_0``, ``obs_1`` and so on, in numeric order.

    Args:
        format: Format of the source; guessed from the path when left out.
        observation: Observation column or columns, without any goal; or a mapping of entries, each
            with its column or columns, that a policy is shown by name:
            ``{camera: images/front, arm: [q, dq]}``. An entry of uint8 ``[N, H, W, C]`` stays an
            image, all others become real numbers ``[N, D]``.
        action: Action column or columns.
        reward: Reward column, or the number to use for every row of a log without rewards.
        next_observation: Stored next observation. Left out: a usual name, if the log has one and
            the observation has a usual name too; else the following row. ``shifted``: the
            following row, whatever is stored. Of entries: a mapping likewise; one left out of it is
            that of the following row.
        terminated: Flag, true where the task ended (no future reward). One per row or per episode.
        continues: The opposite of ``terminated``, false where the task ended (``masks``); never
            guessed.
        truncated: Flag, true where the episode was cut (time limit, end of recording).
        done: Flag that does not distinguish the two; then ``done_means`` must, or ``truncated``:
            terminated where that is false.
        done_means: ``terminated``, ``truncated``, or ``time_limit``: truncated where the episode
            has exactly ``time_limit`` steps, terminated where it has fewer.
        time_limit: Number of steps after which the environment cuts an episode.
        episode: Column with the number of the episode.
        episode_end: Flag column, true on the last row of each episode; or columns, one of which is.
        episode_start: Flag column, true on the first row of each episode.
        split_indices: Array of the row numbers at which a new episode starts (0 may be left out).
        episode_length: Length in steps, where all episodes have the same.
        episode_jump: A new episode starts where the stored next observation is not the observation
            of the following row (within the precision of the columns).
        last_row: ``observation``: the last row of each episode holds what the last action led to,
            and no action (RLDS); its flags are those of the row before. Left out or ``step``: it is
            a step as all others.
        step: Column that grows within an episode: a step number or a time stamp. Checked only.
        action_scale: Factor that turns logged actions into environment units, one or per dimension.
        action_offset: Added after scaling, one number or one per dimension.
        action_low: Lower action bound in environment units, one number or one per dimension;
            ``None`` or minus infinity (YAML: ``null``, ``-.inf``) where a dimension has none.
        action_high: Upper action bound, likewise.
        clip: Clip actions to the bounds. Left false, an action outside is an error.
        discrete_actions: Whether actions are numbers of a choice. Left out: they are if the log
            holds one integer per row.
        action_count: Number of discrete actions; left out, those up to the largest in the log.
        action_start: Number of the first discrete action. Left out: what the log states; else 0
            where ``action_count`` is given or the log holds a 0; else the smallest action of the
            log, a guess that a warning names.
        task: Column or columns with the goal or task of the row.
        one_hot_task: The task column holds task numbers; make one-hot vectors of them.
        achieved_goal: Column or columns with the goal reached at this row.
        next_achieved_goal: The same one step later; left out, that of the following row. May be
            given alone: relabelers need no other.
        observation_choices: Entries of the observation that are numbers of a choice, counted from
            0, and of how many: ``{gear: 5}``; ``null``: up to the largest in the log, or as a
            Minari space says.
        image: Column or columns of camera frames (uint8), kept beside the observation. A batch has
            each under the last part of its name.
        success: Flag of what is good: one per row, or one per episode, which then holds for all of
            its rows. For ``ColumnLabel`` and filters; never guessed.
        action_log_prob: Log-probability (nats) that the policy that acted gave the logged action,
            of actions as they are in the log; ``action_scale`` rescales densities. Left out:
            ``action_log_prob``, or an info of this name, if the log has one.
        expert_action: Column or columns of what an expert would have done, in the units of the
            actions: they are scaled and clipped alike. NaN (an empty cell) where nobody said. Left
            out: ``expert_action``, if the log has one.
        context: Column or columns of what was known of the world and the policy is not to see, per
            row or per episode: masses, friction, what ``randomise`` drew. For critics and teachers.
        extra: Further column or columns of one number per row or per episode, for relabelers that
            go by a column, and learners that read one. A batch has each under the last part of
            its name.
        resize: Height and width of the frames that are kept of videos, and of pictures in bags and
            parquet, at most the recorded ones. Left out: as they were recorded. Other proportions
            squeeze the picture.
        frame_cache: Folder of the frames that were decoded of videos; left out, ``SOURCE.frames``
            beside the source.
        names: Names of the dimensions, by key (``observation``, ``action``, ``task``; of an entry
            ``observation.NAME``).
        units: Units of the dimensions, by key.
        offset: Constants that are subtracted from numbers before they become float32, by key: one
            number, or one per dimension. For clock times, encoder counts, map coordinates. Policies
            subtract them from what they are given. That of ``task`` holds for what was achieved.
        control_rate_hz: Rows per second of the robot.
        row_at: Of bags: the topic at each of whose messages there is a row. Left out: rows at
            ``control_rate_hz``.
        action_at: Of bags: ``now``, the newest command at the row's time; ``next``, what these
            columns hold one row later: the command of the step, or the state that was reached.
        episode_marker: Of bags: a field that starts an episode (true, 1, ``start``) and stops it
            (false, 0, ``stop``). Left out: each bag is one.
        max_age: Of bags: seconds that a sensor or command may be old. Where one is older, rows are
            left out and the episode ends. Left out: any age.
        stamps: Of bags: ``header``, the time in each message's header where it has one, else when
            it was received; ``receive``: always that.
        filter_key: Of demonstrations: the list in ``mask`` that names those that are read.
        missing_chunks: Of Zarr: ``fill``, chunks that are not there hold the fill value. Left out:
            they are an error.
        delimiter: Of text files: the character between cells. Left out: comma, semicolon or tab,
            whichever is most frequent in the header.
        decimal_point: Of text files: the character before decimals, ``,`` for decimal commas.
        comment: Of text files: lines that begin with this are left out.
        null_values: Of text files: words that mean an empty cell (``NA``).
        true_values: Of text files: words that mean true (``yes``), beside ``true`` and ``1``.
        false_values: Of text files: words that mean false, likewise.
    """

    format: Format | None = None
    observation: Named | Entries | None = LEFT_OUT
    action: Named | None = LEFT_OUT
    reward: float | str | None = LEFT_OUT
    next_observation: Named | Entries | None = LEFT_OUT
    terminated: str | None = LEFT_OUT
    continues: str | None = LEFT_OUT
    truncated: str | None = LEFT_OUT
    done: str | None = LEFT_OUT
    done_means: DoneMeans | None = None
    time_limit: int | None = None
    episode: str | None = LEFT_OUT
    episode_end: Named | None = LEFT_OUT
    episode_start: str | None = LEFT_OUT
    split_indices: str | None = LEFT_OUT
    episode_length: int | None = None
    episode_jump: bool = False
    last_row: LastRow | None = None
    step: str | None = LEFT_OUT
    action_scale: float | list[float] = 1.0
    action_offset: float | list[float] = 0.0
    action_low: float | list[float | None] | None = None
    action_high: float | list[float | None] | None = None
    clip: bool = False
    discrete_actions: bool | None = None
    action_count: int | None = None
    action_start: int | None = None
    task: Named | None = LEFT_OUT
    one_hot_task: bool = False
    achieved_goal: Named | None = LEFT_OUT
    next_achieved_goal: Named | None = LEFT_OUT
    observation_choices: dict[str, int | None] | None = None
    image: Named | None = None
    success: str | None = None
    action_log_prob: str | None = LEFT_OUT
    expert_action: Named | None = LEFT_OUT
    context: Named | None = None
    extra: Named | None = None
    resize: list[int] | None = None
    frame_cache: str | None = None
    names: dict[str, list[str]] | None = None
    units: dict[str, list[str]] | None = None
    offset: dict[str, float | list[float]] | None = None
    control_rate_hz: float | None = None
    row_at: str | None = None
    action_at: ActionAt | None = None
    episode_marker: str | None = None
    max_age: float | None = None
    stamps: Stamps | None = None
    filter_key: str | None = None
    missing_chunks: MissingChunks | None = None
    # Text, not None: the parser of the command would take '#' and '~' for YAML's nothing.
    delimiter: str = ""
    decimal_point: str = ""
    comment: str = ""
    null_values: list[str] | None = None
    true_values: list[str] | None = None
    false_values: list[str] | None = None

    def __post_init__(self) -> None:
        for name, value in _converted(vars(self)).items():
            object.__setattr__(self, name, value)
        check_fields(vars(self), _hints(), None)

    @classmethod
    def load(cls, columns: "ColumnMap | str | Path | Mapping[str, Any] | None") -> "ColumnMap":
        """Return a column map.

        Args:
            columns: A map; a mapping of its fields; the same written out in YAML or JSON
                (``{observation: obs}``); the path of a YAML file; the short name of a packaged map
                (``rllib_cartpole``); or ``None`` for the usual names.

        Returns:
            The map.

        Raises:
            LogError: An unknown name, an unknown field, or a value of the wrong type.
        """
        if columns is None or isinstance(columns, ColumnMap):
            return columns._with_guesses() if columns else cls()
        if isinstance(columns, Mapping):
            return cls._from_mapping(columns, None)
        if inline(columns):
            return cls._from_mapping(mapping_of(str(columns), None), None)
        path = Path(columns)
        if path.suffix not in (".yaml", ".yml"):
            path = packaged(str(columns))
        return cls._from_mapping(mapping_of(None, path), path)

    @classmethod
    def _from_mapping(cls, values: Mapping[str, Any], path: Path | None) -> "ColumnMap":
        valid = list(_DEFAULTS)
        for name in values:
            if name not in valid:
                raise LogError(
                    f"the column map has no field {reprlib.repr(name)}",
                    f"{nearest(str(name), valid)}Valid fields: {', '.join(valid)}.",
                    path=path,
                )
        # Checked here too, where the file is known.
        values = _converted(values)
        check_fields(_DEFAULTS | values, _hints(), path)
        return cls(**values)._with_guesses()

    def _with_guesses(self) -> "ColumnMap":
        """Return a map whose empty fields are guessed if it was written out by an older version.

        Those wrote null for every field left out. A map of today that says which field has no
        column leaves others out, if only some that it has no use for.
        """
        if any(getattr(self, name) == LEFT_OUT for name in _OF_OLD):
            return self
        empty: dict[str, Any] = {n: LEFT_OUT for n in _GUESSED if getattr(self, n) is None}
        return replace(self, **empty)

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults, as plain values."""
        return {name: value for name, value in vars(self).items() if value != _DEFAULTS[name]}


_DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(ColumnMap)}
_TEXT_OPTIONS = ("delimiter", "decimal_point", "comment")
_NEW = (
    "continues",
    "episode_start",
    "expert_action",
)  # fields that versions without guesses switched off lack
_GUESSED = [n for n, value in _DEFAULTS.items() if value == LEFT_OUT and n not in _TEXT_OPTIONS]
_OF_OLD = [name for name in _GUESSED if name not in _NEW]


@cache
def _hints() -> dict[str, Any]:
    """Return the type of each field."""
    return get_type_hints(ColumnMap)


def _converted(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: converted(value, _hints()[name]) for name, value in values.items()}
