"""Logs on disk: whole or absent, back to the bit, and every kind of damage refused."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from small_logs import Columns, everything, five, same, small
from strategies import log_columns

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import REWARD, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log


@pytest.mark.parametrize("memory_map", [True, False])
@given(columns=log_columns())
def test_a_saved_log_comes_back_to_the_bit(
    memory_map: bool, columns: Columns, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("saved") / "deep" / "down" / "log"
    info = {"source": "arm", "names": {"action": ["shoulder"]}, "control_rate_hz": 30.0}
    log = Log.from_columns(columns, info)
    log.save(folder)
    back = Log.load(folder, memory_map=memory_map)
    assert same(everything(back), everything(log)) and back.keys() == log.keys()
    assert back.sources == log.sources and back.rows is None
    assert back.info == info | ({"memory_mapped": True} if memory_map else {})


@pytest.mark.parametrize("memory_map", [True, False])
def test_added_columns_sources_and_chosen_rows_are_saved(tmp_path: Path, memory_map: bool) -> None:
    """Also when the log that is saved lies on disk itself."""
    log = Log.concatenate([small(), small(100.0)], [1, 3])
    log.save(tmp_path / "first")
    more = Log.load(tmp_path / "first", memory_map=memory_map).with_rows(torch.tensor([2, 3, 9]))
    more = more.with_columns({"advantage": torch.arange(10.0), REWARD: torch.ones(10)})
    more.save(tmp_path / "second")
    back = Log.load(tmp_path / "second", memory_map=memory_map)
    assert same(everything(back), everything(more)) and back.sources == log.sources
    assert back.column("advantage").tolist() == list(range(10))
    assert back.column(REWARD).tolist() == [1.0] * 10
    assert back.drawable().tolist() == [2, 3, 9]
    again = json.loads((tmp_path / "second" / "header.json").read_text())
    assert "memory_mapped" not in again["info"]


def test_a_memory_mapped_log_is_not_read_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small().save(tmp_path / "log")
    before = (tmp_path / "log" / "matrix.bin").read_bytes()

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("the whole file was read")

    monkeypatch.setattr(np, "fromfile", forbidden)
    log = Log.load(tmp_path / "log")
    log.column(REWARD).fill_(99.0)  # a view: copied on write, the file keeps its bytes
    assert (tmp_path / "log" / "matrix.bin").read_bytes() == before
    with pytest.raises(AssertionError, match="the whole file was read"):
        Log.load(tmp_path / "log", memory_map=False)


def test_a_log_in_memory_does_not_need_its_folder(tmp_path: Path) -> None:
    small().save(tmp_path / "log")
    log = Log.load(tmp_path / "log", memory_map=False)
    shutil.rmtree(tmp_path / "log")
    assert same(everything(log), everything(small()))


def test_an_existing_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    with pytest.raises(LogError, match="log: already exists. Choose another name or remove it"):
        small().save(tmp_path / "log")
    assert list((tmp_path / "log").iterdir()) == []


@pytest.mark.parametrize("where", ["matrix", "header", "rename"])
def test_a_save_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A full disk while the matrix or the header is written, or at the rename."""
    log = small()

    def full(*_: object, **__: object) -> None:
        assert list(tmp_path.glob("log")) == [], "the folder shows before it is whole"
        raise OSError("No space left on device")

    if where == "matrix":
        log = replace(log, rows=torch.arange(3))
        monkeypatch.setattr(torch.Tensor, "numpy", full)
    elif where == "header":
        monkeypatch.setattr("hindsight_rl.logs.saving.write_text", full)
    else:
        monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space left"):
        log.save(tmp_path / "log")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    log.save(tmp_path / "log")
    assert same(everything(Log.load(tmp_path / "log")), everything(log))


def test_facts_that_json_cannot_hold_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Log.from_columns(five(), {"made": object()}).save(tmp_path / "log")
    assert list(tmp_path.iterdir()) == []


