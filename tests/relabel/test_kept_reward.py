"""What a discriminator learned in a run, as the reward of another log."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of
from torch import Tensor

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.keys import ACTION, OBSERVATION, REWARD
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.discriminator import Discriminator
from hindsight_rl.relabel.discriminator import DiscriminatorReward
from hindsight_rl.relabel.kept_reward import kept_reward
from hindsight_rl.relabel.learned_reward import LearnedReward

OTHER = {"lengths": (5, 6), "seed": 7}


def run(folder: Path, *, log: dict[str, Any] | None = None, **options: Any) -> tuple[str, Any]:
    """Fit a few updates beside SAC; return the checkpoint and the bound relabeler."""
    both = Log.concatenate([episode_log(seed=s, **log or {}) for s in (0, 1)], [1.0, 1.0])
    part = DiscriminatorReward(Discriminator(hidden=(8,), **options))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # shaped: of ends
        data = OfflineDataModule(both, [part], batch_size=16, updates_per_step=4)
    path = folder / "run.ckpt"
    fit(learner_of(SAC, data.spec), data, folder, 4).save_checkpoint(path)
    return str(path), data.relabel.relabelers[0]


def by_hand(part: Any, log: Log) -> Tensor:
    """Return f without its potential of every row."""
    observation, action = log.column(OBSERVATION), log.column(ACTION)
    if not action.is_floating_point():
        action = torch.nn.functional.one_hot(action, 3).float()
    state = torch.cat([observation, log.column("task")], -1) if part._tasked else observation
    rows = (torch.cat([state, action, state], -1) - part._mean) / part._std
    with torch.no_grad():
        found = part.net.reward(
            torch.cat([rows, torch.zeros(len(log), 1)], -1)[:, part.net.columns]
        )
    return found.squeeze(-1).double()


@pytest.mark.parametrize(
    ("options", "log"),
    [({}, {}), ({"shaped": True, "reads": "state"}, {"discrete": True}), ({}, {"task": True})],
    ids=["gail", "airl, choices", "tasks"],
)
def test_another_log_gets_what_the_discriminator_learned(
    options: dict[str, Any], log: dict[str, Any], tmp_path: Path
) -> None:
    path, part = run(tmp_path, log=log, **options)
    other = episode_log(**OTHER, **log)
    value = by_hand(part, other)
    expected = (value - value.mean()) / value.std(correction=0)
    found = LearnedReward(path).prepare(other).columns[REWARD]
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    write_relabeled(other, [LearnedReward(path)], tmp_path / "new")
    assert torch.equal(Log.load(tmp_path / "new").column(REWARD), found)


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    path, _ = run(tmp_path, reads="next")
    with pytest.raises(ValueError, match="its discriminator reads next states"):
        LearnedReward(path)
    path, part = run(tmp_path)
    with pytest.raises(ValueError, match=r"takes states of 3 and actions of 2 numbers.*3 and 3"):
        LearnedReward(path).prepare(episode_log(**OTHER, discrete=True).with_columns(
            {ACTION: torch.zeros(11, 3)}
        ))  # fmt: skip
    state = part.state_dict()
    assert kept_reward({"Data": {"relabel": {}}}, "a") is None
    with pytest.raises(ValueError, match="a: 2 discriminators learned"):
        kept_reward({"Data": {"relabel": {"0": state, "1": {"0": state}}}}, "a")
    with pytest.raises(ValueError, match="a: its discriminator cannot be made again"):
        kept_reward({"Data": {"relabel": {"0": state | {"made": {}}}}}, "a")
