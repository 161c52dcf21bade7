"""The same small log from every format, and several logs mixed."""

import json
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, read_logs, survey


def without(values: dict, *names: str) -> dict:
    return {name: value for name, value in values.items() if name not in names}


def test_npz(tmp_path: Path) -> None:
    log = read_log(foreign.npz(tmp_path / "log.npz", foreign.columns()))
    foreign.expect_same(log)
    assert log.info["format"] == "npz" and log.info["source"].endswith("log.npz")
    assert log.info["names"]["observation"] == ["observation[0]", "observation[1]"]
    assert log.info["repeated_next_observation"] == 0
    assert log.info["columns"]["episode"] == "episode"
    assert json.dumps(log.info)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(delimiter: str, tmp_path: Path) -> None:
    log = read_log(foreign.csv(tmp_path / "log.csv", foreign.columns(), delimiter))
    foreign.expect_same(log)
    assert log.info["names"]["action"] == ["action_0", "action_1"]


def test_csv_with_named_columns_and_a_byte_order_mark(tmp_path: Path) -> None:
    text = "\ufeffx, v,u,r,id\n1,2,0.5,0,7\n3,4,0.25,1,7\n"
    (tmp_path / "log.csv").write_text(text, encoding="utf-8")
    log = read_log(
        tmp_path / "log.csv",
        {"observation": ["x", "v"], "action": "u", "reward": "r", "episode": "id"},
    )
    assert log.column("observation").tolist() == [[1, 2], [3, 4]]
    assert log.shape("action") == (1,) and log.info["names"]["observation"] == ["x", "v"]


def test_hdf5_as_d4rl_writes_it(tmp_path: Path) -> None:
    made = foreign.columns()
    names = {"observation": "observations", "action": "actions", "reward": "rewards"}
    names |= {"terminated": "terminals", "truncated": "timeouts"}
    values = {d4rl: made[name] for name, d4rl in names.items()}
    values |= {"infos/qpos": np.ones((8, 3)), "metadata/algorithm": np.bytes_("SAC")}
    log = read_log(foreign.hdf5(tmp_path / "log.hdf5", values))
    foreign.expect_same(log, next_at_cut=100)
    assert log.info["repeated_next_observation"] == 1
    goal = read_log(tmp_path / "log.hdf5", {"task": "infos/qpos"})
    assert goal.column("task").tolist() == [[1.0] * 3] * 8


def test_parquet_file_and_shards(tmp_path: Path) -> None:
    made = foreign.columns()
    foreign.expect_same(read_log(foreign.parquet(tmp_path / "log.parquet", made)))
    for number, rows in ((2, slice(0, 5)), (10, slice(5, 8))):
        part = {name: value[rows] for name, value in made.items()}
        foreign.parquet(tmp_path / "shards" / f"output-{number}.parquet", part)
    foreign.expect_same(read_log(tmp_path / "shards"))


