"""What a file says of delays is enough for a loop of one's own that asks in the background."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from small_fits import data_for, learner_of

from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.export.draws import counters, normals
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file whose answers may take three steps."""
    arguments = {"chunk": 8, "execute": 4, "committed": 3}
    learner = learner_of(FlowBC, data_for(FlowBC).spec, **arguments)
    found = tmp_path_factory.mktemp("delay") / "policy.onnx"
    export_policy(learner.eval(), found, opset=17, steps=4)
    return found


def test_the_contract_says_so(path: Path) -> None:
    contract = OnnxPolicy(path).contract
    assert contract["chunk"] == {"length": 8, "execute": 4, "ensemble": None, "committed": 3}
    assert contract["state"] == [
        {"name": "committed", "shape": [3, 2], "dtype": "float32", "initial": None},
        {"name": "committed_count", "shape": [], "dtype": "int64", "initial": None},
    ]


def test_answers_that_arrive_late_change_nothing(path: Path) -> None:
    """The graph is asked at steps 0, 4, 8, ...; its answer is used 0 to 3 steps later.

    Until then the last answer is executed on. The actions are those of ``act``, to the bit.
    """
    policy, session = OnnxPolicy(path, seed=5), onnxruntime.InferenceSession(path)
    names = ["action", "next_state.committed", "next_state.committed_count"]
    state = [np.zeros((1, 3, 2), np.float32), np.zeros(1, np.int64)]
    draw = np.random.default_rng(0)
    seen = draw.normal(size=(40, 1, 3)).astype(np.float32)
    chunk = arrived = np.zeros((0, 2), np.float32)
    begun, late = 0, 0
    for step in range(40):
        if step % 4 == 0:
            feed = {
                "observation": seen[step],
                "state.committed": state[0],
                "state.committed_count": state[1],
                "noise": normals(counters(5, np.array([0]), step), 16),
            }
            answer, *state = session.run(names, feed)
            arrived, late = answer[0], int(draw.integers(0, 4)) if step else 0
        if step % 4 == late:  # here the answer is there
            chunk, begun = arrived, step - late
        np.testing.assert_array_equal(policy.act(seen[step, 0]), chunk[step - begun])
