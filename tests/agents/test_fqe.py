"""FQE: targets, gradients and bounds by hand; values of processes whose truth is known."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.fqe import FQE
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import COUNTS, NEXT_POLICY_ACTION, NEXT_POLICY_PROBABILITY
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.returns import NStep, ScaleReward

NO_LAYERS = Network(hidden=())


def rows(reward: list[float], terminated: list[bool], **options: Any) -> Log:
    """Return episodes of one step each with these rewards and ends."""
    ends = torch.tensor(terminated)
    log = episode_log([1] * len(reward), reward=reward, judged=True, **options)
    return log.with_columns({("next", "terminated"): ends, ("next", "truncated"): ~ends})


def flat(log: Log, values: list[Any], targets: list[Any], **arguments: Any) -> Any:
    """Return a learner whose critics answer with given numbers everywhere, and the log's batch.

    Args:
        log: The log.
        values: Of each critic: a number, or one per choice or quantile.
        targets: Of each target critic.
        **arguments: Of the learner.
    """
    data = OfflineDataModule(log, batch_size=8)
    learner = FQE(data.spec, network=NO_LAYERS, critics=len(values), **arguments)
    batch = whole_log(learner, data)
    for critic, numbers in ((learner.critic, values), (learner.target_critic, targets)):
        critic.mean.fill_(0.0)
        critic.scale.fill_(1.0)
        for member, number in zip(critic.critic.members, numbers, strict=True):
            torch.nn.init.zeros_(member[-1].weight)
            member[-1].bias.data.copy_(
                torch.tensor(number, dtype=torch.float32).expand(member[-1].bias.shape)
            )
    return learner, batch


def test_targets_of_each_critic_and_gradients_by_hand() -> None:
    """Rewards 1 and 3, discount .5: y = 1 + .5 Q' in the first row, 3 in the last, terminal.

    Q' = 2 and 4, Q = 0 and 1: errors (2, 3) and (2, 2), squares 4, 9, 4, 4; the mean of four is
    5.25. The bias of the first has the slope -2 (2 + 3) / 4, that of the second -2 (2 + 2) / 4.
    """
    learner, batch = flat(
        rows([1.0, 3.0], [False, True]), [0.0, 1.0], [2.0, 4.0], discount=0.5, bootstrap=False
    )
    found = learner.losses(batch)
    assert found.terms["critic"].item() == pytest.approx(5.25)
    found.terms["critic"].backward()
    slopes = [member[-1].bias.grad.item() for member in learner.critic.critic.members]
    assert slopes == pytest.approx([-2.5, -2.0])
    assert found.metrics["critic/q_max"] == 1.0 and found.metrics["critic/spread"] == 0.5
    assert all(p.grad is None for p in learner.target_critic.parameters())


def test_loss_is_in_units_of_the_spread_of_returns() -> None:
    learner, batch = flat(rows([1.0, 3.0], [False, True]), [0.0], [2.0], discount=0.5)
    before = learner.eval().losses(batch).terms["critic"].item()
    assert before == pytest.approx((4 + 9) / 2)
    for critic in (learner.critic, learner.target_critic):
        critic.scale.fill_(2.0)
        critic.mean.fill_(7.0)
    # The target says 7 + 2 * 2, bounded by 3 / (1 - .5) = 6; the critic 7.
    expected = ((min(1 + 0.5 * 11, 6) - 7) ** 2 + (3 - 7) ** 2) / 2 / 4
    assert learner.losses(batch).terms["critic"].item() == pytest.approx(expected)


def test_time_limits_bootstrap_and_terminals_do_not() -> None:
    learner, batch = flat(rows([0.0, 0.0, 1.0], [True, False, True]), [0.0], [1.5], discount=0.8)
    y, _ = learner.target(batch, None)
    torch.testing.assert_close(y[0, :, 0], torch.tensor([0.0, 1.2, 1.0]))


def test_targets_lie_within_what_rewards_add_up_to() -> None:
    """Of rewards -1 and 2 at discount .5: -2 to 4."""
    for target, expected in ((100.0, [4.0, 4.0]), (-100.0, [-2.0, -2.0])):
        learner, batch = flat(rows([-1.0, 2.0], [False, False]), [0.0], [target], discount=0.5)
        y, _ = learner.target(batch, None)
        assert y[0, :, 0].tolist() == expected


def test_choices_enter_by_their_exact_sum() -> None:
    log = rows([0.0, 10.0], [False, True], discrete=True)
    chance = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    log = log.with_columns({NEXT_POLICY_PROBABILITY: chance})
    learner, batch = flat(log, [[0.0, 0.0, 0.0]], [[1.0, 2.0, 4.0]], discount=0.5)
    y, shares = learner.target(batch, None)
    torch.testing.assert_close(y[0, :, 0], torch.tensor([0.5 * 2.8, 10.0]))
    assert shares.tolist() == [[[1.0], [1.0]]]
    value = learner.value(batch["observation"], None, torch.tensor([[0.0, 1.0, 0.0]]).expand(2, 3))
    assert value.tolist() == [[0.0, 0.0]]


def test_several_actions_enter_by_their_mean() -> None:
    """Q' is the first number of the action in policy units, bounds -2 and 2: a / 2."""
    log = rows([0.0, 1.0], [False, True])
    action = torch.tensor([[[1.0, 0.0], [2.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    learner, batch = flat(
        log.with_columns({NEXT_POLICY_ACTION: action}), [0.0], [0.0], discount=0.5
    )
    for critic in (learner.critic, learner.target_critic):
        critic.critic.members[0][-1].weight.data[0, 3] = 1.0
    y, _ = learner.target(batch, None)
    torch.testing.assert_close(y[0, :, 0], torch.tensor([0.5 * 0.75, 1.0]))
    value = learner.value(batch["observation"], None, action)
    torch.testing.assert_close(value, torch.tensor([[0.75, 0.0]]))


def test_bootstrap_counts_whole_episodes_while_training_alone() -> None:
    learner, batch = flat(rows([1.0, 3.0, 0.0], [True] * 3), [0.0, 0.0], [0.0, 0.0])
    counts = episode_weights(torch.arange(3), 2)
    assert batch[COUNTS].equal(counts.T) and not counts[0].equal(counts[1])
    expected = (counts * torch.tensor([1.0, 9.0, 0.0])).mean()
    torch.testing.assert_close(learner.losses(batch).terms["critic"], expected)
    assert learner.eval().losses(batch).terms["critic"].item() == pytest.approx(10 / 3)


# --- a horizon ------------------------------------------------------------------------------------


def timed(horizon: int, **arguments: Any) -> Any:
    """Return a flat learner of an episode of four steps without an end, rewards 1, 2, 3, 4."""
    log = episode_log([4], reward=[1.0, 2.0, 3.0, 4.0], judged=True).with_columns(
        {("next", "terminated"): torch.zeros(4, dtype=torch.bool)}
    )
    return flat(log, [0.0], [1.0], horizon=horizon, **arguments)


def test_nothing_follows_the_horizon() -> None:
    """Of three steps the last has no next value; the fourth row lies beyond and does not count."""
    learner, batch = timed(3, discount=1.0)
    left = learner.critic.left(batch["step"])
    assert left.tolist() == [3, 2, 1, 0]
    y, _ = learner.target(batch, left)
    assert y[0, :3, 0].tolist() == [2.0, 3.0, 3.0]
    loss = learner.eval().losses(batch).terms["critic"]
    assert loss.item() == pytest.approx((4 + 9 + 9) / 4)
    answer = batch[NEXT_POLICY_ACTION]
    learner.critic.critic.members[0][-1].bias.data.fill_(5.0)
    assert learner.value(batch["observation"], None, answer, batch["step"]).tolist() == [
        [5.0, 5.0, 5.0, 0.0]
    ]
    with pytest.raises(ValueError, match="depend on the step of the episode: pass step"):
        learner.value(batch["observation"], None, answer)


def test_critics_know_the_steps_left() -> None:
    """The input behind observation and before action runs from -1, none left, to 1, all."""
    learner, batch = timed(4)
    member = learner.critic.critic.members[0][-1]
    assert member.in_features == 3 + 1 + 2
    member.weight.data[0, 3] = 1.0
    found = learner.critic(
        batch["observation"], batch["action"], None, learner.critic.left(batch["step"])
    )
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.5, 0.0, -0.5]]))


