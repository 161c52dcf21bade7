"""One exported file of each kind, written once."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from cpp_player import Answer, build, played
from stand_ins import StandIn

from hindsight_rl.export.onnx import export_policy

KINDS = {
    "continuous": {},
    "discrete": {"discrete": True},
    "continuous with task": {"task": True},
    "discrete with task": {"discrete": True, "task": True},
}


@pytest.fixture(scope="session", params=KINDS)
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[StandIn, Path]:
    """A stand-in of each kind, and its file."""
    return _export(StandIn(**KINDS[request.param]), tmp_path_factory)


@pytest.fixture(scope="session")
def continuous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a continuous policy without a task."""
    return _export(StandIn(), tmp_path_factory)[1]


@pytest.fixture(scope="session")
def with_task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a continuous policy with a task that has a default."""
    return _export(StandIn(task=True), tmp_path_factory)[1]


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled programs, one for all processes of a run."""
    own = tmp_path_factory.getbasetemp()
    return build((own.parent if own.name.startswith("popen-") else own) / "cpp")


@pytest.fixture
def answers(programs: Path) -> Answer:
    """Plays cases in C++."""
    return lambda *cases: played(programs, *cases)


@pytest.fixture
def damaged(
    continuous: Path, tmp_path: Path
) -> Callable[[Callable[[onnx.ModelProto], object]], Path]:
    """Writes a copy of a file after a change to its message, and returns its path."""

    def write(change: Callable[[onnx.ModelProto], object]) -> Path:
        model = onnx.load_from_string(continuous.read_bytes())
        change(model)
        path = tmp_path / "damaged.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


def _export(learner: StandIn, factory: pytest.TempPathFactory) -> tuple[StandIn, Path]:
    # Opset 17 goes through the tracing exporter, which takes a tenth of the time.
    path = factory.mktemp("exported") / "policy.onnx"
    export_policy(learner, path, opset=17)
    return learner.eval(), path
