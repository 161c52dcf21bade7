"""The column map: which column of somebody else's log is what, and what its numbers mean.

One flat dataclass, so that a map reads the same in Python, in YAML and on the command line. A field
given is taken literally and must exist in the log; a field left out is filled from the usual names
(``resolve.py``), and one that is ``null`` stays empty.
"""

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_type_hints

from hindsight_rl import configs
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import nearest
from hindsight_rl.logs.reading import text_options
from hindsight_rl.logs.reading.column_values import (
    converted,
    fits,
    impossible_numbers,
    inline,
    readable,
    yaml_values,
)

Format = Literal["npz", "csv", "hdf5", "minari", "parquet", "lerobot", "log"]
DoneMeans = Literal["terminated", "truncated", "time_limit"]
LastRow = Literal["step", "observation"]

SHIFTED = "shifted"
"""Value of ``next_observation`` that asks for the following row instead of a stored column."""

MOST_LETTERS = 1 << 20
"""Letters of a column map at most."""

LEFT_OUT = ""
"""Value of a field that was left out and may be guessed; ``None`` says that there is no column."""

DELIMITERS = (
    *("episode", "episode_end", "episode_start", "split_indices"),
    *("episode_length", "episode_jump"),
)


@dataclass(frozen=True)
class ColumnMap:
    """Which column of a log is what. Every field may be left out where the usual names are used.

    A column is named as the file names it. A list of columns is joined in the order given. In a
    name, ``*`` stands for a number: ``obs_*`` is ``obs_0``, ``obs_1`` and so on, in numeric order.

    Args:
        format: Format of the source; guessed from the path when left out.
        observation: Observation column or columns, without any goal.
        action: Action column or columns.
        reward: Reward column, or the number to use for every row of a log without rewards.
        next_observation: Stored next observation. Left out: a usual name, if the log has one and
            the observation has a usual name too; else the following row. ``shifted``: the
            following row, whatever is stored.
        terminated: Flag, true where the task ended (no future reward). One per row or per episode.
        continues: The opposite of ``terminated``, false where the task ended (``masks``); never
            guessed.
        truncated: Flag, true where the episode was cut (time limit, end of recording).
        done: Flag that does not tell the two apart; then ``done_means`` must, or ``truncated``:
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
        image: Column or columns of camera frames (uint8), kept beside the observation. A batch has
            each under the last part of its name.
        success: Flag of what is good: one per row, or one per episode, which then holds for all of
            its rows. For ``ColumnLabel`` and filters; never guessed.
        action_log_prob: Log-probability (nats) that the policy that acted gave the logged action,
            of actions as they are in the log; ``action_scale`` rescales densities. Never guessed.
        extra: Further column or columns of one number per row or per episode, for relabelers that
            go by a column, and learners that read one. A batch has each under the last part of
            its name.
        resize: Height and width of the frames that are kept of videos, at most the recorded ones.
            Left out: as they were recorded. Other proportions squeeze the picture.
        frame_cache: Folder of the frames that were decoded of videos; left out, ``SOURCE.frames``
            beside the source.
        names: Names of the dimensions, by key (``observation``, ``action``, ``task``).
        units: Units of the dimensions, by key.
        control_rate_hz: Rows per second of the robot.
        delimiter: Of text files: the character between cells. Left out: comma, semicolon or tab,
            whichever is most frequent in the header.
        decimal_point: Of text files: the character before decimals, ``,`` for decimal commas.
        comment: Of text files: lines that begin with this are left out.
        null_values: Of text files: words that mean an empty cell (``NA``).
        true_values: Of text files: words that mean true (``yes``), beside ``true`` and ``1``.
        false_values: Of text files: words that mean false, likewise.
    """

    format: Format | None = None
    observation: str | list[str] | None = LEFT_OUT
    action: str | list[str] | None = LEFT_OUT
    reward: float | str | None = LEFT_OUT
    next_observation: str | list[str] | None = LEFT_OUT
    terminated: str | None = LEFT_OUT
    continues: str | None = LEFT_OUT
    truncated: str | None = LEFT_OUT
    done: str | None = LEFT_OUT
    done_means: DoneMeans | None = None
    time_limit: int | None = None
    episode: str | None = LEFT_OUT
    episode_end: str | list[str] | None = LEFT_OUT
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
    task: str | list[str] | None = LEFT_OUT
    one_hot_task: bool = False
    achieved_goal: str | list[str] | None = LEFT_OUT
    next_achieved_goal: str | list[str] | None = LEFT_OUT
    image: str | list[str] | None = None
    success: str | None = None
    action_log_prob: str | None = None
    extra: str | list[str] | None = None
    resize: list[int] | None = None
    frame_cache: str | None = None
    names: dict[str, list[str]] | None = None
    units: dict[str, list[str]] | None = None
    control_rate_hz: float | None = None
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
        _check(vars(self), None)

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
            return cls._from_mapping(_mapping(str(columns), None), None)
        path = Path(columns)
        if path.suffix not in (".yaml", ".yml"):
            path = _packaged(str(columns))
        return cls._from_mapping(_mapping(None, path), path)

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
        _check(_DEFAULTS | values, path)
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
_NEW = ("continues", "episode_start")  # fields that versions without guesses switched off lack
_GUESSED = [n for n, value in _DEFAULTS.items() if value == LEFT_OUT and n not in _TEXT_OPTIONS]
_OF_OLD = [name for name in _GUESSED if name not in _NEW]


