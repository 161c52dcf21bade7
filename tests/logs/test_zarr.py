"""Zarr stores of both versions, written by zarr: equal values, and damage that is an error."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr_stores as stores

from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, survey

numcodecs = pytest.importorskip("numcodecs", reason="needs the extra 'zarr'")
codecs = pytest.importorskip("zarr.codecs", reason="needs the extra 'zarr'")
zstandard = pytest.importorskip("zstandard", reason="needs the extra 'zarr'")

MAP = {"observation": {"state": "state", "camera": "img"}}
VERSIONS = pytest.mark.parametrize("version", [2, 3])


def check(log: Log) -> None:
    """Check a log against the small replay buffer."""
    made = stores.columns()
    assert log.column("episode").tolist() == np.repeat(range(3), stores.LENGTHS).tolist()
    np.testing.assert_array_equal(log.column((OBSERVATION, "state")), made["data/state"])
    np.testing.assert_array_equal(log.column("action"), made["data/action"].astype(np.float32))
    frames = log.column((OBSERVATION, "camera"))
    np.testing.assert_array_equal(frames, made["data/img"])
    after = log.column(("next", OBSERVATION, "camera")).numpy()
    lives = np.setdiff1d(np.arange(stores.ROWS), stores.ENDS - 1)
    np.testing.assert_array_equal(after[lives], made["data/img"][lives + 1])
    np.testing.assert_array_equal(after[stores.ENDS - 1], made["data/img"][stores.ENDS - 1])
    assert not log.column(("next", "terminated")).any()
    assert log.column(("next", "truncated")).nonzero()[:, 0].tolist() == (stores.ENDS - 1).tolist()
    assert not log.column(("next", "reward")).any()


CODECS_2 = {
    "default": {},
    "none": {"compressors": None},
    "blosc": {"compressors": numcodecs.Blosc(cname="lz4", shuffle=2)},
    "lz4": {"compressors": numcodecs.LZ4()},
    "zstd": {"compressors": numcodecs.Zstd()},
    "zlib": {"compressors": numcodecs.Zlib()},
    "gzip": {"compressors": numcodecs.GZip()},
    "bz2": {"compressors": numcodecs.BZ2()},
    "lzma": {"compressors": numcodecs.LZMA()},
    "filters": {"filters": [numcodecs.Shuffle(4), numcodecs.CRC32()]},
    "fortran": {"order": "F"},
}
CODECS_3 = {
    "default": {},
    "none": {"compressors": None},
    "blosc": {"compressors": codecs.BloscCodec(cname="lz4")},
    "gzip": {"compressors": codecs.GzipCodec()},
    "zstd": {"compressors": [codecs.ZstdCodec(), codecs.Crc32cCodec()]},
}


@pytest.mark.parametrize(
    ("version", "settings"),
    [(2, one) for one in CODECS_2.values()] + [(3, one) for one in CODECS_3.values()],
    ids=[f"2-{name}" for name in CODECS_2] + [f"3-{name}" for name in CODECS_3],
)
def test_a_replay_buffer_is_read_equal(
    version: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    check(read_log(stores.write(tmp_path / "r.zarr", version=version, **settings), MAP))


@VERSIONS
def test_archives_and_nested_names_of_chunks_are_read_equal(version: int, tmp_path: Path) -> None:
    names: dict[str, Any] = {"chunk_key_encoding": {"name": "v2", "separator": "/"}}
    folder = stores.write(tmp_path / "r", version=version, **names)
    assert (folder / "data" / "state" / "0" / "0").is_file()
    check(read_log(folder, MAP))
    check(read_log(stores.zipped(folder, tmp_path / "r.zarr.zip"), MAP))
    check(read_log(stores.zipped(folder, tmp_path / "inside.zip", "some/folder/"), MAP))


def test_shards_are_read_equal_and_their_missing_parts_noticed(tmp_path: Path) -> None:
    """Shards of six rows hold chunks of three; the third chunk of nine rows is beyond the log."""
    import zarr

    path = tmp_path / "r"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, value in stores.columns().items():
        rest = value.shape[1:]
        array = group.create_array(
            name, shape=value.shape, dtype=value.dtype, chunks=(3, *rest), shards=(6, *rest)
        )
        array[...] = value
    check(read_log(path, MAP))
    group["data/state"][3:6] = 0.0  # a chunk of the fill value, which is left out of its shard
    with pytest.raises(LogError, match=r"data/state/c/0/0, its part 1 is not there"):
        read_log(path, MAP)
    with pytest.warns(UserWarning, match="1 chunks are not there"):
        log = read_log(path, MAP | {"missing_chunks": "fill"})
    assert (log.column((OBSERVATION, "state"))[3:6] == 0).all()


@VERSIONS
def test_plain_groups_of_columns_go_by_the_column_map(version: int, tmp_path: Path) -> None:
    """Names as they lie in the store, any types, big and little endian, usual names guessed."""
    made = stores.columns()
    values = {
        "robot/q": made["data/state"].astype(">f8" if version == 2 else "f8"),
        "cmd": made["data/action"].astype("f2"),
        "reward": np.arange(stores.ROWS, dtype=np.int16) + 1,
        "timeouts": np.isin(np.arange(stores.ROWS), stores.ENDS - 1),
    }
    path = stores.write(tmp_path / "log", values, version)
    columns = {"observation": "robot/q", "action": "cmd", "missing_chunks": "fill"}
    with pytest.warns(UserWarning, match="column 'timeouts': 1 chunks are not there"):
        log = read_log(path, columns)
    np.testing.assert_array_equal(log.column(OBSERVATION), made["data/state"])
    np.testing.assert_array_equal(log.column("action"), values["cmd"].astype(np.float32))
    assert log.column(("next", "reward")).tolist() == list(range(1, stores.ROWS + 1))
    assert log.info["format"] == "zarr" and log.episodes == 3
    with pytest.raises(LogError, match="no such column.*It holds: cmd, reward, robot/q, timeouts"):
        read_log(path, {"observation": "q"})


def test_pixels_of_real_numbers_become_bytes_where_nothing_is_lost(tmp_path: Path) -> None:
    """The buffer of diffusion policy's PushT keeps its frames as float32."""
    made = stores.columns()
    real = made | {"data/img": made["data/img"].astype(np.float32)}
    check(read_log(stores.write(tmp_path / "r", real), MAP))
    check(read_log(stores.write(tmp_path / "beside", real), MAP))
    real["data/img"] = real["data/img"] / 255
    log = read_log(stores.write(tmp_path / "scaled", real), MAP)
    np.testing.assert_array_equal(log.column((OBSERVATION, "camera")), real["data/img"])
    with pytest.raises(LogError, match="an image column of float32, not of uint8"):
        read_log(tmp_path / "scaled", {"image": "img"})


