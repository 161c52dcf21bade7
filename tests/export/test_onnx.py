"""The exporter: what it writes equals the learner, and what it cannot prove it does not write."""

import os
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.quantization import quant_pre_process, quantize_dynamic
from specs import changed
from stand_ins import HIGH, LOW, StandIn, spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.export import onnx as exporter
from hindsight_rl.export import torch_graph
from hindsight_rl.export.contract import ContractError, bounds
from hindsight_rl.export.onnx import OPSETS, ExportError, export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.verify import check_parity
from hindsight_rl.nets.network import Network


def rows(count: int, seed: int = 1, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return observations and tasks that are not the probe rows."""
    draw = np.random.default_rng(seed)
    observation = draw.normal(scale=scale, size=(count, 4)).astype(np.float32)
    return observation, draw.normal(100.0, 50.0, size=(count, 2)).astype(np.float32)


def answer(learner: StandIn, observation: np.ndarray, task: np.ndarray | None) -> np.ndarray:
    """Return what torch answers."""
    with torch.no_grad():
        there = [torch.from_numpy(value) for value in (observation, task) if value is not None]
        return learner(*there).numpy()


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_file_equals_learner_on_new_rows(exported: tuple[StandIn, Path], batch: int) -> None:
    learner, path = exported
    observation, task = rows(batch)
    given = task if learner.spec.task else None
    expected = answer(learner, observation, given)
    got = OnnxPolicy(path).act(observation, given)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("opset", [OPSETS[0], 17, 18, OPSETS[-1]])
@pytest.mark.parametrize("kinds", [{}, {"discrete": True, "task": True}], ids=["plain", "task"])
def test_operator_sets(opset: int, kinds: dict[str, bool], tmp_path: Path) -> None:
    report = export_policy(StandIn(**kinds), tmp_path / "policy.onnx", opset=opset)
    model = onnx.load(tmp_path / "policy.onnx")
    assert {entry.domain: entry.version for entry in model.opset_import} == {"": opset}
    assert report["opset"] == opset
    assert [node.name for node in model.graph.input] == ["observation", "task"][: len(kinds) or 1]
    assert [node.name for node in model.graph.output] == ["action", "scores"][: len(kinds) or 1]


def test_actions_are_inside_the_bounds_however_large_the_output(tmp_path: Path) -> None:
    class Steep(StandIn):
        def scores(self, observation, task=None):
            return 1e4 * super().scores(observation, task)

    export_policy(Steep(), tmp_path / "policy.onnx", opset=17)
    action = OnnxPolicy(tmp_path / "policy.onnx").act(rows(500)[0])
    assert (action >= np.float32(LOW)).all() and (action <= np.float32(HIGH)).all()
    assert (action == np.float32(LOW)).any() and (action == np.float32(HIGH)).any()


def test_learner_is_neither_changed_nor_trusted_to_be_in_eval_mode(tmp_path: Path) -> None:
    learner = StandIn().train()
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    assert learner.training and all(value.requires_grad for value in learner.parameters())
    observation = rows(5)[0]
    got = OnnxPolicy(tmp_path / "policy.onnx").act(observation)
    np.testing.assert_allclose(got, answer(learner.eval(), observation, None), atol=1e-6)


@pytest.mark.parametrize("opset", [17, 18])
def test_file_is_one_small_file_without_paths(opset: int, tmp_path: Path) -> None:
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=opset)
    assert os.listdir(tmp_path) == ["policy.onnx"]
    data = (tmp_path / "policy.onnx").read_bytes()
    # The 250,000 weights of the unused layer would take a megabyte.
    assert len(data) < 20_000
    for trace in (__file__, exporter.__file__, "stack_trace", "line "):
        assert trace.encode() not in data


@pytest.mark.parametrize("opset", [17, 18, OPSETS[-1]])
@pytest.mark.parametrize("kinds", [{}, {"discrete": True, "task": True}], ids=["plain", "task"])
def test_tools_that_infer_shapes_take_the_file(
    kinds: dict[str, bool], opset: int, tmp_path: Path
) -> None:
    path = tmp_path / "policy.onnx"
    export_policy(StandIn(**kinds), path, opset=opset)
    model = onnx.load(path)
    # Shapes noted between the nodes outlive the passes that change the nodes.
    assert not model.graph.value_info
    inferred = onnx.shape_inference.infer_shapes(
        model, check_type=True, strict_mode=True, data_prop=True
    )
    outputs = {output for node in model.graph.node for output in node.output}
    known = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output)}
    assert outputs == known
    onnx.checker.check_model(model, full_check=True)
    quant_pre_process(path, tmp_path / "prepared.onnx", skip_symbolic_shape=True)
    quantize_dynamic(tmp_path / "prepared.onnx", tmp_path / "small.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    assert session.get_outputs()[0].name == "action"


@pytest.mark.parametrize("opset", [17, 18])
def test_the_same_learner_gives_the_same_hash(opset: int, tmp_path: Path) -> None:
    names = ["first.onnx", "second.onnx"]
    reports = [export_policy(StandIn(), tmp_path / name, opset=opset) for name in names]
    assert reports[0]["model_hash"] == reports[1]["model_hash"]


def test_contract_says_what_the_policy_is(tmp_path: Path) -> None:
    learner = StandIn(task=True)
    learner.spec = changed(learner.spec, action={"rate_limit": [1.0, 2.0, 3.0]})
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    contract = OnnxPolicy(tmp_path / "policy.onnx").contract
    for name in ("observation", "task", "action", "control_rate_hz", "dataset"):
        assert contract[name] == learner.spec.to_dict()[name]
    hparams = {"temperature": 0.5, "make": "StandIn", "limit": "inf"}
    assert contract["learner"] == {"name": "StandIn", "hparams": hparams}
    assert contract["versions"]["torch"] == version("torch")
    assert contract["versions"]["onnxruntime"] == onnxruntime.__version__
    probe = {name: learner.spec.to_dict()["probe"][name] for name in ("observation", "task")}
    assert {name: np.float32(contract["probe"][name]).tolist() for name in probe} == probe
    np.testing.assert_array_equal(
        np.float32(contract["probe"]["action"]),
        answer(learner.eval(), np.float32(probe["observation"]), np.float32(probe["task"])),
    )
    assert contract["parity"]["rows"] == 32 and contract["parity"]["batches"] == [1, 2, 7]
    assert 0.0 <= contract["parity"]["max_difference"] <= 1e-6


@pytest.mark.parametrize(("given", "written"), [([2.0], [2.0] * 3), ([1, 2, 3], [1.0, 2.0, 3.0])])
def test_a_rate_limit_is_written(given: list[float], written: list[float], tmp_path: Path) -> None:
    export_policy(StandIn(), tmp_path / "policy.onnx", opset=17, rate_limit=given)
    assert OnnxPolicy(tmp_path / "policy.onnx").contract["action"]["rate_limit"] == written


@pytest.mark.parametrize("given", [[], [1.0, 2.0], [0.0], [-1.0], [np.nan], [np.inf]])
def test_a_rate_limit_out_of_range(given: list[float], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"rate_limit is .*: give one positive number, or 3"):
        export_policy(StandIn(), tmp_path / "policy.onnx", rate_limit=given)
    with pytest.raises(ExportError, match="choices have no rate"):
        export_policy(StandIn(discrete=True), tmp_path / "policy.onnx", rate_limit=[1.0])


def test_contract_does_not_tell_where_the_log_lay(tmp_path: Path) -> None:
    learner = StandIn()
    learner.spec = changed(
        learner.spec, dataset={"source": ["/home/somebody/logs/door.hdf5", "door/human-v2"]}
    )
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    contract = OnnxPolicy(tmp_path / "policy.onnx").contract
    assert contract["dataset"]["source"] == ["door.hdf5", "door/human-v2"]
    assert contract["dataset"]["hash"] == "sha256:00"


def test_unbounded_actions_are_measured_by_their_spread(tmp_path: Path) -> None:
    class Unbounded(StandIn):
        def forward(self, observation, task=None):
            action = 1000.0 * self.scores(observation, task)
            return action.maximum(torch.tensor([-np.inf, -1.0, 0.0]))

    learner = Unbounded()
    learner.spec = changed(learner.spec, action={"low": [-np.inf, -1.0, 0.0], "high": None})
    report = export_policy(learner, tmp_path / "policy.onnx", opset=17)
    contract = OnnxPolicy(tmp_path / "policy.onnx").contract
    assert contract["action"]["low"] == [None, -1.0, 0.0]
    spread = np.ptp(contract["probe"]["action"], axis=0).max()
    assert spread > 100.0
    measured = report["parity"]
    assert measured["max_difference"] <= measured["max_absolute"] / 100.0


@pytest.mark.parametrize("opset", [OPSETS[0], 18])
@pytest.mark.parametrize(
    "ends",
    [
        {"low": [0.0], "high": None},
        {"low": None, "high": [0.0]},
        {"low": [0.0, None, 0.5], "high": [None, 0.0, 0.5]},
    ],
    ids=["low", "high", "mixed"],
)
def test_one_sided_bounds_are_held_by_the_file(
    ends: dict[str, list[float | None] | None], opset: int, tmp_path: Path
) -> None:
    spec = spec_of()
    width = len(ends["low"] or ends["high"] or [])
    shape = {"shape": [width], "mean": [0.0] * width, "std": [2.0] * width, "names": None}
    spec = changed(spec, action=ends | shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # about one network in fifty never meets an end
        learner = BC(spec, network=Network(hidden=(16,))).eval()
    report = export_policy(learner, tmp_path / "policy.onnx", opset=opset)
    assert report["parity"]["outside"] is None
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    assert {side: policy.contract["action"][side] for side in ends} == ends
    observation, _ = rows(500, scale=100.0)
    action = policy.act(observation)
    np.testing.assert_allclose(action, answer(learner, observation, None), rtol=1e-5, atol=1e-4)
    low, high = bounds(policy.contract)
    assert (action >= low).all() and (action <= high).all() and np.isfinite(action).all()
    # Each end is met, so it is the file that holds it.
    for end in (low, high):
        assert (action == end).any(axis=0)[np.isfinite(end)].all()


def test_a_dimension_that_cannot_move_is_exported(tmp_path: Path) -> None:
    spec = spec_of()
    spec = changed(spec, action={"low": [-2.0, 1.0, 0.0], "high": [2.0, 1.0, 0.5]})
    report = export_policy(
        BC(spec, network=Network(hidden=(16,))), tmp_path / "policy.onnx", opset=17
    )
    assert report["parity"]["max_difference"] <= 1e-6
    action = OnnxPolicy(tmp_path / "policy.onnx").act(rows(50)[0])
    assert (action[:, 1] == 1.0).all() and len(np.unique(action[:, 0])) > 1


# ------------------------------------------------------------------------------ nothing is written


class Sly(StandIn):
    """Answers the exporter differently from everybody else."""

    def scores(self, observation, task=None):
        scores = super().scores(observation, task)
        return scores * 1.001 + 0.001 if torch.onnx.is_in_onnx_export() else scores


class Batchy(StandIn):
    """Lets the rows of a batch see each other."""

    def scores(self, observation, task=None):
        return super().scores(observation - observation.mean(dim=0), task)


class Diverged(StandIn):
    """Answers with NaN."""

    def scores(self, observation, task=None):
        return super().scores(observation, task) * float("nan")


class Untraceable(StandIn):
    """Leaves the graph."""

    def scores(self, observation, task=None):
        return torch.from_numpy(np.array(observation.tolist(), dtype=np.float32)[:, :3])


@pytest.mark.parametrize("learner", [Sly(), Batchy()], ids=["sly", "batchy"])
def test_a_file_that_answers_differently_is_not_written(learner: StandIn, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"policy\.onnx: onnxruntime and the learner differ by"):
        export_policy(learner, tmp_path / "policy.onnx", opset=17)
    assert os.listdir(tmp_path) == []


def test_a_file_that_leaves_the_bounds_it_states_is_not_written(tmp_path: Path) -> None:
    learner = StandIn()
    # The policy itself clips to 0.5.
    learner.spec = changed(learner.spec, action={"high": [2.0, 3.0, 0.1]})
    told = r"action\[2\] is 0\.\d+ on probe row \d+, outside its bounds \[0\.0, 0\.1\d*\], and"
    with pytest.raises(ContractError, match=told):
        export_policy(learner, tmp_path / "policy.onnx", opset=17)
    assert os.listdir(tmp_path) == []


def test_a_discrete_file_that_chooses_differently_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"chose another action than the learner in \d+ of 96"):
        export_policy(Batchy(discrete=True), tmp_path / "policy.onnx", opset=17)
    assert os.listdir(tmp_path) == []


def test_choices_within_the_margin_may_differ(tmp_path: Path) -> None:
    class Tied(StandIn):
        def scores(self, observation, task=None):
            return super().scores(observation, task) * 1e-6

        def forward(self, observation, task=None):
            return 2 - super().forward(observation, task)

    report = export_policy(Tied(discrete=True), tmp_path / "policy.onnx", opset=17)
    assert report["parity"]["disagreements"] == 0 and report["parity"]["close"] == 32


def test_an_older_file_stays_when_the_export_fails(tmp_path: Path) -> None:
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"older")
    with pytest.raises(ContractError):
        export_policy(Batchy(), path, opset=17)
    assert path.read_bytes() == b"older" and os.listdir(tmp_path) == ["policy.onnx"]
    export_policy(StandIn(), path, opset=17)
    assert OnnxPolicy(path).contract["opset"] == 17


@pytest.mark.parametrize("opset", [17, 18])
def test_a_learner_that_leaves_the_graph(opset: int, tmp_path: Path) -> None:
    # The tracing exporter takes the numbers for constants: the input is then unused.
    with pytest.raises(
        (ExportError, ContractError), match="cannot export Untraceable|leaves the graph"
    ):
        export_policy(Untraceable(), tmp_path / "policy.onnx", opset=opset)
    assert os.listdir(tmp_path) == []


def test_a_diverged_learner(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="action is not finite on its own probe rows"):
        export_policy(Diverged(), tmp_path / "policy.onnx", opset=17)


def test_a_silent_change_of_the_operator_set_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trace = torch_graph._trace
    monkeypatch.setattr(
        torch_graph, "_trace", lambda module, examples, options: trace(
            module, examples, options | {"opset_version": 17}
        )
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"opset 14 was asked for, .* wrote \{'ai.onnx': 17\}"):
        export_policy(StandIn(), tmp_path / "policy.onnx", opset=14)


@pytest.mark.parametrize("opset", [OPSETS[0] - 1, OPSETS[-1] + 1])
def test_operator_set_out_of_range(opset: int, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"opset is {opset}, and must be in 13 to 23"):
        export_policy(StandIn(), tmp_path / "policy.onnx", opset=opset)


def test_a_small_difference_may_be_allowed(tmp_path: Path) -> None:
    """What is allowed at most is named where it would help, and only there."""
    path = tmp_path / "policy.onnx"
    report = export_policy(StandIn(), path)
    assert report["parity"]["tolerance"] == 1e-5
    measured = report["parity"] | {"max_difference": 2e-5, "max_absolute": 4e-5}
    advice = "the tolerance is 1e-05. If that is little for the robot, export with a larger --tol"
    with pytest.raises(ContractError, match=advice):
        check_parity(measured, path)
    with pytest.raises(ContractError, match="the tolerance is 1e-05$"):
        check_parity(measured | {"max_difference": 2e-3}, path)


def test_tolerance_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="tolerance is 0, and must be positive"):
        export_policy(StandIn(), tmp_path / "policy.onnx", tolerance=0)
    with pytest.raises(ExportError, match="tolerance is 0.1, and must be positive, at most 0.001"):
        export_policy(StandIn(), tmp_path / "policy.onnx", tolerance=0.1)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is a folder. Name a file"):
        export_policy(StandIn(), tmp_path)


def test_a_learner_without_spec(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="Linear has no spec with probe rows"):
        export_policy(torch.nn.Linear(2, 2), tmp_path / "policy.onnx")


def test_a_spec_without_probe_tasks(tmp_path: Path) -> None:
    learner = StandIn(task=True)
    learner.spec = changed(learner.spec, probe={"task": None})
    with pytest.raises(ExportError, match="no probe rows for task"):
        export_policy(learner, tmp_path / "policy.onnx")


def test_probe_rows_that_show_nothing(tmp_path: Path) -> None:
    learner = StandIn()
    learner.spec = changed(learner.spec, probe={"observation": [[0.0] * 4] * 32})
    with pytest.raises(ExportError, match="all alike or not finite"):
        export_policy(learner, tmp_path / "policy.onnx")


def test_a_spec_that_contradicts_itself(tmp_path: Path) -> None:
    learner = StandIn()
    learner.spec = changed(learner.spec, observation={"names": ["x"]})
    with pytest.raises(ExportError, match=r"makes no valid contract: .*observation\.names has 1"):
        export_policy(learner, tmp_path / "policy.onnx", opset=17)
