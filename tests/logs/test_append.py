"""Logs larger than memory: appended ones, several files read as one, columns in a file."""

import json
from pathlib import Path

import pytest
import torch
from episode_logs import episode_log
from small_logs import everything, same, small

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.split import split_by_episode
from hindsight_rl.logs.append import append
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.rows import StackedRows, in_file
from hindsight_rl.relabel.returns import ReturnToGo


def joined() -> Log:
    return Log.concatenate([small(), small(100.0), small(7.0)], [5, 5, 5])


def test_an_appended_log_is_the_log_saved_in_one_piece(tmp_path: Path) -> None:
    small().save(tmp_path / "log")
    reader = Log.load(tmp_path / "log")
    append(tmp_path / "log", small(100.0))
    append(tmp_path / "log", iter([small(7.0)]))
    for memory_map in (True, False):
        back = Log.load(tmp_path / "log", memory_map=memory_map)
        assert same(everything(back), everything(joined()))
        assert back.hash() == joined().hash() != small().hash()
    assert len(back.sources) == 1 and back.sources[0].stop == 15
    assert same(everything(reader), everything(small()))


def test_an_append_that_fails_leaves_the_log_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the header: the rows behind are not seen, and the next append drops them."""
    small().save(tmp_path / "log")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path / "log", [small(50.0), small(51.0)])
    monkeypatch.undo()
    for memory_map in (True, False):
        back = Log.load(tmp_path / "log", memory_map=memory_map)
        assert same(everything(back), everything(small())) and back.hash() == small().hash()
    append(tmp_path / "log", [small(100.0), small(7.0)])
    assert same(everything(Log.load(tmp_path / "log")), everything(joined()))


def test_only_logs_that_go_together_are_appended(tmp_path: Path) -> None:
    small().save(tmp_path / "log")
    with pytest.raises(LogError, match="does not have the shape and dtype of the first one"):
        append(tmp_path / "log", small(extra=torch.zeros(5)))
    joined().save(tmp_path / "many")
    small().with_rows(torch.tensor([1])).save(tmp_path / "chosen")
    for name in ("many", "chosen"):
        with pytest.raises(LogError, match="takes no further ones. Append before mixing and"):
            append(tmp_path / name, small())
    header = json.loads((tmp_path / "log" / "header.json").read_text())
    header["hash"][0] = "0" * 16
    (tmp_path / "log" / "header.json").write_text(json.dumps(header))
    with pytest.raises(LogError, match="matrix.bin was changed"):
        append(tmp_path / "log", small())


# --- several files as one -------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    for seed in range(3):
        episode_log(seed=seed).save(tmp_path / f"{seed}")
    return [str(tmp_path / f"{seed}") for seed in range(3)]


def test_mapped_logs_are_read_as_one_without_a_copy(saved: list[str]) -> None:
    weights = [1.0, 2.0, 3.0]
    copied = Log.concatenate([Log.load(path, memory_map=False) for path in saved], weights)
    mapped = Log.concatenate([Log.load(path) for path in saved], weights)
    assert isinstance(mapped.blocks[0].matrix, StackedRows) and mapped.info["memory_mapped"]
    index = torch.tensor([[140, 0, 47], [46, 93, 94]])
    assert same(mapped.gather(index), copied.gather(index))
    assert same(everything(mapped), everything(copied))
    assert all(mapped.column(key).equal(copied.column(key)) for key in mapped.keys())
    assert mapped.hash() == copied.hash() and mapped.episodes == copied.episodes
    assert mapped.sources == copied.sources


@pytest.mark.parametrize("validation", [0.0, 0.4])
def test_mapped_logs_train_like_copied_ones(saved: list[str], validation: float) -> None:
    options = {"relabel": [ReturnToGo()], "batch_size": 16, "validation": validation}
    mapped = OfflineDataModule(saved, weights=[1.0, 2.0, 3.0], **options)
    logs = [Log.load(path, memory_map=False) for path in saved]
    copied = OfflineDataModule(Log.concatenate(logs, [1.0, 2.0, 3.0]), **options)
    assert same(mapped._sampler().chunk(3, 20), copied._sampler().chunk(3, 20))
    assert mapped.state_dict() == copied.state_dict()
    assert mapped.spec.observation == copied.spec.observation


def test_a_changed_file_among_several_is_named(saved: list[str]) -> None:
    raw = bytearray((Path(saved[1]) / "matrix.bin").read_bytes())
    raw[1] ^= 1
    (Path(saved[1]) / "matrix.bin").write_bytes(raw)
    with pytest.raises(LogError, match="1: matrix.bin was changed"):
        OfflineDataModule(saved)


# --- kept in a file -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3, 2), (0, 2), (0,)])
def test_tensors_in_a_file_are_zeros_that_can_be_written(shape: tuple[int, ...]) -> None:
    tensor = in_file(shape)
    assert tensor.equal(torch.zeros(shape))
    assert tensor.add_(1.0).equal(torch.ones(shape))


@pytest.mark.parametrize("chosen", [None, [1, 2, 9, 10, 11, 21, 30, 46]])
def test_the_split_of_a_mapped_log_is_that_of_the_log(
    chosen: list[int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the sweep looks at a few rows at a time."""
    log = episode_log().with_rows(None if chosen is None else torch.tensor(chosen))
    log.save(tmp_path / "log")
    expected = split_by_episode(log, 0.4, 3)
    for module in ("logs.log", "logs.packed", "datamodules.split", "logs.rows"):
        monkeypatch.setattr(f"hindsight_rl.{module}.SPAN", 5)
    mapped = Log.load(tmp_path / "log")
    for one, two in zip(split_by_episode(mapped, 0.4, 3), expected, strict=True):
        assert one is not None and two is not None and one.equal(two)
    hashes = [OfflineDataModule(one, validation=0.4).split_hash for one in (log, mapped)]
    assert hashes[0] == hashes[1]
