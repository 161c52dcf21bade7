"""Bound: logs the lower bound of the log return that data step and policy step raise in turn.

    F(theta, q) = E_q[ log R + log pi_theta - log q ] <= log J(theta)

    Trainer(callbacks=[Bound(every=1000)]).fit(learner, datamodule)

The outcomes are the rows of the log that may be drawn, taken as draws of the policy b that acted:
densities are relative to it, so ``log pi - log q`` is log (pi / b) - log (N q), see
:mod:`hindsight_rl.maths.bound`.

- **q** is proportional to what multiplies log pi of a row: the learner's own weights where it has
  some, those of the data step (key ``weight``) where it reads them, else 1. Rows that are never
  drawn have none.
- **R** is a column, if one is named; else the weight itself, the improper reward it stands for:
  the return (EMRL), exp(return / temperature) (RWR), exp(advantage / temperature), 1 (cloning). It
  is then what F bounds the mean of, and only comparable while the rule of the weights is the same.
- **b** is the column ``action_log_prob``, if there is one; else it counts as 1. F is then off by
  E_q[log b]: the same for all policies, but not for all q.

A learner that has weights returns them from ``actor_loss`` beside the loss and reports them by
:func:`hindsight_rl.maths.weights.weight_metrics` under ``actor/``. Where the bound is not defined
(signed labels, rewards that are not above 0, policies fitted to values or without a likelihood)
this is said once, and training goes on; a later look may find it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.attached import datamodule_of, learner_of
from hindsight_rl.keys import PREFERENCE, key_name, key_of
from hindsight_rl.maths.bound import RowBound, normalized, row_bound
from hindsight_rl.maths.divergences import categorical_kl
from hindsight_rl.maths.weights import weight_metrics
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import DataView, LearnerView

LOGGER = logging.getLogger("hindsight_rl")


class UndefinedBoundError(ValueError):
    """There is no bound for this learner, or none on these data; the text says why."""


@dataclass(frozen=True)
class Measured:
    """The bound over the rows of a log."""

    bound: RowBound
    """F, its two parts, and the largest F of any q."""
    index: Tensor
    """``[N]`` int64, numbers of the rows in the log."""
    q: Tensor
    """``[N]`` float64, their probabilities."""
    effective_sample_size: float
    """(sum w)^2 / (N sum w^2), a share in [1 / N, 1]."""


class Bound(Callback):
    """Logs ``bound/value`` (F) and what it is made of, every so many updates and at the end.

    ``bound/log_reward`` is E_q[log R]; ``bound/log_policy`` E_q[log (pi / b) - log (N q)], so that
    the two add up to F; ``bound/limit`` the largest F of any q, log J; ``bound/kl`` the divergence
    of q from that of the last time, where the rows are the same; ``bound/effective_sample_size``
    that of q as a share of the rows. All but the last in nats.

    Needs a :class:`hindsight_rl.training.learner.Learner` and one of the datamodules; of several
    seeds it sees the first.

    Args:
        every: Updates between two looks, at least 1; each calls the losses on the rows once.
        rows: Largest number of rows to look at, as one batch, at least 1; of a larger log those at
            even distances.
        reward: Column with the reward of each row, above 0, as it is printed: ``return_to_go``;
            ``None`` for the weight itself.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, every: int = 1000, rows: int = 4096, reward: str | None = None) -> None:
        if every < 1 or rows < 1:
            raise ValueError(f"every {every} and rows {rows} must be at least 1")
        self.every, self.rows, self.reward = every, rows, reward
        self._seen = 0
        self._last: Measured | None = None
        self._said = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew: a second fit may have other data."""
        self._seen, self._last, self._said = trainer.global_step, None, False

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Look at the log where the updates of this chunk reach or cross a multiple."""
        before, self._seen = self._seen, trainer.global_step
        crossed = self._seen // self.every > before // self.every
        if not crossed and self._seen != trainer.max_steps:
            return
        learner = learner_of(trainer)
        try:
            found = measure(learner, datamodule_of(trainer), rows=self.rows, reward=self.reward)
        except UndefinedBoundError as reason:
            if not self._said:
                LOGGER.warning("no bound/... at update %d: %s", self._seen, reason)
            self._said = True
            return
        self._report(learner, found)

    def _report(self, learner: LearnerView, found: Measured) -> None:
        named = {f"bound/{name}": float(value) for name, value in found.bound._asdict().items()}
        named["bound/effective_sample_size"] = found.effective_sample_size
        if self._last is not None and self._last.index.equal(found.index):
            named["bound/kl"] = float(categorical_kl(found.q, self._last.q.log()))
        self._last = found
        learner.report(named, self._seen)


