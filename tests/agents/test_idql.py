"""IDQL: IQL's values, a model that never sees them, and the choice among its proposals."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from two_answers import answers, fitted

from hindsight_rl.agents.idql import IDQL
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.flow import flow_error, interpolate
from hindsight_rl.nets.network import Network, NoiseNetwork


def made(task: bool = False, **arguments: Any) -> tuple[IDQL, Any]:
    data = data_for(IDQL, episode_log(task=task))
    learner = learner_of(IDQL, data.spec, **arguments)
    assert isinstance(learner, IDQL)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("task", [False, True])
def test_values_are_those_of_iql(task: bool) -> None:
    learner, batch = made(task)
    twin = learner_of(IQL, learner.spec)
    assert isinstance(twin, IQL)
    for name in ("value", "critic", "target_critic"):
        getattr(twin, name).load_state_dict(getattr(learner, name).state_dict())
    found, expected = learner.losses(batch).terms, twin.losses(batch).terms
    for name in ("value", "critic"):
        torch.testing.assert_close(found[name], expected[name])


def test_the_model_is_fitted_with_weight_one() -> None:
    """The plain flow matching error, whatever the critics say."""
    learner, batch = made()
    action = learner.actor.scale.to_policy(batch["action"])
    noise = batch["noise", "flow"]
    time = torch.special.ndtr(batch["noise", "time"].squeeze(-1))
    velocity = learner.actor(interpolate(action, noise, time), time, batch["observation"])
    expected = flow_error(velocity, action, noise).mean()
    for parameter in learner.critic.parameters():
        parameter.data.mul_(100)
    torch.testing.assert_close(learner.losses(batch).terms["actor"], expected)


def test_the_best_by_the_least_target_critic_is_taken() -> None:
    """Each proposal is what its own noise makes, and the online critics have no say."""
    learner, batch = made(samples=5)
    seen = batch["observation"]
    noise = torch.randn(len(batch), learner.acting_noise, generator=torch.manual_seed(1))
    assert learner.acting_noise == 5 * 2
    with torch.no_grad():
        made_of = noise.unflatten(-1, (5, 2)).movedim(1, 0)
        action = learner.propose(seen, None, made_of)
        value = learner.target_critic(seen, action).amin(0)
        for parameter in learner.critic.parameters():
            parameter.mul_(-1)
        found = learner.decide(seen, None, {}, noise)
    expected = action[value.argmax(0), torch.arange(len(batch))]
    torch.testing.assert_close(found.action, expected, rtol=1e-5, atol=1e-5)
    assert found.scores is not None
    torch.testing.assert_close(found.scores, value.T, rtol=1e-5, atol=1e-5)


def test_scores_of_the_implicit_policy_know_who_beats_the_value() -> None:
    """With equal clocks, the weights decide: .9 against .1."""
    learner, batch = made(samples=4, extraction="implicit", expectile=0.9)
    assert learner.acting_noise == 4 * 2 + 2 * 4
    seen = batch["observation"]
    noise = torch.ones(len(batch), learner.acting_noise)
    noise[:, :8] = torch.randn(len(batch), 8, generator=torch.manual_seed(1))
    with torch.no_grad():
        action = learner.propose(seen, None, noise[:, :8].unflatten(-1, (4, 2)).movedim(1, 0))
        lead = learner.target_critic(seen, action).amin(0) - learner.value(seen)
        learner.value.net[-1].bias.add_(lead.median())
        better = lead > lead.median() + 1e-6
        scores = learner.decide(seen, None, {}, noise).scores
    assert scores is not None and 0.4 < better.float().mean() < 0.6
    expected = torch.where(better.T, torch.tensor(0.9).log(), torch.tensor(0.1).log())
    clear = (lead.T - lead.median()).abs() > 1e-5
    torch.testing.assert_close(scores[clear], expected[clear])


@pytest.mark.parametrize("generator", ["flow", "diffusion"])
def test_more_proposals_find_the_rewarded_answer(generator: Any, tmp_path: Path) -> None:
    """Half the log is rewarded: one proposal is a coin, the best of 16 is right.

    V is the .9-expectile of 0 and 1, .9: the implicit policy takes the rewarded one with .9.
    """
    learner = fitted(
        IDQL,
        tmp_path,
        300,
        network=NoiseNetwork(hidden=(64, 64)),
        critic_network=Network(hidden=(64, 64)),
        generator=generator,
        expectile=0.9,
        tau=0.05,
    )
    learner.samples = 1
    assert 0.3 < answers(learner).positive < 0.7
    learner.samples = 16
    assert answers(learner).positive > 0.97
    learner.extraction = "implicit"
    assert 0.75 < answers(learner).positive < 0.98


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples 0 at least 1"),
        ({"expectile": 1.0}, r"expectile 1.0 must lie in \(0, 1\)"),
        ({"extraction": "worst"}, "extraction is 'worst', it must be 'best' or 'implicit'"),
        ({"generator": "cvae"}, "generator is 'cvae', it must be 'flow' or 'diffusion'"),
        ({"generator": "diffusion", "steps": 6}, "6 steps of a diffusion of 5"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IDQL(OfflineDataModule(episode_log()).spec, **arguments)
