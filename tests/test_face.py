"""The public names of ``hindsight_rl``: complete, lazy, and there without the training install."""

import ast
import importlib
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import hindsight_rl
from hindsight_rl.plugins import import_rooms
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import TaskFamily
from hindsight_rl.training.checkpoints.load import learner_classes

FACE = Path(hindsight_rl.__file__)
NAMES = [name for name in hindsight_rl.__all__ if name != "__version__"]


def seen_by_editors() -> dict[str, str]:
    """Return the names that the face imports for type checkers alone, and from where."""
    branches = [node for node in ast.parse(FACE.read_text()).body if isinstance(node, ast.If)]
    (block,) = [node for node in branches if ast.unparse(node.test) == "TYPE_CHECKING"]
    return {
        name.name: str(node.module)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if name.asname == name.name
    }


def test_editors_see_what_is_there() -> None:
    told = {name: f"hindsight_rl.{home}" for name, home in hindsight_rl._HOME.items()}
    assert seen_by_editors() == told


@pytest.mark.parametrize("name", NAMES)
def test_name_leads_to_its_module(name: str) -> None:
    home = importlib.import_module(seen_by_editors()[name])
    assert getattr(hindsight_rl, name) is getattr(home, name)


def test_version_is_that_of_the_distribution() -> None:
    assert hindsight_rl.__version__ == version("hindsight-rl")


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'hindsight_rl' has no attribute 'IQQL'"):
        hindsight_rl.IQQL  # noqa: B018


def test_dir_lists_the_names() -> None:
    assert set(hindsight_rl.__all__) <= set(dir(hindsight_rl))


def test_every_learner_relabeler_and_family_is_public() -> None:
    import_rooms("agents", "relabel", "tasks")
    kinds: list[type] = list(learner_classes().values())
    todo: list[type] = [Relabeler, TaskFamily]
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        kinds.append(kind)
    ours = {kind.__name__ for kind in kinds if kind.__module__.startswith("hindsight_rl.")}
    assert {name for name in ours if not name.startswith("_")} <= set(NAMES)


def test_import_needs_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\n"
        "heavy = ['torch', 'lightning', 'tensordict', 'numpy', 'gymnasium', 'onnxruntime']\n"
        "import hindsight_rl\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)\n"
        "sys.modules.update(dict.fromkeys(['torch', 'lightning', 'tensordict', 'onnx']))\n"
        "from hindsight_rl import OnnxPolicy, rollout\n"
        "print(OnnxPolicy.__name__, rollout.__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "OnnxPolicy rollout\n"
