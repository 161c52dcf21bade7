"""Sums over the rest of an episode: closed forms, plain loops, torchrl as oracle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Episodes, episodes, scalars
from torch import Tensor
from torchrl.objectives.value.functional import (
    generalized_advantage_estimate,
    td_lambda_return_estimate,
)

from hindsight_rl.maths.losses import expectile_loss
from hindsight_rl.maths.returns import (
    lambda_returns,
    largest_return,
    n_step_returns,
    return_range,
    returns_to_go,
    reverse_scan,
)

ATOL = 2e-6
unit = st.floats(0, 1)


def close(actual: Tensor, expected: Tensor | list[float], atol: float = 1e-9) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=atol)


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def loop_lambda_returns(parts: Episodes, discount: float, lambda_: float) -> Tensor:
    """Return TD(lambda) targets by the definition, one row at a time, from the back."""
    targets = torch.zeros(len(parts.reward), dtype=torch.float64)
    for row in reversed(range(len(targets))):
        value = float(parts.next_value[row])
        after = value if parts.last[row] else float(targets[row + 1])
        future = 0.0 if parts.terminated[row] else (1 - lambda_) * value + lambda_ * after
        targets[row] = float(parts.reward[row]) + discount * future
    return targets


# --- reverse_scan ---------------------------------------------------------------------------------


@given(data=st.data(), rows=st.integers(0, 70))
def test_reverse_scan_equals_a_loop(data: st.DataObject, rows: int) -> None:
    """Any carries, zeros among them, any length around the powers of two."""
    term = data.draw(scalars(rows))
    carry = data.draw(scalars(rows, low=-1.0, high=1.0))
    keep = data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows))
    carry = carry * torch.tensor(keep, dtype=torch.float64)
    expected, total = [], 0.0
    for row in reversed(range(rows)):
        total = float(term[row]) + float(carry[row]) * total
        expected.insert(0, total)
    before = term.clone(), carry.clone()
    close(reverse_scan(term, carry), expected)
    assert torch.equal(term, before[0]) and torch.equal(carry, before[1])


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 9, 1000])
def test_reverse_scan_of_ones_counts_rows(rows: int) -> None:
    """y[t] = 1 + y[t + 1] counts the rows from t to the end."""
    ones = torch.ones(rows)
    counted = reverse_scan(ones, ones)
    assert counted.dtype == torch.float64
    assert counted.tolist() == list(range(rows, 0, -1))


def test_reverse_scan_of_many_episodes_is_summed_in_float64() -> None:
    """10,000 float32 terms of 0.1 per episode: 1000 to 12 digits of the stored 0.1."""
    term = torch.full((30_000,), 0.1)
    carry = torch.ones(30_000)
    carry[9_999::10_000] = 0
    starts = reverse_scan(term, carry)[::10_000]
    close(starts, [float(term[0]) * 10_000] * 3)


def test_no_gradient_flows_through_a_sum() -> None:
    term, carry = f64(1, 2).requires_grad_(), f64(0.5, 0).requires_grad_()
    result = reverse_scan(term, carry)
    assert result.tolist() == [2, 2] and not result.requires_grad


def test_single_precision_input_is_computed_in_double() -> None:
    """Three rows of the float32 neighbours of .1: the float64 results of the definition."""
    term = torch.full((3,), 0.1)
    number = float(term[0])
    expected = [number + number * (number + number * number), number + number * number, number]
    assert reverse_scan(term, term).tolist() == pytest.approx(expected, rel=1e-14)

    result = n_step_returns(term, torch.tensor([2, 2, 2]), 2, 0.3)
    assert result.reward.tolist() == pytest.approx([1.3 * number] * 2 + [number], rel=1e-14)
    last = torch.tensor([False, False, True])
    targets = lambda_returns(term, term, torch.zeros_like(last), last, discount=0.3, lambda_=0.0)
    assert targets.tolist() == pytest.approx([1.3 * number] * 3, rel=1e-14)


@pytest.mark.parametrize(("term", "carry"), [((3,), (4,)), ((3, 1), (3, 1)), ((3,), (3, 3))])
def test_reverse_scan_refuses_other_shapes(term: tuple[int, ...], carry: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"term \(3.* and carry \(\d.* must have one shape \[N\]"):
        reverse_scan(torch.zeros(term), torch.zeros(carry))


def test_lambda_returns_refuse_a_column_per_row() -> None:
    """[N, 1] beside [N] would broadcast to [N, N]."""
    flags, flat = torch.zeros(3, dtype=torch.bool), torch.zeros(3)
    with pytest.raises(ValueError, match=r"never \[N, 1\]"):
        lambda_returns(flat, flat[:, None], flags, flags, discount=1.0, lambda_=1.0)
    with pytest.raises(ValueError, match=r"never \[N, 1\]"):
        lambda_returns(flat, flat, flags[:, None], flags, discount=1.0, lambda_=1.0)
    with pytest.raises(ValueError, match=r"never \[N, 1\]"):
        returns_to_go(flat[:, None], flags, 1.0)


# --- returns_to_go --------------------------------------------------------------------------------


def test_returns_of_t4() -> None:
    """T4: r = 1, 1, 1 at .99: 1 + .99 + .9801 = 2.9701, 1 + .99 = 1.99, 1."""
    last = torch.tensor([False, False, True])
    close(returns_to_go(torch.ones(3), last, 0.99), [2.9701, 1.99, 1.0], ATOL)


def test_returns_to_go_is_the_return_left_and_not_the_next_one() -> None:
    """T18: r = 1..5 undiscounted: 15, 14, 12, 9, 5 (an off-by-one gives 14, 12, 9, 5, 0)."""
    last = torch.tensor([False] * 4 + [True])
    close(returns_to_go(torch.arange(1.0, 6.0), last, 1.0), [15, 14, 12, 9, 5])


@given(parts=episodes(), discount=unit)
def test_returns_to_go_sum_each_episode_alone(parts: Episodes, discount: float) -> None:
    start, expected = 0, []
    for length in parts.lengths:
        reward = parts.reward[start : start + length].tolist()
        expected += [
            sum(discount**k * r for k, r in enumerate(reward[step:])) for step in range(length)
        ]
        start += length
    close(returns_to_go(parts.reward, parts.last, discount), expected)


@given(parts=episodes(), data=st.data())
def test_no_return_leaks_over_an_episode_boundary(parts: Episodes, data: st.DataObject) -> None:
    """Rewards and values of one episode move; every other episode keeps its bits."""
    start = [sum(parts.lengths[:number]) for number in range(len(parts.lengths))]
    number = data.draw(st.integers(0, len(parts.lengths) - 1))
    rows = slice(start[number], start[number] + parts.lengths[number])
    others = torch.ones(len(parts.reward), dtype=torch.bool)
    others[rows] = False
    moved = parts.reward.clone(), parts.next_value.clone()
    moved[0][rows] += 1e6
    moved[1][rows] += 3e6

    def all_sums(reward: Tensor, value: Tensor) -> list[Tensor]:
        targets = lambda_returns(
            reward, value, parts.terminated, parts.last, discount=1.0, lambda_=0.9
        )
        steps = n_step_returns(reward, parts.end, 3, 1.0)
        return [returns_to_go(reward, parts.last, 1.0), targets, steps.reward]

    for one, two in zip(all_sums(parts.reward, parts.next_value), all_sums(*moved), strict=True):
        assert torch.equal(one[others], two[others])
        assert not bool((one[rows] == two[rows]).any())


# --- lambda_returns -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terminated", "targets"),
    [(False, [3.587884, 2.720026, 1.792000]), (True, [2.887329, 1.975150, 1.0])],
)
def test_td_lambda_of_t12(terminated: bool, targets: list[float]) -> None:
    """T12: gamma .99, lambda .95, r = 1, 1, 1, V = .5, .6, .7, and V_T = .8 or a terminal state.

    Truncated: G2 = 1 + .99 * .8 = 1.792; G1 = 1 + .99 * (.05 * .7 + .95 * G2) = 2.720026;
    G0 = 1 + .99 * (.05 * .6 + .95 * G1) = 3.587884. Terminated: G2 = 1, and so on.
    The value loss mean((G - V)^2) / 2 has the gradient -(G - V) / 3 by V(s0), V(s1), V(s2) and 0
    by V_T: the targets hold the same values, and no gradient flows through them.
    """
    value = f64(0.5, 0.6, 0.7, 0.8).requires_grad_()
    last = torch.tensor([False, False, True])
    result = lambda_returns(
        torch.ones(3), value[1:], last & terminated, last, discount=0.99, lambda_=0.95
    )
    close(result, targets, ATOL)

    advantage = [2.387329, 1.375150, 0.3] if terminated else [3.087884, 2.120026, 1.092]
    close(result - value[:3].detach(), advantage, ATOL)
    expectile_loss(result - value[:3], expectile=0.5).mean().backward()
    close(value.grad, [-number / 3 for number in advantage] + [0], ATOL)


@given(parts=episodes(), discount=unit, lambda_=unit)
def test_lambda_returns_equal_a_loop(parts: Episodes, discount: float, lambda_: float) -> None:
    result = lambda_returns(
        parts.reward,
        parts.next_value,
        parts.terminated,
        parts.last,
        discount=discount,
        lambda_=lambda_,
    )
    close(result, loop_lambda_returns(parts, discount, lambda_))


@given(parts=episodes(), discount=unit, lambda_=unit)
def test_lambda_returns_equal_torchrl(parts: Episodes, discount: float, lambda_: float) -> None:
    """Targets equal td_lambda_return_estimate; minus V they equal the generalized advantage."""
    done, terminated = parts.last[:, None], parts.terminated[:, None]
    reward, next_value = parts.reward[:, None], parts.next_value[:, None]
    theirs = td_lambda_return_estimate(discount, lambda_, next_value, reward, done, terminated)
    ours = lambda_returns(
        parts.reward,
        parts.next_value,
        parts.terminated,
        parts.last,
        discount=discount,
        lambda_=lambda_,
    )
    close(ours, theirs[:, 0])

    # Inside an episode the value of a row is the next value of the row before it.
    value = next_value.roll(1)
    value[parts.last.roll(1)] = 1.5
    gamma, mix = torch.tensor([discount, lambda_], dtype=torch.float64)
    advantage, _ = generalized_advantage_estimate(
        gamma, mix, value, next_value, reward, done, terminated
    )
    close(ours - value[:, 0], advantage[:, 0])


@given(parts=episodes(), discount=unit)
def test_lambda_one_is_monte_carlo_with_bootstrap_at_truncation(
    parts: Episodes, discount: float
) -> None:
    bootstrap = torch.where(parts.terminated, 0.0, discount * parts.next_value)
    reward = parts.reward + torch.where(parts.last, bootstrap, 0.0)
    result = lambda_returns(
        parts.reward, parts.next_value, parts.terminated, parts.last, discount=discount, lambda_=1.0
    )
    close(result, returns_to_go(reward, parts.last, discount))


@given(parts=episodes(), discount=unit)
def test_lambda_zero_is_one_step_td(parts: Episodes, discount: float) -> None:
    result = lambda_returns(
        parts.reward, parts.next_value, parts.terminated, parts.last, discount=discount, lambda_=0.0
    )
    close(result, parts.reward + discount * (~parts.terminated).double() * parts.next_value)


def test_lambda_is_not_rounded_to_float32() -> None:
    """G0 = 0 + 1 * (.95 * (1 + 0)): the float32 neighbour of .95 is 1.2e-8 off."""
    last = torch.tensor([False, True])
    result = lambda_returns(f64(0, 1), f64(0, 0), last, last, discount=1.0, lambda_=0.95)
    assert result.tolist() == [0.95, 1.0]


# --- n_step_returns -------------------------------------------------------------------------------


@given(parts=episodes(), n=st.integers(1, 15), discount=unit)
def test_n_step_returns_equal_a_loop(parts: Episodes, n: int, discount: float) -> None:
    result = n_step_returns(parts.reward, parts.end, n, discount)
    for row in range(len(parts.reward)):
        total, steps, stop = 0.0, 0, row
        while steps < n and row + steps <= int(parts.end[row]):
            stop = row + steps
            total += discount**steps * float(parts.reward[stop])
            steps += 1
        assert float(result.reward[row]) == pytest.approx(total, rel=1e-9, abs=1e-9)
        assert int(result.last_row[row]) == stop
        assert float(result.discount[row]) == pytest.approx(discount**steps, rel=1e-9)
    assert result.reward.dtype == result.discount.dtype == torch.float64
    assert result.last_row.dtype == torch.int64


def test_three_steps_by_hand() -> None:
    """Rewards 1, 2, 4, 8 | 16, n = 3, gamma .5: 1 + 1 + 1, 2 + 2 + 2, 4 + 4, 8 | 16.

    Bootstrapped from rows 2, 3, 3, 3 | 4 with .5 to the power 3, 3, 2, 1 | 1.
    """
    result = n_step_returns(f64(1, 2, 4, 8, 16), torch.tensor([3, 3, 3, 3, 4]), 3, 0.5)
    close(result.reward, [3, 6, 8, 8, 16])
    assert result.last_row.tolist() == [2, 3, 3, 3, 4]
    close(result.discount, [0.125, 0.125, 0.25, 0.5, 0.5])


@given(parts=episodes(), discount=unit)
def test_n_of_a_whole_episode_is_the_return_and_n_of_one_the_reward(
    parts: Episodes, discount: float
) -> None:
    whole = n_step_returns(parts.reward, parts.end, max(parts.lengths), discount)
    close(whole.reward, returns_to_go(parts.reward, parts.last, discount))
    assert torch.equal(whole.last_row, parts.end)
    single = n_step_returns(parts.reward, parts.end, 1, discount)
    close(single.reward, parts.reward)
    assert single.last_row.tolist() == list(range(len(parts.reward)))


@pytest.mark.parametrize("n", [0, -2])
def test_n_below_one_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"n is {n}, it must be at least 1"):
        n_step_returns(torch.zeros(2), torch.tensor([1, 1]), n, 0.9)


# --- how large a return can be --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reward", "discount", "expected"),
    [
        ([1.0, 1.0], [0.9, 0.9], 10.0),  # 1 / (1 - 0.9)
        ([1.0, -2.0], [0.5, 0.5], 4.0),  # whatever its sign
        ([3.0, 2.0], [0.5, 0.75], 8.0),  # rows of several steps: 6 and 8
        ([2.0, 1.0], [1.0, 1.0], 14.0),  # undiscounted, seven steps of 2
        ([0.0, 0.0], [0.9, 1.0], 0.0),
    ],
)
def test_largest_return(reward: list[float], discount: list[float], expected: float) -> None:
    found = largest_return(torch.tensor(reward), torch.tensor(discount), longest=7)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("reward", "options", "low", "high"),
    [
        # For ever at 2: 2 / .5 = 4. None is negative, and the least ends at once with 1.
        ([1.0, 2.0], {}, 1.0, 4.0),
        ([-3.0, 2.0], {}, -6.0, 4.0),
        ([-3.0, -1.0], {}, -6.0, -1.0),
        ([0.0, 0.0], {}, 0.0, 0.0),
        # Three steps: 1 + .5 + .25.
        ([-4.0, 8.0], {"horizon": 3}, -7.0, 14.0),
        ([-4.0, 8.0], {"horizon": 1}, -4.0, 8.0),
    ],
)
def test_return_range(
    reward: list[float], options: dict[str, int], low: float, high: float
) -> None:
    found = return_range(f64(*reward), f64(0.5, 0.5), **options)
    assert (found.low, found.high) == (low, high)
    assert found.mean == (low + high) / 2
    # No value lies outside: r + d v is within for every v within, and so is r alone.
    for r in reward:
        assert all(low <= r + 0.5 * v <= high or options for v in (low, high))
        assert low <= r <= high


def test_return_range_knows_the_usual_size_of_returns() -> None:
    """Returns to go of 1, 2 at discount .5: 2, 2 and of 4: 4. Their mean is 8 / 3."""
    last = torch.tensor([False, True, True])
    found = return_range(f64(1, 2, 4), torch.full((3,), 0.5), last)
    assert (found.low, found.high) == (1.0, 8.0)
    assert found.mean == pytest.approx(8 / 3)
    assert found.spread == pytest.approx((8 / 9) ** 0.5)


def test_return_range_has_a_unit_where_returns_do_not_differ() -> None:
    last = torch.ones(2, dtype=torch.bool)
    assert return_range(f64(0, 0), f64(0.9, 0.9), last).spread == 1.0
    assert return_range(f64(3, 3), f64(0.5, 0.5), last).spread == 6.0


def test_return_range_needs_an_end() -> None:
    with pytest.raises(ValueError, match="discount is 1: sums have no bound without a horizon"):
        return_range(f64(1), f64(1))
    assert return_range(f64(-1), f64(1), horizon=20).low == -20.0
