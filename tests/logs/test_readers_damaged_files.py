"""Files that are cut, broken, incomplete or something else: refused, never half-read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log


def cut(path: Path, share: float = 0.6) -> Path:
    """Cut a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


@pytest.mark.parametrize("kind", ["npz", "hdf5", "parquet"])
def test_cut_files(kind: str, tmp_path: Path) -> None:
    path = cut(getattr(foreign, kind)(tmp_path / f"log.{kind}", foreign.columns()))
    with pytest.raises(LogError, match=rf"log.{kind}.*cannot be read as .* The file is cut"):
        read_log(path)


def test_flipped_bits_in_an_archive(tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    content = bytearray(path.read_bytes())
    content[content.index(foreign.columns()["observation"].tobytes())] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(LogError, match="cannot be read as an npz array"):
        read_log(path)


@pytest.mark.parametrize("suffix", [".npz", ".hdf5", ".parquet"])
def test_files_that_are_something_else(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"log{suffix}"
    path.write_bytes(b"this is no log\n" * 20)
    with pytest.raises(LogError, match="cannot be read as"):
        read_log(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "log.npz"
    path.write_bytes(b"\x80\x04\x8c\x02os\x94\x8c\x06getcwd\x94\x93\x94)R\x94.")
    with pytest.raises(LogError, match=r"cannot be read as an npz archive \(it does not begin"):
        read_log(path)


def test_a_lone_array_is_no_archive(tmp_path: Path) -> None:
    np.save(tmp_path / "log.npy", np.zeros(3))
    with pytest.raises(LogError, match="a single array, no archive"):
        read_log((tmp_path / "log.npy").rename(tmp_path / "log.npz"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace(",0.0,", ",,", 1), r"row 0: NaN \(1 such entry"),
        (lambda text: text.replace(",0.0,", ",nan,", 1), "row 0: NaN"),
        (lambda text: text.replace(",0.0,", ",oops,", 1), "row 0: text 'oops' where"),
        (lambda text: text.replace("\n", "\n1,2,3\n", 1), "cannot be read as comma-separated text"),
        (lambda text: text.splitlines()[0] + "\n", "the log is empty"),
        (lambda text: "", "cannot be read as comma-separated text"),
        (
            lambda text: text.replace("observation_1", "observation_0", 1),
            "two columns of this name",
        ),
        (lambda text: "\x00\xff" + text, "cannot be read|no column looks like"),
    ],
)
def test_damaged_text(change: Callable[[str], str], told: str, tmp_path: Path) -> None:
    path = foreign.csv(tmp_path / "log.csv", foreign.columns())
    path.write_text(change(path.read_text()), encoding="latin-1")
    with pytest.raises(LogError, match=told):
        read_log(path)


def test_parquet_rows_of_unequal_length(tmp_path: Path) -> None:
    values = {name: column.tolist() for name, column in foreign.columns().items()}
    values["observation"][3] = [1.0, 2.0, 3.0]
    pa.parquet.write_table(pa.table(values), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="column 'observation', row 3: 3 entries where the rows bef"):
        read_log(tmp_path / "log.parquet")
    values["observation"][3] = None
    pa.parquet.write_table(pa.table(values), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="column 'observation', row 3: an empty cell"):
        read_log(tmp_path / "log.parquet")
    values["observation"] = [[str(number) for number in range(2)]] * 8
    pa.parquet.write_table(pa.table(values | {"reward": [b"x"] * 8}), tmp_path / "log.parquet")
    with pytest.raises(LogError, match="column 'reward': values of type binary"):
        read_log(tmp_path / "log.parquet")


def test_shards_that_differ(tmp_path: Path) -> None:
    made = foreign.columns()
    folder = foreign.parquet(tmp_path / "log" / "a.parquet", made).parent
    later = made | {"episode": made["episode"] + 10}
    foreign.parquet(folder / "b.parquet", later | {"reward": np.array(["x"] * 8)})
    with pytest.raises(
        LogError, match="b.parquet, column 'reward': rows of .* where a.parquet has"
    ):
        read_log(folder)
    foreign.parquet(folder / "b.parquet", {k: v for k, v in later.items() if k != "reward"})
    with pytest.raises(LogError, match="b.parquet, column 'reward': no such column, but a.parquet"):
        read_log(folder)
    foreign.parquet(
        folder / "b.parquet",
        later | {"reward": np.where(np.arange(8) == 2, np.nan, later["reward"])},
    )
    with pytest.raises(LogError, match="b.parquet, column 'reward', row 2: NaN"):
        read_log(folder)
    with pytest.raises(LogError, match="holds no .parquet file"):
        read_log(tmp_path, {"format": "parquet"})


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_damaged_lerobot(version: str, tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", version)
    info = folder / "meta" / "info.json"
    facts = json.loads(info.read_text())
    for change, told in (
        ({"codebase_version": "v9"}, "info.json: LeRobot format v9 is not known. Convert"),
        ({"features": None}, "lists no features"),
        ({"total_frames": 9}, "8 rows where meta/info.json promises 9. Files are missing"),
    ):
        info.write_text(json.dumps(facts | change))
        with pytest.raises(LogError, match=told):
            read_log(folder)
    info.write_text(json.dumps({k: v for k, v in facts.items() if k != "total_frames"}))
    last = sorted(folder.glob("data/*/*.parquet"))[-1]
    content = last.read_bytes()
    last.unlink()
    with pytest.raises(LogError, match="episode 2 has 0 rows where the metadata promises 3"):
        read_log(folder)
    last.write_bytes(content[:-10])
    with pytest.raises(LogError, match=rf"{last.name}: cannot be read as parquet"):
        read_log(folder)
    with pytest.raises(LogError, match="images.top': a camera among the columns of 'task'. Name"):
        read_log(folder, {"task": "observation.images.top"})
    info.write_text("{")
    with pytest.raises(LogError, match="info.json: cannot be read as JSON"):
        read_log(folder)


def test_lerobot_without_data_or_with_broken_lists(tmp_path: Path) -> None:
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    (folder / "meta" / "episodes.jsonl").write_text('{"length": 3}\n')
    with pytest.raises(LogError, match="cannot be read as a list of episode lengths"):
        read_log(folder)
    (folder / "meta" / "episodes.jsonl").write_text("nonsense\n")
    with pytest.raises(LogError, match="episodes.jsonl: cannot be read as JSON lines"):
        read_log(folder)
    for file in folder.glob("data/*/*.parquet"):
        file.unlink()
    with pytest.raises(LogError, match="data/ holds no .parquet file"):
        read_log(folder)
    (folder / "meta" / "info.json").write_text("[]")
    with pytest.raises(LogError, match="no JSON object"):
        read_log(folder)


def test_damaged_minari(tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0")
    metadata = folder / "data" / "metadata.json"
    facts = json.loads(metadata.read_text())

    def write(**change: Any) -> None:
        metadata.write_text(
            json.dumps({k: v for k, v in (facts | change).items() if v is not None})
        )

    write(total_steps=9)
    with pytest.raises(LogError, match="8 steps where metadata.json promises 9"):
        read_log(folder)
    # Fewer than are stored: the others would be left out without a word.
    for promised, steps in ((4, 8), (2, 5), (0, 0), (True, 8), (None, 8)):
        write(total_episodes=promised, total_steps=steps)
        with pytest.raises(LogError, match=f"3 episodes where metadata.json promises {promised}"):
            read_log(folder)
    # Minari would import what the file names to find the spaces.
    write(action_space=None, env_spec='{"entry_point": "os:getcwd"}')
    with pytest.raises(LogError, match="metadata.json holds no action_space"):
        read_log(folder)
    write(data_format="new")
    with pytest.raises(LogError, match="cannot be read as a Minari dataset"):
        read_log(folder)
    write()
    cut(folder / "data" / "main_data.hdf5")
    with pytest.raises(LogError, match="cannot be read as a Minari dataset"):
        read_log(folder)


def test_minari_episode_that_lost_its_last_observation(tmp_path: Path) -> None:
    folder = foreign.minari(tmp_path / "made-v0")
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file["episode_2/observations"].resize((3, 2))
    with pytest.raises(LogError, match="episode 2, column 'observations': 3 rows where 4 belong"):
        read_log(folder)


def test_damaged_saved_log(tmp_path: Path) -> None:
    read_log(foreign.npz(tmp_path / "log.npz", foreign.columns())).save(tmp_path / "saved")
    header = tmp_path / "saved" / "header.json"
    content = header.read_text()
    header.write_text(json.dumps({k: v for k, v in json.loads(content).items() if k != "sources"}))
    with pytest.raises(LogError, match="header.json is damaged"):
        read_log(tmp_path / "saved")
    header.write_text(content)
    cut(tmp_path / "saved" / "matrix.bin")
    with pytest.raises(LogError, match="The log is cut"):
        read_log(tmp_path / "saved")


def test_paths_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    with pytest.raises(LogError, match="logs.npz: no such file.* Did you mean 'log.npz'"):
        read_log(tmp_path / "logs.npz")
    with pytest.raises(LogError, match="the folder is no log of a known format"):
        read_log(tmp_path)
    with pytest.raises(LogError, match="the ending '.bin' says no format. Known endings: .npz"):
        read_log(path.rename(tmp_path / "log.bin"))
    foreign.expect_same(read_log(tmp_path / "log.bin", {"format": "npz"}))


def test_hdf5_datasets_that_hold_no_plain_numbers(tmp_path: Path) -> None:
    values = foreign.columns() | {"reward": [b"a"] * 8}
    with pytest.raises(LogError, match="column 'reward': no plain numeric array"):
        read_log(foreign.hdf5(tmp_path / "log.hdf5", values))
    with pytest.raises(LogError, match="column 'reward': no plain numeric array .*shape"):
        read_log(foreign.hdf5(tmp_path / "log.hdf5", values | {"reward": 1.0}))
