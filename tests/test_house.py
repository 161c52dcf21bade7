"""The rules of the house, held by reading its source: who may import whom, what is never called.

Every fault is printed as ``file:line: what is wrong``, so a failure needs no search.
"""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import house_layers
import pytest
import yaml

import hindsight_rl.maths
from hindsight_rl.cli.main import TRAINING

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = SETTINGS["tool"]["setuptools"]["packages"]
ROOMS = {
    name.removeprefix("hindsight_rl."): ROOT / folder
    for name, folder in SETTINGS["tool"]["setuptools"]["package-dir"].items()
    if name != "hindsight_rl"
}
FACE = ROOT / "hindsight_rl"
# The ground floor: modules of the package itself, which every room may import.
GROUND = {path.stem for path in FACE.glob("*.py")} - {"__init__"}
NOT_PACKAGED = {"tests", "benchmarks", "tools", "docs", "build", "dist", "runs", "hindsight_rl"}

LAYERS = house_layers.LAYERS | {"cli": set(ROOMS)}
# What must work on the robot, where nothing but the base requirements is installed.
ROBOT = (
    "envs",
    "export.runtime",
    "export.contract",
    "export.loop",
    "export.recorder",
    "export.ros",
    "export.web",
)
ROBOT += ("cli.main", "cli.run", "cli.errors")
ROBOT_PACKAGES = {"numpy", "gymnasium", "onnxruntime"}
ROS_PACKAGES = {"rclpy", "rosidl_runtime_py"}  # of ROS itself; export.ros says where they lack

# Called nowhere in the rooms: resolved name (a regular expression) and the fix.
_SEED = "take a seed and make a generator, or draw from maths.draws"
NEVER_CALLED = {
    r"eval|exec": "parse the text instead",
    r"yaml\.(unsafe_|full_)?load(_all)?": "use yaml.safe_load",
    r"torch\.(cuda\.)?(manual_)?seed(_all)?|(.*\.)?seed_everything|random\.\w+": _SEED,
    r"numpy\.random\.(?!default_rng|Generator|SeedSequence|Philox|PCG64)\w+": _SEED,
}
# The data step draws from counters alone, or a resume and a second rank would differ.
NEVER_CALLED_IN_DATA_STEP = (
    r"torch\.(rand|randn|randint|randperm|multinomial|bernoulli|normal|poisson)(_like)?"
    r"|numpy\.random\..*|.*\.(exponential_|uniform_|normal_|random_|bernoulli_)"
)
NEVER_IMPORTED = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "_pickle"}


class Import(NamedTuple):
    """One imported module or name, dotted, and where."""

    target: str
    place: str
    typing: bool = False  # only read by type checkers

    @property
    def root(self) -> str:
        """The package it comes from."""
        return self.target.partition(".")[0]


