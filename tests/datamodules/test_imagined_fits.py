"""Imagined rows in a fit: shares, what they never enter, goals of their own, and resuming."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from imagined_worlds import HALVES, Batches, counting, data_given, data_of, reach
from lightning.pytorch.callbacks import Callback
from small_fits import fit, learner_of
from small_logs import same
from small_replays import REACH, log_of
from tensordict import TensorDict

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sources.model import ModelSource
from hindsight_rl.keys import IMAGINED, ORIGIN
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.tasks.family import GoalReaching

QUIET = {"compile": "off"}
NEXT, REWARD, TERMINATED = ("next", "observation"), ("next", "reward"), ("next", "terminated")


def test_rows_come_with_their_shares(tmp_path: Path) -> None:
    """Which rows of a batch are imagined is drawn from (seed, update, row), whatever there is."""
    log, origins = log_of(), []
    for rows, mix in ((30, HALVES), (50, HALVES), (30, {"log": 0.05, "imagined": 0.95})):
        seen, data = Batches(), data_of(log, rows=rows, mix=mix)
        fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 100, callbacks=[seen])
        origin = seen.rows[ORIGIN]
        drawn, share = origin.numel(), mix["imagined"]
        count = int((origin == IMAGINED).sum())
        assert abs(count - drawn * share) < 4 * (drawn * share * (1 - share)) ** 0.5
        assert set(origin.unique().tolist()) == {0, IMAGINED}
        origins.append(origin)
        logged = seen.rows["index"][origin == 0]
        assert logged.max() < len(log) <= seen.rows["index"][origin == IMAGINED].min()
        assert torch.equal(seen.rows["action"][origin == 0], log.column("action")[logged])
        assert bool((seen.rows[REWARD][origin == IMAGINED] > 50).all())
    assert torch.equal(origins[0], origins[1])


def test_without_rows_the_batches_are_those_of_the_log(tmp_path: Path) -> None:
    """TB7: nothing imagined, bit by bit; goals too."""
    log, found = log_of(REACH), []
    plain = {"batch_size": 16, "updates_per_step": 8, "seed": 3, "validation": 0.25}
    none = data_of(log, model=reach, rows=0, relabel=[FutureGoal()])
    for data in (OfflineDataModule(log, [FutureGoal()], **plain), none):
        seen = Batches()
        fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 50, callbacks=[seen])
        found.append(seen.rows)
    assert set(found[1].keys()) - set(found[0].keys()) == {ORIGIN}
    assert same(found[1].exclude(ORIGIN), found[0])


def test_logs_on_disk_and_of_several_sources_are_taken(tmp_path: Path) -> None:
    """Mapped rows give the batches of rows in memory; sources share the share of the log."""
    log, other, found = log_of(), log_of(episodes=3), []
    log.save(tmp_path / "log")
    for given in (log, Log.load(tmp_path / "log"), Log.load(tmp_path / "log", memory_map=False)):
        seen, data = Batches(), data_of(given)
        fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 50, callbacks=[seen])
        found.append(seen.rows)
    assert same(found[0], found[1]) and same(found[0], found[2])
    joined = Log.concatenate([log, other], [3.0, 1.0])
    seen, data = Batches(), data_of(joined, validation=0.0)
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 100, callbacks=[seen])
    index, drawn = seen.rows["index"], seen.rows["index"].numel()
    second = int(((index >= len(log)) & (index < len(joined))).sum())
    assert abs(second - drawn / 8) < 4 * (drawn * 7 / 64) ** 0.5


def test_imagined_rows_enter_nothing_else(tmp_path: Path) -> None:
    """Not the statistics, not the hash, not the split, not what is validated or predicted."""
    log = log_of()
    plain = OfflineDataModule(log, batch_size=16, seed=3, validation=0.25)
    data = data_of(log)
    before = data.spec.to_dict()
    assert differences(before, plain.spec.to_dict()) == []
    validated: list[TensorDict] = []

    class Looking(BC):
        def validation_step(self, batch: TensorDict, *rest: Any) -> Any:
            validated.append(batch.clone())
            return super().validation_step(batch, *rest)

    learner = learner_of(Looking, data.spec, **QUIET)
    trainer = fit(learner, data, tmp_path, 60, val_check_interval=20)
    assert len(data.log) > len(log) and int((data.log.column(ORIGIN) == IMAGINED).sum()) > 50
    assert (data.log_hash, data.split_hash) == (plain.log_hash, plain.split_hash)
    assert data.log.hash() == log.hash()
    assert differences(learner.spec.to_dict(), before) == []
    rows = torch.cat([batch["index"].flatten() for batch in validated])
    held = torch.cat([batch["index"].flatten() for batch in plain.val_dataloader()])
    assert len(validated) == 3 and rows.unique().tolist() == held.tolist()
    drawn = data.log.drawable()
    assert not torch.isin(drawn, held).any()
    predicted = trainer.predict(learner, data)
    assert sum(part["index"].numel() for part in predicted or []) == len(log)


def test_a_round_is_imagined_by_the_policy_as_it_is(tmp_path: Path) -> None:
    """Two rounds are kept; the newest one is what a source gives for the policy at its start."""
    log, checkpoints = log_of(), {}

    class Keeping(Callback):
        def on_train_batch_start(self, trainer: Any, learner: Any, *_: Any) -> None:
            checkpoints[trainer.global_step] = copy.deepcopy(learner)

    data = data_of(log)
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 70, callbacks=[Keeping()])
    source = ModelSource(data_given(), log, seed=3)
    kept = data.log.gather(torch.arange(len(log), len(data.log)))
    training = log.with_rows(OfflineDataModule(log, seed=3, validation=0.25).log.rows)
    rounds = [
        source.collect(checkpoints[20 * number].collecting(True), 30 * number, 30, training)
        for number in (2, 3)
    ]
    for key in source.keys:
        expected = torch.cat([each.columns[key] for each in rounds])
        assert torch.equal(kept[key][-len(expected) :], expected)
    ends = kept["episode_end"] - len(log)
    assert kept["step"].max() == 2 and torch.equal(ends[ends], ends)


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("kind", [SAC, AWR])
def test_a_resumed_run_ends_the_same(kind: Any, where: str, tmp_path: Path) -> None:
    """In the middle of a round and at its edge, with other chunks; a learner that sweeps too."""
    log = log_of()

    def run(folder: Path, updates: int, ckpt: Path | None = None, size: int = 8) -> Path:
        place = str(folder / "imagined") if where == "file" else None
        data = data_of(log, memory_map=place, updates_per_step=size)
        trainer = fit(learner_of(kind, data.spec, **QUIET), data, folder, updates, ckpt)
        trainer.save_checkpoint(folder / f"{updates}.ckpt")
        return folder / f"{updates}.ckpt"

    whole = torch.load(run(tmp_path / "one", 90), weights_only=True)
    for stop in (50, 60):
        folder = tmp_path / str(stop)
        again = torch.load(run(folder, 90, run(folder, stop, size=5)), weights_only=True)
        for key in ("state_dict", "optimizer_states", "global_step", "OfflineDataModule"):
            assert differences(whole[key], again[key], key) == []
    assert whole["OfflineDataModule"]["imagined"]["round"] == 4


def test_compiled_updates_imagine_what_single_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first policy's rows to the bit; later ones, of weights that rounding moved, nearly."""
    real = torch.compile
    # As the engine asks, in a compiler that rounds as eager does: shapes of other tests in this
    # process must not make its own dynamic.
    monkeypatch.setattr(
        torch,
        "compile",
        lambda function, options=None, **asked: real(function, backend="aot_eager", **asked),
    )
    log, ends = log_of(), []
    for mode in ("off", "update"):
        data = data_of(log, updates_per_step=10)
        learner = learner_of(SAC, data.spec, compile=mode)
        fit(learner, data, tmp_path, 40)
        assert learner.plan is not None and learner.plan.compile == mode
        ends.append((data.log.gather(torch.arange(len(log), len(data.log))), learner))
    (alone, one), (together, other) = ends
    first = int((alone["episode"] < alone["episode"][0] + 30).sum())
    assert same(alone[:first], together[:first]) and len(alone) > first
    torch.testing.assert_close(alone["action"], together["action"], atol=1e-4, rtol=1e-4)
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_a_run_is_resumed_with_its_model_and_shares_only(tmp_path: Path) -> None:
    log = log_of()
    data = data_of(log)
    trainer = fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 10)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    few = {"log": 0.05, "imagined": 0.95}
    for other, words in (
        (data_of(log, model=counting), "started with the model drift, and this one is counting"),
        (data_of(log, mix=few), "with mix {'log': 0.5, 'imagined': 0.5}, and this is mix"),
        (OfflineDataModule(log, seed=3, validation=0.25), "and this is mix None"),
    ):
        with pytest.raises(LogError, match=words):
            fit(learner_of(BC, other.spec), other, tmp_path, 20, tmp_path / "some.ckpt")


