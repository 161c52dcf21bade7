"""The evaluator: counting, seeding, independence of the number of environments, refusals."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from hindsight_rl.envs.rollout import Rollout, RolloutError, episode_seed, rollout
from hindsight_rl.spec import WHOLE, ActionSpec, Spec, TaskSpec, Vector

Env = gymnasium.Env[Any, Any]


class Counter(Env):
    """Lasts as many steps as its seed says, and pays the step number for action 1, 0 for 0.

    The observation is (steps left, step), always in the same buffer, as some simulators do.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(0, 100, (2,), np.float64)
        self.action_space: spaces.Space[Any] = spaces.Discrete(2)
        self.over = True

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.left, self.step_number, self.over = int(self.np_random.integers(1, 9)), 0, False
        self.buffer = np.zeros(2)
        return self._seen(), {}

    def step(self, action: Any) -> Any:
        assert not self.over, "stepped after the end"
        assert type(action) is int
        self.left, self.step_number = self.left - 1, self.step_number + 1
        self.over = self.left == 0
        reward = float(self.step_number * action)
        return self._seen(), reward, self.over, False, self._info()

    def _info(self) -> dict[str, Any]:
        return {}

    def _seen(self) -> Any:
        self.buffer[:] = self.left, self.step_number
        return self.buffer


class Telling(Counter):
    """Succeeds at step 2 only."""

    def _info(self) -> dict[str, Any]:
        return {"is_success": np.float32(self.step_number == 2)}


class Goal(Counter):
    """A goal environment; the goal is twice the number of steps left."""

    def __init__(self) -> None:
        super().__init__()
        box = spaces.Box(-100, 100, (1,), np.float64)
        self.observation_space = spaces.Dict(
            observation=self.observation_space,
            achieved_goal=box,
            desired_goal=spaces.Dict(z=box, a=spaces.Box(-100, 100, (1, 2), np.float64)),
        )

    def _seen(self) -> Any:
        here = super()._seen()
        goal = {"z": here[:1] * 2, "a": np.array([[7.0, 8.0]])}
        return {"observation": here, "achieved_goal": here[:1], "desired_goal": goal}


