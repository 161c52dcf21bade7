"""Rewards from telling an expert's transitions from those that the policy collects."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fits import differences, equal, fit, learner_of, weights

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.discriminator import Discriminator
from hindsight_rl.relabel.discriminator import DiscriminatorReward

SMALL = Discriminator(hidden=(8,), learning_rate=3e-2, penalty=0.0)


def expert_of(env: str) -> Log:
    """Return what random actions do in an environment: an expert in name."""
    data = IteratedDataModule(env, collection=Collection(initial_episodes=1), seed=9)
    log = data.log
    return Log.from_columns({key: log.column(key) for key in log.keys()}, log.info)


def online(settings: Discriminator = SMALL, **options: Any) -> IteratedDataModule:
    plain = Collection(initial_episodes=1, episodes_per_round=1, max_episode_steps=12, num_envs=1)
    return IteratedDataModule(
        "Pendulum-v1",
        [DiscriminatorReward(settings, newest=30)],
        source=expert_of("Pendulum-v1"),
        collection=plain,
        batch_size=16,
        updates_per_step=4,
        seed=3,
        **options,
    )


MIX = {"log": 0.25, "collected": 0.75}


@pytest.mark.parametrize("shaped", [False, True], ids=["gail", "airl"])
def test_online_the_others_are_the_newest_rows_and_a_resume_is_exact(
    shaped: bool, tmp_path: Path
) -> None:
    def begun() -> tuple[IteratedDataModule, SAC]:
        data = online(replace(SMALL, shaped=shaped, penalty=1.0), mix=MIX)
        return data, learner_of(SAC, data.spec)

    (data, learner), (other, again) = begun(), begun()
    fit(learner, data, tmp_path, 20).save_checkpoint(tmp_path / "twenty.ckpt")
    straight, last = begun()
    fit(last, straight, tmp_path, 40)
    fit(again, other, tmp_path, 40, ckpt_path=tmp_path / "twenty.ckpt")
    assert equal(weights(last), weights(again))
    assert differences(straight.relabel.state_dict(), other.relabel.state_dict()) == []
    part, log = straight.relabel.relabelers[0], straight.log
    assert len(straight.history) >= 3
    assert part._sides["other"].tolist() == list(range(len(log) - 30, len(log)))
    assert part._sides["expert"].tolist() == list(range(log.sources[0].stop))


def test_a_policy_may_collect_from_the_first_round_on(tmp_path: Path) -> None:
    """Without a first round there is nobody else yet, and nothing is learned from that."""
    data = IteratedDataModule(
        "Pendulum-v1",
        [DiscriminatorReward(SMALL, train_on_expert=False)],
        source=expert_of("Pendulum-v1"),
        collection=Collection(0, 1, max_episode_steps=12, num_envs=1),
        mix=MIX,
        batch_size=16,
        updates_per_step=4,
        seed=3,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the relabelers leave none")
        fit(learner_of(SAC, data.spec), data, tmp_path, 8)
    assert data.relabel.state_dict()["0"]["updates"] == 8
    assert data.log.drawable().tolist() == list(range(data.log.sources[0].stop, len(data.log)))


def test_one_replay_for_all_has_no_second_side() -> None:
    with pytest.raises(ValueError, match="is the only one.*with data.mix"):
        online()
