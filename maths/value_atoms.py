"""Distributions of returns on fixed atoms: the projection of one that was moved (C51).

N atoms z_i lie evenly between the smallest and the largest return. After a step the mass of z_i
lies at r + gamma z_i, between two atoms, and is shared among them by distance.

Reference: Bellemare, Dabney and Munos 2017, "A distributional perspective on reinforcement
learning", arXiv 1707.06887, equation 7.
"""

import torch
from torch import Tensor


def projected(mass: Tensor, place: Tensor, atoms: Tensor) -> Tensor:
    """Return the masses on the atoms of a distribution whose values lie elsewhere.

    Args:
        mass: ``[..., M]``, at least 0, with sum 1.
        place: ``[..., M]``, where each lies, reward units; beyond the atoms the outermost gets it.
        atoms: ``[N]``, evenly spaced and rising, N at least 2, reward units.

    Returns:
        ``[..., N]``, with sum 1; its mean is that of the values, where none lay beyond the atoms.

    Raises:
        ValueError: Masses and places differ in shape, or there are fewer than two atoms.
    """
    if mass.shape != place.shape:
        raise ValueError(f"shapes differ: mass {tuple(mass.shape)}, place {tuple(place.shape)}")
    if len(atoms) < 2:
        raise ValueError(f"there are {len(atoms)} atoms, and it takes two at least")
    width = atoms[1] - atoms[0]
    steps = ((place - atoms[0]) / width).clamp(0.0, len(atoms) - 1.0)
    # A tent over every atom: floor and ceiling would lose the mass that lies exactly on one.
    numbers = torch.arange(len(atoms), device=atoms.device, dtype=steps.dtype)
    tent = (1.0 - (steps.unsqueeze(-1) - numbers).abs()).clamp_min(0.0)
    return (mass.unsqueeze(-1) * tent).sum(-2)
