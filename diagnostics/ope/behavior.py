"""What recorded a log: its probabilities, logged or cloned."""

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.diagnostics.ope.fitting import Fitting, data_of, fit, seeded
from hindsight_rl.keys import ACTION
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.network import Network
from hindsight_rl.training.given import Answers, GivenPolicy

LOGGED, WEIGHT = "action_log_prob", "weight"
HELD_OUT = 0.1  # share of episodes that the cloned policy is checked on
DRAWS = 10  # of each action, where its spread is measured
USUAL = 0.05  # actions that are rarer in their state than this share of the logged ones are foreign

Kind = Literal["auto", "logged", "fitted"]


@dataclass(frozen=True)
class Behavior:
    """The policy that recorded a log.

    Attributes:
        kind: Whether its probabilities were logged, or are those of a policy cloned from the log.
        log_prob: ``[N]`` float64, nats, of every logged action.
        held_out: Mean log-probability of the actions of held-out episodes under the cloned policy,
            nats; NaN where there are fewer than 10 episodes, and none is held out.
        everyday: Log-probability under the cloned policy that 95 % of the logged actions exceed.
        clone: The cloned policy, which is there in either case.
    """

    kind: Literal["logged", "fitted"]
    log_prob: Tensor
    held_out: float
    everyday: float
    clone: GivenPolicy

    @property
    def units(self) -> Units:
        """Return the bounds that actions are clipped to, and their units."""
        if self.clone.learner is None:
            raise RuntimeError("a clone is a learner")
        return cast(BC, self.clone.learner).actor.scale.units()

    def spread(self, log: Log) -> Tensor:
        """Return the standard deviation of its actions in one state ``[A]``, by the clone's draws.

        Args:
            log: The log, whose states count.

        Returns:
            Root of the mean variance, in units of the actions.
        """
        drawn = self.clone.answers(log, samples=DRAWS).here.double()
        return drawn.var(1).mean(0).sqrt()

    def covered(self, log: Log, rows: Tensor, answers: Answers) -> float:
        """Return the share of states in which a policy does something that is usual there.

        Args:
            log: The log.
            rows: ``[M]`` int64, the rows to look at.
            answers: Of the policy.

        Returns:
            In [0, 1]; of the policy that recorded about 0.95.
        """
        if self.clone.discrete:
            usual = self.clone.answers(log).here[rows].log() >= self.everyday
            return float((answers.here[rows] * usual).sum(-1).mean())
        shares = [
            self.clone.log_prob(log.with_columns({ACTION: answers.here[:, draw]}))
            for draw in range(answers.here.shape[1])
        ]
        found = [share[rows] >= self.everyday for share in shares if share is not None]
        return float(torch.stack(found).double().mean())


def behavior_of(log: Log, fitting: Fitting, kind: Kind = "auto") -> Behavior:
    """Return the policy that recorded a log.

    Args:
        log: The log.
        fitting: How a cloned policy is fitted.
        kind: ``"logged"`` takes the column ``action_log_prob``, ``"fitted"`` clones, ``"auto"``
            takes the column where there is one.

    Returns:
        The policy.

    Raises:
        LogError: The column is asked for and missing, or not finite.
    """
    logged = LOGGED in log
    if kind == "logged" and not logged:
        raise LogError(
            f"the log has no column {LOGGED}",
            "Record logs with it (hindsight collect --policy), name it in the column map, or "
            "take a cloned policy: --behavior fitted.",
            path=log.sources[0].name,
        )
    clone, held_out = _cloned(log, fitting)
    own = clone.log_prob(log)
    if own is None:
        raise RuntimeError("a cloned policy has a density")
    everyday = float(own.kthvalue(max(1, int(USUAL * len(own)))).values)
    if logged and kind != "fitted":
        given = log.column(LOGGED).double()
        if not bool(given.isfinite().all()):
            row = int((~given.isfinite()).nonzero()[0])
            raise LogError(
                f"{LOGGED} is {float(given[row])} in row {row}",
                "An action that was taken has a finite log-probability. Leave the column out, or "
                "take --behavior fitted.",
                path=log.sources[0].name,
            )
        return Behavior("logged", given, held_out, everyday, clone)
    return Behavior("fitted", own, held_out, everyday, clone)


def beyond_logged(log: Log, here: Tensor, discrete: bool) -> float:
    """Return the share of states in which an action leaves the range of the logged ones.

    Args:
        log: The log.
        here: ``[N, m, A]``, what a policy does; probabilities of choices.
        discrete: Whether actions are choices.

    Returns:
        In [0, 1]; 0 of choices.
    """
    if discrete:
        return 0.0
    logged = log.column(ACTION)
    slack = 1e-6 * (logged.amax(0) - logged.amin(0)).clamp_min(1e-12)
    beyond = (here < logged.amin(0) - slack) | (here > logged.amax(0) + slack)
    return float(beyond.any(-1).float().mean())


def _cloned(log: Log, fitting: Fitting) -> tuple[GivenPolicy, float]:
    """Return a policy cloned from most episodes of a log, and how likely the others are."""
    share = HELD_OUT if log.episodes >= 10 else 0.0
    if WEIGHT in log:  # what is wanted of a log is not what it holds
        log = log.with_columns({WEIGHT: torch.ones(len(log))})
    data = data_of(log.with_rows(torch.arange(len(log))), fitting, validation=share)
    with seeded(fitting.seed):
        learner = BC(data.spec, network=Network(hidden=fitting.hidden), head="mixture")
    fit(learner, data, fitting.behavior_updates)
    clone = GivenPolicy(learner, data.spec, name="cloned behaviour", drawn=True)
    found = clone.log_prob(log)
    if found is None:
        raise RuntimeError("a mixture has a density")
    seen = torch.zeros(len(log), dtype=torch.bool)
    seen[data.log.drawable()] = True
    return clone, float(found[~seen].mean())  # NaN where nothing is held out
