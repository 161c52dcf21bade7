"""Saving and stopping by updates: nothing is lost or repeated by going on from a checkpoint."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from drafts import left_draft
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from small_fits import data_for, fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.training.checkpoints.callbacks import Checkpoints, StopEarly, save
from hindsight_rl.training.checkpoints.file import content_hash, read_checkpoint

VALIDATED: dict[str, Any] = {"val_check_interval": 15, "enable_checkpointing": True}


def run(
    folder: Path, updates: int, *callbacks: Any, resume: Path | None = None, **changed: Any
) -> Trainer:
    """Fit BC with a fast rate, validations every 15 updates, and what is changed."""
    size = changed.pop("updates_per_step", 8)
    data = data_for(BC, batch_size=16, updates_per_step=size, validation=0.3)
    arguments = {"learning_rates": {"actor": 0.03}} | changed
    options = VALIDATED | {"callbacks": list(callbacks)}
    return fit(learner_of(BC, data.spec, **arguments), data, folder, updates, resume, **options)


def names(folder: Path) -> set[str]:
    """Return the names of all files in a folder, hidden ones included."""
    return {path.name for path in folder.iterdir()}


def held(path: Path) -> str:
    """Return the hash of what a checkpoint holds, but for Lightning's counts."""
    counts = ("loops", "epoch")
    return content_hash({k: v for k, v in read_checkpoint(path).items() if k not in counts})


def waited(path: Path) -> int:
    """Return the wait count that a checkpoint holds."""
    states = read_checkpoint(path)["callbacks"].items()
    return next(int(state["wait_count"]) for name, state in states if name.startswith("StopEarly"))


# ------------------------------------------------------------------ what is kept


