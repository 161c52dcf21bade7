"""Linear-quadratic control: TB12 by hand, all controls at once, the Riccati equation, gradients."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import lqr
from hindsight_rl.maths.lqr import Quadratic

F64 = torch.float64
START = torch.tensor([1.0, 0.0], dtype=F64)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def integrator(
    horizon: int, offset: float = 0.0, slope: tuple[float, ...] = (0, 0, 0), final: float = 1.0
) -> Quadratic:
    """TB12's double integrator: position and speed, pushed; cost (x'x + u^2) / 2."""
    move = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], dtype=F64)
    return Quadratic(
        move.expand(horizon, 2, 3),
        numbers(0, offset).expand(horizon, 2),
        torch.eye(3, dtype=F64).expand(horizon, 3, 3),
        numbers(*slope).expand(horizon, 3),
        final * torch.eye(2, dtype=F64),
        torch.zeros(2, dtype=F64),
    )


def all_at_once(problem: Quadratic, start: Tensor) -> Tensor:
    """Return the best controls as the solution of one linear system in all of them."""
    horizon, width = problem.slope.shape[0], problem.slope.shape[1] - len(start)

    def cost(flat: Tensor) -> Tensor:
        controls, states = flat.view(horizon, width), [start]
        for step in range(horizon):
            joined = torch.cat([states[-1], controls[step]])
            states.append(problem.transition[step] @ joined + problem.offset[step])
        return lqr.total_cost(problem, torch.stack(states), controls)

    zero = torch.zeros(horizon * width, dtype=F64)
    hessian = torch.func.hessian(cost)(zero)
    return torch.linalg.solve(hessian, -torch.func.grad(cost)(zero)).view(horizon, width)


def test_double_integrator() -> None:
    """K = (-.4, -1.2), (-.285714, -1), (0, -.5); from (1, 0) the cost is x'Px / 2 = 1.457143."""
    problem = integrator(3)
    gains = lqr.backward_pass(problem)
    assert bool(gains.convex)
    expected = torch.tensor([[-0.4, -1.2], [-2 / 7, -1.0], [0.0, -0.5]], dtype=F64)
    assert_close(gains.feedback[:, 0], expected)
    first = torch.tensor([[2.914286, 2.314286], [2.314286, 4.514286]], dtype=F64)
    assert_close(gains.value, first, atol=2e-6, rtol=0)
    states, controls = lqr.followed(problem, gains, START)
    assert_close(controls[:, 0], numbers(-0.4, 0.114286, 0.142857), atol=2e-6, rtol=0)
    cost = lqr.total_cost(problem, states, controls)
    assert cost.item() == pytest.approx(1.457143, abs=2e-6)
    assert cost.item() == pytest.approx(0.5 * (START @ gains.value @ START).item())


def test_affine_dynamics_and_costs() -> None:
    """F = (0, .1), c = (-.5, 0, .2), no final cost: u = -.257143, -.071429, -.2, cost -.095714."""
    problem = integrator(3, 0.1, (-0.5, 0, 0.2), final=0.0)
    states, controls = lqr.followed(problem, lqr.backward_pass(problem), START)
    assert_close(controls[:, 0], numbers(-0.257143, -0.071429, -0.2), atol=2e-6, rtol=0)
    assert lqr.total_cost(problem, states, controls).item() == pytest.approx(-0.095714, abs=2e-6)
    assert_close(controls, all_at_once(problem, START))


def test_last_step_alone() -> None:
    """Cux = (.5, 0), Cuu 4, cu -1, x = (1, 2), nothing after it: u = -(.5 - 1) / 4 = .125."""
    curvature = torch.diag(numbers(0, 0, 4))
    curvature[2, 0] = curvature[0, 2] = 0.5
    problem = integrator(1, final=0.0)._replace(
        curvature=curvature[None], slope=numbers(0, 0, -1)[None]
    )
    _, controls = lqr.followed(problem, lqr.backward_pass(problem), numbers(1, 2))
    assert controls.item() == pytest.approx(0.125)


def test_a_long_horizon_solves_the_riccati_equation() -> None:
    """P = I + A'PA - A'PB (1 + B'PB)^-1 B'PA, with K [-.422082, -1.243929]."""
    gains = lqr.backward_pass(integrator(200))
    assert_close(gains.feedback[0, 0], numbers(-0.422082, -1.243929), atol=2e-6, rtol=0)
    p = gains.value
    expected = torch.tensor([[2.947123, 2.369205], [2.369205, 4.613134]], dtype=F64)
    assert_close(p, expected, atol=2e-6, rtol=0)
    a, b = torch.tensor([[1.0, 1.0], [0.0, 1.0]], dtype=F64), numbers(0, 1)[:, None]
    inverse = torch.linalg.inv(torch.eye(1, dtype=F64) + b.T @ p @ b)
    assert_close(p, torch.eye(2, dtype=F64) + a.T @ p @ a - a.T @ p @ b @ inverse @ b.T @ p @ a)


