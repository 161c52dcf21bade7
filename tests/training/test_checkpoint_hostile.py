"""Checkpoints that ask for more than they hold: refused before anything is allocated."""

import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, learner_of, trainer_in

from hindsight_rl.agents.bc import BC
from hindsight_rl.training.checkpoints.file import (
    HASH,
    CheckpointError,
    content_hash,
    newest_good,
    read_checkpoint,
)
from hindsight_rl.training.checkpoints.load import load_learner

CUT = "not a readable Hindsight checkpoint: cut, or a file of another kind"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small learner."""
    path = tmp_path_factory.mktemp("run") / "last.ckpt"
    data = data_for(BC)
    trainer = trainer_in(path.parent, 8)
    trainer.fit(learner_of(BC, data.spec), data)
    trainer.save_checkpoint(path)
    return path


def changed(whole: Path, path: Path, part: str, **values: Any) -> Path:
    """Write a checkpoint with other entries of a part, and the hash that goes with them."""
    content = torch.load(whole, weights_only=True)
    content[part] = {**content[part], **values}
    content.pop(HASH, None)
    torch.save(content | {HASH: content_hash(content)}, path)
    return path


def laughs() -> list[Any]:
    """Return lists of lists of lists: 10^12 entries."""
    inner: list[Any] = ["ha"]
    for _ in range(12):
        inner = [inner] * 10
    return inner


@pytest.mark.parametrize("value", [laughs(), torch.zeros(1).expand(10**12)])
def test_values_that_unfold(value: Any, tmp_path: Path) -> None:
    # A reader that unfolds either would neither end nor fit into any memory.
    torch.save({"state_dict": value, "global_step": 3}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=CUT):
        read_checkpoint(tmp_path / "last.ckpt")


def test_archives_that_hold_less_than_they_say(whole: Path, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
        new.writestr("last/data/999", bytes(64 << 20))
    with pytest.raises(CheckpointError, match=CUT):
        read_checkpoint(path)


def test_files_from_before_archives_and_pipes(tmp_path: Path) -> None:
    torch.save({"global_step": 3}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=False)
    os.mkfifo(tmp_path / "b.ckpt")
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(CheckpointError, match=CUT):
            read_checkpoint(tmp_path / name)
    assert newest_good(tmp_path).path is None


@pytest.mark.parametrize("step", ["3", None, float("inf"), [3]])
def test_steps_that_are_no_number_are_passed_over(step: Any, tmp_path: Path) -> None:
    torch.save({"global_step": step}, tmp_path / "a.ckpt")
    torch.save({"global_step": 3}, tmp_path / "b.ckpt")
    assert newest_good(tmp_path).path == tmp_path / "b.ckpt"


@pytest.mark.parametrize("hidden", [(30_000, 30_000), (10**6, 10**6), ("a", "b"), 3])
def test_learners_that_would_fill_the_memory(hidden: Any, whole: Path, tmp_path: Path) -> None:
    assert load_learner(whole).networks()
    path = changed(whole, tmp_path / "last.ckpt", "hyper_parameters", network={"hidden": hidden})
    with pytest.raises((CheckpointError, ValueError), match="cannot be made again|hidden"):
        load_learner(path)


@pytest.mark.parametrize("part", ["hyper_parameters", "state_dict", "hindsight"])
def test_parts_of_another_kind(part: str, whole: Path, tmp_path: Path) -> None:
    content = torch.load(whole, weights_only=True)
    content.pop(HASH, None)
    torch.save(content | {part: 3}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="it holds no learner"):
        load_learner(tmp_path / "last.ckpt")