def test_a_saved_log_is_readable_by_others_and_holds_no_draft(tmp_path: Path) -> None:
    small().with_rows(torch.tensor([1])).save(tmp_path / "log")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    names = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert names == ["header.json", "matrix.bin", "rows.bin"]
    assert (tmp_path / "log").stat().st_mode & 0o755 == 0o755


# --- damaged logs ---------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    small().with_rows(torch.tensor([0, 2])).save(tmp_path / "log")
    return tmp_path / "log"


def refused(folder: Path, message: str) -> None:
    for memory_map in (True, False):
        with pytest.raises(LogError, match=message) as caught:
            Log.load(folder, memory_map=memory_map)
        assert str(caught.value).startswith(f"{folder}: ")


@pytest.mark.parametrize("change", [-1, -4, -180])
def test_a_matrix_that_was_cut_is_refused(saved: Path, change: int) -> None:
    """Five rows of 2 + 1 + 2 real words and 6 scalars, 220 bytes: cut anywhere."""
    content = (saved / "matrix.bin").read_bytes()
    assert len(content) == 5 * (2 + 1 + 2 + 6) * 4
    (saved / "matrix.bin").write_bytes(content[:change])
    size = len(content) + change
    refused(saved, f"matrix.bin has {size} bytes where the header promises 220. The log is cut")


@pytest.mark.parametrize("name", ["matrix.bin", "rows.bin"])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    refused(
        saved, f"{name} has 0 bytes where the header promises .* The log is cut: write it again"
    )


def test_cut_drawable_rows_are_refused(saved: Path) -> None:
    (saved / "rows.bin").write_bytes(bytes(8))
    refused(saved, "rows.bin has 8 bytes where the header promises 16")


def test_a_folder_without_a_header_is_refused(saved: Path, tmp_path: Path) -> None:
    message = "no readable header.json. Give a folder written by Log.save"
    refused(tmp_path / "nowhere", message)
    (saved / "header.json").unlink()
    refused(saved, message)
    refused(saved / "matrix.bin", message)


@pytest.mark.parametrize("text", ["", "{", "\0\1\2", '{"format": '])
def test_a_header_that_is_no_json_is_refused(saved: Path, text: str) -> None:
    (saved / "header.json").write_text(text)
    refused(saved, "no readable header.json")


def rewrite(folder: Path, change: Mapping[str, Any]) -> None:
    header = json.loads((folder / "header.json").read_text()) | change
    kept = {key: value for key, value in header.items() if value != "drop"}
    (folder / "header.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    "change", [{"format": "another"}, {"format": "drop"}, {"version": 2}, {"version": "drop"}]
)
def test_another_format_or_version_is_refused(saved: Path, change: dict[str, Any]) -> None:
    rewrite(saved, change)
    refused(saved, "not a hindsight-log of version 1 or 2. Write it with this release")


@pytest.mark.parametrize("text", ["[]", "3", "null", '"hindsight-log"'])
def test_a_header_that_is_no_table_is_refused(saved: Path, text: str) -> None:
    (saved / "header.json").write_text(text)
    refused(saved, "not a hindsight-log of version 1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"rows": "drop"}, "'rows'"),
        ({"rows": "many"}, "many"),
        ({"rows": 0}, "0 rows"),
        ({"rows": -5}, "-5 rows"),
        ({"drawable": [1]}, "list"),
        ({"columns": "drop"}, "'columns'"),
        ({"columns": [1, 2]}, "list"),
        ({"columns": {"observation": [0, [11]]}}, "unpack"),
        ({"columns": {"observation": [0, [11], "object"]}}, "unknown dtype 'object'"),
        ({"columns": {"observation": [1, [11], "float32"]}}, "does not follow the one before it"),
        ({"columns": {"observation": [0, [-11], "float32"]}}, "does not follow the one before it"),
        (
            {"columns": {"observation": [0, [8], "float32"], "action": [4, [3], "float32"]}},
            "column 'action' does not follow",
        ),
        ({"sources": [[0, 5]]}, "missing"),
        ({"info": 3}, "int"),
    ],
)
def test_a_damaged_header_is_refused(saved: Path, change: dict[str, Any], reason: str) -> None:
    rewrite(saved, change)
    refused(saved, f"header.json is damaged .*{reason}.*Write the log again")


