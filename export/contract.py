"""The contract: what a policy file says about itself, as JSON under ``hindsight.contract``.

A contract is a plain dictionary; lists hold one entry per dimension, ``None`` means not known.
``contract.schema.json`` beside this file is its JSON Schema, ``signature_of`` its typed form.

===================  ===============================================================================
``version``          2, and 3 with entries marked 3 (1: a file of release 0.1, without those marked
                     2)
``observation``      ``kind`` "vector": ``shape [O]``, ``dtype`` "float32", ``names``, ``units``,
                     ``mean``, ``std``, ``offset`` (subtracted, in float64, before the numbers
                     become float32; ``mean`` and the probe rows are without it);
                     "image": uint8 ``[H, W, C]``; "discrete": int64, ``n``. Graph input
                     ``observation``. 2: or ``entries``, several of them by name; graph inputs
                     ``observation.NAME``
``task``             ``None``, or a vector with ``family`` and ``default`` (if no task is given)
``action``           ``kind`` "continuous": ``shape [A]``, ``dtype`` "float32", ``low``, ``high``,
                     ``rate_limit`` (units per second), ``names``, ``units``; an unbounded end of a
                     range is ``None``. ``kind`` "discrete": ``shape []``, ``dtype`` "int64", ``n``,
                     ``start`` (number of the first choice; left out: 0), ``names`` of the n
                     choices, or one for their column
``scores`` (2)       ``None``, or ``shape [M]``: the action is an argmax over ``scores [N, M]``
                     (choices, components of a mixture, candidates), and may change at a tie
``state`` (2)        list of ``name``, ``shape``, ``dtype``, ``initial`` (left out: zeros): graph
                     inputs ``state.NAME [N, ...]`` and outputs ``next_state.NAME``; ``actions``
                     (left out: false): it holds past actions, the newest in the last place, where
                     the caller puts what was executed if that is not the answer
``noise`` (2)        ``None``, or ``shape [S]``, ``distribution`` "normal" or "uniform", ``zero``:
                     whether zeros are a deterministic policy; graph input ``noise [N, S]``
``sampler`` (2)      ``None``, or how noise becomes actions: ``kind`` "flow" or "diffusion",
                     ``solver``, ``steps``; for information, the steps are in the graph
``chunk`` (2)        ``None``, or ``length`` C, ``execute``, ``ensemble``: output ``action [N, C,
                     A]``, of which so many are executed before the graph runs again;
                     ``committed`` D (left out: 0): so many actions after them are executed while it
                     runs. They are its state ``committed [D, A]``, ``committed_count []`` says how
                     many, and its answer repeats them
``distribution`` (3) ``None``, or what the action is drawn from by noise: ``kind`` "normal",
                     "laplace", "tanh_normal", "mixture" (``components``) or "categorical"; outputs
                     ``distribution.NAME [N, ...]`` as :mod:`hindsight_rl.densities` lists them
``robot`` (2)        ``None``, or ``joints`` (their order), ``command``, ``stiffness``, ``damping``,
                     ``default_pose``, ``rate_limit``, ``low``, ``high`` per joint
``control_rate_hz``  rate of the log the policy was fitted to
``learner``          ``name``, ``hparams``
``dataset``          ``hash``, ``source``, ``rows``, ``episodes``
``versions``         release of each library that took part
``opset``            version of the ONNX operator set
``model_hash``       sha256 of every field of the file but its metadata: weights and graph
``parity``           measured at export: ``tolerance``, ``margin``, ``batches``, ``rows``, results;
                     with layers in fewer bits also ``precision`` and ``budget``
``probe``            rows of the log: ``observation`` (by entry; bytes in base64), ``task``,
                     ``noise``, and the learner's ``action`` and ``scores``; ``first``, with a
                     state: where an episode begins; ``log_prob``, with a distribution
===================  ===============================================================================

Normalisation, unscaling and clipping are inside the graph: ``mean`` and ``std`` inform only.
Entries not listed here are kept and ignored.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.checks import KEY as KEY
from hindsight_rl.export.checks import ContractError as ContractError
from hindsight_rl.export.checks import entry, fail, floats, optional
from hindsight_rl.export.probe import probe_of
from hindsight_rl.export.read_signature import signature_of

VERSION = 2
"""The version that is written, so that robots with an older release read it."""
DRAWN_VERSION = 3
"""The version of files that draw their actions and state from what."""
VERSIONS = (1, 2, 3)
"""The versions that are read."""
MAX_TOLERANCE = 1e-3
PRECISIONS = ("float16", "int8")
"""In what layers may be computed, where not in float32."""
MAX_BUDGET = 0.1
"""Largest share of the action range, or of choices, that fewer bits may cost."""
"""Largest share of the action range by which a file may say that it differs from its learner."""
MAX_MARGIN = 1e-2
"""Largest lead of a best score that a file may call a tie."""
MAX_BATCH = 1024
"""Largest batch size in which a file may ask for its probe rows to be played."""
MAX_BATCHES = 16
"""Most batch sizes that a file may ask for."""
MAX_RATE = 1e6
"""Fastest control rate, Hz."""
MAX_DIGITS = 20
"""Most digits of a whole number: those of the largest one of 64 bits."""

COMMANDS = ("position", "delta_position", "velocity", "torque", "pose", "delta_pose", "other")
"""What an action of a robot is: a target of its joints, a change of them, or of its hand."""

JOINT_COLUMNS = ("stiffness", "damping", "default_pose", "rate_limit", "low", "high")
"""What a robot section may say of each joint: gains, pose, how fast and how far it may move."""

Contract = dict[str, Any]


def parse(text: str) -> Contract:
    """Return the contract written in a JSON text, validated.

    Args:
        text: The JSON.

    Returns:
        The contract.

    Raises:
        ContractError: The text is no JSON, or no contract of a version this release reads.
    """
    try:
        contract = json.loads(
            text, parse_constant=_not_a_number, parse_int=_whole, parse_float=_real
        )
    except (ValueError, RecursionError) as error:
        raise ContractError(
            f"{KEY}: not readable as JSON ({error}). Export the checkpoint again."
        ) from error
    validate(contract)
    return dict(contract)


def dump(contract: Mapping[str, Any]) -> str:
    """Return the JSON text of a contract.

    Args:
        contract: The contract.

    Returns:
        The JSON, without spaces.

    Raises:
        ContractError: The contract is not valid, or holds something JSON cannot.
    """
    validate(contract)
    try:
        text = json.dumps(contract, allow_nan=False, separators=(",", ":"))
        json.loads(text, parse_int=_whole)
    except (TypeError, ValueError) as error:
        raise ContractError(f"{KEY}: cannot be written as JSON ({error})") from error
    return text


def numbers(values: Any) -> Any:
    """Return an array as nested lists, a float32 as the shortest decimal that reads back as it."""
    array = np.asarray(values)
    if array.dtype.kind == "f":
        flat = [float(str(value)) for value in array.astype(np.float32).ravel()]
        return np.array(flat, dtype=np.float64).reshape(array.shape).tolist()
    return array.tolist()


def bounds(contract: Mapping[str, Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the lowest and highest action ``[A]`` of a continuous contract, infinite if open."""
    action = contract["action"]
    size = action["shape"][0]
    low = [-math.inf if end is None else end for end in action.get("low") or [None] * size]
    high = [math.inf if end is None else end for end in action.get("high") or [None] * size]
    return np.array(low, dtype=np.float32), np.array(high, dtype=np.float32)


