"""The small log of :mod:`foreign_logs` as tools of others lay it out, each in its own words.

Imported as ``layout_files`` (``tests`` is on pytest's path).
"""

import json
from pathlib import Path

import foreign_logs as foreign
import h5py
import numpy as np
import pytest
import zarr_stores

Columns = dict[str, np.ndarray]


def renamed(names: dict[str, str]) -> Columns:
    """Return some columns of the small log under other names, given as old to new."""
    made = foreign.columns()
    return {new: made[old] for old, new in names.items()}


def with_last(*, steps: bool = True) -> Columns:
    """Return the columns with one row more per episode, which holds what its last step led to.

    Args:
        steps: The other columns have the row too: an action of 9, a reward of 99, no flag.
    """
    made = foreign.columns()
    at = foreign.LAST + 1
    last = made["next_observation"][foreign.LAST]
    longer = {"observation": np.insert(made["observation"], at, last, axis=0)}
    if steps:
        longer["action"] = np.insert(made["action"], at, 9.0, axis=0)
        longer["reward"] = np.insert(made["reward"], at, 99.0)
        longer["episode"] = np.insert(made["episode"], at, made["episode"][foreign.LAST])
        longer["is_last"] = np.isin(np.arange(foreign.ROWS + 3), at + np.arange(3))
        longer["is_first"] = np.roll(longer["is_last"], 1)
    return longer


USUAL = {"observation": "observations", "action": "actions", "reward": "rewards"}


def d4rl(path: Path, following: bool = False) -> Path:
    """Write D4RL's HDF5: `terminals`, `timeouts`, and next observations if asked for."""
    names = USUAL | {"terminated": "terminals", "truncated": "timeouts"}
    names |= {"next_observation": "next_observations"} if following else {}
    infos = {"infos/qpos": foreign.columns()["observation"], "metadata/steps": np.zeros(1)}
    return foreign.hdf5(path / "d4rl.hdf5", renamed(names) | infos)


def d3rlpy_1(path: Path) -> Path:
    """Write what MDPDataset.dump of d3rlpy 1 does: every end is in `episode_terminals`."""
    made = renamed(USUAL | {"terminated": "terminals"})
    made["episode_terminals"] = np.isin(np.arange(foreign.ROWS), foreign.LAST).astype(np.float32)
    with h5py.File(foreign.hdf5(path / "d3rlpy.h5", made), "a") as file:
        file["discrete_action"], file["version"] = False, "1.0"
    return path / "d3rlpy.h5"


def d3rlpy_2(path: Path) -> Path:
    """Write what a ReplayBuffer of d3rlpy 2 dumps: columns numbered by episode."""
    made = foreign.columns()
    values: Columns = {"total_size": np.array(3)}
    for number, (stop, length) in enumerate(zip(foreign.LAST + 1, foreign.LENGTHS, strict=True)):
        rows = slice(stop - length, stop)
        values |= {f"{new}_{number}": made[old][rows] for old, new in USUAL.items()}
        values[f"terminated_{number}"] = made["terminated"][stop - 1]
    return foreign.hdf5(path / "d3rlpy.h5", values)


def ogbench(path: Path) -> Path:
    """Write OGBench's npz: a row more per trajectory, `terminals` on it, no rewards."""
    longer = with_last()
    values = {"observations": longer["observation"], "actions": longer["action"]}
    values |= {"terminals": longer["is_last"], "qpos": longer["observation"]}
    return foreign.npz(path / "pointmaze.npz", values)


def rlds(path: Path) -> Path:
    """Write RLDS steps as parquet: the last step of an episode has no action and is terminal."""
    longer = with_last()
    terminal = foreign.columns()["terminated"][foreign.LAST]
    longer["is_terminal"] = longer["is_last"].copy()
    longer["is_terminal"][longer["is_last"]] = terminal
    longer["discount"] = 1.0 - longer["is_terminal"]
    return foreign.parquet(
        path / "steps.parquet", {n: v for n, v in longer.items() if n != "episode"}
    )


def imitation(path: Path) -> Path:
    """Write imitation's flattened trajectories: an observation more, `terminal` by episode."""
    made = foreign.columns()
    values = {
        "obs": with_last(steps=False)["observation"],
        "acts": made["action"],
        "rews": made["reward"],
        "terminal": made["terminated"][foreign.LAST],
        "indices": np.array([4, 5]),
    }
    return foreign.npz(path / "rollouts.npz", values)


def diffusion_policy(path: Path) -> Path:
    """Write the replay buffer of diffusion policy: all columns one below the other, no flags."""
    pytest.importorskip("zarr", reason="needs the extra 'zarr'")
    made = foreign.columns()
    values = {"data/obs": made["observation"], "data/action": made["action"]}
    values["meta/episode_ends"] = foreign.LAST + 1
    return zarr_stores.write(path / "replay.zarr", values)


def rllib(path: Path) -> Path:
    """Write columns of RLlib's single-agent episodes as two shards."""
    names = {"observation": "obs", "action": "actions", "reward": "rewards"}
    names |= {"next_observation": "new_obs", "terminated": "terminateds"}
    names |= {"truncated": "truncateds", "episode": "eps_id", "step": "t"}
    for number, rows in enumerate((slice(0, 5), slice(5, 8))):
        part = {name: values[rows] for name, values in renamed(names).items()}
        foreign.parquet(path / "rllib" / f"part-{number}.parquet", part)
    return path / "rllib"


def minari_4(path: Path) -> Path:
    """Write a dataset as Minari 0.4 did: everything in main_data.hdf5, no metadata.json."""
    folder = foreign.minari(path / "minari")
    metadata = json.loads((folder / "data" / "metadata.json").read_text())
    with h5py.File(folder / "data" / "main_data.hdf5", "a") as file:
        file.attrs["total_episodes"] = metadata["total_episodes"]
    (folder / "data" / "metadata.json").unlink()
    return folder


def by_group(path: Path, equal: bool = False, flags: bool = True) -> Path:
    """Write robomimic's HDF5: one group per demonstration.

    Args:
        path: Folder of the file.
        equal: All demonstrations have two steps.
        flags: Each has rewards and `dones` (LIBERO too; Isaac Lab has neither).
    """
    made = foreign.columns()
    values: Columns = {"mask/train": np.array([0, 1])}
    for number, (stop, length) in enumerate(zip(foreign.LAST + 1, foreign.LENGTHS, strict=True)):
        rows = slice(0, 2) if equal else slice(stop - length, stop)
        group = f"data/demo_{number}"
        values[f"{group}/obs/joints"] = made["observation"][rows]
        values[f"{group}/actions"] = made["action"][rows]
        if flags:
            values[f"{group}/rewards"] = made["reward"][rows]
            values[f"{group}/dones"] = made["terminated"][rows].astype(int)
    return foreign.hdf5(path / "demo.hdf5", values)