def test_parquet_episode_numbers_may_be_text(tmp_path: Path) -> None:
    made = foreign.columns()
    made |= {"episode": np.array([f"{number:x}" for number in made["episode"]])}
    foreign.expect_same(read_log(foreign.parquet(tmp_path / "log.parquet", made)))


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_minari_storages(data_format: str, tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0", data_format)
    for source in (folder, folder / "data"):
        log = read_log(source)
        foreign.expect_same(log)
        assert log.info["action"] == {"low": [-1.0, -1.0], "high": [1.0, 1.0]}


def test_minari_by_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign.minari(tmp_path / "group" / "made-v0")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    foreign.expect_same(read_log("group/made-v0"))
    foreign.expect_same(read_log(tmp_path / "group" / "made-v0" / "data" / "main_data.hdf5"))


def test_minari_goals_become_tasks(tmp_path: Path) -> None:
    log = read_log(foreign.minari(tmp_path / "made-v0", goal=True))
    foreign.expect_same(log)
    assert log.column("task")[:, 0].tolist() == [4, 4, 4, 4, 5, 8, 8, 8]
    np.testing.assert_array_equal(log.column("achieved_goal"), log.column("observation") + 1)
    np.testing.assert_array_equal(
        log.column(("next", "achieved_goal")), log.column(("next", "observation")) + 1
    )


def test_minari_entries_of_a_dictionary_bring_their_next_values(tmp_path: Path) -> None:
    names = ["observations/desired_goal", "observations/observation"]
    log = read_log(foreign.minari(tmp_path / "made-v0", goal=True), {"observation": names})
    assert log.column("observation")[0].tolist() == [4, 4, 0, 0]
    assert log.column(("next", "observation"))[4].tolist() == [5, 5, 101, -101]
    assert log.info["names"]["observation"][0] == "observations/desired_goal[0]"


def test_minari_dictionary_without_observation_is_joined_by_name(tmp_path: Path) -> None:
    keys = ("velocity", "position")
    log = read_log(foreign.minari(tmp_path / "made-v0", keys=keys))
    assert log.column("observation")[4].tolist() == [100, -100, 101, -99]
    assert log.column(("next", "observation"))[4].tolist() == [101, -101, 102, -100]


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot(version: str, tmp_path: Path) -> None:
    log = read_log(foreign.lerobot(tmp_path / "robot", version))
    # Nothing in these files says that an episode terminated: all three count as cut.
    assert (
        log.column(("next", "truncated")).tolist() == (np.isin(np.arange(8), foreign.LAST)).tolist()
    )
    assert not log.column(("next", "terminated")).any()
    np.testing.assert_array_equal(log.column("observation"), foreign.columns()["observation"])
    assert log.column(("next", "reward")).tolist() == list(range(8))
    assert log.info["names"]["observation"] == ["shoulder", "elbow"]
    assert log.info["control_rate_hz"] == 25 and log.info["task_names"] == ["pick", "put"]
    assert log.info["repeated_next_observation"] == 3


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_tasks_and_missing_rewards(version: str, tmp_path: Path) -> None:
    log = read_log(
        foreign.lerobot(tmp_path / "robot", version, reward=False),
        {"task": "task_index", "one_hot_task": True},
    )
    assert log.column("task").tolist() == [[1, 0]] * 4 + [[0, 1]] + [[1, 0]] * 3
    assert log.info["names"]["task"] == ["pick", "put"]
    assert not log.column(("next", "reward")).any()


def test_saved_log(tmp_path: Path) -> None:
    log = read_log(foreign.npz(tmp_path / "log.npz", foreign.columns()))
    log.save(tmp_path / "saved")
    again = read_log(tmp_path / "saved")
    assert foreign.printed(again) == foreign.printed(log) and again.hash() == log.hash()
    with pytest.raises(LogError, match="has its columns already"):
        read_log(tmp_path / "saved", {"observation": "obs"})
    looked_at, problems = survey(tmp_path / "saved")
    assert len(looked_at.columns["action"]) == 8 and problems == []


def test_mixing(tmp_path: Path) -> None:
    first = foreign.npz(tmp_path / "a.npz", foreign.columns())
    second = foreign.parquet(tmp_path / "b.parquet", foreign.columns())
    mixed = read_logs([first, second], weights=[3.0, 1.0])
    assert len(mixed) == 16 and mixed.episodes == 6
    assert [source.weight for source in mixed.sources] == [3.0, 1.0]
    assert mixed.info["source"] == [str(first), str(second)]
    evenly = read_logs([first, second], columns=[None, {"next_observation": "shifted"}])
    assert [source.weight for source in evenly.sources] == [8.0, 8.0]
    assert evenly.info["repeated_next_observation"] == 1
    assert foreign.printed(read_logs(str(first))) == foreign.printed(read_log(first))


def test_mixing_reconciles_facts(tmp_path: Path) -> None:
    made = foreign.columns()
    paths = [
        foreign.npz(tmp_path / f"{top}.npz", made | {"action": np.arange(8) % top})
        for top in (2, 5)
    ]
    assert read_logs(paths).info["discrete_actions"] == 5
    path = foreign.npz(tmp_path / "c.npz", made)
    bounded = {"action_low": -1.0, "action_high": 1.0}
    with pytest.raises(LogError, match="action low is not known, and .* has .*state it for both"):
        read_logs([path, path], [None, bounded])
    assert read_logs([path, path], [bounded, bounded]).info["action"]["low"] == [-1.0, -1.0]
    with pytest.raises(LogError, match="differs from .* of the first source"):
        read_logs([path, path], [bounded, bounded | {"action_high": 2.0}])


@pytest.mark.parametrize(
    ("sources", "options", "told"),
    [
        ([], {}, "no source is given"),
        (["a", "b"], {"weights": [1.0]}, "1 weights for 2 sources"),
        (["a", "b"], {"columns": [None]}, "1 column maps for 2 sources"),
    ],
)
def test_mixing_counts(sources: list[str], options: dict, told: str) -> None:
    with pytest.raises(LogError, match=told):
        read_logs(sources, **options)


def test_reading_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    folder = foreign.minari(tmp_path / "logs" / "made-v0")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    read_log(folder)
    with pytest.raises(LogError, match="no such file"):
        read_log("group/other-v0")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_object_columns_that_are_not_needed_do_not_matter(tmp_path: Path) -> None:
    values = foreign.columns() | {"infos": np.array([{}] * 8, object)}
    foreign.expect_same(read_log(foreign.npz(tmp_path / "log.npz", values)))


def test_hdf5_links_to_other_files_are_not_followed(tmp_path: Path) -> None:
    import h5py

    foreign.hdf5(tmp_path / "other.hdf5", {"secret": np.zeros((8, 2))})
    path = foreign.hdf5(tmp_path / "log.hdf5", without(foreign.columns(), "observation"))
    with h5py.File(path, "a") as file:
        file["observation"] = h5py.ExternalLink("other.hdf5", "secret")
    with pytest.raises(LogError, match="no column looks like the observation"):
        read_log(path)
    layout = h5py.VirtualLayout((8, 2), float)
    layout[:] = h5py.VirtualSource(tmp_path / "other.hdf5", "secret", (8, 2))
    with h5py.File(path, "a") as file:
        del file["observation"]
        file.create_virtual_dataset("observation", layout)
    with pytest.raises(LogError, match="its values lie in another file"):
        read_log(path)
