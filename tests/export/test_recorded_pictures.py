"""Recordings of cameras, and of entries whose names hold dots, are read back equal."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import policy_files as files
import pytest
from small_replays import iterated
from tiny_envs import Look

from hindsight_rl.cli.run import LogFile
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.recorder import Recorder, loop_columns, write_episodes
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.reading import read_log

for _library in ("mcap", "rosbags"):
    pytest.importorskip(_library, reason="needs the extra 'ros'")

SHAPES = {"mono8": (5, 3, 1), "rgb8": (4, 4, 3), "rgba8": (2, 3, 4)}


def test_a_policy_that_sees_a_camera_is_recorded(tmp_path: Path) -> None:
    """Its message is that of ROS's own definition, read by the library that knows it."""
    from mcap.reader import make_reader
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    policy = OnnxPolicy(files.entries(tmp_path / "policy.onnx"))
    draw = np.random.default_rng(0)
    cameras = draw.integers(0, 256, (5, 4, 4, 3)).astype(np.uint8)
    clock = iter(range(10**18, 2 * 10**18, 10**7))
    path = tmp_path / "run.mcap"
    with Recorder(path, policy.contract, 100.0, clock=lambda: next(clock)) as recorder:
        for k, camera in enumerate(cameras):
            seen = {"camera": camera, "arm": np.float32([k]), "mode": np.int64(k % 3)}
            recorder.step(seen, policy.act(seen), None)
    log = read_log(path)
    frames = log.column((OBSERVATION, "camera")).numpy()
    np.testing.assert_array_equal(frames, cameras)
    assert log.column((OBSERVATION, "arm"))[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert log.column((OBSERVATION, "mode")).tolist() == [0, 1, 2, 0, 1]
    assert log.info["entries"] == ["camera", "arm", "mode"]
    own = get_typestore(Stores.ROS2_JAZZY)
    with path.open("rb") as file:
        found = [
            (schema, own.deserialize_cdr(message.data, schema.name))
            for schema, _, message in make_reader(file).iter_messages(topics="/camera/camera")
        ]
    defined = get_types_from_msg(found[0][0].data.decode(), found[0][0].name)
    assert {kind: own.get_msgdef(kind).fields for kind in defined} == {
        kind: fields for kind, (_, fields) in defined.items()
    }
    for (_, message), camera in zip(found, cameras, strict=True):
        assert (message.encoding, message.height, message.width, message.step) == ("rgb8", 4, 4, 12)
        np.testing.assert_array_equal(message.data, camera.ravel())


@pytest.mark.parametrize("encoding", SHAPES)
def test_pictures_of_episodes_read_back_equal(encoding: str, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    columns = {
        "observation.eye": draw.integers(0, 256, (6, *SHAPES[encoding])).astype(np.uint8),
        "observation.arm": draw.normal(size=(6, 2)).astype(np.float32),
        "action": draw.normal(size=(6, 1)).astype(np.float32),
        "reward": draw.normal(size=6).astype(np.float32),
        "episode": np.repeat([0, 1], 3),
    }
    stamps = (10**18 + 10**7 * np.arange(6)).tolist()
    with (tmp_path / "a.mcap").open("wb") as file:
        write_episodes(file, columns, {}, stamps)
    log = read_log(tmp_path / "a.mcap")
    for name in ("eye", "arm"):
        found = log.column((OBSERVATION, name)).numpy()
        np.testing.assert_array_equal(found, columns[f"observation.{name}"])
    assert log.episodes == 2
    columns["observation.eye"] = columns["observation.eye"].astype(np.float32)
    with pytest.raises(ValueError, match=r"observation.eye is float32 .* record as .npz"):
        write_episodes(io.BytesIO(), columns, {}, stamps)


def test_a_recording_of_a_camera_is_the_same_log_as_an_archive(tmp_path: Path) -> None:
    spec = iterated(Look, initial_episodes=2).spec

    def act(observation: Any) -> np.ndarray:
        return observation["state"][:, :1]

    for name in ("a.npz", "b.mcap"):
        rollout(act, Look, episodes=3, seed=3, spec=spec, keep=LogFile(tmp_path / name, 50.0))
    there = read_log(tmp_path / "a.npz", str(tmp_path / "a.yaml"))
    log = read_log(tmp_path / "b.mcap")
    assert log.images and log.hash() == there.hash()


@pytest.mark.parametrize("name", ["arm.q", "arm[0]", "arm"])
def test_names_with_dots_and_brackets_read_back(name: str, tmp_path: Path) -> None:
    """Both lead to fields of messages, and no log has names with dots: the recording has '/'."""
    read = {"arm.q": "arm/q", "arm[0]": "arm/0/", "arm": "arm"}[name]
    state = {"kind": "vector", "shape": [2], "dtype": "float32", "names": ["x", "y"]}
    contract: Any = files.contract(observation={"entries": {name: state}})
    rows = [np.float32([k, -k]) for k in range(4)]
    with Recorder(tmp_path / "run.mcap", contract, 100.0) as recorder:
        for row in rows:
            recorder.step({name: row}, np.zeros(2), None)
    log = read_log(tmp_path / "run.mcap")
    np.testing.assert_array_equal(log.column((OBSERVATION, read)), np.stack(rows))
    assert log.info["names"][f"observation.{read}"] == ["x", "y"]
    columns = {f"observation.{name}": np.stack(rows), "action": np.stack(rows)}
    columns |= {"reward": np.zeros(4), "episode": np.zeros(4, int)}
    with (tmp_path / "a.mcap").open("wb") as file:
        write_episodes(file, columns, {}, list(range(10**18, 10**18 + 4)))
    again = read_log(tmp_path / "a.mcap", None)
    np.testing.assert_array_equal(again.column((OBSERVATION, read)), np.stack(rows))


def test_what_cannot_be_recorded_is_an_error() -> None:
    state = {"kind": "vector", "shape": [2], "dtype": "float32"}
    two: Any = files.contract(observation={"entries": {"arm.q": state, "arm/q": state}})
    with pytest.raises(ValueError, match=r"two of the entries \['arm.q', 'arm/q'\] would have"):
        loop_columns(two, 1.0)
    eye = {"kind": "image", "shape": [4, 4, 2], "dtype": "uint8"}
    with pytest.raises(ValueError, match="observation.eye is pictures of 2 channels"):
        loop_columns(files.contract(observation={"entries": {"eye": eye}}), 1.0)
