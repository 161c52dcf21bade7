"""Interrupted and resumed collecting ends as uninterrupted collecting does, bit for bit."""

import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import Job, differences, fit_job, run_jobs
from small_fits import fit, learner_of, trainer_in
from small_replays import ROUNDS, iterated

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.runs import newest_checkpoint
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.logs.errors import LogError

UPDATES = 130


def job_of(where: str, folder: Path, updates: int = UPDATES, **data: Any) -> Job:
    """Return a fit of several rounds whose replay is soon full."""
    if where == "file":
        data["memory_map"] = str(folder / "replay")
    more = {"decay": {"actor": 100}, "compile": "off"}
    return Job("BC", "", str(folder), updates, arguments=more, data=ROUNDS | data)


@pytest.fixture(scope="module", params=["memory", "file"])
def straight(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit that was never stopped, named after where its replay lies."""
    folder = tmp_path_factory.mktemp("straight") / request.param
    fit_job(job_of(folder.name, folder))
    return folder


def assert_same_end(one: Path, straight: Path) -> None:
    """Weights, optimizer, rounds and replay: nothing differs."""
    ends = [torch.load(path, weights_only=True) for path in (one, straight / "final.ckpt")]
    for key in ("state_dict", "optimizer_states", "global_step", "IteratedDataModule"):
        assert differences(ends[0][key], ends[1][key], key) == []


def rounds_of(checkpoint: Path) -> list[int]:
    """Return the updates at which rounds began."""
    state = torch.load(checkpoint, weights_only=True)["IteratedDataModule"]
    return [each["update"] for each in state["history"]]


def with_replay_of(job: Job, straight: Path) -> Job:
    """Copy the file of a replay, if it lies in one, to where a job looks for it."""
    if straight.name == "file":
        shutil.copytree(straight / "replay", job.data["memory_map"])
    return job


@pytest.mark.parametrize("size", [8, 5])
def test_resumed_collecting_ends_the_same(size: int, straight: Path, tmp_path: Path) -> None:
    """From the middle of a round, with the same K and with another."""
    middle = straight / "checkpoints" / "step=75.ckpt"
    begins = rounds_of(straight / "final.ckpt")
    assert 75 not in begins and len(begins) > len(rounds_of(middle)) > 2
    job = job_of(straight.name, tmp_path / "resumed", updates_per_step=size)
    assert_same_end(fit_job(with_replay_of(job, straight), ckpt_path=middle), straight)


def test_a_checkpoint_at_the_edge_of_a_round(straight: Path, tmp_path: Path) -> None:
    """It holds the replay before the round, which is collected when training goes on."""
    edge = rounds_of(straight / "final.ckpt")[2]
    stopped = fit_job(job_of(straight.name, tmp_path / "one", edge))
    assert edge not in rounds_of(stopped)
    assert_same_end(fit_job(job_of(straight.name, tmp_path / "one"), ckpt_path=stopped), straight)


@pytest.mark.slow
@pytest.mark.parametrize("straight", ["file"], indirect=True)
def test_killed_collecting_resumes_from_its_newest_checkpoint(
    straight: Path, tmp_path: Path
) -> None:
    job = job_of(straight.name, tmp_path / "killed")
    ended = run_jobs([replace(job, kill_after=95)], tmp_path)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    newest = newest_checkpoint(tmp_path / "killed")
    assert torch.load(newest, weights_only=True)["global_step"] == 75
    assert_same_end(fit_job(job, ckpt_path=newest), straight)


def data_of(**options: Any) -> IteratedDataModule:
    """Return a small datamodule."""
    return iterated(**ROUNDS | options)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    data = data_of()
    trainer = fit(learner_of(BC, data.spec), data, tmp_path, 10)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    for options in ({"seed": 1}, {"initial_episodes": 7}, {"updates_per_env_step": 2.0}):
        other = data_of(**options)
        with pytest.raises(LogError, match=r"first episodes are not those .* \(seed 0\)"):
            fit(learner_of(BC, other.spec), other, tmp_path, 20, ckpt_path=tmp_path / "some.ckpt")


def test_looking_at_a_checkpoint_leaves_its_replay_alone(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    data = data_of(memory_map=str(folder))
    trainer = trainer_in(tmp_path, 40)
    trainer.fit(learner_of(BC, data.spec), data)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    rows = len(data.log)
    with (folder / "matrix.bin").open("ab") as file:
        file.write(b"of a run that goes on")
    size = (folder / "matrix.bin").stat().st_size
    looking = data_of(memory_map=str(folder))
    path = tmp_path / "some.ckpt"
    parts = trainer_in(tmp_path, 10).predict(learner_of(BC, data.spec), looking, ckpt_path=path)
    assert sum(len(part["index"]) for part in parts) == rows
    assert (folder / "matrix.bin").stat().st_size == size
