"""One small log as others would have written it, in every format, and what must be read from it.

Imported as ``foreign_logs`` (``tests`` is on pytest's path).
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.keys import key_name
from hindsight_rl.logs.log import Log

LENGTHS = (4, 1, 3)
ROWS = sum(LENGTHS)
LAST = np.array([3, 4, 7])
Columns = dict[str, np.ndarray]


def columns() -> Columns:
    """Return three episodes of 4, 1 and 3 steps under the usual names.

    The first and the last terminate, the second is cut. Observations count up by one within an
    episode and start at 0, 100 and 200; actions lie in [-1, 1].
    """
    observation = np.concatenate([100 * i + np.arange(n) for i, n in enumerate(LENGTHS)])
    terminated, truncated = np.zeros(ROWS, bool), np.zeros(ROWS, bool)
    terminated[[3, 7]] = truncated[4] = True
    return {
        "observation": np.stack([observation, -observation], 1).astype(np.float32),
        "action": np.linspace(-1, 1, ROWS * 2, dtype=np.float32).reshape(ROWS, 2),
        "reward": np.arange(ROWS, dtype=np.float32),
        "next_observation": np.stack([observation + 1, -observation - 1], 1).astype(np.float32),
        "terminated": terminated,
        "truncated": truncated,
        "episode": np.repeat([10, 11, 12], LENGTHS),
        "step": np.concatenate([np.arange(n) for n in LENGTHS]),
    }


def expect_same(log: Log, *, next_at_cut: float = 101.0) -> None:
    """Check that a log holds :func:`columns`.

    Args:
        log: What was read.
        next_at_cut: First entry of the next observation at the cut, in row 4: 101 where it is
            stored, 100 where it repeats the observation.
    """
    made = columns()
    assert len(log) == ROWS and log.episodes == 3
    now, after = log.column("observation").numpy(), log.column(("next", "observation")).numpy()
    np.testing.assert_array_equal(now, made["observation"])
    np.testing.assert_allclose(log.column("action").numpy(), made["action"], rtol=1e-6)
    np.testing.assert_array_equal(log.column(("next", "reward")).numpy(), made["reward"])
    for name in ("terminated", "truncated"):
        np.testing.assert_array_equal(log.column(("next", name)).numpy(), made[name], name)
    # A terminal state is never bootstrapped from, so what follows it does not matter.
    lives = ~made["terminated"]
    wanted = made["next_observation"].copy()
    wanted[4] = [next_at_cut, -next_at_cut]
    np.testing.assert_array_equal(after[lives], wanted[lives])


def npz(path: Path, values: Mapping[str, Any]) -> Path:
    """Write an archive and return its path."""
    np.savez(path, **values)
    return path


def csv(path: Path, values: Columns, delimiter: str = ",") -> Path:
    """Write text, one column per entry (``action_0``, ``action_1``), and return its path."""
    split: Columns = {}
    for name, value in values.items():
        if value.ndim == 1:
            split[name] = value
        else:
            split |= {f"{name}_{i}": value[:, i] for i in range(value.shape[1])}
    lines = [delimiter.join(split)]
    lines += [
        delimiter.join(str(cell) for cell in row) for row in zip(*split.values(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def hdf5(path: Path, values: Mapping[str, Any]) -> Path:
    """Write datasets, ``/`` in a name makes a group, and return the path."""
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file.create_dataset(name, data=value)
    return path


def parquet(path: Path, values: Columns) -> Path:
    """Write rows, vectors as lists, and return the path."""
    table = {name: value.tolist() for name, value in values.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(table), path)
    return path


def parquet_values(path: Path) -> Columns:
    """Return the columns of a file that :func:`parquet` wrote."""
    table = pa.parquet.read_table(path)
    return {name: np.array(table[name].to_pylist()) for name in table.column_names}


def minari(
    path: Path,
    data_format: str = "hdf5",
    goal: bool = False,
    keys: tuple[str, ...] = (),
    *,
    actions: gymnasium.spaces.Box | None = None,
    infos: Callable[[int, int], dict[str, Any]] | None = None,
) -> Path:
    """Write a Minari dataset and return its folder.

    Args:
        path: The folder.
        data_format: Storage.
        goal: Observations are the dictionary of a goal environment.
        keys: Observations are a dictionary with these keys; the first one is larger by 1.
        actions: Space of the actions; left out, from -1 to 1.
        infos: Infos of the episode of a number and a length.
    """
    made = columns()
    box = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    keys = ("achieved_goal", "desired_goal", "observation") if goal else keys
    space = gymnasium.spaces.Dict(dict.fromkeys(keys, box)) if keys else box
    path.mkdir(parents=True)
    actions = actions or gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    storage = MinariStorage.new(path / "data", space, actions, data_format=data_format)
    buffers = []
    for number, (stop, length) in enumerate(zip(LAST + 1, LENGTHS, strict=True)):
        rows = slice(stop - length, stop)
        seen = np.concatenate(
            [made["observation"][rows], made["next_observation"][stop - 1 : stop]]
        )
        parts = {key: seen + (i == 0) for i, key in enumerate(keys)}
        parts |= {"desired_goal": 0 * seen + stop} if goal else {}
        buffers.append(
            EpisodeBuffer(
                observations=parts or seen,
                actions=made["action"][rows],
                rewards=made["reward"][rows].astype(float),
                terminations=made["terminated"][rows],
                truncations=made["truncated"][rows],
                infos=infos(number, int(length)) if infos else None,
            )
        )
    storage.update_episodes(buffers)
    storage.update_metadata({"dataset_id": "made-v0", "minari_version": "0.5.4"})
    return path


def lerobot(path: Path, version: str, reward: bool = True) -> Path:
    """Write a LeRobot dataset, version v2.1 or v3.0, and return its folder."""
    made = columns()
    values = {
        "observation.state": made["observation"],
        "action": made["action"],
        "frame_index": made["step"],
        "episode_index": made["episode"] - 10,
        "task_index": np.repeat([0, 1, 0], LENGTHS),
    }
    values |= {"next.reward": made["reward"]} if reward else {}
    motors = {"motors": ["shoulder", "elbow"]}
    features = {
        "observation.state": {"dtype": "float32", "shape": [2], "names": motors},
        "action": {"dtype": "float32", "shape": [2], "names": ["shoulder", "elbow"]},
        "observation.images.top": {"dtype": "video", "shape": [4, 4, 3], "names": None},
    }
    info = {"codebase_version": version, "fps": 25, "total_frames": ROWS, "features": features}
    meta = path / "meta"
    meta.mkdir(parents=True)
    (meta / "info.json").write_text(json.dumps(info | {"total_episodes": 3}))
    (_version_2 if version.startswith("v2") else _version_3)(path, values)
    return path


def _version_2(path: Path, values: Columns) -> None:
    for number, (stop, length) in enumerate(zip(LAST + 1, LENGTHS, strict=True)):
        rows = {name: value[stop - length : stop] for name, value in values.items()}
        parquet(path / "data" / "chunk-000" / f"episode_{number:06d}.parquet", rows)
    episodes = [{"episode_index": i, "length": n} for i, n in enumerate(LENGTHS)]
    tasks = [{"task_index": 1, "task": "put"}, {"task_index": 0, "task": "pick"}]
    for name, lines in (("episodes", episodes), ("tasks", tasks)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (path / "meta" / f"{name}.jsonl").write_text(text)


def _version_3(path: Path, values: Columns) -> None:
    # Two episodes in the first file, one in the second.
    for number, rows in enumerate((slice(0, 5), slice(5, 8))):
        part = {name: value[rows] for name, value in values.items()}
        parquet(path / "data" / "chunk-000" / f"file-{number:03d}.parquet", part)
    episodes = {"episode_index": np.arange(3), "length": np.array(LENGTHS)}
    parquet(path / "meta" / "episodes" / "chunk-000" / "file-000.parquet", episodes)
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["pick", "put"]})
    pa.parquet.write_table(tasks, path / "meta" / "tasks.parquet")


def printed(log: Log) -> dict[str, list[Any]]:
    """Return every column of a log as plain lists by printed name."""
    return {key_name(key): log.column(key).tolist() for key in log.keys()}
