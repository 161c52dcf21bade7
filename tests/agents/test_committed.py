"""Real-time chunking: an answer begins with the committed actions, and goes on from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, equal, fit, learner_of, trainer_in, weights, whole_log
from torch import Tensor

from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.draws import counters
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.diffusion import cosine_betas, signals
from hindsight_rl.nets.network import NoiseNetwork
from hindsight_rl.policies.torch_actor import TorchActor
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner

KINDS = [FlowBC, DiffusionBC]
DELAY = {"chunk": 6, "execute": 3, "committed": 2}


def made(kind: type[Learner], **arguments: Any) -> tuple[Any, Any]:
    arguments = DELAY | arguments
    data = data_for(kind, episode_log(), arguments)
    learner = learner_of(kind, data.spec, **arguments)
    data.serve(learner)
    return learner, whole_log(learner, data)


def uniform(number: Tensor) -> float:
    return 0.5 * (1 + torch.erf(number / 2**0.5)).item()


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_a_plain_loop(kind: type[Learner]) -> None:
    """Given actions are clean, marked and not counted; a chunk of v actions gives at most v - 1."""
    learner, batch = made(kind)
    left, network = signals(cosine_betas(100)), learner.actor
    total, entries, counts = torch.zeros(()), 0, []
    for row in range(len(batch)):
        data = network.scale.to_policy(batch["chunk", "action"][row]).flatten()
        noise, time = batch["noise", next(iter(learner.noise))][row], batch["noise", "time"][row, 0]
        if kind is FlowBC:
            when = uniform(time)
            point, target = (1 - when) * noise + when * data, data - noise
        else:
            k = int(100 * uniform(time))
            point = left[k] ** 0.5 * data + (1 - left[k]) ** 0.5 * noise
            when, target = k / 100, left[k] ** 0.5 * noise - (1 - left[k]) ** 0.5 * data
        valid = batch["chunk", "valid"][row]
        count = min(int(3 * uniform(batch["noise", "delay"][row, 0])), int(valid.sum()) - 1)
        counts.append(count)
        point = torch.cat([data[: 2 * count], point[2 * count :]])
        marks = torch.tensor([count > 0, count > 1]).float()
        seen = network.inputs(batch["observation"][row][None], None)[0]
        angles = when * torch.pi * 2.0 ** torch.arange(4)
        given = torch.cat([point, angles.sin(), angles.cos(), seen, marks])
        error = (network.net(given[None])[0] - target).square().view(6, 2).mean(-1)
        for place in range(count, int(valid.sum())):
            total, entries = total + error[place], entries + 1
    assert sorted(set(counts)) == [0, 1, 2]
    found = learner.losses(batch).terms["actor"]
    torch.testing.assert_close(found, total / entries, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_given_actions_get_no_gradient(kind: type[Learner]) -> None:
    learner, batch = made(kind)
    batch = batch[batch["chunk", "valid"].all(-1)]
    last = learner.actor.net[-1]
    for number, given in ((-10.0, 0), (10.0, 2)):  # a delay of 0, and of D
        learner.zero_grad()
        batch["noise", "delay"] = torch.full((len(batch), 1), number)
        learner.losses(batch).terms["actor"].backward()
        assert not last.bias.grad[: 2 * given].any()
        assert last.bias.grad[2 * given :].abs().min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_given_is_the_plain_loss(kind: type[Learner]) -> None:
    """With marks that weigh nothing, the loss is that of the learner without delay."""
    delayed, batch = made(kind)
    plain, _ = made(kind, committed=0)
    first = delayed.actor.net[0]
    with torch.no_grad():
        plain.actor.net.load_state_dict(
            delayed.actor.net.state_dict() | {"0.weight": first.weight[:, :-2]}
        )
        first.weight[:, -2:] = 0.0
    batch["noise", "delay"] = torch.full((len(batch), 1), -10.0)
    assert "delay" in delayed.noise and "delay" not in plain.noise
    found, expected = (each.losses(batch).terms["actor"] for each in (delayed, plain))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_begin_with_what_is_committed(kind: type[Learner]) -> None:
    """To the bit, whatever the units; and leave what follows the three that are executed."""
    learner, batch = made(kind)
    seen = batch["observation"]
    noise = torch.randn(len(seen), 12, generator=torch.Generator().manual_seed(0))
    begun = learner.initial_state(len(seen))
    assert {name: tuple(value.shape[1:]) for name, value in begun.items()} == {
        "committed": (2, 2),
        "committed_count": (),
    }
    with torch.no_grad():
        first = learner.decide(seen, None, begun, noise)
        again = learner.decide(seen, None, first.state, noise)
        assert first.state["committed"].equal(first.action[:, 3:5])
        assert (first.state["committed_count"] == 2).all()
        assert again.action[:, :2].equal(first.action[:, 3:5])
        assert not again.action[:, 2:].equal(first.action[:, 2:])
        assert again.state["committed"].equal(again.action[:, 3:5])
        # One of two counts: the other is made like the rest. What does not count does not matter.
        one = first.state | {"committed_count": torch.ones(len(seen), dtype=torch.int64)}
        shorter = learner.decide(seen, None, one, noise).action
        one["committed"] = one["committed"].clone()
        one["committed"][:, 1] = 9.0
        assert shorter[:, 0].equal(first.action[:, 3])
        assert not shorter[:, 1].equal(first.action[:, 4])
        assert learner.decide(seen, None, one, noise).action.equal(shorter)
    for answer in (first.action, again.action):
        assert (answer >= torch.tensor(LOW)).all() and (answer <= torch.tensor(HIGH)).all()


def test_the_queue_executes_committed_actions_then_new_ones() -> None:
    """Asked at steps 0, 3, 6: what follows is what the last answer said, for two steps."""
    learner, _ = made(FlowBC)
    actor, asked = TorchActor(learner.eval()), []
    decide = learner.decide
    learner.decide = lambda *given: asked.append(decide(*given)) or asked[-1]
    state, done = actor.initial_state(1), []
    for step in range(9):
        seen = np.full((1, 3), 0.1 * step, np.float32)
        action, state = actor.step(seen, None, state, counters(0, np.array([0]), step))
        done.append(action[0])
    old, middle, new = (each.action[0].numpy() for each in asked)
    np.testing.assert_array_equal(done, np.concatenate([old[:5], middle[2:5], new[2:3]]))


def two_ways() -> Log:
    """Return 64 episodes of 16 steps, in half of which every action is -1, and 1 in the others."""
    rows, steps = 1024, 16
    episode = torch.arange(rows) // steps
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(rows, 2, generator=torch.Generator().manual_seed(0)),
        "action": torch.where(episode % 2 == 0, -1.0, 1.0).unsqueeze(-1),
        "episode": episode,
        ("next", "observation"): torch.zeros(rows, 2),
        ("next", "reward"): torch.zeros(rows),
        ("next", "terminated"): torch.arange(rows) % steps == steps - 1,
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"action": {"low": [-2.0], "high": [2.0]}})


def jumps(learner: Learner, rows: int = 50, steps: int = 24) -> float:
    """Return the share of chunk borders at which the executed action changes its sign."""
    actor, found = TorchActor(learner), []
    state = actor.initial_state(rows)
    draw = np.random.default_rng(0)
    for step in range(steps):
        seen = draw.normal(size=(rows, 2)).astype(np.float32)
        noise = counters(0, np.arange(rows), step)
        action, state = actor.step(seen, None, state, noise)
        found.append(np.sign(action[:, 0]))
    changed = (np.diff(np.stack(found), axis=0) != 0).sum()
    return float(changed / (rows * (steps // 2 - 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_that_continues_does_not_change_its_mind(
    kind: type[Learner], tmp_path: Path
) -> None:
    """Two ways are equally good. Answers that begin anew take the other one half of the time."""
    found = {}
    for committed in (0, 2):
        torch.manual_seed(0)
        arguments = {"chunk": 4, "execute": 2, "committed": committed, "tau": 0.05}
        data = data_for(kind, two_ways(), arguments, batch_size=256, updates_per_step=50)
        optimizer = {"optimizer": lambda groups: torch.optim.Adam(groups, lr=3e-3)}
        small = NoiseNetwork(hidden=(64, 64))
        learner = kind(data.spec, network=small, **arguments, **optimizer)
        fit(learner, data, tmp_path / str(committed), 500)
        found[committed] = jumps(learner.eval())
    assert 0.4 < found[0] < 0.6
    assert found[2] < 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_losses_compile_to_one_graph(kind: type[Learner]) -> None:
    learner, batch = made(kind)
    compiled = torch.compile(learner.losses, fullgraph=True, backend="eager", dynamic=False)
    found, expected = compiled(batch), learner.losses(batch)
    torch.testing.assert_close(found.terms["actor"], expected.terms["actor"])


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints(kind: type[Learner], tmp_path: Path) -> None:
    """One with delay comes back; one from before the argument is one without delay."""
    for name, arguments in (("delay", {}), ("before", {"committed": 0})):
        learner, _ = made(kind, **arguments)
        if name == "before":
            del learner.hparams["committed"]
        trainer = trainer_in(tmp_path, 1)
        trainer.strategy.connect(learner)
        trainer.save_checkpoint(tmp_path / f"{name}.ckpt")
        loaded = load_learner(tmp_path / f"{name}.ckpt")
        assert equal(weights(loaded), weights(learner))
        assert loaded.chunk == learner.chunk
        assert bool(loaded.initial_state(1)) == (name == "delay")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "most"),
    [({"chunk": 8, "committed": 5}, 4), ({"chunk": 8, "execute": 6, "committed": 3}, 2),
     ({"chunk": 8, "execute": 2, "committed": 3}, 2), ({"committed": -1}, 4),
     ({"chunk": 1, "committed": 1}, 0)],
)  # fmt: skip
def test_delays_that_cannot_be(kind: type[Learner], arguments: dict[str, Any], most: int) -> None:
    spec = OfflineDataModule(episode_log()).spec
    told = rf"committed is {arguments['committed']}, it must lie in \[0, {most}\]: while the policy"
    with pytest.raises(ValueError, match=told):
        kind(spec, **arguments)