def short_names() -> list[str]:
    """Return the names of the packaged column maps."""
    return sorted(path.stem for folder in _log_folders() for path in folder.glob("*.yaml"))


def _log_folders() -> list[Path]:
    # An editable install adds a marker to the path that is no folder.
    folders = [Path(entry) / "logs" for entry in configs.__path__]
    return [folder for folder in folders if folder.is_dir()]


def _packaged(name: str) -> Path:
    for folder in _log_folders():
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = short_names()
    raise LogError(
        f"there is no packaged column map {name!r}",
        f"{nearest(name, known)}Give the path of a .yaml file or one of: {', '.join(known)}.",
    )


def _mapping(text: str | None, path: Path | None) -> Mapping[str, Any]:
    """Return the fields that a text, or else a YAML file, holds."""
    import yaml  # part of the train install only; a map given in Python does without

    known = short_names()
    try:
        values = yaml_values(_text(path) if path else str(text)[: MOST_LETTERS + 1])
    # A date that does not exist is a ValueError, an impossible key a TypeError.
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:300]
        fix = "Write it as '{observation: obs, action: acts}'."
        if path:
            fix = f"{nearest(path.stem, known)}Give a YAML file or one of: {', '.join(known)}."
        raise LogError(f"the column map cannot be read ({reason})", fix, path=path) from error
    if not isinstance(values, Mapping):
        raise LogError(
            "the column map is no mapping", "Write lines such as `observation: obs`.", path=path
        )
    return values


def _text(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    with path.open(encoding="utf-8") as file:
        text = file.read(MOST_LETTERS + 1)
    if len(text) > MOST_LETTERS:
        raise ValueError(f"more than {MOST_LETTERS:,} letters")
    return text


def _converted(values: Mapping[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(ColumnMap)
    return {name: converted(value, hints[name]) for name, value in values.items()}


_QUOTES = "Correct the value; YAML reads yes, no, on and off as true and false: put text in quotes."


def _holds_bool(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return any(isinstance(entry, bool) for entry in values)


def _check(values: Mapping[str, Any], path: Path | None) -> None:
    for name, hint in get_type_hints(ColumnMap).items():
        if not fits(values[name], hint):
            raise LogError(
                f"{name}: {reprlib.repr(values[name])} is not {readable(hint)}",
                _QUOTES if _holds_bool(values[name]) and hint is not bool else "Correct the value.",
                path=path,
            )
    for problem, fix in (*_contradictions(values), *impossible_numbers(values)):
        raise LogError(problem, fix, path=path)


def _contradictions(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    given = [name for name in DELIMITERS if values[name] not in (None, False, LEFT_OUT)]
    if len(given) > 1:
        yield f"{' and '.join(given)} both say where episodes begin", "Keep one of them."
    if values["done"] and (values["terminated"] or (values["truncated"] and values["done_means"])):
        yield (
            "done is given beside terminated or truncated",
            "Keep done with done_means, done with truncated, or the other two.",
        )
    if values["continues"] and (values["terminated"] or values["done"]):
        yield (
            "continues is given beside terminated or done",
            "Keep one of them: they say the same.",
        )
    if (values["done_means"] == "time_limit") != (values["time_limit"] is not None):
        yield (
            "`done_means: time_limit` and `time_limit: STEPS` go together",
            "Give both or neither.",
        )
    for name in ("time_limit", "episode_length", "action_count", "control_rate_hz"):
        if values[name] is not None and not values[name] > 0:
            yield f"{name}: {values[name]} is not above 0", "Give a positive number."
    if values["resize"] is not None and (len(values["resize"]) != 2 or min(values["resize"]) < 1):
        yield f"resize: {values['resize']} is no height and width", "Give two, as in [96, 96]."
    yield from text_options.contradictions(values)
    for name in ("names", "units"):
        wrong = sorted(set(values[name] or {}) - {"observation", "action", "task"}, key=str)
        if wrong:
            yield f"{name} has no key {wrong[0]!r}", "Its keys are observation, action and task."
