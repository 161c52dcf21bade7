"""The estimate by a model: a regulator in closed form, members, ends, a fitted ensemble, errors."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from numpy.typing import NDArray
from regulator import BEHAVIOR, DISCOUNT, HORIZON, JUDGED, exact, recorded
from small_fits import fit
from torch import Tensor

from hindsight_rl import BC, Dynamics, Fitting, Question, judge
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.ope.modelled import steps_of, with_members
from hindsight_rl.intervals import student_quantile
from hindsight_rl.keys import ACTION, EPISODE, NEXT_OBSERVATION, OBSERVATION, REWARD
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Imagined

SHORT = Fitting(updates=20, behavior_updates=20, hidden=(8,), members=2, batch_size=32)
GAIN = JUDGED[0]


def regulator_log(episodes: int, seed: int = 0) -> Log:
    """Return what the regulator's behavior recorded, 20 steps an episode."""
    state, action, reward = (part.float() for part in recorded(episodes, seed))
    rows = episodes * HORIZON
    columns = {
        OBSERVATION: state[:, :-1].reshape(rows, 1),
        ACTION: action.reshape(rows, 1),
        NEXT_OBSERVATION: state[:, 1:].reshape(rows, 1),
        REWARD: reward.reshape(rows),
        ("next", "terminated"): torch.zeros(rows, dtype=torch.bool),
        ("next", "truncated"): torch.arange(rows) % HORIZON == HORIZON - 1,
        EPISODE: torch.arange(episodes).repeat_interleave(HORIZON),
    }
    return Log.from_columns(columns)


def proportional(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the action of the regulator without its noise."""
    return (GAIN * observation).astype(np.float32)


def with_task(observation: NDArray[np.float32], task: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the same, whatever the task."""
    return proportional(observation)


def true_world(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return the regulator's own step, with its noise where there are draws."""
    noise = torch.zeros_like(observation) if draws is None else normals(draws, 1)
    following = 0.9 * observation + 0.5 * action + 0.1 * noise
    reward = -(observation.square() + 0.1 * action.square()).squeeze(-1)
    return Imagined(following, reward, torch.zeros_like(reward, dtype=torch.bool), 0.0 * reward)


def still_world(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return the regulator's step without noise."""
    return true_world(observation, action)


ASKED = Question(
    discount=DISCOUNT, horizon=HORIZON, methods=("model",), by="model", model=still_world,
    fitting=SHORT,
)  # fmt: skip


def closed_form(log: Log, noise: float) -> float:
    """Return mean V_0 over the log's first states; the noise enters by the constant alone."""
    p, c = exact((GAIN, 0.0))[0]
    first = log.column(OBSERVATION)[::HORIZON].double()
    return float((p * first.square()).mean()) + noise * c


def test_a_known_world_gives_the_closed_form() -> None:
    """Without noise to rounding; V(s) = p s^2 then, and the mean over first states is exact."""
    log = regulator_log(60)
    row = judge([proportional], log, ASKED).policies[0].estimate("model")
    assert row is not None
    assert row.value == pytest.approx(closed_form(log, 0.0), rel=1e-5)
    assert "has one member" in row.warnings[0]


def test_luck_of_the_model_averages_out() -> None:
    """With its noise within the interval, whose width is that of 800 episodes."""
    log = regulator_log(800, seed=1)
    asked = dataclasses.replace(ASKED, model=true_world)
    row = judge([proportional], log, asked).policies[0].estimate("model")
    assert row is not None
    low, high = row.interval
    assert low < closed_form(log, 1.0) < high
    assert row.value == pytest.approx(closed_form(log, 1.0), abs=0.03)


def test_a_fitted_ensemble_is_near_the_closed_form(tmp_path: Path) -> None:
    """Five times nearer than the return of the log; the interval has members in it."""
    log = regulator_log(200, seed=2)
    data = OfflineDataModule(log, batch_size=256)
    network = Network(hidden=(32, 32))
    world = Dynamics(data.spec, network=network, members=4, elites=3, termination="none")
    fit(world, data, tmp_path, 1500)
    found = judge([proportional], log, dataclasses.replace(ASKED, model=world.eval()))
    row = found.policies[0].estimate("model")
    assert row is not None and not row.warnings
    truth = closed_form(log, 1.0)
    assert abs(row.value - truth) < 0.2 * abs(found.logged - truth)
    assert row.interval.low < truth < row.interval.high


def test_policies_share_their_luck_and_are_ranked() -> None:
    """A regulator that does nothing is worse than one that regulates, in every resample."""
    asked = dataclasses.replace(ASKED, model=true_world)
    found = judge([proportional, np.zeros_like], regulator_log(80), asked, names=["on", "off"])
    assert found.chosen == "on" and found.ranking is not None
    on, off = (one.estimate("model") for one in found.policies)
    assert on is not None and off is not None
    assert bool((on.resampled > off.resampled).all())
    assert found.ranking.gaps[1].low > 0


def test_what_the_behavior_earned_is_the_return_of_the_log() -> None:
    """The recorder, as a policy that draws, in its own world: the log's return, about."""
    log = regulator_log(800, seed=3)
    random = np.random.default_rng(0)

    def behavior(observation: NDArray[np.float32]) -> NDArray[np.float32]:
        noise = random.standard_normal(observation.shape)
        return (BEHAVIOR[0] * observation + BEHAVIOR[1] * noise).astype(np.float32)

    found = judge([behavior], log, dataclasses.replace(ASKED, model=true_world))
    row = found.policies[0].estimate("model")
    assert row is not None and row.value == pytest.approx(found.logged, abs=0.1)


# --- members, ends, steps -------------------------------------------------------------------------


def test_members_and_episodes_are_both_in_the_interval() -> None:
    """Members' means 1 and 3, episodes' 1.5 and 2.5: variances 2 and 0.5 / 2, one freedom."""
    value, (low, high) = with_members(torch.tensor([[0.5, 1.5], [2.5, 3.5]]).double())
    half = student_quantile(0.975, 1) * math.sqrt(2.0 + 0.25)
    assert value == 2.0 and (low, high) == pytest.approx((2 - half, 2 + half))


def test_one_member_has_the_interval_of_its_episodes() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0, 6.0]]).double()
    value, (low, high) = with_members(returns)
    half = student_quantile(0.975, 3) * float(returns.std()) / 2
    assert value == 3.0 and (low, high) == pytest.approx((3 - half, 3 + half))


