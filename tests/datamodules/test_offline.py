"""OfflineDataModule: the split, what Lightning is handed, and what is refused."""

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from small_logs import same

from hindsight_rl.datamodules import offline
from hindsight_rl.datamodules.offline import OfflineDataModule, update_marks
from hindsight_rl.datamodules.split import split_by_episode
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.returns import ReturnToGo


def learner_of(*in_keys: Any) -> Any:
    """Return what the datamodule asks a learner for."""
    return SimpleNamespace(in_keys=in_keys, marks=[])


def trainer_of(**changed: Any) -> Any:
    """Return what the datamodule asks a trainer for."""
    learner = learner_of("observation")
    plain: dict[str, Any] = {
        "max_steps": -1,
        "global_step": 0,
        "callbacks": [],
        "val_check_interval": 1.0,
        "lightning_module": learner,
        "global_rank": 0,
        "world_size": 1,
        "num_devices": 1,
    }
    return SimpleNamespace(**plain | changed)


def served(data: OfflineDataModule, **changed: Any) -> Any:
    """Return the chunks a trainer of this kind is handed."""
    data.trainer = trainer_of(**changed)
    return iter(data.train_dataloader())


def held_out_rows(data: OfflineDataModule) -> list[int]:
    return [row for batch in data.val_dataloader() for row in batch["index"][0].tolist()]


# --- the split ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.25, 5), (0.5, 10), (0.99, 19)])
def test_split_is_by_episode_disjoint_and_complete(share: float, expected: int) -> None:
    """Of 20 episodes round(share * 20) are held out, at least one of each side."""
    log = episode_log([2, 3] * 10)
    training, held_out = split_by_episode(log, share, seed=0)
    assert torch.cat([training, held_out]).sort().values.equal(torch.arange(50))
    episode = log.column("episode")
    sides = episode[training].unique(), episode[held_out].unique()
    assert [len(side) for side in sides] == [20 - expected, expected]
    assert not torch.isin(*sides).any()
    assert training.equal(training.sort().values) and held_out.equal(held_out.sort().values)


def test_split_depends_on_the_seed_alone() -> None:
    log = episode_log([2] * 20)
    first, again, other = (split_by_episode(log, 0.5, seed)[1] for seed in (1, 1, 2))
    assert first.equal(again) and not first.equal(other)


def test_split_keeps_to_the_rows_of_the_log() -> None:
    """A log that was filtered and saved: its other rows are on neither side."""
    log = episode_log([2] * 10).with_rows(torch.arange(8, 16))
    assert split_by_episode(log, 0.0, 0)[0].equal(torch.arange(8, 16))
    training, held_out = split_by_episode(log, 0.25, 0)
    assert torch.cat([training, held_out]).sort().values.equal(torch.arange(8, 16))
    assert len(held_out) == 2
    data = OfflineDataModule(log, batch_size=64)
    assert set(next(served(data))["index"].flatten().tolist()) <= set(range(8, 16))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_two_episodes_go_one_to_each_side(share: float) -> None:
    training, held_out = split_by_episode(episode_log([3, 4]), share, seed=0)
    assert sorted([len(training), len(held_out)]) == [3, 4]


def test_one_episode_cannot_be_split() -> None:
    with pytest.raises(LogError, match="a log of one episode cannot be split. Set validation to 0"):
        OfflineDataModule(episode_log([5]), validation=0.1)


@pytest.mark.filterwarnings("ignore:episodes are held out")
def test_training_never_draws_held_out_rows() -> None:
    data = OfflineDataModule(episode_log(), validation=0.4, batch_size=256)
    drawn = set(next(served(data))["index"].flatten().tolist())
    held_out = held_out_rows(data)
    assert held_out and drawn == set(range(47)) - set(held_out)


# --- what Lightning is handed ---------------------------------------------------------------------