# --- damaged values -------------------------------------------------------------------------------


def overwrite(folder: Path, key: Any, row: int, value: float) -> None:
    """Change one number of the matrix, and promise the hash of what is then there."""
    header = json.loads((folder / "header.json").read_text())
    start, _, dtype = header["columns"][key_name(key)]
    raw = np.fromfile(folder / "matrix.bin", np.float32 if dtype == "float32" else np.int32)
    raw.reshape(header["rows"], -1)[row, start] = value
    raw.tofile(folder / "matrix.bin")
    rewrite(folder, {"hash": None})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["observation", "action", ("next", "observation"), REWARD])
def test_numbers_that_are_none_are_refused(saved: Path, key: Any, value: float) -> None:
    overwrite(saved, key, 3, value)
    with pytest.raises(LogError, match="is no number to learn from. Fix the source") as caught:
        Log.load(saved)
    assert (caught.value.column, caught.value.row) == (key_name(key), 3)


def test_large_numbers_are_no_infinity(tmp_path: Path) -> None:
    """Their sum is: 3e38 twice overflows."""
    small(big=torch.full((5,), 3e38)).save(tmp_path / "log")
    assert Log.load(tmp_path / "log").column("big").sum().isinf()


@pytest.mark.parametrize(
    ("low", "high", "row", "side"),
    [
        ([0.15], [1.0], 0, "low"),
        ([0.0], [0.35], 3, "high"),
        (None, 0.45, 4, "high"),
        ([None], [0.35], 3, "high"),
        ([float("-inf")], [0.45], 4, "high"),
        ([0.15], [None], 0, "low"),
    ],
)
def test_actions_beyond_their_bounds_are_refused(
    low: Any, high: Any, row: int, side: str, saved: Path
) -> None:
    rewrite(saved, {"info": {"action": {"low": low, "high": high}}})
    with pytest.raises(LogError, match=f"lies beyond the '{side}' bound of the log") as caught:
        Log.load(saved)
    assert (caught.value.column, caught.value.row) == ("action", row)


@pytest.mark.parametrize("low", [[0.0, 0.0], "far", ["far"], [None, None]])
def test_bounds_of_another_shape_are_refused(low: Any, saved: Path) -> None:
    rewrite(saved, {"info": {"action": {"low": low, "high": None}}})
    refused(saved, "header.json is damaged .action bounds")


def test_actions_at_their_bounds_are_taken(saved: Path) -> None:
    rewrite(saved, {"info": {"action": {"low": [0.1], "high": [0.5]}}})
    assert len(Log.load(saved)) == 5


