"""Actions bounded on one side: from a Minari dataset to the file, held all the way."""

from pathlib import Path

import foreign_logs as foreign
import gymnasium
import numpy as np
import pytest
import torch

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import Head

INF = np.inf


@pytest.mark.parametrize("head", ["deterministic", "gaussian"])
def test_one_sided_bounds_reach_the_file_and_are_clipped_to(head: str, tmp_path: Path) -> None:
    space = gymnasium.spaces.Box(np.float32([-1, -INF]), np.float32([INF, 1]))
    data = OfflineDataModule(foreign.minari(tmp_path / "made-v0", actions=space), batch_size=8)
    action = data.spec.action
    assert (action.low, action.high) == ((-1.0, None), (None, 1.0))
    learner = BC(data.spec, head=Head(head, relative_to=[0, 1])).eval()  # near what is observed
    path = tmp_path / "policy.onnx"
    export_policy(learner, path, opset=17)
    policy = OnnxPolicy(path)
    assert policy.contract["action"]["low"] == [-1.0, None]
    assert policy.contract["action"]["high"] == [None, 1.0]
    seen = np.random.default_rng(0).uniform(-9, 9, (500, 2)).astype(np.float32)
    answers = policy.act(seen)
    with torch.no_grad():
        expected = learner(torch.from_numpy(seen)).numpy()
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-4)
    assert answers[:, 0].min() == -1.0 and answers[:, 0].max() > 8.0
    assert answers[:, 1].max() == 1.0 and answers[:, 1].min() < -8.0
