"""Bags cut by power loss, and damaged ones: what is left is read, and what is lost is reported."""

import json
import warnings
from pathlib import Path
from typing import Any

import bag_files as bags
import numpy as np
import pytest
from bag_files import AT_EACH, MAP

from hindsight_rl.cli import inspect
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log

for _library in ("rosbags", "mcap", "zstandard", "lz4"):
    pytest.importorskip(_library, reason="needs the extra 'ros'")


def column(log: Log, key: Any) -> Any:
    return log.column(key).numpy()


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_a_bag_cut_by_power_loss_is_recovered(compression: str, tmp_path: Path) -> None:
    """A file of 2,000 messages cut at any place: all whole chunks, and of the cut one a part."""
    path = bags.mcap(
        tmp_path / "whole.mcap",
        lambda put: bags.steady(put, 1000),
        compression=compression,
        chunk=16_384,
    )
    data = path.read_bytes()
    cut = tmp_path / "cut.mcap"
    found = []
    for share in (0.3, 0.5, 0.7):
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.warns(UserWarning, match="is cut"):
            log = read_log(cut, AT_EACH)
        found.append(len(log))
        rows = column(log, "observation")[:, 0]
        np.testing.assert_array_equal(rows, np.arange(1, len(log) + 1))
        assert log.info["recording"]["lost"]
    assert 0 < found[0] < found[1] < found[2] < 999
    if compression == "NONE":  # of the cut chunk all but what lies behind the cut
        assert found[1] == pytest.approx(500, abs=150)


def test_the_report_counts_what_is_lost(tmp_path: Path) -> None:
    """One plain chunk of 200 messages, cut within the command of number 50: 101 are whole."""
    path = bags.mcap(tmp_path / "whole.mcap", bags.steady, compression="NONE")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(np.float64(100.0).tobytes())])
    with pytest.warns(UserWarning, match="101 of its messages are recovered, about 98 are lost"):
        log = read_log(path, AT_EACH)
    about = log.info["recording"]
    assert len(log) == 50 and column(log, "observation")[-1, 0] == 50
    # In truth 99: the mean size of those recovered is a little larger than that of the others. The
    # chunk says that it ends at 992 ms; the last row is at 500 ms.
    assert about["lost_messages"] == 98 and about["lost_rows"] == 49


def test_zeros_at_the_end_are_no_messages(tmp_path: Path) -> None:
    """A file system that was not synced leaves zeros behind the last block."""
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, chunk=2048)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + bytes(100_000))
    with pytest.warns(UserWarning):
        log = read_log(path, AT_EACH)
    assert 0 < len(log) < 99


def test_a_damaged_chunk_is_left_out_and_the_rest_read(tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, chunk=2048)
    data = bytearray(path.read_bytes())
    middle = data.index(b"zstd", len(data) // 3)
    data[middle + 20 : middle + 60] = bytes(40)
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="is damaged"):
        log = read_log(path, AT_EACH)
    assert column(log, "observation")[-1, 0] == 99 and len(log) < 99


def test_a_cut_sqlite_file_is_recovered(tmp_path: Path) -> None:
    folder = bags.rosbag(tmp_path / "bag", lambda put: bags.steady(put, 1000), "SQLITE3")
    file = next(folder.glob("*.db3"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (folder / "metadata.yaml").unlink()
    with pytest.warns(UserWarning, match="damaged"):
        log = read_log(folder, AT_EACH)
    about = log.info["recording"]
    there = sum(topic["messages"] for topic in about["topics"].values())
    assert 200 < there < 1999 and about["lost_messages"] >= 1
    rows = column(log, "observation")
    np.testing.assert_array_equal(rows[:, 1] - rows[:, 0], 0.5)
    assert set(rows[:, 0]) <= set(range(1, 1000))


def test_metadata_that_counts_more_is_believed(tmp_path: Path) -> None:
    folder = bags.rosbag(tmp_path / "bag", lambda put: bags.steady(put, 1000))
    file = next(folder.glob("*.mcap"))
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.warns(UserWarning, match="of 2,000 messages that metadata.yaml counts are lost"):
        log = read_log(folder, AT_EACH)
    topics = log.info["recording"]["topics"].values()
    assert log.info["recording"]["lost_messages"] == 2000 - sum(t["messages"] for t in topics)


def test_inspect_says_what_a_cut_bag_lost(tmp_path: Path, capsys: Any) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, chunk=2048)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"zstd", len(data) // 2) + 100])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert inspect.main([str(path), "--columns", json.dumps(MAP)]) == 0
    shown = capsys.readouterr().out
    assert "is cut" in shown and "rows are lost with the end of the recording" in shown


def test_a_chunk_whose_checksum_differs_is_left_out(tmp_path: Path) -> None:
    """One bit of a number is another: which, nobody can tell, so none of the chunk is believed."""
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, compression="NONE", chunk=2048)
    data = bytearray(path.read_bytes())
    data[data.index(np.float64(50.5).tobytes()) + 6] ^= 8
    path.write_bytes(data)
    with pytest.warns(UserWarning, match="damaged .its checksum differs.: 0 of its messages"):
        log = read_log(path, AT_EACH)
    rows = column(log, "observation")
    assert 80 < len(log) < 99
    np.testing.assert_array_equal(rows[:, 1] - rows[:, 0], 0.5)
    assert 50 not in rows[:, 0]


def test_a_description_that_is_damaged_costs_its_topic_alone(tmp_path: Path) -> None:
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, chunk=0)
    data = bytearray(path.read_bytes())
    at = data.index(b"/command")
    data[at : at + 8] = b"\xff" * 8
    path.write_bytes(data)
    position = "/joint_states.position"
    given = {"observation": position, "action": position, "row_at": "/joint_states"}
    with pytest.warns(UserWarning, match="100 messages are damaged, or of no topic"):
        log = read_log(path, given | {"action_at": "next"})
    assert len(log) == 99
    assert any("1 descriptions of topics" in line for line in log.info["recording"]["lost"])


def test_what_yields_rows_without_end_is_no_table(tmp_path: Path) -> None:
    """A view that never ends, and a column that is computed: both grow out of a few bytes."""
    import sqlite3
    from contextlib import closing

    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    bodies = (
        f"CREATE VIEW Messages AS {endless} SELECT i AS id, 1 AS topic_id, i AS timestamp, "
        "x'00' AS data FROM n",
        "CREATE TABLE messages (id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, "
        "data BLOB GENERATED ALWAYS AS (zeroblob(1000000000)))",
    )
    for number, body in enumerate(bodies):
        path = tmp_path / f"{number}.db3"
        with closing(sqlite3.connect(path)) as base:
            base.execute("CREATE TABLE topics (id, name, type, serialization_format)")
            base.execute(body)
            base.commit()
        with pytest.raises(LogError, match="'messages' is no table of stored values"):
            read_log(path, AT_EACH)


def test_chunks_that_together_unpack_to_far_more_than_the_file_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may be within the limit: there is no end to how many of them a file holds."""
    path = bags.mcap(tmp_path / "a.mcap", bags.steady, compression="ZSTD", chunk=2048)
    assert len(read_log(path, AT_EACH)) == 99
    for module in ("logs.limits", "logs.reading.formats.bag_file"):
        monkeypatch.setattr(f"hindsight_rl.{module}.UNQUESTIONED", 6000)
        monkeypatch.setattr(f"hindsight_rl.{module}.LARGEST_RATIO", 0)
    with pytest.raises(LogError, match="it unpacks to"):
        read_log(path, AT_EACH)
