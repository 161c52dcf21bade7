"""LSPI: rounds by hand on two states, the optimal controller of a linear system, features."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of, log_for, whole_log
from torch import Tensor

from hindsight_rl.agents.lspi import LSPI
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.returns import NStep
from hindsight_rl.training.checkpoints.load import load_learner

CPU = torch.device("cpu")


def single_steps(columns: dict[Any, Tensor], info: dict[str, Any]) -> Log:
    """Return a log of episodes of one step, none of which terminates."""
    rows = len(columns["observation"])
    never = torch.zeros(rows, dtype=torch.bool)
    ends = {("next", "terminated"): never, ("next", "truncated"): ~never}
    return Log.from_columns(columns | ends | {"episode": torch.arange(rows)}, info)


def two_states(choices: int = 2) -> Log:
    """Return a log of two states, two choices, whose shares of next states are the chances."""
    up = torch.tensor([0.1, 0.8, 0.3, 0.9])  # of pairs (0, 0), (0, 1), (1, 0), (1, 1)
    pair = torch.arange(4).repeat_interleave(10)
    following = (torch.arange(10).repeat(4) >= 10 * (1 - up[pair]) - 1e-4).long()
    state = torch.eye(2)
    return single_steps(
        {
            "observation": state[pair // 2],
            "action": pair % 2,
            ("next", "observation"): state[following],
            ("next", "reward"): torch.tensor([0.0, 0.0, 1.0, 0.5])[pair],
        },
        {"discrete_actions": choices},
    )


def table(folder: Path, updates: int, log: Log | None = None, **arguments: Any) -> LSPI:
    data = OfflineDataModule(two_states() if log is None else log, batch_size=8)
    learner = LSPI(data.spec, features="plain", discount=0.9, ridge=0.0, **arguments)
    fit(learner, data, folder, updates)
    return learner


def test_rounds_walk_to_the_best_policy(tmp_path: Path) -> None:
    """Policies 00, 11, 10: state 1 takes choice 0 in the end. An update is a round."""
    states = torch.eye(2)
    walked = [table(tmp_path, updates)(states).tolist() for updates in (1, 2, 3, 4)]
    assert walked == [[1, 1], [1, 0], [1, 0], [1, 0]]
    learner = table(tmp_path, 6)
    expected = torch.tensor([[4.531034, 4.965517], [5.655172, 5.527586]])
    torch.testing.assert_close(learner.scores(states), expected, rtol=0, atol=2e-5)
    assert learner.log_pass.settled and learner.log_pass.swept_at == 3
    assert learner.latest["train/critic/changed"] == 0.0
    assert learner.latest["train/critic"] == pytest.approx(0.0, abs=1e-10)
    assert 1 < learner.latest["train/critic/condition"] < 100


def test_a_policy_that_still_changes_is_said(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The third round judges 10 after 11; only the fourth sees that it stays.

    They differ in state 1, the next one of (.1 + .8 + .3 + .9) / 4 of the rows.
    """
    table(tmp_path, 3)
    assert any("actions of 52.5% of the rows changed" in str(each.message) for each in recwarn)
    recwarn.clear()
    table(tmp_path, 4)
    assert not any("rows changed in the last round" in str(each.message) for each in recwarn)


def test_a_first_policy_of_choice_0_is_judged_first(tmp_path: Path) -> None:
    """Q = r + .9 P Q of (0, 0) and (1, 0), whose rows of P are (.9, .1) and (.7, .3)."""
    chance = torch.tensor([[0.9, 0.1], [0.7, 0.3]], dtype=torch.float64)
    value = torch.linalg.solve(
        torch.eye(2, dtype=torch.float64) - 0.9 * chance,
        torch.tensor([0.0, 1.0], dtype=torch.float64),
    )
    found = table(tmp_path, 1).scores(torch.eye(2))[:, 0]
    torch.testing.assert_close(found.double(), value, rtol=0, atol=1e-5)


