"""Checkpoint files: whole or not there at all, and recognised when they are cut or damaged."""

import errno
import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from drafts import left_draft
from small_fits import data_for, fit, learner_of, weights

from hindsight_rl.agents.bc import BC
from hindsight_rl.files import remove_drafts
from hindsight_rl.training.checkpoints.file import (
    HASH,
    CheckpointError,
    CheckpointIO,
    content_hash,
    newest_good,
    read_checkpoint,
    write_checkpoint,
)
from hindsight_rl.training.checkpoints.load import load_learner


def payload(updates: int = 3) -> dict[str, Any]:
    """Return what has every kind of value that a checkpoint holds."""
    return {
        "global_step": updates,
        "state_dict": OrderedDict(
            a=torch.randn(2, 3), none=torch.empty(0), flag=torch.tensor(True)
        ),
        "half": [torch.randn(3, 4).to(torch.bfloat16).T, torch.tensor(1.5)],
        "nested": {"text": "ü", 3: (1, 2.5, None, float("nan")), "size": torch.Size([2])},
    }


def written(path: Path, updates: int = 3) -> Path:
    """Write a checkpoint by the plugin."""
    CheckpointIO().save_checkpoint(payload(updates), path)
    return path


# ------------------------------------------------------------------ the hash


def test_hash_survives_the_file_and_is_not_part_of_what_is_read(tmp_path: Path) -> None:
    saved = payload()
    CheckpointIO().save_checkpoint(saved, tmp_path / "a.ckpt")
    assert saved.pop(HASH) == content_hash(saved)
    for found in (
        read_checkpoint(tmp_path / "a.ckpt"),
        CheckpointIO().load_checkpoint(tmp_path / "a.ckpt"),
    ):
        assert HASH not in found and content_hash(found) == content_hash(saved)
        assert torch.equal(found["half"][0], saved["half"][0])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.tensor([1.0]), torch.tensor([1.0 + 2**-23])),
        (1, 1.0),
        (1, True),
        ("1", 1),
        ([1, 2], (1, 2)),
        ([[1], 2], [[1, 2]]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": {}}, {"a": None}),
    ],
)
def test_what_differs_has_another_hash(one: Any, two: Any) -> None:
    assert content_hash({"x": one}) != content_hash({"x": two})


def test_hash_does_not_know_how_a_tensor_lies_in_memory() -> None:
    wide = torch.arange(12.0).reshape(3, 4)
    assert content_hash({"x": wide[:, 1]}) == content_hash({"x": wide[:, 1].clone()})


# ------------------------------------------------------------------ damage


def test_every_flipped_byte_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    """The bytes of the weights, found in the file, each changed in turn."""
    path, weight = tmp_path / "a.ckpt", torch.tensor([3.14159, -2.71828])
    CheckpointIO().save_checkpoint({"global_step": 1, "weight": weight}, path)
    whole = path.read_bytes()
    start = whole.index(weight.numpy().tobytes())
    for place in range(start, start + 8):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match=r"a\.ckpt: .*(damaged: its content|it may be)"):
            read_checkpoint(path)


def test_content_changed_without_its_hash_is_noticed(tmp_path: Path) -> None:
    saved = payload()
    torch.save({**saved, HASH: content_hash(payload(4))}, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match=r"damaged: its content does not agree with its hash"):
        CheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_cut_file_names_the_newest_good_one_beside_it(share: float, tmp_path: Path) -> None:
    for updates in (9, 10):
        written(tmp_path / f"step={updates}.ckpt", updates)
    cut = written(tmp_path / "last.ckpt", 12)
    cut.write_bytes(cut.read_bytes()[: int(share * cut.stat().st_size)])
    fix = r"The newest good one beside it: .*step=10\.ckpt$"
    with pytest.raises(
        CheckpointError, match=rf"last\.ckpt: not a readable .* or a file of another kind.*{fix}"
    ):
        read_checkpoint(cut)


