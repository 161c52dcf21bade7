"""What losses may read: the keys a learner declares, the same in every compile mode."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import LEARNERS, Kept, data_for, fit, learner_of, whole_log
from tensordict import TensorDict

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.relabel.column_weight import ColumnWeight
from hindsight_rl.relabel.returns import ReturnToGo
from hindsight_rl.training.learner import Learner, LossTerms


class Looking(BC):
    """Says which of some keys its losses are given."""

    ASKED = ("return_to_go", "weight", "step", "draws", "index")

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the losses of cloning, and 1 for every key that is there."""
        found = super().losses(batch)
        there = {f"sees/{key}": torch.full((), float(key in batch.keys())) for key in self.ASKED}
        return LossTerms(found.terms, found.metrics | there)


class Asking(Looking):
    """The same, and declares one more."""

    optional_keys = (*BC.optional_keys, "return_to_go")


def seen(kind: type[Learner], compiled: str, folder: Path) -> dict[str, float]:
    """Return what a learner's losses saw of a log with more columns than any learner reads."""
    plain = data_for(BC)
    relabel = [ReturnToGo(), ColumnWeight(column="return_to_go")]
    data = OfflineDataModule(plain.log, relabel, batch_size=16, updates_per_step=8)
    learner = learner_of(kind, data.spec, compile=compiled)
    logger = Kept()
    fit(learner, data, folder, 8, logger=logger, log_every_n_steps=8)
    return {
        name.removeprefix("train/sees/"): value
        for name, value in learner.latest.items()
        if name.startswith("train/sees/")
    }


@pytest.mark.parametrize("compiled", ["off", "losses", "update"])
def test_losses_see_what_is_declared_in_every_compile_mode(compiled: str, tmp_path: Path) -> None:
    none = dict.fromkeys(Looking.ASKED, 0.0) | {"weight": 1.0}
    assert seen(Looking, compiled, tmp_path) == none
    assert seen(Asking, compiled, tmp_path) == none | {"return_to_go": 1.0}


def test_read_keys_are_the_declared_ones_with_windows_sweeps_and_noise() -> None:
    learner: Any = learner_of(IQL, data_for(IQL).spec)
    assert learner.read_keys == (*IQL.in_keys, "task", "discount")
    learner.in_keys = ("observation", ("history", "action"))
    assert learner.read_keys == (
        "observation",
        ("history", "action"),
        "task",
        "discount",
        ("history", "valid"),
    )
    swept = learner_of(LEARNERS["AWR"], data_for(LEARNERS["AWR"]).spec)
    assert {"lambda_return", "advantage"} <= set(swept.read_keys)
    noisy = learner_of(LEARNERS["SAC"], data_for(LEARNERS["SAC"]).spec)
    assert ("noise", "now") in noisy.read_keys


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_declares_what_it_reads(name: str) -> None:
    """With the declared keys alone the losses are those of the whole batch."""
    kind = LEARNERS[name]
    data = data_for(kind)
    learner = learner_of(kind, data.spec).eval()
    batch = whole_log(learner, data)
    torch.manual_seed(0)
    whole = learner.losses(batch)
    torch.manual_seed(0)
    declared = learner.losses(learner.read(batch))
    assert whole.terms.keys() == declared.terms.keys()
    for term, value in whole.terms.items():
        assert torch.equal(value, declared.terms[term]), term


class Reporting(BC):
    """Reports a number of its own."""

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Report after every chunk."""
        super().on_train_batch_end(outputs, batch, batch_idx)
        self.report({"mine/number": 0.1 * self.updates}, self.updates)


def test_a_reported_metric_reaches_loggers_latest_and_callbacks(tmp_path: Path) -> None:
    data = data_for(BC)
    learner, logger = learner_of(Reporting, data.spec), Kept()
    trainer = fit(learner, data, tmp_path, 16, logger=logger, log_every_n_steps=8)
    assert logger.steps_of("mine/number") == [8, 16]
    assert learner.latest["mine/number"] == pytest.approx(1.6)
    for name in ("mine/number", "train/actor"):
        assert float(trainer.callback_metrics[name]) == pytest.approx(learner.latest[name])
