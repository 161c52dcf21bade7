"""PEARL: what its context says, which loss teaches the encoder, and that it finds out tasks."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import fit, learner_of, log_for, moved, whole_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.pearl import PEARL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import TASK_ID
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.normal_products import Evidence
from hindsight_rl.nets.network import Network


def case(**options: Any) -> tuple[PEARL, TensorDict]:
    """Return a learner and every row of a log, with contexts of six rows."""
    log = {name: options.pop(name) for name in ("discrete", "task") if name in options}
    data = OfflineDataModule(log_for(PEARL, **log))
    learner = learner_of(PEARL, data.spec, **{"context": 6, "latent": 3} | options)
    return learner, learner.read(whole_log(learner, data.serve(learner)))


def encoder_gradient(learner: PEARL, loss: Tensor) -> list[Tensor]:
    weights = list(learner.critic.encoder.parameters())
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for g, w in zip(found, weights, strict=True)]


@pytest.mark.parametrize("following", [False, True])
@pytest.mark.parametrize("discrete", [False, True])
def test_posterior_is_the_product_of_the_prior_and_the_rows_seen(
    discrete: bool, following: bool
) -> None:
    """Of six rows floor(7 u) are seen, u being the noise as a share; row by row."""
    learner, batch = case(discrete=discrete, following=following)
    mean, log_std = learner.posterior(batch)
    seen = []
    for row in range(len(batch)):
        share = torch.distributions.Normal(0.0, 1.0).cdf(batch["noise", "length"][row])
        count = int(7 * float(share))
        seen.append(count)
        evidence = learner.critic.encoder(batch["support"][row][:count])
        running = Evidence(torch.zeros(3), torch.zeros(3))
        for number in range(count):
            running = running.joined(Evidence(*(part[number] for part in evidence)))
        for one, other in zip(running.product(), (mean[row], log_std[row]), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert set(seen) == set(range(7))
    assert not mean[seen.index(0)].any() and not log_std[seen.index(0)].any()


def test_what_tells_tasks_apart_is_seen_by_the_encoder() -> None:
    """Reward and action of a row, and the next observation where it is asked for."""
    for following in (False, True):
        learner, batch = case(following=following)
        rows = batch["support"][0]
        keys = ["observation", "action", ("next", "reward")]
        for key in [*keys, *([("next", "observation")] if following else [])]:
            other = rows.clone().set(key, rows[key] + 0.5)
            before, after = (learner.critic.encoder(each) for each in (rows, other))
            assert not before.shift.equal(after.shift), key


def test_encoder_is_taught_by_critics_and_divergence_alone() -> None:
    """A heavier divergence adds its own gradient; policy and temperature give none."""
    light, batch = case(kl_weight=0.0)
    heavy, _ = case(kl_weight=2.0)
    found = light.losses(batch).terms
    by_critics = encoder_gradient(light, found["critic"])
    assert any(part.any() for part in by_critics)
    for name in ("actor", "temperature"):
        assert not any(part.any() for part in encoder_gradient(light, found[name]))
    divergence = encoder_gradient(light, standard_normal_kl(*light.posterior(batch)).mean())
    both = encoder_gradient(heavy, heavy.losses(batch).terms["critic"])
    for one, other, together in zip(by_critics, divergence, both, strict=True):
        torch.testing.assert_close(one + 2.0 * other, together, rtol=1e-4, atol=1e-6)


def test_target_is_no_way_to_the_encoder() -> None:
    """With critics whose values are all 0 what is left of the gradient is the target's: none."""
    learner, batch = case(kl_weight=0.0)
    with torch.no_grad():
        for member in learner.critic.members:
            for weight in list(member.parameters())[-2:]:
                weight.zero_()
    assert not any(
        p.any() for p in encoder_gradient(learner, learner.losses(batch).terms["critic"])
    )


