"""Files that claim more than they hold, that wait for ever, or that are built to be misread."""

import json
import os
import zipfile
from pathlib import Path

import foreign_logs as foreign
import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.logs import limits
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.reading.resolve import resolve

GIB = 1 << 30


def npy_header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return the header of an .npy entry of any shape."""
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def with_entry(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write the usual archive with another entry in place of a column."""
    foreign.npz(path, {k: v for k, v in foreign.columns().items() if k != name})
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr(f"{name}.npy", content)
    return path


# ------------------------------------------------------------------ sizes


def test_a_zip_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("bomb.npy", "w", force_zip64=True) as file:
            file.write(npy_header((300 << 20,), "|u1"))
            for _ in range(30):
                file.write(bytes(10 << 20))
    told = r"log.npz: it unpacks to 300.0 MiB in memory, from 3\d\d.\d KiB .*READ_GIB=1 in the"
    with pytest.raises(LogError, match=told):
        read_log(path, {"extra": "bomb"})
    foreign.expect_same(read_log(path))  # where nobody asks for it, it does no harm


def test_constant_rows_in_a_tiny_parquet_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 20_000_000
    path = tmp_path / "log.parquet"
    column = pa.array(np.zeros(rows))
    names = ["observation", "action", "reward", "terminated"]
    pa.parquet.write_table(pa.table(dict.fromkeys(names, column)), path)
    assert path.stat().st_size < 400_000
    told = r"log.parquet: it unpacks to 610.4 MiB in memory, from .* KiB.*HINDSIGHT_READ_GIB=1 in"
    with pytest.raises(LogError, match=told):
        read_log(path)
    monkeypatch.setenv(limits.GIB_VARIABLE, "0.0000001")
    with pytest.raises(LogError, match="it unpacks to 256 bytes"):
        read_log(foreign_parquet(tmp_path / "small.parquet"))
    monkeypatch.setenv(limits.GIB_VARIABLE, "1")
    assert len(read_log(foreign_parquet(tmp_path / "small.parquet"))) == 8


def foreign_parquet(path: Path) -> Path:
    """Write four columns of eight numbers each."""
    names = ["observation", "action", "reward", "terminated"]
    pa.parquet.write_table(pa.table(dict.fromkeys(names, pa.array(np.zeros(8)))), path)
    return path


def test_the_limit_can_be_raised_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    limits.check_memory(limits.UNQUESTIONED, 0, "log")
    limits.check_memory(5 * GIB, 5 * GIB // 100 + 1, "log")
    with pytest.raises(LogError, match="log: it unpacks to 5.0 GiB"):
        limits.check_memory(5 * GIB, 5 * GIB // 100 - 1, "log")
    monkeypatch.setenv(limits.GIB_VARIABLE, "5")
    limits.check_memory(5 * GIB, 0, "log")
    with pytest.raises(LogError, match="6.0 GiB"):
        limits.check_memory(6 * GIB, 0, "log")
    for text in ("much", "-1", "0", "nan", "inf"):
        monkeypatch.setenv(limits.GIB_VARIABLE, text)
        with pytest.raises(LogError, match=f"HINDSIGHT_READ_GIB is '{text}'. Give a positive num"):
            limits.check_memory(1, 1, "log")


def test_more_than_the_memory_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_memory", lambda: 4.0 * GIB)
    with pytest.raises(LogError, match="it unpacks to 5.0 GiB .*this machine has 4.0 GiB"):
        limits.check_memory(5 * GIB, 5 * GIB, "log")


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((10**13,), "<f8"), ((8, 10**12), "<f4"), ((4,), "<f4"), ((8, 0), "<f4"), ((-8,), "<f4")],
)
def test_declared_shapes_that_the_entry_does_not_hold(
    shape: tuple[int, ...], dtype: str, tmp_path: Path
) -> None:
    content = npy_header(shape, dtype) + bytes(32)
    path = with_entry(tmp_path / "log.npz", "reward", content)
    with pytest.raises(LogError, match="column 'reward': cannot be read as an npz array .*32 byte"):
        read_log(path)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((), "column 'reward': a single value, no column. Give one entry per row"),
        ((10**15, 0), r"column 'reward': rows without entries \(shape \[1000000000000000, 0\]\)"),
    ],
)
def test_arrays_that_are_no_columns(shape: tuple[int, ...], told: str, tmp_path: Path) -> None:
    content = npy_header(shape, "<f4") + bytes(4 * (shape == ()))
    with pytest.raises(LogError, match=told):
        read_log(with_entry(tmp_path / "log.npz", "reward", content))