def ends_below(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Return a world that loses 1 and pays 1 a step, and ends at 0 or below."""
    following = observation - 1.0
    over = following[..., 0] <= 0
    return Imagined(following, torch.ones_like(over).float(), over, torch.zeros(over.shape))


def test_episodes_end_where_the_model_says() -> None:
    """From 1, 2 and 3: 1, 1.5 and 1.75 at discount 1/2, however long the horizon."""
    log = episode_log((1, 1, 1))
    seen = torch.tensor([[1.0], [2.0], [3.0]]) * torch.ones(1, 3)
    log = log.with_columns({OBSERVATION: seen, REWARD: torch.tensor([1.0, 2.0, 3.0])})
    asked = dataclasses.replace(ASKED, model=ends_below, discount=0.5, horizon=None)
    act = lambda observation: np.zeros((len(observation), 2), np.float32)  # noqa: E731
    row = judge([act], log, asked).policies[0].estimate("model")
    assert row is not None and row.value == pytest.approx((1.0 + 1.5 + 1.75) / 3)


def test_a_policy_of_a_checkpoint_is_played(tmp_path: Path) -> None:
    """A learner, asked in states that are in no log."""
    log = regulator_log(30)
    data = OfflineDataModule(log)
    learner = BC(data.spec, network=Network(hidden=(8,)), head="deterministic")
    fit(learner, data, tmp_path, 20).save_checkpoint(tmp_path / "bc.ckpt")
    path = tmp_path / "bc.ckpt"
    row = judge([str(path)], log, ASKED).policies[0].estimate("model")
    assert row is not None
    state, total = log.column(OBSERVATION)[::HORIZON], torch.zeros(30)
    for step in range(HORIZON):
        with torch.no_grad():
            action = learner.eval()(state)
        now = still_world(state, action)
        state, total = now.next_observation, total + DISCOUNT**step * now.reward
    assert row.value == pytest.approx(float(total.mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("discount", "horizon", "steps"),
    [(0.99, None, 459), (0.5, None, 7), (0.0, None, 1), (1.0, 9, 9)],
)
def test_without_a_horizon_next_to_nothing_is_left_out(
    discount: float, horizon: int | None, steps: int
) -> None:
    assert steps_of(dataclasses.replace(ASKED, discount=discount, horizon=horizon)) == steps


# --- what is said and refused ---------------------------------------------------------------------


def test_steps_where_members_disagree_are_said() -> None:
    """The model says 1 where the log never was."""

    def unsure(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        known = true_world(observation, action, draws)
        return known._replace(disagreement=(observation[..., 0].abs() > 10).float())

    log = regulator_log(40)
    far = lambda observation: np.full_like(observation, 100.0)  # noqa: E731
    asked = dataclasses.replace(ASKED, model=unsure)
    row = judge([far], log, asked).policies[0].estimate("model")
    assert row is not None and "members disagree more than in 99% of the logged" in row.warnings[1]


def test_what_a_model_cannot_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'model' plays the policy in a model of the world: give"):
        Question(methods=("model",), by="model")
    log = regulator_log(10)
    with pytest.raises(LogError, match="the log has tasks, and a model's rewards do not look"):
        judge([with_task], log.with_columns({"task": torch.zeros(len(log), 1)}), ASKED)
    other = OfflineDataModule(episode_log())
    world = Dynamics(other.spec, network=Network(hidden=(8,)), termination="none").eval()
    with pytest.raises(ValueError, match=r"the model: its observation is observation \[3\]"):
        judge([proportional], log, dataclasses.replace(ASKED, model=world))

    def broken(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        return true_world(observation, action)._replace(reward=torch.full((len(action),), math.nan))

    with pytest.raises(ValueError, match="imagines numbers that are not finite at step 0"):
        judge([proportional], log, dataclasses.replace(ASKED, model=broken))