def validate(contract: Any) -> None:
    """Check that a contract is complete and agrees with itself.

    Args:
        contract: What was read or is to be written.

    Raises:
        ContractError: Naming the first entry at fault.
    """
    if not isinstance(contract, Mapping):
        raise ContractError(f"{KEY}: not a JSON object. Export the checkpoint again.")
    version = contract.get("version")
    if type(version) is not int or version not in VERSIONS:
        raise ContractError(
            f"{KEY}: version {version!r}, and this release reads versions 1 to 3. "
            "Export again with this release, or run the file with the release that wrote it."
        )
    signature = signature_of(contract)
    rate = entry(contract, "control_rate_hz", (int, float, type(None)))
    if rate is not None and not 0 < rate <= MAX_RATE:
        fail("control_rate_hz", f"is {rate:.3g}, and a rate is positive, at most {MAX_RATE:g}")
    if version >= 2:
        _check_sampler(contract)
        check_robot_section(contract)
    _check_origin(contract)
    probe_of(contract, signature)


def _check_origin(contract: Mapping[str, Any]) -> None:
    """Check where the policy came from and what was measured."""
    learner = entry(contract, "learner", dict)
    entry(learner, "name", str, "learner")
    entry(learner, "hparams", dict, "learner")
    entry(contract, "dataset", dict)
    entry(contract, "versions", dict)
    entry(contract, "opset", int)
    if not entry(contract, "model_hash", str).startswith("sha256:"):
        fail("model_hash", "does not start with 'sha256:'")
    parity = entry(contract, "parity", dict)
    for name, most in (("tolerance", MAX_TOLERANCE), ("margin", MAX_MARGIN)):
        value = entry(parity, name, (int, float), "parity")
        # The file is judged by these numbers, so it cannot be free to choose them.
        if not 0 < value <= most:
            fail(f"parity.{name}", f"is {value:.3g}, and must be positive, at most {most:g}")
    precision = optional(parity, "precision", str, "parity")
    if precision is not None:
        if precision not in PRECISIONS:
            fail(
                "parity.precision", f"is {precision!r}, and must be one of {', '.join(PRECISIONS)}"
            )
        budget = entry(parity, "budget", (int, float), "parity")
        if not 0 < budget <= MAX_BUDGET:
            fail("parity.budget", f"is {budget:.3g}, and must be positive, at most {MAX_BUDGET:g}")
    batches = entry(parity, "batches", list, "parity")
    sound = all(type(size) is int and 0 < size <= MAX_BATCH for size in batches[:MAX_BATCHES])
    if not sound or not 0 < len(batches) <= MAX_BATCHES:
        shown = batches if len(batches) < 10 else f"a list of {len(batches)}"
        limits = f"1 to {MAX_BATCHES} of them, each in 1 to {MAX_BATCH}"
        fail("parity.batches", f"is {str(shown)[:80]}, and must list batch sizes: {limits}")