def test_bounds_of_a_horizon() -> None:
    learner, _ = timed(3, discount=1.0)
    assert (learner.critic.low, learner.critic.high) == (1.0, 12.0)


def test_no_discount_needs_a_horizon() -> None:
    with pytest.raises(ValueError, match="discount is 1 and there is no horizon: values .* grow"):
        FQE(data_for(FQE).spec, discount=1.0)
    assert FQE(data_for(FQE).spec, discount=1.0, horizon=5).horizon == 5


# --- quantiles ------------------------------------------------------------------------------------


def test_quantiles_by_hand() -> None:
    """Targets of one action: 1 + .5 (0, 2) = (1, 2); quantiles (0, 2) at tau 1/4, 3/4.

    Of 0: .25 * (1 + 2) / 2 = .375; of 2: errors -1 and 0: .25 * 1 / 2 = .125; the mean is .25.
    """
    log = rows([1.0, 50.0], [False, True])
    log = log.with_columns({NEXT_POLICY_ACTION: torch.zeros(2, 1, 2)})
    learner, batch = flat(log, [[0.0, 2.0]], [[0.0, 2.0]], discount=0.5, quantiles=2)
    y, shares = learner.target(batch, None)
    assert y[0, 0].tolist() == [1.0, 2.0] and shares[0, 0].tolist() == [0.5, 0.5]
    assert learner.eval().losses(batch[:1]).terms["critic"].item() == pytest.approx(0.25)
    answer = batch[NEXT_POLICY_ACTION]
    assert learner.value(batch["observation"], None, answer).tolist() == [[1.0, 1.0]]
    found = learner.value_quantiles(batch["observation"], None, answer)
    assert found.tolist() == [[[0.0, 2.0], [0.0, 2.0]]]