def test_chunks_hold_k_batches_and_follow_the_trainer() -> None:
    """From update 90 with K 7: a checkpoint every 50, validation every 24, the end at 125."""
    data = OfflineDataModule(episode_log(), batch_size=4, updates_per_step=7)
    every = ModelCheckpoint(every_n_train_steps=50)
    chunks = served(data, global_step=90, callbacks=[every], val_check_interval=24, max_steps=125)
    first = next(chunks)
    assert first.batch_size == (6, 4)
    assert [len(next(chunks)) for _ in range(5)] == [4, 7, 7, 6, 5]
    assert same(first, OfflineDataModule(episode_log(), batch_size=4)._sampler().chunk(90, 6))


def test_weights_of_0_alone_are_refused() -> None:
    """The row that has another weight is not drawn."""
    weight = torch.eye(len(episode_log()))[0]
    log = episode_log().with_columns({"weight": weight})
    assert next(served(OfflineDataModule(log, batch_size=4)))["weight"].shape == (64, 4)
    data = OfflineDataModule(log.with_rows(torch.arange(1, 9)), batch_size=4)
    with pytest.raises(
        ValueError, match="rows that may be drawn have weight 0: no row would count"
    ):
        served(data)


def test_each_rank_gets_its_slice() -> None:
    data = OfflineDataModule(episode_log(), batch_size=4)
    whole = next(served(data))
    parts = [next(served(data, global_rank=rank, world_size=2)) for rank in (0, 1)]
    assert same(torch.cat(parts, dim=1), whole)


def test_marks_are_collected_from_everywhere_once() -> None:
    callbacks = [ModelCheckpoint(every_n_train_steps=n) for n in (100, 40)]
    callbacks += [ModelCheckpoint(), Timer()]
    learner = SimpleNamespace(marks=[25, 100])
    trainer = trainer_of(callbacks=callbacks, lightning_module=learner, val_check_interval=250)
    assert update_marks(trainer) == [25, 40, 100, 250]
    assert update_marks(trainer_of(lightning_module=object())) == []


@pytest.mark.parametrize(
    ("cores", "processes", "left"), [(1, 1, False), (2, 1, True), (2, 2, False)]
)
def test_the_next_chunk_is_read_in_the_background_where_a_core_is_left(
    cores: int, processes: int, left: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline, "_cores", lambda: cores)
    for wanted, found in ((None, left), (True, True), (False, False)):
        data = OfflineDataModule(episode_log(), batch_size=4, prefetch=wanted)
        before = threading.active_count()
        chunks = served(data, num_devices=processes)
        next(chunks)
        assert threading.active_count() - before == found
        chunks.close()


def test_relabeling_happens_after_the_transfer() -> None:
    data = OfflineDataModule(episode_log(goals=True), [FutureGoal()], batch_size=4)
    chunk = next(served(data))
    assert "task" not in chunk.keys() and "companion" in chunk.keys()
    batch = data.on_after_batch_transfer(chunk, 0)
    assert "task" in batch.keys() and "companion" not in batch.keys()
    assert data.on_after_batch_transfer(0, 0) == 0


def test_validation_serves_held_out_rows_in_order() -> None:
    data = OfflineDataModule(episode_log(), [ReturnToGo()], validation=0.4, batch_size=4)
    loader = data.val_dataloader()
    _, expected = split_by_episode(episode_log(), 0.4, 0)
    assert held_out_rows(data) == expected.tolist()
    assert all(batch.batch_size[0] == 1 and "return_to_go" in batch.keys() for batch in loader)


def test_without_a_split_there_is_nothing_to_validate_on() -> None:
    assert OfflineDataModule(episode_log()).val_dataloader() == []


def test_prediction_covers_the_log_in_order() -> None:
    data = OfflineDataModule(episode_log(), [TopFraction(0.5)], validation=0.4)
    rows = torch.cat([batch["index"] for batch in data.predict_dataloader()], dim=1)
    assert rows.equal(torch.arange(47)[None])


