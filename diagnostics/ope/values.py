"""Fitted Q evaluation in a judgement: values of a policy on a log, or on its other episodes."""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.agents.fqe import FQE
from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.diagnostics.ope.fitting import Fitting, data_of, fit, seeded
from hindsight_rl.keys import (
    ACTION,
    EPISODE,
    NEXT_POLICY_ACTION,
    NEXT_POLICY_PROBABILITY,
    POLICY_ACTION,
    POLICY_PROBABILITY,
    REWARD,
    STEP,
    TASK,
    TERMINATED,
    Key,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.doubly_robust import folds
from hindsight_rl.maths.draws import fork_key, seed_key, uniform
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.training.given import Answers
from hindsight_rl.training.shown import spans

# Values approach their end at the rate tau (1 - discount) per update: at 0.005 and discount 0.99
# three fifths of the way would be left after 10,000.
TAU = 0.1


class Values(NamedTuple):
    """What a policy is worth, by every member of an ensemble.

    Attributes:
        start: ``[E, n]``, value of each episode's first state.
        weight: ``[E, n]``, how often each episode counted where the member was fitted.
        largest: Largest magnitude of a value on the log.
        left: By how much the values would still move, reward units: the mean Bellman error of the
            log's rows, summed over the steps of an episode and those behind a time limit.
    """

    start: Tensor
    weight: Tensor
    largest: float
    left: float = 0.0


class Model(NamedTuple):
    """Values as doubly robust estimators take them, each from a fit on other episodes.

    Attributes:
        q: ``[n, H]`` float64, of every logged action, 0 behind the end.
        v: ``[n, H + 1]`` float64, of every state, and behind the last step of each episode of what
            follows it: 0 where it terminated, and in all later columns.
    """

    q: Tensor
    v: Tensor


def with_answers(log: Log, answers: Answers, discrete: bool) -> Log:
    """Return a log with the columns that fitted Q evaluation reads."""
    keys: tuple[Key, Key] = (POLICY_ACTION, NEXT_POLICY_ACTION)
    if discrete:
        keys = (POLICY_PROBABILITY, NEXT_POLICY_PROBABILITY)
    return log.with_columns(dict(zip(keys, (answers.here, answers.after), strict=True)))


def fitted_values(
    log: Log, fitting: Fitting, *, discount: float, horizon: int | None, rows: Tensor | None = None
) -> FQE:
    """Return a fitted evaluation of the policy whose answers the log holds.

    Args:
        log: Of :func:`with_answers`.
        fitting: How.
        discount: Of the values.
        horizon: Steps to go at an episode's first step, ``None`` for no end.
        rows: ``[M]`` int64, what is fitted to; ``None`` for all.

    Returns:
        The learner, in evaluation mode.
    """
    chosen = torch.arange(len(log)) if rows is None else rows
    data = data_of(log.with_rows(chosen), fitting)
    with seeded(fitting.seed):
        learner = FQE(
            data.spec,
            network=Network(hidden=fitting.hidden),
            critics=fitting.members,
            discount=discount,
            horizon=horizon,
            tau=TAU,
        )
    fit(learner, data, fitting.updates)
    return learner


def start_values(learner: FQE, log: Log, episodes: Episodes, answers: Answers) -> Values:
    """Return the values of first states.

    Args:
        learner: The evaluation.
        log: The log.
        episodes: Its episodes.
        answers: Of the policy.

    Returns:
        Values, and what is wrong with them.
    """
    first, rows = episodes.first, episodes.rows
    start = _values(learner, log, first, answers.here[first], after=False)
    weight = episode_weights(log.column(EPISODE)[first], learner.critic.count)
    logged = _values(learner, log, rows, _logged(learner, log, rows), after=False)
    ahead = _values(learner, log, rows, answers.after[rows], after=True)
    alive = (~log.take(TERMINATED, rows)).double()
    error = log.take(REWARD, rows) + learner.discount * alive * ahead - logged
    steps = float(episodes.steps(learner.discount, learner.horizon).sum(-1).mean())
    return Values(start, weight.double(), float(logged.abs().max()), steps * float(error.mean()))


def crossed(
    log: Log,
    episodes: Episodes,
    answers: Answers,
    fitting: Fitting,
    *,
    discount: float,
    horizon: int | None,
    count: int = 2,
) -> Model:
    """Return values of every episode by a fit on the others.

    Args:
        log: Of :func:`with_answers`.
        episodes: Its episodes.
        answers: Of the policy.
        fitting: How.
        discount: Of the values.
        horizon: Steps to go at an episode's first step, ``None`` for no end.
        count: Folds.

    Returns:
        The values, means of the members.
    """
    n, steps = episodes.valid.shape
    key = torch.full((n, 3), fork_key(seed_key(fitting.seed), "folds"))
    key[:, 1] = torch.arange(n)
    fold = folds(n, count, uniform(key))
    q = torch.zeros(n, steps, dtype=torch.float64)
    v = torch.zeros(n, steps, dtype=torch.float64)
    beyond = torch.zeros(n, dtype=torch.float64)
    for number in range(count):
        inside = fold[episodes.owner] == number
        learner = fitted_values(
            log, fitting, discount=discount, horizon=horizon, rows=episodes.rows[~inside]
        )
        rows, mine = episodes.rows[inside], (fold == number).nonzero().squeeze(-1)
        spread = torch.zeros(len(log), dtype=torch.float64)
        for table, choice in ((q, _logged(learner, log, rows)), (v, answers.here[rows])):
            spread[rows] = _values(learner, log, rows, choice, after=False).mean(0)
            table[mine] = torch.where(episodes.valid[mine], spread[episodes.row[mine]], 0.0)
        beyond[mine] = behind(learner, log, episodes.last[mine], answers)
    return Model(q, episodes.with_what_follows(v, beyond))


def behind(learner: FQE, log: Log, rows: Tensor, answers: Answers) -> Tensor:
    """Return the values ``[M]`` float64 of the states after rows, means of the members.

    Args:
        learner: The evaluation.
        log: The log.
        rows: ``[M]`` int64.
        answers: Of the policy.

    Returns:
        Values, as if no task had ended there.
    """
    return _values(learner, log, rows, answers.after[rows], after=True).mean(0)


def _logged(learner: FQE, log: Log, rows: Tensor) -> Tensor:
    """Return the logged actions of rows as a policy's answers: one draw, or all the probability."""
    action = log.take(ACTION, rows)
    if not learner.spec.action.discrete:
        return action.unsqueeze(1)
    chosen = action - learner.spec.action.start
    return torch.nn.functional.one_hot(chosen, learner.spec.action.n).float()


def _values(learner: FQE, log: Log, rows: Tensor, choice: Tensor, *, after: bool) -> Tensor:
    """Return values ``[E, M]`` float64 of choices in the states of rows, or in those after them."""
    found, parts = [], spans(log, log.observed, rows)
    for some, chosen in zip(parts, choice.split([len(part) for part in parts]), strict=True):
        seen = _observation(log, some, after)
        task = log.take(TASK, some) if learner.spec.task is not None else None
        step = log.take(STEP, some) + int(after)
        with torch.inference_mode():
            found.append(learner.value(seen, task, chosen, step).double())
    return torch.cat(found, dim=-1)


def _observation(log: Log, rows: Tensor, after: bool) -> Observation:
    """Return what a network is shown of rows."""
    seen = {}
    for key in log.observed:
        path = (key,) if isinstance(key, str) else key
        seen[path[-1]] = log.take(("next", *path) if after else key, rows)
    return seen["observation"] if log.observed == ["observation"] else seen
