"""ACT: the loss by hand, chunks cut by an episode's end, averages of answers, a latent style."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.act import ACT
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.draws import counters
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.chunk_net import ChunkNet
from hindsight_rl.nets.network import Attention
from hindsight_rl.policies.torch_actor import TorchActor

CHUNK = {"chunk": 4, "latent": 3}


def made(arguments: dict[str, Any] | None = None, **options: Any) -> tuple[ACT, Any]:
    arguments = CHUNK | (arguments or {})
    data = data_for(ACT, episode_log(**options), arguments)
    learner = learner_of(ACT, data.spec, **arguments)
    data.serve(learner)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("task", [False, True])
def test_loss_is_that_of_a_plain_loop(task: bool) -> None:
    learner, batch = made(task=task)
    total, entries, divergence = torch.zeros(()), 0, torch.zeros(())
    for row in range(len(batch)):
        asked = batch["task"][row] if task else None
        token = learner.actor.token(batch["observation"][row], asked)
        action = learner.actor.scale.to_policy(batch["chunk", "action"][row])
        posterior = learner.actor.posterior(token, action, batch["chunk", "valid"][row])
        spread = posterior.log_std.exp()
        latent = posterior.mean + spread * batch["noise", "latent"][row]
        kl = 0.5 * (posterior.mean**2 + spread**2 - 1 - 2 * posterior.log_std).sum()
        divergence = divergence + kl / len(batch)
        error = (learner.actor(token, latent) - action).abs()
        for place in range(4):
            if batch["chunk", "valid"][row, place]:
                total, entries = total + error[place].mean(), entries + 1
    found = learner.losses(batch)
    torch.testing.assert_close(found.terms["actor"], total / entries + 10.0 * divergence)
    torch.testing.assert_close(found.metrics["actor/error"], (total / entries).detach())
    torch.testing.assert_close(found.metrics["actor/kl"], divergence.detach())


def test_errors_are_averaged_over_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors 1, 2 | 9, 9 and 1, 1, 1 | 9, of which those after | do not count: 6 / 5."""
    learner, batch = made({"latent": 0})
    batch = batch[:2]
    batch["chunk", "valid"] = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]]).bool()
    error = torch.tensor([[1.0, 2.0, 9.0, 9.0], [1.0, 1.0, 1.0, 9.0]]).unsqueeze(-1)
    action = learner.actor.scale.to_policy(batch["chunk", "action"])
    monkeypatch.setattr(ChunkNet, "forward", lambda *_: action - error)
    assert learner.losses(batch).terms["actor"].item() == pytest.approx(1.2, abs=1e-6)
    batch["weight"] = torch.tensor([2.0, 0.0])
    assert learner.losses(batch).terms["actor"].item() == pytest.approx(1.2, abs=1e-6)
    batch["weight"] = torch.tensor([0.0, 1.0])
    assert learner.losses(batch).terms["actor"].item() == pytest.approx(0.6, abs=1e-6)


def test_what_lies_behind_the_end_changes_nothing() -> None:
    learner, batch = made()
    before = learner.losses(batch).terms["actor"]
    valid = batch["chunk", "valid"].unsqueeze(-1)
    assert not valid.all()
    action = batch["chunk", "action"]
    batch["chunk", "action"] = torch.where(valid, action, action + 7.0)
    assert torch.equal(learner.losses(batch).terms["actor"], before)


def test_every_layer_of_the_decoder_is_read() -> None:
    """The authors' code read the first of seven: the others got no gradient."""
    learner, batch = made({"attention": Attention(8, 2, 3)})
    learner.losses(batch).terms["actor"].backward()
    for block in learner.actor.decoder.blocks:
        assert all(bool(p.grad.abs().max() > 0) for p in block.net.parameters())


