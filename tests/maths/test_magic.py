"""MAGIC: shares of the least squared error, and resamples that choose them anew."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths import magic as module
from hindsight_rl.maths.doubly_robust import weighted_doubly_robust
from hindsight_rl.maths.intervals import percentile, resample, student
from hindsight_rl.maths.magic import least_on_simplex, magic, magic_weights

DISCOUNT = 0.9
Given = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ([[1.0, 0.0], [0.0, 4.0]], [0.8, 0.2]),  # by the inverse of the variances
        ([[1.0, 0.9], [0.9, 1.0]], [0.5, 0.5]),
        ([[1.0, 1.5], [1.5, 4.0]], [1.0, 0.0]),  # cov above the least variance
        ([[4.0, 1.0, 1.0], [1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [0.0, 0.5, 0.5]),  # alike
        ([[0.0, 0.0], [0.0, 1e-9]], [1.0, 0.0]),
        ([[1e-9, 0.0], [0.0, 1e9]], [1.0, 0.0]),
        ([[0.0, 0.0], [0.0, 0.0]], [0.5, 0.5]),
    ],
)
def test_shares_by_hand(matrix: list[list[float]], expected: list[float]) -> None:
    found = least_on_simplex(torch.tensor(matrix, dtype=torch.float64))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


def test_shares_meet_the_conditions_of_a_least() -> None:
    """Where a share is above 0 the slopes agree, elsewhere they are no less; in any batch."""
    random = torch.Generator().manual_seed(0)
    table = torch.randn(4, 50, 30, 25, generator=random, dtype=torch.float64)
    table = (table * torch.logspace(-1, 1, 25)).cumsum(-1)
    matrix = table.mT @ table
    share = least_on_simplex(matrix)
    slope = (matrix @ share.unsqueeze(-1)).squeeze(-1)
    least = (share * slope).sum(-1, keepdim=True)
    torch.testing.assert_close(share.sum(-1), torch.ones(4, 50, dtype=torch.float64))
    assert float(share.min()) >= 0.0 and bool(((share > 0.0).sum(-1) > 1).any())
    assert float((slope / least).min()) > 1.0 - 1e-4
    assert float((share * (slope / least - 1.0)).abs().max()) < 1e-4
    torch.testing.assert_close(least_on_simplex(matrix[2, 7]), share[2, 7])


def heavy() -> Given:
    """Forty episodes of three steps, weights that run apart, a model that is half right."""
    random = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    v = 0.5 + 0.1 * normal(40, 4)
    return 0.5 * normal(40, 3).cumsum(-1), 1.0 + normal(40, 3), v[:, :3] + 0.1 * normal(40, 3), v


def counts(episodes: int, times: int) -> Tensor:
    random = torch.Generator().manual_seed(2)
    return resample(episodes, torch.rand(times, episodes, generator=random, dtype=torch.float64))


def by_loops(given: Given) -> tuple[float, Tensor]:
    """Return MAGIC of episodes and its shares, all by the reference's formulas."""
    log_ratio, reward, q, v = given
    n, steps = reward.shape
    weight = log_ratio.exp() / log_ratio.exp().sum(0)
    parts = torch.zeros(n, steps + 1, dtype=torch.float64)
    for i, j in itertools.product(range(n), range(steps + 1)):
        for t in range(j):
            before = weight[i, t - 1] if t else 1.0 / n
            parts[i, j] += DISCOUNT**t * (weight[i, t] * (reward - q)[i, t] + before * v[i, t])
        parts[i, j] += DISCOUNT**j * (weight[i, j - 1] if j else 1.0 / n) * v[i, j]
    total = parts.sum(0)
    low, high = student(weighted_doubly_robust(*given, discount=DISCOUNT), level=0.9)
    bias = torch.stack([max(low - g, g - high, 0.0 * g) * (g - low).sign() for g in total])
    matrix = n * torch.cov(parts.T) + bias.outer(bias)
    best, shares = math.inf, torch.zeros_like(total)
    for kept in itertools.product([False, True], repeat=steps + 1):  # every face of the simplex
        where = torch.tensor(kept).nonzero().squeeze(-1)
        if not len(where):
            continue
        solved = torch.linalg.solve(matrix[where][:, where], torch.ones_like(total[where]))
        share = solved / solved.sum()
        error = float(share @ matrix[where][:, where] @ share)
        if float(share.min()) >= 0.0 and error < best:
            best, shares = error, torch.zeros_like(total)
            shares[where] = share
    return float(shares @ total), shares


def test_resamples_do_all_of_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    given = heavy()
    found = magic(*given, discount=DISCOUNT)
    assert float(found.value()) == pytest.approx(by_loops(given)[0], rel=1e-6)
    drawn = counts(40, 20)
    chosen = [torch.arange(40).repeat_interleave(row.long()) for row in drawn]
    loops = [by_loops((given[0][i], given[1][i], given[2][i], given[3][i])) for i in chosen]
    values, shares = found.value(drawn), found.shares(drawn)
    assert values.tolist() == pytest.approx([value for value, _ in loops], rel=1e-6)
    expected = torch.stack([each for _, each in loops])
    torch.testing.assert_close(shares, expected, rtol=0, atol=1e-5)
    assert float((shares.amax(0) - shares.amin(0)).max()) > 0.3
    monkeypatch.setattr(module, "_NUMBERS", 500)  # three resamples at a time
    torch.testing.assert_close(found.value(drawn), values)


def test_shares_that_vary_make_the_interval_wider() -> None:
    """Against resamples of the sum alone, with normalisers and shares held."""
    found, drawn = magic(*heavy(), discount=DISCOUNT), counts(40, 1000)
    low, high = percentile(found.value(drawn))
    held = percentile(drawn @ (found.parts() @ found.shares()))
    assert low < float(found.value()) < high
    assert high - low > 1.2 * (held.high - held.low)


def test_a_resample_without_weights_is_not_known() -> None:
    log_ratio, reward, q, v = heavy()
    log_ratio[1:, -1] = -math.inf
    drawn = torch.stack([torch.ones(40), 40.0 * torch.eye(40)[3]])
    found = magic(log_ratio, reward, q, v, discount=DISCOUNT).value(drawn)
    assert bool(found[0].isfinite()) and bool(found[1].isnan())


def test_of_many_steps_some_are_kept() -> None:
    zero = torch.zeros(5, 100)
    found = magic(zero, zero, zero, torch.zeros(5, 101), discount=DISCOUNT)
    assert len(found.kept) == 25 and found.kept[[0, -1]].tolist() == [0, 100]
    few = magic(zero, zero, zero, torch.zeros(5, 101), discount=1.0, most=3)
    assert few.kept.tolist() == [0, 50, 100]


def test_counts_are_those_of_copies() -> None:
    parts = torch.tensor([[0.5, 1.0], [0.2, 0.0], [0.5, 4.0]], dtype=torch.float64)
    counted = magic_weights(parts, 2.0, 2.0, torch.tensor([2.0, 1.0, 0.0]))
    torch.testing.assert_close(counted, magic_weights(parts[[0, 0, 1]], 2.0, 2.0))
    assert float(counted[0]) == pytest.approx(0.7 / 1.13)  # [[0.73, 0.3], [0.3, 1]]