def test_damaged_file_that_is_alone(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").touch()
    with pytest.raises(
        CheckpointError, match=r"another kind\. None beside it is good\. Give a \.ckpt"
    ):
        read_checkpoint(tmp_path / "a.ckpt")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.ckpt: no such checkpoint; give a file"):
        read_checkpoint(tmp_path / "none.ckpt")


def test_newest_good_passes_over_what_is_damaged(tmp_path: Path) -> None:
    assert newest_good(tmp_path) == (None, [])
    for updates in (9, 10, 11):
        written(tmp_path / f"step={updates}.ckpt", updates)
    torch.save({"global_step": 99, HASH: "sha256:0"}, tmp_path / "step=99.ckpt")
    found = newest_good(tmp_path)
    assert found.path == tmp_path / "step=11.ckpt"
    assert [error.path.name for error in found.broken] == ["step=99.ckpt"]
    last = written(tmp_path / "last.ckpt", 11)
    assert newest_good(tmp_path).path == last


def test_checkpoints_without_a_hash_are_read_as_they_are(tmp_path: Path) -> None:
    torch.save({"global_step": 1}, tmp_path / "old.ckpt")
    assert read_checkpoint(tmp_path / "old.ckpt") == {"global_step": 1}


# ------------------------------------------------------------------ writing


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full at the flush: all is written, nothing is renamed."""
    path = written(tmp_path / "a.ckpt")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    told = r"a\.ckpt cannot be written: No space left on device; [\d.,]+ MiB free of [\d.,]+ on"
    with pytest.raises(OSError, match=rf"{told} the disk of .*\. Make room there\..*--resume"):
        written(path, 4)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.ckpt"]


def test_a_disk_that_fills_while_torch_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's writer would end the process where a write raises."""
    device = Path("/dev/full")
    if not device.exists():
        pytest.skip("no /dev/full here")

    monkeypatch.setattr(Path, "open", lambda *_, **__: open(device, "wb", buffering=0))
    with pytest.raises(OSError, match=r"a\.ckpt cannot be written: No space left on device"):
        write_checkpoint(tmp_path / "a.ckpt", {"x": torch.zeros(10_000)})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError,
        match=r"a\.ckpt cannot be written: .*\. Nothing .* has changed: a part of this path",
    ):
        written(tmp_path / "file" / "a.ckpt")


def test_drafts_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {written(tmp_path / "a.ckpt").name, ".hidden"}
    (tmp_path / ".hidden").touch()
    left_draft(tmp_path / "step=9.ckpt")
    remove_drafts(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == kept


# ------------------------------------------------------------------ with a trainer


def test_every_trainer_of_a_learner_writes_hashed_checkpoints(tmp_path: Path) -> None:
    data = data_for(BC)
    learner = learner_of(BC, data.spec)
    fit(learner, data, tmp_path, 3).save_checkpoint(tmp_path / "a.ckpt")
    held = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert held[HASH] == content_hash(held)
    loaded = load_learner(tmp_path / "a.ckpt")
    assert all(
        torch.equal(value, weights(learner)[name]) for name, value in weights(loaded).items()
    )
    held["state_dict"][next(iter(held["state_dict"]))].view(-1)[0] += 1
    torch.save(held, tmp_path / "b.ckpt")
    for read in (
        lambda path: load_learner(path),
        lambda path: fit(learner_of(BC, data.spec), data, tmp_path, 9, ckpt_path=path),
    ):
        with pytest.raises(CheckpointError, match=r"b\.ckpt: damaged: .* beside it: .*a\.ckpt"):
            read(tmp_path / "b.ckpt")


def test_one_seed_of_a_checkpoint_of_one(tmp_path: Path) -> None:
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 3).save_checkpoint(tmp_path / "a.ckpt")
    assert load_learner(tmp_path / "a.ckpt", seed_index=0).seeds == 1
    for number in (1, -1):
        with pytest.raises(ValueError, match=rf"seed index {number}: .*a\.ckpt holds one seed, 0"):
            load_learner(tmp_path / "a.ckpt", seed_index=number)


def test_one_seed_of_several(tmp_path: Path) -> None:
    data = data_for(BC)
    fit(learner_of(BC, data.spec, seeds=2), data, tmp_path, 3).save_checkpoint(tmp_path / "a.ckpt")
    every = load_learner(tmp_path / "a.ckpt")
    assert every.seeds == every.hparams.seeds == 2
    for number in every.each_seed():
        one = load_learner(tmp_path / "a.ckpt", seed_index=number)
        assert one.seeds == one.hparams.seeds == 1 and one.seed_states is None
        pairs = zip(weights(one).values(), weights(every).values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    for number in (2, -1):
        with pytest.raises(
            ValueError, match=rf"seed index {number}: the checkpoint holds seeds 0 to 1"
        ):
            load_learner(tmp_path / "a.ckpt", seed_index=number)
