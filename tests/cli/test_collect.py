"""``hindsight collect``: a Minari dataset that others can read, whole or absent."""

import json
from pathlib import Path

import minari
import numpy as np
import pytest
import tiny_envs  # noqa: F401
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.cli.collect import main
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log


def collect(root: Path, name: str = "cartpole/mixed-v0", *words: str) -> Path:
    given = ["--env", "CartPole-v1", "--root", str(root), "--output", name, "--episodes", "20"]
    assert main([*given, *words]) == 0
    return root / name


def columns(log: Log) -> list[np.ndarray]:
    return [log.column(key).numpy() for key in log.keys()]


def test_a_minari_dataset_that_minari_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = collect(tmp_path)
    told = capsys.readouterr().out
    assert told.startswith(f"{folder}: 20 episodes (2 good), ") and "mean return" in told
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    dataset = minari.load_dataset("cartpole/mixed-v0")
    assert dataset.total_episodes == 20 and dataset.env_spec.id == "CartPole-v1"
    log = read_log("cartpole/mixed-v0")
    assert len(log) == dataset.total_steps and log.info["discrete_actions"] == 2
    assert log.info["environment"] == "CartPole-v1"


def test_episodes_end_as_the_environment_ended_them(tmp_path: Path) -> None:
    log = read_log(collect(tmp_path))
    lengths = log.column("step")[log.episode_ends()] + 1
    truncated = log.column(("next", "truncated"))[log.episode_ends()]
    assert truncated.tolist() == (lengths == 500).tolist() and truncated.sum() == 2
    assert log.info["repeated_next_observation"] == 0


def test_each_episode_names_its_behaviour(tmp_path: Path) -> None:
    storage = MinariStorage.read(collect(tmp_path) / "data")
    names = [facts["behavior"] for facts in storage.get_episode_metadata(range(20))]
    assert names.count("park") == 2 and set(names) == {"park", "wobble", "drift", "random"}


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    first = read_log(collect(tmp_path, "a-v0"))
    again = read_log(collect(tmp_path, "b-v0"))
    other = read_log(collect(tmp_path, "c-v0", "--seed", "1"))
    assert all(np.array_equal(x, y) for x, y in zip(columns(first), columns(again), strict=True))
    assert first.hash() == again.hash() != other.hash()


def test_nothing_else_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    collect(tmp_path / "root", "plain")
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*"))
    data = "root/plain/data"
    assert files == [f"{data}/main_data.hdf5", f"{data}/metadata.json"]
    metadata = json.loads((tmp_path / data / "metadata.json").read_text())
    assert metadata["dataset_id"] == "plain-v0"


def test_pendulum(tmp_path: Path) -> None:
    given = ["--env", "Pendulum-v1", "--root", str(tmp_path), "--output", "p", "--good", "0.5"]
    assert main([*given, "--episodes", "4"]) == 0
    log = read_log(tmp_path / "p")
    assert len(log) == 800 and log.info["action"] == {"low": [-2.0], "high": [2.0]}
    assert log.column(("next", "truncated")).sum() == 4


def test_any_other_environment_is_random(tmp_path: Path) -> None:
    given = ["--env", "MountainCarContinuous-v0", "--root", str(tmp_path), "--output", "m"]
    assert main([*given, "--episodes", "2", "--max_steps", "7"]) == 0
    log = read_log(tmp_path / "m")
    assert len(log) == 14 and log.column(("next", "truncated")).nonzero()[:, 0].tolist() == [6, 13]


def test_a_wandering_log_does_not_tell_its_goals(tmp_path: Path) -> None:
    """Of a radius that every step is within, not one episode ends early."""
    words = ["--env", "Hindsight/FourRooms-v0", "--output", str(tmp_path / "w-v0")]
    words += ["--episodes", "3", "--env_kwargs", '{"ends": false, "radius": 50.0}']
    assert main(words) == 0
    log = read_log(tmp_path / "w-v0")
    assert len(log) == 3 * 75 and not log.column(("next", "terminated")).any()
    assert (log.column(("next", "reward")) == 0).all()
    assert log.column("task").shape == log.column("achieved_goal").shape == (225, 2)
    dataset = minari.MinariDataset(tmp_path / "w-v0" / "data")
    assert dataset.recover_environment().unwrapped.radius == 50


def test_an_existing_dataset_is_kept_unless_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = collect(tmp_path, "a-v0")
    before = read_log(folder).hash()
    given = ["--env", "CartPole-v1", "--output", str(folder), "--episodes", "2"]
    assert main(given) == 2
    assert "already exists. Choose another name or pass --overwrite." in capsys.readouterr().err
    assert read_log(folder).hash() == before
    assert main([*given, "--overwrite"]) == 0
    assert read_log(folder).episodes == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a-v0"]


def test_a_folder_of_something_else_is_never_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").mkdir()
    given = ["--env", "CartPole-v1", "--output", str(tmp_path / "home"), "--overwrite"]
    assert main(given) == 2
    assert "is no Minari dataset, so it is not overwritten" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--env", "Nowhere-v0"], "Nowhere-v0"),
        (["--env", "CartPole-v1", "--episodes", "0"], "episodes is 0, it must be at least 1"),
        (["--env", "CartPole-v1", "--good", "2"], "good is 2.0, it must lie in [0, 1]"),
        (["--env", "Acrobot-v1", "--good", "0.5"], "no good behaviour is scripted for this env"),
        (["--env", "CartPole-v1", "--max_steps", "0"], "max_steps is 0, it must be at least 1"),
        (["--env", "CartPole-v1", "--env_kwargs", '{"a": 1}'], "not take its arguments {'a': 1}"),
    ],
)
def test_mistakes_leave_nothing_behind(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--output", str(tmp_path / "x-v0")]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "told"), [("{a", "not JSON (Expecting property name"), ("[1]", "not a JSON object")]
)
def test_arguments_of_the_environment_are_an_object(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--env", "CartPole-v1", "--output", "x-v0", "--env_kwargs", text])
    assert told in capsys.readouterr().err


def test_a_failure_half_way_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("half way")

    monkeypatch.setattr(MinariStorage, "update_metadata", fail)
    with pytest.raises(RuntimeError, match="half way"):
        collect(tmp_path, "a-v0")
    assert not list(tmp_path.iterdir())


def test_an_environment_without_a_name_to_import_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--env", "Tiny/Walk-v0", "--root", str(tmp_path), "--output", "walk-v0"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "Tiny/Walk-v0 is registered with an object" in told and "'module:Class'" in told
    assert list(tmp_path.iterdir()) == []
