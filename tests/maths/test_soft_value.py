"""Soft values by hand: a line of three states, all action sequences, one loop without an end."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.posterior import task_posterior
from hindsight_rl.maths.soft_value import (
    discounted_visits,
    soft_fixed_point,
    soft_values,
    state_visits,
)

HORIZON = 3
# Reward 1 in the last state, in the middle one, in the first.
TASKS = torch.eye(3, dtype=torch.float64).flip(0)


@pytest.fixture
def line() -> Tensor:
    """Three states in a row; action 0 goes left, action 1 right, walls hold."""
    found = torch.zeros(3, 2, 3, dtype=torch.float64)
    for state in range(3):
        found[state, 0, max(state - 1, 0)] = found[state, 1, min(state + 1, 2)] = 1.0
    return found


def close(found: Tensor, expected: object) -> None:
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_values_and_policy_of_a_line(line: Tensor) -> None:
    value, policy = soft_values(TASKS[0], line, HORIZON)
    expected = [
        [2.436816, 3.186959, 4.319671],
        [1.386294, 2.006409, 3.006409],
        [0.693147, 0.693147, 1.693147],
    ]
    close(value, expected)
    right = [[0.650245, 0.834811, 0.731059], [0.5, 0.731059, 0.731059], [0.5, 0.5, 0.5]]
    close(policy[..., 1], right)
    close(policy.sum(-1), [[1.0] * 3] * 3)


def test_visits_are_the_gradient_of_the_value(line: Tensor) -> None:
    reward, start = TASKS[0].clone().requires_grad_(), TASKS[2]
    value, policy = soft_values(reward, line, HORIZON)
    (gradient,) = torch.autograd.grad((start * value[0]).sum(), reward)
    visits = state_visits(policy.detach(), line, start)
    close(visits.sum(0), [1.699511, 0.825122, 0.475367])
    torch.testing.assert_close(gradient, visits.sum(0))


def test_rewards_of_actions_and_batches(line: Tensor) -> None:
    """Three tasks at once are three runs; a reward of a state is one of all its actions."""
    value, policy = soft_values(TASKS, line, HORIZON)
    assert value.shape == (3, 3, 3) and policy.shape == (3, 3, 3, 2)
    for task, reward in enumerate(TASKS):
        single = soft_values(reward.unsqueeze(-1).expand(3, 2), line, HORIZON)
        torch.testing.assert_close(value[task], single.value)
        torch.testing.assert_close(policy[task], single.policy)
    visits = state_visits(policy, line, TASKS[2])
    torch.testing.assert_close(visits[1], state_visits(policy[1], line, TASKS[2]))


def test_value_is_the_partition_function_by_which_trajectories_are_relabeled(line: Tensor) -> None:
    """The posterior over tasks of all eight action sequences, log Z by the backward recursion."""
    scores = []
    for actions in itertools.product((0, 1), repeat=HORIZON):
        state, score = 0, torch.zeros(3, dtype=torch.float64)
        for action in actions:
            score = score + TASKS[:, state]
            state = int(line[state, action].argmax())
        scores.append(score)
    items = torch.stack(scores)
    log_z = soft_values(TASKS, line, HORIZON).value[:, 0, 0]
    close(log_z, [2.436816, 2.907430, 4.319671])
    torch.testing.assert_close(torch.logsumexp(items, dim=0), log_z)
    posterior = task_posterior(items, partition=log_z)
    left, across, right = (
        [0.213642, 0.133444, 0.652914],
        [0.261631, 0.444221, 0.294148],
        [0.562818, 0.351546, 0.085636],
    )
    close(posterior, [left, left, across, across, across, across, right, right])


def test_a_loop_without_an_end() -> None:
    loop = torch.ones(1, 2, 1, dtype=torch.float64)
    reward = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    value, policy = soft_fixed_point(reward, loop, discount=0.9)
    close(value, [math.log(1.0 + math.e) / 0.1])
    close(value, [13.132617])
    close(policy, [[1.0 / (1.0 + math.e), math.e / (1.0 + math.e)]])
    step = torch.tensor([[0.0, 1e-4]], dtype=torch.float64)
    ends = [soft_fixed_point(reward + sign * step, loop, discount=0.9).value for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / 2e-4  # its visits: ten steps, of which the policy takes so many
    visits = discounted_visits(policy, loop, torch.ones(1).double(), discount=0.9)
    torch.testing.assert_close(slope, visits * policy[:, 1], rtol=0, atol=1e-5)
    single = soft_fixed_point(reward.float(), loop.float(), discount=0.9)  # ends in float32 too
    assert float(single.value) == pytest.approx(13.132617, rel=1e-5)


def test_a_long_horizon_approaches_the_fixed_point(line: Tensor) -> None:
    fixed = soft_fixed_point(TASKS, line, discount=0.8)
    finite = soft_values(TASKS, line, 120, discount=0.8)
    torch.testing.assert_close(finite.value[:, 0], fixed.value, rtol=0, atol=1e-9)
    torch.testing.assert_close(finite.policy[:, 0], fixed.policy, rtol=0, atol=1e-9)


def test_wrong_arguments_are_named(line: Tensor) -> None:
    with pytest.raises(ValueError, match=r"reward is \(4,\), it must end with \[3\] or \[3, 2\]"):
        soft_values(torch.zeros(4), line, 2)
    with pytest.raises(ValueError, match=r"transition is \(3, 2, 2\), it must be \[S, A, S\]"):
        soft_values(torch.zeros(3), line[..., :2], 2)
    with pytest.raises(ValueError, match="horizon is 0"):
        soft_values(torch.zeros(3), line, 0)
    with pytest.raises(ValueError, match="discount 1.0 must be in"):
        soft_fixed_point(torch.zeros(3), line, discount=1.0)