def test_a_settled_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    data = OfflineDataModule(two_states(), batch_size=8)
    learner = LSPI(data.spec, features="plain", discount=0.9)
    fit(learner, data, tmp_path, 2).save_checkpoint(tmp_path / "some.ckpt")
    assert load_learner(tmp_path / "some.ckpt")(torch.eye(2)).tolist() == [1, 0]
    again = LSPI(data.spec, features="plain", discount=0.9)
    fit(again, data, tmp_path, 6, ckpt_path=tmp_path / "some.ckpt")
    straight = LSPI(data.spec, features="plain", discount=0.9)
    fit(straight, data, tmp_path, 6)
    assert again.critic.theta.equal(straight.critic.theta) and again.log_pass.settled


def test_choices_that_no_row_takes_are_never_taken(tmp_path: Path) -> None:
    """All rewards are below 0, so that a value of 0 would be the best."""
    log = two_states(choices=3)
    cost = {("next", "reward"): log.column(("next", "reward")) - 2.0}
    data = OfflineDataModule(log.with_columns(cost), batch_size=8)
    learner = LSPI(data.spec, features="plain", discount=0.9)
    fit(learner, data, tmp_path, 5)
    assert learner.critic.taken.tolist() == [1.0, 1.0, 0.0]
    assert learner(torch.eye(2)).tolist() == [1, 0]
    assert learner.scores(torch.eye(2))[:, 2].max() < -1e29


def test_held_out_rows_do_not_count(tmp_path: Path) -> None:
    log = log_for(LSPI)
    data = OfflineDataModule(log, validation=0.3)
    learner = learner_of(LSPI, data.spec)
    learner.log_pass.sweep(data, 0, CPU)
    rows = data.log.drawable()
    assert learner.log_pass.columns["greedy_action"].shape == (1, len(rows), 2)
    spoilt = log.column(("next", "reward")).clone()
    spoilt[~torch.isin(torch.arange(47), rows)] = 1e6
    other = OfflineDataModule(log.with_columns({("next", "reward"): spoilt}), validation=0.3)
    twin = learner_of(LSPI, data.spec)
    twin.log_pass.sweep(other, 0, CPU)
    assert twin.solved.equal(learner.solved)


# --- real actions ---------------------------------------------------------------------------------


def regulator(bound: float = 50.0, reward_of_action: float = -0.1) -> Log:
    """Return s' = .9 s + .5 a, r = -s^2 - .1 a^2, from 200 states with random actions."""
    random = torch.Generator().manual_seed(0)
    state = torch.randn(200, 1, generator=random)
    action = -0.4 * state + 0.5 * torch.randn(200, 1, generator=random)
    reward = (-state.square() + reward_of_action * action.square()).squeeze(-1)
    columns = {
        "observation": state,
        "action": action,
        ("next", "observation"): 0.9 * state + 0.5 * action,
        ("next", "reward"): reward,
    }
    return single_steps(columns, {"action": {"low": [-bound], "high": [bound]}})


def riccati(discount: float) -> tuple[float, float]:
    """Return gain and p of the best controller: a = gain s, V = -p s^2."""
    p = 0.0
    for _ in range(500):
        across = discount * p * 0.9 * 0.5
        gain = -across / (0.1 + discount * p * 0.25)
        p = 1.0 + discount * p * 0.81 + across * gain
    return gain, p


def test_the_optimal_controller_of_a_linear_system(tmp_path: Path) -> None:
    """From the mean action rounds end at the solution of Riccati's equation, and so do values."""
    gain, p = riccati(0.95)
    data = OfflineDataModule(regulator(), batch_size=8)
    learner = LSPI(data.spec, discount=0.95)
    fit(learner, data, tmp_path, 20)
    state = torch.tensor([[-2.0], [0.0], [0.5], [3.0]])
    torch.testing.assert_close(learner(state), gain * state, rtol=0, atol=2e-3)
    value = learner.critic(state, gain * state)
    torch.testing.assert_close(value, -p * state.square().squeeze(-1), rtol=2e-3, atol=5e-3)
    assert learner.log_pass.settled and learner.log_pass.swept_at < 10


def test_real_actions_keep_their_bounds(tmp_path: Path) -> None:
    gain, _ = riccati(0.95)
    log = regulator(bound=2.5)
    assert abs(gain) * 3.0 > 2.5
    data = OfflineDataModule(log, batch_size=8)
    learner = LSPI(data.spec, discount=0.95)
    fit(learner, data, tmp_path, 20)
    assert learner(torch.tensor([[3.0], [-9.0]])).tolist() == [[-2.5], [2.5]]


