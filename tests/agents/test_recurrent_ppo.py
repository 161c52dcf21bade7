"""Recurrent PPO: its loss against a plain loop, its sweep, and a bandit that must be remembered."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import check_resumed, data_for, fit, learner_of, moved, whole_log
from small_replays import iterated
from tensordict import TensorDict
from torchrl.objectives.value.functional import generalized_advantage_estimate

from hindsight_rl.agents.recurrent_ppo import RecurrentPPO
from hindsight_rl.diagnostics.evaluation import Evaluation, episodes
from hindsight_rl.diagnostics.watch import Watch
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.nets.network import Head, TanhNetwork

BANDIT = "Hindsight/Bandit-v0"
TASKS: dict[str, Any] = {"trial": 4, "randomise": {"paying": [0, 2]}}
SMALL: dict[str, Any] = {"units": 6, "segment": 3}


def made(**options: Any) -> tuple[Any, Any, TensorDict]:
    """Return data, learner and every row of a log as the start of a segment."""
    log = episode_log(stated=True, **{k: v for k, v in options.items() if k in KINDS})
    own = SMALL | {name: value for name, value in options.items() if name not in KINDS}
    data = data_for(RecurrentPPO, log, own)
    learner = learner_of(RecurrentPPO, data.spec, **own)
    return data.serve(learner), learner, whole_log(learner, data)


KINDS = ("discrete", "task")


def played(learner: Any, batch: TensorDict) -> list[dict[str, Any]]:
    """Return what the learner makes of each row, one after the other, from each episode's start."""
    found, states = [], {}
    nets = {"actor": learner.actor, "value": learner.value}
    for row in range(len(batch)):
        seen, following = batch["observation"][row][None], batch["next", "observation"][row][None]
        task = batch["task"][row][None] if "task" in batch.keys() else None
        if batch["step"][row] == 0:
            states = {name: net.inputs.initial(1) for name, net in nets.items()}
        one: dict[str, Any] = {f"past {name}": state["hidden"] for name, state in states.items()}
        features = {}
        for name, net in nets.items():
            features[name], states[name] = net.inputs.step(seen, task, states[name])
        ahead, _ = learner.value.inputs.step(following, task, states["value"])
        one |= {"value": learner.value.of(features["value"]), "ahead": learner.value.of(ahead)}
        one["policy"] = learner.actor.distribution(features["actor"], seen)
        found.append(one)
    return found