def test_frames_take_no_memory_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They lie in a mapped file, unpacked a block at a time."""
    from hindsight_rl.logs.reading.formats import zarr_arrays

    monkeypatch.setattr(zarr_arrays, "_BLOCK", 1)
    seen: list[int] = []
    unpacked = zarr_arrays.ZarrArray._unpacked

    def counted(self: Any, held: Any, rows: slice) -> Any:
        seen.append(len(held))
        return unpacked(self, held, rows)

    monkeypatch.setattr(zarr_arrays.ZarrArray, "_unpacked", counted)
    path = stores.write(tmp_path / "r")
    check(read_log(path, MAP))
    assert set(seen) == {1}
    content, _ = survey(path, MAP)
    assert isinstance(content.columns[(OBSERVATION, "camera")], np.memmap)


def changed(name: str, **fields: Any) -> Callable[[Path], None]:
    """Return a change of the metadata of an array of either version."""

    def change(path: Path) -> None:
        file = next(f for n in (".zarray", "zarr.json") if (f := path / name / n).exists())
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def chunk(path: Path, name: str = "state", number: int = 1) -> Path:
    """Return the file of a chunk of an array of rank 2."""
    files = (path / "data" / name / f"{number}.0", path / "data" / name / "c" / str(number) / "0")
    return next(file for file in files if file.exists())


def cut(path: Path) -> None:
    chunk(path).write_bytes(chunk(path).read_bytes()[:-1])


def lost(path: Path) -> None:
    chunk(path).unlink()


def ends(*values: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        version = 2 if (path / ".zgroup").exists() else 3
        shutil.rmtree(path / "meta")
        made = {"meta/episode_ends": np.array(values)}
        stores.write(path.with_name("other"), made, version)
        shutil.copytree(path.with_name("other") / "meta", path / "meta")

    return change


@pytest.mark.parametrize("settings", [{}, {"compressors": None}, {"blosc": True}, {"gzip": True}])
@VERSIONS
def test_a_chunk_that_is_cut_is_an_error(
    version: int, settings: dict[str, Any], tmp_path: Path
) -> None:
    """Blosc's own library reads behind the end of such a chunk, and says nothing."""
    if "blosc" in settings:
        settings = {"compressors": numcodecs.Blosc() if version == 2 else codecs.BloscCodec()}
    if "gzip" in settings:
        settings = {"compressors": numcodecs.GZip() if version == 2 else codecs.GzipCodec()}
    path = stores.write(tmp_path / "r", version=version, **settings)
    cut(path)
    with pytest.raises(LogError, match=r"column 'data/state'"):
        read_log(path, MAP)


