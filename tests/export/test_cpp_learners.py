"""Learners of every kind in the runner in C++: the file's probe rows, and whole episodes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpp_player import Answer, given, needs_cpp, seen
from drawn_policies import KINDS as DRAWN
from drawn_policies import learner as drawing
from episode_logs import episode_log
from memory_policies import POLICIES
from small_fits import data_for, learner_of, log_for, moved
from stand_ins import StandIn
from variants import EVERY, OTHERS

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy

pytestmark = needs_cpp


def check(path: Path, answers: Answer, most: float = 1e-5) -> None:
    (found,) = answers({"path": str(path), "verify": True})
    assert isinstance(found, dict), found
    assert found["wrong"] == 0 and found["difference"] <= most


def test_exported_files(exported: tuple[StandIn, Path], answers: Answer) -> None:
    """Real actions and choices, with a task and without."""
    check(exported[1], answers)


@pytest.mark.parametrize("kind", DRAWN)
def test_policies_that_draw(kind: str, tmp_path: Path, answers: Answer) -> None:
    path = tmp_path / "policy.onnx"
    export_policy(drawing(kind), path, opset=17, drawn=True)
    check(path, answers)


@pytest.mark.parametrize("name", ["BC images", "RecurrentBC images", "FlowBC images"])
def test_policies_with_a_camera(name: str, tmp_path: Path, answers: Answer) -> None:
    chosen = OTHERS[name]
    data = data_for(chosen.kind, chosen.log(), chosen.arguments)
    path = tmp_path / "policy.onnx"
    export_policy(moved(learner_of(chosen.kind, data.spec, **chosen.arguments)), path, opset=17)
    check(path, answers, 1e-4)


@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("name", ["BC", "BC images"])
def test_products_in_fewer_bits(name: str, precision: str, tmp_path: Path, answers: Answer) -> None:
    chosen = EVERY[name]
    data = data_for(chosen.kind, chosen.log(), chosen.arguments)
    path = tmp_path / "policy.onnx"
    learner = moved(learner_of(chosen.kind, data.spec, **chosen.arguments))
    export_policy(learner, path, opset=17, precision=precision, budget=0.01)
    check(path, answers, 0.01)


@pytest.mark.parametrize("opset", [18, 23])
@pytest.mark.parametrize("kind", [BC, RecurrentBC])
def test_the_newer_exporter(kind: Any, opset: int, tmp_path: Path, answers: Answer) -> None:
    path = tmp_path / "policy.onnx"
    export_policy(moved(learner_of(kind, data_for(kind, log_for(kind)).spec)), path, opset=opset)
    check(path, answers)


@pytest.mark.parametrize("name", POLICIES)
def test_a_loop_of_its_own(name: str, tmp_path: Path, answers: Answer) -> None:
    """States, noise, chunks and delays, as ``OnnxPolicy.act`` plays them; two episodes."""
    kind, arguments = POLICIES[name]
    data = data_for(kind, episode_log(), arguments)
    path = tmp_path / "policy.onnx"
    export_policy(moved(learner_of(kind, data.spec, **arguments)), path, opset=17)
    rows = seen(40, 3)
    proof, found = answers(
        {"path": str(path), "verify": True},
        {"path": str(path), "rows": given(rows), "resets": [25], "seed": "3"},
    )
    assert isinstance(proof, dict) and proof["difference"] <= 1e-5, proof
    policy = OnnxPolicy(path, seed=3)
    for step, row in enumerate(rows):
        if step == 25:
            policy.reset()
        np.testing.assert_allclose(found[step], policy.act(row), rtol=0, atol=4e-5)