@pytest.mark.parametrize("seed", range(4))
def test_random_problems_equal_brute_force(seed: int) -> None:
    """Three numbers, two controls, four steps that differ, in a batch of two."""
    draw = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=F64)

    root, end = drawn(2, 4, 5, 5), drawn(2, 3, 3)
    problem = Quadratic(
        drawn(2, 4, 3, 5),
        drawn(2, 4, 3),
        root @ root.mT + 0.1 * torch.eye(5, dtype=F64),
        drawn(2, 4, 5),
        end @ end.mT,
        drawn(2, 3),
    )
    start = drawn(2, 3)
    gains = lqr.backward_pass(problem)
    assert gains.convex.all()
    states, controls = lqr.followed(problem, gains, start)
    for row in range(2):
        alone = Quadratic(*(part[row] for part in problem))
        assert_close(controls[row], all_at_once(alone, start[row]))
    cost = lqr.total_cost(problem, states, controls)
    worse = lqr.total_cost(problem, *moved(problem, start, controls + 0.01))
    assert (worse > cost).all()


def moved(problem: Quadratic, start: Tensor, controls: Tensor) -> tuple[Tensor, Tensor]:
    nothing = Quadratic(*problem)
    gains = lqr.backward_pass(nothing)
    still = gains._replace(feedback=torch.zeros_like(gains.feedback), forward=controls)
    return lqr.followed(problem, still, start)


def test_gradient_of_the_cost_by_the_start_is_the_value() -> None:
    """D cost / d x0 = V x0 + v: of the best controller, controls do not count (envelope)."""
    problem = integrator(3, 0.1, (-0.5, 0, 0.2))
    gains = lqr.backward_pass(problem)
    start = START.clone().requires_grad_()
    cost = lqr.total_cost(problem, *lqr.followed(problem, gains, start))
    (found,) = torch.autograd.grad(cost, start)
    assert_close(found, gains.value @ START + gains.value_slope)


def test_a_cost_that_falls_for_ever_has_no_best_controller() -> None:
    problem = integrator(2)
    concave = problem._replace(
        curvature=-problem.curvature, final_curvature=torch.zeros(2, 2, dtype=F64)
    )
    assert not lqr.backward_pass(concave).convex
    assert lqr.backward_pass(concave, 20.0).convex  # speed is a state, and stays near


def test_damping_keeps_controls_small() -> None:
    problem = integrator(3)
    gains = [lqr.backward_pass(problem, mu) for mu in (0.0, 1.0, 1e6)]
    sizes = [lqr.followed(problem, each, START)[1].abs().sum().item() for each in gains]
    assert sizes[0] > sizes[1] > sizes[2]


def test_expected_decrease_of_a_full_step_is_what_a_quadratic_loses() -> None:
    """Around u = 0 from (1, 0): the whole step saves cost(0) - cost(best)."""
    problem = integrator(3)
    still = torch.zeros(3, 1, dtype=F64)
    zero = lqr.backward_pass(problem)._replace(
        feedback=torch.zeros(3, 1, 2, dtype=F64), forward=still
    )
    states, _ = lqr.followed(problem, zero, START)
    joined = torch.cat([states[:-1], still], dim=-1)
    around = problem._replace(
        offset=torch.zeros(3, 2, dtype=F64),
        slope=(problem.curvature @ joined.unsqueeze(-1)).squeeze(-1),
        final_slope=problem.final_curvature @ states[-1],
    )
    gains = lqr.backward_pass(around)
    saved = lqr.total_cost(problem, states, still) - 1.457142857
    found = lqr.expected_decrease(gains, numbers(1.0, 0.5))
    assert found[0].item() == pytest.approx(saved.item(), abs=1e-8)
    assert found[1].item() == pytest.approx(0.75 * saved.item(), abs=1e-8)


def test_positive_part_lifts_eigenvalues() -> None:
    found = lqr.positive_part(torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=F64), 0.0)
    assert_close(found, torch.full((2, 2), 1.5, dtype=F64))  # 3 and -1, of (1, 1) and (1, -1)
    kept = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=F64)
    assert_close(lqr.positive_part(kept, 1e-3), kept)


def test_gaussian_controller() -> None:
    """Precision 4: std .5; log N(.5) = -1/2 - log .5 - log(2 pi) / 2."""
    precision = numbers(4.0).view(1, 1)
    found = lqr.gaussian_log_prob(numbers(0.5), precision).item()
    assert found == pytest.approx(-0.5 - math.log(0.5) - 0.5 * math.log(2 * math.pi))
    assert lqr.gaussian_sample(numbers(1.0), precision).item() == pytest.approx(0.5)
    wide = torch.tensor([[2.0, 0.6], [0.6, 1.0]], dtype=F64)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=F64)
    drawn = lqr.gaussian_sample(noise, wide.expand(20_000, 2, 2))
    assert_close(drawn.T.cov(), torch.linalg.inv(wide), atol=0.03, rtol=0)
    zero = torch.zeros(2, dtype=F64)
    oracle = torch.distributions.MultivariateNormal(zero, precision_matrix=wide)
    assert_close(lqr.gaussian_log_prob(drawn[:5], wide), oracle.log_prob(drawn[:5]))


def test_temperature_follows_the_divergence() -> None:
    assert lqr.adapted_temperature(1.0, divergence=2.0, target=1.0) == 1.5
    assert lqr.adapted_temperature(1.5, divergence=0.5, target=1.0) == pytest.approx(1.0)