BIG = 10**12
DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (lost, "is not there: it was lost, or all of it is the fill value 0.0, which zarr leaves out"),
    (ends(4, 4, 8), "column 'meta/episode_ends', row 1: an episode ends at row 4, and begins at 4"),
    (ends(4, 2, 8), "an episode ends at row 2, and begins at 4"),
    (ends(0, 4, 8), "row 0: an episode ends at row 0, and begins at 0"),
    (ends(4, 5, 9), "the last episode ends at row 9, and there are 8 rows. The store is cut"),
    (ends(4, 5), "ends at row 5, and there are 8 rows. The rest was being written when"),
    (changed("data/state", shape=[BIG, 2]), "it unpacks to 7.3 TiB in memory"),
    (changed("data/img", shape=[BIG, 8, 9, 3]), "column 'img': it unpacks to"),
    (changed("data/state", shape=[8]), "cannot be read as the metadata of an array"),
    (changed("data/state", shape=[8, -2]), "cannot be read as the metadata of an array"),
    (changed("data/state", shape=[9, 2]), "column 'state': 9 rows where the actions have 8"),
    (lambda path: shutil.rmtree(path / "data" / "action"), "no column looks like the action"),
    (lambda path: chunk(path).write_bytes(bytes(10**6)), "1,000,000 bytes, at most"),
    (lambda path: chunk(path).write_bytes(b"no chunk"), "column 'data/state'"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
@VERSIONS
def test_damage_is_an_error_that_names_it(
    version: int, damage: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = stores.write(tmp_path / "r", version=version)
    damage(path)
    with pytest.raises(LogError, match=message):
        read_log(path, MAP)


def test_rows_behind_the_last_end_are_an_episode_where_the_map_says_so(tmp_path: Path) -> None:
    path = stores.write(tmp_path / "r")
    ends(4, 5)(path)
    check(read_log(path, MAP | {"split_indices": "meta/episode_ends"}))


def test_a_column_of_the_fill_value_is_read_where_the_map_says_so(tmp_path: Path) -> None:
    made = stores.columns() | {"data/reward": np.zeros(stores.ROWS)}
    path = stores.write(tmp_path / "r", made)
    assert not (path / "data" / "reward" / "0").exists()
    with pytest.raises(LogError, match=r"column 'data/reward': the chunk data/reward/0 is not"):
        read_log(path, MAP)
    with pytest.warns(UserWarning, match="column 'data/reward': 3 chunks are not there"):
        check(read_log(path, MAP | {"missing_chunks": "fill"}))
    changed("data/reward", fill_value=None)(path)
    with pytest.raises(LogError, match="there is no fill value"):
        read_log(path, MAP | {"missing_chunks": "fill"})


PICKLE = [{"id": "pickle", "protocol": 5}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"filters": PICKLE}, "the filter 'pickle', which unpickles"),
        ({"compressor": PICKLE[0]}, "the compressor 'pickle', which unpickles"),
        ({"dtype": "|O", "filters": PICKLE}, "the filter 'pickle', which unpickles"),
        ({"dtype": "|O"}, r"no plain numeric array \('\|O'\)"),
        ({"dtype": [["x", "<f4"]]}, "no plain numeric array"),
        ({"filters": [{"id": "vlen-utf8"}]}, "the filter 'vlen-utf8', which is none of those"),
        ({"filters": [{"id": "astype", "encode_dtype": "|O"}]}, "'astype' makes values of type"),
        ({"compressor": {"id": "imagecodecs_jpegxl"}}, "the compressor 'imagecodecs_jpegxl'"),
    ],
)
def test_codecs_of_version_2_that_are_not_read_are_named(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = stores.write(tmp_path / "r")
    changed("data/state", **fields)(path)
    with pytest.raises(LogError, match=message):
        read_log(path, MAP)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "'numcodecs.pickle', which unpickles"),
        ({"codecs": [{"name": "bytes"}, {"name": "mine"}]}, "the codec 'mine', which is none"),
        ({"codecs": ["bytes", "gzip", "zstd"]}, "the codec 'zstd'"),
        ({"data_type": "string"}, "no plain numeric array"),
        ({"data_type": {"name": "mine"}}, "no plain numeric array"),
        ({"zarr_format": 4}, "the metadata of an array"),
    ],
)
def test_codecs_of_version_3_that_are_not_read_are_named(
    fields: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = stores.write(tmp_path / "r", version=3)
    changed("data/state", **fields)(path)
    with pytest.raises(LogError, match=message):
        read_log(path, MAP)


def test_a_chunk_that_unpacks_to_more_than_it_should_is_never_unpacked(tmp_path: Path) -> None:
    """24 bytes are due; each of these holds 10^8 zeros, one says its size and one does not."""
    import gzip

    path = stores.write(tmp_path / "r", compressors=numcodecs.GZip())
    chunk(path).write_bytes(gzip.compress(bytes(10**7))[: 1 << 16])
    with pytest.raises(LogError, match=r"chunk 1\.0 unpacks to more than 192 bytes where 24 are"):
        read_log(path, MAP)
    path = stores.write(tmp_path / "z", compressors=numcodecs.Zstd())
    for known in (True, False):
        packer = zstandard.ZstdCompressor(write_content_size=known)
        chunk(path).write_bytes(packer.compress(bytes(10**8)))
        with pytest.raises(LogError, match=r"unpacks to more than 192 bytes where 24 are due"):
            read_log(path, MAP)


def test_what_is_no_store_is_an_error(tmp_path: Path) -> None:
    folder = stores.write(tmp_path / "r")
    with pytest.raises(LogError, match="a single array, no group"):
        read_log(folder / "data" / "state", {"format": "zarr"})
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(LogError, match="cannot be read as a zip archive"):
        read_log(tmp_path / "text.zip")
    with pytest.raises(LogError, match="the archive holds no Zarr group"):
        read_log(stores.zipped(Path(__file__).parent, tmp_path / "x.zip"))
    (folder / ".zgroup").write_text("[" * 10**5)
    with pytest.raises(LogError, match="cannot be read as JSON"):
        read_log(folder)
    with pytest.raises(LogError, match="missing_chunks is for Zarr stores"):
        np.savez(tmp_path / "log.npz", x=np.zeros(1))
        read_log(tmp_path / "log.npz", {"missing_chunks": "fill"})


def test_without_the_extra_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    path = stores.write(tmp_path / "r")
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(LogError, match=r"pip install 'hindsight-rl\[train,zarr\]'"):
        read_log(path, MAP)
