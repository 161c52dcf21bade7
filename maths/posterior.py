"""The task posterior: for which task was this experience good? Relabeling as inverse RL.

Given the score of every item under every task (the sum of a trajectory's rewards, or the soft
Q-value of a transition), the posterior over tasks is

    q(task | item) proportional to p(task) * exp(score(item, task) - log Z(task))

where log Z(task), the log-partition function, measures how good all items are for the task.
Without it every item goes to the task with the largest rewards. With it a task gets the items that
are better for it than other items, and a constant added to a task's reward changes nothing.

Reference: Eysenbach et al. 2020, arXiv 2002.11089, eq. 3 to 9 and algorithm 1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

# Of log temperature: below and above that of the spread of scores, and halvings of the interval.
_SHARPEST, _FLATTEST, _HALVINGS = 14.0, 7.0, 24


class SoftValues(NamedTuple):
    """What a learner says of transitions under tasks: all of a soft Q-value but the reward."""

    log_prob: Tensor
    """``[...]``, of the logged action under the policy for the task, nats."""
    next_value: Tensor
    """``[...]``, of the next state for the task, reward units."""
    temperature: Tensor
    """``[]``, what the policy divides values by, reward units per nat."""
    discount: float
    """Of the learner, in [0, 1]."""


def log_partition(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return log Z of each task, estimated by the mean of exp(score) over the items.

    Args:
        scores: ``[..., B, N]``, nats; -inf where an item is impossible under a task.
        mask: ``[..., B]`` bool, items that count (padded steps do not); ``None`` for all.

    Returns:
        ``[..., N]``, nats; -inf for a task that no item supports.
    """
    if mask is None:
        return torch.logsumexp(scores, dim=-2) - math.log(scores.shape[-2])
    counted = torch.where(mask.unsqueeze(-1), scores, -torch.inf)
    count = mask.sum(-1, keepdim=True).to(scores.dtype)
    return torch.logsumexp(counted, dim=-2) - count.clamp_min(1.0).log()


def task_posterior(
    scores: Tensor,
    log_prior: Tensor | None = None,
    *,
    partition: bool | Tensor = True,
    mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Return the probability of every task for every item.

    Args:
        scores: ``[..., B, N]``, nats; -inf where an item is impossible under a task.
        log_prior: ``[N]`` or ``[..., B, N]``, nats, up to a constant; ``None`` for equal ones.
        partition: Subtract log Z: ``True`` estimates it from these items, a tensor ``[..., N]`` is
            one that is known (of the whole log, or a running estimate), ``False`` leaves it out.
        mask: ``[..., B]`` bool, items that count for log Z; ``None`` for all.
        temperature: Above 0, divides the scores: sharper below 1, flatter above.

    Returns:
        ``[..., B, N]``, each row sums to 1. A task without support, log Z = -inf, gets 0; an item
        that is impossible under all tasks gets the prior over those with support. Where no task
        has support, every item gets the prior.

    Raises:
        ValueError: ``temperature`` is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}, it must be above 0")
    scores = scores / temperature
    prior = torch.zeros_like(scores[..., :1, :]) if log_prior is None else log_prior
    if isinstance(partition, Tensor):
        log_z = partition.unsqueeze(-2)
    elif partition:
        log_z = log_partition(scores, mask).unsqueeze(-2)
    else:
        log_z = torch.zeros_like(scores[..., :1, :])
    supported = log_z > -torch.inf
    # Neither -inf - (-inf) nor a row of nothing but -inf may reach the soft-max: both give NaN.
    excess = scores - torch.where(supported, log_z, 0.0)
    # Where no task has support, as where no item counts, all are left to the prior.
    allowed = supported | ~supported.any(dim=-1, keepdim=True)
    prior = torch.where(allowed, prior, -torch.inf).expand_as(scores)
    logits = prior + torch.where(supported, excess, 0.0)
    possible = (logits > -torch.inf).any(dim=-1, keepdim=True)
    return torch.softmax(torch.where(possible, logits, prior), dim=-1)