def _check_sampler(contract: Mapping[str, Any]) -> None:
    """Check what is said of the way from noise to action."""
    sampler = optional(contract, "sampler", dict)
    if sampler is None:
        return
    for name in ("kind", "solver"):
        entry(sampler, name, str, "sampler")
    steps = entry(sampler, "steps", int, "sampler")
    if steps < 1:
        fail("sampler.steps", f"is {steps}, and must be at least 1")


def check_robot_section(contract: Mapping[str, Any]) -> None:
    """Check what is said of the robot; nothing of it changes what the policy answers.

    Args:
        contract: Its ``robot`` is read.

    Raises:
        ContractError: Naming the first entry at fault.
    """
    robot = optional(contract, "robot", dict)
    if robot is None:
        return
    joints = entry(robot, "joints", list, "robot")
    if not joints or not all(isinstance(joint, str) and joint for joint in joints):
        fail("robot.joints", "must be a list of names, in the order of the robot's driver")
    if len(set(joints)) != len(joints):
        fail("robot.joints", "names a joint twice")
    command = entry(robot, "command", str, "robot")
    if command not in COMMANDS:
        fail("robot.command", f"is {command!r}, and must be one of {', '.join(COMMANDS)}")
    for column in JOINT_COLUMNS:
        floats(robot, column, "robot", [len(joints)], open_ends=True)
    limits = robot.get("rate_limit") or ()
    if any(limit is not None and limit <= 0 for limit in limits):
        fail("robot.rate_limit", f"is {limits}, and every limit is positive, or null")


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _whole(text: str) -> int:
    """Return a whole number of JSON; Python's own are unlimited, and no other reader's are."""
    if len(text) > MAX_DIGITS:
        raise ValueError(
            f"a whole number has {len(text)} digits, and at most {MAX_DIGITS} are read"
        )
    return int(text)


def _real(text: str) -> float:
    """Return a real number of JSON; 1e400 would become infinite."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]} is out of range")
    return value
