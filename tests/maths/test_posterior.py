"""The task posterior: closed forms, Lemma 1, shifts, tasks without support, draws."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from hindsight_rl.maths.draws import counters, uniform
from hindsight_rl.maths.posterior import (
    log_partition,
    posterior_metrics,
    sample_tasks,
    task_posterior,
    transition_scores,
)

THREE = [[10, 2, 0], [9, 4, 1], [8, 3, 3]]
scores_of = arrays(
    "float64", st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=st.floats(-30, 30)
)


def relabeling_objective(posterior: Tensor, scores: Tensor, log_z: Tensor) -> Tensor:
    """Return what relabeling maximises, minus the divergence of eq. 6 up to a constant.

    J(q) = mean over items of sum over tasks of q * (score - log Z - log q); Lemma 1 says that the
    posterior (equal priors) has the largest.

    Args:
        posterior: ``[B, N]``, any assignment of tasks to items.
        scores: ``[B, N]``, nats.
        log_z: ``[N]``, nats.

    Returns:
        ``[]``, nats.
    """
    gain = torch.where(posterior > 0, posterior * (scores - log_z), 0.0)
    entropy = -torch.special.xlogy(posterior, posterior)
    return torch.mean((gain + entropy).sum(dim=-1))


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(one: Tensor, two: Tensor) -> None:
    torch.testing.assert_close(one, two, rtol=0, atol=2e-6)


# --- closed forms ---------------------------------------------------------------------------------


def test_posterior_of_three_trajectories() -> None:
    """T1: argmax 0, 1, 2 with log Z; without it the task with the largest rewards takes all."""
    scores = rows(*THREE)
    close(log_partition(scores), rows([9.308994, 3.308994, 2.071234])[0])
    with_z = rows(
        [0.834386, 0.112922, 0.052692],
        [0.238954, 0.649545, 0.111501],
        [0.076391, 0.207652, 0.715958],
    )
    close(task_posterior(scores), with_z)
    close(task_posterior(scores, partition=log_partition(scores) + math.log(3)), with_z)
    without = rows(
        [0.999619, 0.000335, 0.000045],
        [0.992976, 0.006691, 0.000333],
        [0.986703, 0.006648, 0.006648],
    )
    close(task_posterior(scores, partition=False), without)
    prior = rows(
        [0.909717, 0.061558, 0.028724],
        [0.385735, 0.524269, 0.089996],
        [0.141939, 0.192915, 0.665147],
    )
    close(task_posterior(scores, rows([0.5, 0.25, 0.25])[0].log()), prior)


def test_a_constant_added_to_a_task_changes_nothing_with_log_z_and_much_without() -> None:
    """T1, Fig. 8 in one line."""
    scores = rows(*THREE)
    shifted = scores + rows([5, 0, 0])
    close(task_posterior(shifted), task_posterior(scores))
    without = rows(
        [0.999997, 0.000002, 0.000000],
        [0.999952, 0.000045, 0.000002],
        [0.999909, 0.000045, 0.000045],
    )
    close(task_posterior(shifted, partition=False), without)


def test_two_tasks_of_different_scale() -> None:
    """T1b, Fig. 2."""
    scores = rows([10, 1], [8, 3])
    close(log_partition(scores) + math.log(2), rows([10.126928, 3.126928])[0])
    close(task_posterior(scores), rows([0.880797, 0.119203], [0.119203, 0.880797]))
    close(task_posterior(scores, partition=False), rows([0.999877, 0.000123], [0.993307, 0.006693]))


def test_posterior_of_transitions() -> None:
    """T1c, the published code's form."""
    scores = transition_scores(
        rows([-1, 0], [-1, -1]),
        rows([-1, -0.5], [-0.2, -2]),
        rows([-5, -7], [-3, -9]),
        torch.tensor([[False, True], [False, False]]),
        discount=0.99,
    )
    close(scores, rows([-4.95, 0.5], [-3.77, -7.91]))
    normalised = scores - log_partition(scores) - math.log(2)
    close(normalised, rows([-1.447948, -0.000223], [-0.267948, -8.410223]))
    close(task_posterior(scores), rows([0.190352, 0.809648], [0.999709, 0.000291]))


