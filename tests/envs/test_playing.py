"""The one loop: a state that begins where an episode does, noise by counters, episodes that end."""

import warnings
from typing import Any

import numpy as np
import pytest
from tiny_envs import HORIZON, Walk

from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs import playing
from hindsight_rl.envs.playing import Actor
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.draws import seed_key

WALK = "tiny_envs:Tiny/Walk-v0"


class Counting:
    """Counts its own steps, and checks them against what is observed; pushes by its noise."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.noise: list[list[int]] = []

    def initial_state(self, n: int) -> dict[str, Any]:
        """Return that none was taken."""
        self.begun.append(n)
        return {"steps": np.zeros((n, 1), np.float32), "last": np.full((n, 2), -1, np.float32)}

    def step(self, observation: Any, task: Any, state: Any, noise: Any) -> Any:
        """Return a push that depends on the state and the noise alone."""
        np.testing.assert_array_equal(state["steps"][:, 0], observation[:, 1])
        first = observation[:, 1] == 0
        np.testing.assert_array_equal(first, (state["last"] == -1).all(1))
        np.testing.assert_array_equal(state["steps"][:, 0], noise[:, 2])
        self.noise += noise.tolist()
        angle = noise[:, 1:].sum(1, keepdims=True) + state["steps"]
        push = 0.6 + 0.4 * np.sin(angle)
        return push.astype(np.float32), {"steps": state["steps"] + 1, "last": observation}


@pytest.mark.parametrize("num_envs", [1, 3, 7])
def test_state_belongs_to_the_episode_whatever_its_neighbours_do(num_envs: int) -> None:
    whole = rollout(Counting(), WALK, episodes=7, seed=3, num_envs=7)
    actor = Counting()
    assert isinstance(actor, Actor)
    found = rollout(actor, WALK, episodes=7, seed=3, num_envs=num_envs)
    np.testing.assert_array_equal(found.returns, whole.returns)
    np.testing.assert_array_equal(found.lengths, whole.lengths)
    assert sum(actor.begun) == 7 and 1 < len(set(whole.lengths.tolist()))
    wanted = [[seed_key(3), i, t] for i, length in enumerate(found.lengths) for t in range(length)]
    assert sorted(actor.noise) == wanted


@pytest.mark.parametrize("num_envs", [1, 3])
def test_the_collector_keeps_state_and_explores(num_envs: int) -> None:
    actor = Counting()
    found = Collector(WALK, seed=3, num_envs=num_envs).collect(actor, 5, 4, None)
    lengths = found.lengths.tolist()
    wanted = [[5 + i, t] for i, length in enumerate(lengths) for t in range(length)]
    assert sorted(words[1:] for words in actor.noise) == wanted and sum(actor.begun) == 4
    action = found.columns["action"][:, 0].numpy()
    angles = [5 + i + 2.0 * t for i, n in enumerate(lengths) for t in range(n)]
    pushes = 0.6 + 0.4 * np.sin(angles)
    np.testing.assert_allclose(action, pushes, atol=1e-6)
    mixed = Collector(WALK, seed=3, explore=0.5).collect(Counting(), 0, 50, None)
    assert (mixed.columns["action"] < 0.2).any() and (mixed.columns["action"] > 0.2).any()


# --- episodes that do not end by themselves -------------------------------------------------------


def endless() -> Walk:
    """Return a walk without an end."""
    return Walk(endless=True)


def still(observation: Any) -> Any:
    """Stay."""
    return np.zeros((len(observation), 1), np.float32)


def test_episodes_without_end_are_cut_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    assert playing.LONGEST == 10_000
    monkeypatch.setattr(playing.Limit.__init__, "__defaults__", (50,))
    with pytest.warns(UserWarning, match="endless: .* within 50 steps .*Set max_steps") as told:
        found = rollout(still, endless, episodes=3, seed=0)
    assert found.lengths.tolist() == [50] * 3 and not found.terminated.any() and len(told) == 1
    with pytest.warns(UserWarning, match="Set --max_steps to cut"):
        rollout(still, endless, episodes=1, seed=0, limit_option="--max_steps")


def test_what_is_asked_for_and_what_ends_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing.Limit.__init__, "__defaults__", (HORIZON,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asked = rollout(still, endless, episodes=1, seed=0, max_steps=70)
        # A limit of its own that is longer than the default one.
        own = rollout(lambda seen: still(seen), "Pendulum-v1", episodes=1, seed=0)
    assert asked.lengths.tolist() == [70] and own.lengths.tolist() == [200]


def test_a_step_that_ends_at_the_limit_terminates() -> None:
    free = rollout(lambda seen: np.ones((len(seen), 1)), WALK, episodes=20, seed=1)
    ends = free.lengths[free.terminated]
    cut = rollout(lambda seen: np.ones((len(seen), 1)), WALK, episodes=20, seed=1, max_steps=3)
    assert (ends == 3).any() and (ends > 3).any()
    assert cut.terminated.tolist() == (free.terminated & (free.lengths <= 3)).tolist()
