"""RewardModel: its loss by hand, T41 through the learner, the bootstrap, what it recovers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import equal, fit, learner_of, pairs_of, trainer_in, weights, whole_log
from torch import Tensor, nn

from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.keys import ACTION, COUNTS, FIRST, OBSERVATION, PAIR, PREFERENCE, SECOND
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.network import Network


class First(nn.Module):
    """Stands for a member: ``weight`` times the first number of the standardised observation."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``[..., 1]``."""
        return self.weight * features[..., :1]


def linear(weights: list[float], **arguments: Any) -> tuple[RewardModel, Any]:
    """Return a model whose members are linear, and its data."""
    data = pairs_of(episode_log())
    model = learner_of(
        RewardModel, data.spec, members=len(weights), few=True, bounded=False, **arguments
    )
    model.reward.members = nn.ModuleList(First(weight) for weight in weights)
    return model, data


def test_loss_and_gradient_are_those_of_the_sums() -> None:
    """sum_t w x_t by segment: loss and slope of -y log sigma - (1 - y) log(1 - sigma) by hand."""
    model, data = linear([0.5, -1.0])
    batch = whole_log(model.eval(), data)
    entry = data.spec.observation["observation"]
    mean, std = (torch.tensor(part)[0] for part in (entry.mean, entry.std))
    x = [((batch[part, OBSERVATION][..., 0] - mean) / std).sum(-1) for part in (FIRST, SECOND)]
    label, difference = batch[PREFERENCE], x[1] - x[0]
    found = model.losses(batch)
    found.terms["reward"].backward()
    expected = []
    for number, weight in enumerate((0.5, -1.0)):
        chance = torch.sigmoid(weight * difference)
        expected.append(-(label * chance.log() + (1 - label) * (1 - chance).log()).mean())
        slope = ((chance - label) * difference).mean() / 2
        torch.testing.assert_close(model.reward.members[number].weight.grad, slope)
    torch.testing.assert_close(found.terms["reward"], torch.stack(expected).mean())
    mean_margin = -0.25 * difference
    right = ((mean_margin > 0) == (label > 0.5)).float().mean()
    torch.testing.assert_close(found.metrics["reward/accuracy"], right)


def test_a_constant_reward_knows_nothing() -> None:
    """Margins 0: loss log 2, accuracy one half, no disagreement."""
    model, data = linear([0.0, 0.0, 0.0])
    found = model.eval().losses(whole_log(model, data))
    torch.testing.assert_close(found.terms["reward"], torch.tensor(2.0).log())
    assert found.metrics["reward/accuracy"] == 0.5 == found.metrics["reward/accuracy_min"]
    assert found.metrics["reward/disagreement"] == 0
    share = whole_log(model, data)[PREFERENCE].mean()
    torch.testing.assert_close(found.metrics["reward/calibration_error"], (0.5 - share).abs())


def test_members_count_answers_by_draws_of_their_own() -> None:
    model, data = linear([0.5, -1.0, 2.0])
    batch = whole_log(model, data)
    assert batch[COUNTS].T.equal(episode_weights(batch[PAIR], 3, "pair weights"))
    assert not batch[COUNTS][:, 0].equal(batch[COUNTS][:, 1])
    weighed = model.train().losses(batch).terms["reward"]
    alone = [model.losses(batch[row : row + 1]).terms["reward"] for row in range(len(batch))]
    torch.testing.assert_close(weighed, torch.stack(alone).mean())
    assert weighed != model.eval().losses(batch).terms["reward"]
    model, data = linear([0.5], bootstrap=False)
    assert bool((whole_log(model, data)[COUNTS] == 1).all())


