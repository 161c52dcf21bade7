"""How likely the answers of a file are: what the distribution that it states says of them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.densities import Likelihood
from hindsight_rl.export.contract import Contract, bounds
from hindsight_rl.export.signature import Signature
from hindsight_rl.propensities import NO_DENSITY

PREFIX = "distribution."
"""Of the names of outputs that state a distribution."""


def likelihood_of(
    contract: Contract, signature: Signature, outputs: Mapping[str, NDArray[Any]]
) -> Likelihood | None:
    """Return the log-probability of actions under what the graph answered.

    Args:
        contract: Of the file.
        signature: Its signature.
        outputs: Of the graph, ``[n, ...]`` by name.

    Returns:
        A function of executed actions and the environment's bounds; ``None`` where the file states
        no distribution.
    """
    stated = signature.distribution
    if stated is None:
        return None
    low, high = _own_bounds(contract, signature)
    numbers = {name: outputs[f"{PREFIX}{name}"] for name in stated.numbers(signature.action)}
    return Likelihood(stated.kind, numbers, low, high, signature.action.start)


def unstated(
    contract: Contract,
    signature: Signature,
    low: NDArray[np.float32],
    high: NDArray[np.float32],
    *,
    drawn: bool,
    mixed: bool,
) -> str:
    """Return why it is not known how likely executed answers of a file are.

    Args:
        contract: Of the file.
        signature: Its signature.
        low: ``[A]``, least number that the environment executes; empty for choices.
        high: ``[A]``, largest one.
        drawn: Whether noise is drawn; else there is none, or zeros are in its place.
        mixed: Whether a share of the actions is drawn uniformly between these bounds instead.

    Returns:
        The end of a sentence, "" where it is known.
    """
    if not drawn:
        # A choice is certain, and a number has no density.
        return "" if signature.action.discrete else NO_DENSITY
    if signature.distribution is None:
        return "the file draws its actions from noise and does not hold their density"
    if signature.action.discrete:
        return ""
    own_low, own_high = _own_bounds(contract, signature)
    # Uniform draws would have a density where the policy's actions are clipped to a bound.
    tighter = bool(((own_low > low) | (own_high < high)).any()) and mixed
    apart = bool((np.maximum(own_low, low) > np.minimum(own_high, high)).any())
    return "the environment has other action bounds than the policy" if tighter or apart else ""


def _own_bounds(
    contract: Contract, signature: Signature
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the policy's own bounds ``[A]``, empty for choices."""
    if signature.action.discrete:
        return np.zeros(0, np.float32), np.zeros(0, np.float32)
    return bounds(contract)
