"""What inspect says of episodes: damage that is known is named, ordinary logs are left in peace."""

import json
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import quality_logs

from hindsight_rl.cli.inspect import main
from hindsight_rl.logs.reading import survey
from hindsight_rl.reports.quality import QualitySummary
from hindsight_rl.reports.summary import Summary, summarize

MAP: dict[str, Any] = {"control_rate_hz": 20.0, "action_low": -2.0, "action_high": 2.0}


def summary(path: Path, columns: quality_logs.Columns, given: dict[str, Any] = MAP) -> Summary:
    return summarize(*survey(foreign.npz(path / "log.npz", columns), given))


def told(made: Summary) -> list[str]:
    """Return the remarks about episodes."""
    return [remark for remark in made.remarks if remark.startswith("Episode")]


def out(quality: QualitySummary) -> set[tuple[int, str]]:
    return {(one.episode, one.measure) for one in quality.stand_out}


def damaged() -> quality_logs.Columns:
    """Return 20 episodes: 3 stands still, 7 trembles, 9 is cut short, 12 answers late."""
    given = quality_logs.robot(20, lags={12: 9})
    given = quality_logs.frozen(quality_logs.trembling(given, 7), 3, 30, 90)
    return quality_logs.cut(given, 9, 60)


def test_ordinary_episodes_do_not_stand_out(tmp_path: Path) -> None:
    made = summary(tmp_path, quality_logs.robot(20))
    assert made.quality.stand_out == () and told(made) == []
    assert [measure.name for measure in made.quality.measures] == [
        *("jerk", "action_jerk", "stillness", "saturation", "length", "end_pose", "lag")
    ]
    assert (made.quality.lag_steps, made.quality.lag_ms) == (3, 150.0)
    assert made.quality.left_out == {}


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    made = summary(tmp_path, damaged())
    found = out(made.quality)
    assert {(3, "stillness"), (7, "jerk"), (9, "length"), (12, "lag")} <= found
    assert {episode for episode, _ in found} == {3, 7, 9, 12}
    said = told(made)
    assert "Episode 9 is short: 60 steps (usually 150)." in said
    assert "Episode 12 answers its actions at another time: after 9 steps (usually 3)." in said
    assert any(text.startswith("Episode 3 stands still: 5") for text in said)
    assert any("of the time (usually" in text for text in said)


def test_several_episodes_share_a_sentence(tmp_path: Path) -> None:
    """Seven of forty; the five that are furthest out are named, in their order."""
    given = quality_logs.robot(40)
    for number, rows in enumerate(range(20, 90, 10)):
        given = quality_logs.cut(given, 2 * number, rows)
    said = told(summary(tmp_path, given))
    assert "Episodes 0, 2, 4, 6, 8 and 2 more are short: 20 to 80 steps (usually 150)." in said


def test_what_many_do_is_no_exception(tmp_path: Path) -> None:
    """Nine of forty are short: the log is of two kinds."""
    given = quality_logs.robot(40)
    for number in range(9):
        given = quality_logs.cut(given, number, 50)
    assert not [name for _, name in out(summary(tmp_path, given).quality) if name == "length"]


def test_of_few_episodes_none_stands_out(tmp_path: Path) -> None:
    given = quality_logs.cut(quality_logs.robot(9), 2, 30)
    assert summary(tmp_path, given).quality.stand_out == ()


def test_a_column_with_nan_is_left_out(tmp_path: Path) -> None:
    given = damaged()
    spoilt = given["observation"].copy()
    spoilt[5, 0] = np.nan
    wide = np.concatenate([spoilt[:, :1], given["observation"]], 1)
    made = summary(tmp_path, given | {"observation": wide})
    assert len(made.problems) == 1
    assert made.quality == summary(tmp_path, given).quality


def test_json_has_the_numbers_of_every_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.npz(tmp_path / "log.npz", damaged())
    assert main([str(path), "--json", "--columns", "{control_rate_hz: 20}"]) == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    by_name = {measure["name"]: measure for measure in quality["measures"]}
    lags = by_name["lag"]["values"]
    assert lags[:3] + lags[8:] == [3] * 7 + [9] + [3] * 7
    assert by_name["lag"]["median"] == 3 and by_name["lag"]["max"] == 9
    assert quality["left_out"] == {"saturation": "no action bounds are given"}
    worst = next(one for one in quality["stand_out"] if one["measure"] == "stillness")
    assert worst["episode"] == 3 and worst["value"] == by_name["stillness"]["max"]
    assert (quality["lag_steps"], quality["lag_ms"], quality["lag_limit"]) == (3, 150, 10)


def test_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = foreign.npz(tmp_path / "log.npz", damaged())
    assert main([str(path), "--columns", "{control_rate_hz: 20}"]) == 0
    shown = capsys.readouterr().out
    lines = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert lines["response"].endswith("the state changes 3 steps (150 ms) after an action")
    assert lines["quality"].split()[1:4] == ["median", "min", "max"]
    assert lines["lag (steps)"].endswith("9  12: 9")
    assert lines["length (score)"].endswith("9: -11.3")
    assert "saturation" not in lines and "  - Episode 9 is short" in shown


@pytest.mark.parametrize("kind", ["choices", "one row", "images"])
def test_logs_of_other_kinds(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = foreign.columns()
    if kind == "choices":
        values |= {"action": np.array([0, 1, 0, 1, 1, 0, 1, 1])}
    elif kind == "one row":
        values = {name: value[:1] for name, value in values.items()}
    else:
        values["observation"] = values["next_observation"] = np.zeros((8, 4, 4, 3), np.uint8)
    assert main([str(foreign.npz(tmp_path / "log.npz", values)), "--json"]) == 0
    quality = json.loads(capsys.readouterr().out)["quality"]
    numbers = [number for measure in quality["measures"] for number in measure["values"]]
    assert None not in numbers and "length" in {one["name"] for one in quality["measures"]}


def test_no_false_alarm_on_a_real_log(data: Path) -> None:
    """Teleoperated by one who knows how; command and joint are a quarter of a second apart."""
    made = summarize(*survey(data / "unitree_g1_pick_bottle", "unitree_g1"))
    assert made.quality.stand_out == ()
    assert made.quality.lag_steps == 7 and made.quality.lag_ms == pytest.approx(233, abs=1)
