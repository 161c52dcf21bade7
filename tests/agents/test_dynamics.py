"""Dynamics: its loss by hand, the bootstrap, units, elites, and what it learns."""

import math
from pathlib import Path

import pytest
import torch
from entry_logs import entry_log
from episode_logs import HIGH, LOW, episode_log
from small_dynamics import MEANS, SPREADS, Says, draws_of, model_of
from small_fits import data_for, equal, fit, learner_of, trainer_in, weights, whole_log

from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import (
    ACTION,
    COUNTS,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.returns import NStep, ScaleReward
from hindsight_rl.training.checkpoints.load import load_learner

# --- loss -----------------------------------------------------------------------------------------


def test_loss_and_gradient_by_hand() -> None:
    """sum_e E w_e mean_d((mu - y)^2 / e^lv + lv) + .01 x 3 + .5; slopes 2 w (mu - y) / e^lv / 4."""
    model, data = model_of(members=2, elites=1)
    model.ensemble = Says(MEANS, SPREADS)
    batch = whole_log(model, data)
    log = data.log
    step = torch.cat(
        [log.column(NEXT_OBSERVATION) - log.column(OBSERVATION), log.column(REWARD)[:, None]], -1
    )
    y = (step - step.mean(0)) / step.std(0, correction=0)
    mean, lv = torch.tensor(MEANS)[:, None], torch.tensor(SPREADS)[:, None]
    by_hand = ((mean - y).square() / lv.exp() + lv).mean(-1)
    found = model.train().losses(batch)
    expected = (batch[COUNTS].T * by_hand).mean(-1).sum() + 0.03 + 0.5
    torch.testing.assert_close(found.terms["ensemble"], expected)
    slope = torch.autograd.grad(found.terms["ensemble"], model.ensemble.mean)[0]
    by_row = batch[COUNTS].T[..., None] * 2 * (mean - y) / lv.exp() / 4
    torch.testing.assert_close(slope, by_row.mean(1))
    # Held-out rows count once.
    held_out = model.eval().losses(batch)
    torch.testing.assert_close(held_out.terms["ensemble"], by_hand.mean(-1).sum() + 0.53)
    nll = 0.5 * (by_hand.mean() + math.log(2 * math.pi))
    torch.testing.assert_close(held_out.metrics["ensemble/nll"], nll)
    of_mean = (mean.mean(0) - y).square().mean()
    torch.testing.assert_close(held_out.metrics["ensemble/mse"], of_mean)


def test_gradient_of_a_member_comes_from_its_own_rows_only() -> None:
    """TB37: rows that a member does not count do not move it, whatever they hold."""
    model, data = model_of(members=3, elites=3, weight_decay=(0.0,))
    batch = whole_log(model.train(), data)
    left_out = batch[COUNTS] == 0
    assert bool(left_out.any(0).all()) and not bool(left_out.all(0).any())
    for member in range(3):
        changed = batch.clone()
        changed[NEXT_OBSERVATION][left_out[:, member]] += 5.0
        parameters = list(model.ensemble.members[member].parameters())
        one, other = (
            torch.autograd.grad(model.losses(b).terms["ensemble"], parameters)
            for b in (batch, changed)
        )
        assert all(a.equal(b) for a, b in zip(one, other, strict=True))
        others = list(model.ensemble.members[(member + 1) % 3].parameters())
        one, other = (
            torch.autograd.grad(model.losses(b).terms["ensemble"], others) for b in (batch, changed)
        )
        assert not all(a.equal(b) for a, b in zip(one, other, strict=True))


def test_members_draw_rows_episodes_or_nothing() -> None:
    model, data = model_of(members=4, elites=2)
    batch = whole_log(model, data)
    assert batch[COUNTS].T.equal(episode_weights(batch["index"], 4, "rows of a model"))
    model, data = model_of(members=4, elites=2, bootstrap="episodes")
    counts, episode = (whole_log(model, data)[key] for key in (COUNTS, EPISODE))
    assert counts.T.equal(episode_weights(episode, 4, "episodes of a model"))
    assert counts[episode == 1].unique(dim=0).shape[0] == 1
    model, data = model_of(members=4, elites=2, bootstrap="none")
    assert bool((whole_log(model, data)[COUNTS] == 1).all())


# --- units ----------------------------------------------------------------------------------------


def test_units_are_those_of_the_rows_that_may_be_drawn() -> None:
    """Held-out episodes do not shape them; the range is that of s and s'."""
    log = episode_log()
    data = OfflineDataModule(log, validation=0.4)
    model = learner_of(Dynamics, data.spec)
    whole_log(model, data)
    rows = data.log.drawable()
    assert 0 < len(rows) < len(log)
    here, after, reward = (
        data.log.take(key, rows) for key in (OBSERVATION, NEXT_OBSERVATION, REWARD)
    )
    step = torch.cat([after - here, reward[:, None]], -1)
    torch.testing.assert_close(model.outcomes.mean, step.mean(0))
    torch.testing.assert_close(model.outcomes.std, step.std(0, correction=0))
    seen = torch.cat([here, after])
    assert model.outcomes.low.equal(torch.cat([seen.amin(0), reward.amin()[None]]))
    assert model.outcomes.high.equal(torch.cat([seen.amax(0), reward.amax()[None]]))
    ended = data.log.take(TERMINATED, rows)
    torch.testing.assert_close(model.ending.weight, len(rows) / ended.sum())


def test_rewards_are_those_that_relabelers_leave() -> None:
    plain, _ = model_of()
    data = OfflineDataModule(episode_log(), relabel=[ScaleReward(3.0)])
    scaled = learner_of(Dynamics, data.spec)
    whole_log(scaled, data)
    torch.testing.assert_close(scaled.outcomes.std[-1], 3 * plain.outcomes.std[-1])
    assert scaled.outcomes.std[:-1].equal(plain.outcomes.std[:-1])
    several = OfflineDataModule(episode_log(), relabel=[NStep(3, 0.9)])
    with pytest.raises(ValueError, match="predicts single steps, .* leave the relabeler NStep out"):
        whole_log(learner_of(Dynamics, several.spec), several)


def test_what_does_not_change_has_the_unit_one() -> None:
    log = episode_log(reward=[2.0] * 47)
    still = log.column(OBSERVATION).clone()
    still[:, 1] = 1e4
    moved = log.column(NEXT_OBSERVATION).clone()
    moved[:, 1] = 1e4 + 0.001 * (torch.arange(47) % 2)  # less than float32 knows
    model, _ = model_of(log.with_columns({OBSERVATION: still, NEXT_OBSERVATION: moved}))
    assert model.outcomes.std[[1, 3]].tolist() == [1.0, 1.0]
    assert model.outcomes.mean[3] == 2.0


def test_weights_go_on_in_the_unit_they_were_learned_in() -> None:
    model, data = model_of()
    before = model.outcomes.std.clone()
    grown = episode_log((20,) * 6, seed=3)
    other = data_for(Dynamics, grown)
    whole_log(model, other)
    assert model.outcomes.std.equal(before)
    assert (
        model.outcomes.high[0]
        == torch.cat([grown.column(key)[:, 0] for key in (OBSERVATION, NEXT_OBSERVATION)]).amax()
    )


# --- elites ---------------------------------------------------------------------------------------


def test_elites_know_held_out_episodes_best(tmp_path: Path) -> None:
    """Of every seed; all members are elites as long as nothing was validated."""
    data = data_for(Dynamics, validation=0.4)
    model = learner_of(Dynamics, data.spec, members=4, elites=2, seeds=2)
    trainer = trainer_in(tmp_path, 16, val_check_interval=16)
    trainer.fit(model, data)
    held_out = torch.cat([batch[0]["index"] for batch in data.val_dataloader()])
    batch = next(data.in_order(held_out))[0]
    chosen = []
    for _ in model.each_seed():
        with torch.no_grad():
            mean = model.ensemble(batch[OBSERVATION], batch[ACTION]).mean
            step = batch[OBSERVATION], batch[NEXT_OBSERVATION], batch[REWARD]
            wrong = (mean - model.outcomes.standardised(*step)).square().mean((1, 2))
        chosen.append(wrong.argsort()[:2].sort().values.tolist())
        assert model.elite.nonzero().flatten().tolist() == chosen[-1]
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    for seed, elite in enumerate(chosen):
        alone = load_learner(tmp_path / "two.ckpt", seed_index=seed)
        assert alone.elite.nonzero().flatten().tolist() == elite
    unseen = learner_of(Dynamics, data.spec, members=4, elites=2)
    fit(unseen, data_for(Dynamics), tmp_path, 8)
    assert bool((unseen.elite == 1).all())


# --- learning -------------------------------------------------------------------------------------


def linear_log(rows: int, noise: float, seed: int) -> Log:
    """Return steps s' = s + .1 (s2, a1) + noise, of episodes of ten that end where s1 > 1."""
    log = episode_log((10,) * (rows // 10), seed=seed)
    draws = [draws_of(rows, seed=seed + 10 + number) for number in range(4)]
    here = torch.stack([4 * uniform(draw) - 2 for draw in draws[:3]], -1)
    action = torch.tensor(LOW) + (torch.tensor(HIGH) - torch.tensor(LOW)) * torch.stack(
        [uniform(draws[3]), uniform(draws[3], 1)], -1
    )
    luck = torch.randn(rows, 3, generator=torch.Generator().manual_seed(seed))
    change = torch.stack([0.1 * here[:, 1], 0.1 * action[:, 0], torch.zeros(rows)], -1)
    after = here + change + noise * luck
    columns = {key: log.column(key) for key in log.keys()}  # noqa: SIM118
    columns |= {OBSERVATION: here, ACTION: action, NEXT_OBSERVATION: after}
    columns |= {REWARD: here[:, 0] - action[:, 1], TERMINATED: after[:, 0] > 1}
    columns["next", "truncated"] = torch.zeros(rows, dtype=torch.bool)
    columns["next", "truncated"][9::10] = True
    columns["next", "truncated"] &= ~columns[TERMINATED]
    return Log.from_columns(columns, log.info)


def test_it_learns_a_linear_world_with_its_noise_and_where_it_ends(tmp_path: Path) -> None:
    """Of 2,000 rows: changes, rewards, noise of .05 and endings; it doubts what it never saw."""
    data = data_for(Dynamics, linear_log(2000, 0.05, 0), batch_size=128, validation=0.1)
    model = Dynamics(data.spec, network=Network(hidden=(32, 32)), members=3, elites=2)
    fit(model, data, tmp_path, 1200, val_check_interval=600)
    model.eval()
    new = linear_log(500, 0.0, 9)
    here, action = new.column(OBSERVATION), new.column(ACTION)
    with torch.no_grad():
        found = model.imagine(here, action)
        drawn = model.imagine(here, action, draws_of(len(here)))
        far = model.imagine(here + 8.0, action).disagreement
    error = (found.next_observation - new.column(NEXT_OBSERVATION)).square().mean(0).sqrt()
    assert bool((error < 0.03).all()), error
    assert (found.reward - new.column(REWARD)).square().mean().sqrt() < 0.1
    luck = (drawn.next_observation - found.next_observation).std(0)
    assert bool((luck > 0.035).all() and (luck < 0.065).all()), luck
    assert (found.terminated == new.column(TERMINATED)).float().mean() > 0.97
    assert far.median() > 5 * found.disagreement.median()


def test_checkpoints_imagine_the_same(tmp_path: Path) -> None:
    data = data_for(Dynamics, validation=0.3)
    model = learner_of(Dynamics, data.spec, angles=((0, 1),), weight_decay=(0.1, 0.2))
    fit(model, data, tmp_path, 8, val_check_interval=8).save_checkpoint(tmp_path / "model.ckpt")
    loaded = load_learner(tmp_path / "model.ckpt")
    assert equal(weights(loaded), weights(model))
    rows = data.log.column(OBSERVATION), data.log.column(ACTION), draws_of(len(data.log))
    for one, other in zip(loaded.imagine(*rows), model.imagine(*rows), strict=True):
        assert one.equal(other)


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_out_of_range() -> None:
    spec = OfflineDataModule(episode_log()).spec
    for wrong, message in (
        ({"members": 0}, r"members is 0, it must be at least 1"),
        ({"members": 3, "elites": 4}, r"elites is 4, it must lie in \[1, 3\], the members"),
        ({"margin": -0.1}, "margin"),
        ({"weight_decay": (0.1, -1.0)}, "weight_decay"),
        ({"uncertainty": "pairs"}, "uncertainty is 'pairs'.* Did you mean 'pairwise'"),
        ({"bootstrap": "row"}, "bootstrap is 'row'.* Did you mean 'rows'"),
        ({"angles": ((0, 3),)}, r"angles names \[0, 3\]: .* two numbers from 0 to 2"),
        ({"angles": ((1, 1),)}, r"angles names \[1, 1\]"),
        ({"network": Network(hidden=(8,), gate_task=True)}, "gate_task"),
    ):
        with pytest.raises(ValueError, match=message):
            Dynamics(spec, **wrong)


def test_only_flat_observations_are_modelled() -> None:
    spec = OfflineDataModule(entry_log()).spec
    with pytest.raises(ValueError, match=r"observation has the entries .* flat vectors \[O\]"):
        Dynamics(spec)
