"""The typed spec: what it reads, what it writes, and what it says of a dictionary that is none."""

import copy
import json
import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from hindsight_rl.spec import (
    WHOLE,
    ActionSpec,
    Dataset,
    Discrete,
    Image,
    Probe,
    Spec,
    SpecError,
    TaskSpec,
    Vector,
)

# Word for word what a checkpoint of release 0.1 holds.
OLD: dict[str, Any] = {
    "version": 1,
    "observation": {
        "shape": [2],
        "dtype": "float32",
        "mean": [0.5, 1.0],
        "std": [1.0, 2.0],
        "names": ["x", "y"],
        "units": None,
    },
    "action": {
        "kind": "continuous",
        "shape": [1],
        "dtype": "float32",
        "low": [None],
        "high": [2.0],
        "mean": [0.0],
        "std": [1.0],
        "names": None,
        "units": ["N"],
    },
    "task": {
        "shape": [1],
        "dtype": "float32",
        "family": "return_to_go",
        "names": None,
        "units": None,
        "mean": [3.0],
        "std": [4.0],
        "default": None,
    },
    "control_rate_hz": 20.0,
    "dataset": {"hash": "sha256:00", "source": ["log.npz"], "rows": 9, "episodes": 2},
    "probe": {"observation": [[0.1, 0.2], [0.3, 0.4]], "task": [[1.0], [2.0]]},
}


def entries() -> Spec:
    """Return the spec of an observation of three entries, not in the order of the alphabet."""
    camera = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    return Spec(
        {
            "state": Vector((2,), (0.0, 1.0), (1.0, 1.0), ("q0", "q1"), ("rad", "rad")),
            "camera": Image((4, 4, 3)),
            "gear": Discrete(5, names=("gear",)),
        },
        ActionSpec("discrete", (), n=3, start=-1),
        probe=Probe(
            {
                "state": np.float32([[0.1, 0.2], [0.3, 0.4]]),
                "camera": camera,
                "gear": np.array([0, 4]),
            }
        ),
    )


def test_a_dictionary_of_an_old_checkpoint_is_read() -> None:
    spec = Spec.from_dict(OLD)
    assert spec.whole == spec.vector == Vector((2,), (0.5, 1.0), (1.0, 2.0), ("x", "y"))
    assert spec.action == ActionSpec(
        "continuous", (1,), (None,), (2.0,), (0.0,), (1.0,), units=("N",)
    )
    assert spec.task == TaskSpec((1,), (3.0,), (4.0,), family="return_to_go")
    assert spec.dataset == Dataset("sha256:00", ("log.npz",), 9, 2)
    assert spec.control_rate_hz == 20.0 and spec.probe.observation[WHOLE].dtype == np.float32
    assert (spec.action.width, spec.action.dtype, spec.action.discrete) == (1, "float32", False)


def test_one_vector_is_written_as_every_release_wrote_it() -> None:
    old = copy.deepcopy(OLD)
    for part in old["probe"]:  # exact in float32
        old["probe"][part] = np.float32(old["probe"][part]).tolist()
    assert Spec.from_dict(old).to_dict() == old
    discrete = {"kind": "discrete", "shape": [], "dtype": "int64", "n": 3}
    old["action"] = discrete | {"names": None, "units": None}
    assert Spec.from_dict(old).to_dict() == old
    old["action"]["start"] = 1
    assert Spec.from_dict(old).to_dict() == old


def test_entries_keep_their_order_and_everything_else() -> None:
    spec = entries()
    plain = json.loads(json.dumps(spec.to_dict()))
    again = Spec.from_dict(plain)
    assert again == spec and list(again.observation) == ["state", "camera", "gear"]
    assert again.probe.observation["camera"].dtype == np.uint8
    assert plain["version"] == 2 and isinstance(plain["probe"]["observation"]["camera"], str)
    assert plain["observation"]["entries"]["state"]["kind"] == "vector"
    assert spec != replace(spec, probe=Probe())
    moved = {**spec.probe.observation, "gear": np.array([0, 3])}
    assert spec != replace(spec, probe=Probe(moved))


