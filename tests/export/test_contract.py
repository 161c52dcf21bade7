"""The contract as data: what is refused, and that float32 numbers survive JSON exactly."""

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hindsight_rl.export.contract import (
    ContractError,
    bounds,
    dump,
    numbers,
    parse,
    validate,
)


def contract(**changes: Any) -> dict[str, Any]:
    """Return a small valid contract, with entries replaced."""
    return {
        "version": 1,
        "observation": {"shape": [2], "dtype": "float32", "names": ["x", "y"], "mean": [0.0, 1.0]},
        "task": None,
        "action": {"kind": "continuous", "shape": [1], "dtype": "float32", "low": [-1.0]},
        "control_rate_hz": 30.0,
        "learner": {"name": "BC", "hparams": {}},
        "dataset": {},
        "versions": {},
        "opset": 18,
        "model_hash": "sha256:00",
        "parity": {"tolerance": 1e-5, "margin": 1e-4, "batches": [1, 2, 7]},
        "probe": {"observation": [[0.0, 1.0], [2.0, 3.0]], "action": [[0.0], [0.5]]},
    } | changes


def choice(n: int, names: list[str] | None = None) -> dict[str, Any]:
    """Return a discrete action."""
    return {"kind": "discrete", "shape": [], "dtype": "int64", "n": n, "names": names}


def test_round_trip() -> None:
    assert parse(dump(contract())) == contract()


def test_entries_it_does_not_know_are_kept() -> None:
    assert parse(dump(contract(robot="arm 3")))["robot"] == "arm 3"


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        ("version", 4, "version 4, and this release reads versions 1 to 3"),
        ("version", True, "version True"),
        ("version", None, "version None"),
        ("observation", "here", "observation is of type str, and must be an object"),
        ("observation.shape", [], "observation.shape is [], and must list positive sizes"),
        ("observation.dtype", "uint8", "observation.dtype is 'uint8', and must be 'float32'"),
        ("observation.names", ["x"], "observation.names has 1 entries, and observation has 2"),
        ("observation.units", "metres", "observation.units must be a list of texts, or null"),
        ("observation.mean", [0.0], "observation.mean has shape [1], and observation has [2]"),
        ("observation.std", [1.0, "a"], "observation.std must be numbers, or null"),
        ("observation.std", [1.0, None], "observation.std must be finite"),
        ("task", 3, "task is of type int, and must be an object"),
        ("task", {"shape": [1], "dtype": "float32", "default": [1, 2]}, "task.default has shape"),
        ("action.kind", "joint", "action.kind is 'joint'"),
        ("action.shape", [1, 1], "action.shape is [1, 1], and must be one positive size"),
        ("action.dtype", "float64", "action.dtype is 'float64', and must be 'float32'"),
        ("action.high", [-1.5], "action.low is above action.high in one dimension"),
        ("action.rate_limit", [1.0, 2.0], "action.rate_limit has shape [2], and action has [1]"),
        ("action.rate_limit", [0.0], "action.rate_limit is [0.0], and every limit is positive"),
        ("action", {"kind": "discrete", "n": 0}, "n must be positive"),
        ("action", {"kind": "discrete"}, "action.n is missing"),
        ("action", choice(3, ["a", "b"]), "action.names has 2 entries, and action has 3"),
        ("control_rate_hz", 0, "control_rate_hz is 0, and a rate is positive"),
        ("control_rate_hz", 10**400, "control_rate_hz is not finite, or beyond what a float64"),
        ("control_rate_hz", math.nan, "control_rate_hz is not finite"),
        ("control_rate_hz", 1e9, "control_rate_hz is 1e+09, and a rate is positive, at most 1e+06"),
        ("control_rate_hz", True, "control_rate_hz is of type bool, and must be a number"),
        ("observation.std", [1.0, 10**400], "observation.std must be numbers, or null"),
        ("action.high", [1e39], "action.high must be finite in float32"),
        ("probe.action", [[0.0], [10**400]], "probe.action is not a full table of numbers"),
        ("learner.name", 3, "learner.name is of type int, and must be a text"),
        ("opset", True, "opset is of type bool, and must be a number"),
        ("model_hash", "md5:1", "model_hash does not start with 'sha256:'"),
        ("parity.tolerance", 0, "parity.tolerance is 0, and must be positive"),
        ("parity.batches", [], "parity.batches is [], and must list batch sizes"),
        ("probe.observation", [], "probe.observation is empty"),
        ("probe.action", [[0.0]], "probe.action must be finite numbers of shape [2, 1]"),
        ("probe.action", [[0.0], [0.5, 1]], "probe.action is not a full table of numbers"),
    ],
)
def test_damage_is_named(place: str, value: Any, told: str) -> None:
    broken = copy.deepcopy(contract())
    *outer, last = place.split(".")
    within = broken
    for name in outer:
        within = within[name]
    within[last] = value
    with pytest.raises(ContractError) as error:
        validate(broken)
    assert told in str(error.value)


@pytest.mark.parametrize("name", sorted(contract()))
def test_no_entry_may_be_missing(name: str) -> None:
    broken = contract()
    del broken[name]
    with pytest.raises(ContractError, match=name):
        validate(broken)


def test_discrete_needs_the_scores_of_its_probe_rows() -> None:
    action = choice(2)
    probe = {"observation": [[0.0, 1.0]], "action": [1]}
    with pytest.raises(ContractError, match=r"probe\.scores is missing"):
        validate(contract(action=action, probe=probe))
    validate(contract(action=action, probe=probe | {"scores": [[0.0, 1.0]]}))


@pytest.mark.parametrize("names", [None, ["push"], ["left", "right"]])
def test_choices_are_named_each_or_as_one(names: list[str] | None) -> None:
    probe = {"observation": [[0.0, 1.0]], "action": [1], "scores": [[0.0, 1.0]]}
    validate(contract(action=choice(2, names), probe=probe))


@pytest.mark.parametrize("digits", [str(10**400), "1" * 5000, "1e400", "-1e999", "Infinity"])
def test_numbers_out_of_range_are_refused_in_the_text(digits: str) -> None:
    text = dump(contract()).replace("30.0", digits)
    with pytest.raises(
        ContractError, match=r"digits, and at most 20 are read|out of range|not JSON"
    ):
        parse(text)


def test_what_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(ContractError, match="a whole number has 401 digits"):
        dump(contract(learner={"name": "BC", "hparams": {"seed": 10**400}}))
    largest = contract(learner={"name": "BC", "hparams": {"seed": 2**64 - 1}})
    assert parse(dump(largest)) == largest


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"version": NaN}', "7", "null"])
def test_what_is_no_contract_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"hindsight\.contract: "):
        parse(text)


def test_what_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ContractError, match="cannot be written as JSON"):
        dump(contract(robot=math.inf))


def test_a_range_may_be_one_point() -> None:
    action = contract()["action"] | {"high": [-1.0]}
    low, high = bounds(parse(dump(contract(action=action))))
    assert low.tolist() == high.tolist() == [-1.0]


def test_open_ends_of_a_range_are_infinite() -> None:
    low, high = bounds(contract())
    assert (low.tolist(), high.tolist()) == ([-1.0], [math.inf])


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_json(values: list[float]) -> None:
    array = np.array(values, dtype=np.float32)
    read = np.array(json.loads(json.dumps(numbers(array))), dtype=np.float32)
    np.testing.assert_array_equal(read, array)


def test_numbers_are_short() -> None:
    assert json.dumps(numbers(np.array([[0.1, 2.0]], dtype=np.float32))) == "[[0.1, 2.0]]"
    assert numbers(np.array([1, 0])) == [1, 0]
