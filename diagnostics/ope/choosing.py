"""Choosing a checkpoint by the log alone, while a policy is fitted."""

from typing import Any, Literal

import torch
from lightning import Callback, LightningModule, Trainer

from hindsight_rl.agents.fqe import FQE
from hindsight_rl.arguments import check_choices
from hindsight_rl.attached import datamodule_of, learner_of
from hindsight_rl.diagnostics.ope.episodes import episodes_of
from hindsight_rl.diagnostics.ope.estimates import Estimate, by_values
from hindsight_rl.diagnostics.ope.fitting import Fitting, data_of, fit
from hindsight_rl.diagnostics.ope.values import fitted_values, start_values, with_answers
from hindsight_rl.keys import REWARD, TASK
from hindsight_rl.logs.log import Log
from hindsight_rl.training.given import GivenPolicy
from hindsight_rl.training.learner import Learner


class ChooseByLog(Callback):
    """Has ``best.ckpt`` mean something where there is no environment.

    Needs a :class:`hindsight_rl.training.learner.Learner` and one of the datamodules; of several
    seeds it judges the first.

    Args:
        by: ``"fqe"``: the lower end of the policy's value by fitted Q evaluation, logged as
            ``judged/low``; ``"action_error"``: the error on held-out rows, which needs
            ``data.validation`` and ``trainer.val_check_interval``. The error says how well a log is
            imitated, not how well the policy does: it is for cloning.
        every: Updates between two judgements, at least 1.
        updates: Updates of the evaluation at each, at least 1; it goes on from the last one, and
            the first takes five times as many.
        discount: Of the values, in [0, 1).
        hidden: Layers of the evaluation's networks.
        members: Critics of its ensemble, at least 2.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    def __init__(
        self,
        *,
        by: Literal["fqe", "action_error"] = "fqe",
        every: int = 5000,
        updates: int = 2000,
        discount: float = 0.99,
        hidden: tuple[int, ...] = (256, 256),
        members: int = 5,
    ) -> None:
        check_choices(type(self).__init__, {"by": by})
        if every < 1 or updates < 1:
            raise ValueError(f"every {every} and updates {updates} must be at least 1")
        if not 0.0 <= discount < 1.0:
            raise ValueError(f"discount is {discount}, it must lie in [0, 1)")
        self.by, self.every, self.updates, self.discount = by, every, updates, discount
        self.fitting = Fitting(updates=5 * updates, hidden=tuple(hidden), members=members)
        self.judged_at = -1
        self._seen = 0
        self._evaluation: FQE | None = None

    @property
    def monitor(self) -> str:
        """Return what ``best.ckpt`` is chosen by."""
        return "judged/low" if self.by == "fqe" else "validation/action_error"

    @property
    def mode(self) -> Literal["max", "min"]:
        """Return whether the best has the most or the least of it."""
        return "max" if self.by == "fqe" else "min"

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start anew: a second fit may have other data."""
        self._seen, self._evaluation = trainer.global_step, None

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Judge the policy where the updates of this chunk reach or cross a multiple."""
        before, self._seen = self._seen, trainer.global_step
        crossed = self._seen // self.every > before // self.every
        if self.by != "fqe" or not crossed:
            return
        learner = learner_of(trainer)
        log = _log_of(trainer)
        training, threads = learner.training, torch.get_num_threads()
        pl_module.eval()
        try:
            found = self.judge(pl_module, log)
        finally:
            pl_module.train(training)
            torch.set_num_threads(threads)
        self.judged_at = self._seen
        named = {"judged/value": found.value, "judged/low": found.interval.low}
        learner.report(named, self._seen)
        trainer.callback_metrics.update({n: torch.tensor(v) for n, v in named.items()})

    def judge(self, learner: Any, log: Log) -> Estimate:
        """Return what the log says of a learner as it is now.

        Args:
            learner: It.
            log: The log it is fitted to.

        Returns:
            The row of fitted Q evaluation.
        """
        data = data_of(log, self.fitting)
        if not isinstance(learner, Learner):
            raise ValueError(f"ChooseByLog judges learners, not a {type(learner).__name__}")
        policy = GivenPolicy(learner, data.spec)
        answers = policy.answers(log)
        held = with_answers(log, answers, policy.discrete)
        if self._evaluation is None:
            self._evaluation = fitted_values(
                held, self.fitting, discount=self.discount, horizon=None
            )
        else:
            fit(self._evaluation, data_of(held, self.fitting), self.updates)
        return by_values(start_values(self._evaluation, held, episodes_of(log), answers))


def _log_of(trainer: Trainer) -> Log:
    """Return the log of a fit, whose rewards and tasks are the same in every batch."""
    data = datamodule_of(trainer)
    changed = {TASK, REWARD} & set(data.relabel.call_writes)
    if changed or not isinstance(data.log, Log):
        raise ValueError(
            "ChooseByLog judges by the rewards and tasks of the log, and the relabelers give rows "
            "others in every batch: write the relabeled log first ('hindsight relabel'), or choose "
            "by episodes in an environment"
        )
    return data.log
