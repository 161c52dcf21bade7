"""Two processes that share each batch learn what one process learns from the whole."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from fit_process import Job, fit_job, run_jobs

# With batch statistics, with targets, with a sweep of the log; K = 7 does not divide 100.
FITS: dict[str, dict[str, Any]] = {
    "IQL": {"clip_norm": 1.0},
    "MARWIL": {"norm": "batch_std"},
}


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path: Path) -> None:
    """Gloo on the CPU, 100 updates of 16 rows: weights within 1e-6."""
    episode_log().save(tmp_path / "log")
    jobs = [
        Job(
            name,
            str(tmp_path / "log"),
            str(tmp_path / name),
            100,
            arguments=arguments,
            data={"batch_size": 16, "updates_per_step": 7},
        )
        for name, arguments in FITS.items()
    ]
    two = {"strategy": "ddp", "devices": 2}
    ended = run_jobs([replace(job, trainer=two) for job in jobs], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "MEMBER: 2/2" in ended.stderr
    for job in jobs:
        shared = torch.load(tmp_path / job.learner / "final.ckpt", weights_only=True)
        assert shared["global_step"] == 100
        alone = torch.load(
            fit_job(replace(job, folder=str(tmp_path / f"{job.learner} alone"))), weights_only=True
        )
        for name, value in alone["state_dict"].items():
            torch.testing.assert_close(shared["state_dict"][name], value, rtol=0, atol=1e-6)
