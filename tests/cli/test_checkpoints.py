"""Cut and damaged checkpoints: which one each command takes instead, and what it says."""

from pathlib import Path

import pytest
import torch
from command_fits import checkpoints, fit, hindsight, refused

from hindsight_rl.training.checkpoints.file import read_checkpoint


def damage(path: Path) -> None:
    """Flip one bit in the largest tensor: the file opens as before."""
    weight = max(read_checkpoint(path)["state_dict"].values(), key=torch.Tensor.numel)
    content = bytearray(path.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 5] ^= 4
    path.write_bytes(content)


@pytest.fixture
def run(place: Path) -> Path:
    """The folder of a run of 60 updates with checkpoints at 25 and 50; the best is of 20."""
    words = ("--env", "CartPole-v1", "--model.init_args.evaluation.every", 20)
    more = ("--data.validation", 0.3, "--trainer.val_check_interval", 60)
    done = fit("--run", "run", *words, *more)
    assert done.code == 0, done.err
    return place / "run" / "checkpoints"


def test_a_flipped_bit_opens_as_before(run: Path) -> None:
    """What the hash is for: PyTorch and the zip format notice nothing."""
    before = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    damage(run / "last.ckpt")
    after = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    assert sum(int((before[name] != after[name]).sum()) for name in before) == 1


def test_resume_takes_the_one_before(run: Path) -> None:
    for name in ("last.ckpt", "step=50.ckpt"):
        damage(run / name)
    done = hindsight("fit", "--resume", "--run", "run", "--trainer.max_steps", 80)
    assert done.code == 0, done.err
    why = "damaged: its content does not agree with its hash"
    assert done.err.splitlines()[:3] == [
        f"run/checkpoints/last.ckpt: {why}; run/checkpoints/step=25.ckpt is taken instead",
        f"run/checkpoints/step=50.ckpt: {why}; run/checkpoints/step=25.ckpt is taken instead",
        "resuming run/checkpoints/step=25.ckpt",
    ]
    found = checkpoints(run.parent)
    best = found.pop("best.ckpt")
    assert best in (20, 40, 60, 80)
    assert found == {"last.ckpt": 80, "step=50.ckpt": 50, "step=75.ckpt": 75}
    for path in run.iterdir():
        read_checkpoint(path)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict", "export"])
def test_a_damaged_file_that_is_named_is_refused(command: str, run: Path) -> None:
    damage(run / "last.ckpt")
    words = ["--config", run.parent / "config.yaml"] if command not in ("test", "export") else []
    words += ["--output", "p.onnx"] if command == "export" else []
    told = refused(hindsight(command, *words, "--ckpt_path", run / "last.ckpt"))
    assert told == (
        f"error: {run}/last.ckpt: damaged: its content does not agree with its hash. "
        f"The newest good one beside it: {run}/step=50.ckpt\n"
    )


@pytest.mark.parametrize("command", ["test", "export"])
def test_the_newest_is_taken_where_the_best_is_damaged(command: str, run: Path) -> None:
    damage(run / "best.ckpt")
    words = ["--output", "p.onnx"] if command == "export" else []
    done = hindsight(command, "--run", "run", *words)
    assert done.code == 0, done.err
    assert done.err.splitlines()[0] == (
        "run/checkpoints/best.ckpt: damaged: its content does not agree with its hash; "
        "run/checkpoints/last.ckpt is taken instead"
    )


def test_a_run_without_a_good_checkpoint(run: Path) -> None:
    for path in run.iterdir():
        damage(path)
    done = hindsight("fit", "--resume", "--run", "run")
    assert done.code == 2 and done.err.count("damaged: its content") == 4
    assert done.err.splitlines()[-1] == (
        "error: run: no readable checkpoint; give a folder that 'fit' wrote"
    )


def test_early_stopping_by_the_command(place: Path) -> None:
    """Stopped, and stopped it stays; more patience, and it goes on."""
    stop = ("--trainer.callbacks+", "StopEarly", "--trainer.callbacks.monitor", "eval/return")
    words = (*stop, "--trainer.callbacks.mode", "min", "--trainer.callbacks.patience")
    episodes = ("--env", "CartPole-v1", "--model.init_args.evaluation.every", 10)
    fitted = fit("--run", "run", *episodes, *words, 1, updates=500)
    assert fitted.code == 0 and "stopped at update " in fitted.err, fitted.err
    updates = checkpoints(place / "run")["last.ckpt"]
    assert updates < 500 and updates % 10 == 0
    again = hindsight("fit", "--resume", "--run", "run")
    assert again.code == 0 and checkpoints(place / "run")["last.ckpt"] == updates
