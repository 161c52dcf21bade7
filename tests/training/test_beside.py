"""Critics that read more than their policy: what they can represent, and what stays as it is."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import LENGTHS, episode_log
from small_fits import LEARNERS, check_resumed, data_for, equal, fit, learner_of, weights, whole_log
from small_replays import iterated

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import OBSERVATION, REWARD
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.policy_gradient import generalized_advantages
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.load import load_learner
from hindsight_rl.training.learner import Learner

ASYMMETRIC = [name for name, kind in LEARNERS.items() if kind.asymmetric]
READS = {"critic_reads": ("context", "load")}


def told(log: Log | None = None) -> Log:
    """Return a log with two numbers of each episode, and a third; each is the same in all rows."""
    log = episode_log(stated=True) if log is None else log
    episode = log.column("episode")
    draw = torch.randn(int(episode[-1]) + 1, 3, generator=torch.Generator().manual_seed(4))
    context = 5.0 + 2.0 * draw[:, :2]
    return log.with_columns({"context": context[episode], "load": draw[episode, 2]})


def case(name: str, log: Log | None = None, **arguments: Any) -> tuple[Any, Learner]:
    data = data_for(LEARNERS[name], told(log), arguments=arguments)
    return data, learner_of(LEARNERS[name], data.spec, **arguments)


# --- what it is for -------------------------------------------------------------------------------


def bandit() -> Log:
    """Return 200 episodes of one step, whose reward is +1 or -1 as their context is.

    Observations say nothing of it: the best value without it is the mean, 0, whose squared error
    is the variance, 1; with it the value is the context and the error 0.
    """
    log = episode_log([1] * 200, stated=True)
    sign = torch.where(torch.arange(200) % 4 < 2, 1.0, -1.0)
    ends = {("next", "terminated"): torch.ones(200, dtype=torch.bool)}
    ends[("next", "truncated")] = torch.zeros(200, dtype=torch.bool)
    still = {OBSERVATION: torch.arange(200)[:, None] % 2 * torch.ones(3)}
    return log.with_columns({**ends, **still, "context": sign[:, None], REWARD: sign})


@pytest.mark.parametrize(("reads", "error"), [((), 1.0), (("context",), 0.0)])
@pytest.mark.parametrize("name", ASYMMETRIC)
def test_a_value_knows_what_the_policy_is_not_shown(
    name: str, reads: tuple[str, ...], error: float, tmp_path: Path
) -> None:
    data = OfflineDataModule(bandit(), batch_size=100, updates_per_step=10)
    adam = functools.partial(torch.optim.Adam, lr=0.03)
    rates = {"learning_rates": {"value": 0.03}} if name == "TRPO" else {}
    learner = learner_of(LEARNERS[name], data.spec, critic_reads=reads, optimizer=adam, **rates)
    if name == "IQL":
        learner.expectile = 0.5  # the mean
    fit(learner, data, tmp_path, 400)
    batch = whole_log(learner, data)
    terms = learner.losses(learner.read(batch)).terms
    # Halved, or summed over two critics, as each learner has it.
    parts = {"PPO": 2.0, "TRPO": 2.0, "SAC": 1.0, "TD3": 0.5, "IQL": 0.5}
    found = parts[name] * float(terms["critic" if "critic" in terms else "value"])
    assert found == pytest.approx(error, abs=0.1)


@pytest.mark.parametrize("name", ["PPO", "TRPO"])
def test_advantages_are_those_of_the_value_that_reads_more(name: str) -> None:
    data, learner = case(name, **READS, scaling="raw", discount=0.9, lambda_=0.8)
    batch, spec = whole_log(learner, data), data.spec
    assert spec.beside["context"].shape == (2,) and spec.beside["load"].shape == (1,)
    told_apart = {n: batch[n].reshape(len(batch), -1) for n in READS["critic_reads"]}
    now = {OBSERVATION: batch[OBSERVATION], **told_apart}
    following = {OBSERVATION: batch["next", "observation"], **told_apart}
    with torch.no_grad():
        value, ahead = learner.value(now), learner.value(following)
    ends = batch["next", "terminated"], batch["episode_end"] == batch["index"]
    expected = generalized_advantages(
        batch["next", "reward"], value, ahead, *ends, discount=0.9, lambda_=0.8
    )
    torch.testing.assert_close(batch["advantage"], expected.float(), rtol=1e-4, atol=1e-5)
    other = batch.copy().set("beside", batch["beside"].clone())
    other["beside", "context"] = batch["context"].flip(0)
    moved = learner.losses(other).terms["value"]
    assert not torch.isclose(moved, learner.losses(batch).terms["value"])
    torch.testing.assert_close(
        learner.losses(other).terms["actor"], learner.losses(batch).terms["actor"]
    )


# --- what stays as it is --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ASYMMETRIC)
def test_the_policy_and_its_file_take_the_observation_alone(name: str, tmp_path: Path) -> None:
    data, learner = case(name, **READS)
    fit(learner, data, tmp_path, 10).save_checkpoint(tmp_path / "some.ckpt")
    observation = data.log.column(OBSERVATION)
    for network in (learner.networks()[part] for part in learner.networks()):
        assert all(bool(torch.isfinite(p).all()) for p in network.parameters())
    loaded = load_learner(tmp_path / "some.ckpt")
    assert equal(loaded.state_dict(), learner.state_dict())
    assert loaded.critic_reads == READS["critic_reads"] and loaded.spec == learner.spec
    with torch.no_grad():
        answers = learner.eval()(observation)
    assert torch.equal(loaded(observation), answers)
    export_policy(learner, tmp_path / "policy.onnx")
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    assert "beside" not in policy.contract and policy.contract["observation"]["shape"] == [3]
    found = np.stack([policy.act(each) for each in observation[:5].numpy()])
    np.testing.assert_allclose(found, answers[:5].numpy(), atol=1e-5)


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("name", ASYMMETRIC)
def test_a_resumed_run_ends_with_the_same_bits(name: str, seeds: int, tmp_path: Path) -> None:
    check_resumed(lambda: case(name, **READS, seeds=seeds), tmp_path)


@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_updates_in_one_graph_are_those_one_by_one(name: str, tmp_path: Path) -> None:
    ends = []
    for mode in ("off", "update"):
        data, learner = case(name, **READS, compile=mode)
        fit(learner, data, tmp_path, 16)
        ends.append(weights(learner))
    for key, value in ends[0].items():
        torch.testing.assert_close(ends[1][key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["SAC", "PPO"])
def test_what_is_drawn_of_an_environment_is_read_while_collecting(
    name: str, tmp_path: Path
) -> None:
    collection: dict[str, Any] = {"initial_episodes": 4, "episodes_per_round": 2}
    collection |= {"max_episode_steps": 20, "num_envs": 2}
    if name == "PPO":
        collection |= {"epochs": 2, "steps_per_round": 50}
    data = iterated(
        "Pendulum-v1",
        env_kwargs={"randomise": {"g": [7, 13], "m": [0.8, 1.2]}},
        batch_size=16,
        updates_per_step=8,
        **collection,
    )
    assert data.spec.beside["context"].shape == (2,)
    learner = learner_of(LEARNERS[name], data.spec, critic_reads=("context",))
    fit(learner, data, tmp_path, 100)
    assert len(data.history) > 1 and learner(torch.zeros(1, 3)).shape == (1, 1)


def test_a_spec_keeps_what_critics_may_read() -> None:
    spec = data_for(LEARNERS["SAC"], told()).spec
    assert set(spec.beside) == {"context", "load"}
    assert Spec.from_dict(spec.to_dict()) == spec
    context = told().column("context").double()
    mean = torch.tensor(spec.beside["context"].mean, dtype=torch.float64)
    torch.testing.assert_close(mean, context.mean(0))
    plain = data_for(LEARNERS["SAC"]).spec
    assert not plain.beside and "beside" not in plain.to_dict()


# --- what cannot be -------------------------------------------------------------------------------


def test_learners_without_such_a_critic_say_so() -> None:
    spec = data_for(LEARNERS["BC"], told()).spec
    with pytest.raises(ValueError, match="BC has no critic that may read more than its policy"):
        learner_of(LEARNERS["BC"], spec, critic_reads=("context",))
    assert set(ASYMMETRIC) == {"IQL", "PPO", "SAC", "TD3", "TRPO"}


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(ValueError, match=r"names 'mass', and the columns .* are: context, load\."):
        case("SAC", critic_reads=("mass",))
    with pytest.raises(ValueError, match="are: none"):
        learner_of(LEARNERS["SAC"], data_for(LEARNERS["SAC"]).spec, critic_reads=("mass",))
    with pytest.raises(ValueError, match="names 'observation', and the policy observes it"):
        case("SAC", critic_reads=("observation",))


def test_a_column_that_changes_within_an_episode_is_refused(tmp_path: Path) -> None:
    """Its value in the next state is not known; the row is named."""
    force = torch.zeros(sum(LENGTHS))
    force[2:] = 1.0
    log = episode_log(stated=True).with_columns({"force": force})
    data = OfflineDataModule(log, batch_size=16, updates_per_step=8)
    learner = learner_of(LEARNERS["SAC"], data.spec, critic_reads=("force",))
    with pytest.raises(ValueError, match=r"'force', and it changes within episode 0 \(row 2\)"):
        fit(learner, data, tmp_path, 2)


def test_a_log_without_the_column_is_refused(tmp_path: Path) -> None:
    """The learner was made for another log."""
    spec = data_for(LEARNERS["SAC"], told()).spec
    learner = learner_of(LEARNERS["SAC"], spec, critic_reads=("load",))
    data = OfflineDataModule(episode_log(), batch_size=16, updates_per_step=8)
    with pytest.raises(ValueError, match="load"):
        fit(learner, data, tmp_path, 2)