def test_rows_in_order_do_not_depend_on_the_batch_size() -> None:
    """Nor do their draws: a sweep in other batches relabels each row the same way."""
    data = OfflineDataModule(episode_log(goals=True), [FutureGoal()])
    whole = next(data.in_order())
    parts = [data.relabel(part) for part in data.in_order(batch_size=10)]
    assert [part.batch_size[1] for part in parts] == [10, 10, 10, 10, 7]
    assert same(torch.cat(parts, dim=1), data.relabel(whole))
    other = data.relabel(next(data.in_order(stream="validation")))
    assert not other["task"].equal(data.relabel(whole)["task"])


def test_saved_logs_are_read_and_mixed(tmp_path: Path) -> None:
    one, two = episode_log([5], seed=1), episode_log([15], seed=2)
    one.save(tmp_path / "one")
    two.save(tmp_path / "two")
    single = OfflineDataModule(str(tmp_path / "one"), batch_size=4)
    assert same(next(served(single)), next(served(OfflineDataModule(one, batch_size=4))))
    assert single.log_hash == one.hash()
    sources = [str(tmp_path / "one"), str(tmp_path / "two")]
    data = OfflineDataModule(sources, weights=[3.0, 1.0], batch_size=64)
    assert [source.weight for source in data.log.sources] == [3.0, 1.0]
    first = (next(served(data))["index"] < 5).float().mean().item()
    assert first == pytest.approx(0.75, abs=0.03)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "return_to_go",
            r"needs 'return_to_go', which no batch has. Add ReturnToGo to the relabelers: "
            r".*\[\{class_path: ReturnToGo\}\]",
        ),
        ("weight", r"Add ColumnWeight or ReturnWeight to the relabelers"),
        ("task", r"Add .* or FinalGoal or FutureGoal or .*: .*\[\{class_path: NAME\}\]"),
        ("discount", r"Add NStep to the relabelers"),
        (("next", "force"), r"needs 'next.force', which no batch has. Map a column of the log to"),
    ],
)
def test_missing_key_names_what_would_produce_it(key: Any, message: str) -> None:
    data = OfflineDataModule(episode_log())
    learner = learner_of("observation", key)
    with pytest.raises(LogError, match=message):
        served(data, lightning_module=learner)


def test_keys_of_relabelers_count() -> None:
    data = OfflineDataModule(episode_log(goals=True), [ReturnToGo(), FutureGoal()])
    learner = learner_of("return_to_go", "task", ("next", "reward"))
    assert next(served(data, lightning_module=learner)).batch_size == (64, 256)


def test_checkpoint_of_another_log_is_refused() -> None:
    data, other = OfflineDataModule(episode_log()), OfflineDataModule(episode_log(seed=1))
    data.load_state_dict(OfflineDataModule(episode_log(), [ReturnToGo()]).state_dict())
    with pytest.raises(
        LogError,
        match=r"walk: the checkpoint was trained on a log with hash \w+, "
        r"this one has \w+. Resume with the original log, or start a new run",
    ):
        data.load_state_dict(other.state_dict())


def test_hash_does_not_depend_on_packing() -> None:
    log = episode_log()
    assert OfflineDataModule(log, [ReturnToGo()]).log.hash() == log.hash()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size 0 and updates_per_step 64: at least 1 each"),
        ({"updates_per_step": 0}, "updates_per_step 0: at least 1 each"),
        ({"validation": 1.0}, r"validation is 1.0, it must lie in \[0, 1\)"),
        ({"validation": -0.1}, r"validation is -0.1, it must lie in \[0, 1\)"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OfflineDataModule(episode_log(), **arguments)


def test_log_without_drawable_rows_is_refused() -> None:
    log = episode_log().with_rows(torch.empty(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="no row of the log can be drawn"):
        OfflineDataModule(log)


def test_source_that_is_no_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="nowhere"):
        OfflineDataModule(str(tmp_path / "nowhere.npz"))


def test_log_from_memory_is_left_alone() -> None:
    log = episode_log(goals=True)
    before = {key: log.column(key).clone() for key in log.keys()}
    OfflineDataModule(log, [ReturnToGo(), TopFraction(0.5), FutureGoal()], validation=0.3)
    assert isinstance(log, Log) and log.rows is None and list(before) == log.keys()
    assert all(torch.equal(log.column(key), value) for key, value in before.items())
