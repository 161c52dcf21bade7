"""Scores that cost less: by a critic alone, refined for some pairs, log Z from some of the rows."""

import itertools
import math

import torch
from torch import Tensor

from hindsight_rl.maths.posterior import (
    critic_scores,
    log_partition,
    refined_scores,
    transition_scores,
)


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=0, atol=2e-6)


def test_scores_by_a_converged_critic_are_those_of_a_step() -> None:
    """T1c: where Q(s, a) is the reward and the discounted next value, or the reward at an end."""
    reward, log_prob = rows([-1, 0], [-1, -1]), rows([-1, -0.5], [-0.2, -2])
    ended = torch.tensor([[False, True], [False, False]])
    value = rows([-1 - 0.99 * 5, math.nan], [-1 - 0.99 * 3, -1 - 0.99 * 9]).requires_grad_()
    close(critic_scores(reward, log_prob, value, ended), rows([-4.95, 0.5], [-3.77, -7.91]))
    found = critic_scores(reward, None, value, ended)
    close(found, rows([-5.95, 0], [-3.97, -9.91]))
    (gradient,) = torch.autograd.grad(found.sum(), value)
    assert gradient.tolist() == [[1, 0], [1, 1]]
    assert critic_scores(reward, log_prob, value, ended, entropy_scale=2.0)[1, 1].item() == -5.91


def test_refined_scores_by_hand() -> None:
    """Two pairs are known to be 1 and 3 more than the cheap scores say: the others are 2 more."""
    scores = rows([0, 10], [20, -math.inf]).unsqueeze(0).requires_grad_()
    better = rows([1, math.nan], [23, math.nan]).unsqueeze(0)
    known = torch.tensor([[[True, False], [True, False]]])
    found = refined_scores(scores, better, known)
    assert found.tolist() == [[[1, 12], [23, -math.inf]]]
    assert refined_scores(scores, better, known & False).tolist() == scores.tolist()
    shifted = refined_scores(scores + 7, better, known)
    close(shifted, found)
    (gradient,) = torch.autograd.grad(found[0, 0, 1], scores)
    assert gradient.tolist() == [[[-0.5, 1], [-0.5, 0]]]


def test_a_score_without_the_log_probability() -> None:
    options = rows([3]), None, rows([10]), torch.tensor([[False]])
    assert transition_scores(*options, discount=0.5).item() == 8.0


def test_items_that_count_for_each_task() -> None:
    """The mean of exp(score) over the items that count; -inf where none does."""
    scores = rows([1, 4, 0], [2, 5, 0], [4, 6, 0]).log()
    counted = torch.tensor([[True, False, False], [False, True, False], [True, True, False]])
    close(log_partition(scores, counted), rows([2.5, 5.5, 0.0])[0].log())
    whole = counted[:, :1].expand(3, 3)
    close(log_partition(scores, whole), log_partition(scores, counted[:, 0]))


def test_z_of_a_share_of_the_items_is_unbiased() -> None:
    """The mean over all choices of 2 of 4 items is Z of all four."""
    scores = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = []
    for chosen in itertools.combinations(range(4), 2):
        counted = torch.zeros(4, 3, dtype=torch.bool)
        counted[list(chosen)] = True
        found.append(log_partition(scores, counted).exp())
    close(torch.stack(found).mean(0), log_partition(scores).exp())
