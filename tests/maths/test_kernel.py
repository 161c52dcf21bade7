"""Kernels: a policy of one action a state is judged as if it had noise of the bandwidth."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.importance import per_decision, step_weighted
from hindsight_rl.maths.kernel import bandwidths, kernel


def grid() -> tuple[Tensor, Tensor]:
    """Return actions ``[n, 1, 1]`` and their log-density under N(0, 1)."""
    action = torch.linspace(-8.0, 8.0, 16_001, dtype=torch.float64).reshape(-1, 1, 1)
    return action, torch.distributions.Normal(0.0, 1.0).log_prob(action.squeeze(-1))


@pytest.mark.parametrize(("bandwidth", "expected"), [(0.1, -0.26), (0.3, -0.34), (0.5, -0.5)])
def test_a_kernel_judges_a_policy_without_a_density(bandwidth: float, expected: float) -> None:
    """Reward -a^2, recorded by N(0, 1), the policy answers 0.5: -(0.25 + h^2), over a grid."""
    action, behavior = grid()
    chosen, valid = torch.full_like(action, 0.5), torch.ones_like(behavior, dtype=torch.bool)
    width = torch.tensor([bandwidth])
    log_ratio = kernel(action, chosen, behavior, valid, bandwidth=width)
    found = per_decision(log_ratio, -action.squeeze(-1).square(), discount=1.0)
    value = torch.trapezoid(behavior[:, 0].exp() * found.numerator[:, 0], action[:, 0, 0])
    assert float(value) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"bandwidth is \[0.0\]"):
        kernel(action, chosen, behavior, valid, bandwidth=0.0 * width)


def test_two_steps_have_the_noise_of_both() -> None:
    """The second reward is -(a_0 + a_1)^2 by answers of 0.5 and -0.5: -2 h^2, over a grid."""
    one = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64)
    action = torch.cartesian_prod(one, one).unsqueeze(-1)
    behavior = torch.distributions.Normal(0.0, 1.0).log_prob(action.squeeze(-1))
    chosen = torch.tensor([[0.5], [-0.5]]).expand(len(action), 2, 1)
    valid = torch.ones_like(behavior, dtype=torch.bool)
    log_ratio = kernel(action, chosen, behavior, valid, bandwidth=torch.tensor([0.3]))
    weight = (log_ratio[:, 1] + behavior.sum(-1)).exp()
    got = -(weight * action.sum((1, 2)).square()).sum() / weight.sum()
    assert float(got) == pytest.approx(-2.0 * 0.09, abs=1e-6)


def test_a_policy_at_a_bound_has_the_mass_of_what_is_clipped() -> None:
    """Answers of 1, the bound: half of the noise is clipped to it, and every ratio averages 1."""
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    normal = torch.distributions.Normal(0.5, 0.6)
    inside = torch.linspace(-1.0, 1.0, 20_001, dtype=torch.float64)[1:-1]
    action = torch.cat([inside, torch.tensor([-1.0, 1.0], dtype=torch.float64)])
    behavior = normal.log_prob(action)
    behavior[-2:] = torch.stack([normal.cdf(low[0]), 1.0 - normal.cdf(high[0])]).double().log()
    log_ratio = kernel(
        action.reshape(-1, 1, 1),
        torch.ones(len(action), 1, 1),
        behavior.unsqueeze(-1),
        torch.ones(len(action), 1, dtype=torch.bool),
        bandwidth=torch.tensor([0.2]),
        low=low,
        high=high,
    )
    mass = (log_ratio[:, 0] + behavior).exp()
    assert float(mass[-1]) == pytest.approx(0.5, abs=1e-6)
    assert float(mass[:-2].sum()) * 1e-4 + float(mass[-2:].sum()) == pytest.approx(1.0, abs=2e-4)


def test_the_rule_of_thumb() -> None:
    """(4 / 3n)^(1/5) of one action, (1 / n)^(1/6) of two; two steps count as two actions."""
    found = bandwidths(torch.tensor([0.5]), 1000, 1)
    assert found.tolist() == pytest.approx([0.5 * (4.0 / 3000.0) ** 0.2])
    found = bandwidths(torch.tensor([0.5, 2.0]), 64, 1)
    assert found.tolist() == pytest.approx([0.25, 1.0])
    assert bandwidths(torch.tensor([1.0]), 64, 2).tolist() == pytest.approx([0.5])


def test_the_rule_on_one_step_meets_the_truth() -> None:
    """Reward -(a - s)^2, recorded by N(0, 1), judged is a = s of N(0, 1): -h^2, 20,000 rows."""
    random = torch.Generator().manual_seed(0)
    state, action = torch.randn(2, 20_000, 1, 1, generator=random, dtype=torch.float64)
    behavior = torch.distributions.Normal(0.0, 1.0).log_prob(action.squeeze(-1))
    width = bandwidths(torch.ones(1), 20_000, 1)
    assert float(width[0]) == pytest.approx(0.146, abs=1e-3)
    valid = torch.ones_like(behavior, dtype=torch.bool)
    log_ratio = kernel(action, state, behavior, valid, bandwidth=width)
    found = step_weighted(log_ratio, -(action - state).square().squeeze(-1), discount=1.0)
    error = float(found.influence().std()) / math.sqrt(20_000)
    assert error < 0.001
    assert float(found.value()) == pytest.approx(-(float(width[0]) ** 2), abs=4.0 * error)
