"""MAML for cloning: gradients against a loop over tasks, what it reduces to, what it learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of, log_for
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.maml_bc import MAMLBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import TASK_ID
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network


def case(**arguments: Any) -> tuple[MAMLBC, TensorDict]:
    """Return a learner and a batch of eight tasks, in float64."""
    data = OfflineDataModule(log_for(MAMLBC), batch_size=8)
    learner = learner_of(MAMLBC, data.spec, **{"support": 6, "query": 5} | arguments)
    batch = next(iter(data.serve(learner)._sampler()))[0]
    return learner.double(), learner.read(batch).double()


def cloned(learner: MAMLBC, rows: TensorDict) -> Tensor:
    return -learner.actor.log_prob(rows["observation"], rows["action"]).mean()


def by_loop(learner: MAMLBC, batch: TensorDict) -> dict[str, Tensor]:
    """Return the gradient, one task after the other: a copy takes its steps by an optimiser.

    The first-order gradient is the query's where the steps end, and Reptile's the way there; the
    exact one is a difference of losses along each direction, at a step far above rounding.
    """
    total = {name: torch.zeros_like(value) for name, value in learner.actor.named_parameters()}
    start = {name: value.detach().clone() for name, value in learner.actor.named_parameters()}
    for task in batch.unbind(0):
        learner.actor.load_state_dict(start, strict=False)
        optimizer = torch.optim.SGD(learner.actor.parameters(), learner.inner_rate)
        for _ in range(learner.inner_steps):
            optimizer.zero_grad()
            cloned(learner, task["support"]).backward()
            optimizer.step()
        optimizer.zero_grad()
        cloned(learner, task["query"]).backward()
        for name, value in learner.actor.named_parameters():
            way = (start[name] - value.detach()) / learner.inner_rate
            assert value.grad is not None
            total[name] += way if learner.gradient == "reptile" else value.grad
    learner.actor.load_state_dict(start, strict=False)
    return {name: value / len(batch) for name, value in total.items()}


def gradient_of(learner: MAMLBC, batch: TensorDict) -> dict[str, Tensor]:
    learner.zero_grad()
    learner.losses(batch).terms["actor"].backward()
    found = {name: value.grad for name, value in learner.actor.named_parameters()}
    assert all(value is not None for value in found.values())
    return {name: value.clone() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("gradient", ["first", "reptile"])
def test_gradients_without_second_derivatives_are_those_of_a_loop(
    gradient: str, steps: int
) -> None:
    learner, batch = case(gradient=gradient, inner_steps=steps, inner_rate=0.1)
    expected = by_loop(learner, batch)
    for name, value in gradient_of(learner, batch).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("steps", [1, 2])
def test_exact_gradient_is_the_slope_of_the_loss_after_the_steps(steps: int) -> None:
    """Central differences in five directions; of the first order the slope is another."""
    learner, batch = case(inner_steps=steps, inner_rate=0.2)
    exact, (start, h) = gradient_of(learner, batch), (learner.actor.state_dict(), 1e-5)
    start = {name: value.clone() for name, value in start.items()}
    first, _ = case(inner_steps=steps, inner_rate=0.2, gradient="first")
    other, draw = gradient_of(first, batch), torch.Generator().manual_seed(0)
    for _ in range(5):
        way = {
            n: torch.randn(v.shape, generator=draw, dtype=torch.float64) for n, v in exact.items()
        }
        ends = []
        for side in (h, -h):
            moved = {name: start[name] + side * value for name, value in way.items()}
            learner.actor.load_state_dict(start | moved)
            ends.append(learner.losses(batch).terms["actor"].detach())
        slope = (ends[0] - ends[1]) / (2 * h)
        along, without = (sum((g[n] * way[n]).sum() for n in way) for g in (exact, other))
        torch.testing.assert_close(along, slope, rtol=1e-6, atol=1e-7)
        assert abs(float(without - slope)) > 1e-4


@pytest.mark.parametrize("gradient", ["second", "first"])
def test_steps_of_no_length_are_joint_training(gradient: str) -> None:
    """The gradient is that of cloning the queries, as BC does."""
    learner, batch = case(inner_rate=1e-12, gradient=gradient)
    found = gradient_of(learner, batch)
    learner.zero_grad()
    cloned(learner, batch["query"]).backward()
    for name, value in learner.actor.named_parameters():
        torch.testing.assert_close(found[name], value.grad, rtol=1e-8, atol=1e-10)


def test_metrics_are_the_losses_before_and_after() -> None:
    learner, batch = case(inner_rate=0.1)
    found = learner.losses(batch)
    torch.testing.assert_close(
        found.metrics["actor/loss_before"], cloned(learner, batch["query"]).detach()
    )
    assert found.metrics["actor/loss_after"].equal(found.terms["actor"].detach())


def test_adapted_weights_are_those_of_plain_descent() -> None:
    """The learner itself keeps its weights, and its copy clones the rows better."""
    learner, batch = case(inner_rate=0.1, inner_steps=4)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    rows = batch["support"][0]
    other = learner.adapted(rows)
    assert all(value.equal(before[name]) for name, value in learner.state_dict().items())
    optimizer = torch.optim.SGD(learner.actor.parameters(), 0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = cloned(learner, rows)
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    for name, value in other.actor.named_parameters():
        expected = dict(learner.actor.named_parameters())[name]
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
    assert losses == sorted(losses, reverse=True) and not other.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inner_rate": 0.0}, "inner_rate is 0.0, it must be above 0"),
        ({"inner_steps": 0}, "inner_steps 0.* must be at least 1"),
        ({"support": 4, "episodes": 5}, r"episodes is 5, it must lie in \[1, 4\]"),
        ({"gradient": "third"}, "gradient is 'third'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    spec = OfflineDataModule(log_for(MAMLBC)).spec
    with pytest.raises(ValueError, match=message):
        MAMLBC(spec, **arguments)


def test_a_log_without_tasks_is_refused_before_the_first_update(tmp_path: Path) -> None:
    data = OfflineDataModule(episode_log())
    with pytest.raises(LogError, match="the log does not say which episode is of which"):
        fit(learner_of(MAMLBC, data.spec), data, tmp_path, 1)


def slopes(tasks: int, seed: int) -> Log:
    """Return episodes of ten rows whose action is a slope of their task times the observation."""
    draw = torch.Generator().manual_seed(seed)
    slope = torch.rand(tasks, generator=draw) * 2 - 1
    episode = torch.arange(4 * tasks).repeat_interleave(10)
    seen = torch.rand(len(episode), 1, generator=draw) * 2 - 1
    last = torch.arange(len(episode)) % 10 == 9
    columns: dict[Any, Tensor] = {
        "observation": seen,
        "action": slope[episode // 4].unsqueeze(-1) * seen,
        "episode": episode,
        ("next", "observation"): seen,
        ("next", "reward"): torch.zeros(len(episode)),
        ("next", "terminated"): torch.zeros(len(episode), dtype=torch.bool),
        ("next", "truncated"): last,
        TASK_ID: (episode // 4).float(),
    }
    return Log.from_columns(columns, {"action": {"low": [-1.0], "high": [1.0]}})


def pieces_of(log: Log, *parts: slice) -> list[TensorDict]:
    """Return rows of a log, part by part."""
    keys = ("observation", "action")
    return [
        TensorDict({k: log.column(k, part) for k in keys}, [part.stop - part.start])
        for part in parts
    ]


@pytest.mark.parametrize("gradient", ["second", "first", "reptile"])
def test_it_learns_to_learn_where_joint_training_cannot(gradient: str, tmp_path: Path) -> None:
    """Slopes in [-1, 1]: what all tasks have in common is 0, and ten rows say which slope it is."""
    shared: dict[str, Any] = {"head": "deterministic", "learning_rates": {"actor": 3e-3}}
    shared |= {"network": Network(hidden=(32,))}
    own = {"inner_rate": 0.3, "inner_steps": 3, "support": 10, "query": 10, "gradient": gradient}
    fitted = []
    for kind, arguments in ((BC, {}), (MAMLBC, own)):
        data = OfflineDataModule(slopes(32, 0), batch_size=16, updates_per_step=50)
        learner = learner_of(kind, data.spec, **shared, **arguments)
        fit(learner, data, tmp_path, 300)
        fitted.append(learner)
    joint, learner = fitted
    assert isinstance(learner, MAMLBC)
    fresh, errors = slopes(20, 1), torch.zeros(2)
    for first in range(0, 800, 40):
        few, rest = pieces_of(fresh, slice(first, first + 10), slice(first + 10, first + 40))
        with torch.no_grad():
            for place, policy in enumerate((joint, learner.adapted(few))):
                errors[place] += (policy(rest["observation"]) - rest["action"]).abs().mean()
    assert errors[1] < 0.7 * errors[0], errors