@pytest.mark.parametrize(("at", "value"), [(8, 1), (10, 99)])
def test_encrypted_and_unknown_methods(at: int, value: int, tmp_path: Path) -> None:
    """Bytes 8 and 10 of an entry in the central directory: its flags and its method."""
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02", 0, content.rindex(b"reward.npy"))
    local = content.rindex(b"PK\x03\x04", 0, content.index(b"reward.npy"))
    content[entry + at] = content[local + at - 2] = value
    path.write_bytes(bytes(content))
    with pytest.raises(LogError, match="column 'reward': cannot be read as an npz array"):
        read_log(path)


def test_an_array_that_is_there_twice(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr("reward.npy", npy_header((8,), "<f4") + bytes(32))
    with pytest.raises(LogError, match="column 'reward': two arrays of this name"):
        read_log(path)


def test_hdf5_shapes_of_which_nothing_was_written(tmp_path: Path) -> None:
    path = foreign.hdf5(tmp_path / "log.hdf5", foreign.columns())
    with h5py.File(path, "a") as file:
        del file["reward"]
        file.create_dataset("reward", (10**12,), "f4", chunks=(1024,))
    with pytest.raises(
        LogError, match=r"log.hdf5: it unpacks to 3.6 TiB in memory, from \d\d\d bytes"
    ):
        read_log(path)


def test_nested_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = foreign.hdf5(tmp_path / "log.hdf5", foreign.columns())
    with h5py.File(path, "a") as file:
        group = file
        for _ in range(3000):
            group = group.create_group("g")
    with pytest.raises(LogError, match="groups are nested more than 32 deep.*HINDSIGHT_READ_DEPTH"):
        read_log(path)
    monkeypatch.setenv(limits.DEPTH_VARIABLE, "4000")
    foreign.expect_same(read_log(path))
    monkeypatch.setenv(limits.ENTRIES_VARIABLE, "100")
    with pytest.raises(LogError, match="more than 100 datasets and groups.*HINDSIGHT_READ_ENTRIES"):
        read_log(path)


def test_groups_that_hold_themselves(tmp_path: Path) -> None:
    path = foreign.hdf5(tmp_path / "log.hdf5", foreign.columns())
    with h5py.File(path, "a") as file:
        group = file.create_group("g")
        group["a"], group["b"], file["again"] = group, file["/"], file["reward"]
    foreign.expect_same(read_log(path))


def test_minari_rewards_that_were_never_written(tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0")
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        file.create_dataset("episode_1/rewards", (10**9,), "f8", chunks=(1024,))
    with pytest.raises(LogError, match="main_data.hdf5: it unpacks to 7.5 GiB in memory, from"):
        read_log(folder)


def test_minari_values_in_another_file(tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0")
    other = foreign.hdf5(tmp_path / "other.hdf5", {"rewards": np.zeros(4)})
    for link in (h5py.ExternalLink(str(other), "rewards"), h5py.SoftLink("/episode_0/rewards")):
        with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
            del file["episode_1/rewards"]
            file["episode_1/rewards"] = link
        with pytest.raises(LogError, match="main_data.hdf5: it holds links. Copy what they lead"):
            read_log(folder)


@pytest.mark.parametrize("kind", ["hdf5", "arrow", "parquet"])
def test_minari_metadata_that_promises_fewer_episodes(kind: str, tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0", kind)
    foreign.expect_same(read_log(folder))
    metadata = folder / "data" / "metadata.json"
    facts = json.loads(metadata.read_text())
    metadata.write_text(json.dumps(facts | {"total_episodes": 2, "total_steps": 5}))
    with pytest.raises(LogError, match="3 episodes where metadata.json promises 2"):
        read_log(folder)


def test_minari_episodes_in_several_files(tmp_path: Path) -> None:
    """Minari takes one batch for one episode: the fourth batch, the last episode, was left out."""
    folder = foreign.minari(tmp_path / "made-v0", "parquet")
    part = next((folder / "data" / "0").glob("*.parquet"))
    table = pa.parquet.read_table(part)
    pa.parquet.write_table(table.slice(0, 3), part)
    pa.parquet.write_table(table.slice(3), part.with_name("part-1.parquet"))
    metadata = folder / "data" / "metadata.json"
    facts = {k: v for k, v in json.loads(metadata.read_text()).items() if k != "total_steps"}
    metadata.write_text(json.dumps(facts))
    with pytest.raises(LogError, match="Minari reads 7 of 11 stored rows"):
        read_log(folder)


def test_minari_spaces_of_text(tmp_path: Path) -> None:
    storage = MinariStorage.new(
        tmp_path / "data", gymnasium.spaces.Text(5), gymnasium.spaces.Box(-1, 1, (2,))
    )
    with pytest.raises(LogError, match="0 episodes|the log is empty|cannot be read"):
        read_log(tmp_path)
    assert storage.total_episodes == 0


# ------------------------------------------------------------------ what is no file


@pytest.mark.parametrize("suffix", ["npz", "csv", "hdf5", "parquet"])
def test_pipes_are_not_read(suffix: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"log.{suffix}")
    with pytest.raises(LogError, match=f"log.{suffix}: no regular file, but a pipe or a device"):
        read_log(tmp_path / f"log.{suffix}")
    with pytest.raises(LogError, match="null: no regular file"):
        read_log("/dev/null", {"format": suffix})


def test_pipes_in_folders_are_not_read(tmp_path: Path) -> None:
    read_log(foreign.npz(tmp_path / "log.npz", foreign.columns())).save(tmp_path / "saved")
    foreign.parquet(tmp_path / "shards" / "a.parquet", foreign.columns())
    os.mkfifo(tmp_path / "shards" / "b.parquet")
    with pytest.raises(LogError, match="b.parquet: no regular file"):
        read_log(tmp_path / "shards")
    foreign.lerobot(tmp_path / "robot", "v2.1")
    foreign.minari(tmp_path / "made-v0")
    for folder, name, told in (
        ("saved", "matrix.bin", "matrix.bin: no regular file"),
        ("saved", "header.json", "no readable header.json"),
        ("robot", "meta/tasks.jsonl", "tasks.jsonl: no regular file"),
        ("robot", "meta/info.json", "info.json: no regular file"),
        ("robot", "data/chunk-000/episode_000001.parquet", "000001.parquet: no regular file"),
        ("made-v0", "data/main_data.hdf5", "main_data.hdf5: no regular file"),
        ("made-v0", "data/metadata.json", "metadata.json: no regular file"),
    ):
        file = tmp_path / folder / name
        os.rename(file, tmp_path / "kept")
        os.mkfifo(file)
        with pytest.raises(LogError, match=told):
            read_log(tmp_path / folder)
        os.replace(tmp_path / "kept", file)
        assert len(read_log(tmp_path / folder)) == 8
    os.mkfifo(tmp_path / "map.yaml")
    with pytest.raises(LogError, match="map.yaml: the column map cannot be read .no regular file"):
        ColumnMap.load(tmp_path / "map.yaml")


# ------------------------------------------------------------------ names


def test_numbers_of_any_length_in_names(tmp_path: Path) -> None:
    long = "observation_" + "1" * 5000
    held = [long, "observation_1", "observation_0", "action", "reward", "observation_\u00b2"]
    assert resolve(ColumnMap(), held, "log").observation == ["observation_0", "observation_1"]
    with pytest.raises(LogError, match=r"column 'observation_2+': no such column.*1\.\.\., obs"):
        resolve(ColumnMap(observation="observation_" + "2" * 5000), held, "log")
    with pytest.raises(LogError, match="stands for more than 3 numbers, or two lie side by side"):
        resolve(ColumnMap(observation="observation_**"), held, "log")
    for number, name in enumerate(("x-\u00b2", "x-2", "x-10", "x-010", "x-" + "9" * 200)):
        foreign.parquet(
            tmp_path / f"{name}.parquet", foreign.columns() | {"episode": np.full(8, number)}
        )
    with pytest.raises(LogError, match="nowhere"):
        read_log(tmp_path / "nowhere")


def test_parquet_columns_of_one_name_and_text_that_is_none(tmp_path: Path) -> None:
    made = foreign.columns()
    arrays = [pa.array(value.tolist()) for value in made.values()]
    path = tmp_path / "log.parquet"
    pa.parquet.write_table(pa.Table.from_arrays([*arrays, arrays[2]], [*made, "reward"]), path)
    with pytest.raises(LogError, match="column 'reward': two columns of this name"):
        read_log(path)
    pa.parquet.write_table(pa.Table.from_arrays([*arrays, arrays[2]], [*made, "more"]), path)
    path.write_bytes(path.read_bytes().replace(b"more", b"m\xff\xfee"))
    with pytest.raises(LogError, match="cannot be read as parquet"):
        read_log(path)


def test_one_long_text_among_many_short_ones(tmp_path: Path) -> None:
    """As an array of NumPy each would be as wide as the longest: 2 GiB of 70 kB."""
    values = {n: np.zeros(10_000).tolist() for n in ("observation", "action", "reward")}
    texts = ["a"] * 9_999 + ["b" * 60_000]
    pa.parquet.write_table(pa.table(values | {"episode": texts}), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="column 'episode': it unpacks to 2.2 GiB"):
        read_log(tmp_path / "log.parquet")