def test_a_whole_image_is_read_as_it_was_written() -> None:
    image = {"shape": [2, 8, 8, 3], "dtype": "uint8", "mean": None, "std": None}
    old = OLD | {"observation": image | {"names": None, "units": None}}
    old["probe"] = {"observation": None, "task": [[1.0], [2.0]]}
    spec = Spec.from_dict(old)
    assert spec.whole == Image((2, 8, 8, 3)) and spec.probe.observation == {}
    assert spec.to_dict() == old
    with pytest.raises(SpecError, match=r"observation has shape \[2, 8, 8, 3\]: these networks"):
        _ = spec.vector


def test_a_flat_vector_is_not_found_among_entries() -> None:
    with pytest.raises(SpecError, match="observation has the entries state, camera, gear: these"):
        _ = entries().vector
    assert entries().whole is None


def test_a_spec_is_taken_in_either_form_and_never_changed() -> None:
    spec = Spec.from_dict(OLD)
    assert Spec.of(spec) is spec and Spec.of(OLD) == spec
    with pytest.raises(FrozenInstanceError):
        spec.action.n = 3  # type: ignore[misc]


def test_statistics_that_nobody_measured_are_named() -> None:
    with pytest.raises(SpecError, match="mean and std of a vector are missing"):
        _ = Vector((2,)).statistics
    with pytest.raises(SpecError, match=r"action\.mean and action\.std are missing"):
        _ = ActionSpec("continuous", (2,)).statistics


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("version",), None, "version is None, and this release reads 1 to 3"),
        (("version",), 4, "version is 4, and this release reads 1 to 3"),
        (("observation",), ..., "observation is missing"),
        (("observation",), [3], "observation must be a dictionary, and is list"),
        (("observation", "shape"), ..., "observation.shape is missing"),
        (("observation", "shape"), "[2]", "observation.shape is '.*', and must list sizes"),
        (("observation", "dtype"), ..., "observation.dtype is missing"),
        (("observation", "dtype"), "float64", "observation has kind None and dtype 'float64'"),
        (("observation", "kind"), "image", "observation has kind 'image' and dtype 'float32'"),
        (("observation", "mean"), [0.0, "1"], "observation.mean holds '1', and must be a list"),
        (("observation", "std"), 1.0, "observation.std is 1.0, and must be a list of numbers"),
        (("observation", "names"), [1, 2], "observation.names holds 1, and must be a list of tex"),
        (("observation", "entries"), {}, "observation.entries is empty"),
        (("action",), ..., "action is missing"),
        (("action", "kind"), ..., "action.kind is missing"),
        (("action", "kind"), "continous", "action.kind is 'continous', and is 'continuous' or"),
        (("action", "kind"), "discrete", "action.n is missing"),
        (("action", "shape"), [2, 2], r"action.shape is \[2, 2\], and is one size"),
        (("task",), "goal", "task must be a dictionary, and is str"),
        (("task", "shape"), ..., "task.shape is missing"),
        (("control_rate_hz",), "fast", "control_rate_hz is 'fast', which is not of the right"),
        (("probe", "observation"), [[1.0], [1.0, 2.0]], "probe.observation.* no full table"),
        (("probe", "observation"), "AAAA", "probe.observation.observation holds no rows of sha"),
    ],
)
def test_what_is_missing_or_wrong_is_named(path: tuple[str, ...], value: Any, told: str) -> None:
    facts = copy.deepcopy(OLD)
    place = facts
    for name in path[:-1]:
        place = place[name]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(SpecError, match=told):
        Spec.from_dict(facts)


def test_an_infinite_end_is_kept() -> None:
    facts = OLD | {"action": OLD["action"] | {"low": [-math.inf]}}
    assert Spec.from_dict(facts).action.low == (-math.inf,)
