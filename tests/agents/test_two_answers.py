"""Two good answers to one situation: a mean takes neither, heads of several answers take one.

Every row of the log answers (-1, -1) or (1, 1), in halves, whatever is observed. The distance of
an action from the nearer of the two says whether it is one of them.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from heads import CHOICES
from small_fits import fit
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.latent_bc import LatentBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.network import Head, LatentNetwork, Network
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.training.learner import Learner

ROWS = 512
SMALL = Network(hidden=(32, 32))
ADAM = partial(torch.optim.Adam, lr=1e-2)


def two_answers() -> Log:
    sign = torch.where(torch.arange(ROWS) % 2 == 0, -1.0, 1.0)
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0)),
        "action": torch.stack([sign, sign], dim=-1),
        "episode": torch.arange(ROWS),
        ("next", "observation"): torch.zeros(ROWS, 2),
        ("next", "reward"): torch.zeros(ROWS),
        ("next", "terminated"): torch.ones(ROWS, dtype=torch.bool),
        ("next", "truncated"): torch.zeros(ROWS, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": [-2.0, -2.0], "high": [2.0, 2.0]}})


def distance(action: Tensor) -> Tensor:
    """Return how far actions lie from the nearer answer, ``[N]``."""
    return torch.minimum((action - 1).norm(dim=-1), (action + 1).norm(dim=-1))


def fitted(learner: Learner, folder: Path) -> Tensor:
    """Fit, and return what the learner answers, with noise or draws where it takes any."""
    data = OfflineDataModule(two_answers(), batch_size=128, updates_per_step=50)
    data.serve(learner)
    fit(learner, data, folder, 300)
    learner.eval()
    seen = data.log.column("observation")[:200]
    actor = TorchActor(learner)
    steps = counters(1, torch.zeros(1, dtype=torch.int64), torch.arange(200))[0].numpy()
    action, _ = actor.step(seen.numpy(), None, actor.initial_state(200), steps)
    return torch.as_tensor(action)


def bc(head: Head) -> BC:
    torch.manual_seed(0)
    return BC(OfflineDataModule(two_answers()).spec, network=SMALL, head=head, optimizer=ADAM)


def test_a_mean_takes_neither(tmp_path: Path) -> None:
    """The squared error's best answer is 0, as far from both as from nothing else: sqrt(2)."""
    action = fitted(bc(Head("deterministic")), tmp_path)
    assert distance(action).mean() > 1.0


@pytest.mark.parametrize(
    "head",
    [Head(kind, acting=acting) for kind, acting in CHOICES],
    ids=lambda head: f"{head.kind} {head.acting}",
)
def test_heads_of_several_answers_take_one(head: Head, tmp_path: Path) -> None:
    """Where answers are drawn, both are given; the file answers as the learner does."""
    learner = bc(head)
    action = fitted(learner, tmp_path)
    assert distance(action).max() < 0.3  # a bin is 0.19 wide
    if head.acting == "sample_mean":
        assert 0.35 < (action[:, 0] > 0).float().mean() < 0.65
    export_policy(learner, tmp_path / "policy.onnx", opset=17)
    policy = OnnxPolicy(tmp_path / "policy.onnx", seed=5)
    seen = two_answers().column("observation")[:50]
    found = torch.as_tensor(policy.act(seen.numpy()))
    assert distance(found).max() < 0.3


def test_a_latent_vector_takes_one(tmp_path: Path) -> None:
    """A decoder is continuous: about one draw in ten lies on the way from one answer to the other.

    The mean of the prior does, which is why it is not what acts unless asked for.
    """
    torch.manual_seed(0)
    learner = LatentBC(
        OfflineDataModule(two_answers()).spec,
        network=LatentNetwork(hidden=(32, 32)),
        optimizer=ADAM,
    )
    action = fitted(learner, tmp_path)
    assert (distance(action) < 0.3).float().mean() > 0.8
    assert 0.35 < (action[:, 0] > 0).float().mean() < 0.65
    with torch.no_grad():
        mean = learner(two_answers().column("observation")[:200])
    assert distance(mean).mean() > 0.5