def test_quantiles_of_choices_are_those_of_the_mixture() -> None:
    """Choice 0 returns 0 or 2, choice 1 returns 10 or 12, each half; three quarters take the first.

    .75 / 2 lie at 0 and at 2 each: the quantiles at 1/4 and 3/4 are 0 and 2.
    """
    log = rows([0.0, 20.0], [False, True], discrete=True)
    chance = torch.tensor([[0.75, 0.25, 0.0]]).expand(2, 3)
    numbers = [0.0, 2.0, 10.0, 12.0, 0.0, 0.0]
    learner, batch = flat(
        log.with_columns({NEXT_POLICY_PROBABILITY: chance}), [numbers], [numbers],
        discount=0.5, quantiles=2,
    )  # fmt: skip
    found = learner.value_quantiles(batch["observation"], None, chance)
    assert found[0, 0].tolist() == [0.0, 2.0]
    assert learner.value(batch["observation"], None, chance)[0, 0] == pytest.approx(3.5)
    y, shares = learner.target(batch, None)
    assert y[0, 0].tolist() == [0.0, 1.0, 5.0, 6.0, 0.0, 0.0]
    assert shares[0, 0].tolist() == [0.375, 0.375, 0.125, 0.125, 0.0, 0.0]
    # Of the logged choice alone.
    taken = learner.critic(batch["observation"], torch.tensor([1, 0]), None)
    assert taken.tolist() == [[[10.0, 12.0], [0.0, 2.0]]]


def test_without_quantiles_there_are_none() -> None:
    learner, batch = flat(rows([1.0], [True]), [0.0], [0.0])
    with pytest.raises(ValueError, match=r"no quantiles were fitted: give FQE\(quantiles="):
        learner.value_quantiles(batch["observation"], None, batch[NEXT_POLICY_ACTION])


# --- values that are known ------------------------------------------------------------------------


