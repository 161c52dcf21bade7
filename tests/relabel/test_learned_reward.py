"""LearnedReward: members by hand, the same by file and on the fly, what does not fit."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import equal, fit, learner_of, pairs_of, trainer_in, weights
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.keys import ACTION, OBSERVATION, REWARD, TERMINATED
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.learned_features import LearnedFeatures
from hindsight_rl.relabel.learned_reward import LearnedReward
from hindsight_rl.relabel.once import Once


class Members:
    """A model that gives these rewards, row by row."""

    spec = None
    takes_task = False

    def __init__(self, members: Tensor) -> None:
        self.given = members

    def rewards(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return ``[E, N]``."""
        return self.given


def standard(values: Tensor) -> Tensor:
    return (values - values.mean()) / values.std(correction=0)


def reward_of(log: Log, *model: Any, **arguments: Any) -> Tensor:
    return LearnedReward(*model, **arguments).prepare(log).columns[REWARD]


def checkpoint(folder: Path, **options: Any) -> str:
    """Fit a small model to a log with these options; return its checkpoint."""
    data = pairs_of(episode_log(**options), batch_size=16, updates_per_step=8)
    model = learner_of(RewardModel, data.spec)
    model.accuracy = 1.0
    trainer = fit(model, data, folder, 8)
    path = folder / "reward.ckpt"
    trainer.save_checkpoint(path)
    return str(path)


def test_members_are_standardised_one_by_one_then_together() -> None:
    """A member of a thousand times the size of another has the same say."""
    log, draw = episode_log(), torch.Generator().manual_seed(1)
    small = torch.randn(47, generator=draw).double()
    large = 1000 * torch.randn(47, generator=draw).double() + 50
    members = Members(torch.stack([small, large]))
    both = torch.stack([standard(small), standard(large)])
    for how, one in (
        ("mean", both.mean(0)),
        ("min", both.amin(0)),
        ("mean-std", both.mean(0) - both.std(0, correction=0)),
    ):
        found = reward_of(log, members, how=how, clip=100.0)
        torch.testing.assert_close(found, standard(one).float())
    found = reward_of(log, members, how="mean-std", coefficient=0.0)
    torch.testing.assert_close(found, reward_of(log, members))


def test_clip_and_alive() -> None:
    """Standardised values cut at 1, then 3 more for every step lived."""
    log, values = episode_log(), torch.linspace(-1, 1, 47).double()
    found = reward_of(log, Members(values[None]), clip=1.0, alive=3.0)
    torch.testing.assert_close(found, (standard(values).clamp(-1, 1) + 3).float())
    assert found.min() == 2 and found.max() == 4


def test_rows_that_may_be_drawn_decide_the_scale() -> None:
    log, values = episode_log(), torch.arange(47.0).double()
    rows = torch.arange(9)
    found = reward_of(log.with_rows(rows), Members(values[None]), clip=100.0)
    torch.testing.assert_close(found[rows], standard(values[rows]).float())


def test_a_reward_that_says_nothing_is_reported() -> None:
    with pytest.warns(UserWarning, match="Members gives every row of the log the same reward"):
        found = reward_of(episode_log(), Members(torch.full((3, 47), 7.0)))
    assert not found.any()
    with pytest.raises(ValueError, match="Members gives rewards that are not finite"):
        reward_of(episode_log(), Members(torch.full((3, 47), torch.nan)))


@pytest.mark.parametrize("options", [{}, {"discrete": True, "task": True}])
def test_a_checkpoint_gives_what_its_model_gives(options: dict[str, Any], tmp_path: Path) -> None:
    path, log = checkpoint(tmp_path, **options), episode_log(**options)
    relabel = LearnedReward(Path(path))
    assert relabel.name == path
    model: Any = relabel.model
    task = log.column("task") if options else None
    with torch.no_grad():
        members = model.rewards(log.column(OBSERVATION), log.column(ACTION), task)
    assert members.shape == (3, 47)
    torch.testing.assert_close(relabel.members(log), members.double())
    one = torch.stack([standard(member) for member in members.double()]).mean(0)
    bound = relabel.prepare(log)
    torch.testing.assert_close(bound.columns[REWARD], standard(one).clamp(-5, 5).float())
    assert set(bound.columns) == {REWARD}
    assert ("task" in relabel.prepare_reads) == bool(options)


def test_choices_of_a_log_that_counts_from_elsewhere(tmp_path: Path) -> None:
    log = episode_log(discrete=True)
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    moved = Log.from_columns(
        columns | {ACTION: columns[ACTION] + 4}, log.info | {"action_start": 4}
    )
    data = pairs_of(moved, batch_size=16, updates_per_step=8)
    model = learner_of(RewardModel, data.spec)
    model.accuracy = 1.0
    with torch.no_grad():
        expected = model.rewards(log.column(OBSERVATION), log.column(ACTION))
    torch.testing.assert_close(LearnedReward(model).members(moved), expected.double())
    with pytest.raises(ValueError, match="number of choices is 3 from 4, and .* log 3 from 0"):
        LearnedReward(model).prepare(log)