def test_entropy_scale_weighs_the_log_probability() -> None:
    options = (rows([-1]), rows([-2]), rows([10]), torch.tensor([[False]]))
    values = [
        transition_scores(*options, discount=0.5, entropy_scale=s).item() for s in (0, 0.5, 1)
    ]
    assert values == [4, 5, 6]


def test_value_after_the_end_counts_for_nothing_be_it_nan() -> None:
    ended = torch.tensor([[True]])
    assert transition_scores(rows([3]), rows([0]), rows([math.nan]), ended, discount=1).item() == 3


def test_posterior_of_linear_tasks() -> None:
    """T1d: the score is the inner product of feature sums and weights."""
    features = 5 * rows([1, 0], [0, 1], [0.5, 0.5])
    scores = features @ rows([1, 0], [0, 1], [-1, 0]).T
    close(log_partition(scores) + math.log(3), rows([5.085097, 5.085097, 0.085097])[0])
    expected = rows(
        [0.986703, 0.006648, 0.006648], [0.003358, 0.498321, 0.498321], [1 / 3, 1 / 3, 1 / 3]
    )
    close(task_posterior(scores), expected)


@pytest.mark.parametrize(
    ("cost", "log_z", "first", "rest"),
    [
        (1, [0.551445, 0.861995], [0.787605, 0.212395], [0.334155, 0.665845]),
        (5, [0.013386, 0.696510], [0.996609, 0.003391], [0.013166, 0.986834]),
        (50, [0, 0.693147], [1, 0], [0, 1]),
    ],
)
def test_final_goals_are_the_limit_of_a_terminal_cost(
    cost: float, log_z: list[float], first: list[float], rest: list[float]
) -> None:
    """T7: -c unless the final state is the goal; trajectories end at goals 0, 1 and 1."""
    scores = -cost * rows([0, 1], [1, 0], [1, 0])
    close(log_partition(scores) + math.log(3), rows(log_z)[0])
    close(task_posterior(scores), rows(first, rest, rest))


def test_crossing_gridworld() -> None:
    """T8: before the crossing a transition serves both goals, behind it only its own."""
    scores = rows([-3, -3], [-2, -2], [-1, -20], [0, -20], [-3, -3], [-2, -2], [-20, -1], [-20, 0])
    close(log_partition(scores) + math.log(8), rows([0.552806, 0.552806])[0])
    half, own = [0.5, 0.5], [1.0, 0.0]
    expected = rows(half, half, own, own, half, half, own[::-1], own[::-1])
    torch.testing.assert_close(task_posterior(scores), expected, rtol=0, atol=1e-7)


def test_gradient_of_the_posterior() -> None:
    """Of p = softmax(s_i - log Z): dp_ij / ds_ij = p_ij (1 - p_ij) (1 - w_ij), w the column's."""
    scores = rows(*THREE).requires_grad_()
    posterior = task_posterior(scores)
    share = torch.softmax(scores.detach(), dim=0)
    expected = posterior.detach() * (1 - posterior.detach()) * (1 - share)
    for i in range(3):
        for j in range(3):
            (gradient,) = torch.autograd.grad(posterior[i, j], scores, retain_graph=True)
            close(gradient[i, j], expected[i, j])


# --- properties -----------------------------------------------------------------------------------


