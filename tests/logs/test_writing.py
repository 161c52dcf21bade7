"""Logs in the formats of other tools: read back equal by our readers, and opened by theirs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from small_logs import everything, five, same, small

from hindsight_rl.cli.convert import main
from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.keys import NEXT_OBSERVATION, REWARD, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.writing import TARGETS, write_log
from hindsight_rl.relabel.returns import ScaleReward

FACTS = {
    "names": {"observation": ["x", "v"], "action": ["force"]},
    "units": {"observation": ["m", "m/s"], "action": ["N"]},
    "action": {"low": [-1.0], "high": None},
    "control_rate_hz": 30.0,
}


def chained(**more: torch.Tensor) -> dict[Any, torch.Tensor]:
    """Return five rows whose next observations are those of the following rows."""
    columns = five(**more)
    columns[NEXT_OBSERVATION] = columns["observation"] + torch.tensor([1.0, 10.0])
    return columns


def plain() -> Log:
    return Log.from_columns(chained(), FACTS)


def goals() -> Log:
    """Return a log with a task, what was reached, flags and further numbers."""
    reached = torch.arange(5.0)[:, None]
    more = {
        "task": torch.tensor([[3.0], [3.0], [3.0], [9.0], [9.0]]),
        "achieved_goal": reached,
        ("next", "achieved_goal"): reached + 1,
        "success": torch.tensor([False, False, True, False, False]),
        "action_log_prob": torch.tensor([-1.0, -2.0, 0.5, -0.25, -3.0]),
        "weight": torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]),
    }
    return Log.from_columns(chained() | more, FACTS)


def choices() -> Log:
    columns = chained() | {"action": torch.tensor([2, 3, 4, 2, 2])}
    facts = {"discrete_actions": 3, "action_start": 2, "control_rate_hz": 10.0}
    return Log.from_columns(columns, facts)


def entries() -> Log:
    columns = chained()
    flat, after = columns.pop("observation"), columns.pop(NEXT_OBSERVATION)
    gear = torch.tensor([0, 1, 2, 3, 1])
    columns |= {("observation", "arm"): flat, ("next", "observation", "arm"): after}
    later = torch.tensor([1, 2, 0, 1, 4])
    columns |= {("observation", "gear"): gear, ("next", "observation", "gear"): later}
    facts = {"observation_choices": {"gear": 5}, "control_rate_hz": 10.0}
    facts["names"] = {"observation.arm": ["a", "b"], "action": ["u"]}
    return Log.from_columns(columns, facts)


def written(log: Log, folder: Path, target: str) -> Path:
    path = folder / ("out.parquet" if target == "parquet" else "out")
    write_log(log, path, target)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("make", [plain, goals, choices, entries])
def test_a_log_reads_back_equal(target: str, make: Any, tmp_path: Path) -> None:
    log = make()
    back = read_log(written(log, tmp_path, target))
    assert set(map(key_name, back.keys())) == set(map(key_name, log.keys()))
    assert same(everything(back), everything(log))
    for fact in ("names", "units", "action"):
        stated, found = log.info.get(fact) or {}, back.info.get(fact) or {}
        assert {name: found[name] for name in stated} == stated
    assert back.info["control_rate_hz"] == log.info["control_rate_hz"]
    assert back.info.get("discrete_actions") == log.info.get("discrete_actions")
    assert back.info.get("action_start") == log.info.get("action_start")
    assert back.info.get("observation_choices") == log.info.get("observation_choices")


@pytest.mark.parametrize("target", TARGETS)
def test_it_says_where_it_came_from(target: str, tmp_path: Path) -> None:
    log = Log.from_columns(chained(), FACTS | {"source": "here.npz", "relabeled": [{"seed": 3}]})
    path = written(log, tmp_path, target)
    if target == "parquet":
        held = json.loads(pyarrow.parquet.read_schema(path).metadata[b"hindsight"])
    else:
        place = "meta/hindsight.json" if target == "lerobot" else "hindsight.json"
        held = json.loads((path / place).read_text())
    assert held["provenance"]["hash"] == log.hash()
    assert held["provenance"]["info"]["relabeled"] == [{"seed": 3}]
    assert held["provenance"]["sources"] == [[0, 5, 1.0, "here.npz"]]


def test_a_map_that_is_given_goes_before_the_one_inside(tmp_path: Path) -> None:
    path = written(plain(), tmp_path, "parquet")
    given = {"observation": "next.observation", "action": "action", "reward": 0.0}
    log = read_log(path, given | {"episode": "episode"})
    assert torch.equal(log.column("observation"), plain().column(NEXT_OBSERVATION))


def test_next_observations_that_are_stored_need_not_follow(tmp_path: Path) -> None:
    """Of ``small`` no next observation is the following row's: Minari cannot hold it."""
    log = Log.from_columns(five() | {NEXT_OBSERVATION: five()["observation"] * 3}, FACTS)
    for target in ("parquet", "lerobot"):
        assert same(everything(read_log(written(log, tmp_path / target, target))), everything(log))
    with pytest.raises(LogError, match=r"row 0: next.observation is not.*Write it as parquet"):
        written(log, tmp_path, "minari")
    assert not (tmp_path / "out").exists()


def test_offsets_come_back_raw(tmp_path: Path) -> None:
    log = Log.from_columns(chained(), FACTS | {"offset": {"observation": [1e9, 0.0]}})
    path = written(log, tmp_path, "parquet")
    raw = pyarrow.parquet.read_table(path)["observation"].to_pylist()
    assert raw[1] == [1e9 + 1, 10.0]
    back = read_log(path)
    assert same(everything(back), everything(log)) and back.info["offset"] == log.info["offset"]
    with pytest.raises(LogError, match="it has an offset"):
        written(log, tmp_path, "minari")


