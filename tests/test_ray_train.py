"""The Ray Train script of docs/scaling.md runs, and ends with the weights of a plain trainer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_fits import cart_log
from lightning import Trainer, seed_everything

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.training.checkpoints.file import read_checkpoint

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"


def test_a_worker_of_ray_ends_with_the_weights_of_a_plain_trainer(tmp_path: Path) -> None:
    pytest.importorskip("ray.train", reason="of the extra 'ray'")
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (script,) = [block for block in blocks if "TorchTrainer(" in block]
    cart_log(tmp_path / "log.npz")
    (tmp_path / "train.py").write_text(script.replace("num_workers=2", "num_workers=1"))
    # Ray gives its workers the lowest priority, and waits half a minute for them.
    there = {"RAY_worker_niceness": "0", "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600"}
    environment = os.environ | there | {"OMP_NUM_THREADS": "1", "RAY_TRAIN_V2_ENABLED": "1"}
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    seed_everything(0)
    data = OfflineDataModule(tmp_path / "log.npz", batch_size=64)
    learner = BC(data.spec)
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(max_steps=200, max_epochs=-1, accelerator="cpu", devices=1, **silent).fit(learner, data)
    found = read_checkpoint(tmp_path / "ray.ckpt")["state_dict"]
    assert found.keys() == learner.state_dict().keys()
    for name, weight in learner.state_dict().items():
        assert torch.equal(found[name], weight), name