def test_a_written_log_trains_to_the_weights_of_on_the_fly(tmp_path: Path) -> None:
    """Relabeled by file, read again and trained on; and by the relabeler while training."""
    path, log = checkpoint(tmp_path), episode_log()
    write_relabeled(log, [LearnedReward(path, how="min", alive=0.5)], tmp_path / "new")
    written = Log.load(tmp_path / "new")
    assert written.column(TERMINATED).equal(log.column(TERMINATED))
    assert written.column(("original", *REWARD)).equal(log.column(REWARD))
    assert not written.column(REWARD).equal(log.column(REWARD))
    found = []
    for relabel in ([], [Once([LearnedReward(path, how="min", alive=0.5)])], None):
        source = written if relabel == [] else log
        steps = [LearnedReward(path, how="min", alive=0.5)] if relabel is None else relabel
        data = OfflineDataModule(source, steps, batch_size=16, updates_per_step=8)
        learner = learner_of(IQL, data.spec)
        fit(learner, data, tmp_path, 20)
        found.append(weights(learner))
    assert equal(found[0], found[1]) and equal(found[0], found[2])
    plain = OfflineDataModule(log, batch_size=16, updates_per_step=8)
    learner = learner_of(IQL, plain.spec)
    fit(learner, plain, tmp_path, 20)
    assert not equal(weights(learner), found[0])


def test_later_relabelers_see_the_learned_reward() -> None:
    """The best half by learned return, not by the log's."""
    log = episode_log()
    values = -log.column(REWARD).double()
    data = OfflineDataModule(log, [LearnedReward(Members(values[None])), TopFraction(0.5)])
    logged = OfflineDataModule(log, [TopFraction(0.5)])
    assert not data.log.drawable().equal(logged.log.drawable())


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    with pytest.raises(ValueError, match="its action is continuous, and that of the log discrete"):
        reward_of(episode_log(discrete=True), path)
    with pytest.raises(
        ValueError, match=r"reward.ckpt: its task is \[2\], and that of the log non"
    ):
        reward_of(episode_log(), checkpoint(tmp_path, task=True))
    wide = episode_log()
    columns = {key: wide.column(key) for key in wide.keys() if key not in ("step", "episode_end")}
    for key in (OBSERVATION, ("next", OBSERVATION)):
        columns[key] = torch.cat([columns[key], columns[key]], dim=1)
    with pytest.raises(ValueError, match=r"its observation is \[3\], and that of the log \[6\]"):
        reward_of(Log.from_columns(columns, wide.info), checkpoint(tmp_path))
    relative = Log.from_columns(
        columns | {key: wide.column(key) for key in (OBSERVATION, ("next", OBSERVATION))},
        wide.info | {"offset": {"observation": [1.0, 2.0, 3.0]}},
    )
    with pytest.raises(ValueError, match=r"its offset of observation is \[\], and .* \[1.0, 2.0"):
        reward_of(relative, path)


def test_other_checkpoints_and_arguments(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log(), batch_size=16)
    trainer = trainer_in(tmp_path, 1)
    trainer.fit(learner_of(BC, data.spec), data)
    trainer.save_checkpoint(tmp_path / "bc.ckpt")
    with pytest.raises(ValueError, match="bc.ckpt: BC gives no rewards: give a checkpoint of Rew"):
        LearnedReward(str(tmp_path / "bc.ckpt"))
    with pytest.raises(ValueError, match="none.ckpt"):
        LearnedReward(str(tmp_path / "none.ckpt"))
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "bc.ckpt").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut.ckpt"):
        LearnedReward(str(tmp_path / "cut.ckpt"))
    members = Members(torch.zeros(1, 47))
    for wrong, message in (
        ({"clip": 0.0}, "clip 0.0 above 0"),
        ({"coefficient": -1.0}, "coefficient -1.0 must be at least 0"),
        ({"how": "best"}, "how is 'best'"),
    ):
        with pytest.raises(ValueError, match=message):
            LearnedReward(members, **wrong)


@pytest.mark.parametrize("accuracy", [0.55, None, 0.6])
def test_a_model_that_knows_held_out_answers_badly_is_an_error(
    accuracy: float | None, tmp_path: Path
) -> None:
    """Below .6, of a checkpoint or a model; 0 takes any."""
    data = pairs_of(episode_log(), batch_size=16, updates_per_step=8)
    model = learner_of(RewardModel, data.spec)
    model.accuracy = accuracy
    fit(model, data, tmp_path, 8).save_checkpoint(tmp_path / "reward.ckpt")
    for source in (model, str(tmp_path / "reward.ckpt")):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            taken = LearnedReward(source, least_accuracy=0.0)
        assert getattr(taken.model, "accuracy", "none") == accuracy
        if accuracy is None:
            with pytest.warns(UserWarning, match="was never validated: nothing says whether"):
                LearnedReward(source)
            continue
        if accuracy == 0.6:
            LearnedReward(source)
            LearnedFeatures([source])
            continue
        for kind, given in ((LearnedReward, source), (LearnedFeatures, [source])):
            with pytest.raises(ValueError, match="in 55% of the answers .* least_accuracy, 0.6"):
                kind(given)
        LearnedFeatures([source], least_accuracy=0.0)
    with pytest.raises(ValueError, match=r"least_accuracy is 2, it must lie in \[0, 1\]"):
        LearnedReward(model, least_accuracy=2)