def temperature_for(
    perplexity: float,
    scores: Tensor,
    log_prior: Tensor | None = None,
    *,
    partition: bool = True,
) -> float:
    """Return the temperature at which items have so many tasks each.

    The number of tasks of an item is the perplexity of its posterior, exp(entropy). Hot, its mean
    over the items that are possible under a task is that of the prior over the tasks under which
    they are possible. Cold, it is 1 without ties; and with log Z an item keeps every task for which
    it is the best of all items. Log temperature is bisected between the two; a number beyond them
    gets the temperature of the nearer end.

    Args:
        perplexity: Tasks per item, mean over the items, at least 1.
        scores: ``[B, N]``, nats; -inf where an item is impossible under a task.
        log_prior: ``[N]``, nats, up to a constant; ``None`` for equal ones.
        partition: Subtract log Z, estimated from these items at each temperature.

    Returns:
        Temperature, above 0; 1 where all scores are equal, or none is finite.

    Reference:
        Perplexity as the number of neighbours: van der Maaten and Hinton 2008, "Visualizing data
        using t-SNE"; here all items share one temperature.
    """
    scores = scores[(scores > -torch.inf).any(-1)]
    finite = scores[scores.isfinite()]
    spread = float(finite.max() - finite.min()) if len(finite) else 0.0
    if spread == 0:
        return 1.0
    low, high = math.log(spread) - _SHARPEST, math.log(spread) + _FLATTEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        posterior = task_posterior(
            scores, log_prior, partition=partition, temperature=math.exp(middle)
        )
        if float(mean_perplexity(posterior)) < perplexity:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def mean_perplexity(posterior: Tensor) -> Tensor:
    """Return the mean of exp(entropy) over items: among how many tasks each chooses.

    Args:
        posterior: ``[..., N]``, rows that sum to 1.

    Returns:
        ``[]``, in [1, N].
    """
    entropy: Tensor = -torch.special.xlogy(posterior, posterior).sum(-1)
    return entropy.exp().mean()


def sample_tasks(posterior: Tensor, uniform: Tensor) -> Tensor:
    """Return one task per item, drawn from its posterior by inversion.

    Args:
        posterior: ``[..., N]``, rows that sum to about 1.
        uniform: ``[...]``, numbers in [0, 1), such as those of :func:`hindsight_rl.maths.draws`.

    Returns:
        ``[...]`` int64 in [0, N); never a task of probability 0.
    """
    below = posterior.cumsum(dim=-1)
    # Rounding may leave the total short of 1: the draw is stretched to what is there.
    level = uniform.unsqueeze(-1) * below[..., -1:]
    return (below <= level).sum(dim=-1).clamp(max=posterior.shape[-1] - 1)


def transition_scores(
    reward: Tensor,
    log_prob: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    *,
    discount: float,
    entropy_scale: float | Tensor = 1.0,
) -> Tensor:
    """Return the soft Q-value of transitions under tasks, from one step and a critic.

        r(s, a, z) - entropy_scale * log pi(a | s, z) + discount * (1 - terminated) * Q(s', a', z)

    Args:
        reward: ``[B, N]``, of each transition under each task.
        log_prob: ``[B, N]``, of the action under the policy for each task, nats.
        next_value: ``[B, N]``, value of the next state, its action drawn from the policy.
        terminated: ``[B, N]`` bool, whether the task ends with the step.
        discount: In [0, 1].
        entropy_scale: 1 as in the published code, 0 without the entropy, or the policy's
            temperature, which is consistent with a critic that is scaled by it.

    Returns:
        ``[B, N]``, nats at temperature 1.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, eq. 8; hipi/relabelling_replay_buffer.py.
    """
    going = torch.where(terminated, 0.0, next_value)
    return reward - entropy_scale * log_prob + discount * going


def posterior_metrics(posterior: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
    """Return how sure the posterior is, and how items and tasks share each other.

    Args:
        posterior: ``[..., B, N]``; leading dimensions (updates, each with tasks of its own) are
            averaged.
        mask: ``[..., B]`` bool, items that count; ``None`` for all.

    Returns:
        ``entropy``: mean over the items, nats. ``effective_tasks``: reciprocal of the sum of
        squared shares of the items that tasks get, in [1, N]. ``effective_share``: effective sample
        size of the items as a task is served them, (sum q)^2 / sum q^2, as a share of the items,
        mean over the tasks with support, in (0, 1].
    """
    if mask is None:
        mask = torch.ones(posterior.shape[:-1], dtype=torch.bool, device=posterior.device)
    tiny = torch.finfo(posterior.dtype).tiny
    counted = torch.where(mask.unsqueeze(-1), posterior, 0.0)
    count = mask.sum(-1)
    some, size = count > 0, count.clamp_min(1)
    total, square = counted.sum(dim=-2), counted.square().sum(dim=-2)
    share = total / size.unsqueeze(-1)
    served = (square > 0).sum(-1).clamp_min(1)
    found = {
        "entropy": -torch.special.xlogy(counted, counted).sum(dim=(-2, -1)) / size,
        "effective_tasks": share.square().sum(-1).clamp_min(tiny).reciprocal(),
        "effective_share": (total.square() / square.clamp_min(tiny)).sum(-1) / served / size,
    }
    updates = some.sum().clamp_min(1)
    return {name: torch.where(some, value, 0.0).sum() / updates for name, value in found.items()}
