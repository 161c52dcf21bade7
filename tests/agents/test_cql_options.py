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
from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.keys import IMAGINED, ORIGIN
from hindsight_rl.logs.errors import LogError
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


# --- by origin: COMBO -----------------------------------------------------------------------------


def mixed(kind: type[Learner], **arguments: Any) -> tuple[tuple[Learner, Learner], TensorDict]:
    """Return a learner by origin and a plain one of equal weights, and rows of which some are not.

    Every third row is imagined, and one is collected.
    """
    data = data_for(kind)
    learner, plain = (learner_of(kind, data.spec, **more) for more in ({**arguments}, {}))
    batch = whole_log(plain, data).copy()
    origin = torch.zeros(len(batch), dtype=torch.int64)
    origin[::3], origin[1] = IMAGINED, 1
    return (learner, plain), batch.set(ORIGIN, origin)


@pytest.mark.parametrize("kind", [CQL, DiscreteCQL])
def test_imagined_rows_are_pushed_down_and_others_held_up(kind: type[Learner]) -> None:
    """The loss changes by the weighted difference of two means, over imagined rows and others."""
    (learner, plain), batch = mixed(kind, push_down="origin", conservative_weight=2.0)
    zero = learner_of(kind, learner.spec, push_down="origin", conservative_weight=0.0)
    found, none = (one.critic_loss(batch)[0] for one in (learner, zero))
    _, q, gap = plain.critic_loss(batch)
    imagined = batch[ORIGIN] == IMAGINED
    total = gap + q
    expected = 2.0 * (total[:, imagined].mean(-1) - q[:, ~imagined].mean(-1)).sum()
    torch.testing.assert_close(found - none, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", [CQL, DiscreteCQL])
def test_its_share_is_that_of_all_ranks(
    kind: type[Learner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another share of imagined rows elsewhere: both sides are weighed by it."""
    (learner, plain), batch = mixed(kind, push_down="origin")
    _, q, gap = plain.critic_loss(batch)
    monkeypatch.setattr(learner, "batch_mean", lambda value: torch.tensor(0.5))
    imagined = batch[ORIGIN] == IMAGINED
    expected = torch.where(imagined, 2 * (gap + q), -2 * q)
    torch.testing.assert_close(learner.critic_loss(batch)[2], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [CQL, DiscreteCQL])
def test_data_of_one_origin_are_refused(kind: type[Learner], tmp_path: Path) -> None:
    data = data_for(kind)
    learner = learner_of(kind, data.spec, push_down="origin")
    with pytest.raises(LogError, match=r"the learner needs 'origin'.*Set data.mix"):
        fit(learner, data, tmp_path, 1)
