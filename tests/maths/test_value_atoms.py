"""The projection of C51: values and gradient by hand, what lies on an atom and beyond them."""

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.value_atoms import projected


def f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


ATOMS = f64(0, 1, 2, 3, 4)
MASS = f64(0.1, 0.2, 0.4, 0.2, 0.1)


def test_closed_form() -> None:
    """R .5, gamma .9: values .5, 1.4, 2.3, 3.2 and 4.1, the last clipped to 4."""
    found = projected(MASS, 0.5 + 0.9 * ATOMS, ATOMS)
    torch.testing.assert_close(found, f64(0.05, 0.17, 0.36, 0.28, 0.14))
    assert found.sum().item() == pytest.approx(1.0)
    assert (found * ATOMS).sum().item() == pytest.approx(2.29)


def test_a_terminal_reward_on_an_atom_keeps_all_its_mass() -> None:
    """Floor and ceiling are equal there, and a naive form shares nothing."""
    found = projected(MASS, torch.full((5,), 2.0, dtype=torch.float64), ATOMS)
    torch.testing.assert_close(found, f64(0, 0, 1, 0, 0))


def test_gradient_goes_to_the_mass() -> None:
    """What atom 1 gets of each: half of that at .5, .6 of that at 1.4, nothing of the others."""
    mass = MASS.clone().requires_grad_()
    projected(mass, 0.5 + 0.9 * ATOMS, ATOMS)[1].backward()
    assert mass.grad is not None
    torch.testing.assert_close(mass.grad, f64(0.5, 0.6, 0, 0, 0))


def test_values_within_the_atoms_keep_their_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    place = 4.0 * torch.rand(6, 7, generator=generator, dtype=torch.float64)
    mass = torch.softmax(torch.randn(6, 7, generator=generator, dtype=torch.float64), -1)
    found = projected(mass, place, ATOMS)
    torch.testing.assert_close((found * ATOMS).sum(-1), (mass * place).sum(-1))
    torch.testing.assert_close(found[2], projected(mass[2], place[2], ATOMS))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"shapes differ: mass \(5,\), place \(4,\)"):
        projected(MASS, ATOMS[:4], ATOMS)
    with pytest.raises(ValueError, match="there are 1 atoms, and it takes two at least"):
        projected(MASS, ATOMS, ATOMS[:1])
