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
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

Part = Tensor | Callable[[], Tensor]
"""A tensor, or what computes it."""

# Of log temperature: below and above that of the spread of scores, and halvings of the interval.
_SHARPEST, _FLATTEST, _HALVINGS = 14.0, 7.0, 24


class SoftValues:
    """What a learner says of transitions under tasks, each part computed when it is asked for.

    Args:
        log_prob: ``[...]``, of the logged action under the policy for the task, nats.
        next_value: ``[...]``, of the next state for the task, reward units.
        temperature: ``[]``, what the policy divides values by, reward units per nat.
        discount: Of the learner, in [0, 1].
        value: ``[...]``, of the logged action for the task by the critic, reward units; ``None``
            where the learner does not say.
    """

    def __init__(
        self,
        log_prob: Part,
        next_value: Part,
        temperature: Tensor,
        discount: float,
        value: Part | None = None,
    ) -> None:
        self._log_prob, self._next_value, self._value = log_prob, next_value, value
        self.temperature, self.discount = temperature, discount

    @cached_property
    def log_prob(self) -> Tensor:
        """The log-probability of the logged action, ``[...]``, nats."""
        return _computed(self._log_prob)

    @cached_property
    def next_value(self) -> Tensor:
        """The value of the next state, ``[...]``, reward units."""
        return _computed(self._next_value)

    @cached_property
    def value(self) -> Tensor:
        """The value of the logged action, ``[...]``, reward units; ``ValueError`` without one."""
        if self._value is None:
            raise ValueError(
                "this learner's soft_values do not say what the logged action is worth: set by to "
                "'step' in scoring, or give SoftValues a value"
            )
        return _computed(self._value)


def _computed(part: Part) -> Tensor:
    return part if isinstance(part, Tensor) else part()


def log_partition(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return log Z of each task, estimated by the mean of exp(score) over the items.

    Where a share of the items, drawn without looking at scores, stands for all, the estimate of Z
    has their mean.

    Args:
        scores: ``[..., B, N]``, nats; -inf where an item is impossible under a task.
        mask: ``[..., B]`` bool, items that count (padded steps do not), or ``[..., B, N]``, those
            that count for each task; ``None`` for all.

    Returns:
        ``[..., N]``, nats; -inf for a task that no item supports.
    """
    if mask is None:
        return torch.logsumexp(scores, dim=-2) - math.log(scores.shape[-2])
    if mask.ndim < scores.ndim:
        mask = mask.unsqueeze(-1)
    counted = torch.where(mask, scores, -torch.inf)
    count = mask.sum(-2).to(scores.dtype)
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
        ValueError: ``temperature`` is not above 0, or not finite.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}, it must be above 0 and finite")
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
    log_prob: Tensor | None,
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
        log_prob: ``[B, N]``, of the action under the policy for each task, nats; ``None`` leaves
            the term out.
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
    ahead = discount * torch.where(terminated, 0.0, next_value)
    return reward + ahead if log_prob is None else reward - entropy_scale * log_prob + ahead


def critic_scores(
    reward: Tensor,
    log_prob: Tensor | None,
    value: Tensor,
    terminated: Tensor,
    *,
    entropy_scale: float | Tensor = 1.0,
) -> Tensor:
    """Return the soft Q-value of transitions under tasks, from a critic of the step itself.

        terminated ? r(s, a, z) : Q(s, a, z), minus entropy_scale * log pi(a | s, z)

    What :func:`transition_scores` are, where the critic has converged, steps have no chance in them
    and the policy no entropy; one pass of a network less. Where a task ends, no critic is needed.

    Args:
        reward: ``[B, N]``, of each transition under each task.
        log_prob: As :func:`transition_scores` takes it.
        value: ``[B, N]``, of each logged action for each task.
        terminated: ``[B, N]`` bool, whether the task ends with the step.
        entropy_scale: As there. The learner's temperature gives the soft value of the state, where
            the policy is the soft-max of the critic: then all actions of a state are alike.

    Returns:
        ``[B, N]``, nats at temperature 1.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, eq. 8, whose code looks one step ahead.
    """
    known = torch.where(terminated, reward, value)
    return known if log_prob is None else known - entropy_scale * log_prob


def refined_scores(scores: Tensor, better: Tensor, known: Tensor) -> Tensor:
    """Return scores with those of some pairs in the place of cheaper ones.

    The others are shifted by what the better ones differ from the cheaper, on average over the
    known pairs: a constant that cheaper scores are off by changes nothing.

    Args:
        scores: ``[..., B, N]``, cheap ones of all pairs, nats.
        better: ``[..., B, N]``, looked at where they are known.
        known: ``[..., B, N]`` bool, pairs whose better score is known.

    Returns:
        ``[..., B, N]``, nats.
    """
    gap = torch.where(known, better - scores, 0.0).sum((-2, -1), keepdim=True)
    shift = gap / known.sum((-2, -1), keepdim=True).clamp_min(1)
    return torch.where(known, better, scores + shift)


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
