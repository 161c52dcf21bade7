"""Whole episodes as columns: what is recorded, who decides, and what is refused."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from tiny_envs import HORIZON, Reach, Walk
from torch import Tensor

from hindsight_rl.datamodules.sources.environment import Collected, Collector
from hindsight_rl.envs import playing
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.envs.rollout import episode_seed, rollout
from hindsight_rl.logs.log import Log

WALK, REACH = "tiny_envs:Tiny/Walk-v0", "tiny_envs:Tiny/Reach-v0"


def towards(observation: Any, task: Any, draws: Tensor) -> Any:
    """Go to the goal, or right."""
    if task is None:
        return np.full((len(observation), 1), 0.5, np.float32)
    return np.clip(2 * (task - observation), -1, 1)


def bounds(found: Collected) -> list[slice]:
    """Return the rows of each episode."""
    stops = found.lengths.cumsum(0).tolist()
    return [slice(a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)]


# --- what is recorded -----------------------------------------------------------------------------


def test_rows_of_an_episode_follow_each_other() -> None:
    found = Collector(WALK, num_envs=3, seed=4).collect(towards, 0, 7, None)
    assert len(found.lengths) == 7 and found.columns["action"].unique().tolist() == [0.5]
    for rows in bounds(found):
        columns = {key: column[rows] for key, column in found.columns.items()}
        steps = torch.arange(rows.stop - rows.start)
        seen, following = columns["observation"], columns["next", "observation"]
        assert seen[1:].equal(following[:-1]) and seen[:, 1].equal(steps.float())
        assert columns["next", "reward"].equal(following[:, 0])
        ended = columns["next", "terminated"] | columns["next", "truncated"]
        assert ended.tolist() == [False] * (len(steps) - 1) + [True]
        assert bool(columns["next", "terminated"][-1]) == bool(following[-1, 0].abs() > 1.5)
    assert found.columns["observation"].dtype == torch.float32
    ends = [found.columns["next", "observation"][rows, 0].max() > 1 for rows in bounds(found)]
    assert found.successes is not None and found.successes.tolist() == [bool(end) for end in ends]
    sums = [float(found.columns["next", "reward"][rows].sum()) for rows in bounds(found)]
    np.testing.assert_allclose(found.returns, sums, rtol=1e-5)


def test_episodes_are_those_of_the_one_evaluator() -> None:
    """The same policy and seed: lengths, returns and successes of ``rollout``, for any number."""
    judged = rollout(lambda seen, task: towards(seen, task, None), REACH, episodes=9, seed=3)
    for num_envs in (1, 4, 16):
        found = Collector(REACH, seed=3, num_envs=num_envs).collect(towards, 0, 9, None)
        np.testing.assert_array_equal(found.returns, judged.returns)
        np.testing.assert_array_equal(found.lengths, judged.lengths)
        np.testing.assert_array_equal(found.successes, judged.successes)


def test_goals_are_named_as_readers_name_them() -> None:
    found = Collector(REACH).collect(None, 0, 5, None).columns
    assert found["task"].shape == found["achieved_goal"].shape == (len(found["action"]), 2)
    assert found["achieved_goal"].equal(found["observation"])
    assert found["next", "achieved_goal"].equal(found["next", "observation"])
    starts = found["observation"][:1]
    env = Reach()
    first, _ = env.reset(seed=episode_seed(0, 0))
    assert starts[0].tolist() == pytest.approx(first["observation"].tolist())
    assert found["task"][0].tolist() == pytest.approx(first["desired_goal"].tolist())


def test_every_environment_is_reset_with_the_seed_of_its_episode() -> None:
    made: list[Walk] = []

    def make() -> Walk:
        made.append(Walk())
        return made[-1]

    collector = Collector(make, seed=5, num_envs=3)
    collector.collect(None, 0, 4, None)
    collector.collect(None, 4, 3, None)
    seeds = [seed for env in made for seed in env.resets]
    assert sorted(seeds) == sorted(episode_seed(5, i) for i in range(7)) and len(made) == 3


def test_episodes_are_cut_where_one_likes() -> None:
    found = Collector(lambda: Walk(endless=True), max_episode_steps=9).collect(None, 0, 3, None)
    assert found.lengths.tolist() == [9] * 3 and not found.columns["next", "terminated"].any()
    assert found.columns["next", "truncated"].nonzero().flatten().tolist() == [8, 17, 26]


def test_nothing_is_said_of_success_where_nothing_is_told() -> None:
    assert Collector("Pendulum-v1", max_episode_steps=3).collect(None, 0, 2, None).successes is None


def test_facts_of_the_log() -> None:
    assert Collector("CartPole-v1").info == {
        "source": "CartPole-v1",
        "control_rate_hz": 50.0,
        "discrete_actions": 2,
    }
    info = Collector("Pendulum-v1").info
    assert info["action"] == {"low": [-2.0], "high": [2.0]} and info["control_rate_hz"] == 30.0


# --- who decides ----------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_random_actions_are_uniform(discrete: bool) -> None:
    """Of 600 actions: quarters of the range, or each choice, within 4 standard errors."""
    found = Collector(lambda: Walk(discrete=discrete)).collect(None, 0, 120, None)
    action = found.columns["action"].float().flatten()
    cells = action if discrete else ((action + 1) * 2).floor()
    count = 2 if discrete else 4
    share = torch.stack([(cells == cell).float().mean() for cell in range(count)])
    assert share.sum() == 1 and len(action) > 600
    assert (share - 1 / count).abs().max() < 4 * (1 / count / len(action)) ** 0.5
    assert len(action.unique()) == 2 if discrete else len(action.unique()) > 600


def test_dimensions_are_drawn_independently() -> None:
    action = Collector(REACH).collect(None, 0, 200, None).columns["action"]
    assert torch.corrcoef(action.T)[0, 1].abs() < 4 / len(action) ** 0.5


def test_a_share_of_actions_is_random() -> None:
    kept = Collector(WALK, explore=0.0).collect(towards, 0, 50, None).columns["action"]
    mixed = Collector(WALK, explore=0.25).collect(towards, 0, 200, None).columns["action"]
    assert (kept == 0.5).all()
    assert (mixed != 0.5).float().mean().item() == pytest.approx(0.25, abs=0.06)


@pytest.mark.parametrize("num_envs", [1, 5])
def test_draws_are_those_of_episode_and_step(num_envs: int) -> None:
    seen: dict[tuple[int, ...], int] = {}

    def policy(observation: Any, task: Any, draws: Tensor) -> Any:
        for words in draws.tolist():
            seen[tuple(words[1:])] = words[0]
        return towards(observation, task, draws)

    found = Collector(WALK, num_envs=num_envs).collect(policy, 7, 6, None)
    wanted = {(7 + i, t) for i, n in enumerate(found.lengths.tolist()) for t in range(n)}
    assert seen.keys() == wanted and len(set(seen.values())) == 1


class Countdown:
    """Two numbers: what is left of a return, and the episode it was drawn for."""

    initial = (5.0, -1.0)

    def start(self, log: Log, draws: Tensor) -> Tensor:
        """Return the largest reward of the log, and the number of the episode."""
        best = log.column(("next", "reward")).max()
        return torch.stack([best.expand(len(draws)), draws[:, 1].float()], dim=1)

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return what is left."""
        return torch.stack([task[:, 0] - reward, task[:, 1]], dim=1)