@pytest.mark.parametrize(
    ("key", "row", "value"),
    [
        ("episode_end", 0, 5),
        ("episode_end", 4, 7),
        ("episode_end", 2, 1),
        ("episode_end", 1, -1),
        ("episode_end", 3, 3),
        ("episode", 0, 1),
        ("episode", 3, 7),
        ("episode", 2, 1),
        ("step", 0, 1),
        ("step", 1, 5),
        ("step", 3, -2),
    ],
)
@pytest.mark.parametrize("sweep", [1, 22, 1 << 20])
def test_episodes_that_do_not_fit_are_refused(
    sweep: int, key: str, row: int, value: int, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the sweep is cut: into single rows, pairs of rows, or not at all."""
    monkeypatch.setattr("hindsight_rl.logs.saved_checks._SWEEP", sweep)
    assert len(Log.load(saved)) == 5
    overwrite(saved, key, row, value)
    refused_at = "row . *: episode .*do not fit a log of 5 rows or the row before. Write the log"
    with pytest.raises(LogError, match=refused_at) as caught:
        Log.load(saved)
    assert caught.value.row in (row, row + 1)


@pytest.mark.parametrize("rows", [[0, 5], [-1, 2]])
def test_drawable_rows_the_log_does_not_have_are_refused(saved: Path, rows: list[int]) -> None:
    np.array(rows, np.int64).tofile(saved / "rows.bin")
    refused(saved, f"rows.bin names drawable rows from {rows[0]} to {rows[1]} of a log of 5")


@pytest.mark.parametrize(
    ("name", "entry", "message"),
    [
        ("next.reward", "drop", "column 'next.reward': .* .column is missing, a log needs float32"),
        ("step", "float32", "column 'step': .*column is float32, a log needs int64"),
        ("episode", "reshape", r"column 'episode': .*one number per row is needed, not \(1,\)"),
    ],
)
def test_columns_that_make_no_log_are_refused(
    name: str, entry: str, message: str, saved: Path
) -> None:
    columns = json.loads((saved / "header.json").read_text())["columns"]
    if entry == "drop":
        columns = {"other" if key == name else key: value for key, value in columns.items()}
    elif entry == "reshape":
        columns[name][1] = [1]
    else:
        columns[name][2] = entry
    rewrite(saved, {"columns": columns})
    with pytest.raises(LogError, match=message):
        Log.load(saved)


@pytest.mark.parametrize(
    "sources",
    [
        [],
        [[0, 4, 1.0, "a"]],
        [[1, 5, 1.0, "a"]],
        [[0, 3, 1.0, "a"], [4, 5, 1.0, "b"]],
        [[0, 5, 0.0, "a"]],
        [[0, 5, float("nan"), "a"]],
    ],
)
def test_sources_that_leave_rows_out_are_refused(saved: Path, sources: list[Any]) -> None:
    rewrite(saved, {"sources": sources})
    refused(saved, "header.json is damaged .source")


# --- the hash -------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_map", [True, False])
def test_a_saved_log_keeps_its_hash(tmp_path: Path, memory_map: bool) -> None:
    """Also with further columns, which follow from the configuration, and saved once more."""
    more = small().with_columns({"advantage": torch.arange(5.0), REWARD: torch.ones(5)})
    for number, log in enumerate((small(), more, more.packed())):
        log.save(tmp_path / f"{number}")
        back = Log.load(tmp_path / f"{number}", memory_map=memory_map)
        assert back.hash() == log.hash() == small().hash()
        back.save(tmp_path / f"{number} again")
        assert Log.load(tmp_path / f"{number} again", memory_map=memory_map).hash() == log.hash()


def test_a_changed_number_is_refused(saved: Path) -> None:
    """In memory at once; memory-mapped when the hash is asked for, before any training."""
    header = (saved / "header.json").read_text()
    overwrite(saved, REWARD, 1, 2.5)
    (saved / "header.json").write_text(header)
    message = r"matrix.bin was changed: its hash is \w{16}, the header promises \w{16}. Write the"
    with pytest.raises(LogError, match=message):
        Log.load(saved, memory_map=False)
    mapped = Log.load(saved)
    assert mapped.column(REWARD)[1] == 2.5
    with pytest.raises(LogError, match=message):
        mapped.hash()
    with pytest.raises(LogError, match=message):
        OfflineDataModule(str(saved))


def test_a_log_from_before_hashes_were_kept_is_read(saved: Path) -> None:
    rewrite(saved, {"hash": "drop"})
    assert Log.load(saved, memory_map=False).hash() == small().hash()


@pytest.mark.parametrize("entry", [["a"], [1, 2], 7])
def test_a_damaged_hash_is_refused(saved: Path, entry: Any) -> None:
    rewrite(saved, {"hash": entry})
    refused(saved, "header.json is damaged")
