"""Text files as people write them: compressed, decimal commas, comments, NA, yes and no."""

import bz2
import gzip
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pyarrow as pa
import pytest

from hindsight_rl.logs import limits
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.logs.reading.column_map import ColumnMap

ROWS = "x;u;r;end\n0,5;-1,25;1;no\n1,5e0;0,75;1.000;yes\n"


def log(path: Path, text: str, source: Path | None = None, **columns: Any) -> Any:
    (path / "log.csv").write_text(text)
    plain = {"observation": "x", "action": "u", "reward": "r", "episode_end": "end"}
    return read_log(source or path / "log.csv", plain | columns)


@pytest.mark.parametrize("ending", [".csv.gz", ".csv.bz2", ".csv.zst", ".csv.lz4", ".tsv.gz"])
def test_compressed(ending: str, tmp_path: Path) -> None:
    delimiter = "\t" if ".tsv" in ending else ","
    plain = foreign.csv(tmp_path / "log.csv", foreign.columns(), delimiter).read_bytes()
    path = tmp_path / f"robot.2{ending}"
    if ending.endswith(("gz", "bz2")):
        path.write_bytes((gzip if ending.endswith("gz") else bz2).compress(plain))
    else:
        with pa.output_stream(str(path), compression="detect") as file:
            file.write(plain)
    foreign.expect_same(read_log(path))
    commented = read_log(path, {"comment": "#"})
    foreign.expect_same(commented)
    assert commented.info["format"] == "csv"


