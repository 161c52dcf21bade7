"""Interrupted and resumed training ends as uninterrupted training does, bit for bit."""

import inspect
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from fit_process import Job, differences, fit_job, run_jobs
from small_fits import LEARNERS, data_for, fit, learner_of, network_of, pairs_of
from variants import Variant, able

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.runs import newest_checkpoint
from hindsight_rl.logs.errors import LogError

UPDATES = 130
# All that can be resumed, and those that can sweep the log, sweeping.
CASES = able("resume") | {
    f"{name} swept": Variant(name, {"lambda_": 0.95})
    for name, kind in LEARNERS.items()
    if "lambda_" in (own := inspect.signature(kind).parameters) and own["lambda_"].default is None
}
# One of each kind of state there is to lose: the columns of a sweep, targets that move at every
# update, a interval, a count in a buffer. The resume of every learner is tested without the kill.
KILLED = ["AWR", "IQL", "TD3", "CQL"]


def assert_same_end(one: Path, two: Path) -> None:
    """Weights, targets, optimizer, columns of the last sweep, counters: nothing differs."""
    ends = [torch.load(path, weights_only=True) for path in (one, two)]
    for key in ("state_dict", "optimizer_states", "hindsight", "global_step"):
        assert differences(ends[0][key], ends[1][key], key) == []
    assert ends[0]["optimizer_states"][0]["state"]


@pytest.fixture
def log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The log of the test's case."""
    CASES[request.getfixturevalue("name")].log().save(tmp_path / "log")
    return str(tmp_path / "log")


def job_of(name: str, log: str, folder: Path, size: int = 8) -> Job:
    """Return a fit of 130 updates with sweeps every 40 and a decaying rate."""
    kind = CASES[name].kind
    swept = "sweep_every" in inspect.signature(kind).parameters
    more: dict[str, Any] = {"decay": {network_of(kind): 100}, "clip_norm": 1.0}
    more |= {"sweep_every": 40} if swept else {}
    return Job(
        kind.__name__,
        log,
        str(folder),
        UPDATES,
        arguments=CASES[name].arguments | more,
        data={"batch_size": 16, "updates_per_step": size, "validation": 0.3},
        trainer={"val_check_interval": 30},
    )


def killed_job(job: Job, update: int, folder: Path) -> Path:
    """Run a job that kills itself, and return the newest checkpoint it left."""
    job = replace(job, folder=str(folder), kill_after=update)
    ended = run_jobs([job], folder.parent)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert not (folder / "final.ckpt").exists()
    return newest_checkpoint(folder)


@pytest.mark.parametrize("name", CASES)
def test_resumed_training_ends_the_same(name: str, log: str, tmp_path: Path) -> None:
    """From the checkpoint at update 75, with the same K and with others."""
    end = fit_job(job_of(name, log, tmp_path / "straight"))
    middle = tmp_path / "straight" / "checkpoints" / "step=75.ckpt"
    for size in (8, 64, 5):
        resumed = job_of(name, log, tmp_path / f"resumed{size}", size)
        assert_same_end(fit_job(resumed, ckpt_path=middle), end)


@pytest.mark.slow
@pytest.mark.parametrize("name", KILLED)
def test_killed_training_resumes_from_its_newest_checkpoint(
    name: str, log: str, tmp_path: Path
) -> None:
    """Kill -9 anywhere between two checkpoints; resumed with the same K and with another."""
    job = job_of(name, log, tmp_path / "straight")
    end = fit_job(job)
    update = random.Random(name).randrange(30, UPDATES)
    newest = killed_job(job, update, tmp_path / "killed")
    step = torch.load(newest, weights_only=True)["global_step"]
    assert step == (update - 1) // 25 * 25  # the one due at the kill itself was never written
    for size in (8, 7):
        resumed = job_of(name, log, tmp_path / f"resumed{size}", size)
        assert_same_end(fit_job(resumed, ckpt_path=newest), end)


@pytest.mark.parametrize("name", ["RecurrentBC", "ACT", "IQL"])
def test_what_experts_and_people_said_is_resumed(name: str, tmp_path: Path) -> None:
    """Labels with holes, in windows too, and a learned reward: the same bits from update 75 on."""
    log = episode_log()
    label = 0.5 * log.column("action")
    label[::3] = torch.nan
    log.with_columns({"expert_action": label}).save(tmp_path / "log")
    reward = str(tmp_path / "reward.ckpt") if name == "IQL" else ""
    if reward:
        pairs = pairs_of(log, batch_size=16, updates_per_step=8)
        model = learner_of(LEARNERS["RewardModel"], pairs.spec)
        fit(model, pairs, tmp_path, 8).save_checkpoint(reward)
    options = {"batch_size": 16, "updates_per_step": 8, "validation": 0.3}
    job = Job(name, str(tmp_path / "log"), str(tmp_path / "straight"), UPDATES, data=options)
    job = replace(job, reward=reward, labelled=not reward)
    end = fit_job(job)
    middle = tmp_path / "straight" / "checkpoints" / "step=75.ckpt"
    other = replace(job, folder=str(tmp_path / "resumed"), data=options | {"updates_per_step": 5})
    assert_same_end(fit_job(other, ckpt_path=middle), end)


def test_resumed_run_makes_the_updates_that_are_left(tmp_path: Path) -> None:
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 10).save_checkpoint(tmp_path / "some.ckpt")
    trainer = fit(learner_of(BC, data.spec), data, tmp_path, 25, ckpt_path=tmp_path / "some.ckpt")
    assert trainer.global_step == 25
    done = fit(learner_of(BC, data.spec), data, tmp_path, 10, ckpt_path=tmp_path / "some.ckpt")
    assert done.global_step == 10


def test_resuming_on_another_log_is_refused(tmp_path: Path) -> None:
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 5).save_checkpoint(tmp_path / "some.ckpt")
    other = data_for(BC, episode_log(seed=1))
    with pytest.raises(LogError, match=r"checkpoint was trained on a log with hash"):
        fit(learner_of(BC, data.spec), other, tmp_path, 10, ckpt_path=tmp_path / "some.ckpt")
