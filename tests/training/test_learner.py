"""Learner: updates are counted exactly, whatever K; what is due, logged, checked and saved."""

import inspect
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from small_fits import LEARNERS, Kept, data_for, equal, fit, learner_of, weights
from tensordict import TensorDict

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.diagnostics.divergence import DivergenceError
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner, LossTerms


class Counted(BC):
    """Counts its updates and keeps what each said."""

    def __init__(self, spec: Any = None, **arguments: Any) -> None:
        super().__init__(spec, **arguments)
        self.said: list[LossTerms] = []

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update and keep its terms."""
        self.said.append(super().update(batch))
        return self.said[-1]


def case(kind: type[Learner] = Counted, size: int = 64, **arguments: Any) -> Any:
    """Return a learner and its data, K = ``size``."""
    options = {"validation": arguments.pop("validation", 0.0)}
    data = data_for(kind, None, updates_per_step=size, **options)
    return learner_of(kind, data.spec, **arguments), data


# --- counting -------------------------------------------------------------------------------------


def test_a_thousand_updates_are_a_thousand(tmp_path: Path) -> None:
    """K = 64 divides neither 1000 nor 100 nor 250: all are hit exactly all the same."""
    learner, data = case(validation=0.3)
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=100, save_top_k=-1)
    logger = Kept()
    trainer = fit(
        learner,
        data,
        tmp_path,
        1000,
        callbacks=[every],
        enable_checkpointing=True,
        logger=logger,
        val_check_interval=250,
        log_every_n_steps=100,
    )
    assert len(learner.said) == trainer.global_step == learner.updates == 1000
    found = {int(path.stem.removeprefix("step=")) for path in tmp_path.glob("*.ckpt")}
    assert found == set(range(100, 1001, 100))
    for update in found:
        payload = torch.load(tmp_path / f"step={update}.ckpt", weights_only=True)
        assert payload["global_step"] == update
    assert logger.steps_of("validation/actor") == [250, 500, 750, 1000]
    assert logger.steps_of("train/actor") == list(range(100, 1001, 100))


@pytest.mark.parametrize("updates_per_step", [1, 7, 64])
@pytest.mark.parametrize("updates", [1, 63, 64, 65])
def test_fit_ends_at_max_steps(updates_per_step: int, updates: int, tmp_path: Path) -> None:
    learner, data = case(size=updates_per_step)
    assert fit(learner, data, tmp_path, updates).global_step == updates == len(learner.said)


def test_run_without_an_end_is_refused(tmp_path: Path) -> None:
    learner, data = case()
    with pytest.raises(ValueError, match=r"batches never run out: set max_steps .* or max_time"):
        fit(learner, data, tmp_path, -1)
    fit(learner, data, tmp_path, -1, max_time={"seconds": 0})


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_do_not_depend_on_updates_per_step(name: str, tmp_path: Path) -> None:
    """After 130 updates, with sweeps, checkpoints and validation on the way: bit for bit."""
    kind, found = LEARNERS[name], []
    swept = "sweep_every" in inspect.signature(kind).parameters
    arguments = {"sweep_every": 25} if swept else {}
    for size in (1, 7, 64):
        learner, data = case(kind, size, validation=0.3, **arguments)
        every = ModelCheckpoint(tmp_path / str(size), every_n_train_steps=40)
        options = {"callbacks": [every], "enable_checkpointing": True, "val_check_interval": 33}
        fit(learner, data, tmp_path, 130, **options if size == 7 else {})
        ended = weights(learner)
        ended.pop("elite", None)  # what a validation chooses, not an update
        found.append(ended)
    assert equal(found[0], found[1]) and equal(found[0], found[2])


def test_log_lines_hold_the_means_of_the_chunk_that_crosses_an_interval(tmp_path: Path) -> None:
    """K = 7, every 30: chunks end at 35, 63, 91 and 95, where training ends after a chunk of 4."""
    learner, data = case(size=7)
    logger = Kept()
    fit(learner, data, tmp_path, 95, logger=logger, log_every_n_steps=30)
    assert logger.steps_of("train/actor") == [35, 63, 91, 95]
    for step, line in logger.lines:
        assert step is not None
        chunk = learner.said[step - (4 if step == 95 else 7) : step]
        mean = torch.stack([said.terms["actor"] for said in chunk]).mean().item()
        entropy = torch.stack([said.metrics["actor/entropy"] for said in chunk]).mean().item()
        assert line == pytest.approx({"train/actor": mean, "train/actor/entropy": entropy})
    assert learner.latest == logger.lines[-1][1]


def test_terms_are_those_of_the_batch_before_the_update(tmp_path: Path) -> None:
    learner, data = case()
    first = weights(learner)
    fit(learner, data, tmp_path, 1)
    said = learner.said[0]
    learner.load_state_dict(first)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
    torch.testing.assert_close(said.terms["actor"], learner.losses(batch).terms["actor"].detach())
    assert not said.terms["actor"].requires_grad


# --- the guard against numbers that are not finite ------------------------------------------------


def poison(data: Any, update: int) -> None:
    """Make a reward of one update (counted from 0) NaN; the counters tell which it is."""
    plain = data.on_after_batch_transfer

    def transfer(batch: Any, index: int) -> Any:
        batch = plain(batch, index)
        here = batch["draws"][..., 1] == update
        here[:, 1:] = False
        reward = batch["next", "reward"].masked_fill(here, math.nan)
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    data.on_after_batch_transfer = transfer


def saved_every(folder: Path, updates: int) -> dict[str, Any]:
    every = ModelCheckpoint(folder, "{step}", every_n_train_steps=updates, save_top_k=-1)
    return {"callbacks": [every], "enable_checkpointing": True}


@pytest.mark.parametrize("size", [1, 8, 64])
def test_nan_stops_training_and_names_term_update_and_checkpoint(size: int, tmp_path: Path) -> None:
    """The 37th update, counted from 1; the newest of the checkpoints at 10, 20, 30 is good."""
    learner, data = case(IQL, size)
    poison(data, 36)
    good = tmp_path / "step=30.ckpt"
    message = rf"loss term 'critic' is nan in update 37: .*checkpoint: {re.escape(str(good))}\."
    with pytest.raises(DivergenceError, match=message):
        fit(learner, data, tmp_path, 100, **saved_every(tmp_path, 10))
    assert sorted(path.name for path in tmp_path.glob("*.ckpt"))[-1] == good.name
    assert all(bool(torch.isfinite(v).all()) for v in load_learner(good).state_dict().values())


def test_message_says_when_nothing_was_saved(tmp_path: Path) -> None:
    learner, data = case(IQL, 8)
    poison(data, 3)
    with pytest.raises(DivergenceError, match=r"update 4: .*none was saved yet\. In the data"):
        fit(learner, data, tmp_path, 20)


def test_newest_checkpoint_of_all_callbacks_is_named(tmp_path: Path) -> None:
    learner, data = case(IQL, 8)
    poison(data, 36)
    often, seldom = (saved_every(tmp_path / str(n), n)["callbacks"] for n in (10, 25))
    for callbacks in (seldom + often, often + seldom):
        options = {"callbacks": callbacks, "enable_checkpointing": True}
        with pytest.raises(DivergenceError, match=r"10.step=30(-v1)?\.ckpt\."):
            fit(learner_of(IQL, data.spec), data, tmp_path, 100, **options)


def test_resumed_run_names_the_checkpoint_it_came_from(tmp_path: Path) -> None:
    learner, data = case(IQL, 8)
    trainer = fit(learner, data, tmp_path, 10)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    poison(data, 12)
    with pytest.raises(DivergenceError, match=r"update 13: .*before\.ckpt"):
        fit(learner_of(IQL, data.spec), data, tmp_path, 20, ckpt_path=tmp_path / "before.ckpt")


class Breaking(BC):
    """Breaks a weight in its eighth update, after the loss was found finite."""

    def update(self, batch: TensorDict) -> LossTerms:
        """Make one update."""
        said = super().update(batch)
        self.made = getattr(self, "made", 0) + 1
        if self.made == 8:
            self.actor.net[0].weight.data[0, 0] = math.inf
        return said


def test_parameter_that_is_not_finite_stops_training(tmp_path: Path) -> None:
    learner, data = case(Breaking, 8)
    message = r"a parameter of network 'actor' is not finite in update 8: training stopped"
    with pytest.raises(DivergenceError, match=message):
        fit(learner, data, tmp_path, 100, **saved_every(tmp_path, 4))
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["step=4.ckpt"]


# --- checkpoints ----------------------------------------------------------------------------------


class Seen(Callback):
    """Notes at which update each chunk ended."""

    def __init__(self) -> None:
        self.ends: list[int] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Note the update."""
        self.ends.append(trainer.global_step)