def test_bounded_rewards_lie_between_one_and_minus_one() -> None:
    data = pairs_of(episode_log())
    model = learner_of(RewardModel, data.spec)
    observation, action = (data.log.column(key) for key in (OBSERVATION, ACTION))
    plain = model.reward(observation, action)
    assert model.rewards(observation, action).shape == (3, 47)
    torch.testing.assert_close(model.rewards(observation, action), torch.tanh(plain))
    assert model.rewards(1e3 * observation, action).abs().max() <= 1
    model.bounded = False
    assert model.rewards(observation, action).equal(plain)


def test_fewer_than_three_members_are_refused_unless_asked_for() -> None:
    data = pairs_of(episode_log())
    with pytest.raises(ValueError, match="members is 2: fewer than 3 .* set few to true"):
        RewardModel(data.spec, members=2)
    assert len(RewardModel(data.spec, members=2, few=True).reward.members) == 2
    for wrong in ({"random_answers": 1.0}, {"discount": 1.5}, {"members": 0}):
        with pytest.raises(ValueError, match=rf"{next(iter(wrong))} "):
            RewardModel(data.spec, **wrong)


@pytest.mark.parametrize("discrete", [False, True])
def test_it_recovers_a_reward_from_comparisons(discrete: bool, tmp_path: Path) -> None:
    """The teacher's reward is the first number observed: held-out answers, and rows, are known."""
    log = episode_log((30,) * 12, discrete=discrete)
    reward = log.column(OBSERVATION)[:, 0]
    log = episode_log((30,) * 12, discrete=discrete, reward=reward.tolist())
    data = pairs_of(log, 400, 5, validation=0.2, batch_size=32, updates_per_step=20)
    model = RewardModel(
        data.spec, network=Network(hidden=(32, 32)), learning_rates={"reward": 3e-3}
    )
    trainer = trainer_in(tmp_path, 400, val_check_interval=400)
    trainer.fit(model, data)
    found = trainer.callback_metrics
    assert found["validation/reward/accuracy"] > 0.9
    assert found["validation/reward/calibration_error"] < 0.15
    with torch.no_grad():
        learned = model.rewards(log.column(OBSERVATION), log.column(ACTION)).mean(0)
    assert torch.corrcoef(torch.stack([learned, reward]))[0, 1] > 0.8


def test_several_seeds_are_single_runs(tmp_path: Path) -> None:
    """Two seeds at once give what two runs give, each with its own pairs."""
    runs = []
    for seed in range(2):
        data = pairs_of(episode_log(), seed=seed, batch_size=16, updates_per_step=8)
        both = learner_of(RewardModel, data.spec, seeds=2).fresh(seed)
        alone = RewardModel(data.spec, network=Network(hidden=(8, 8)))
        alone.load_state_dict(both.state_dict())
        fit(alone, data, tmp_path, 8)
        runs.append(weights(alone))
    data = pairs_of(episode_log(), batch_size=16, updates_per_step=8)
    model = learner_of(RewardModel, data.spec, seeds=2)
    fit(model, data, tmp_path, 8)
    for seed in model.each_seed():
        for name, value in runs[seed].items():
            torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert not equal(*runs)


def test_checkpoints_carry_the_accuracy_of_the_last_validation(tmp_path: Path) -> None:
    """Also over a resume; a run without held-out answers has none."""
    data = pairs_of(episode_log(), validation=0.3, batch_size=16, updates_per_step=4)
    model = learner_of(RewardModel, data.spec)
    trainer = trainer_in(tmp_path, 8, val_check_interval=8)
    trainer.fit(model, data)
    assert model.accuracy == float(trainer.callback_metrics["validation/reward/accuracy"])
    trainer.save_checkpoint(tmp_path / "reward.ckpt")
    again = learner_of(RewardModel, data.spec)
    fit(again, data, tmp_path, 12, ckpt_path=tmp_path / "reward.ckpt", val_check_interval=100)
    assert again.accuracy == model.accuracy
    plain = learner_of(RewardModel, data.spec)
    fit(plain, pairs_of(episode_log(), batch_size=16), tmp_path, 4)
    assert plain.accuracy is None