def test_the_latent_vector_is_zero_at_acting_and_drawn_on_demand() -> None:
    learner, batch = made()
    seen = batch["observation"]
    zero = learner.actor(learner.actor.token(seen), torch.zeros(len(seen), 3))
    found = learner.decide(seen, None, {}).action
    assert found.equal(learner.actor.scale.to_environment(zero)) and found.shape[1:] == (4, 2)
    assert (found >= torch.tensor(LOW)).all() and (found <= torch.tensor(HIGH)).all()
    draws = torch.as_tensor(counters(0, np.arange(len(seen)), 0))
    assert not learner.act(seen, draws=draws).equal(found[:, 0])
    plain, _ = made({"latent": 0})
    assert plain.noise == {} and plain.act(seen, draws=draws).equal(plain(seen))


def test_answers_for_a_step_are_averaged_until_the_episode_ends() -> None:
    """The online sums equal exp(-m i) of all answers for a step, i = 0 the oldest."""
    learner, _ = made({"ensemble": 0.1})
    actor, draw = TorchActor(learner), np.random.default_rng(0)
    state, answers = actor.initial_state(1), []
    for step in range(100):
        if step == 60:
            state, answers = actor.initial_state(1), []
        seen = draw.normal(size=(1, 3)).astype(np.float32)
        with torch.no_grad():
            answers.append(learner.decide(torch.from_numpy(seen), None, {}).action[0].numpy())
        found, state = actor.step(seen, None, state, counters(0, np.arange(1), step))
        known = [chunk[ahead] for ahead, chunk in enumerate(answers[:-5:-1])][::-1]
        weights = np.exp(-0.1 * np.arange(len(known)))
        np.testing.assert_allclose(found[0], np.average(known, axis=0, weights=weights), rtol=1e-5)


def ramps(episodes: int = 64, steps: int = 8) -> Log:
    """Return episodes that go up or down for good, as their first observation says."""
    sign = torch.where(torch.arange(episodes) % 2 == 0, -1.0, 1.0)
    time = torch.arange(steps) / steps
    observation = torch.stack([sign[:, None].expand(-1, steps), time.expand(episodes, -1)], -1)
    action = (sign[:, None] * time).unsqueeze(-1).expand(-1, -1, 2)
    last = (torch.arange(steps) == steps - 1).expand(episodes, -1)
    rows: dict[Any, Tensor] = {
        "observation": observation.flatten(0, 1),
        "action": action.flatten(0, 1).contiguous(),
        "episode": torch.arange(episodes).repeat_interleave(steps),
        ("next", "observation"): observation.flatten(0, 1),
        ("next", "reward"): torch.zeros(episodes * steps),
        ("next", "terminated"): last.flatten(),
        ("next", "truncated"): torch.zeros(episodes * steps, dtype=torch.bool),
    }
    return Log.from_columns(rows, {"action": {"low": LOW, "high": HIGH}})


def test_the_next_actions_are_learned_at_once(tmp_path: Path) -> None:
    log = ramps()
    torch.manual_seed(0)
    learner = ACT(
        OfflineDataModule(log).spec,
        attention=Attention(16, 2, 1),
        chunk=4,
        latent=4,
        optimizer=lambda params: torch.optim.Adam(params, lr=3e-3),
    )
    fit(learner, OfflineDataModule(log, batch_size=64, updates_per_step=50), tmp_path, 400)
    start = torch.tensor([[1.0, 0.25], [-1.0, 0.5]])
    with torch.no_grad():
        found = learner.decide(start, None, {}).action[..., 0]
    wanted = torch.tensor([[0.25, 0.375, 0.5, 0.625], [-0.5, -0.625, -0.75, -0.875]])
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk 0 must be at least 1"),
        ({"chunk": 2, "execute": 3}, r"execute 3 in \[1, 2\]"),
        ({"ensemble": 0.1, "execute": 2}, r"ensemble 0.1 .* execute 2 then be 1"),
        ({"ensemble": 11.0}, r"ensemble 11.0 must be in \[-10, 10\]"),
        ({"latent": -1}, "latent -1"),
        ({"kl_weight": -1.0}, "kl_weight -1.0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ACT(OfflineDataModule(episode_log()).spec, **arguments)