def descend(learner: FQE, batch: TensorDict, updates: int, *, rate: float, tau: float) -> None:
    """Fit by plain gradient steps on whole batches: what is left of an error is the method's."""
    optimizer = torch.optim.SGD(learner.critic.parameters(), lr=rate)
    pairs = list(zip(learner.target_critic.parameters(), learner.critic.parameters(), strict=True))
    for _ in range(updates):
        optimizer.zero_grad()
        learner.losses(batch).terms["critic"].backward()
        optimizer.step()
        with torch.no_grad():
            for target, online in pairs:
                target.lerp_(online, tau)


def test_values_of_a_process_of_two_states() -> None:
    """A log whose shares of next states are the chances: Q of the table solves its equation."""
    up = torch.tensor([0.1, 0.8, 0.3, 0.9])  # of pairs (0, 0), (0, 1), (1, 0), (1, 1)
    pair = torch.arange(4).repeat_interleave(10)
    following = (torch.arange(10).repeat(4) >= 10 * (1 - up[pair]) - 1e-4).long()
    policy = torch.tensor([[0.2, 0.8], [0.3, 0.7]])
    one_hot = functools.partial(torch.nn.functional.one_hot, num_classes=2)
    never = torch.zeros(40, dtype=torch.bool)
    columns: dict[Any, Tensor] = {
        "observation": one_hot(pair // 2).float(),
        "action": pair % 2,
        "episode": torch.arange(40),
        ("next", "observation"): one_hot(following).float(),
        ("next", "reward"): torch.tensor([0.0, 0.0, 1.0, 0.5])[pair],
        ("next", "terminated"): never,
        ("next", "truncated"): ~never,
        NEXT_POLICY_PROBABILITY: policy[following],
    }
    log = Log.from_columns(columns, {"discrete_actions": 2})
    data = OfflineDataModule(log, batch_size=8)
    learner = FQE(data.spec, network=NO_LAYERS, discount=0.9, critics=2, bootstrap=False)
    batch = whole_log(learner, data)
    descend(learner, batch, 150, rate=1.0, tau=1.0)
    states = torch.eye(2).repeat_interleave(2, 0)
    q = learner.value(states, None, torch.eye(2).repeat(2, 1))
    expected = torch.tensor([3.735095, 4.167970, 4.858774, 4.729810])
    torch.testing.assert_close(q, expected.expand(2, 4), rtol=0, atol=1e-2)
    start = learner.value(states[:1], None, policy[:1])
    torch.testing.assert_close(start, torch.full((2, 1), 4.081395), rtol=0, atol=1e-2)


def regulator(episodes: int, steps: int) -> tuple[Log, Tensor]:
    """Return s' = .9 s + .5 a + .1 n, r = -s^2 - .1 a^2, recorded by a = -.4 s + .3 n.

    Returns:
        The log, with eight actions of a = -.6 s + .25 n in every next state; the first states.
    """
    random = torch.Generator().manual_seed(0)
    normal = functools.partial(torch.randn, generator=random)
    states, actions = [normal(episodes)], []
    for _ in range(steps):
        actions.append(-0.4 * states[-1] + 0.3 * normal(episodes))
        states.append(0.9 * states[-1] + 0.5 * actions[-1] + 0.1 * normal(episodes))
    state, following = (torch.stack(part, 1).flatten() for part in (states[:-1], states[1:]))
    action = torch.stack(actions, 1).flatten()
    ends = torch.arange(len(state)) % steps == steps - 1
    columns: dict[Any, Tensor] = {
        "observation": state[:, None],
        "action": action[:, None],
        "episode": torch.arange(len(state)) // steps,
        ("next", "observation"): following[:, None],
        ("next", "reward"): -state.square() - 0.1 * action.square(),
        ("next", "terminated"): torch.zeros_like(ends),
        ("next", "truncated"): ends,
        NEXT_POLICY_ACTION: (-0.6 * following[:, None] + 0.25 * normal(len(state), 8))[..., None],
    }
    return Log.from_columns(columns), states[0]


@pytest.mark.slow
def test_values_of_a_linear_system_for_twenty_steps(tmp_path: Path) -> None:
    """V_t = p s^2 + c by the backward recursion; over all first states it is -2.123823."""
    p = c = 0.0
    for _ in range(20):
        c = 0.95 * (p * (0.25 * 0.25**2 + 0.01) + c) - 0.1 * 0.25**2
        p = -(1.0 + 0.1 * 0.6**2) + 0.95 * p * (0.9 - 0.5 * 0.6) ** 2
    assert p + c == pytest.approx(-2.123823, abs=1e-6)
    log, first = regulator(300, 20)
    data = OfflineDataModule(log, batch_size=256)
    learner = FQE(
        data.spec, network=Network(hidden=(64, 64)), discount=0.95, horizon=20, critics=2, tau=0.02,
        learning_rates={"critic": 1e-3},
    )  # fmt: skip
    fit(learner, data, tmp_path, 1500)
    answer = -0.6 * first[:, None, None] + 0.25 * torch.randn(300, 64, 1)
    found = learner.value(first[:, None], None, answer, torch.zeros(300, dtype=torch.int64))
    exact = p * first.square() + c
    torch.testing.assert_close(found.mean(-1), exact.mean().expand(2), rtol=0, atol=0.08)
    assert float((found - exact).abs().mean()) < 0.15


# --- the log --------------------------------------------------------------------------------------


def test_unit_and_bounds_come_from_the_log_and_stay_with_the_weights() -> None:
    """Returns to go of 1, 2 at discount .5 are 2 and 2, of 4: 4."""
    data = OfflineDataModule(episode_log([2, 1], reward=[1.0, 2.0, 4.0], judged=True))
    learner = FQE(data.spec, network=NO_LAYERS, discount=0.5)
    whole_log(learner, data)
    for critic in (learner.critic, learner.target_critic):
        assert (critic.low, critic.high) == (1.0, 8.0)
        assert critic.mean.item() == pytest.approx(8 / 3)
        assert critic.scale.item() == pytest.approx((8 / 9) ** 0.5)
    other = OfflineDataModule(episode_log([2, 1], reward=[-1.0, 2.0, 9.0], judged=True))
    whole_log(learner, other)
    assert (learner.critic.low, learner.critic.high) == (-2.0, 18.0)
    assert learner.critic.mean.item() == pytest.approx(8 / 3)


def test_rewards_are_those_of_the_relabelers() -> None:
    log = episode_log([2, 1], reward=[1.0, 2.0, 4.0], judged=True)
    data = OfflineDataModule(log, [ScaleReward(2.0)])
    learner = FQE(data.spec, network=NO_LAYERS, discount=0.5)
    whole_log(learner, data)
    assert (learner.critic.low, learner.critic.high) == (2.0, 16.0)


def test_rows_of_several_steps_are_refused() -> None:
    data = OfflineDataModule(episode_log(judged=True), [NStep(3)])
    learner = learner_of(FQE, data.spec)
    with pytest.raises(ValueError, match="rewards of the log's own actions, not of the policy"):
        whole_log(learner, data)


def test_other_tasks_than_the_policy_saw_are_said() -> None:
    """Rewards of a row then differ from batch to batch: nothing bounds them."""
    data = OfflineDataModule(episode_log(goals=True, task=True, judged=True), [FutureGoal()])
    learner = learner_of(FQE, data.spec)
    with pytest.warns(UserWarning, match="relabelers give rows other tasks in every batch"):
        batch = whole_log(learner, data)
    assert learner.critic.low == -torch.inf and learner.critic.high == torch.inf
    assert torch.isfinite(learner.losses(batch).terms["critic"])


def test_seeds_share_what_is_known_of_returns(tmp_path: Path) -> None:
    """Held-out rows that are looked at before the first update change nothing."""
    ends = []
    for looks in (0, 2):
        data = data_for(FQE, validation=0.3)
        learner = learner_of(FQE, data.spec, seeds=2)
        fit(learner, data, tmp_path / str(looks), 10, num_sanity_val_steps=looks)
        assert learner.critic.measured == 1.0 and learner.critic.scale != 1.0
        ends.append([learner.critic.state_dict() for _ in learner.each_seed()])
        ends[-1] = [{k: v.clone() for k, v in part.items()} for part in ends[-1]]
    for one, two in zip(*ends, strict=True):
        assert all(one[name].equal(two[name]) for name in one)
