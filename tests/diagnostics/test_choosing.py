"""A callback that chooses the best checkpoint by the log alone."""

from pathlib import Path

import pytest
import torch
from episode_logs import episode_log
from lightning import Trainer

from hindsight_rl import BC, ChooseByLog
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.training.checkpoints.callbacks import Checkpoints
from hindsight_rl.training.checkpoints.load import load_learner

LENGTHS = (9, 12, 7, 5, 10, 8)


def fitted(
    folder: Path, callback: ChooseByLog, *, relabel: list[Relabeler] | None = None
) -> tuple[BC, Checkpoints]:
    """Return a learner after 40 updates that were judged, and what saved it."""
    log = episode_log(lengths=LENGTHS, goals=relabel is not None)
    data = OfflineDataModule(log, relabel, batch_size=16, updates_per_step=10)
    torch.manual_seed(0)  # of its first weights
    learner = BC(data.spec, network=Network(hidden=(8,)))
    saved = Checkpoints(folder, every=20, monitor=callback.monitor, mode=callback.mode)
    Trainer(
        max_steps=40,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=[callback, saved],
    ).fit(learner, data)
    return learner, saved


def test_the_best_checkpoint_is_that_with_the_highest_lower_end(tmp_path: Path) -> None:
    callback = ChooseByLog(every=10, updates=10, discount=0.9, hidden=(8,), members=2)
    lows: list[float] = []
    judge = callback.judge

    def noted(*given: object) -> object:
        found = judge(*given)  # type: ignore[arg-type]
        lows.append(found.interval.low)
        return found

    callback.judge = noted  # type: ignore[method-assign,assignment]
    _, saved = fitted(tmp_path, callback)
    assert len(lows) == 4
    assert saved.best_score == pytest.approx(max(lows), rel=1e-6)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == 10 * (1 + lows.index(max(lows)))
    assert isinstance(load_learner(tmp_path / "best.ckpt"), BC)


def test_judging_changes_nothing_of_the_fit(tmp_path: Path) -> None:
    """Weights after judged updates are those without, to the bit."""
    judged, _ = fitted(
        tmp_path / "judged", ChooseByLog(every=10, updates=5, hidden=(8,), members=2)
    )
    alone, _ = fitted(
        tmp_path / "alone", ChooseByLog(every=1000, updates=5, hidden=(8,), members=2)
    )
    for name, value in judged.state_dict().items():
        assert torch.equal(value, alone.state_dict()[name]), name


def test_rewards_that_differ_from_batch_to_batch_judge_nothing(tmp_path: Path) -> None:
    relabel: list[Relabeler] = [FutureGoal(GoalReaching(radius=0.5))]
    with pytest.raises(ValueError, match="write the relabeled log first"):
        fitted(tmp_path, ChooseByLog(every=10, updates=5, hidden=(8,)), relabel=relabel)


def test_the_action_error_is_that_of_held_out_rows() -> None:
    callback = ChooseByLog(by="action_error")
    assert (callback.monitor, callback.mode) == ("validation/action_error", "min")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "luck"}, "by"),
        ({"every": 0}, "must be at least 1"),
        ({"discount": 1.0}, r"lie in \[0, 1\)"),
        ({"members": 1}, "members is 1"),
    ],
)
def test_options_out_of_range(options: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ChooseByLog(**options)  # type: ignore[arg-type]
