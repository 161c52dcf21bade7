"""Whole files of every kind that is read: what the fuzz target damages.

Each case is a folder, made once, and how what lies in it is read.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import foreign_logs as foreign
import numpy as np
import torch
import zarr_stores as stores
from small_fits import data_for, learner_of, trainer_in
from stand_ins import StandIn

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.export.contract import parse
from hindsight_rl.export.modelfile import read_model, read_policy
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.recorder import write_episodes
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import verify_file
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.writing import write_log
from hindsight_rl.training.checkpoints.load import load_learner


class Case(NamedTuple):
    """How a folder is made, and how what lies in it is read.

    Args:
        make: Writes the files.
        read: Reads them; raises where the answer is wrong.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]


class WrongAnswerError(Exception):
    """What was read cannot be."""


def check_log(log: Log) -> None:
    """Refuse a log that contradicts itself.

    Args:
        log: What was read.

    Raises:
        WrongAnswerError: It does.
    """
    rows = len(log)
    if rows < 1:
        raise WrongAnswerError("a log without rows")
    for key in log.keys():
        column = log.column(key)
        if len(column) != rows:
            raise WrongAnswerError(f"{key} has {len(column)} rows of {rows}")
        if column.is_floating_point() and not bool(torch.isfinite(column).all()):
            raise WrongAnswerError(f"{key} is not finite")
    over = log.column(("next", "terminated")) | log.column(("next", "truncated"))
    ends = log.episode_ends()
    if len(ends) != log.episodes or not bool(over[ends].all()) or int(over.sum()) != len(ends):
        raise WrongAnswerError("flags that contradict the episodes")
    rate = log.info.get("control_rate_hz")
    if rate is not None and not 0 < rate < float("inf"):
        raise WrongAnswerError(f"a rate of {rate}")


def _log(name: str, columns: Mapping[str, Any] | None = None) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        log = read_log(folder / name, columns)
        survey(folder / name, columns)
        check_log(log)

    return read


_BUFFER = {"observation": {"state": "state", "camera": "img"}}


def _episodes() -> dict[str, Any]:
    """Return the columns of two episodes whose observation has a camera."""
    frames = np.arange(6 * 4 * 4 * 3, dtype=np.uint8).reshape(6, 4, 4, 3)
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    made = {"observation.eye": frames, "observation.arm": rows, "action": rows / 12}
    return made | {"reward": rows[:, 0], "episode": np.repeat([0, 1], 3)}


def _bag(path: Path) -> None:
    with path.open("wb") as file:
        write_episodes(file, _episodes(), {}, [10**18 + 10**7 * k for k in range(6)])


def _pictures(path: Path, target: Any) -> None:
    _bag(path.with_suffix(".mcap"))
    write_log(read_log(path.with_suffix(".mcap")), path, target)
    path.with_suffix(".mcap").unlink()


def _zarr_zip(folder: Path) -> None:
    stores.zipped(stores.write(folder / "r.zarr"), folder / "r.zip")
    shutil.rmtree(folder / "r.zarr")


def _saved(folder: Path) -> None:
    images = np.arange(8 * 4 * 4 * 3, dtype=np.uint8).reshape(8, 4, 4, 3)
    path = foreign.npz(folder / "log.npz", foreign.columns() | {"camera": images})
    read_log(path, {"image": "camera"}).save(folder / "saved")
    path.unlink()


def _read_saved(folder: Path) -> None:
    for mapped in (True, False):
        log = Log.load(folder / "saved", memory_map=mapped)
        log.hash()
        check_log(log)


def _map(folder: Path) -> None:
    foreign.npz(folder / "log.npz", foreign.columns())
    (folder / "map.yaml").write_text(
        "format: npz\nobservation: observation\naction: action\nreward: reward\n"
        "next_observation: next_observation\nterminated: terminated\ntruncated: truncated\n"
        "episode: episode\nstep: step\naction_scale: 1.0\naction_low: -1.0\naction_high: [1.0, 1]\n"
        "names:\n  observation: [x, y]\nunits: {observation: [m, m]}\ncontrol_rate_hz: 50\n"
    )


