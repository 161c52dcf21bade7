"""CQL's options: the multiplier that holds the gap at a threshold, and cloning at the start."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, whole_log
from tensordict import TensorDict
from torchrl_oracles import network_gradients

from hindsight_rl.agents.cql import CQL
from hindsight_rl.training.learner import Learner


def case(**arguments: Any) -> tuple[Learner, TensorDict]:
    data = data_for(CQL, episode_log())
    learner = learner_of(CQL, data.spec, **arguments)
    return learner, whole_log(learner, data)


# --- the multiplier -------------------------------------------------------------------------------


def test_multiplier_holds_the_weighted_gap_at_the_threshold() -> None:
    """Its gradient is that of -alpha' sum_k (weight gap_k - threshold) / 2 at log alpha'."""
    learner, batch = case(conservative_weight=2.0, threshold=1.5)
    with torch.no_grad():
        learner.multiplier.log.fill_(math.log(3.0))
    found = learner.losses(batch)
    q = learner.critic(batch["observation"], batch["action"])
    excess = 2.0 * learner.gap(batch, q).mean(-1) - 1.5
    torch.testing.assert_close(found.terms["multiplier"], -1.5 * excess.sum())
    gradients = network_gradients(learner.multiplier, found.terms["multiplier"])
    torch.testing.assert_close(gradients["log"], -1.5 * excess.sum())
    plain, _ = case(conservative_weight=0.0)
    difference = found.terms["critic"] - plain.losses(batch).terms["critic"]
    torch.testing.assert_close(difference, 3.0 * excess.sum(), rtol=1e-5, atol=1e-4)
    assert found.metrics["multiplier/alpha"].item() == pytest.approx(3.0)


def test_multiplier_is_capped() -> None:
    learner, batch = case(threshold=1.0)
    with torch.no_grad():
        learner.multiplier.log.fill_(20.0)
    found = learner.losses(batch)
    assert found.metrics["multiplier/alpha"].item() == 1e6
    assert network_gradients(learner.multiplier, found.terms["multiplier"])["log"] == 0


def test_each_term_moves_its_own_network_with_a_multiplier() -> None:
    learner, batch = case(threshold=1.0)
    terms = learner.losses(batch).terms
    assert set(terms) == set(learner.networks())
    for name, term in terms.items():
        for other, network in learner.networks().items():
            found = torch.autograd.grad(
                term, list(network.parameters()), retain_graph=True, allow_unused=True
            )
            assert any(g is not None and bool((g != 0).any()) for g in found) == (name == other)


# --- cloning at the start -------------------------------------------------------------------------


def test_cloning_replaces_the_value_by_the_likelihood() -> None:
    """Loss alpha log pi(a) - log pi(logged), while cloning; validation does not count."""
    learner, batch = case(cloning_updates=2, initial_temperature=0.3)
    plain, _ = case(initial_temperature=0.3)
    observation = batch["observation"]
    _, log_prob = learner.actor.draw(observation, batch["noise", "now"])
    cloning = (0.3 * log_prob - learner.actor.log_prob(observation, batch["action"])).mean()
    learner.eval()
    terms = [learner.losses(batch).terms["actor"]]
    learner.train()
    terms += [learner.losses(batch).terms["actor"] for _ in range(3)]
    for term in terms[:3]:
        torch.testing.assert_close(term, cloning)
    assert terms[3].equal(plain.losses(batch).terms["actor"])


@pytest.mark.parametrize("seeds", [1, 2])
def test_cloning_ends_after_its_updates_in_a_fit(seeds: int, tmp_path: Path) -> None:
    """Whatever the engine; saved with the checkpoint, so that a resumed run goes on counting."""
    data = data_for(CQL, episode_log())
    learner = learner_of(CQL, data.spec, cloning_updates=10, seeds=seeds)
    trainer = fit(learner, data, tmp_path, 8)
    assert learner.cloned == 8
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    again = learner_of(CQL, data.spec, cloning_updates=10, seeds=seeds)
    fit(again, data, tmp_path, 16, ckpt_path=tmp_path / "some.ckpt")
    assert again.cloned == 16
