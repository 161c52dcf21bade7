"""Processes that share each batch learn what one process learns from the whole."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from command_fits import cart_log, fit, fit_words, refused
from episode_logs import episode_log
from fit_process import Job, fit_job, run_jobs
from lightning.pytorch.callbacks import Callback
from small_fits import LEARNERS, data_for, learner_of, pairs_of
from small_fits import fit as fit_small
from torch import Tensor
from variants import able

from hindsight_rl.logs.log import Log

# Where more is to be shared than gradients: batch statistics, norms to clip, sweeps of the log.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AWAC": {"weights": "softmax"},
    "AWR": {"sweep_every": 50},
    "CRR": {"target_every": 30},
    "IQL": {"clip_norm": 1.0},
    "MARWIL": {"norm": "batch_std"},
}
UPDATES = 200
SHORT = ("--trainer.max_steps", 30, "--trainer.enable_progress_bar", "false")


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Gloo on the CPU, 200 updates of 16 rows, K = 7: weights of every policy within 1e-6."""
    jobs = []
    for name, variant in able("ranks").items():
        log = tmp_path / f"log of {name}"
        variant.log().save(log)
        job = Job(variant.learner, str(log), str(tmp_path / name), UPDATES)
        arguments = variant.arguments | ARGUMENTS.get(name, {})
        data = {"batch_size": 16, "updates_per_step": 7}
        jobs.append(replace(job, arguments=arguments, data=data))
    two = {"strategy": "ddp", "devices": 2}
    ended = run_jobs([replace(job, trainer=two) for job in jobs], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "MEMBER: 2/2" in ended.stderr
    for job in jobs:
        shared = torch.load(Path(job.folder, "final.ckpt"), weights_only=True)
        assert shared["global_step"] == UPDATES
        alone = torch.load(fit_job(replace(job, folder=f"{job.folder} alone")), weights_only=True)
        for name, value in alone["state_dict"].items():
            torch.testing.assert_close(
                shared["state_dict"][name],
                value,
                rtol=1e-6,
                atol=1e-6,
                msg=lambda text, job=job, name=name: f"{job.folder}, {name}: {text}",
            )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("BC", {}), ("RecurrentBC", {"segment": 4, "burn_in": 1}), ("ACT", {"chunk": 3})],
)
def test_two_processes_clone_an_expert_as_one(
    name: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """Rows without a label are drawn by neither rank, and how many steps count is of both."""
    log = episode_log()
    label = 0.5 * log.column("action")
    label[::3] = torch.nan
    log.with_columns({"expert_action": label}).save(tmp_path / "log")
    data = {"batch_size": 16, "updates_per_step": 7}
    job = Job(name, str(tmp_path / "log"), str(tmp_path / "two"), 60, data=data, labelled=True)
    assert_two_as_one(replace(job, arguments=arguments), tmp_path)


@pytest.mark.slow
def test_two_processes_learn_from_a_learned_reward_as_one(tmp_path: Path) -> None:
    """Every rank standardises the reward over the whole log, not over its rows."""
    log = episode_log()
    log.save(tmp_path / "log")
    pairs = pairs_of(log, batch_size=16, updates_per_step=8)
    model = fit_small(learner_of(LEARNERS["RewardModel"], pairs.spec), pairs, tmp_path, 8)
    model.save_checkpoint(tmp_path / "reward.ckpt")
    data = {"batch_size": 16, "updates_per_step": 7}
    job = Job("IQL", str(tmp_path / "log"), str(tmp_path / "two"), 60, data=data)
    assert_two_as_one(replace(job, reward=str(tmp_path / "reward.ckpt")), tmp_path)


@pytest.mark.slow
def test_two_processes_imagine_as_one(tmp_path: Path) -> None:
    """Each imagines all rows with the policy of both, and draws its share of them."""
    episode_log().save(tmp_path / "log")
    data = {"batch_size": 16, "updates_per_step": 7}
    job = Job("SAC", str(tmp_path / "log"), str(tmp_path / "two"), 60, data=data)
    imagined = {"model": "imagined_worlds:wander", "every": 20, "rows": 40, "horizon": 3}
    assert_two_as_one(replace(job, imagined=imagined), tmp_path)


@pytest.mark.slow
def test_two_processes_draw_by_priority_as_one(tmp_path: Path) -> None:
    """Each sees the errors of both on their rows, and draws its share by them."""
    episode_log(discrete=True).save(tmp_path / "log")
    data = {"batch_size": 16, "updates_per_step": 7}
    job = Job("DQN", str(tmp_path / "log"), str(tmp_path / "two"), 60, data=data)
    assert_two_as_one(replace(job, priorities={"corrected_after": 50}), tmp_path)


def assert_two_as_one(job: Job, folder: Path) -> None:
    """Check that two processes end with the weights of one, within 1e-6."""
    ended = run_jobs([replace(job, trainer={"strategy": "ddp", "devices": 2})], folder)
    assert ended.returncode == 0, ended.stderr[-3000:]
    shared = torch.load(Path(job.folder, "final.ckpt"), weights_only=True)
    alone = torch.load(fit_job(replace(job, folder=str(folder / "one"))), weights_only=True)
    for name, value in alone["state_dict"].items():
        torch.testing.assert_close(shared["state_dict"][name], value, rtol=1e-6, atol=1e-6)


# --- what a rank reads ----------------------------------------------------------------------------


def slots_and_rows(rank: int, world_size: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the slots of the batch that a rank fills, the rows it draws, and how many it reads."""
    data, read = data_for(LEARNERS["IQL"]), []
    plain = Log.gather
    monkeypatch.setattr(
        Log, "gather", lambda log, index: read.append(index.numel()) or plain(log, index)
    )
    data.prefetch = False  # no chunk ahead in what is counted
    data.trainer = SimpleNamespace(
        val_check_interval=1.0,
        max_steps=100,
        global_step=0,
        global_rank=rank,
        world_size=world_size,
        callbacks=list[Callback](),
        lightning_module=SimpleNamespace(in_keys=()),
    )
    sampler = data.train_dataloader()
    read.clear()  # of the probe that looked for missing keys
    chunk = next(iter(sampler))
    monkeypatch.undo()
    return chunk["draws"][..., 2], chunk["index"], sum(read)


def test_each_rank_reads_its_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half as many rows each, for other slots of the batch; joined they are the batch of one."""
    slots, rows, read = slots_and_rows(0, 1, monkeypatch)
    parts = [slots_and_rows(rank, 2, monkeypatch) for rank in (0, 1)]
    assert [part[2] for part in parts] == [read // 2, read // 2]
    assert not set(parts[0][0].flatten().tolist()) & set(parts[1][0].flatten().tolist())
    assert torch.equal(torch.cat([part[0] for part in parts], dim=1), slots)
    assert torch.equal(torch.cat([part[1] for part in parts], dim=1), rows)


def test_batch_that_cannot_be_shared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"batch_size 16 cannot be shared by 3 processes"):
        slots_and_rows(0, 3, monkeypatch)


# --- launchers ------------------------------------------------------------------------------------


def launch(folder: Path, *words: object, port: int) -> subprocess.Popen[str]:
    """Start torchrun as one of two machines that meet on the loopback address."""
    hidden = ("LOCAL_RANK", "NODE_RANK", "RANK", "WORLD_SIZE")
    known = {name: value for name, value in os.environ.items() if name not in hidden}
    meet = ("--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "fit")
    at = ("--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1")
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *meet, *at, "--no-python", "--"]
        + [sys.executable, "-m", "hindsight_rl.cli.main", *map(str, words)],
        cwd=folder,
        env=known | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch_two(folder: Path, *words: object) -> list[tuple[int, str, str]]:
    """Return how two launchers ended: exit code, standard output, standard error."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [launch(folder, *words, port=port) for _ in range(2)]
    said = [process.communicate(timeout=1200) for process in started]
    return [(p.returncode, out, err) for p, (out, err) in zip(started, said, strict=True)]


def weights_in(run: Path) -> dict[str, Tensor]:
    """Return the weights a run ended with."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: value for name, value in state.items() if value.is_floating_point()}


@pytest.mark.slow
def test_two_launchers_fit_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two "machines" of one process each: one run folder, one report, the weights of one."""
    cart_log(tmp_path / "log.npz")
    nodes = ("--trainer.num_nodes", 2, "--trainer.strategy", "ddp")
    ended = launch_two(tmp_path, *fit_words("--run", "two", *nodes, *SHORT))
    assert [code for code, _, _ in ended] == [0, 0], [err[-2000:] for _, _, err in ended]
    assert sorted("run: two" in out for _, out, _ in ended) == [False, True]
    monkeypatch.chdir(tmp_path)
    assert fit("--run", "one", *SHORT).code == 0
    assert sorted(p.name for p in (tmp_path / "two").rglob("*.ckpt")) == sorted(
        p.name for p in (tmp_path / "one").rglob("*.ckpt")
    )
    one, two = weights_in(tmp_path / "one"), weights_in(tmp_path / "two")
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=0, atol=1e-6)


def test_launched_from_outside_a_run_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cart_log(tmp_path / "log.npz")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "fit")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "each would name a folder of its own: give --run FOLDER" in refused(fit())
    assert not (tmp_path / "runs").exists()
