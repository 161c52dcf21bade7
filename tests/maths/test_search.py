"""Beam search and plans: T26 by hand, all sequences, and what ends of episodes do to a plan."""

import itertools

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.search import Found, beam_search, planned_return

F64 = torch.float64
FIRST = [0.6, 0.4]
SECOND = [[0.5, 0.5], [0.9, 0.1]]


def step(first: Tensor, token: Tensor | None) -> tuple[Tensor, Tensor]:
    """Two tokens of T26; a row that begins with 1 has the probabilities of the first exchanged."""
    if token is None:
        p = torch.tensor(FIRST, dtype=F64)
        return torch.where(first.unsqueeze(-1) == 1, p.flip(0), p).log(), first
    return torch.tensor(SECOND, dtype=F64)[token].log(), first


def searched(rows: list[int], width: int) -> Found[Tensor]:
    return beam_search(
        torch.tensor(rows), step, lambda state, some: state[some], length=2, width=width
    )


def test_greedy_finds_less_than_a_beam_of_two() -> None:
    """T26: p(k1) = (.6, .4), p(k2|0) = (.5, .5), p(k2|1) = (.9, .1): .3, and (1, 0) with .36."""
    greedy = searched([0], 1)
    assert greedy.tokens[0, 0, 0] == 0 and greedy.score.exp().item() == pytest.approx(0.3)
    two = searched([0], 2)
    assert two.tokens[0, 0].tolist() == [1, 0]
    assert two.score.exp()[0].tolist() == pytest.approx([0.36, 0.3])


def test_rows_are_searched_apart_and_a_wide_beam_is_exact() -> None:
    """All four sequences, sorted, for each row; what does not exist is not there."""
    found = searched([0, 1, 0], 9)
    assert found.tokens.shape == (3, 4, 2) and found.state.tolist() == [0] * 4 + [1] * 4 + [0] * 4
    for row, first in enumerate([FIRST, FIRST[::-1], FIRST]):
        expected = {
            (a, b): first[a] * SECOND[a][b] for a, b in itertools.product(range(2), repeat=2)
        }
        pairs = [tuple(pair) for pair in found.tokens[row].tolist()]
        assert sorted(pairs) == sorted(expected)
        assert found.score[row].exp().tolist() == pytest.approx([expected[p] for p in pairs])
        assert found.score[row].diff().le(0).all()


def test_forbidden_tokens_are_last() -> None:
    def half(state: Tensor, token: Tensor | None) -> tuple[Tensor, Tensor]:
        return torch.tensor([[0.0, -torch.inf]], dtype=F64).expand(len(state), 2), state

    found = beam_search(torch.zeros(1), half, lambda state, some: state[some], length=2, width=3)
    assert found.tokens[0, 0].tolist() == [0, 0]
    assert found.score[0].tolist() == [0.0, -torch.inf, -torch.inf]


def test_planned_return_by_hand() -> None:
    """With gamma .5, r = 1, 2, d = 0, .25 and G = 8: 1 + .5 * 2 + .25 * .75 * 8 = 3.5.

    Gradients are the factors 1, .5, .1875, and of d -.5 (2 + .5 * .75 * 8) and -.25 * 8.
    """
    reward = torch.tensor([1.0, 2.0], dtype=F64, requires_grad=True)
    ended = torch.tensor([0.0, 0.25], dtype=F64, requires_grad=True)
    value = torch.tensor(8.0, dtype=F64, requires_grad=True)
    found = planned_return(reward, ended, value, discount=0.5)
    assert found.item() == 3.5
    found.backward()
    assert reward.grad is not None and ended.grad is not None and value.grad is not None
    assert reward.grad.tolist() == [1.0, 0.5] and value.grad.item() == 0.1875
    assert ended.grad.tolist() == [-2.5, -2.0]


def test_a_plan_of_one_step_is_its_return_to_go() -> None:
    none, value = torch.zeros(3, 0), torch.tensor([1.0, -2.0, 3.0])
    assert planned_return(none, none, value, discount=0.0).equal(value)


def test_nothing_is_earned_behind_a_sure_end() -> None:
    reward, ended = torch.tensor([1.0, 5.0]), torch.tensor([1.0, 0.0])
    assert planned_return(reward, ended, torch.tensor(9.0), discount=1.0).item() == 1.0
