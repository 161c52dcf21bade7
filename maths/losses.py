"""Losses and log-probabilities: tensors in, one number per row out, no reduction.

Sign convention: a *difference* is target minus prediction, so positive means that the data were
better than predicted.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def same_shape(**tensors: Tensor) -> None:
    """Check that tensors, given by name, have one shape.

    Args:
        **tensors: Of one shape.

    Raises:
        ValueError: Two shapes differ.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"shapes differ: {listed}; scalars per row are [B], never [B, 1]")


def expectile_loss(difference: Tensor, *, expectile: float) -> Tensor:
    """Return |expectile - 1(u < 0)| * u**2 for u = target - prediction.

    An expectile of 0.5 gives half the squared error; above 0.5 the prediction leans to the upper
    end of the targets.

    Args:
        difference: ``[B]``, target minus prediction.
        expectile: In (0, 1).

    Returns:
        ``[B]``, at least 0.

    Raises:
        ValueError: ``expectile`` is outside (0, 1).

    Reference:
        Kostrikov et al. 2021, arXiv 2110.06169, eq. 4 and 5.
    """
    if not 0 < expectile < 1:
        raise ValueError(f"expectile is {expectile}, it must lie in (0, 1)")
    # Not torch.where of two numbers: that is float32 whatever the dtype of the difference.
    return (expectile - (difference < 0).to(difference.dtype)).abs() * difference.square()


def huber_loss(difference: Tensor, *, limit: float | None) -> Tensor:
    """Return half the squared difference, growing linearly beyond a limit.

    Args:
        difference: ``[...]``, target minus prediction.
        limit: Above 0, in the unit of the difference; ``None`` for none.

    Returns:
        ``[...]``, at least 0.

    Reference:
        Huber 1964, "Robust estimation of a location parameter".
    """
    if limit is None:
        return 0.5 * difference.square()
    zero = torch.zeros_like(difference)
    return functional.huber_loss(difference, zero, reduction="none", delta=limit)


def lower_bound_loss(advantage: Tensor, *, max_advantage: float = math.inf) -> Tensor:
    """Return max(advantage, 0)^2 / 2 with slopes of no more than ``max_advantage``.

    A return is a lower bound of the best value: a value above it is no error.

    Args:
        advantage: ``[B]``, return minus value, reward units.
        max_advantage: Where the square goes over to a line, above 0, reward units.

    Returns:
        ``[B]``, at least 0.

    Reference:
        Oh et al. 2018, arXiv 1806.05635, eq. 3.
    """
    limit = None if math.isinf(max_advantage) else max_advantage
    return huber_loss(advantage.clamp(min=0.0), limit=limit)


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: Tensor) -> Tensor:
    """Return r + discount * (1 - terminated) * V(s'), without gradient.

    Args:
        reward: ``[B]``, reward units.
        terminated: ``[B]`` bool; a time limit is not a terminal state.
        next_value: ``[B]``, reward units.
        discount: ``[B]``, in [0, 1].

    Returns:
        ``[B]``, reward units.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(reward=reward, terminated=terminated, next_value=next_value, discount=discount)
    return (reward + discount * (~terminated).to(reward.dtype) * next_value).detach()


def weighted_loss(row_loss: Tensor, weight: Tensor) -> Tensor:
    """Return weight * loss: the one policy loss of the weighted cloning family.

    The loss of a row is -log pi(a | s), or what stands in its place where there is no density.

    Args:
        row_loss: ``[B]``.
        weight: ``[B]``; no gradient flows through it.

    Returns:
        ``[B]``, the unit of the loss times that of the weight.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(row_loss=row_loss, weight=weight)
    return weight.detach() * row_loss


def weighted_nll(log_prob: Tensor, weight: Tensor) -> Tensor:
    """Return -weight * log pi(a | s), see :func:`weighted_loss`.

    Weights may be negative (signed-label cloning); the loss is then unbounded below.

    Args:
        log_prob: ``[B]``, nats.
        weight: ``[B]``; no gradient flows through it.

    Returns:
        ``[B]``, nats times the unit of the weight.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(log_prob=log_prob, weight=weight)
    return -weight.detach() * log_prob


def normal_log_prob(action: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of a diagonal normal distribution, summed over action dimensions.

    Args:
        action: ``[..., A]``.
        mean: ``[..., A]``, same unit as the action.
        log_std: ``[..., A]``, natural logarithm of the spread.

    Returns:
        ``[...]``, nats.
    """
    standard = (action - mean) * torch.exp(-log_std)
    return -(0.5 * standard.square() + log_std + _HALF_LOG_TWO_PI).sum(-1)