@pytest.mark.parametrize("options", [{}, {"discrete": True, "task": True}, {"cell": "lstm"}])
def test_the_sweep_carries_memory_from_the_start_of_each_episode(options: dict[str, Any]) -> None:
    """Advantages are torchrl's on values of a plain loop; states are those before each row."""
    settings = {"scaling": "raw", "discount": 0.9, "lambda_": 0.8}
    _, learner, batch = made(layers=2, **options, **settings)
    with torch.no_grad():
        rows = played(learner, batch)
    for name in ("actor", "value"):
        past = torch.cat([row[f"past {name}"] for row in rows])
        torch.testing.assert_close(batch["past", name], past)
    value, ahead = (torch.cat([row[name] for row in rows]) for name in ("value", "ahead"))
    terminated = batch["next", "terminated"]
    done = terminated | batch["next", "truncated"]
    parts = (value, ahead, batch["next", "reward"], done, terminated)
    theirs, target = generalized_advantage_estimate(0.9, 0.8, *(part[:, None] for part in parts))
    found = batch["segment", "advantage"]
    torch.testing.assert_close(found[:, 0], theirs[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        batch["segment", "lambda_return"][:, 0], target[:, 0], rtol=1e-4, atol=1e-5
    )
    inside = batch["chunk", "valid"][:, 2]
    torch.testing.assert_close(found[inside, 2], found[2:, 0][inside[:-2]])


@pytest.mark.parametrize("options", [{}, {"discrete": True, "task": True}, {"cell": "lstm"}])
def test_loss_is_that_of_a_plain_loop(options: dict[str, Any]) -> None:
    """Segments of 3 from the rows that are drawn: every step once, divided by all steps."""
    data, learner, batch = made(entropy_weight=0.1, **options)
    with torch.no_grad():
        rows = played(learner, batch)
    drawn = batch["step"] % 3 == 0
    assert bool(drawn[1:].any()) and int(batch["chunk", "valid"][drawn].sum()) == len(batch)
    total, error = torch.zeros(()), torch.zeros(())
    for row, one in enumerate(rows):
        action = batch["action"][row][None]
        log_prob = learner.actor.executed(one["policy"], action)[0]
        ratio = (log_prob - batch["chunk", "action_log_prob"][row, 0]).exp()
        advantage = batch["segment", "advantage"][row, 0]
        total -= torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        total -= 0.1 * one["policy"].entropy()[0]
        error += 0.5 * (batch["segment", "lambda_return"][row, 0] - one["value"][0]) ** 2
    found = learner.losses(batch[drawn]).terms
    torch.testing.assert_close(found["actor"], total / len(batch), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["value"], error / len(batch), rtol=1e-4, atol=1e-6)


def test_rows_are_drawn_where_segments_begin() -> None:
    data, learner, batch = made()
    sampler = data._sampler()
    index = sampler.chunk(0, 40)["index"]
    assert set(index.flatten().tolist()) == set(batch["index"][batch["step"] % 3 == 0].tolist())


def test_what_lies_behind_the_end_does_not_count() -> None:
    """Neither its actions nor the probabilities and targets that stand in there."""
    _, learner, batch = made()
    before, valid = learner.losses(batch).terms, batch["chunk", "valid"]
    assert not valid.all()
    for key in (("chunk", "observation"), ("chunk", "action")):
        batch[key] = torch.where(valid.unsqueeze(-1), batch[key], batch[key] + 0.3)
    for key in (("chunk", "action_log_prob"), ("segment", "advantage")):
        batch[key] = torch.where(valid, batch[key], batch[key] - 50.0)
    for name, term in learner.losses(batch).terms.items():
        torch.testing.assert_close(term, before[name])


def test_the_gradient_flows_back_to_the_start_of_a_segment_and_no_further() -> None:
    _, learner, batch = made()
    past = batch["past", "actor"].requires_grad_()
    seen = batch["chunk", "observation"].requires_grad_()
    log_ratio, _ = learner.log_ratio(batch)
    (gradient,) = torch.autograd.grad(log_ratio[:, 2].sum(), seen, retain_graph=True)
    inside = batch["chunk", "valid"][:, 2]
    assert bool((gradient[inside, 0] != 0).any(-1).all()) and not gradient[~inside].any()
    (gradient,) = torch.autograd.grad(log_ratio[:, 2].sum(), past)
    assert bool((gradient[inside] != 0).any(-1).all())


# --- rounds ---------------------------------------------------------------------------------------


def rounds(env: Any = BANDIT, kwargs: Any = TASKS, **options: Any) -> Any:
    plain = {"initial_episodes": 4, "episodes_per_round": 6, "epochs": 2, "num_envs": 3}
    more = {"batch_size": 4, "updates_per_step": 3, "seed": 3, "env_kwargs": kwargs}
    return iterated(env, **plain | more | options)


@pytest.mark.parametrize(
    ("env", "kwargs"), [(BANDIT, TASKS), ("Pendulum-v1", {"trial": 2}), ("Pendulum-v1", None)]
)
def test_ratios_are_1_where_a_round_begins(env: str, kwargs: Any, tmp_path: Path) -> None:
    """Memory as it was collected: the column is stated while acting, the loss finds it again."""
    data = rounds(env, kwargs, max_episode_steps=9, updates_per_step=1)
    learner, off = learner_of(RecurrentPPO, data.spec, units=6, segment=4), []
    losses = learner.losses

    def looking(batch: TensorDict) -> Any:
        found = losses(batch)
        off.append((learner.updates, float(found.metrics["actor/ratio_off"])))
        return found

    learner.losses = looking
    fit(learner, data, tmp_path, 40)
    begun = {each.update for each in data.history[1:]}
    assert len(begun) > 3
    assert all(found < 1e-5 for update, found in off if update in begun)
    assert max(found for _, found in off) > 1e-5


def test_watch_sees_a_memory_that_was_not_carried(tmp_path: Path) -> None:
    """Where a policy collects without what its loss remembers, ratios do not begin at 1."""

    class Forgets(RecurrentPPO):
        def distribution_after(self, observation: Any, task: Any, state: Any) -> Any:
            gone = {name: torch.zeros_like(part) for name, part in state.items()}
            return super().distribution_after(observation, task, gone)

    seen = []
    for kind in (RecurrentPPO, Forgets):
        data = rounds("Pendulum-v1", {"trial": 2}, max_episode_steps=9)
        learner = moved(learner_of(kind, data.spec, units=6, segment=4))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit(learner, data, tmp_path, 4, callbacks=[Watch()])
        seen.append(learner.latest["watch/actor/ratio_off"])
    assert seen[0] < 1e-5 and seen[1] > 1e-3


def test_a_round_has_an_update_for_every_batch_of_segments(tmp_path: Path) -> None:
    """Six trials of four steps in segments of 3: twelve a pass, two passes in batches of 4."""
    data = rounds()
    fit(learner_of(RecurrentPPO, data.spec, **SMALL), data, tmp_path, 20)
    assert [each.updates for each in data.history[1:4]] == [6, 6, 6]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_resumed_run_ends_with_the_same_bits(cell: str, tmp_path: Path) -> None:
    def begun() -> tuple[Any, Any]:
        data = rounds()
        return data, learner_of(RecurrentPPO, data.spec, cell=cell, **SMALL)

    check_resumed(begun, tmp_path)


def test_actions_must_be_drawn(tmp_path: Path) -> None:
    data = rounds("Pendulum-v1", {"trial": 2}, max_episode_steps=6, sample=False)
    with pytest.raises(ValueError, match="the learner needs 'action_log_prob'"):
        fit(learner_of(RecurrentPPO, data.spec, **SMALL), data, tmp_path, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"segment": 1}, "segment 1 at least 2"),
        ({"units": 0}, "units 0 must be at least 1"),
        ({"clip": 1.0}, r"clip is 1.0, it must lie in \(0, 1\)"),
        ({"value_scale": 0.0}, "value_scale is 0.0, it must be above 0"),
        ({"head": Head("deterministic")}, "RecurrentPPO needs an exact density"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    data = data_for(RecurrentPPO)
    with pytest.raises(ValueError, match=message):
        learner_of(RecurrentPPO, data.spec, **arguments)


@pytest.mark.parametrize(
    ("env", "kwargs"), [(BANDIT, TASKS), ("Pendulum-v1", {"trial": 2, "randomise": {"g": [7, 13]}})]
)
def test_the_file_plays_trials_as_the_learner_does(env: str, kwargs: Any, tmp_path: Path) -> None:
    """Its memory goes on over the ends of episodes, and begins anew with a trial."""
    data = rounds(env, kwargs, max_episode_steps=12)
    learner = moved(learner_of(RecurrentPPO, data.spec, units=6, segment=4))
    export_policy(learner, tmp_path / "policy.onnx")
    ours, file = (
        rollout(act, env, episodes=6, seed=4, env_kwargs=kwargs, max_steps=30).returns
        for act in (learner.player(), OnnxPolicy(tmp_path / "policy.onnx"))
    )
    assert ours == pytest.approx(file, abs=1e-4) and len(set(ours)) > 1


@pytest.mark.slow
def test_the_arm_that_pays_is_found_and_held(tmp_path: Path) -> None:
    """TB23: with memory of a trial of four pulls 3.5 is the best there is, without it 2."""
    data = rounds(initial_episodes=20, episodes_per_round=128, epochs=4, num_envs=32, batch_size=32)
    learner = learner_of(
        RecurrentPPO,
        data.spec,
        units=32,
        segment=4,
        network=TanhNetwork(hidden=(32,)),
        optimizer=lambda params: torch.optim.Adam(params, lr=2e-3),
        evaluation=Evaluation(BANDIT, env_kwargs=TASKS),
    )
    fit(learner, data, tmp_path, 400)
    found = episodes(learner.eval(), 200, 5)
    assert sum(found.returns) / 200 == pytest.approx(3.5, abs=0.12)
