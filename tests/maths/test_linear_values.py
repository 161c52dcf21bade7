"""LSTD, LSPI and DualDICE on a process of two states, by hand."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.least_squares import linear_estimate, lspi, lstd, quadratic_features
from hindsight_rl.maths.occupancy import dual_dice, value_of

DISCOUNT = 0.9
# P(s' = 1 | s, a) of the pairs (0, 0), (0, 1), (1, 0), (1, 1), their rewards and their share of the
# log: the discounted occupancy of the uniform policy that starts in state 0.
UP = torch.tensor([0.1, 0.8, 0.3, 0.9], dtype=torch.float64)
REWARD = torch.tensor([0.0, 0.0, 1.0, 0.5], dtype=torch.float64)
SHARE = torch.tensor([0.265896, 0.265896, 0.234104, 0.234104], dtype=torch.float64)
POLICY = torch.tensor([[0.2, 0.8], [0.3, 0.7]], dtype=torch.float64)
ONE_EACH = torch.eye(4, dtype=torch.float64)
NEVER = torch.zeros(4, dtype=torch.bool)


def by_policy(policy: Tensor) -> Tensor:
    """Return ``[4, 4]``, the chance of each pair after each pair."""
    states = torch.stack([1.0 - UP, UP], dim=-1)
    return (states.unsqueeze(-1) * policy).reshape(4, 4)


def near(found: Tensor, expected: list[float], within: float = 2e-5) -> None:
    torch.testing.assert_close(
        found, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=within
    )


FIRST = torch.tensor([[0.2, 0.8, 0.0, 0.0]], dtype=torch.float64)


def test_lstd_with_a_feature_per_pair_is_exact() -> None:
    found = lstd(ONE_EACH, by_policy(POLICY), REWARD, NEVER, discount=DISCOUNT, weight=SHARE)
    near(found.theta, [3.735095, 4.167970, 4.858774, 4.729810])
    assert float(FIRST[0] @ found.theta) == pytest.approx(4.081395, abs=1e-5)
    assert found.condition < 100


def test_lstd_with_a_feature_per_state_has_its_known_bias() -> None:
    of_state = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)
    following = torch.stack([1.0 - UP, UP], dim=-1)
    found = lstd(of_state, following, REWARD, NEVER, discount=DISCOUNT, weight=SHARE)
    near(found.theta, [3.511561, 4.378613])


def test_lstd_ends_at_terminals() -> None:
    over = torch.tensor([False, False, True, True])
    found = lstd(ONE_EACH, by_policy(POLICY), REWARD, over, discount=DISCOUNT)
    near(found.theta, [0.509135, 0.568141, 1.0, 0.5])
    assert float(FIRST[0] @ found.theta) == pytest.approx(0.556340, abs=1e-5)


@pytest.mark.parametrize(("discount", "theta"), [(0.5, 1.0), (0.8, 10.0), (0.9, -5.0)])
def test_two_states_that_share_a_feature(discount: float, theta: float) -> None:
    """Fitted iteration multiplies by 1.2 discount, and diverges above 5 / 6; LSTD changes sign."""
    features, following = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [2.0]])
    over = torch.zeros(2, dtype=torch.bool)
    reward = torch.tensor([0.0, 1.0])
    near(lstd(features, following, reward, over, discount=discount).theta, [theta])


def test_a_singular_matrix_is_an_error() -> None:
    features, following = torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.zeros(2, 2)
    over = torch.zeros(2, dtype=torch.bool)
    with pytest.raises(ValueError, match="matrix of LSTD is singular"):
        lstd(features, following, torch.ones(2), over, discount=0.9)
    with pytest.raises(ValueError, match="matrix of the ratios is singular"):
        dual_dice(features, following, features, over, discount=0.9)
    held = lstd(features, following, torch.ones(2), over, discount=0.9, ridge=1e-6)
    near(held.theta, [0.3, 0.3], 1e-4)


def test_lspi_walks_to_the_best_policy() -> None:
    """Choices 00, then 11, then 10: state 1 takes action 0."""
    # A row per pair and next state, weighted by doubling: here all next states are rows.
    features = ONE_EACH.repeat_interleave(2, 0)
    states = torch.tensor([0, 1]).repeat(4)
    choices = torch.stack([torch.stack([ONE_EACH[2 * s], ONE_EACH[2 * s + 1]]) for s in states])
    chance = torch.stack([1.0 - UP, UP], dim=-1).reshape(-1)
    reward, over = REWARD.repeat_interleave(2), torch.zeros(8, dtype=torch.bool)
    # Rows in numbers that are their chance, in tenths.
    rows = torch.cat([torch.full((round(10 * float(c)),), i) for i, c in enumerate(chance)]).long()
    found = lspi(features[rows], choices[rows], reward[rows], over[rows], discount=DISCOUNT)
    near(found.values.theta, [4.531034, 4.965517, 5.655172, 5.527586])
    assert found.settled and found.rounds == 3
    in_state = {int(s): int(a) for s, a in zip(states[rows], found.actions, strict=True)}
    assert in_state == {0: 1, 1: 0}
    short = lspi(
        features[rows], choices[rows], reward[rows], over[rows], discount=DISCOUNT, rounds=2
    )
    assert not short.settled and short.rounds == 2


def test_ratios_of_occupancy() -> None:
    found = dual_dice(ONE_EACH, by_policy(POLICY), FIRST, NEVER, discount=DISCOUNT, weight=SHARE)
    near(found.ratio, [0.279879, 1.119515, 0.804651, 1.877519])
    near(found.theta, [12.315342, 13.557266, 12.955054, 14.372741], 2e-4)
    near(SHARE * found.ratio, [0.074419, 0.297674, 0.188372, 0.439535])
    assert found.objective == pytest.approx(-0.665444, abs=1e-5)
    value = value_of(found.ratio, REWARD, discount=DISCOUNT, weight=SHARE)
    assert float(value) == pytest.approx(4.081395, abs=1e-4)


def test_ratios_lose_what_terminates() -> None:
    over = torch.tensor([False, False, True, True])
    found = dual_dice(ONE_EACH, by_policy(POLICY), FIRST, over, discount=DISCOUNT, weight=SHARE)
    assert float((SHARE * found.ratio).sum()) == pytest.approx(0.229683, abs=1e-5)
    value = value_of(found.ratio, REWARD, discount=DISCOUNT, weight=SHARE)
    assert float(value) == pytest.approx(0.556340, abs=1e-5)


def test_products_of_features() -> None:
    found = quadratic_features(torch.tensor([2.0, 3.0]))
    assert found.tolist() == [1.0, 2.0, 3.0, 4.0, 6.0, 9.0]


def drawn_from_the_process(episodes: int, steps: int, seed: int) -> tuple[Tensor, ...]:
    """Return pairs, next states and owners of episodes of the uniform policy from state 0."""
    random = torch.Generator().manual_seed(seed)
    state = torch.zeros(episodes, dtype=torch.int64)
    pairs, following = [], []
    for _ in range(steps):
        pair = 2 * state + torch.randint(2, (episodes,), generator=random)
        state = (torch.rand(episodes, generator=random, dtype=torch.float64) < UP[pair]).long()
        pairs.append(pair)
        following.append(state)
    owner = torch.arange(episodes).unsqueeze(-1).expand(-1, steps).reshape(-1)
    return torch.stack(pairs, 1).reshape(-1), torch.stack(following, 1).reshape(-1), owner


@pytest.mark.parametrize("own", [True, False])
def test_the_start_value_and_what_each_episode_does_to_it(own: bool) -> None:
    """By LSTD and by DualDICE: exact in the limit, and the influence is the slope in a count."""
    pair, following, owner = drawn_from_the_process(400, 60, seed=0)
    phi = ONE_EACH[pair]
    after = torch.zeros(len(pair), 4, dtype=torch.float64)
    for action in (0, 1):
        after[torch.arange(len(pair)), 2 * following + action] = POLICY[following, action]
    residual = phi - DISCOUNT * after
    instrument = phi if own else residual
    start = FIRST.expand(400, 4)

    def estimate(rows: Tensor, first: Tensor) -> float:
        found = linear_estimate(
            instrument[rows], residual[rows], REWARD[pair[rows]], first, owner[rows] * 0
        )
        return found.value

    found = linear_estimate(instrument, residual, REWARD[pair], start, owner)
    assert float(found.influence.mean()) == pytest.approx(0.0, abs=1e-9)
    if own:
        assert found.value == pytest.approx(4.081395, abs=0.1)
    # An episode that counts twice: the change is the influence over n, to first order.
    every = torch.arange(len(pair))
    for number in (0, 7, 199):
        twice = torch.cat([every, every[owner == number]])
        moved = estimate(twice, FIRST.expand(401, 4)) - found.value
        slope = float(found.influence[number]) / 400
        assert moved == pytest.approx(slope, abs=0.02 * abs(slope) + 2e-4)


def test_dual_dice_is_the_transpose_of_residual_least_squares() -> None:
    """J by ratios and by the other solve agree to rounding."""
    pair, following, owner = drawn_from_the_process(50, 30, seed=1)
    phi = ONE_EACH[pair]
    after = ONE_EACH[2 * following + 1]
    never, start = torch.zeros(len(pair), dtype=torch.bool), FIRST.expand(50, 4)
    ratio = dual_dice(phi, after, start, never, discount=DISCOUNT).ratio
    by_ratios = float(value_of(ratio, REWARD[pair], discount=DISCOUNT))
    residual = phi - DISCOUNT * after
    found = linear_estimate(residual, residual, REWARD[pair], start, owner)
    assert found.value == pytest.approx(by_ratios, rel=1e-9)
