"""Networks and targets with a interval of their own: one by one, as one function, over a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, equal, fit, learner_of, weights

from hindsight_rl.agents.iql import IQL
from hindsight_rl.training.learner import Learner

EVERY = {"actor": 3, "target_critic": 4}


def rhythmic(**arguments: Any) -> Learner:
    learner = learner_of(IQL, data_for(IQL).spec, **{"compile": "off"} | arguments)
    learner.every, learner.tau = EVERY, 0.5
    return learner


def ended(folder: Path, updates: int, size: int = 8, **arguments: Any) -> Learner:
    learner = rhythmic(**arguments)
    fit(learner, data_for(IQL, updates_per_step=size), folder, updates)
    return learner


def moved(one: Learner, two: Learner) -> set[str]:
    """Return the networks whose parameters differ."""
    names = [*one.networks(), *one.targets]
    pairs = [(name, getattr(one, name), getattr(two, name)) for name in names]
    return {name for name, a, b in pairs if not equal(a.state_dict(), b.state_dict())}


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        (1, {"value", "critic"}),
        (2, {"value", "critic"}),
        (3, {"value", "critic", "actor"}),
        (4, {"value", "critic", "target_critic"}),
        (12, {"value", "critic", "actor", "target_critic"}),
    ],
)
def test_what_is_due_moves_and_nothing_else(
    updates: int, expected: set[str], tmp_path: Path
) -> None:
    """Update number n, counted from 1, moves the actor if 3 divides n, the target if 4 does."""
    before = ended(tmp_path, updates - 1) if updates > 1 else rhythmic()
    assert moved(before, ended(tmp_path, updates)) == expected


def test_target_that_is_due_goes_its_share_of_the_way(tmp_path: Path) -> None:
    before, after = rhythmic(), ended(tmp_path, 4)
    name = "members.0.0.weight"
    start, end = (x.target_critic.state_dict()[name] for x in (before, after))
    torch.testing.assert_close(end, 0.5 * (start + after.critic.state_dict()[name]))


def test_optimiser_counts_only_steps_that_are_made(tmp_path: Path) -> None:
    """Adam's bias correction of a delayed network is that of its own steps."""
    learner = rhythmic()
    fit(learner, data_for(IQL), tmp_path, 10)
    steps = {
        name: {int(learner.runner.optimizer.state[p]["step"]) for p in network.parameters()}
        for name, network in learner.networks().items()
    }
    assert steps == {"actor": {3}, "value": {10}, "critic": {10}}


@pytest.mark.parametrize("size", [1, 5, 8])
def test_updates_as_one_function_keep_the_rhythm(size: int, tmp_path: Path) -> None:
    """Whatever the size of the chunks, the first of two copies ends as one alone."""
    alone = ended(tmp_path, 30)
    together = ended(tmp_path, 30, size, seeds=2)
    together.seed_states.select(0)
    for name, value in weights(alone).items():
        torch.testing.assert_close(together.state_dict()[name], value, rtol=0, atol=1e-6)
    counted = {int(entry["step"]) for entry in together.runner.optimizer.state.values()}
    assert counted == {10, 30}


def test_resume_keeps_the_rhythm(tmp_path: Path) -> None:
    straight = ended(tmp_path, 20)
    half = rhythmic()
    fit(half, data_for(IQL), tmp_path, 7).save_checkpoint(tmp_path / "half.ckpt")
    resumed = rhythmic()
    fit(resumed, data_for(IQL), tmp_path, 20, ckpt_path=tmp_path / "half.ckpt")
    assert equal(weights(resumed), weights(straight))


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("until", [0, 5])
def test_target_that_has_ended_stays(until: int, seeds: int, tmp_path: Path) -> None:
    """It moves by 1/2 at the first five updates of nine, or at none, in every kind of update."""

    def targets(updates: int, **ends: int) -> dict[str, torch.Tensor]:
        learner = learner_of(IQL, data_for(IQL).spec, seeds=seeds)
        learner.tau, learner.until = 0.5, ends
        if updates:
            fit(learner, data_for(IQL, updates_per_step=4), tmp_path, updates)
        if seeds > 1 and updates:
            learner.seed_states.select(0)
        return weights(learner.target_critic)

    stayed, expected = targets(9, target_critic=until), targets(until)
    for name, value in expected.items():
        torch.testing.assert_close(stayed[name], value, rtol=0, atol=1e-6)
    assert not equal(stayed, targets(9))
