"""MuJoCo, imported when it is needed, and models of packages that are installed."""

import importlib
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

Model = Any  # mujoco.MjModel, which is not always installed
Data = Any  # mujoco.MjData
Edit = Callable[[ElementTree.Element], None]

_MISSING = (
    "The environments of robots need {package}, which is not installed: "
    'pip install "hindsight-rl[robots]"'
)


def engine(part: str = "mujoco") -> Any:
    """Return MuJoCo's module, one of its parts, or a module of another simulator.

    Args:
        part: Dotted name: ``mujoco`` or ``mujoco.rollout``.

    Returns:
        The module.

    Raises:
        ImportError: Its package is not installed.
    """
    try:
        return importlib.import_module(part)
    except ImportError as error:
        package = (error.name or part).partition(".")[0]
        raise ImportError(_MISSING.format(package=package)) from error


def folder(package: str) -> Path:
    """Return the folder of an installed package, which is not imported.

    Args:
        package: Its name.

    Returns:
        The folder.

    Raises:
        ImportError: It is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise ImportError(_MISSING.format(package=package))
    return Path(found.submodule_search_locations[0])


def suite_model(name: str, edit: Edit | None = None) -> Model:
    """Return a model of the DeepMind control suite, read from the installed dm_control.

    Nothing of dm_control is imported: only its XML files are read.

    Args:
        name: Of the file, without ``.xml``.
        edit: Changes the tree of the file in place.

    Returns:
        The model.

    Raises:
        ImportError: MuJoCo or dm_control is not installed.
    """
    mujoco = engine()
    suite = folder("dm_control") / "suite"
    tree = ElementTree.fromstring((suite / f"{name}.xml").read_bytes())
    for include in tree.findall("include[@file='./common/skybox.xml']"):
        tree.remove(include)  # a picture of the sky takes half a second
    if edit is not None:
        edit(tree)
    included = {f"./common/{path.name}": path for path in (suite / "common").glob("*.xml")}
    assets = {key: path.read_bytes() for key, path in included.items()}
    return mujoco.MjModel.from_xml_string(ElementTree.tostring(tree, "unicode"), assets)


def random_joints(model: Model, generator: np.random.Generator) -> NDArray[np.float64]:
    """Return joint positions ``[nq]`` of a random pose.

    Joints with limits are uniform within them, hinges without are uniform over the circle, and the
    others stay where the model puts them.

    Args:
        model: The model.
        generator: Source of the draws.

    Returns:
        float64.
    """
    hinge = engine().mjtJoint.mjJNT_HINGE
    positions: NDArray[np.float64] = model.qpos0.copy()
    for joint in range(model.njnt):
        at = model.jnt_qposadr[joint]
        if model.jnt_limited[joint]:
            positions[at] = generator.uniform(*model.jnt_range[joint])
        elif model.jnt_type[joint] == hinge:
            positions[at] = generator.uniform(-math.pi, math.pi)
    return positions