class StackedRows(Counter):
    """Observes a Dict without a goal."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict(
            wheel=spaces.Box(0, 100, (1, 1)), arm=spaces.Box(0, 100, (2,))
        )

    def _seen(self) -> Any:
        here = super()._seen()
        return {"wheel": np.array([[9.0]]), "arm": here}


class Drawn(Counter):
    """Draws its step number."""

    metadata = {"render_fps": 25}

    def render(self) -> Any:
        return np.full((2, 3, 3), self.step_number, np.uint8)


def ones(observation: np.ndarray) -> np.ndarray:
    """Choose action 1."""
    return np.ones(len(observation), np.int64)


def lengths(seeds: np.ndarray) -> list[int]:
    """Return how long the counters of some seeds last."""
    return [int(np.random.default_rng(int(seed)).integers(1, 9)) for seed in seeds]


@pytest.mark.parametrize("num_envs", [1, 2, 5, 20, None])
def test_returns_and_lengths_are_those_of_each_episode(num_envs: int | None) -> None:
    done = rollout(ones, Counter, episodes=20, seed=3, num_envs=num_envs)
    assert done.seeds.tolist() == [episode_seed(3, i) for i in range(20)]
    assert done.lengths.tolist() == lengths(done.seeds)
    assert done.returns.tolist() == [n * (n + 1) / 2 for n in lengths(done.seeds)]
    assert done.terminated.all() and done.successes is None and done.final_successes is None
    assert (done.env_id, done.seed) == ("Counter", 3)


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_result_does_not_depend_on_the_number_of_environments(env_id: str) -> None:
    def act(observation: np.ndarray) -> np.ndarray:
        lean = observation[:, 2]
        return (lean > 0).astype(np.int64) if env_id == "CartPole-v1" else lean[:, None]

    results = [rollout(act, env_id, episodes=7, seed=0, num_envs=n) for n in (1, 3, 7)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.returns, results[0].returns)
        np.testing.assert_array_equal(result.lengths, results[0].lengths)
    assert len(set(results[0].returns.tolist())) > 1


def test_an_episode_depends_on_its_number_and_not_on_how_many_there_are() -> None:
    few, many = (rollout(ones, Counter, episodes=n, seed=0) for n in (3, 9))
    np.testing.assert_array_equal(few.returns, many.returns[:3])


def test_seeds_differ_by_seed_and_episode() -> None:
    seeds = {episode_seed(seed, episode) for seed in range(30) for episode in range(30)}
    assert len(seeds) == 900 and all(0 <= seed < 2**31 for seed in seeds)


def test_the_policy_is_asked_for_the_playing_environments_together() -> None:
    asked = []

    def act(observation: np.ndarray) -> np.ndarray:
        assert observation.dtype == np.float32 and observation.shape[1] == 2
        asked.append(len(observation))
        return ones(observation)

    done = rollout(act, Counter, episodes=6, seed=0, num_envs=3)
    assert sum(asked) == done.lengths.sum()
    assert asked[0] == 3 and asked == sorted(asked, reverse=True)


def test_observations_are_not_views_of_the_environment() -> None:
    kept = []
    rollout(lambda seen: kept.append(seen) or ones(seen), Counter, episodes=1, seed=2)
    assert [row[0, 1] for row in kept] == list(range(len(kept))) and len(kept) > 1


def test_cut_episodes_are_not_terminated() -> None:
    done = rollout(ones, Counter, episodes=20, seed=0, max_steps=3)
    assert done.lengths.max() == 3
    assert done.terminated.tolist() == [n <= 3 for n in lengths(done.seeds)]


def test_time_limits_are_not_terminations() -> None:
    done = rollout(lambda seen: np.zeros((len(seen), 1)), "Pendulum-v1", episodes=2, seed=0)
    assert done.lengths.tolist() == [200, 200] and not done.terminated.any()


def test_success_at_any_step_and_at_the_last() -> None:
    done = rollout(ones, Telling, episodes=30, seed=0)
    counts = lengths(done.seeds)
    assert done.successes is not None and done.final_successes is not None
    assert done.successes.tolist() == [n >= 2 for n in counts]
    assert done.final_successes.tolist() == [n == 2 for n in counts]
    assert {True, False} == set(done.successes.tolist()) == set(done.final_successes.tolist())


def test_a_goal_environment_gives_observation_and_task() -> None:
    def act(observation: np.ndarray, task: np.ndarray) -> np.ndarray:
        # Of the goal's Dict 'z' comes before 'a', as the space lists them.
        assert task.dtype == np.float32
        np.testing.assert_array_equal(task[:, 0], 2 * observation[:, 0])
        np.testing.assert_array_equal(task[:, 1:], [[7.0, 8.0]] * len(task))
        return ones(observation)

    assert (rollout(act, Goal, episodes=4, seed=0).returns > 0).all()


def test_other_dicts_are_joined_in_the_order_of_the_space() -> None:
    def act(observation: np.ndarray) -> np.ndarray:
        assert observation.shape[1] == 3 and (observation[:, 0] == 9.0).all()
        return ones(observation)

    rollout(act, StackedRows, episodes=2, seed=0)


def test_a_constant_task_goes_to_every_row() -> None:
    def act(observation: np.ndarray, task: np.ndarray) -> np.ndarray:
        np.testing.assert_array_equal(task, np.full((len(observation), 2), [5.0, 6.0]))
        return ones(observation)

    rollout(act, Counter, episodes=5, seed=0, task=[5.0, 6.0])
    rollout(
        lambda seen, task: ones(seen) * (task.shape == (1, 1)), Counter, episodes=1, seed=0, task=5
    )


def test_frames_of_the_first_episode_are_handed_on() -> None:
    frames: list[tuple[int, float]] = []
    done = rollout(
        ones,
        Drawn,
        episodes=5,
        seed=0,
        num_envs=2,
        record=lambda frame, rate: frames.append((int(frame[0, 0, 0]), rate)),
    )
    assert frames == [(i, 25.0) for i in range(done.lengths[0] + 1)]


def test_environments_are_closed_also_after_an_error() -> None:
    closed = []

    class Closing(Counter):
        def close(self) -> None:
            closed.append(self)

    rollout(ones, Closing, episodes=4, seed=0, num_envs=3)
    assert len(closed) == 3
    with pytest.raises(ZeroDivisionError):
        rollout(lambda seen: 1 / 0, Closing, episodes=4, seed=0, num_envs=2)
    assert len(closed) == 5


# ---------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("env_id", "told"),
    [
        ("NoSuch-v0", "NoSuch-v0: no such environment .*name that package"),
        ("CartPole-v9", "CartPole-v9: no such environment .*`v9`"),
        ("no_such_module:X-v0", "a package it needs is missing .*no_such_module"),
        ("FrozenLake-v1", "FrozenLake-v1: observes Discrete.*a policy sees real numbers"),
    ],
)
def test_environments_that_cannot_be_made(env_id: str, told: str) -> None:
    with pytest.raises(RolloutError, match=told):
        rollout(ones, env_id, episodes=1, seed=0)


def test_a_missing_simulator_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(*words: Any, **options: Any) -> None:
        raise gymnasium.error.DependencyNotInstalled("MuJoCo is not installed")

    monkeypatch.setattr(gymnasium, "make", make)
    with pytest.raises(RolloutError, match=r'HalfCheetah-v5: .*MuJoCo.*"hindsight-rl\[mujoco\]"'):
        rollout(ones, "HalfCheetah-v5", episodes=1, seed=0)


def test_arguments_the_environment_does_not_know() -> None:
    with pytest.raises(
        RolloutError, match=r"CartPole-v1: does not take its arguments \{'gravity': 1\}"
    ):
        rollout(ones, "CartPole-v1", episodes=1, seed=0, env_kwargs={"gravity": 1})


def test_arguments_reach_the_environment() -> None:
    done = rollout(ones, "CartPole-v1", episodes=1, seed=0, env_kwargs={"max_episode_steps": 4})
    assert done.lengths.tolist() == [4]


def test_actions_no_policy_gives() -> None:
    class Odd(Counter):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = spaces.MultiDiscrete([2, 2])

    with pytest.raises(RolloutError, match=r"Odd: its actions are MultiDiscrete.*Wrap"):
        rollout(ones, Odd, episodes=1, seed=0)


def test_a_task_for_a_goal_environment() -> None:
    with pytest.raises(RolloutError, match="Goal: gives a goal at every step, so leave out"):
        rollout(ones, Goal, episodes=1, seed=0, task=[1.0])


def spec(**changes: Any) -> Spec:
    """Return the part of a spec that is checked, of a policy that fits Counter."""
    fits = Spec({WHOLE: Vector((2,))}, ActionSpec("discrete", (), n=2))
    return replace(fits, **changes)


@pytest.mark.parametrize(
    ("env", "given", "told"),
    [
        (
            Counter,
            {"observation": {WHOLE: Vector((3,))}},
            r"observes \[2\], and the policy takes \[3\]",
        ),
        (
            Counter,
            {"observation": {"camera": Vector((2,))}},
            r"shows one array, and the policy takes the entries \['camera'\]. Wrap it",
        ),
        (Goal, {}, r"gives a goal of shape \[3\], and the policy takes no task"),
        (
            Goal,
            {"task": TaskSpec((1,))},
            r"shape \[3\], and the policy takes a task of shape \[1\]",
        ),
        (Counter, {"action": ActionSpec("discrete", (), n=3)}, "one of 2 .* one of 3"),
        (
            Counter,
            {"action": ActionSpec("continuous", (1,))},
            r"takes one of 2 choices, and the policy gives real numbers \[1\]",
        ),
    ],
)
def test_a_policy_that_does_not_fit(env: Any, given: dict[str, Any], told: str) -> None:
    with pytest.raises(RolloutError, match=told):
        rollout(ones, env, episodes=1, seed=0, spec=spec(**given))


def test_a_discrete_policy_for_real_actions() -> None:
    given = spec(observation={WHOLE: Vector((3,))})
    with pytest.raises(RolloutError, match=r"takes real numbers \[1\], .* gives one of 2 choices"):
        rollout(ones, "Pendulum-v1", episodes=1, seed=0, spec=given)


def test_a_policy_of_vectors_for_actions_that_are_matrices() -> None:
    env = Counter()
    env.action_space = spaces.Box(-1, 1, (2, 2))
    with pytest.raises(RolloutError, match=r"numbers \[2, 2\], .* one of 2 choices. Wrap it: logs"):
        rollout(ones, lambda: env, episodes=1, seed=0, spec=spec())


@pytest.mark.parametrize("n", [1, 2])
def test_a_policy_that_fits(n: int) -> None:
    # A log need not show every choice, so fewer fit too.
    given = spec(action=ActionSpec("discrete", (), n=n))
    assert len(rollout(ones, Counter, episodes=1, seed=0, spec=given).lengths) == 1


@pytest.mark.parametrize("name", ["episodes", "num_envs", "max_steps"])
def test_numbers_out_of_range(name: str) -> None:
    options: dict[str, Any] = {"episodes": 1, "seed": 0} | {name: 0}
    with pytest.raises(ValueError, match=f"{name} is 0, and must be at least 1"):
        rollout(ones, Counter, **options)


def test_a_negative_seed() -> None:
    with pytest.raises(ValueError, match="seed is -1 and episode 0: neither may be negative"):
        rollout(ones, Counter, episodes=1, seed=-1)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda seen: np.ones((len(seen), 1)), r"answered with shape \[2, 1\], .* take \[2\]"),
        (lambda seen: np.ones(1), r"answered with shape \[1\]"),
        (lambda seen: np.full(len(seen), np.nan), "answered with numbers that are not finite"),
    ],
)
def test_answers_no_environment_takes(act: Callable[..., Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        rollout(act, Counter, episodes=2, seed=0)


def test_an_environment_that_cannot_be_drawn() -> None:
    class Blind(Counter):
        def render(self) -> Any:
            return None

    with pytest.raises(RolloutError, match="Blind: gives no 'rgb_array' frames"):
        rollout(ones, Blind, episodes=1, seed=0, record=lambda frame, rate: None)


def test_an_environment_whose_drawing_package_is_missing() -> None:
    class Bare(Counter):
        def render(self) -> Any:
            raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

    with pytest.raises(RolloutError, match=r"Bare: cannot be drawn \(pygame is not installed"):
        rollout(ones, Bare, episodes=1, seed=0, record=lambda frame, rate: None)


def test_a_result_cannot_be_changed() -> None:
    done = rollout(ones, Counter, episodes=1, seed=0)
    assert isinstance(done, Rollout)
    with pytest.raises(AttributeError):
        done.seed = 3  # type: ignore[misc]
