"""The robot's install: the wheel and its base requirements in a fresh environment, no PyTorch."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

import numpy as np
import pytest
from specs import changed
from stand_ins import StandIn

from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def call(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program in an empty folder: modules of the current one would be found first."""
    line = [str(word) for word in words]
    with tempfile.TemporaryDirectory() as empty:
        options = {"cwd": empty} | options
        return subprocess.run(line, capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs' folder of a fresh environment with the wheel and its base requirements."""
    folder = tmp_path_factory.mktemp("robot")
    wheel = build_wheel(folder)
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (programs / "python", "-m", "pip")
    probe = call(*pip, "download", "--quiet", "--no-deps", "--dest", folder / "probe", "numpy")
    if probe.returncode != 0:
        pytest.skip("pip reaches no package index, so the requirements cannot be installed")
    done = call(*pip, "install", "--quiet", wheel)
    assert done.returncode == 0, done.stderr
    return programs


def build_wheel(folder: Path) -> Path:
    """Return the wheel of a copy of the repository: building in place would leave files in it."""
    copy = folder / "copy"
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = {path.split("/")[0] for path in settings["tool"]["setuptools"]["package-dir"].values()}
    for room in rooms:
        shutil.copytree(ROOT / room, copy / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    done = call(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation",
        "--wheel-dir", folder, copy,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for an environment with 4 observations and one action."""

    class Push(StandIn):
        def forward(self, observation, task=None):
            return super().forward(observation, task)[:, :1]

    learner = Push(observation=3)
    learner.spec = changed(
        learner.spec, action={"shape": [1], "low": [-2.0], "high": [2.0], "names": ["torque"]}
    )
    path = tmp_path_factory.mktemp("policy") / "policy.onnx"
    export_policy(learner, path)
    return path


def test_there_is_no_torch(robot: Path) -> None:
    done = call(robot / "python", "-m", "pip", "list", "--format", "json")
    installed = {entry["name"].lower() for entry in json.loads(done.stdout)}
    assert {"numpy", "gymnasium", "onnxruntime", "hindsight-rl"} <= installed
    assert not {"torch", "lightning", "tensordict", "onnx"} & installed


def test_run(robot: Path, policy: Path, tmp_path: Path) -> None:
    words = ("run", policy, "--env", "Pendulum-v1", "--episodes", 2, "--json")
    done = call(robot / "hindsight", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["episodes"] == 2 and report["length"] == 200.0


def test_answers_are_those_of_this_environment(robot: Path, policy: Path) -> None:
    script = (
        "import sys; from hindsight_rl.export.runtime import OnnxPolicy; "
        f"print(OnnxPolicy({str(policy)!r}).act([0.1, 0.2, 0.3]).tolist()); "
        "assert 'torch' not in sys.modules"
    )
    done = call(robot / "python", "-c", script)
    assert done.returncode == 0, done.stderr
    here = OnnxPolicy(policy).act([0.1, 0.2, 0.3])
    np.testing.assert_allclose(json.loads(done.stdout), here, atol=1e-6)


def test_verify(robot: Path, policy: Path) -> None:
    done = call(robot / "hindsight", "export", "--verify", policy)
    assert done.returncode == 0 and done.stdout.startswith("verified"), done.stderr


@pytest.mark.parametrize("words", [("fit",), ("export", "--ckpt_path", "a", "--output", "b")])
def test_what_needs_the_training_install_says_so(words: tuple[str, ...], robot: Path) -> None:
    done = call(robot / "hindsight", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert 'needs the training install: pip install "hindsight-rl[train]"' in done.stderr
    assert done.stderr.count("\n") == 1