def laplace_log_prob(action: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log-density of independent Laplace distributions, summed over action dimensions.

    Args:
        action: ``[..., A]``.
        centre: ``[..., A]``, median of the distribution, same unit as the action.
        log_scale: ``[..., A]``, natural logarithm of the mean absolute deviation.

    Returns:
        ``[...]``, nats.
    """
    deviation = (action - centre).abs() * torch.exp(-log_scale)
    return -(deviation + log_scale + math.log(2.0)).sum(-1)


def tanh_normal_log_prob(
    action: Tensor, mean: Tensor, log_std: Tensor, *, margin: float = 1e-5
) -> Tensor:
    """Return the log-density of tanh(u), u diagonal normal; the Jacobian is included.

    Args:
        action: ``[..., A]`` in [-1, 1]; clipped to 1 - ``margin`` in magnitude, where the density
            would be infinite or zero.
        mean: ``[..., A]`` of u.
        log_std: ``[..., A]`` of u.
        margin: Distance kept from +-1, in (0, 1).

    Returns:
        ``[...]``, nats.
    """
    before = torch.atanh(action.clamp(-1.0 + margin, 1.0 - margin))
    return normal_log_prob(before, mean, log_std) - tanh_log_slope(before).sum(-1)


def tanh_log_slope(value: Tensor) -> Tensor:
    """Return log(1 - tanh(value)^2), finite for all values.

    Args:
        value: ``[...]``.

    Returns:
        ``[...]``.
    """
    return 2.0 * (math.log(2.0) - value - functional.softplus(-2.0 * value))


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """Return -log(alpha) * (log pi + target entropy): alpha grows while the entropy is too small.

    Args:
        log_temperature: ``[]``, log of alpha.
        log_prob: ``[B]``, log-probability of actions of the policy, nats; no gradient passes.
        target_entropy: Entropy that is held, nats.

    Returns:
        ``[B]``.

    Reference:
        Haarnoja et al. 2018, arXiv 1812.05905, eq. 18, with log(alpha) in place of the factor
        alpha.
    """
    return -log_temperature * (log_prob + target_entropy).detach()


def mixture_log_prob(action: Tensor, logits: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the log-density of a mixture of M diagonal normal distributions.

    Args:
        action: ``[..., A]``.
        logits: ``[..., M]``, unnormalised log-weights of the components.
        mean: ``[..., M, A]``.
        log_std: ``[..., M, A]``.

    Returns:
        ``[...]``, nats.

    Reference:
        Bishop 1994, "Mixture density networks", eq. 29.
    """
    components = normal_log_prob(action.unsqueeze(-2), mean, log_std)
    return torch.logsumexp(torch.log_softmax(logits, dim=-1) + components, dim=-1)


def categorical_log_prob(action: Tensor, logits: Tensor) -> Tensor:
    """Return the log-probability of an action under softmax(logits).

    Args:
        action: ``[...]`` int64, in [0, n).
        logits: ``[..., n]``.

    Returns:
        ``[...]``, nats.
    """
    return torch.log_softmax(logits, dim=-1).gather(-1, action.unsqueeze(-1)).squeeze(-1)


def return_bound(log_policy: Tensor, reward: Tensor, q: Tensor) -> Tensor:
    """Return F(pi, q) = E_q[log R + log pi - log q], a lower bound of log E_pi[R].

    The bound is tight for q proportional to pi * R. This is the objective that the data step (q)
    and the policy step (pi) raise in turn.

    Args:
        log_policy: ``[..., N]``, log-probability of each outcome under the policy, nats.
        reward: ``[..., N]``, above 0.
        q: ``[..., N]``, probabilities that sum to 1; outcomes of probability 0 count nothing.

    Returns:
        ``[...]``, nats.

    Reference:
        Dayan and Hinton 1997, "Using expectation-maximization for reinforcement learning".
    """
    # An outcome that the policy excludes has score -inf, and 0 * inf is not a number.
    score = (torch.log(reward) + log_policy).masked_fill(q == 0, 0.0)
    return (q * score - torch.xlogy(q, q)).sum(-1)


def multiplier_loss(multiplier: Tensor, divergence: Tensor, *, limit: Tensor | float) -> Tensor:
    """Return multiplier * (limit - divergence): it grows while the divergence is over its limit.

    Args:
        multiplier: ``[...]``, above 0.
        divergence: ``[...]``, what is held to a limit; no gradient flows through it.
        limit: ``[...]`` or a number, in the unit of the divergence.

    Returns:
        ``[...]``, broadcast.

    Reference:
        Abdolmaleki et al. 2018, arXiv 1812.02256, the trust region of the M-step.
    """
    return multiplier * (limit - divergence.detach())