@pytest.mark.parametrize(
    ("keep", "kept"), [(2, {20, 30}), (1, {30}), (-1, {10, 20, 30}), (0, set())]
)
def test_newest_are_kept(keep: int, kept: set[int], tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    run(tmp_path, 35, Checkpoints(tmp_path / "a", every=10, keep=keep))
    assert names(tmp_path / "a") == {f"step={number}.ckpt" for number in kept}


def test_newest_are_kept_whatever_was_resumed_and_whenever(tmp_path: Path) -> None:
    """Another interval, and a checkpoint of updates still to come: written over, not counted."""
    folder = tmp_path / "a"
    run(tmp_path, 40, Checkpoints(folder, every=10))
    shutil.copy(folder / "step=40.ckpt", folder / "step=60.ckpt")
    (folder / "step=x.ckpt").touch()
    run(tmp_path, 59, Checkpoints(folder, every=4), resume=folder / "step=30.ckpt")
    others = {"step=60.ckpt", "step=x.ckpt"}
    assert names(folder) == {"step=52.ckpt", "step=56.ckpt"} | others
    run(tmp_path, 60, Checkpoints(folder, every=4), resume=folder / "step=56.ckpt")
    assert names(folder) == {"step=56.ckpt", "step=60.ckpt", "step=x.ckpt"}
    assert read_checkpoint(folder / "step=60.ckpt")["global_step"] == 60


def test_what_a_killed_process_had_no_time_to_remove_goes_at_the_next_start(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "a"
    run(tmp_path, 20, Checkpoints(folder, every=10))
    shutil.copy(folder / "step=10.ckpt", folder / "step=5.ckpt")
    run(tmp_path, 20, Checkpoints(folder, every=10), resume=folder / "step=20.ckpt")
    assert names(folder) == {"step=10.ckpt", "step=20.ckpt"}


@pytest.mark.parametrize("callback", [Checkpoints, ModelCheckpoint])
def test_drafts_of_a_killed_process_are_removed_at_the_next_start(
    callback: Any, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    left_draft(tmp_path / "a" / "step=10.ckpt")
    run(tmp_path, 1, callback(tmp_path / "a"))
    assert not list((tmp_path / "a").glob(".*"))


# ------------------------------------------------------------------ the best


def test_best_is_the_same_however_often_and_wherever_the_run_goes_on(
    env: str, tmp_path: Path
) -> None:
    """Resumed in a folder that was moved, with another interval between checkpoints."""
    plain = {"evaluation": Evaluation(env=env, every=10, episodes=2)}
    best = {"monitor": "eval/return", "keep": -1}
    run(tmp_path, 90, Checkpoints(tmp_path / "a", every=5, **best), **plain)
    updates = read_checkpoint(tmp_path / "a" / "best.ckpt")["global_step"]
    assert 10 < updates < 90  # it changed at least once, and its score is to be remembered
    for start in (updates - 5, updates):
        moved = tmp_path / f"moved {start}"
        shutil.copytree(tmp_path / "a", moved)
        if start < updates:
            (moved / "best.ckpt").unlink()
        resumed = Checkpoints(moved, every=7, **best)
        run(tmp_path, 90, resumed, resume=moved / f"step={start}.ckpt", **plain)
        assert held(moved / "best.ckpt") == held(tmp_path / "a" / "best.ckpt")


def test_best_by_validation_and_the_smallest(tmp_path: Path) -> None:
    best = Checkpoints(tmp_path / "a", monitor="validation/action_error", mode="min")
    seen: list[float] = []
    trainer = run(tmp_path, 60, _Seen(seen, best.monitor), best)
    assert len(seen) == 4 and best.best_score == min(seen)
    assert names(tmp_path / "a") == {"best.ckpt"}
    found = read_checkpoint(tmp_path / "a" / "best.ckpt")
    assert found["global_step"] == 15 * (seen.index(min(seen)) + 1)
    assert found["callbacks"]["Checkpoints"]["best_score"] == min(seen)
    assert trainer.checkpoint_callback is best


class _Seen(EarlyStopping):
    """Keeps every validated value."""

    def __init__(self, seen: list[float], monitor: Any) -> None:
        super().__init__(monitor, patience=99)
        self._seen = seen

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        """Keep it."""
        self._seen.append(float(trainer.callback_metrics[self.monitor]))


def test_no_number_is_no_best(tmp_path: Path) -> None:
    best = Checkpoints(tmp_path, monitor="validation/action_error", mode="min")
    for score, kept in ((float("nan"), None), (2.0, 2.0), (float("nan"), 2.0), (3.0, 2.0)):
        decide = SimpleNamespace(reduce_boolean_decision=lambda better: better)
        metrics = {"validation/action_error": torch.tensor(score)}
        best._note_best(SimpleNamespace(callback_metrics=metrics, strategy=decide), "validation/")
        assert best.best_score == kept


def test_best_by_what_is_not_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no validation/other to choose the best by, only .*acti"):
        run(tmp_path, 20, Checkpoints(tmp_path / "a", monitor="validation/other"))


def test_best_score_of_a_run_saved_with_modelcheckpoint_is_taken_over(
    env: str, tmp_path: Path
) -> None:
    plain = {"evaluation": Evaluation(env=env, every=10, episodes=1)}
    before = ModelCheckpoint(
        tmp_path / "a", "best", "eval/return", mode="max", every_n_train_steps=10
    )
    run(tmp_path, 30, before, **plain)
    after = Checkpoints(tmp_path / "a", monitor="eval/return")
    run(tmp_path, 30, after, resume=Path(before.best_model_path), **plain)
    assert after.best_score is not None
    assert (
        after.best_score
        == read_checkpoint(Path(before.best_model_path))["callbacks"][before.state_key][
            "best_model_score"
        ]
    )


# ------------------------------------------------------------------ stopping


@pytest.mark.parametrize("monitor", ["validation/action_error", "eval/length"])
def test_waiting_goes_on_where_it_was(monitor: str, env: str, tmp_path: Path) -> None:
    """From a checkpoint at any update, those with a validation and an evaluation included."""
    plain = {"evaluation": Evaluation(env=env, every=15, episodes=1)}

    def stop() -> StopEarly:
        return StopEarly(monitor, mode="min", patience=3, min_delta=0.001)

    folder = tmp_path / "a"
    ended = run(tmp_path, 300, stop(), Checkpoints(folder, every=5, keep=-1), **plain)
    ended.save_checkpoint(folder / "last.ckpt")
    updates = ended.global_step
    assert updates % 15 == 0 and 30 < updates < 300
    assert [waited(folder / f"step={updates - back}.ckpt") for back in (0, 5, 15)] == [3, 2, 2]
    for start in (5, updates - 20, updates - 15, updates - 5, updates):
        again, size = tmp_path / f"from {start}", 8 if start == 5 else 4
        path = folder / f"step={start}.ckpt"
        more = plain | {"updates_per_step": size}
        trainer = run(tmp_path, 300, stop(), Checkpoints(again), resume=path, **more)
        trainer.save_checkpoint(again / "last.ckpt")
        assert trainer.global_step == updates
        assert held(again / "last.ckpt") == held(folder / "last.ckpt")


def test_a_stopped_run_goes_on_with_more_patience(tmp_path: Path) -> None:
    def stop(patience: int) -> StopEarly:
        return StopEarly("validation/action_error", mode="max", patience=patience)

    ended = run(tmp_path, 300, stop(2), Checkpoints(tmp_path / "a", every=5))
    newest = tmp_path / "a" / f"step={ended.global_step}.ckpt"
    assert run(tmp_path, 300, stop(2), resume=newest).global_step == ended.global_step
    more = run(tmp_path, 300, stop(3), resume=newest)
    assert more.global_step == ended.global_step + 15


def test_evaluations_need_stop_early(env: str, tmp_path: Path) -> None:
    plain = {"evaluation": Evaluation(env=env, every=10)}
    with pytest.raises(ValueError, match=r"eval/return comes from an evaluation: use .*StopEarly"):
        run(tmp_path, 20, EarlyStopping("eval/return"), **plain)


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"every": 0}, "every is 0 updates, it must be at least 1"),
        ({"keep": -2}, "keep is -2, it must be at least 0, or -1 for all"),
        ({"mode": "most"}, "mode is 'most', it must be 'max' or 'min'"),
        ({"monitor": "train/loss"}, r"monitor is 'train/loss': name an evaluation \(eval/return\)"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        Checkpoints(tmp_path, **options)


def test_stopping_by_what_is_never_looked_at_is_refused() -> None:
    with pytest.raises(ValueError, match=r"monitor is 'train/actor': name an evaluation"):
        StopEarly("train/actor", mode="min")


@pytest.mark.parametrize("rank", [0, 1])
def test_every_rank_says_that_a_checkpoint_cannot_be_written(rank: int) -> None:
    """The first rank fails where the others wait for it, and then tells them why."""
    met: list[str] = []

    def write(_: Path) -> None:
        if rank == 0:
            raise OSError("no room")
        met.append("waited")

    strategy = SimpleNamespace(
        barrier=lambda _: met.append("waited"), broadcast=lambda told: told or "no room"
    )
    with pytest.raises(OSError, match="no room"):
        save(SimpleNamespace(save_checkpoint=write, strategy=strategy), Path("a.ckpt"))
    assert met == ["waited"]
