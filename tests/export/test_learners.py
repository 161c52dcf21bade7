"""Every learner of the house, found by walking: fitted a little, its file equals it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_fits import KINDS, LEARNERS, data_for, fit, learner_of, log_for, takes, whole_log
from torch import Tensor

from hindsight_rl.export.draws import counters
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.torch_graph import ExportError
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.training.learner import Learner


def first_actions(
    learner: Learner, observation: Tensor, task: Tensor | None = None
) -> NDArray[Any]:
    """Return what a learner does at the first step of an episode for each row."""
    if not learner.follows:
        with torch.no_grad():
            return learner(observation, task).numpy()
    actor, count = TorchActor(learner), len(observation)
    noise = counters(0, np.arange(count), 0)
    goal = None if task is None else task.numpy()
    return actor.step(observation.numpy(), goal, actor.initial_state(count), noise)[0]


EXPORTED = {name: kind for name, kind in LEARNERS.items() if not kind.not_exported}


@pytest.mark.parametrize("name", sorted(LEARNERS.keys() - EXPORTED.keys()))
def test_a_learner_without_a_file_says_why(name: str, tmp_path: Path) -> None:
    """The reason that it declares, and nothing is written."""
    kind = LEARNERS[name]
    learner, path = learner_of(kind, data_for(kind).spec), tmp_path / "policy.onnx"
    with pytest.raises(ExportError) as refused:
        export_policy(learner.eval(), path)
    assert str(refused.value) == f"{name} is not exported: {kind.not_exported}."
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("kind", EXPORTED.values(), ids=EXPORTED.keys())
def test_file_equals_the_learner(
    kind: type[Learner], options: dict[str, bool], tmp_path: Path
) -> None:
    """On the rows of the log, with a task where there is one; a tie of values may go either way."""
    if not takes(kind, options):
        pytest.skip(f"{kind.__name__} takes {' and '.join(kind.actions)} actions only")
    data = data_for(kind, log_for(kind, **options))
    learner = learner_of(kind, data.spec)
    fit(learner, data, tmp_path, 10)
    export_policy(learner.eval(), tmp_path / "policy.onnx", opset=17)
    batch = whole_log(learner, data)
    given = [batch[key] for key in ("observation", "task") if key in batch.keys()]
    expected = first_actions(learner, *given)
    found = OnnxPolicy(tmp_path / "policy.onnx").act(*(value.numpy() for value in given))
    assert found.dtype == expected.dtype and found.shape == expected.shape
    if found.dtype == np.float32:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    else:
        with torch.no_grad():
            scores = np.sort(learner.scores(*given).numpy(), axis=-1)
        clear = scores[:, -1] - scores[:, -2] > 1e-4
        np.testing.assert_array_equal(found[clear], expected[clear])
        assert clear.any()