def test_goals_of_imagined_rows_are_their_own(tmp_path: Path) -> None:
    """HER: what an imagined episode reaches is its goal, judged by the family as on the log."""
    log, seen = log_of(REACH), Batches()
    family = GoalReaching(radius=0.3)
    data = data_of(log, model=reach, relabel=[FutureGoal(family)])
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 30, callbacks=[seen])
    batch = seen.rows.reshape(-1)
    imagined = batch[batch[ORIGIN] == IMAGINED]
    apart = (imagined["task"] - imagined["next", "achieved_goal"]).norm(dim=-1)
    assert torch.equal(imagined[REWARD], torch.where(apart <= 0.3, 0.0, -1.0))
    assert torch.equal(imagined[TERMINATED], apart <= 0.3) and bool((apart > 0.3).any())
    # A goal lies on the way: no imagined step is longer than the diagonal of a push.
    steps = imagined["episode_end"] - imagined["index"] + 1
    assert bool((apart <= 0.4 * 2**0.5 * steps + 1e-5).all())


@pytest.mark.parametrize(
    ("kind", "learner"),
    [(InverseRL, BC), (TransitionInverseRL, SAC)],
)
def test_inverse_rl_judges_imagined_rows_as_logged_ones(
    kind: Any, learner: Any, tmp_path: Path
) -> None:
    """HIPI on imagined rows: their tasks are among those proposed, their rewards the family's."""
    log, seen = log_of(REACH), Batches()
    family = GoalReaching(radius=0.3)
    data = data_of(log, model=reach, relabel=[kind(family, candidates=6)])
    options = QUIET if learner is BC else QUIET | {"discount": 0.9}
    fit(learner_of(learner, data.spec, **options), data, tmp_path, 40, callbacks=[seen])
    batch = seen.rows.reshape(-1)
    for origin in (0, IMAGINED):
        rows = batch[batch[ORIGIN] == origin]
        apart = (rows["task"] - rows["next", "achieved_goal"]).norm(dim=-1)
        assert torch.equal(rows[REWARD], torch.where(apart <= 0.3, 0.0, -1.0))
        assert torch.equal(rows[TERMINATED], apart <= 0.3)
        assert bool((apart <= 0.3).any()) and len(rows["task"].unique(dim=0)) > 3
