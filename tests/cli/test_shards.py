"""``--shards`` and ``--ray``: what several processes write is what one writes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_fits import hindsight
from episode_logs import episode_log
from minari.dataset.minari_storage import MinariStorage
from near_workers import Near
from saved_policies import policy_of, saved

import hindsight_rl.cli.shards as shards
from hindsight_rl.agents.bc import BC
from hindsight_rl.export.onnx import export_policy

GOALS = "{relabel: [{class_path: FutureGoal, init_args: {family: GoalReaching}}]}"
ROOMS = ["--env", "Hindsight/FourRooms-v0", "--env_kwargs", '{"ends": false}']


def equal(one: Any, two: Any) -> bool:
    """Return whether what Minari holds is the same, to the bit."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[key], two[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(equal, one, two))
    if isinstance(one, np.ndarray):
        return one.dtype == two.dtype and one.shape == two.shape and one.tobytes() == two.tobytes()
    return bool(one == two)


def dataset(folder: Path) -> dict[str, Any]:
    """Return all that a dataset holds."""
    storage = MinariStorage.read(folder / "data")
    numbers = range(storage.total_episodes)
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    for name in ("dataset_id", "dataset_size"):
        metadata.pop(name, None)
    about = [dict(facts) for facts in storage.get_episode_metadata(numbers)]
    return {"episodes": list(storage.get_episodes(numbers)), "about": about, "metadata": metadata}


def _run(folder: Path) -> list[str]:
    return ["--env", "Pendulum-v1", "--policy", str(saved(policy_of(BC, "Pendulum-v1"), folder))]


def _exported(folder: Path) -> list[str]:
    file = folder / "policy.onnx"
    export_policy(policy_of(BC, "CartPole-v1"), file)
    return ["--env", "CartPole-v1", "--policy", str(file), "--explore", "0.3"]


# Scripts that state how likely actions are, goals, images and entries; a run and a file.
PLAYED: dict[str, Callable[[Path], list[str]]] = {
    "scripted": lambda _: ["--env", "CartPole-v1", "--good", "0.4"],
    "goals": lambda _: ROOMS,
    "images": lambda _: ["--import", "tiny_envs", "--env", "Tiny/Look-v0"],
    "run": lambda folder: [*_run(folder), "--sample", "--explore", "0.2", "--max_steps", "9"],
    "file": _exported,
}


def collect(output: Path, *words: object) -> Any:
    return hindsight("collect", "--output", output, "--episodes", 7, *words)


@pytest.mark.parametrize("played", PLAYED)
def test_a_collected_log_is_the_same_for_any_number_of_shards(
    played: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = PLAYED[played](tmp_path)
    one = collect(tmp_path / "one-v0", *words)
    assert one.code == 0, one.err
    expected = dataset(tmp_path / "one-v0")
    for count in (1, 2, 3, 50):
        near = Near()
        monkeypatch.setattr(shards, "Processes", lambda _, near=near: near)
        many = collect(tmp_path / f"{count}-v0", *words, "--shards", count)
        assert many.code == 0, many.err
        assert equal(dataset(tmp_path / f"{count}-v0"), expected)
        assert len(near.parts) == (0 if count == 1 else min(count, 7))
        assert many.out == one.out.replace("one-v0", f"{count}-v0") and many.err == one.err
    assert not list(tmp_path.glob("*.shards"))


@pytest.mark.parametrize("where", [["--shards", "2"], ["--ray", "local"]])
def test_other_processes_collect_and_relabel_the_same(where: list[str], tmp_path: Path) -> None:
    if "--ray" in where:
        pytest.importorskip("ray", reason="of the extra 'ray'")
    # 75 steps each: more rows than are relabeled together.
    words = [*ROOMS, "--episodes", "120"]
    (tmp_path / "goals.yaml").write_text(GOALS)
    for name, more in (("one", []), ("many", where)):
        assert collect(tmp_path / name, *words, *more).code == 0
        data, new = tmp_path / name / "data", tmp_path / f"{name}-new"
        config = ["--config", tmp_path / "goals.yaml", "--output", new]
        done = hindsight("relabel", data, *config, *more)
        assert done.code == 0, done.err
    assert equal(dataset(tmp_path / "one"), dataset(tmp_path / "many"))
    one, many = (tmp_path / name / "matrix.bin" for name in ("one-new", "many-new"))
    assert one.read_bytes() == many.read_bytes()


def test_episodes_of_a_lost_process_are_played_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped, going_on = Near(most=2), Near()
    words = ["--env", "CartPole-v1", "--shards", 4]
    monkeypatch.setattr(shards, "Processes", lambda _: stopped)
    lost = collect(tmp_path / "log", *words)
    assert lost.code == 2 and not (tmp_path / "log").exists()
    assert "shard 3 of 4 (episodes 3 to 4): its process was killed, or memory ran out" in lost.err
    assert f"finished shards are in {tmp_path / 'log.shards'}: the same command goes on" in lost.err
    monkeypatch.setattr(shards, "Processes", lambda _: going_on)
    other = collect(tmp_path / "log", *words, "--seed", 1)
    assert other.code == 2 and "holds shards of something else" in other.err
    assert collect(tmp_path / "log", *words).code == 0
    assert [part.part for part in going_on.parts] == [range(3, 5), range(5, 7)]
    assert collect(tmp_path / "one", *words[:2]).code == 0
    assert equal(dataset(tmp_path / "one"), dataset(tmp_path / "log"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "one"]


def test_no_shards_write_nothing(tmp_path: Path) -> None:
    done = collect(tmp_path / "log", "--env", "CartPole-v1", "--shards", "0")
    assert done.code == 2 and done.err == "error: --shards 0: at least 1\n"
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = collect(tmp_path / "log", "--env", "CartPole-v1", "--ray", "local")
    assert done.code == 2 and 'pip install "hindsight-rl[ray]"' in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_relabeling_goes_on(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command is ended once its first shards are there, and given again."""
    monkeypatch.chdir(tmp_path)
    episode_log([50] * 4000, goals=True).save("log")
    Path("goals.yaml").write_text(GOALS)
    words = ["relabel", "log", "--config", "goals.yaml", "--output"]
    line = [sys.executable, "-m", "hindsight_rl.cli.main", *words, "new", "--shards", "25"]
    first = Path("new.shards", "0.bin")
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as process:
        latest = time.monotonic() + 120
        while not first.exists() and process.poll() is None and time.monotonic() < latest:
            time.sleep(0.01)
        os.kill(process.pid, number)
        assert process.wait(60) == (130 if number == signal.SIGINT else -signal.SIGKILL)
    assert first.exists() and not Path("new").exists()
    near = Near()
    monkeypatch.setattr(shards, "Processes", lambda _: near)
    assert hindsight(*words, "new", "--shards", "25").code == 0
    assert 0 < len(near.parts) < 25 and near.parts[0].start > 0
    assert hindsight(*words, "one").code == 0
    assert Path("new/matrix.bin").read_bytes() == Path("one/matrix.bin").read_bytes()
    assert not Path("new.shards").exists()
