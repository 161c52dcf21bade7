"""Retrace, tree backup and uncorrected returns: closed forms, what they reduce to, a plain loop."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import Episodes, episodes
from torch import Tensor

from hindsight_rl.maths.corrected_returns import corrected_returns, retrace_trace, tree_trace
from hindsight_rl.maths.returns import lambda_returns, returns_to_go


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# Three steps of one episode that is cut off: the next values are V = E_pi Q of the states after.
STEPS: dict[str, Any] = {
    "reward": f64(1, 0, 2),
    "value": f64(1.2, 0.4, 0.9),
    "next_value": f64(0.5, 0.8, 0.3),
    "terminated": torch.zeros(3, dtype=torch.bool),
    "last": torch.tensor([False, False, True]),
    "discount": 0.9,
}


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        (retrace_trace(f64(2, 0.5, 1).log(), lambda_=0.9), (2.029028, 1.829700, 2.27)),
        (tree_trace(f64(0.6, 0.3, 0.8).log()), (1.802728, 1.706400, 2.27)),
    ],
    ids=["retrace", "tree backup"],
)
def test_closed_forms(trace: Tensor, expected: tuple[float, ...]) -> None:
    """From the back: G_2 = 2 + .9 .3; G_1 = .9 (.8 + c_2 (G_2 - .9)); G_0 likewise."""
    found = corrected_returns(**STEPS, trace=trace)
    torch.testing.assert_close(found, f64(*expected), rtol=0, atol=2e-6)


def test_three_uncorrected_steps() -> None:
    """Traces of 1 and no values of actions in between: 1 + .81 2 + .729 .3.

    Q and V of a state cancel where they are equal, as in Peng's and in n-step returns.
    """
    equal = STEPS | {"value": torch.cat([f64(1.2), STEPS["next_value"][:-1]])}
    found = corrected_returns(**equal, trace=torch.ones(3, dtype=torch.float64))
    assert found[0].item() == pytest.approx(2.8387, abs=2e-6)


def test_targets_have_no_gradient_and_the_error_has_that_of_its_value() -> None:
    """Half the squared error to the target moves Q(s, a) towards it, and nothing moves the target.

    Gradients of Retrace's case: Q - G = (-.829028, -1.4297, -1.37).
    """
    value = STEPS["value"].clone().requires_grad_()
    ratio = f64(2, 0.5, 1).log().requires_grad_()
    traced = retrace_trace(ratio, lambda_=0.9)
    target = corrected_returns(**STEPS | {"value": value}, trace=traced)
    assert not target.requires_grad and not traced.requires_grad
    (0.5 * (target - value).square()).sum().backward()
    assert value.grad is not None
    torch.testing.assert_close(value.grad, f64(-0.829028, -1.4297, -1.37), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("ratio", "expected"), [(2.0, 0.9), (1.0, 0.9), (0.5, 0.45), (0.0, 0.0)], ids=str
)
def test_a_trace_never_exceeds_lambda(ratio: float, expected: float) -> None:
    found = retrace_trace(f64(ratio).log(), lambda_=0.9)
    assert found.item() == pytest.approx(expected)


@given(parts=episodes(), discount=st.floats(0, 1), lambda_=st.floats(0, 1))
def test_reductions(parts: Episodes, discount: float, lambda_: float) -> None:
    """No traces: one step. Q of an action equal to V of its state: TD(lambda), Monte Carlo at 1."""
    rows = len(parts.reward)
    value = torch.zeros(rows, dtype=torch.float64)
    value[1:] = torch.where(parts.last[:-1], 0.0, parts.next_value[:-1])
    options = {"terminated": parts.terminated, "last": parts.last, "discount": discount}
    given_parts = (parts.reward, value, parts.next_value)

    def found(trace: float) -> Tensor:
        traces = torch.full((rows,), trace, dtype=torch.float64)
        return corrected_returns(*given_parts, trace=traces, **options)

    live = discount * (~parts.terminated).double()
    torch.testing.assert_close(found(0.0), parts.reward + live * parts.next_value)
    expected = lambda_returns(
        parts.reward,
        parts.next_value,
        parts.terminated,
        parts.last,
        discount=discount,
        lambda_=lambda_,
    )
    torch.testing.assert_close(found(lambda_), expected, rtol=1e-9, atol=1e-8)
    ended = corrected_returns(
        *given_parts, trace=torch.ones(rows).double(), **options | {"terminated": parts.last}
    )
    whole = returns_to_go(parts.reward, parts.last, discount)
    torch.testing.assert_close(ended, whole, rtol=1e-9, atol=1e-8)


def test_episodes_are_apart_and_shapes_are_checked() -> None:
    """The same three steps twice: the second episode changes nothing of the first."""
    trace = tree_trace(f64(0.6, 0.3, 0.8).log())
    alone = corrected_returns(**STEPS, trace=trace)
    twice = {
        name: torch.cat([part, part]) if isinstance(part, Tensor) else part
        for name, part in STEPS.items()
    }
    twice["value"][3:] += 100.0
    found = corrected_returns(**twice, trace=torch.cat([trace, trace]))
    torch.testing.assert_close(found[:3], alone)
    with pytest.raises(ValueError, match=r"shapes differ: .*trace \(2,\)"):
        corrected_returns(**STEPS, trace=trace[:2])
