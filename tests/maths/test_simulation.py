"""Values in wrong models: TB3 (simulation lemma) and TB4 (pessimism), values, slopes and bounds."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.dynamics import penalised
from hindsight_rl.maths.simulation import pessimistic_world, simulation_gap, tabular_value

GAMMA = 0.9


def f64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(actual: Tensor, expected: object) -> None:
    torch.testing.assert_close(actual, f64(expected), rtol=0, atol=2e-6)


TRUE, MODEL = f64([[0.8, 0.2], [0.1, 0.9]]), f64([[0.7, 0.3], [0.3, 0.7]])


def random_world(states: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(states, states, dtype=torch.float64, generator=generator)
    reward = torch.randn(states, dtype=torch.float64, generator=generator)
    return chance / chance.sum(-1, keepdim=True), reward


# --- TB3 ------------------------------------------------------------------------------------------


def test_simulation_lemma() -> None:
    """TB3: V = (4.864865, 7.567568), in the model (4.218750, 5.781250)."""
    reward = f64([0.0, 1.0])
    value = tabular_value(TRUE, reward, discount=GAMMA)
    close(value, [4.864865, 7.567568])
    imagined = tabular_value(MODEL, reward, discount=GAMMA)
    close(imagined, [4.218750, 5.781250])
    gap = simulation_gap(TRUE, MODEL, value, discount=GAMMA)
    close(gap, [0.646115, 1.786318])
    torch.testing.assert_close(gap, value - imagined)
    close(simulation_gap(TRUE, TRUE, value, discount=GAMMA), [0.0, 0.0])


def test_slope_of_the_gap_by_the_world() -> None:
    """By P: gamma M_s V_t, M = (I - gamma P_model)^-1, of the sum over states: sums of columns.

    I - gamma P_model = [[.37, -.27], [-.27, .37]]; its inverse has columns that sum to 10.
    """
    world = TRUE.clone().requires_grad_()
    value = f64([4.864865, 7.567568])
    simulation_gap(world, MODEL, value, discount=GAMMA).sum().backward()
    close(world.grad, [[43.783785, 68.108112], [43.783785, 68.108112]])


def test_gap_stays_within_its_bound() -> None:
    """At most gamma / (1 - gamma) times half the largest |P - P_model|_1 by the spread of V."""
    for seed in range(20):
        (world, reward), (model, _) = random_world(6, seed), random_world(6, seed + 100)
        value = tabular_value(world, reward, discount=GAMMA)
        gap = simulation_gap(world, model, value, discount=GAMMA)
        torch.testing.assert_close(gap, value - tabular_value(model, reward, discount=GAMMA))
        wrong = 0.5 * (world - model).abs().sum(-1).amax() * (value.amax() - value.amin())
        assert bool((gap.abs() <= GAMMA / (1 - GAMMA) * wrong).all())


# --- TB4 ------------------------------------------------------------------------------------------


def of_actions(reward: Tensor, unknown: list[bool] | None = None, **how: bool) -> Tensor:
    """Return what each of two actions is worth for ever, in a world of one state."""
    stay = torch.eye(2, dtype=torch.float64)
    if unknown is None:
        return tabular_value(stay, reward, discount=GAMMA)
    world = pessimistic_world(stay, reward, torch.tensor(unknown), least=-1.0, **how)
    return tabular_value(*world, discount=GAMMA)[:2]


def test_pessimism_prefers_what_is_known() -> None:
    """TB4: the model promises 2 for an action nobody tried, .5 is known: 20 against 5."""
    reward, unknown = f64([0.5, 2.0]), [False, True]
    close(of_actions(reward), [5.0, 20.0])
    close(of_actions(reward, unknown, absorbing=True), [5.0, -10.0])
    close(of_actions(reward, unknown, absorbing=False), [5.0, -1.0])
    close(of_actions(penalised(reward, f64([0.0, 1.8]), penalty=1.0)), [5.0, 2.0])


def test_no_policy_is_worth_more_where_the_unknown_halts() -> None:
    """Whatever the model says of unknown states, and though it is right about known ones only."""
    for seed in range(20):
        (world, reward), (model, said) = random_world(6, seed), random_world(6, seed + 50)
        unknown = torch.rand(6, generator=torch.Generator().manual_seed(seed)) < 0.4
        believed = torch.where(unknown.unsqueeze(-1), model, world)
        promised = torch.where(unknown, said, reward)
        safe = pessimistic_world(
            believed, promised, unknown, least=float(reward.amin()), absorbing=True
        )
        careful = tabular_value(*safe, discount=GAMMA)[:-1]
        assert bool((careful <= tabular_value(world, reward, discount=GAMMA) + 1e-9).all())
        nothing = pessimistic_world(world, reward, unknown & False, least=-9.0, absorbing=True)
        plain = tabular_value(*nothing, discount=GAMMA)[:-1]
        torch.testing.assert_close(plain, tabular_value(world, reward, discount=GAMMA))


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"transition \(2, 2\) must be \[S, S\] for 3 states"):
        tabular_value(TRUE, f64([1.0, 2, 3]), discount=GAMMA)
    with pytest.raises(ValueError, match=r"discount is 1.0, it must lie in \[0, 1\)"):
        tabular_value(TRUE, f64([1.0, 2]), discount=1.0)
