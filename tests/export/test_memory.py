"""Policies that remember, foresee or take noise: the file plays as the learner does, for long."""

from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of
from tiny_envs import Line

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.draws import counters
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.training.learner import Learner

POLICIES: dict[str, tuple[type[Learner], dict[str, Any]]] = {
    "recurrent": (RecurrentBC, {"units": 12, "segment": 5, "burn_in": 1}),
    "history": (BC, {"history": 4}),
    "flow": (FlowBC, {"chunk": 4, "execute": 3}),
}


@pytest.fixture(scope="module", params=POLICIES, ids=POLICIES)
def played(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Learner, OnnxPolicy]:
    """A learner that was fitted a little, and its file."""
    kind, arguments = POLICIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    data = data_for(kind, episode_log(), arguments)
    learner = learner_of(kind, data.spec, **arguments)
    fit(learner, data, folder, 20)
    report = export_policy(learner.eval(), folder / "policy.onnx")
    assert report["parity"]["max_difference"] < 1e-5
    return learner, OnnxPolicy(folder / "policy.onnx")


def test_a_thousand_steps_fed_by_themselves(played: tuple[Learner, OnnxPolicy]) -> None:
    """What is seen next depends on what was done; episode 0 ends at step 500, and 1 begins."""
    learner, policy = played
    actor = TorchActor(learner)
    seen = np.full((1, 3), 0.3, np.float32)
    state, most = actor.initial_state(1), 0.0
    for step in range(1000):
        if step == 500:
            state = actor.initial_state(1)
            policy.reset()
        noise = counters(0, np.array([step // 500]), step % 500)
        expected, state = actor.step(seen, None, state, noise)
        found = policy.act(seen[0])
        most = max(most, float(np.abs(found - expected[0]).max()))
        drift = np.append(found, found.sum())
        seen = (0.9 * seen + 0.2 * np.sin(drift + step)).astype(np.float32)
    assert most < 1e-4


def test_a_reset_forgets(played: tuple[Learner, OnnxPolicy]) -> None:
    _, policy = played
    policy.reset(episode=0)
    seen = np.linspace(-1, 1, 30, dtype=np.float32).reshape(10, 3)
    first = [policy.act(row) for row in seen]
    policy.reset(episode=0)
    np.testing.assert_array_equal([policy.act(row) for row in seen], first)


def test_returns_of_learner_and_file_agree(played: tuple[Learner, OnnxPolicy]) -> None:
    learner, policy = played
    mine = rollout(learner.player(), Line, episodes=6, seed=3, num_envs=4)
    its = rollout(policy, Line, episodes=6, seed=3, num_envs=4)
    np.testing.assert_allclose(mine.returns, its.returns, atol=1e-4)


def test_rows_of_a_batch_are_strangers(played: tuple[Learner, OnnxPolicy]) -> None:
    """A row's episode does not depend on its neighbours, nor on how many there are."""
    learner, _ = played
    actor = TorchActor(learner)
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(8, 3, 3)).astype(np.float32)

    def play(rows: list[int]) -> np.ndarray:
        state, found = actor.initial_state(len(rows)), []
        for step in range(8):
            noise = counters(0, np.array(rows), step)
            action, state = actor.step(seen[step, rows], None, state, noise)
            found.append(action)
        return np.stack(found)

    whole = play([0, 1, 2])
    for row in range(3):
        np.testing.assert_allclose(play([row])[:, 0], whole[:, row], atol=1e-6)


def test_learners_without_memory_have_no_state() -> None:
    data = data_for(BC)
    learner = learner_of(BC, data.spec)
    assert not learner.follows and learner.initial_state(3) == {}
    with torch.no_grad():
        decided = learner.decide(torch.zeros(2, 3), None, {})
    assert decided.state == {} and decided.scores is None
