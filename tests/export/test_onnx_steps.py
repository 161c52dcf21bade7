"""The exporter on policies that are more than a function of one observation, and on ties."""

import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from stand_ins import Chunked, Remembering, Seeing, StandIn, spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.bcq import BCQ
from hindsight_rl.export.contract import ContractError
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.torch_graph import convert
from hindsight_rl.maths.diffusion import Predict, cosine_betas, ddim, signals
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Decision


def rows(count: int, scale: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Return observations and tasks that are not the probe rows."""
    draw = np.random.default_rng(1)
    observation = draw.normal(scale=scale, size=(count, 4)).astype(np.float32)
    return observation, draw.normal(100.0, 50.0, size=(count, 2)).astype(np.float32)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("kinds", [{}, {"discrete": True, "task": True}], ids=["plain", "task"])
def test_a_state_is_written_and_equals_torch_over_a_thousand_steps(
    kinds: dict[str, bool], opset: int, tmp_path: Path
) -> None:
    learner = Remembering(**kinds)
    report = export_policy(learner, tmp_path / "policy.onnx", opset=opset)
    assert report["parity"]["rows"] == 32
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    state = [
        {"name": "sum", "shape": [4], "dtype": "float32", "initial": [1.0, -1.0, 0.0, 0.0]},
        {"name": "count", "shape": [], "dtype": "int64", "initial": None},
    ]
    assert policy.contract["state"] == state
    assert policy.contract["probe"]["first"] == [True] + [False] * 31
    learner.eval()
    observation, task = rows(1000, scale=0.3)
    for step in range(1000):
        if step in (0, 500):
            kept = learner.initial_state(1)
            policy.reset()
        given = torch.from_numpy(task[step : step + 1]) if kinds else None
        with torch.no_grad():
            found = learner.decide(torch.from_numpy(observation[step : step + 1]), given, kept)
        kept = found.state
        answer = policy.act(observation[step], task[step] if kinds else None)
        if found.scores is None:
            np.testing.assert_allclose(answer, found.action[0].numpy(), rtol=0, atol=2e-5)
        else:
            ordered = found.scores.sort().values[0]
            assert answer == int(found.action) or ordered[-1] - ordered[-2] < 1e-4


def test_an_episode_is_probed_no_longer_than_needed(tmp_path: Path) -> None:
    export_policy(Remembering(rows=100), tmp_path / "policy.onnx", opset=17)
    first = OnnxPolicy(tmp_path / "policy.onnx").contract["probe"]["first"]
    assert np.flatnonzero(first).tolist() == [0, 32, 64, 96]


def test_a_graph_that_forgets_its_state_is_not_written(tmp_path: Path) -> None:
    class Forgetful(Remembering):
        def decide(self, observation, task, state, noise=None):
            found = super().decide(observation, task, state, noise)
            if torch.onnx.is_in_onnx_export():
                found.state["sum"] = found.state["sum"] * 0.999
            return found

    with pytest.raises(ContractError, match="onnxruntime and the learner differ by"):
        export_policy(Forgetful(), tmp_path / "policy.onnx", opset=17)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("opset", [17, 18])
def test_chunks_and_noise_are_written(opset: int, tmp_path: Path) -> None:
    learner = Chunked(task=True)
    export_policy(learner, tmp_path / "policy.onnx", opset=opset)
    policy = OnnxPolicy(tmp_path / "policy.onnx", seed=3)
    assert policy.contract["chunk"] == {"length": 4, "execute": 2, "ensemble": None}
    assert policy.contract["noise"] == {"shape": [12], "distribution": "normal", "zero": False}
    observation, task = (torch.from_numpy(value) for value in rows(6))
    learner.eval()
    for step in range(6):
        asked = step - step % 2
        noise = normals(counters(3, torch.tensor([0]), torch.tensor([asked]))[:, 0], 12)
        with torch.no_grad():
            row = slice(asked, asked + 1)
            chunk = learner.decide(observation[row], task[row], {}, noise).action[0]
        answer = policy.act(observation[step].numpy(), task[step].numpy())
        np.testing.assert_allclose(answer, chunk[step % 2].numpy(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("opset", [17, 18])
def test_entries_are_written(opset: int, tmp_path: Path) -> None:
    learner = Seeing()
    export_policy(learner, tmp_path / "policy.onnx", opset=opset)
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    model = onnx.load(tmp_path / "policy.onnx")
    types = {node.name: node.type.tensor_type.elem_type for node in model.graph.input}
    expected = {"observation.camera": onnx.TensorProto.UINT8, "observation.arm": 1}
    assert types == expected
    arm = rows(5)[0]
    camera = np.random.default_rng(2).integers(0, 256, size=(5, 8, 8, 1)).astype(np.uint8)
    seen = {"camera": torch.from_numpy(camera), "arm": torch.from_numpy(arm)}
    with torch.no_grad():
        expected = learner.eval()(seen).numpy()
    found = policy.act({"camera": camera, "arm": arm})
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


class Torn(StandIn):
    """Two components, equal where the first observation is negative; other rounding in torch."""

    choice = 1

    def decide(self, observation, task, state, noise=None):
        scores = torch.stack([observation[:, 0].relu(), 0.0 * observation[:, 0]], dim=-1)
        index = scores.argmax(-1)
        if not torch.onnx.is_in_onnx_export():
            index = torch.where(scores[:, 0] == scores[:, 1], self.choice, index)
        return Decision(torch.stack([self.low, self.high])[index], {}, scores)


def test_components_that_tie_do_not_fail_the_export(tmp_path: Path) -> None:
    tied = int((spec_of().probe.observation["observation"][:, 0] <= 0).sum())
    assert 0 < tied < 32
    for choice in (0, 1):
        learner = Torn()
        learner.choice = choice
        report = export_policy(learner, tmp_path / "policy.onnx", opset=17)["parity"]
        assert report["close"] == tied and report["max_difference"] == 0.0


def test_what_is_no_tie_is_compared(tmp_path: Path) -> None:
    class Wrong(Torn):
        def decide(self, observation, task, state, noise=None):
            found = super().decide(observation, task, state, noise)
            ahead = torch.tensor([1e-3, 0.0])
            return found._replace(scores=found.scores + ahead)

    with pytest.raises(ContractError, match="onnxruntime and the learner differ by 1 of the"):
        export_policy(Wrong(), tmp_path / "policy.onnx", opset=17)


@pytest.mark.parametrize("opset", [17, 18])
def test_a_mixture_shows_its_weights(opset: int, tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = BC(spec_of(), network=Network(hidden=(16,)), head="mixture").eval()
    report = export_policy(learner, tmp_path / "policy.onnx", opset=opset)["parity"]
    assert 0 <= report["close"] < 32 and report["max_difference"] <= 1e-5
    model = onnx.load(tmp_path / "policy.onnx")
    assert [node.name for node in model.graph.output] == ["action", "scores"]
    observation = rows(20)[0]
    found = OnnxPolicy(tmp_path / "policy.onnx").act(observation)
    with torch.no_grad():
        expected = learner(torch.from_numpy(observation)).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    with torch.no_grad():
        learner.actor.net[-1].weight.zero_()
        learner.actor.net[-1].bias.zero_()
    with pytest.raises(ContractError, match="every probe row is a tie"):
        export_policy(learner, tmp_path / "policy.onnx", opset=opset)


def test_scores_of_candidates_are_written(tmp_path: Path) -> None:
    report = export_policy(
        BCQ(spec_of(), network=Network(hidden=(16,))), tmp_path / "policy.onnx", opset=17
    )
    contract = OnnxPolicy(tmp_path / "policy.onnx").contract
    assert report["parity"]["close"] < 32
    assert len(contract["probe"]["scores"][0]) == contract["scores"]["shape"][0] > 1


class Walk(torch.nn.Module):
    """DDIM along a linear network that nearly answers with its input, as for pure noise."""

    def __init__(self, predict: Predict) -> None:
        super().__init__()
        self.predict: Predict = predict
        self.signals = signals(cosine_betas(100))

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor]:
        """Return what the noise ``[N, D]`` becomes, float64."""
        field = torch.tensor([[0.9999, 2e-4], [-1e-4, 0.9998]], dtype=torch.float64)
        noise, predict = given[0].double(), self.predict
        return (ddim(lambda x, k: x @ field, noise, self.signals, steps=2, predict=predict),)


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("predict", ["velocity", "noise", "sample"])
def test_the_numbers_of_a_diffusion_are_those_of_the_file(predict: Predict, opset: int) -> None:
    """Exporters write numbers in float32, and drop factors that are nearly 1, such as 0.9999999."""
    walk, noise = Walk(predict), torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    model = convert(walk, {"noise": noise}, ["data"], opset, "a walk")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {"noise": noise.numpy()})
    expected = walk(noise)[0].numpy()
    assert np.abs(expected).max() > (1e-4 if predict == "velocity" else 0.1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
