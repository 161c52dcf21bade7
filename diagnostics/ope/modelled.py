"""A model of the world in a judgement: a policy is played in it, from the log's first states.

    J = mean over members e and first states i of sum_t discount^t r_ei(t)

Steps, rewards and ends are the model's. Each elite of an ensemble plays every episode alone, with
luck from counters, the same for every policy: members differ by what the log leaves open, episodes
by where they begin and by luck.

Reference: Chua et al. 2018, arXiv 1805.12114, section 5.1 (one member for a whole episode); as an
estimate of policies: Fu et al. 2021, arXiv 2103.16596, section 3.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.datamodules.sources.opened_model import Opened, opened
from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.estimates import LEVEL, Estimate, resamples
from hindsight_rl.diagnostics.ope.question import MODEL, Question
from hindsight_rl.intervals import Interval, student_quantile
from hindsight_rl.keys import ACTION, OBSERVATION, TASK
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import fork, fork_key, seed_key
from hindsight_rl.ports import Ensemble, Model
from hindsight_rl.training.given import GivenPolicy
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.shown import check_fits

STARTS = 1000  # first states; of logs of more episodes that many, at even distances
LEFT = 0.01  # share of a constant reward's value that is left out without a horizon
ROWS, USUAL, MANY = 20_000, 0.99, 0.1  # logged rows looked at; their quantile; what is warned of


class Played(NamedTuple):
    """Episodes in a model."""

    returns: Tensor
    """``[E, n]`` float64, of each member and first state."""
    disagreement: Tensor
    """``[M]``, of every step that was taken."""


def modelled(policy: GivenPolicy, log: Log, episodes: Episodes, asked: Question) -> Estimate:
    """Return the row of a model.

    Args:
        policy: Plays.
        log: Where it begins, and what the model should know.
        episodes: Of the log.
        asked: The question; it has a model.

    Returns:
        The estimate. Its interval is Student's of two errors side by side: the spread of members,
        which is what fitting and the log leave open, and that of episodes over the root of their
        number.

    Raises:
        LogError: A model does not imagine such rows.
        ValueError: There is no model, it does not go with the log, or it gives numbers that are not
            finite.
    """
    if asked.model is None:
        raise ValueError("there is no model to play in: give Question(model=...)")
    model = opened(asked.model)
    _check(model, log, policy)
    first = episodes.first
    if len(first) > STARTS:
        first = first[torch.arange(STARTS) * len(first) // STARTS]
    found = played(policy, model, log, first, asked)
    counts = resamples(len(first), asked.fitting.seed)
    member = torch.arange(len(counts)) % len(found.returns)
    resampled = (counts * found.returns[member]).mean(-1)
    value, interval = with_members(found.returns)
    notes = _notes(model, log, found)
    return Estimate(MODEL, value, interval, resampled, warnings=notes)


def with_members(returns: Tensor) -> tuple[float, Interval]:
    """Return the mean of episodes that several members played, and its 95 % interval.

    Args:
        returns: ``[E, n]``; the spread of members is the error of one, as each saw a bootstrap.

    Returns:
        Mean and interval.
    """
    members, episodes = returns.shape
    variance = float(returns.mean(0).var()) / episodes if episodes > 1 else math.inf
    freedom = episodes - 1
    if members > 1:
        variance, freedom = variance + float(returns.mean(1).var()), members - 1
    half = student_quantile(0.5 + LEVEL / 2.0, max(1, freedom)) * math.sqrt(variance)
    middle = float(returns.mean())
    return middle, Interval(middle - half, middle + half)


@torch.no_grad()
def played(policy: GivenPolicy, model: Opened, log: Log, first: Tensor, asked: Question) -> Played:
    """Return episodes of a policy in every member of a model.

    Args:
        policy: Plays.
        model: The model.
        log: Holds the first states.
        first: ``[n]`` int64, rows of them.
        asked: Says how many steps count.

    Returns:
        Discounted returns, and how far members disagreed.
    """
    members = _members(model)
    found = [_episodes(policy, each, k, model, log, first, asked) for k, each in enumerate(members)]
    return Played(
        torch.stack([each.returns[0] for each in found]),
        torch.cat([each.disagreement for each in found]),
    )


def _episodes(
    policy: GivenPolicy,
    member: Model,
    number: int,
    model: Opened,
    log: Log,
    first: Tensor,
    asked: Question,
) -> Played:
    """Return the episodes ``[1, n]`` of one member."""
    returns, seen = torch.zeros(len(first), dtype=torch.float64), []
    going, observation = torch.arange(len(first)), log.take(OBSERVATION, first)
    task = log.take(TASK, first) if policy.spec.task is not None else None
    state, key = policy.begin(len(first)), fork_key(seed_key(asked.fitting.seed), "played")
    for step in range(steps_of(asked)):
        draws = torch.stack(
            [torch.full_like(going, key), going, torch.full_like(going, step)], dim=-1
        )
        action, state = policy.play(observation, task, state, fork(draws, "policy"))
        there = observation.to(model.device), action.to(model.device)
        imagined = member(*there, fork(fork(draws, "model"), number).to(model.device))
        reward = imagined.reward.cpu().double()
        if not bool(reward.isfinite().all()) or not bool(
            imagined.next_observation.isfinite().all()
        ):
            raise ValueError(f"the model imagines numbers that are not finite at step {step}")
        returns[going] += asked.discount**step * reward
        seen.append(imagined.disagreement.cpu())
        on = ~imagined.terminated.cpu()
        going, observation = going[on], imagined.next_observation.cpu().float()[on]
        task = None if task is None else task[on]
        state = {name: value[on.numpy()] for name, value in state.items()}
        if not len(going):
            break
    return Played(returns.unsqueeze(0), torch.cat(seen))


def steps_of(asked: Question) -> int:
    """Return how many steps are played: the horizon, or until next to nothing would be added."""
    if asked.horizon is not None:
        return asked.horizon
    return 1 if asked.discount <= LEFT else math.ceil(math.log(LEFT) / math.log(asked.discount))


def _members(model: Opened) -> list[Model]:
    learner: object = model.learner
    return learner.each_elite() if isinstance(learner, Ensemble) else [model.imagine]


def _notes(model: Opened, log: Log, found: Played) -> tuple[str, ...]:
    """Return what to doubt."""
    notes = []
    if len(found.returns) == 1:
        notes.append("the model has one member: what it does not know is not in the interval")
    rows = torch.arange(len(log))
    rows = rows[torch.arange(min(len(rows), ROWS)) * len(rows) // min(len(rows), ROWS)]
    action = log.take(ACTION, rows)
    if not action.is_floating_point():
        action = action - int(log.info.get("action_start") or 0)
    seen = log.take(OBSERVATION, rows).to(model.device)
    with torch.no_grad():
        known = model.imagine(seen, action.to(model.device), None).disagreement.cpu().double()
    share = float((found.disagreement.double() > known.quantile(USUAL)).double().mean())
    if share > MANY:
        notes.append(
            f"in {share:.0%} of the imagined steps members disagree more than in {USUAL:.0%} of "
            "the logged ones: the policy goes where the model was not fitted"
        )
    return tuple(notes)


def _check(model: Opened, log: Log, policy: GivenPolicy) -> None:
    """Raise on rows that no model imagines."""
    source = log.sources[0].name
    if log.observed != [OBSERVATION] or log.images or log.info.get("offset"):
        raise LogError(
            "the log's observation is not one row of plain numbers, and a model imagines no other",
            "Leave --model out.",
            path=source,
        )
    if TASK in log:
        raise LogError(
            "the log has tasks, and a model's rewards do not look at them",
            "Leave --model out, or judge on a log of one task without the column.",
            path=source,
        )
    if isinstance(model.learner, Learner):
        check_fits("the model", model.learner.spec, policy.spec)