@given(scores_of, st.integers(0, 2**31), st.floats(0.1, 10))
def test_relabeling_never_increases_the_divergence(array: object, seed: int, spread: float) -> None:
    """Lemma 1, with priors as part of the scores: no other assignment has a larger objective."""
    scores = torch.tensor(array)
    generator = torch.Generator().manual_seed(seed)
    log_prior = torch.log_softmax(
        spread * torch.randn(scores.shape[1], generator=generator), 0
    ).double()
    log_z = log_partition(scores)
    best = relabeling_objective(task_posterior(scores, log_prior), scores + log_prior, log_z)
    other = torch.softmax(spread * torch.randn(scores.shape, generator=generator), 1).double()
    hard = torch.nn.functional.one_hot(other.argmax(1), scores.shape[1]).double()
    for assignment in (other, hard):
        assert best >= relabeling_objective(assignment, scores + log_prior, log_z) - 1e-9


def test_objective_by_hand() -> None:
    """T1 with the sum form of log Z."""
    scores = rows(*THREE)
    log_z = log_partition(scores) + math.log(3)
    best = relabeling_objective(task_posterior(scores), scores, log_z)
    close(best, torch.tensor(-0.012794, dtype=torch.float64))
    hard = relabeling_objective(torch.eye(3, dtype=torch.float64), scores, log_z)
    close(hard, torch.tensor(-0.328353, dtype=torch.float64))