def test_a_command_gives_tasks_and_changes_them() -> None:
    collector = Collector(WALK, num_envs=2, command=Countdown())
    assert collector.task_shape == (2,)
    first = collector.collect(None, 0, 3, None)
    assert first.columns["task"][0].tolist() == [5.0, -1.0]
    episode = torch.arange(3).repeat_interleave(first.lengths)
    log = Log.from_columns(first.columns | {"episode": episode})
    asked: list[Any] = []

    def policy(observation: Any, task: Any, draws: Tensor) -> Any:
        asked.extend(task.tolist())
        return towards(observation, None, draws)

    found = collector.collect(policy, 3, 4, log)
    best = float(log.column(("next", "reward")).max())
    for number, rows in enumerate(bounds(found), start=3):
        task, reward = found.columns["task"][rows], found.columns["next", "reward"][rows]
        earned = torch.cat([torch.zeros(1), reward.cumsum(0)[:-1]])
        torch.testing.assert_close(task[:, 0], best - earned)
        assert (task[:, 1] == number).all()
    assert sorted(asked) == sorted(found.columns["task"].tolist())


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1: it may not be negative"),
        ({"num_envs": 0}, "num_envs is 0, it must be at least 1"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0, it must be at least 1"),
        ({"explore": -0.1}, r"explore is -0.1, it must lie in \[0, 1\]"),
    ],
)
def test_argument_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Collector(WALK, **options)


class Odd(Walk):
    """A walk with other spaces."""

    def __init__(self, observation: Any = None, action: Any = None) -> None:
        super().__init__()
        self.observation_space = observation or self.observation_space
        self.action_space = action or self.action_space


@pytest.mark.parametrize(
    ("spaces_of", "message"),
    [
        (
            {"observation": spaces.Box(0, 255, (8, 8, 3), np.uint8)},
            r"observes \[8, 8, 3\], and num",
        ),
        ({"observation": spaces.Discrete(3)}, "observes Discrete"),
        ({"action": spaces.Box(-np.inf, np.inf, (1,))}, "its actions have no bounds"),
        ({"action": spaces.MultiDiscrete([2, 3])}, "its actions are MultiDiscrete"),
    ],
)
def test_spaces_of_another_kind_are_refused(spaces_of: dict[str, Any], message: str) -> None:
    with pytest.raises(RolloutError, match=message):
        Collector(lambda: Odd(**spaces_of))