@pytest.mark.parametrize("task", [False, True])
def test_adapted_policy_acts_on_the_latent_vector_of_all_rows(task: bool) -> None:
    """In any order; a task that it is told stands beside it. Before, the latent vector is 0."""
    learner, batch = case(task=task)
    moved(learner)
    rows = batch["support"][4]
    mean, _ = learner.critic.encoder(rows).sum(-2).product()
    for order in (range(6), [4, 2, 0, 5, 1, 3]):
        other = learner.adapted(rows[list(order)])
        torch.testing.assert_close(other.actor.latent, mean, rtol=1e-5, atol=1e-6)
    told = batch.get("task", None)
    joined = [mean.expand(len(batch), 3)] if told is None else [told, mean.expand(len(batch), 3)]
    with torch.no_grad():
        expected = learner.actor.mode(batch["observation"], torch.cat(joined, -1))
        torch.testing.assert_close(other(batch["observation"], told), expected)
        joined[-1] = torch.zeros(len(batch), 3)
        expected = learner.actor.mode(batch["observation"], torch.cat(joined, -1))
        torch.testing.assert_close(learner(batch["observation"], told), expected)
    assert not learner.actor.latent.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kl_weight": -1.0}, "kl_weight -1.0.* must be at least 0"),
        ({"latent": 0}, "latent 0 and context 32 at least 1"),
        ({"context": 4, "episodes": 5}, r"episodes is 5, it must lie in \[1, 4\]"),
        ({"initial_temperature": 0.0}, "initial_temperature is 0.0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    spec = OfflineDataModule(log_for(PEARL)).spec
    with pytest.raises(ValueError, match=message):
        PEARL(spec, **arguments)


def signs(episodes: int, seed: int) -> Log:
    """Return episodes of four rows of two tasks: one pays 1 plus the action, one takes it."""
    draw = torch.Generator().manual_seed(seed)
    episode = torch.arange(episodes).repeat_interleave(4)
    action = torch.rand(len(episode), 1, generator=draw) * 2 - 1
    seen = torch.randn(len(episode), 2, generator=draw)
    sign = 1.0 - 2.0 * (episode % 2).float()
    columns: dict[Any, Tensor] = {
        "observation": seen,
        "action": action,
        "episode": episode,
        ("next", "observation"): seen,
        ("next", "reward"): sign * (1.0 + action.squeeze(-1)),
        ("next", "terminated"): torch.ones(len(episode), dtype=torch.bool),
        ("next", "truncated"): torch.zeros(len(episode), dtype=torch.bool),
        TASK_ID: (episode % 2).float(),
    }
    return Log.from_columns(columns, {"action": {"low": [-1.0], "high": [1.0]}})


def test_it_finds_out_what_is_paid(tmp_path: Path) -> None:
    """Four rows of either task say which action pays; before them neither is the better."""
    data = OfflineDataModule(signs(200, 0), batch_size=64, updates_per_step=50)
    rates = {"actor": 3e-3, "critic": 3e-3, "temperature": 3e-3}
    arguments: dict[str, Any] = {"learning_rates": rates, "network": Network(hidden=(32, 32))}
    arguments |= {"encoder": Network(hidden=(32,))}
    learner = learner_of(PEARL, data.spec, context=8, latent=2, discount=0.5, **arguments)
    fit(learner, data, tmp_path, 600)
    fresh = signs(2, 1)
    seen = torch.randn(50, 2, generator=torch.Generator().manual_seed(2))
    keys = ("observation", "action", ("next", "reward"))
    means = []
    with torch.no_grad():
        for rows in (slice(0, 4), slice(4, 8)):
            some = TensorDict(batch_size=[4])
            for key in keys:
                some.set(key, fresh.column(key, rows))
            means.append(float(learner.adapted(some)(seen).mean()))
        unknown = float(learner(seen).mean())
    assert means[0] > 0.5 and means[1] < -0.5 and abs(unknown) < 0.5, (means, unknown)