@given(scores_of, st.integers(0, 2**31))
def test_constants_per_task_cancel(array: object, seed: int) -> None:
    scores = torch.tensor(array)
    constant = 100 * torch.rand(scores.shape[1], generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(task_posterior(scores + constant), task_posterior(scores))


@given(scores_of)
def test_rows_are_probabilities_and_their_order_is_free(array: object) -> None:
    scores = torch.tensor(array)
    posterior = task_posterior(scores)
    torch.testing.assert_close(posterior.sum(1), torch.ones(len(scores), dtype=torch.float64))
    torch.testing.assert_close(task_posterior(scores.flip(0)), posterior.flip(0))


def test_temperature_sharpens_and_flattens() -> None:
    scores = rows(*THREE)
    cold, plain, warm = (task_posterior(scores, temperature=t) for t in (0.01, 1.0, 1e6))
    close(cold, torch.eye(3, dtype=torch.float64))
    assert 1 / 3 < warm.max() < 1 / 3 + 1e-4 < plain.max()
    with pytest.raises(ValueError, match="temperature is 0, it must be above 0"):
        task_posterior(scores, temperature=0)


# --- what has no support --------------------------------------------------------------------------


def test_padded_items_do_not_count() -> None:
    scores = rows(*THREE, [100, -100, 7])
    mask = torch.tensor([True, True, True, False])
    close(task_posterior(scores, mask=mask)[:3], task_posterior(rows(*THREE)))
    close(log_partition(scores, mask), log_partition(rows(*THREE)))


def test_tasks_without_support_are_never_chosen() -> None:
    scores = rows(*THREE)
    dead = torch.cat([scores, torch.full((3, 1), -math.inf, dtype=torch.float64)], dim=1)
    posterior = task_posterior(dead)
    close(posterior[:, :3], task_posterior(scores))
    assert bool((posterior[:, 3] == 0).all())


def test_an_item_that_is_impossible_everywhere_keeps_the_prior() -> None:
    scores = rows([1, 2, -math.inf], [-math.inf, -math.inf, -math.inf])
    posterior = task_posterior(scores, rows([0.25, 0.5, 0.25])[0].log())
    close(posterior[1], rows([1 / 3, 2 / 3, 0])[0])
    assert bool(torch.isfinite(posterior).all())


def test_nothing_possible_at_all_is_not_nan_where_the_partition_is_left_out() -> None:
    posterior = task_posterior(torch.full((2, 4), -math.inf), partition=False)
    assert bool((posterior == 0.25).all())


# --- several updates at once ----------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("prior", [None, "fixed", "each"])
def test_leading_dimensions_are_a_loop(masked: bool, known: bool, prior: str | None) -> None:
    """``[K, S, B, N]`` gives what each ``[B, N]`` gives by itself; log Z is never shared."""
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(2, 3, 6, 4, generator=generator, dtype=torch.float64)
    scores[0, 1, :, 2] = -math.inf  # a task without support
    scores[1, 2, 3] = -math.inf  # an item without a task
    mask = torch.rand(2, 3, 6, generator=generator) < 0.7 if masked else None
    if mask is not None:
        mask[1, 0] = False  # an update that counts nothing
    shape = {"fixed": (4,), "each": (2, 3, 6, 4)}
    log_prior = None if prior is None else torch.randn(shape[prior], generator=generator).double()
    log_z = log_partition(scores, mask)
    found = task_posterior(scores, log_prior, partition=log_z if known else True, mask=mask)
    assert log_z.shape == (2, 3, 4) and found.shape == scores.shape
    assert bool(torch.isfinite(found).all())
    for at in [(k, s) for k in range(2) for s in range(3)]:
        alone = None if mask is None else mask[at]
        own = log_prior[at] if prior == "each" and log_prior is not None else log_prior
        torch.testing.assert_close(log_z[at], log_partition(scores[at], alone))
        partition = log_z[at] if known else True
        expected = task_posterior(scores[at], own, partition=partition, mask=alone)
        torch.testing.assert_close(found[at], expected)


def test_items_keep_the_prior_where_no_task_has_support() -> None:
    """No item counts, or none is possible: log Z is -inf, and no number is NaN."""
    prior = rows([0.25, 0.5, 0.25])
    impossible = torch.full((3, 3), -math.inf, dtype=torch.float64)
    none = torch.zeros(3, dtype=torch.bool)
    for scores, mask in ((rows(*THREE), none), (impossible, None), (impossible, none)):
        assert log_partition(scores, mask).tolist() == [-math.inf] * 3
        close(task_posterior(scores, prior[0].log(), mask=mask), prior.expand(3, 3))


# --- draws ----------------------------------------------------------------------------------------


def test_tasks_are_drawn_from_the_posterior() -> None:
    posterior = rows([0.1, 0.0, 0.6, 0.3])
    draws = uniform(counters(0, torch.arange(1), torch.arange(20_000)))[0]
    drawn = sample_tasks(posterior.expand(20_000, 4), draws)
    share = torch.bincount(drawn, minlength=4) / 20_000
    assert share[1] == 0 and torch.allclose(share.double(), posterior[0], atol=0.015)


@given(scores_of, st.floats(0, 1, exclude_max=True, width=32))
def test_no_draw_leaves_the_tasks_or_hits_one_of_probability_zero(
    array: object, level: float
) -> None:
    posterior = task_posterior(torch.tensor(array)).float()
    drawn = sample_tasks(posterior, torch.full((len(posterior),), level))
    assert bool((posterior.gather(1, drawn[:, None]) > 0).all())


def test_metrics_by_hand() -> None:
    """Two sure items of one task and two undecided ones: shares 3/4 and 1/4.

    As served the first task has 3^2 / (1 + 1 + 1/4 + 1/4) = 3.6 items, the second 1 / (1/2) = 2:
    2.8 of 4 in the mean.
    """
    found = posterior_metrics(rows([1, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]))
    assert found["entropy"].item() == pytest.approx(math.log(2) / 2)
    assert found["effective_tasks"].item() == pytest.approx(1 / (0.75**2 + 0.25**2))
    assert found["effective_share"].item() == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("posterior", "share"),
    [
        ([[0.5, 0.5], [0.5, 0.5]], 1.0),  # all items, equally
        ([[1.0, 0.0], [0.0, 1.0]], 0.5),  # one of two for each task
        ([[1.0, 0.0], [1.0, 0.0]], 1.0),  # a task that nothing serves is not asked
        ([[1.0, 1e-30], [1.0, 1e-30]], 1.0),  # squares below the smallest float32
    ],
)
def test_effective_share_of_the_items(posterior: list[list[float]], share: float) -> None:
    found = posterior_metrics(torch.tensor(posterior))["effective_share"].item()
    assert found == pytest.approx(share)
