"""Lag between action and state: delays that are known, on noise, ramps and targets."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.response import episode_lags, response

LENGTHS = torch.tensor([150, 200, 1, 2, 250])
EPISODE = torch.arange(5).repeat_interleave(LENGTHS)


def noise(rows: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=generator, dtype=torch.float64)


def delayed(values: Tensor, lag: int) -> Tensor:
    """Return values some rows later, 0 before."""
    return torch.cat([torch.zeros(lag, values.shape[1]).double(), values])[: len(values)]


def walk(change: Tensor) -> Tensor:
    """Return the state whose change from each row to the next is given."""
    return torch.cat([torch.zeros(1, change.shape[1]).double(), change.cumsum(0)[:-1]])


def each(values: Tensor) -> list[Tensor]:
    """Return the episodes."""
    return list(values.split(LENGTHS.tolist()))


@pytest.mark.parametrize("lag", [0, 3, 7])
def test_a_velocity_that_is_obeyed_later(lag: int) -> None:
    """X[t + 1] - x[t] = a[t - lag]: the correlation is 1 there, and 0 of noise elsewhere."""
    action = noise(int(LENGTHS.sum()), 2)
    state = torch.cat([walk(delayed(part, lag)) for part in each(action)])
    # A number that does not answer stands first.
    state = torch.cat([noise(len(state), 1, seed=5), state], 1)
    found = response(action, state, EPISODE, 10)
    assert found is not None and found.lag == lag
    assert found.actions.tolist() == [0, 1] and found.states.tolist() == [1, 2]
    assert found.strength[lag].item() == pytest.approx(1)
    # What was obeyed a step ago is known, as the state's last change.
    assert (found.strength[torch.arange(11) != lag] < 0.03).all()


def test_correlation_by_hand() -> None:
    """The change is a[t - 2] + noise of equal variance: the squared correlation is 1/2."""
    action = noise(20_000, 1)
    state = walk(delayed(action, 2) + noise(20_000, 1, seed=3))
    found = response(action, state, torch.zeros(20_000, dtype=torch.int64), 4)
    assert found is not None
    expected = torch.tensor([0, 0, 0.5, 0, 0]).double()
    torch.testing.assert_close(found.strength, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize("lag", [0, 4])
def test_a_slow_target_that_is_followed_later(lag: int) -> None:
    """X moves by 0.3 (a[t - lag] - x[t]), a wandering slowly: no white noise says the time."""
    action = noise(3000, 1).cumsum(0).cumsum(0)
    delayed_action, state = delayed(action, lag), torch.zeros(3000, 1).double()
    for row in range(2999):
        state[row + 1] = state[row] + 0.3 * (delayed_action[row] - state[row])
    found = response(action, state / state.std(), torch.zeros(3000, dtype=torch.int64), 10)
    assert found is not None and found.lag == lag


def test_feedback_is_no_answer() -> None:
    """X' = 0.9 x + 0.1 a, a = -2 x[t - 1] + noise: it goes with later changes, and acts at 0."""
    push, state = noise(4000, 1), torch.zeros(4000, 1).double()
    action = torch.zeros_like(push)
    for row in range(1, 3999):
        action[row] = 0.5 * push[row] - 2 * state[row - 1]
        state[row + 1] = 0.9 * state[row] + 0.1 * action[row]
    found = response(action, state / state.std(), torch.zeros(4000, dtype=torch.int64), 10)
    assert found is not None and found.lag == 0


def test_an_action_that_the_state_tells_is_no_answer() -> None:
    """Pure feedback a = -x: whatever the change has of the action, it has of the state."""
    state = torch.zeros(2000, 1).double()
    bump = noise(2000, 1)
    for row in range(1999):
        state[row + 1] = 0.5 * state[row] + bump[row]
    assert response(-state, state, torch.zeros(2000, dtype=torch.int64), 5) is None


def test_each_episode_has_its_own_lag_where_it_is_clear() -> None:
    """Lags 3, 6 and 3; the episodes of one and two steps say nothing. Actions are about 50."""
    action = 50 + noise(int(LENGTHS.sum()), 1)
    lags = zip(each(action), (3, 6, 3, 3, 3), strict=True)
    state = torch.cat([walk(delayed(part, lag)) for part, lag in lags])
    known = response(action, state, EPISODE, 10)
    assert known is not None and known.lag == 3
    lag, clear = episode_lags(action, state, EPISODE, 5, known)
    assert clear.tolist() == [True, True, False, False, True]
    assert lag[clear].tolist() == [3, 6, 3]


def test_an_episode_that_does_not_answer_is_not_clear() -> None:
    action = noise(600, 1)
    episode = torch.arange(2).repeat_interleave(torch.tensor([400, 200]))
    state = torch.cat([walk(delayed(action[:400], 2)), noise(200, 1, seed=9)])
    known = response(action, state, episode, 5)
    assert known is not None
    lag, clear = episode_lags(action, state, episode, 2, known)
    assert clear.tolist() == [True, False] and lag[0] == 2


@pytest.mark.parametrize("kind", ["unrelated", "constant", "few rows", "no numbers"])
def test_without_an_answer_there_is_no_lag(kind: str) -> None:
    rows = 60 if kind == "few rows" else 2000
    action = torch.ones(rows, 2).double() if kind == "constant" else noise(rows, 2)
    state = walk(action) if kind == "few rows" else walk(noise(rows, 3, seed=4))
    if kind == "no numbers":
        state = state[:, :0]
    assert response(action, state, torch.zeros(rows, dtype=torch.int64), 10) is None
