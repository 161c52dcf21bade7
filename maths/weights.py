"""Weights of the weighted negative log-likelihood: how good data becomes a policy.

Behaviour cloning, filtered cloning, RWR, MARWIL, AWR, AWAC, CRR and the IQL actor are one loss,
-mean(weight * log pi(a | s)), with different weights. Each function here maps an advantage (or a
return) to a weight of the same shape and is interchangeable with the others. Positive advantage
means: the logged action was better than the policy or the value it is compared with. No gradient
flows through any of them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor


def uniform_weight(advantage: Tensor) -> Tensor:
    """Return 1 for every row: behaviour cloning.

    Args:
        advantage: ``[B]``, ignored but for its shape.

    Returns:
        ``[B]`` ones.
    """
    return torch.ones_like(advantage)


def exponential_weight(
    advantage: Tensor, *, temperature: float = 1.0, max_weight: float = math.inf
) -> Tensor:
    """Return min(exp(advantage / temperature), max_weight): RWR, AWR, AWAC, CRR exp, IQL.

    Args:
        advantage: ``[B]``, reward units.
        temperature: Above 0; divides the advantage (IQL's inverse temperature is its reciprocal).
        max_weight: Cap, above 0.

    Returns:
        ``[B]``, in [0, max_weight].

    Raises:
        ValueError: ``temperature`` or ``max_weight`` is not above 0.

    Reference:
        Peng et al. 2019, arXiv 1910.00177, algorithm 1; Kostrikov et al. 2021, arXiv 2110.06169,
        eq. 7.
    """
    if not temperature > 0 or not max_weight > 0:
        raise ValueError(
            f"temperature {temperature} and max_weight {max_weight} must both be above 0"
        )
    # An exponential that overflows is infinite, which the cap cuts like any other large weight.
    return torch.exp(advantage.detach() / temperature).clamp(max=max_weight)


def softmax_weight(
    advantage: Tensor,
    *,
    temperature: float = 1.0,
    mean: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return B * softmax(advantage / temperature) over the batch: they sum to B, not to 1.

    A declared batch statistic: each weight depends on all rows. Unchanged by a constant shift.

    Args:
        advantage: ``[B]``, reward units.
        temperature: Above 0.
        mean: Returns the mean of a scalar ``[]`` over all parts of the batch, where these rows are
            one of several parts of the same size: the weights of all parts have mean 1 then.

    Returns:
        ``[B]``, sum B.

    Raises:
        ValueError: ``temperature`` is not above 0.

    Reference:
        Nair et al. 2020, arXiv 2006.09359, actor update, normalised over the batch.
    """
    if not temperature > 0:
        raise ValueError(f"temperature {temperature} must be above 0")
    scaled = advantage.detach() / temperature
    weight = torch.softmax(scaled, dim=-1) * scaled.shape[-1]
    if mean is None:
        return weight
    # What the rows of this part weigh against those of the others; exp(1418) apart in double.
    level = torch.logsumexp(scaled, dim=-1).double()
    part = torch.exp(level - mean(level))
    return weight * (part / mean(part)).to(weight.dtype)


def expectile_weight(advantage: Tensor, *, expectile: float) -> Tensor:
    """Return expectile where the advantage is positive, else 1 - expectile: implicit policies.

    A value fitted by expectile regression is the mean of Q under the logged policy times these
    weights, normalised: the policy that IQL's value stands for.

    Args:
        advantage: ``[...]``, Q - V, reward units.
        expectile: In (0, 1).

    Returns:
        ``[...]``, in (0, 1).

    Raises:
        ValueError: ``expectile`` is outside (0, 1).

    Reference:
        Hansen-Estruch et al. 2023, arXiv 2304.10573, section 4: |f'(u)| / |u| for f the expectile's
        loss, without the common factor 2.
    """
    if not 0 < expectile < 1:
        raise ValueError(f"expectile is {expectile}, it must lie in (0, 1)")
    positive = (advantage.detach() > 0).to(advantage.dtype)
    return (1.0 - expectile) + (2.0 * expectile - 1.0) * positive


def binary_weight(advantage: Tensor) -> Tensor:
    """Return 1 where the advantage is positive, else 0.

    Args:
        advantage: ``[B]``, reward units.

    Returns:
        ``[B]``, 0 or 1.

    Reference:
        Wang et al. 2020, arXiv 2006.15134, eq. 3.
    """
    return (advantage.detach() > 0).to(advantage.dtype)


def positive_weight(advantage: Tensor, *, max_weight: float = math.inf) -> Tensor:
    """Return min(max(advantage, 0), max_weight): SIL.

    Args:
        advantage: ``[B]``, reward units.
        max_weight: Cap, above 0.

    Returns:
        ``[B]``, in [0, max_weight].

    Raises:
        ValueError: ``max_weight`` is not above 0.

    Reference:
        Oh et al. 2018, arXiv 1806.05635, eq. 2.
    """
    if not max_weight > 0:
        raise ValueError(f"max_weight is {max_weight}, it must be above 0")
    return advantage.detach().clamp(0.0, max_weight)


def marwil_weight(
    advantage: Tensor, square_mean: Tensor, *, beta: float, max_weight: float = math.inf
) -> Tensor:
    """Return min(exp(beta * advantage / c), max_weight), c a root mean square of advantages.

    Args:
        advantage: ``[B]``, reward units.
        square_mean: ``[]``, mean of the squared advantage, c squared.
        beta: At least 0; 0 gives behaviour cloning.
        max_weight: Cap, above 0; the paper has none.

    Returns:
        ``[B]``, in [0, max_weight].

    Raises:
        ValueError: ``beta`` is below 0 or ``max_weight`` is not above 0.

    Reference:
        Wang et al. 2018, "Exponentially weighted imitation learning for batched historical data",
        NeurIPS, algorithm 1.
    """
    if not beta >= 0 or not max_weight > 0:
        raise ValueError(f"beta {beta} must be at least 0 and max_weight {max_weight} above 0")
    scale = 1e-8 + torch.sqrt(square_mean.detach())
    return torch.exp(beta * advantage.detach() / scale).clamp(max=max_weight)


def top_fraction_weight(score: Tensor, *, fraction: float) -> Tensor:
    """Return 1 for the best rows and 0 for the rest; ties go to the earlier row.

    At least one row is kept: max(1, floor(fraction * B)).

    Args:
        score: ``[B]``, larger is better.
        fraction: Share of rows to keep, in (0, 1].

    Returns:
        ``[B]``, 0 or 1.

    Raises:
        ValueError: ``fraction`` is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, it must lie in (0, 1]")
    keep = max(1, math.floor(fraction * len(score) + 1e-9))
    best = torch.sort(score.detach(), descending=True, stable=True).indices[:keep]
    return torch.zeros_like(score).index_fill(0, best, 1.0)


def return_weight(value: Tensor) -> Tensor:
    """Return the return itself as weight (expectation-maximisation RL, EMRL).

    Args:
        value: ``[B]`` returns or rewards, at least 0, reward units.

    Returns:
        ``[B]``, at least 0.

    Raises:
        ValueError: A return is negative. The bound needs R > 0, and shifting the rewards changes
            the answer, so nothing is shifted silently.

    Reference:
        Dayan and Hinton 1997, "Using expectation-maximization for reinforcement learning".
    """
    if bool((value < 0).any()):
        row = int((value < 0).nonzero()[0])
        raise ValueError(
            f"return {float(value[row]):g} in row {row} is negative: weights by return need "
            "returns of at least 0; use the exponential weight, or shift the rewards yourself"
        )
    return value.detach()


def weight_metrics(weight: Tensor, *, max_weight: float = math.inf) -> dict[str, Tensor]:
    """Return three numbers that show whether a batch of weights can be learned from, without unit.

    Args:
        weight: ``[B]``, at least 0.
        max_weight: Their cap.

    Returns:
        ``weight``, their mean; ``effective_sample_size``, (sum w)^2 / (B sum w^2), as a share of
        the batch in [1 / B, 1], 0 where all weights are 0 or their squares overflow; ``clipped``,
        the share that lies at the cap (left out without a cap). All ``[]``.

    Reference:
        Kong 1992, "A note on importance sampling using standardized weights".
    """
    weight = weight.detach()
    mean, square = weight.mean(), weight.square().mean()
    found = {"weight": mean, "effective_sample_size": (mean.square() / square).nan_to_num(0.0)}
    if max_weight < math.inf:
        found["clipped"] = (weight >= max_weight).to(weight.dtype).mean()
    return found