def fail_with(faults: list[str]) -> None:
    """Fail with one line per fault, if there is one."""
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@cache
def modules() -> dict[str, Path]:
    """Return every module of the rooms: ``maths.draws`` -> its file; a package names its init."""
    found = {}
    for room, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [room, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found | {name: FACE / f"{name}.py" for name in sorted(GROUND)}


@cache
def tree(path: Path) -> ast.Module:
    """Return the parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def place(path: Path, node: ast.AST | None = None) -> str:
    """Return ``file:line`` relative to the repository."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


@cache
def imports(path: Path) -> list[Import]:
    """Return what a file imports, wherever the statement stands."""
    found = []
    blocks = [n for n in ast.walk(tree(path)) if isinstance(n, ast.If)]
    blocks = [n for n in blocks if ast.unparse(n.test) == "TYPE_CHECKING"]
    typing = {id(node) for block in blocks for node in ast.walk(block)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            base = ""
            if isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "") + "."
            where, only = place(path, node), id(node) in typing
            found += [Import(f"{base}{name.name}", where, only) for name in node.names]
    return found


def house_imports(module: str) -> Iterator[tuple[str, str]]:
    """Yield the modules of the house that a module imports, and where."""
    for item in imports(modules()[module]):
        if item.root == "hindsight_rl":
            # ``from module import name``: the name may be a module or something in it.
            target = item.target.removeprefix("hindsight_rl.")
            known = target in modules() or target in ROOMS
            yield target if known else target.rpartition(".")[0], item.place


def within(module: str, names: set[str] | tuple[str, ...]) -> bool:
    """Return whether a module is one of the names or lies below one."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


def resolved_calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name of what is called, import aliases undone."""
    aliases = {}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            aliases |= {name.asname: name.name for name in node.names if name.asname}
        elif isinstance(node, ast.ImportFrom):
            aliases |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            head, dot, tail = ast.unparse(node.func).partition(".")
            yield aliases.get(head, head) + dot + tail, node


def is_given(call: ast.Call, name: str, value: bool) -> bool:
    """Return whether a call passes the literal ``name=value``."""
    given = [word.value for word in call.keywords if word.arg == name]
    return any(isinstance(node, ast.Constant) and node.value is value for node in given)


def test_the_tested_code_is_this_checkout() -> None:
    # A copied .venv still points at the checkout it was made in.
    assert Path(hindsight_rl.maths.__file__).parents[1] == ROOT, "run: rm -rf .venv && make test"


def test_every_folder_with_modules_is_packaged() -> None:
    faults = []
    for path in ROOT.glob("*/**/*.py"):
        folder = path.relative_to(ROOT).parent
        top = ROOT / folder.parts[0]
        if top.name in NOT_PACKAGED or top.name.startswith(".") or (top / "pyvenv.cfg").exists():
            continue
        name = "hindsight_rl." + ".".join(folder.parts)
        if name not in PACKAGES:
            faults.append(f"pyproject.toml:1: packages lacks '{name}', which holds {path.name}")
    fail_with(sorted(set(faults)))


@pytest.mark.parametrize("room", [room for room in ROOMS if any(ROOMS[room].rglob("*.py"))])
def test_room_ships_its_types(room: str) -> None:
    assert (ROOMS[room] / "py.typed").exists(), f"{room}/py.typed:1: missing"


@pytest.mark.parametrize("module", modules())
def test_module_imports(module: str) -> None:
    importlib.import_module(f"hindsight_rl.{module}")


def test_imports_are_absolute() -> None:
    fail_with(
        [
            f"{item.place}: relative import '{item.target}': write hindsight_rl..."
            for path in modules().values()
            for item in imports(path)
            if item.target.startswith(".")
        ]
    )


def test_layers() -> None:
    faults = []
    layers = LAYERS | dict.fromkeys(GROUND, set())
    for module in modules():
        room = module.partition(".")[0]
        rule = max((name for name in layers if within(module, (name,))), key=len)
        for target, where in house_imports(module):
            if not within(target, layers[rule] | GROUND | {room}):
                faults.append(
                    f"{where}: {module} imports {target}; {rule} may import "
                    f"{', '.join(sorted(layers[rule])) or 'no other room'}"
                )
    fail_with(faults)


def test_maths_imports_torch_only() -> None:
    fail_with(
        [
            f"{item.place}: maths imports {item.root}: it is pure functions on tensors"
            for module, path in modules().items()
            if within(module, ("maths",))
            for item in imports(path)
            if item.root not in {"torch", "hindsight_rl", *sys.stdlib_module_names}
        ]
    )


def robot_modules() -> dict[str, str]:
    """Return what the robot loads, inits of packages included, and why: ``module -> place``."""
    todo = [(name, "tests/test_house.py:1") for name in modules() if within(name, ROBOT)]
    reached: dict[str, str] = {}
    while todo:
        module, where = todo.pop()
        if module in reached or module not in modules():
            continue
        reached[module] = where
        todo += [(module.rpartition(".")[0], where), *house_imports(module)]
    return reached


def test_robot_needs_the_base_requirements_only() -> None:
    known = ROBOT_PACKAGES | ROS_PACKAGES | {"hindsight_rl"} | sys.stdlib_module_names
    fail_with(
        [
            f"{item.place}: imports {item.root}, which the robot's install lacks "
            f"({module} is needed there, see {where})"
            for module, where in robot_modules().items()
            for item in imports(modules()[module])
            if item.root not in known and not item.typing
        ]
    )


def test_robot_modules_load_without_the_training_install() -> None:
    names = [f"hindsight_rl.{module}" for module in robot_modules()]
    script = (
        "import importlib, sys\n"
        f"sys.modules.update(dict.fromkeys({sorted(TRAINING)!r}))\n"
        f"for name in {names!r}:\n    importlib.import_module(name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_learners_do_not_import_each_other() -> None:
    learners = {
        module: path
        for module, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef) and "Learner" in map(ast.unparse, node.bases)
    }
    assert learners, "no class derives from Learner: this test reads the wrong files"
    fail_with(
        [
            f"{where}: learner {module} imports learner {target}: move what both need to maths/"
            for module in learners
            for target, where in house_imports(module)
            if target in learners and target != module
        ]
    )


def test_nothing_unpickles() -> None:
    faults = []
    for path in modules().values():
        faults += [
            f"{item.place}: imports {item.root}: it runs code from data"
            for item in imports(path)
            if item.root in NEVER_IMPORTED
        ]
        for name, call in resolved_calls(path):
            if name == "torch.load" and not is_given(call, "weights_only", True):
                faults.append(f"{place(path, call)}: torch.load without weights_only=True")
            if name == "numpy.load" and not is_given(call, "allow_pickle", False):
                faults.append(f"{place(path, call)}: numpy.load without allow_pickle=False")
            if is_given(call, "weights_only", False) or is_given(call, "allow_pickle", True):
                faults.append(f"{place(path, call)}: allows pickles")
    fail_with(faults)


def test_nothing_forbidden_is_called() -> None:
    fail_with(
        [
            f"{place(path, call)}: calls {name}: {fix}"
            for path in modules().values()
            for name, call in resolved_calls(path)
            for pattern, fix in NEVER_CALLED.items()
            if re.fullmatch(pattern, name)
        ]
    )


def test_only_commands_write_to_the_terminal() -> None:
    fail_with(
        [
            f"{place(path, call)}: calls {name}: raise, return or log it"
            for module, path in modules().items()
            if not within(module, ("cli",))
            for name, call in resolved_calls(path)
            if re.fullmatch(r"print|sys\.std(out|err)\.write", name)
        ]
    )


def test_the_data_step_draws_from_counters() -> None:
    fail_with(
        [
            f"{place(path, call)}: calls {name}: draw from the counters of maths.draws"
            for module, path in modules().items()
            if within(module, ("relabel", "tasks", "logs", "datamodules"))
            for name, call in resolved_calls(path)
            if re.fullmatch(NEVER_CALLED_IN_DATA_STEP, name)
        ]
    )


def test_long_files_are_split_or_say_why() -> None:
    extra = [p for name in ("tests", "benchmarks", "tools") for p in (ROOT / name).rglob("*.py")]
    faults = []
    for path in [*modules().values(), *extra]:
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > 400 and "longer than" not in (ast.get_docstring(tree(path)) or ""):
            faults.append(
                f"{place(path)}: {count} lines, 400 at most: split it, or let its docstring say "
                "why it is longer than that"
            )
    fail_with(faults)


@pytest.mark.parametrize("path", sorted(ROOMS["configs"].glob("*.yaml")), ids=lambda p: p.name)
def test_config_is_a_mapping(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())
    assert isinstance(settings, dict), f"{place(path)}: holds no settings"


def test_training_packages_are_those_of_the_extra() -> None:
    extra = SETTINGS["project"]["optional-dependencies"]["train"]
    named = {re.match(r"[\w-]+", line).group() for line in extra}  # type: ignore[union-attr]
    imported = {"pyyaml": "yaml", "pillow": "PIL"}
    assert {imported.get(name, name) for name in named} == TRAINING


def test_rooms_import_what_users_install() -> None:
    """A user has no ``dev`` extra: what tests compare with (torchrl) is imported by no room."""
    extras = SETTINGS["project"]["optional-dependencies"]
    lines = [*SETTINGS["project"]["dependencies"]]
    optional = ("mujoco", "report", "video", "ros", "sweep", "ray", "zarr", "remote")
    lines += [line for extra in optional for line in extras[extra]]
    named = {re.match(r"[\w-]+", line).group().replace("-", "_") for line in lines}  # type: ignore[union-attr]
    installed = named | TRAINING | ROS_PACKAGES | sys.stdlib_module_names | {"hindsight_rl"}
    fail_with(
        sorted(
            f"{item.place}: imports {item.root}, which only developers have"
            for path in modules().values()
            for item in imports(path)
            if item.root not in installed
        )
    )
