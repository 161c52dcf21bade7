"""The robot section of a contract: which joints a policy was fitted to, in which order."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export.contract import (
    JOINT_COLUMNS,
    Contract,
    ContractError,
    check_robot_section,
)

OF_JOINTS = ("position", "delta_position", "velocity", "torque")
"""Commands that have a number for each joint."""


def robot_section(given: Any, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return the robot section of a contract, checked.

    Args:
        given: ``joints``, ``command``, and per joint what ``JOINT_COLUMNS`` names; ``None`` for a
            joint of which it is not known.
        action: The contract's entry.

    Returns:
        The section, with every column.

    Raises:
        ValueError: An entry is missing, unknown or of another length; limits are the wrong way
            round; or a command of joints has not as many numbers as there are joints.
    """
    if not isinstance(given, Mapping):
        raise ValueError("is no mapping with 'joints' and 'command'")
    known = ("joints", "command", *JOINT_COLUMNS)
    strange = sorted(str(name) for name in given if name not in known)
    if strange:
        raise ValueError(f"has {', '.join(strange)}, and a robot has {', '.join(known)}")
    section: dict[str, Any] = {name: given.get(name) for name in known}
    for name in JOINT_COLUMNS:
        if section[name] is not None and not isinstance(section[name], Sequence):
            raise ValueError(f"{name} is {section[name]!r}, and is a list with a number per joint")
    missing = [name for name in ("joints", "command") if name not in given]
    if missing:
        raise ValueError(f"has no {' and no '.join(missing)}")
    try:
        check_robot_section({"robot": section})
    except ContractError as error:
        raise ValueError(str(error).split(": ", 1)[1].split(". Export", 1)[0]) from error
    joints, command = section["joints"], section["command"]
    for joint, low, high in zip(joints, section["low"] or [], section["high"] or [], strict=False):
        if low is not None and high is not None and low > high:
            raise ValueError(f"low of '{joint}' is {low}, above its high, {high}")
    if command in OF_JOINTS and action["shape"] != [len(joints)]:
        count = 0 if action["kind"] == "discrete" else action["shape"][0]
        raise ValueError(
            f"names {len(joints)} joints, and an action has {count} numbers: a command "
            f"'{command}' is one of each joint. 'other' is a command that is not"
        )
    return section


def driver_order(
    contract: Contract, names: Sequence[str], *, reorder: bool = False
) -> NDArray[np.int64]:
    """Return where the joints of a contract lie among those of a driver.

    Args:
        contract: Of the file.
        names: Of the driver's joints, in its order.
        reorder: Take another order, and joints that the policy does not know.

    Returns:
        ``[J]``, for each joint of the contract its place in ``names``.

    Raises:
        ValueError: The contract states no joints, one is missing or named twice; or, without
            ``reorder``, the order differs or there are others.
    """
    robot = contract.get("robot")
    if robot is None:
        raise ValueError(
            "the contract has no robot section, so that the driver's joints cannot be compared: "
            "export with --robot robot.yaml"
        )
    joints, given = list(robot["joints"]), list(names)
    missing = [joint for joint in joints if joint not in given]
    if missing:
        raise ValueError(f"the driver lacks {', '.join(missing)}, and has {', '.join(given)}")
    twice = [joint for joint in joints if given.count(joint) > 1]
    if twice:
        raise ValueError(f"the driver names {', '.join(twice)} more than once")
    if not reorder and given != joints:
        raise ValueError(
            f"the driver's joints are {', '.join(given)}, and the policy was fitted to "
            f"{', '.join(joints)}, in this order. reorder=True returns where each of them lies"
        )
    return np.array([given.index(joint) for joint in joints], dtype=np.int64)