@torch.no_grad()
def measure(
    learner: LearnerView, datamodule: DataView, *, rows: int = 4096, reward: str | None = None
) -> Measured:
    """Return the bound of a learner on the rows of a log that may be drawn.

    Args:
        learner: The learner; the columns of a sweep, if it needs any, are there.
        datamodule: Gives the log in order (``in_order``) and its relabeling.
        rows: Largest number of rows, as one batch, at least 1; of a larger log those at even
            distances.
        reward: Column with the reward of each row, as it is printed; ``None`` for the weight.

    Returns:
        F, its parts, and q.

    Raises:
        UndefinedBoundError: There is none.
        ValueError: ``reward`` names no column.
    """
    actor = _policy_of(learner)
    log, training = datamodule.log, learner.training
    count = len(log) if log.rows is None else len(log.rows)
    at = torch.arange(min(count, rows)) * count // min(count, rows)
    taken = at if log.rows is None else log.rows[at]
    # One batch: weights relative to their batch would not be comparable between several.
    chunk = next(iter(datamodule.in_order(taken, batch_size=len(taken), stream="bound")))
    learner.eval()  # running statistics rest
    try:
        batch = datamodule.on_after_batch_transfer(chunk.to(learner.device), 0)
        columns = _columns(learner, actor, learner.complete(batch, 0)[0], reward)
    finally:
        learner.train(training)
    index, log_ratio, weight, gain = (column.cpu() for column in columns)
    _check_rows(index, weight, gain, reward)
    size = weight_metrics(weight)["effective_sample_size"]
    return Measured(row_bound(log_ratio, gain, weight), index, normalized(weight), float(size))


def _policy_of(learner: LearnerView) -> Policy:
    """Return the policy whose likelihood counts; raise for a learner that has no bound."""
    name, actor = type(learner).__name__, getattr(learner, "actor", None)
    if "label" in learner.in_keys:
        raise UndefinedBoundError(
            f"{name} reads signed labels, and what is to be avoided has no share in a distribution "
            "of the data"
        )
    if PREFERENCE in learner.in_keys:
        raise UndefinedBoundError(f"{name} reads compared segments: no row has a weight of its own")
    if learner.follows:
        raise UndefinedBoundError(
            f"the policy of {name} answers from more than the present: rows have no likelihood"
        )
    if not isinstance(actor, Policy) or actor.density != "exact":
        raise UndefinedBoundError(f"the policy of {name} has no likelihood")
    return actor


def _columns(
    learner: LearnerView, actor: Policy, batch: TensorDict, reward: str | None
) -> tuple[Tensor, ...]:
    """Return row numbers, log (pi / b), weights and rewards of a batch, each ``[B]``."""
    acted = batch["observation"], batch["action"], batch.get("task", None)
    behavior = batch.get("action_log_prob", None)
    if behavior is None:
        log_ratio = actor.log_prob(*acted)
    else:  # at a bound both are masses
        log_ratio = actor.executed_log_prob(*acted).double() - behavior.double()
    weight = _weight(learner, batch).double()
    return batch["index"], log_ratio.double(), weight, _gain(batch, reward, weight)


def _gain(batch: TensorDict, reward: str | None, weight: Tensor) -> Tensor:
    """Return the rewards ``[B]``."""
    if reward is None:
        return weight
    found: Tensor | None = batch.get(key_of(reward), None)
    if found is None or found.ndim != 1:
        named = sorted(key_name(key) for key, value in batch.items(True, True) if value.ndim == 1)
        raise ValueError(
            f"Bound: batches have no column '{reward}' with one number per row: name one of "
            f"{', '.join(named)}"
        )
    return found.double()


def _weight(learner: LearnerView, batch: TensorDict) -> Tensor:
    """Return what multiplies log pi of each row, ``[B]``."""
    if "weight" in learner.read_keys:
        own: Tensor | None = batch.get("weight", None)
        return torch.ones_like(batch["next", "reward"]) if own is None else own
    with _kept(learner) as seen:
        metrics = learner.losses(learner.read(batch)).metrics
    # Others return something else beside the loss, and have no such metric.
    if not seen or "actor/effective_sample_size" not in metrics:
        raise UndefinedBoundError(
            f"{type(learner).__name__} fits its policy to values, not to weighted rows of the log"
        )
    weight: Tensor = seen[-1][1]
    return weight


@contextmanager
def _kept(learner: LearnerView) -> Iterator[list[Any]]:
    """Keep what ``actor_loss`` returns."""
    seen: list[Any] = []
    plain: Callable[..., Any] | None = getattr(learner, "actor_loss", None)
    if plain is None:
        yield seen
        return

    def kept(*inputs: Any, **named: Any) -> Any:
        seen.append(plain(*inputs, **named))
        return seen[-1]

    vars(learner)["actor_loss"] = kept
    try:
        yield seen
    finally:
        del vars(learner)["actor_loss"]


def _check_rows(index: Tensor, weight: Tensor, gain: Tensor, reward: str | None) -> None:
    """Raise an error for weights and rewards of which there is no logarithm."""
    wrong = ~(torch.isfinite(weight) & (weight >= 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise UndefinedBoundError(
            f"the weight of row {int(index[row])} is {float(weight[row]):g}: q is a distribution, "
            "its weights are at least 0"
        )
    if not bool((weight > 0).any()):
        raise UndefinedBoundError("the weights of all rows are 0: there is no q")
    wrong = ~(torch.isfinite(gain) & (gain >= 0)) | ((gain == 0) & (weight > 0))
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise UndefinedBoundError(
            f"'{reward}' of row {int(index[row])} is {float(gain[row]):g}, and log R needs rewards "
            "above 0: leave reward out for the improper reward that the weights stand for, or "
            "shift the rewards, which changes the bound"
        )