def _read_map(folder: Path) -> None:
    check_log(read_log(folder / "log.npz", ColumnMap.load(folder / "map.yaml")))


def _run(folder: Path) -> None:
    """Write a run folder: two checkpoints of a small learner."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = data_for(BC)
        trainer = trainer_in(folder, 8)
        trainer.fit(learner_of(BC, data.spec), data)
        for name in ("last", "step=4"):
            trainer.save_checkpoint(folder / "run" / "checkpoints" / f"{name}.ckpt")
    for other in folder.iterdir():
        if other.name != "run":
            other.unlink()
    (folder / "run" / "config.yaml").write_text("seed_everything: 0\n")


def _read_run(folder: Path) -> None:
    path = chosen_checkpoint(folder / "run")
    learner = load_learner(path)
    bad = [name for name, value in learner.state_dict().items() if value.is_meta]
    if bad:
        raise WrongAnswerError(f"no values of {bad[0]}")


def _policy(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_policy(StandIn(), folder / "policy.onnx", opset=17)


def _read_policy(folder: Path) -> None:
    verify_file(folder / "policy.onnx")
    action = OnnxPolicy(folder / "policy.onnx").act(np.full(4, 0.25, np.float32))
    if not np.isfinite(action).all():
        raise WrongAnswerError(f"action {action}")


def _contract(folder: Path) -> None:
    _policy(folder)
    path = folder / "policy.onnx"
    contract = dict(read_policy(read_model(path), path)[0])
    (folder / "contract.json").write_text(json.dumps(contract))
    path.unlink()


def _read_contract(folder: Path) -> None:
    # The text of a contract is part of a policy file: read as that is, and then decoded.
    data = read_model(folder / "contract.json")
    parse(data.decode(errors="replace"))


CASES: dict[str, Case] = {
    "npz": Case(lambda f: foreign.npz(f / "log.npz", foreign.columns()), _log("log.npz")),
    "csv": Case(lambda f: foreign.csv(f / "log.csv", foreign.columns()), _log("log.csv")),
    "hdf5": Case(lambda f: foreign.hdf5(f / "log.hdf5", foreign.columns()), _log("log.hdf5")),
    "parquet": Case(
        lambda f: foreign.parquet(f / "log.parquet", foreign.columns()), _log("log.parquet")
    ),
    "shards": Case(
        lambda f: [
            foreign.parquet(
                f / "shards" / f"{n}.parquet",
                foreign.columns() | {"episode": foreign.columns()["episode"] + 3 * n},
            )
            for n in range(2)
        ],
        _log("shards"),
    ),
    "lerobot2": Case(lambda f: foreign.lerobot(f / "robot", "v2.1"), _log("robot")),
    "lerobot3": Case(
        lambda f: foreign.lerobot(f / "robot", "v3.0"),
        _log("robot", {"task": "task_index", "one_hot_task": True}),
    ),
    "minari": Case(lambda f: foreign.minari(f / "made-v0"), _log("made-v0")),
    "minari_arrow": Case(lambda f: foreign.minari(f / "made-v0", "arrow"), _log("made-v0")),
    "minari_parquet": Case(lambda f: foreign.minari(f / "made-v0", "parquet"), _log("made-v0")),
    "zarr2": Case(lambda f: stores.write(f / "r.zarr"), _log("r.zarr", _BUFFER)),
    "zarr3": Case(lambda f: stores.write(f / "r.zarr", version=3), _log("r.zarr", _BUFFER)),
    "zarr_zip": Case(_zarr_zip, _log("r.zip", _BUFFER)),
    "pictures": Case(lambda f: _pictures(f / "log.parquet", "parquet"), _log("log.parquet")),
    "stills": Case(lambda f: _pictures(f / "robot", "lerobot"), _log("robot")),
    "bag": Case(lambda f: _bag(f / "run.mcap"), _log("run.mcap")),
    "saved": Case(_saved, _read_saved),
    "map": Case(_map, _read_map),
    "run": Case(_run, _read_run),
    "policy": Case(_policy, _read_policy),
    "contract": Case(_contract, _read_contract),
}
