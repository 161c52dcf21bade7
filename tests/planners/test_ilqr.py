"""Iterative LQR: TB12 by hand, one iteration on a linear problem, bounds, priors, batches."""

import math

import numpy as np
import pytest
import torch
from planned_worlds import imagined
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import lqr
from hindsight_rl.planners.ilqr import ILQR, Solved, improved
from hindsight_rl.planners.trajectory import Bounds, Trajectory
from hindsight_rl.ports import Imagined
from hindsight_rl.spec_parts import ActionSpec

F64 = torch.float64
FREE = ActionSpec("continuous", (1,))
TIGHT = ActionSpec("continuous", (1,), low=(-1.0,), high=(2.0,))


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def wave(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """X' = x + .1 (sin x + u), cost (x^2 + .1 u^2) / 2."""
    x, u = observation[..., 0], action[..., 0]
    return imagined(observation + 0.1 * (observation.sin() + action), -(x**2 + 0.1 * u**2) / 2)


def linear(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """TB12's double integrator."""
    place, speed = observation.unbind(-1)
    following = torch.stack([place + speed, speed + action[..., 0]], -1)
    return imagined(following, -(observation.square().sum(-1) + action[..., 0] ** 2) / 2)


def half_square(weight: float):  # noqa: ANN201
    return lambda x, task: -0.5 * weight * x.square().sum(-1)


def solved(
    model=wave,  # noqa: ANN001
    start: tuple[float, ...] = (1.0,),
    horizon: int = 5,
    weight: float = 10.0,
    iterations: int = 10,
    bounds: Bounds | None = None,
    prior=None,  # noqa: ANN001
    temperature: float = 1.0,
) -> Solved:
    trajectory = Trajectory(model, 1, bounds, half_square(weight), prior, 1.0, temperature)
    first = torch.zeros(1, horizon, 1, dtype=F64)
    return improved(trajectory, numbers(*start)[None], first, iterations, tolerance=1e-12)


def test_costs_fall_as_computed_by_hand() -> None:
    """TB12: from u = 0 costs 14.126394, 2.531935, 2.517202, then constant."""
    found = solved()
    assert_close(found.history[:3, 0], numbers(14.126394, 2.531935, 2.517202), atol=2e-6, rtol=0)
    assert found.history[3:].sub(found.cost).abs().max() < 1e-6
    best = numbers(-3.681255, -2.757221, -2.070198, -1.574748, -1.230792)
    assert_close(found.controls[0, :, 0], best, atol=2e-6, rtol=0)


def test_a_linear_problem_takes_one_iteration() -> None:
    """TB12: u = -.4, .114286, .142857, cost 1.457143, and the second iteration changes nothing."""
    found = solved(linear, (1.0, 0.0), horizon=3, weight=1.0)
    assert found.history[1, 0].item() == pytest.approx(1.457143, abs=2e-6)
    assert_close(found.controls[0, :, 0], numbers(-0.4, 0.114286, 0.142857), atol=2e-6, rtol=0)
    assert len(found.history) <= 3
    once = solved(linear, (1.0, 0.0), horizon=3, weight=1.0, iterations=1)
    assert_close(once.controls, found.controls)


def test_the_plan_is_a_stationary_point() -> None:
    """Value and gradient: the derivative of the cost by every control vanishes at the plan."""
    found = solved()
    controls = found.controls.clone().requires_grad_()
    trajectory = Trajectory(wave, 1, None, half_square(10.0), None, 1.0, 1.0)
    with torch.enable_grad():
        _, _, cost = trajectory.followed(numbers(1.0)[None], lambda t, x: controls[:, t], 5)
        (slope,) = torch.autograd.grad(cost.sum(), controls)
    assert cost.item() == pytest.approx(found.cost.item())
    assert slope.abs().max() < 1e-3


def test_bounds_hold_and_the_rest_is_the_best() -> None:
    """The free plan begins with -3.68; at -1 at the lowest, every step wants the bound."""
    half = Bounds(numbers(0.0), numbers(1.0))
    found = solved(bounds=half, iterations=60)
    action = found.controls.tanh()[0, :, 0]
    assert (action >= -1.0).all() and action.max() < -0.95
    free = solved(bounds=Bounds(numbers(0.0), numbers(50.0)), iterations=60)
    assert free.cost.item() == pytest.approx(2.517202, abs=1e-4)  # wide bounds do not bind


def test_rows_stop_by_themselves() -> None:
    starts = numbers(1.0, -2.0, 0.0)[:, None]
    trajectory = Trajectory(wave, 1, None, half_square(10.0), None, 1.0, 1.0)
    together = improved(trajectory, starts, torch.zeros(3, 5, 1, dtype=F64), 10)
    for row, start in enumerate(starts):
        alone = improved(trajectory, start[None], torch.zeros(1, 5, 1, dtype=F64), 10)
        assert_close(together.controls[row], alone.controls[0], atol=1e-5, rtol=0)
    assert together.cost[2].item() == 0.0


def gaussian(observation: Tensor, action: Tensor) -> Tensor:
    """Log N(u; .5, .2^2)."""
    residual = (action[..., 0] - 0.5) / 0.2
    return -0.5 * residual.square() - math.log(0.2) - 0.5 * math.log(2 * math.pi)


def test_a_prior_alone_is_followed_and_its_spread_is_the_controller_s() -> None:
    """Without a reward the best controller is the policy itself: mean .5, precision 25, KL 0."""

    def idle(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        return imagined(observation + action, 0.0 * action[..., 0])

    found = solved(idle, weight=0.0, prior=gaussian)
    assert_close(found.controls, torch.full_like(found.controls, 0.5))
    assert_close(
        found.gains.precision, torch.full_like(found.gains.precision, 25.0), atol=1e-5, rtol=0
    )
    own = lqr.gaussian_log_prob(found.controls - 0.5, found.gains.precision)
    assert_close(
        own, gaussian(found.states[:, :-1], found.controls).to(own.dtype), atol=1e-5, rtol=0
    )


def test_temperature_trades_reward_against_the_prior() -> None:
    """A Gaussian at .5 and reward -(u - 2)^2 / 2: mean (25 .5 + 2 / nu) / (25 + 1 / nu)."""

    def pay(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        return imagined(observation, -0.5 * (action[..., 0] - 2.0) ** 2 + 0.0 * observation[..., 0])

    for nu in (0.01, 0.1, 1.0):
        found = solved(pay, weight=0.0, prior=gaussian, temperature=nu)
        expected = (25 * 0.5 + 2.0 / nu) / (25 + 1.0 / nu)
        assert found.controls[0, 0, 0].item() == pytest.approx(expected, abs=1e-6)
        assert found.gains.precision[0, 0, 0, 0].item() == pytest.approx(25 + 1 / nu, rel=1e-6)


def test_squashed_density_counts_its_slope() -> None:
    """U = tanh(v): log p(v) = log p(u) + log(1 - u^2)."""
    trajectory = Trajectory(wave, 1, Bounds(numbers(0.0), numbers(3.0)), None, None, 1.0, 1.0)
    control = numbers(0.7)[None]
    expected = math.log(3.0 * (1 - math.tanh(0.7) ** 2))
    assert trajectory.log_slope(control).item() == pytest.approx(expected)


def acted(planner: ILQR, action: ActionSpec, places: list[float], steps: int = 1):  # noqa: ANN201
    actor = planner.actor(wave, action, value=half_square(10.0))
    seen, state, found = np.array(places, np.float32)[:, None], None, []
    state = actor.initial_state(len(places))
    for step in range(steps):
        noise = np.array([[3, row, step] for row in range(len(places))], np.int64)
        chosen, state = actor.step(seen, None, state, noise)
        found.append(chosen)
    return np.stack(found)


def test_it_acts() -> None:
    free = acted(ILQR(horizon=5), FREE, [1.0, 0.0])
    assert free[0, 0, 0] == pytest.approx(-3.681255, abs=1e-3) and free[0, 1, 0] == 0.0
    tight = acted(ILQR(horizon=5, iterations=40), TIGHT, [1.0, -1.0], steps=2)
    assert (tight >= -1.0).all() and (tight <= 2.0).all()
    assert tight[0, 0, 0] < -0.9 and tight[0, 1, 0] > 1.5


def test_drawn_actions_spread_as_the_controller_says() -> None:
    """Around the mean with Quu^-1; a tenth of the temperature is a tenth of the variance."""
    places = [1.0] * 400
    wide = acted(ILQR(horizon=5, sample=True, temperature=1.0), FREE, places)[0, :, 0]
    narrow = acted(ILQR(horizon=5, sample=True, temperature=0.1), FREE, places)[0, :, 0]
    assert wide.mean() == pytest.approx(-3.68, abs=0.2 * float(wide.std()))
    assert narrow.std() / wide.std() == pytest.approx(math.sqrt(0.1), rel=0.05)
    found = solved()
    exact = float(found.gains.precision[0, 0, 0, 0] ** -0.5)
    assert wide.std() == pytest.approx(exact, rel=0.1)


def test_a_simulator_cannot_be_differentiated() -> None:
    def simulator(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        return imagined(observation.detach() + 1.0, torch.zeros(observation.shape[:-1]))

    actor = ILQR(horizon=2).actor(simulator, FREE)
    with pytest.raises(ValueError, match="CEM or MPPI"):
        actor.step(
            np.zeros((1, 1), np.float32), None, actor.initial_state(1), np.zeros((1, 3), np.int64)
        )


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="temperature is 0.0"):
        ILQR(temperature=0.0)
    with pytest.raises(ValueError, match="horizon 0"):
        ILQR(horizon=0)
    with pytest.raises(ValueError, match="one of 4 choices"):
        ILQR().actor(wave, ActionSpec("discrete", (), n=4))