def test_minari_opens_what_was_written(tmp_path: Path) -> None:
    from minari import MinariDataset

    log = goals()
    dataset = MinariDataset(written(log, tmp_path, "minari") / "data")
    assert dataset.total_episodes == 2 and dataset.total_steps == 5
    first = next(iter(dataset.iterate_episodes()))
    assert first.observations["observation"].tolist() == [[0, 0], [1, 10], [2, 20], [3, 30]]
    assert first.observations["desired_goal"].tolist() == [[3.0]] * 4
    assert first.rewards.tolist() == [1, 2, 4] and first.terminations.tolist() == [0, 0, 1]
    assert dataset.spec.dataset_id == "out-v0"


def test_lerobot_has_what_its_tools_read(tmp_path: Path) -> None:
    path = written(plain(), tmp_path, "lerobot")
    info = json.loads((path / "meta" / "info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 30, 5)
    features = info["features"]
    assert features["observation.state"] == {"dtype": "float32", "shape": [2], "names": ["x", "v"]}
    begun = [name for name in features if name.startswith(("observation", "action"))]
    assert begun == ["observation.state", "action"]
    rows = pyarrow.parquet.read_table(path / "data" / "chunk-000" / "file-000.parquet")
    assert sorted(rows.column_names) == sorted(features)
    # A feature of shape [1] is a number to LeRobot, and a list of one an error.
    assert features["action"]["shape"] == [1]
    assert rows.schema.field("action").type == pyarrow.float32()
    np.testing.assert_allclose(
        rows["timestamp"].to_numpy(), np.array([0, 1, 2, 0, 1]) / 30, rtol=1e-6
    )
    assert rows["index"].to_pylist() == list(range(5))
    episodes = pyarrow.parquet.read_table(path / "meta/episodes/chunk-000/file-000.parquet")
    assert episodes["dataset_to_index"].to_pylist() == [3, 5]
    stats = json.loads((path / "meta" / "stats.json").read_text())["observation.state"]
    assert stats["mean"] == [2.0, 20.0] and stats["std"] == pytest.approx([2**0.5, 10 * 2**0.5])
    pandas = pytest.importorskip("pandas")
    tasks = pandas.read_parquet(path / "meta" / "tasks.parquet")
    assert tasks.loc["a task of this log", "task_index"] == 0


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="does not know its control rate.*--rate HZ"):
        written(small(), tmp_path, "lerobot")
    with pytest.raises(LogError, match="'csv' is no format that is written"):
        write_log(small(), tmp_path / "a", "csv")  # type: ignore[arg-type]
    path = written(plain(), tmp_path, "parquet")
    with pytest.raises(LogError, match="already exists"):
        write_log(plain(), path, "parquet")
    write_log(goals(), path, "parquet", overwrite=True)
    assert "task" in read_log(path)
    (tmp_path / "mine").mkdir()
    for target in ("lerobot", "minari"):
        with pytest.raises(LogError, match="so it is not overwritten"):
            write_log(plain(), tmp_path / "mine", target, overwrite=True)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain().save(tmp_path / "log")
    words = [str(tmp_path / "log"), "--to", "lerobot", "--output"]
    assert main([*words, str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 5 rows in 2 episodes\n"
    assert same(everything(read_log(tmp_path / "out")), everything(plain()))
    assert main([*words, str(tmp_path / "out")]) == 2
    assert "already exists" in capsys.readouterr().err
    assert main([*words, str(tmp_path / "log" / "x")]) == 2
    assert "touches the source" in capsys.readouterr().err
    few = plain().with_rows(torch.tensor([0, 1]))
    few.save(tmp_path / "few")
    assert main([str(tmp_path / "few"), "--to", "minari", "--output", str(tmp_path / "m")]) == 0
    assert "2 of 5 rows may be drawn here; minari has no such choice" in capsys.readouterr().err


@pytest.mark.parametrize("target", TARGETS)
def test_a_relabeled_log_hands_on_what_the_rule_made(target: str, tmp_path: Path) -> None:
    write_relabeled(plain(), [ScaleReward(factor=0.5)], tmp_path / "relabeled", seed=3)
    log = read_log(tmp_path / "relabeled")
    path = written(log, tmp_path, target)
    back = read_log(path)
    assert back.column(REWARD).tolist() == [0.5, 1.0, 2.0, 4.0, 8.0]
    rest = [key for key in log.keys() if "original" not in key]
    assert set(rest) == set(back.keys()) and len(rest) < len(log.keys())
    assert all(torch.equal(log.column(key), back.column(key)) for key in rest)


def test_columns_that_lerobot_would_call_alike_are_an_error(tmp_path: Path) -> None:
    for extra, why in (
        ({"timestamp": torch.arange(5.0)}, "'timestamp' would be called 'timestamp', as LeRobot's"),
        ({"task": torch.ones(5, 1), "goal": torch.ones(5)}, "'goal' would be called 'goal', as "),
    ):
        log = Log.from_columns(chained() | extra, FACTS)
        with pytest.raises(LogError, match=why):
            written(log, tmp_path, "lerobot")
        assert not (tmp_path / "out").exists()
        assert same(everything(read_log(written(log, tmp_path, "parquet"))), everything(log))
        (tmp_path / "out.parquet").unlink()


@pytest.mark.parametrize("target", TARGETS)
def test_a_rate_that_is_not_the_logs_is_an_error(target: str, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="its rows come at 30 Hz, and the rate given is 50"):
        write_log(plain(), tmp_path / "out", target, rate=50.0)  # type: ignore[arg-type]
