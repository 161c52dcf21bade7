"""IPL: the loss by hand, its unit, what the cut of values does, routing, a policy, errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of, pairs_of, whole_log
from tensordict import TensorDict
from torch import Tensor
from torch.nn.functional import softplus

from hindsight_rl.agents.ipl import IPL
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND, TERMINATED
from hindsight_rl.maths.preferences import implied_reward, preference_loss
from hindsight_rl.nets.network import Network


def made(**arguments: Any) -> tuple[IPL, TensorDict]:
    data = pairs_of(episode_log(discrete=True))
    model = learner_of(IPL, data.spec, **arguments)
    data.serve(model)
    return model, whole_log(model, data)


def implied(model: IPL, batch: TensorDict, part: str, step: int) -> Tensor:
    """Return Q - gamma (1 - d) V of one step of a segment, ``[E, B]``."""
    seen = batch[part, "observation"][:, step]
    q = model.critic(seen, batch[part, "action"][:, step], None)
    ahead = model.value(batch[part, "next", "observation"][:, step], None).detach()
    ahead = torch.where(batch[part, "next", "terminated"][:, step], 0.0, ahead)
    return q - model.discount * ahead


def test_loss_of_critics_is_that_of_the_rewards_they_imply() -> None:
    """Bradley-Terry of sums over four steps, and the mean square of all steps; ends count."""
    model, batch = made(discount=0.9, regularisation=0.3)
    assert any(bool(batch[part, "next", "terminated"].any()) for part in (FIRST, SECOND))
    steps = {part: [implied(model, batch, part, t) for t in range(4)] for part in (FIRST, SECOND)}
    margin = sum(steps[SECOND]) - sum(steps[FIRST])
    label = batch[PREFERENCE]
    answers = label * softplus(-margin) + (1 - label) * softplus(margin)
    size = torch.stack([*steps[FIRST], *steps[SECOND]]).square().mean((0, 2))
    expected = (answers.mean(-1) + 0.3 * size).sum()
    found = model.losses(batch)
    torch.testing.assert_close(found.terms["critic"], expected)
    better = torch.where(label > 0.5, margin.mean(0) > 0, margin.mean(0) < 0).float().mean()
    torch.testing.assert_close(found.metrics["critic/accuracy"], better)
    torch.testing.assert_close(found.metrics["critic/reward_size"], size.mean().sqrt())


def test_value_and_policy_are_those_of_implicit_q_learning() -> None:
    """Expectile of the least target critic; -log pi weighted by exp(beta u), at most 2."""
    model, batch = made(expectile=0.8, inverse_temperature=2.0, max_weight=2.0)
    both = torch.cat([batch[FIRST], batch[SECOND]])
    seen, action = both["observation"], both["action"]
    u = model.target_critic(seen, action, None).amin(0) - model.value(seen, None)
    weight = (2.0 * u.detach()).exp().clamp(max=2.0)
    log_prob = torch.log_softmax(model.actor(seen, None).logits, -1)
    cost = -log_prob.gather(-1, action[..., None]).squeeze(-1)
    found = model.losses(batch).terms
    expected = (torch.where(u < 0, 0.2, 0.8) * u.square()).mean()
    torch.testing.assert_close(found["value"], expected)
    torch.testing.assert_close(found["actor"], (weight * cost).mean())


def test_the_regularisation_gives_rewards_their_unit() -> None:
    """One answer about single steps, no discount: rewards -q and q with lambda q = sigma(-2 q).

    log(1 + exp(-2 q)) + lambda q^2 has the slope -2 sigma(-2 q) + 2 lambda q; for lambda = .5 it
    is 0 at q = .521298, and without regularisation nowhere.
    """
    q = torch.tensor([-0.521298, 0.521298], dtype=torch.float64, requires_grad=True)
    over = torch.zeros(2, dtype=torch.bool)
    reward = implied_reward(q, torch.zeros_like(q), over, 0.0)
    answers = preference_loss(reward[:1], reward[1:], torch.ones(1, dtype=torch.float64))
    loss = answers.sum() + 0.5 * reward.square().mean()
    slope = torch.autograd.grad(loss, q)[0]
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=2e-6)


def test_values_of_next_states_are_cut_where_no_implied_reward_can_lead() -> None:
    """Regularisation 2, discount .5: V counts as at most 1 / (2 * .5) = 1."""
    model, batch = made(regularisation=2.0, discount=0.5)
    with torch.no_grad():
        model.value.net[-1].weight.zero_()
        model.value.net[-1].bias.fill_(7.0)
    steps = batch[FIRST]
    q = model.critic(steps["observation"], steps["action"], None)
    expected = q - 0.5 * torch.where(steps[TERMINATED], 0.0, 1.0)
    torch.testing.assert_close(model.implied(steps), expected)


def test_each_term_moves_its_own_network() -> None:
    for name in ("value", "critic", "actor"):
        model, batch = made()
        model.losses(batch).terms[name].backward()
        moved = {k.split(".")[0] for k, p in model.named_parameters() if p.grad is not None}
        assert moved == {name}


def test_the_policy_comes_to_prefer_what_is_preferred(tmp_path: Path) -> None:
    """The teacher likes action 0: the policy chooses it more often than the log does."""
    log = episode_log((30,) * 12, discrete=True, one_hot=True)
    reward = (log.column("action") == 0).float()
    log = episode_log((30,) * 12, discrete=True, one_hot=True, reward=reward.tolist())
    data = pairs_of(log, 300, 4, batch_size=32, updates_per_step=20)
    rates = {"actor": 1e-2, "critic": 1e-2, "value": 1e-2}
    network = Network(hidden=(16,))
    model = IPL(data.spec, network=network, learning_rates=rates, inverse_temperature=10.0)
    fit(model, data, tmp_path, 300)
    chosen = torch.softmax(model.scores(log.column("observation"), None), -1)[:, 0].mean()
    assert chosen > reward.mean() + 0.2
    with torch.no_grad():
        seen = log.column("observation")[:, None].expand(-1, 3, -1)
        every = torch.arange(3).expand(len(log), 3)
        value = model.critic(seen, every, None).mean((0, 1))
    assert value.argmax() == 0


def test_wrong_arguments() -> None:
    data = pairs_of(episode_log())
    wrong: dict[str, float]
    for wrong in (
        {"regularisation": 0.0},
        {"discount": 1.0},
        {"expectile": 1.0},
        {"inverse_temperature": -1.0},
        {"max_weight": 0.0},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            IPL(data.spec, **wrong)