def test_chunks_end_where_something_is_due(env: str, tmp_path: Path) -> None:
    """K = 64: checkpoints every 50, evaluations every 40, validation every 30, the end at 130."""
    learner, data = case(evaluation=Evaluation(env=env, every=40, episodes=1), validation=0.3)
    seen = Seen()
    options = saved_every(tmp_path, 50)
    options["callbacks"].append(seen)
    fit(learner, data, tmp_path, 130, val_check_interval=30, **options)
    assert seen.ends == [30, 40, 50, 60, 80, 90, 100, 120, 130]


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.ckpt: no such checkpoint; give a file written"):
        load_learner(tmp_path / "none.ckpt")


def test_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    learner, data = case(BC)
    fit(learner, data, tmp_path, 1).save_checkpoint(tmp_path / "whole.ckpt")
    path = tmp_path / "cut.ckpt"
    path.write_bytes((tmp_path / "whole.ckpt").read_bytes()[:-500])
    with pytest.raises(ValueError, match=r"cut\.ckpt: not a readable Hindsight checkpoint"):
        load_learner(path)


def test_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(
        ValueError, match="not a Hindsight checkpoint: it holds no learner. Give a .c"
    ):
        load_learner(tmp_path / "other.ckpt")


def test_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"hindsight": {"learner": Path("x")}}, tmp_path / "code.ckpt")
    with pytest.raises(
        ValueError, match="not a readable Hindsight checkpoint: cut, or a file of ano"
    ):
        load_learner(tmp_path / "code.ckpt")


def test_unknown_learner_is_named(tmp_path: Path) -> None:
    torch.save({"hindsight": {"learner": "mine.Mine"}}, tmp_path / "mine.ckpt")
    with pytest.raises(ValueError, match="learner mine.Mine is not imported; import its module"):
        load_learner(tmp_path / "mine.ckpt")
