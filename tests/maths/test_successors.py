"""Successor features, policy improvement and named rewards: TB6, values and gradients."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.successors import (
    improved_values,
    linear_reward,
    policy_values,
    successor_target,
)

ATOL = 2e-6
DISCOUNT = 0.9
# Chain 0 -> 1 -> 2; 2 goes on for ever.
NEXT = torch.tensor([1, 2, 2])
SHARES = [[0.1, 0.09, 0.81], [0.0, 0.1, 0.9], [0.0, 0.0, 1.0]]


def f64(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor | None, expected: object, atol: float = ATOL) -> None:
    assert actual is not None
    wanted = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach(), wanted, rtol=0, atol=atol)


def chain_successors() -> Tensor:
    """Return psi ``[3, 3]`` of the chain, each state being a feature, by iterating the target."""
    psi, alive = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool)
    discount = f64(DISCOUNT, DISCOUNT, DISCOUNT)
    for _ in range(400):
        psi = successor_target(torch.eye(3).double(), alive, psi[NEXT], discount)
    return psi


# --- targets --------------------------------------------------------------------------------------


def test_successors_of_the_chain_are_its_occupancy() -> None:
    """TB6: (1 - discount) psi has rows that sum to 1, and V = psi r, not (1 - discount) psi r."""
    psi = chain_successors()
    close((1 - DISCOUNT) * psi, SHARES)
    close(psi @ f64(0, 0, 1), [8.1, 9.0, 10.0])


def test_target_ends_where_the_step_terminates_and_passes_no_gradient() -> None:
    """Features (1, 2), psi' (10, 20): (10, 20) counts 0.9 or nothing."""
    features, following = f64([1, 2], [1, 2]).requires_grad_(), f64([10, 20], [10, 20])
    found = successor_target(
        features, torch.tensor([False, True]), following.requires_grad_(), f64(0.9, 0.9)
    )
    close(found, [[10, 20], [1, 2]])
    assert not found.requires_grad


def test_each_row_has_its_own_discount() -> None:
    found = successor_target(f64([1], [1]), torch.zeros(2).bool(), f64([2], [2]), f64(0.5, 0.25))
    close(found, [[2.0], [1.5]])


def test_shapes_of_a_target_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"features \(2, 3\).*terminated \(3,\)"):
        successor_target(torch.ones(2, 3), torch.zeros(3).bool(), torch.ones(2, 3), torch.ones(2))


# --- generalised policy improvement ---------------------------------------------------------------


def two_policies() -> Tensor:
    """Return psi ``[2, 2, 2]`` of "always left" and "always right", whose features are e1 and e2.

    Left then left for ever: 10 e1. Right once, then left: e2 + 9 e1; and the mirror image.
    """
    return f64([[10, 0], [9, 1]], [[1, 9], [0, 10]])


@pytest.mark.parametrize(
    ("task", "values", "best"),
    [
        ([1.0, 0.5], [[10.0, 9.5], [5.5, 5.0]], 0),
        ([0.5, 1.0], [[5.0, 5.5], [9.5, 10.0]], 1),
    ],
)
def test_improvement_over_two_policies(
    task: list[float], values: list[list[float]], best: int
) -> None:
    """TB6: under w = (1, 0.5) it goes left and is worth 10, under (0.5, 1) right."""
    close(policy_values(two_policies(), f64(*task)), values)
    found = improved_values(two_policies().unsqueeze(0), f64(*task))
    close(found, torch.tensor(values).amax(0))
    assert found.argmax() == best and found.amax() == 10.0


def test_gradient_of_an_improved_value_is_that_of_the_policy_that_gives_it() -> None:
    """Action 0 under (1, 0.5): from policy 0 the features are (10, 0), from policy 1 nothing."""
    psi, task = two_policies().requires_grad_(), f64(1.0, 0.5).requires_grad_()
    improved_values(psi.unsqueeze(0), task)[0].backward()
    close(task.grad, [10.0, 0.0])
    close(psi.grad, [[[1.0, 0.5], [0, 0]], [[0, 0], [0, 0]]])


def test_rows_have_tasks_of_their_own() -> None:
    psi = two_policies().unsqueeze(1).expand(1, 2, 3, 2, 2)
    tasks = f64([1.0, 0.5], [0.5, 1.0], [1.0, 0.5])
    found = improved_values(psi, tasks)
    close(found, [[10, 9.5], [9.5, 10], [10, 9.5]])
    with pytest.raises(ValueError, match=r"successors \(1, 2, 3, 2, 2\).*tasks \(2, 2\)"):
        improved_values(psi, tasks[:2])


def test_of_several_estimates_the_least_counts_policy_by_policy() -> None:
    """The second estimate halves what is met: 5 and 4.75 from policy 0, and nothing is mixed."""
    psi = torch.stack([two_policies(), 0.5 * two_policies()])
    close(improved_values(psi, f64(1.0, 0.5)), [5.0, 4.75])


# --- rewards named later --------------------------------------------------------------------------

ROWS, NAMED = f64([1, 0], [0, 1], [1, 1]), f64(1, 2, 3)


def test_a_linear_reward_is_found_exactly() -> None:
    found = linear_reward(ROWS, NAMED, ridge=0.0, constant=False)
    close(found.weights, [1.0, 2.0])
    close(found.explained, 1.0)
    close(found.constant, 0.0)


def test_ridge_draws_weights_to_zero() -> None:
    """(X'X + 1) w = X'r: [[3, 1], [1, 3]] w = (4, 5), errors 1/8, 5/8 and 3/4 of variance 2/3."""
    reward = NAMED.clone().requires_grad_()
    found = linear_reward(ROWS, reward, ridge=1 / 3, constant=False)
    close(found.weights, [0.875, 1.375])
    close(found.explained, 0.515625)
    found.weights[0].backward()
    # (3, -1) / 8 times the columns of X'.
    close(reward.grad, [3 / 8, -1 / 8, 2 / 8])


def test_what_every_step_earns_is_no_preference() -> None:
    """-1 on every step and 2 for the second feature: the constant takes the first."""
    features = f64([1, 0], [0, 1], [1, 1], [0, 0])
    found = linear_reward(features, f64(-1, 1, 1, -1), ridge=0.0)
    close(found.weights, [0.0, 2.0])
    close(found.constant, -1.0)
    close(found.explained, 1.0)


def test_a_reward_that_is_not_linear_is_not_explained() -> None:
    """Exclusive or: no weights help, R^2 is 0."""
    corners = f64([0, 0], [0, 1], [1, 0], [1, 1])
    close(linear_reward(corners, f64(0, 1, 1, 0)).explained, 0.0)


def test_rows_that_name_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="all 3 labelled rewards are equal"):
        linear_reward(ROWS, f64(2, 2, 2))
    with pytest.raises(ValueError, match="the matrix of the reward is singular"):
        linear_reward(f64([1, 1], [2, 2], [3, 3]), NAMED, ridge=0.0)
    with pytest.raises(ValueError, match=r"features \(3, 2\).*reward \(2,\)"):
        linear_reward(ROWS, NAMED[:2])