def test_no_environment() -> None:
    with pytest.raises(RolloutError, match="Nowhere-v3: no such environment"):
        Collector("Nowhere-v3")
    with pytest.raises(RolloutError, match="Pendulum-v1: does not take its arguments {'wind': 3}"):
        Collector("Pendulum-v1", {"wind": 3})


def test_episodes_without_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playing.Limit.__init__, "__defaults__", (50,))
    with pytest.warns(UserWarning, match="did not end within 50 steps .* Set max_episode_steps"):
        found = Collector(lambda: Walk(endless=True)).collect(None, 0, 2, None)
    assert found.lengths.tolist() == [50, 50] and not found.columns["next", "terminated"].any()
    assert found.columns["next", "truncated"].nonzero().flatten().tolist() == [49, 99]


def kinds(action: spaces.Space[Any]) -> Any:
    """Return what makes a walk of two steps whose actions are of another kind."""

    class Kind(Walk):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = action

        def step(self, action: Any) -> Any:
            assert self.action_space.contains(action), action
            self.time += 1
            return self._observe(), float(np.ravel(action)[0]), self.time == 2, False, {}

    return Kind


def test_what_was_executed_is_recorded() -> None:
    """The reward is the action that was sent."""
    for space, answer, wanted in (
        (spaces.Box(-10, 10, (1,), np.int64), 7.175, 7.0),
        (spaces.Box(-0.1, 0.1, (1,), np.float64), 0.1, float(np.float32(0.099999994))),
        (spaces.Box(-1.0, 1.0, (1,), np.float32), 1.0000001, 1.0),
    ):
        collector = Collector(kinds(space))

        def policy(seen: Any, *_: Any, answer: float = answer) -> Any:
            return np.full((len(seen), 1), answer, np.float32)

        found = collector.collect(policy, 0, 2, None).columns
        assert found["action"].flatten().tolist() == [wanted] * 4
        assert found["next", "reward"].tolist() == [wanted] * 4
        drawn = collector.collect(None, 0, 40, None).columns
        assert drawn["action"].flatten().equal(drawn["next", "reward"])
    make = kinds(spaces.Box(-1.0, 1.0, (1,), np.float32))
    clipping = Collector(lambda: gymnasium.wrappers.ClipAction(make()))
    assert clipping.info["action"] == {"low": [-1.0], "high": [1.0]}
    policy = lambda seen, *_: np.full((len(seen), 1), 3.5, np.float32)  # noqa: E731
    assert clipping.collect(policy, 0, 1, None).columns["action"].tolist() == [[1.0], [1.0]]


def test_random_whole_numbers_are_uniform() -> None:
    """Of 1,200 draws of 4 numbers, each a quarter within 4 standard errors: no end is halved."""
    collector = Collector(kinds(spaces.Box(-1, 2, (1,), np.int8)))
    action = collector.collect(None, 0, 600, None).columns["action"]
    share = torch.tensor([(action == number).float().mean() for number in (-1, 0, 1, 2)])
    assert share.sum() == 1 and (share - 0.25).abs().max() < 4 * (0.25 * 0.75 / 1200) ** 0.5


@pytest.mark.parametrize("start", [-1, 1])
def test_choices_that_start_elsewhere(start: int) -> None:
    collector = Collector(kinds(spaces.Discrete(3, start=start)))
    assert collector.info["discrete_actions"] == 3 and collector.info["action_start"] == start
    drawn = collector.collect(None, 0, 60, None).columns
    assert drawn["action"].unique().tolist() == [start, start + 1, start + 2]
    assert drawn["action"].float().equal(drawn["next", "reward"])


def test_numbers_that_are_none() -> None:
    message = f"'observation' is not finite in the episode with seed {episode_seed(0, 0)}. Fix"
    with pytest.raises(RolloutError, match=message):
        Collector(lambda: Walk(broken=HORIZON - 1)).collect(None, 0, 4, None)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.zeros((2, 3)), r"answered with shape \[2, 3\], and 2 environments take \[2, 1\]"),
        (np.full((2, 1), np.nan), "answered with numbers that are not finite"),
    ],
)
def test_answers_that_are_no_actions(answer: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Collector(WALK).collect(lambda *_: answer, 0, 2, None)


def test_two_givers_of_tasks() -> None:
    with pytest.raises(RolloutError, match="gives tasks of its own, so leave out command"):
        Collector(REACH, command=Countdown())


def test_environments_are_made_again_after_they_were_closed() -> None:
    collector = Collector(WALK)
    before = collector.collect(None, 0, 3, None)
    collector.close()
    collector.close()
    after = collector.collect(None, 0, 3, None)
    assert all(before.columns[key].equal(after.columns[key]) for key in before.columns)
    assert isinstance(gymnasium.make(WALK).unwrapped, Walk)
