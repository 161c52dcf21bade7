"""Every head in every learner that clones: losses, routing, half precision, file, objections."""

import inspect
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from episode_logs import HIGH, LOW
from heads import CHOICES, SEVERAL
from small_fits import LEARNERS, data_for, learner_of, log_for, whole_log
from tensordict import TensorDict

from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.network import Head, HeadKind
from hindsight_rl.training.learner import Learner

EXACT = {"SignedBC", "CPL", "DPO", "PPO", "RecurrentPPO"}
CHOOSING = [
    name
    for name, kind in LEARNERS.items()
    if "HeadKind" in str(inspect.signature(kind).parameters.get("head", ""))
    or get_args(HeadKind)[0] in str(inspect.signature(kind).parameters.get("head", ""))
]


def arguments_of(name: str, head: Any) -> dict[str, Any]:
    """Return arguments; where a mean of actions acts, one of several answers needs another way."""
    return {"head": head} | ({"candidates": 0} if name == "CRR" and head in SEVERAL else {})


def made(name: str, head: Any, **options: Any) -> tuple[Learner, TensorDict]:
    kind, arguments = LEARNERS[name], arguments_of(name, head)
    data = data_for(kind, log_for(kind, **options), arguments)
    learner = learner_of(kind, data.spec, **arguments)
    data.serve(learner)
    return learner, whole_log(learner, data)


def test_the_cloning_family_chooses_its_head() -> None:
    assert {"BC", "IQL", "AWR", "AWAC", "CRR", "MARWIL", "SIL", "SignedBC"} <= set(CHOOSING)


@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize("head", get_args(HeadKind))
@pytest.mark.parametrize("name", CHOOSING)
def test_losses_and_actions_of_every_head(name: str, head: Any, task: bool) -> None:
    """Terms are finite and reach all of the policy; actions and samples keep the bounds."""
    if name in EXACT and head == "deterministic":
        with pytest.raises(ValueError, match=f"{name} needs an exact density, and head 'd.* none"):
            made(name, head)
        return
    learner, batch = made(name, head, task=task)
    learner.losses(batch).terms["actor"].backward()
    for key, parameter in learner.actor.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), key
        assert parameter.grad.any(), key
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0]
    given = (batch["observation"], batch.get("task"))
    with torch.no_grad():
        for action in (learner(*given), learner.act(*given, draws=draws)):
            assert action.shape == batch["action"].shape
            assert (action >= torch.tensor(LOW)).all() and (action <= torch.tensor(HIGH)).all()


@pytest.mark.parametrize("name", [*sorted(set(CHOOSING) - EXACT)])
def test_components_in_use_are_watched_wherever_there_are_any(name: str) -> None:
    learner, batch = made(name, "mixture")
    used = learner.losses(batch).metrics["actor/components_used"]
    assert 1.0 <= used.item() <= 5.0 and not used.requires_grad
    learner, batch = made(name, "gaussian")
    assert "actor/components_used" not in learner.losses(batch).metrics


@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize(
    "head",
    [Head(kind, acting=acting) for kind, acting in CHOICES],
    ids=lambda head: f"{head.kind} {head.acting}",
)
@pytest.mark.parametrize("name", ["BC", "IQL", "RecurrentBC"])
def test_file_answers_as_the_learner(name: str, head: Head, task: bool, tmp_path: Path) -> None:
    """With the same noise; where the best of several is less than clear, rounding may decide."""
    learner, batch = made(name, head, task=task)
    learner.eval()
    export_policy(learner, tmp_path / "policy.onnx", opset=18 if name == "RecurrentBC" else 17)
    given = [batch[key] for key in ("observation", "task") if key in batch.keys()]
    policy = OnnxPolicy(tmp_path / "policy.onnx", seed=2)
    noisy = head.acting == "sample_mean"
    assert (policy.contract["noise"] is not None) == noisy
    assert policy.contract["scores"] is not None
    if noisy:
        return  # the export gate compared whole probe rows with their noise
    found = policy.act(*(value.numpy() for value in given))
    with torch.no_grad():
        expected = learner(*given).numpy()
    close = np.abs(found - expected).max(-1) < 1e-4
    assert close.mean() > 0.9


@pytest.mark.parametrize("name", ["IQL", "AWAC"])
def test_soft_values_need_a_density(name: str) -> None:
    learner, batch = made(name, "deterministic", task=True)
    assert learner.density == "none"
    with pytest.raises(ValueError, match=f"{name}.soft_values needs an exact density, and head 'd"):
        learner.soft_values(batch, batch["task"], batch["draws"])
    for head in ("gaussian", *SEVERAL):
        learner, batch = made(name, head, task=True)
        found = learner.soft_values(batch, batch["task"], batch["draws"])
        assert learner.density == "exact" and bool(torch.isfinite(found.log_prob).all())


def test_a_mean_of_several_answers_is_refused() -> None:
    kind = LEARNERS["CRR"]
    spec = data_for(kind).spec
    with pytest.raises(ValueError, match="head 'mixture' has several answers, whose mean is none"):
        learner_of(kind, spec, head="mixture")
    with pytest.raises(ValueError, match="acting 'sample_mean' needs noise"):
        learner_of(kind, spec, head=Head("mixture", acting="sample_mean"), candidates=0)