def test_values_without_a_maximum_are_refused(tmp_path: Path) -> None:
    data = OfflineDataModule(regulator(reward_of_action=0.1), batch_size=8)
    learner = LSPI(data.spec, discount=0.0)
    with pytest.raises(ValueError, match=r"values are not concave in the action \(largest second"):
        fit(learner, data, tmp_path, 1)


def test_real_actions_take_quadratic_features() -> None:
    spec = OfflineDataModule(regulator()).spec
    for features in ("plain", "fourier"):
        with pytest.raises(ValueError, match=f"features is '{features}', and actions are real"):
            LSPI(spec, features=features)


# --- features -------------------------------------------------------------------------------------


def test_cosines_stand_for_a_kernel() -> None:
    """phi(x)' phi(y), the constant taken off, is exp(-|x - y|^2 / 2), to 1 / sqrt(count)."""
    spec = OfflineDataModule(episode_log(discrete=True)).spec
    critic = LSPI(spec, features="fourier", count=8192).critic
    mean, std = (torch.tensor(numbers) for numbers in spec.vector.statistics)
    points = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, -0.5, 1.0]])
    features = critic.state_features(mean + std * points, None)
    assert features.shape == (3, 8193) and bool((features[:, 0] == 1).all())
    found = features[:, 1:] @ features[:, 1:].T
    distance = torch.cdist(points, points).square()
    torch.testing.assert_close(found, torch.exp(-distance / 2), rtol=0, atol=0.05)
    again = LSPI(spec, features="fourier", count=8192).critic
    assert again.frequency.equal(critic.frequency) and again.phase.equal(critic.phase)
    wide = LSPI(spec, features="fourier", count=8, bandwidth=4.0).critic.frequency
    torch.testing.assert_close(wide, critic.frequency[:8] / 4.0)


def test_features_of_a_pair_give_the_values_of_its_choice() -> None:
    data = OfflineDataModule(log_for(LSPI, discrete=True, task=True))
    for features in ("plain", "quadratic", "fourier"):
        critic = learner_of(LSPI, data.spec, features=features, count=7).critic
        torch.nn.init.normal_(critic.theta)
        batch = whole_log(learner_of(LSPI, data.spec), data)
        seen = batch["observation"], batch["action"], batch["task"]
        phi = critic.features(*seen)
        assert phi.shape == (47, 3 * critic.width)
        torch.testing.assert_close(phi @ critic.theta.flatten(), critic(*seen))
        every = critic.values(seen[0], seen[2])
        torch.testing.assert_close(critic(*seen), every.gather(1, seen[1][:, None])[:, 0])


def test_a_log_that_does_not_determine_values_is_refused(tmp_path: Path) -> None:
    """A constant and one-hot states are the same number twice."""
    data = OfflineDataModule(two_states(), batch_size=8)
    learner = LSPI(data.spec, features="quadratic", ridge=0.0)
    with pytest.raises(ValueError, match="matrix of LSPI is singular .* a ridge such as 1e-6"):
        fit(learner, data, tmp_path, 1)


def test_rows_of_several_steps_are_refused(tmp_path: Path) -> None:
    data = OfflineDataModule(two_states(), [NStep(2)], batch_size=8)
    with pytest.raises(ValueError, match="rewards of the log's own actions, not of the greedy"):
        fit(LSPI(data.spec, features="plain"), data, tmp_path, 1)


def test_half_the_squared_distance_is_the_loss() -> None:
    data = OfflineDataModule(two_states(), batch_size=8)
    learner = LSPI(data.spec, features="plain")
    batch = whole_log(learner, data)
    learner.solved.copy_(torch.tensor([[1.0, 2.0], [0.0, -2.0]]))
    loss = learner.losses(batch).terms["critic"]
    assert loss.item() == pytest.approx(4.5)
    loss.backward()
    assert learner.critic.theta.grad.equal(-learner.solved)
    # Values of 0 leave the rewards: of four kinds of rows, each a quarter.
    assert learner.losses(batch).metrics["critic/error"].item() == pytest.approx(1.25 / 4)
    assert math.isfinite(float(learner.losses(batch).metrics["critic/condition"]))
