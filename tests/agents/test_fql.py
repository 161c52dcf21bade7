"""FQL: each loss by hand, and where the policy goes between critics and log."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from two_answers import answers, fitted

from hindsight_rl.agents.fql import FQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network, NoiseNetwork


def made(**arguments: Any) -> tuple[FQL, Any]:
    data = data_for(FQL, episode_log())
    learner = learner_of(FQL, data.spec, **arguments)
    assert isinstance(learner, FQL)
    return learner, whole_log(learner, data)


def test_policy_loss_by_hand() -> None:
    """-Q / mean |Q| + alpha |mu - F|^2, F two Euler steps, within the bounds."""
    learner, batch = made(flow_steps=2, alpha=3.0)
    noise, seen, scale = batch["noise", "actor"], batch["observation"], learner.actor.scale
    point = noise
    for time in (0.0, 0.5):
        point = point + learner.flow(point, torch.full((len(batch),), time), seen) / 2
    assert (point.abs() > 1).any()
    answer = learner.actor(noise, torch.zeros(len(batch)), seen)
    q = learner.critic(seen, scale.to_environment(answer)).mean(0)
    distance = (answer - point.clamp(-1, 1)).square().mean(-1)
    expected = (3 * distance - q / q.abs().mean()).mean()
    torch.testing.assert_close(learner.losses(batch).terms["actor"], expected)


def test_a_unit_of_reward_does_not_matter() -> None:
    """Unless it is asked not to be divided out."""
    found = {}
    for normalize in (True, False):
        for factor in (1, 100):
            learner, batch = made(normalize=normalize)
            for member in learner.critic.members:
                member[-1].weight.data.mul_(factor)
                member[-1].bias.data.mul_(factor)
            found[normalize, factor] = learner.losses(batch).terms["actor"].item()
    assert found[True, 100] == pytest.approx(found[True, 1], rel=1e-4)
    assert found[False, 100] != pytest.approx(found[False, 1], rel=1e-2)


def test_critics_regress_on_the_mean_of_the_targets_at_the_policys_action() -> None:
    learner, batch = made(discount=0.9, critics=3)
    following, scale = batch["next", "observation"], learner.actor.scale
    with torch.no_grad():
        answer = learner.actor(batch["noise", "next"], torch.zeros(len(batch)), following)
        value = learner.target_critic(following, scale.to_environment(answer)).mean(0)
        alive = (~batch["next", "terminated"]).float()
        target = batch["next", "reward"] + 0.9 * alive * value
        q = learner.critic(batch["observation"], batch["action"])
    expected = (target - q).square().mean(-1).sum()
    torch.testing.assert_close(learner.losses(batch).terms["critic"], expected)


@pytest.mark.parametrize(("alpha", "least", "most"), [(0.3, 0.97, 1.0), (1000.0, 0.3, 0.7)])
def test_alpha_is_between_the_critics_and_the_log(
    alpha: float, least: float, most: float, tmp_path: Path
) -> None:
    """Half the log is rewarded: critics lead all to it, nearness to the flow keeps both."""
    learner = fitted(
        FQL,
        tmp_path,
        400,
        network=NoiseNetwork(hidden=(32, 32)),
        critic_network=Network(hidden=(32, 32)),
        alpha=alpha,
        flow_steps=4,
        tau=0.05,
    )
    assert least <= answers(learner).positive <= most


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": -1.0}, "alpha -1.0 must be at least 0"),
        ({"flow_steps": 0}, "flow_steps 0 at least 1"),
        ({"critics": 0}, "critics is 0, it must be at least 1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FQL(OfflineDataModule(episode_log()).spec, **arguments)
