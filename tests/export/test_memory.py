"""Policies that remember, foresee or take noise: the file plays as the learner does, for long."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from memory_policies import POLICIES
from small_fits import data_for, fit, learner_of
from tiny_envs import Line

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.fql import FQL
from hindsight_rl.agents.idql import IDQL
from hindsight_rl.agents.one_step_flow import OneStepFlow
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.rollout import episode_seed, rollout
from hindsight_rl.export.draws import counters
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.training.learner import Learner


@pytest.fixture(scope="module", params=POLICIES, ids=POLICIES)
def played(request: pytest.FixtureRequest, tmp_path_factory: Any) -> tuple[Learner, OnnxPolicy]:
    """A learner that was fitted a little, and its file."""
    kind, arguments = POLICIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    data = data_for(kind, episode_log(), arguments)
    learner = learner_of(kind, data.spec, **arguments)
    fit(learner, data, folder, 20)
    # The newer exporter unrolls many steps slowly: test_steps has one of each with it.
    opset = 17 if kind in (DiffusionBC, IDQL, FQL, OneStepFlow) else 18
    report = export_policy(learner.eval(), folder / "policy.onnx", opset=opset)
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


class Kept(Line):
    """Keeps the actions of each episode."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[list[Any]] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Begin an episode."""
        self.actions.append([])
        return super().reset(seed=seed)

    def step(self, action: Any) -> Any:
        """Keep an action, and take the step."""
        self.actions[-1].append(np.array(action))
        return super().step(action)


def whole_episodes(policy: Any, seed: int, episodes: int) -> np.ndarray:
    """Return the actions ``[E, T, A]`` of a rollout."""
    env = Kept()
    rollout(policy, lambda: env, episodes=episodes, seed=seed, num_envs=1)
    return np.array(env.actions)


@pytest.mark.parametrize("seed", [0, 3, 2**40 + 3])
def test_one_seed_is_one_sequence_of_actions(
    played: tuple[Learner, OnnxPolicy], seed: int, tmp_path: Path
) -> None:
    """Learner and file in ``rollout``, and the file in a loop of one's own."""
    learner, policy = played
    mine = whole_episodes(learner.player(), seed, 5)
    np.testing.assert_allclose(whole_episodes(policy, seed, 5), mine, rtol=0, atol=1e-5)
    export_policy(learner, tmp_path / "again.onnx", opset=17)
    own, env = OnnxPolicy(tmp_path / "again.onnx", seed=seed), Kept()
    for episode in range(5):
        (seen, _), over = env.reset(seed=episode_seed(seed, episode)), False
        own.reset()
        while not over:
            seen, _, over, _, _ = env.step(own.act(seen))
    np.testing.assert_allclose(env.actions, mine, rtol=0, atol=1e-5)
    other = whole_episodes(learner.player(), seed + 1, 5)
    assert np.abs(other - mine).max() > 1e-3
    if isinstance(learner, FlowBC):  # environments aside: its noise differs between seeds too
        far = whole_episodes(learner.player(), seed + 2**32, 5)
        assert np.abs(far - mine).max() > 1e-3


# --- a past holds what was executed -------------------------------------------------------------


class Watched:
    """An actor whose states and answers are kept, by episode."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.past: dict[int, list[np.ndarray]] = {}
        self.answers: dict[int, list[np.ndarray]] = {}

    def initial_state(self, n: int) -> Any:
        """Return the actor's."""
        return self.actor.initial_state(n)

    def step(self, observation: Any, task: Any, state: Any, noise: Any) -> Any:
        """Keep the past actions of a state, and the answer."""
        answers, state_after = self.actor.step(observation, task, state, noise)
        for row, (_, episode, _) in enumerate(noise.tolist()):
            self.past.setdefault(episode, []).append(state["state.action"][row])
            self.answers.setdefault(episode, []).append(np.asarray(answers[row]))
        return answers, state_after

    def with_executed(self, state: Any, action: Any) -> Any:
        """Return the actor's."""
        return self.actor.with_executed(state, action)


@pytest.fixture(scope="module", params=["torch", "file"])
def remembering(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Watched:
    """A policy that sees its last two actions, as a learner and as its file."""
    data = data_for(BC, episode_log(), {"history": 2})
    learner = learner_of(BC, data.spec, history=2).eval()
    if request.param == "torch":
        return Watched(TorchActor(learner))
    path = tmp_path_factory.mktemp("past") / "policy.onnx"
    export_policy(learner, path)
    return Watched(OnnxPolicy(path))


def test_where_exploration_replaced_an_action_the_past_holds_what_was_executed(
    remembering: Watched,
) -> None:
    found = Collector(Line, seed=1, explore=0.5).collect(remembering, 0, 8, None)
    executed = found.columns["action"].numpy().reshape(8, 4, -1)
    replaced = 0
    for episode in range(8):
        answers = np.stack(remembering.answers[episode])
        replaced += int((np.abs(answers - executed[episode]) > 1e-3).any(-1).sum())
        for step in range(4):
            past = remembering.past[episode][step]
            wanted = np.zeros_like(past)  # before an episode there is nothing
            done = executed[episode, max(0, step - 2) : step]
            wanted[len(past) - len(done) :] = done
            np.testing.assert_allclose(past, wanted, atol=1e-6)
    assert 8 <= replaced <= 24


def test_a_loop_says_what_it_sent(tmp_path: Path) -> None:
    data = data_for(BC, episode_log(), {"history": 2})
    learner = learner_of(BC, data.spec, history=2).eval()
    export_policy(learner, tmp_path / "policy.onnx")
    policy, actor = OnnxPolicy(tmp_path / "policy.onnx"), TorchActor(learner)
    with pytest.raises(ValueError, match="executed follows act"):
        policy.executed(np.zeros(2))
    seen, state = np.full((1, 3), 0.3, np.float32), actor.initial_state(1)
    silent = OnnxPolicy(tmp_path / "policy.onnx")
    for step in range(4):
        answer, state = actor.step(seen, None, state, counters(0, np.array([0]), step))
        np.testing.assert_allclose(policy.act(seen[0]), answer[0], atol=1e-5)
        apart = np.abs(silent.act(seen[0]) - answer[0]).max()
        assert apart < 1e-5 if step == 0 else apart > 1e-4
        sent = answer + np.float32(0.5)
        state = actor.with_executed(state, sent)
        policy.executed(sent[0])
    with pytest.raises(ValueError, match=r"executed has shape \[5\], and act answered \[1, "):
        policy.executed(np.zeros(5))


def test_choices_are_kept_as_the_learner_counts_them(tmp_path: Path) -> None:
    log = episode_log(discrete=True)
    data = data_for(BC, log, {"history": 2})
    learner = learner_of(BC, data.spec, history=2).eval()
    actor = TorchActor(learner)
    state = actor.initial_state(2)
    _, state = actor.step(np.zeros((2, 3), np.float32), None, state, counters(0, np.arange(2), 0))
    moved = actor.with_executed(state, np.array([1, 0]))
    np.testing.assert_array_equal(moved["state.action"][:, -1], [1, 0])
    export_policy(learner, tmp_path / "policy.onnx")
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    policy.act(np.zeros((2, 3), np.float32))
    policy.executed([1, 0])
    assert policy._slots is not None
    np.testing.assert_array_equal(policy._slots.state["state.action"][:, -1], [1, 0])


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
