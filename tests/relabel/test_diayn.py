"""Skills told apart by where they lead: the reward, what learns, and what a run of it needs."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log
from small_fits import differences, equal, fit, learner_of, weights
from small_logs import same
from torch.testing import assert_close

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.diayn import DIAYN
from hindsight_rl.relabel.learned_posterior import LearnedPosterior
from hindsight_rl.relabel.learned_task import LearnedTask
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.tasks.commands import OneOf

REWARD = ("next", "reward")
NEXT = ("next", "observation")


def skilled_log(apart: float = 6.0) -> Log:
    """Return episodes of three skills, the first of which leads up; the last followed none."""
    log = episode_log(goals=True)
    episode = log.column("episode")
    task = torch.nn.functional.one_hot(episode % 3, 3).float()
    task[episode == 5] = 0.0
    following = log.column(NEXT).clone()
    following[:, 1] += apart * task[:, 0]
    return log.with_columns({"task": task, NEXT: following})


def diayn(**options: Any) -> DIAYN:
    return DIAYN(**{"hidden": (16,), "learning_rate": 1e-2} | options)


def test_reward_is_the_posterior_by_the_prior() -> None:
    log = skilled_log()
    chunk, bound = drawn(log, diayn())
    with torch.no_grad():
        found = bound(chunk)[REWARD]
    log_q = bound.relabelers[0]._log_q(chunk[NEXT].flatten(0, 1)).unflatten(0, chunk.shape)
    own = (log_q * chunk["task"]).sum(-1) + math.log(3)
    assert_close(found, torch.where(chunk["task"].any(-1), own, 0.0))


def test_a_skill_that_leads_elsewhere_is_told_apart() -> None:
    """Nothing at first; then the first skill earns nearly log 3, the two others are guessed."""
    chunk, bound = drawn(skilled_log(), diayn(columns=[1]), updates=300)
    first = bound(chunk[:1])
    assert abs(float(first[REWARD].mean())) < 0.3
    last = bound(chunk[1:])[-20:]
    of_first = last[REWARD][last["task"][..., 0] == 1]
    assert of_first.mean().item() == pytest.approx(math.log(3), abs=0.15)
    assert 0.3 < float(bound.metrics["skill_bound"]) <= 1.0


def test_columns_that_do_not_matter_are_not_looked_at() -> None:
    chunk, bound = drawn(skilled_log(), diayn(columns=[0, 2]), updates=1)
    moved = chunk.clone()
    moved[NEXT][..., 1] += 5.0
    with torch.no_grad():
        assert bound(moved)[REWARD].equal(bound(chunk)[REWARD])


def test_rows_without_a_skill_teach_and_earn_nothing() -> None:
    log = skilled_log()
    log = log.with_columns({"task": torch.zeros_like(log.column("task"))})
    chunk, bound = drawn(log, diayn())
    before = [weight.clone() for weight in bound.relabelers[0].weights]
    assert not bound(chunk)[REWARD].any()
    after = bound.relabelers[0].weights
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_reward_of_the_log_may_be_kept() -> None:
    chunk, bound = drawn(skilled_log(), diayn(keep=1.0, coefficient=0.0))
    assert same(bound(chunk), chunk)
    (chunk, both), (_, alone) = (drawn(skilled_log(), diayn(keep=keep)) for keep in (2.0, 0.0))
    with torch.no_grad():
        assert_close(both(chunk)[REWARD], 2 * chunk[REWARD] + alone(chunk)[REWARD])


def test_no_gradient_enters_and_the_input_stays() -> None:
    chunk, bound = drawn(skilled_log(), diayn())
    before, found = chunk.clone(), bound(chunk)
    assert same(chunk, before)
    assert not found[REWARD].requires_grad
    assert same(found.exclude(REWARD), chunk.exclude(REWARD))


def test_it_shares_the_posterior_of_tasks() -> None:
    assert issubclass(DIAYN, LearnedPosterior) and issubclass(LearnedTask, LearnedPosterior)


def test_other_tasks_are_refused() -> None:
    with pytest.raises(ValueError, match="one of K by a one-hot task.*command to OneOf"):
        diayn().prepare(episode_log(task=True))
    with pytest.raises(ValueError, match="belongs to the row's own task"):
        drawn(skilled_log(), RandomTask(), diayn())
    with pytest.raises(ValueError, match="hidden"):
        DIAYN(hidden=())


def test_goes_on_from_its_state_bit_by_bit() -> None:
    chunk, straight = drawn(skilled_log(), diayn(), updates=6)
    whole = straight(chunk)
    _, first = drawn(skilled_log(), diayn())
    first(chunk[:2])
    _, second = drawn(skilled_log(), diayn(seed=5))
    second.load_state_dict(first.state_dict())
    assert same(second(chunk[2:4]), whole[2:4]) and same(second(chunk[4:]), whole[4:])
    assert differences(straight.state_dict(), second.state_dict()) == []


def test_skills_are_collected_and_a_resume_is_exact(tmp_path: Path) -> None:
    def begun() -> tuple[IteratedDataModule, SAC]:
        data = IteratedDataModule(
            "Pendulum-v1",
            [diayn(columns=[0, 1])],
            collection=Collection(
                1, 2, max_episode_steps=8, num_envs=1, command=OneOf(4), explore=0.1
            ),
            batch_size=16,
            updates_per_step=4,
            seed=3,
        )
        return data, learner_of(SAC, data.spec)

    (data, learner), (other, again) = begun(), begun()
    assert not data.log.column("task").any()  # of none, as it was played at random
    fit(learner, data, tmp_path, 20).save_checkpoint(tmp_path / "twenty.ckpt")
    straight, last = begun()
    fit(last, straight, tmp_path, 40)
    fit(again, other, tmp_path, 40, ckpt_path=tmp_path / "twenty.ckpt")
    assert equal(weights(last), weights(again))
    assert differences(straight.relabel.state_dict(), other.relabel.state_dict()) == []
    task, episode = straight.log.column("task"), straight.log.column("episode")
    assert (task[episode > 0].sum(-1) == 1).all()
    starts = task[straight.log.column("step") == 0]
    assert len(starts.unique(dim=0)) >= 3
    assert torch.equal(task, starts[episode])  # held