def test_damaged_and_other_compressed_files(tmp_path: Path) -> None:
    whole = gzip.compress(foreign.csv(tmp_path / "log.csv", foreign.columns()).read_bytes() * 400)
    for number, content in enumerate((whole[: len(whole) // 2], whole[:20], b"x,u\n1,2\n")):
        path = tmp_path / f"{number}.csv.gz"
        path.write_bytes(content)
        with pytest.raises(LogError, match="cannot be read as comma-separated text"):
            read_log(path)
    (tmp_path / "log.npz.gz").write_bytes(whole)
    with pytest.raises(LogError, match=r"the ending '.npz.gz' says no format. .*\.csv.gz"):
        read_log(tmp_path / "log.npz.gz")


def test_a_compressed_file_of_far_more_than_it_can_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b"x,u,r,end\n" + b"0,0,0,1\n" * 1_000_000))
    monkeypatch.setattr(limits, "UNQUESTIONED", 1 << 20)
    with pytest.raises(LogError, match=r"it unpacks to 7\.6 MiB in memory, from .* in the file"):
        log(tmp_path, path.name, source=path)


def test_decimal_commas(tmp_path: Path) -> None:
    text = ROWS.replace("no", "0").replace("yes", "1").replace("1.000", "1")
    found = log(tmp_path, text, decimal_point=",")
    assert found.column("observation").tolist() == [[0.5], [1.5]]
    assert found.column("action").tolist() == [[-1.25], [0.75]]
    # A header with more commas than semicolons.
    named = log(
        tmp_path,
        text.replace("x;", "x, in, metres;"),
        decimal_point=",",
        observation="x, in, metres",
    )
    assert named.column("observation").tolist() == [[0.5], [1.5]]
    with pytest.raises(LogError, match="row 0: text '-1,25' where .* set `decimal_point: ','`"):
        log(tmp_path, text)


def test_yes_and_no(tmp_path: Path) -> None:
    words = {"true_values": ["yes", "Y"], "false_values": ["no"], "decimal_point": ","}
    text = ROWS.replace("1.000", "1") + "2;0;3;Y\n3;0;4;0\n4;0;5;true\n"
    found = log(tmp_path, text, **words)
    assert found.column("episode").tolist() == [0, 0, 1, 2, 2]
    with pytest.raises(LogError, match="column 'end', row 0: text 'no' where .* `true_values:"):
        log(tmp_path, text, decimal_point=",")


@pytest.mark.parametrize("mark", ["#", "//"])
def test_comments(mark: str, tmp_path: Path) -> None:
    """Before the header, of as many cells as a row, indented, at the end; not within a line."""
    text = (
        f"{mark} recorded; by\n{mark}\nx,u,r,end\n1,0.5,0,0\n{mark}9,9,9,9\n  {mark} a,b\n"
        f"2,0.25,1,1\n{mark} end"
    )
    for start in ("", "\ufeff"):
        found = log(tmp_path, start + text, comment=mark)
        assert found.column("observation").tolist() == [[1.0], [2.0]]
        assert found.column(("next", "reward")).tolist() == [0.0, 1.0]
    if mark == "#":
        with pytest.raises(LogError, match="starts with '#' is no row. .* set `comment: '#'`"):
            log(tmp_path, text)
    with pytest.raises(LogError, match="row 0: text '1 .* where a number"):
        log(tmp_path, f"x,u,r,end\n1 {mark} here,0.5,0,1\n", comment=mark)


@pytest.mark.parametrize(
    ("column", "told"),
    [
        ("x", r"column 'x', row 1: NaN \(1 such entry in the column\)"),
        ("end", "column 'end', row 1: an empty cell"),
        ("count", "column 'count', row 1: an empty cell"),
    ],
)
@pytest.mark.parametrize("word", ["NA", "n/a", "-"])
def test_an_empty_cell_of_a_needed_column_is_an_error(
    column: str, told: str, word: str, tmp_path: Path
) -> None:
    rows = [["0.5", "0.5", "1", "0", "4"], ["1.5", "0.5", "1", "0", "5"], ["2", "0", "1", "1", "6"]]
    names = ["x", "u", "r", "end", "count"]
    rows[1][names.index(column)] = word
    text = "\n".join(",".join(row) for row in [[*names, "note"], *([*r, word] for r in rows)])
    with pytest.raises(LogError, match=told):
        log(tmp_path, text, null_values=["NA", "n/a", "-"], extra="count")
    with pytest.raises(LogError, match=f"column '{column}', row 1: text '{word}' where a number"):
        log(tmp_path, text, extra="count")


def test_every_empty_cell_is_counted_by_inspect(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("x,u,r,end\n1.5,0,0.5,0\nNA,0,0,0\nNA,0,NA,1\n")
    columns = {"observation": "x", "action": "u", "reward": "r", "episode_end": "end"}
    _, problems = survey(tmp_path / "log.csv", columns | {"null_values": ["NA"]})
    assert [(p.column, p.row) for p in problems] == [("x", 1), ("r", 2)]
    assert "NaN (2 such entries in the column)" in str(problems[0])


def test_a_delimiter_of_ones_own(tmp_path: Path) -> None:
    found = log(tmp_path, "x|u|r|end\n1|0.5|0|1\n", delimiter="|")
    np.testing.assert_array_equal(found.column("observation"), [[1.0]])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"delimiter": ";;"}, "delimiter: ';;' is not one character"),
        ({"decimal_point": ",,"}, "decimal_point: ',,' is not one character"),
        ({"delimiter": ",", "decimal_point": ","}, "',' is between cells and before decimals"),
        ({"delimiter": "."}, "'.' is between cells and before decimals"),
        ({"null_values": ["-"], "false_values": ["no", "-"]}, "'-' is in two of null_values, "),
        ({"true_values": [True]}, "YAML reads yes, no, on and off as true .* in quotes"),
        ({"observation": ["x", False]}, "YAML reads yes, no, on and off as true .* in quotes"),
    ],
)
def test_options_that_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(LogError, match=told):
        ColumnMap.load(given)


def test_options_of_text_files_are_refused_for_others(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    with pytest.raises(LogError, match="decimal_point is for text files, and this is read as npz"):
        read_log(path, {"decimal_point": ","})
