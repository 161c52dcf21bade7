"""What is only guessed is called so in every message, and null switches a guess off."""

from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest
from jsonargparse import ArgumentParser

from hindsight_rl.cli.inspect import main as inspect
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.logs.reading.column_map import _GUESSED, LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.resolve import COMMON_NAMES, NEEDED, resolve

GUESS = r"That 't' is `step` was guessed: write `step: COLUMN`, or `step: null` if there is none"
WARMTH = {"t": np.array([20.5, 20.4, 20.3, 20.2, 21, 20, 20.1, 20.0])}


def warm(path: Path) -> Path:
    made = foreign.columns()
    del made["step"]
    return foreign.npz(path / "log.npz", made | WARMTH)


def test_a_temperature_taken_for_the_step_number(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=rf"'t', row 1: the episode runs backwards.*{GUESS}"):
        read_log(warm(tmp_path))
    foreign.expect_same(read_log(warm(tmp_path), {"step": None}))
    foreign.expect_same(read_log(warm(tmp_path), "{step: null}"))
    with pytest.raises(LogError) as told:
        read_log(warm(tmp_path), {"step": "t"})
    assert "guessed" not in str(told.value)


def test_the_command_line_takes_null_too(tmp_path: Path) -> None:
    parser = ArgumentParser(parser_mode="omegaconf")
    parser.add_argument("--columns", type=ColumnMap | str | None)
    given = parser.parse_args(["--columns", "{step: null}"])
    columns = parser.instantiate_classes(given).columns
    foreign.expect_same(read_log(warm(tmp_path), columns))


@pytest.mark.parametrize("path", ["log.npz", "log.csv"])
def test_messages_of_readers_name_guesses_too(path: str, tmp_path: Path) -> None:
    told = r"That '{}' is `reward` was guessed: write `reward: COLUMN`\."
    if path.endswith("csv"):
        (tmp_path / path).write_text("obs,act,rew,episode\n1,2,,0\n1,2,3,0\n")
        with pytest.raises(LogError, match="row 0: an empty cell.*" + told.format("rew")):
            read_log(tmp_path / path)
        (tmp_path / path).write_text("obs,act,rew,episode\n1,2,5,\n1,2,3,0\n")
        with pytest.raises(LogError, match="an empty cell.*That 'episode' is `episode` was gue"):
            read_log(tmp_path / path)
        return
    made = foreign.columns() | {"reward": np.array([None] * 8)}
    with pytest.raises(LogError, match="Python objects.*" + told.format("reward")):
        read_log(foreign.npz(tmp_path / path, made))


def test_joined_columns_are_named_as_one(tmp_path: Path) -> None:
    values = {f"{n}_{i}": np.full(4, float(i)) for n in ("obs", "action") for i in range(2)}
    values |= {"reward": np.zeros(4), "episode": np.zeros(4)}
    with pytest.raises(LogError, match="That 'action_0, action_1' is `action` was guessed"):
        read_log(foreign.npz(tmp_path / "log.npz", values), {"action_high": 0.5})


def test_every_problem_of_a_survey_names_guesses(tmp_path: Path) -> None:
    made = foreign.columns()
    made["truncated"] = made["truncated"].astype(int) * 2
    _, problems = survey(foreign.npz(tmp_path / "log.npz", made | {"step": np.zeros(8, int)}))
    assert len(problems) == 2 and all("was guessed" in str(problem) for problem in problems)


def test_inspect_lists_what_was_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inspect([str(warm(tmp_path)), "--columns", "{reward: 1, terminated: terminated}"])
    line = next(line for line in capsys.readouterr().out.splitlines() if "guessed" in line)
    found = line.split("guessed")[1].strip().split(", ")
    assert found[:2] == ["observation: observation", "action: action"]
    assert "step: t" in line and "terminated" not in line and "reward" not in line


def test_what_a_format_says_itself_is_no_guess(tmp_path: Path) -> None:
    path = foreign.minari(tmp_path / "minari")
    with pytest.raises(LogError) as told:
        read_log(path, {"action_high": 0.5})
    assert "column 'actions'" in str(told.value) and "guessed" not in str(told.value)


@pytest.mark.parametrize("field", [f for f in COMMON_NAMES if COMMON_NAMES[f]])
def test_every_guess_can_be_switched_off(field: str) -> None:
    held = ["obs", "act", "rew", *(names[0] for names in COMMON_NAMES.values() if names)]
    columns = ColumnMap(**{field: None})  # type: ignore[arg-type]
    assert ColumnMap.load({field: None}) == columns
    if field in NEEDED:
        with pytest.raises(LogError, match=f"no column looks like the {field}"):
            resolve(columns, held, "log")
    else:
        assert getattr(resolve(columns, held, "log"), field) is None


def test_maps_that_older_versions_wrote_out_still_guess(tmp_path: Path) -> None:
    """They wrote null for every field left out."""
    written = dict.fromkeys(_GUESSED) | {"observation": "observation"}
    assert ColumnMap.load(written) == ColumnMap(observation="observation")
    assert ColumnMap.load(ColumnMap(**written)).episode == LEFT_OUT
    del written["continues"], written["episode_start"]  # which they did not know
    assert ColumnMap.load(written).episode == LEFT_OUT
    foreign.expect_same(read_log(foreign.npz(tmp_path / "log.npz", foreign.columns()), written))
