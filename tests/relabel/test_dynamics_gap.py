"""Rewards corrected by how much likelier a step is in the target."""

import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from episode_logs import drawn, episode_log
from small_fits import Kept, check_resumed, differences, equal, fit, learner_of, weights
from small_logs import same
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import REWARD, TERMINATED
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.dynamics_gap import DynamicsGap
from hindsight_rl.relabel.once import Once
from hindsight_rl.relabel.returns import NStep

SMALL: dict[str, Any] = {"hidden": (8,), "learning_rate": 3e-2, "warmup": 0, "noise": 0.0}


def gap(**options: Any) -> DynamicsGap:
    return DynamicsGap(**SMALL | options)


def coin(ones: int, rows: int = 20, reward: float = 1.0) -> Log:
    """Return episodes of one step from 0, which leads to 1 in so many of them and else to -1."""
    columns: dict[Any, Tensor] = {
        "observation": torch.zeros(rows, 1),
        "action": torch.zeros(rows, dtype=torch.int64),
        "episode": torch.arange(rows),
        ("next", "observation"): torch.where(torch.arange(rows) < ones, 1.0, -1.0)[:, None],
        REWARD: torch.full((rows,), reward),
        TERMINATED: torch.zeros(rows, dtype=torch.bool),
        ("next", "truncated"): torch.ones(rows, dtype=torch.bool),
    }
    return Log.from_columns(columns, {"discrete_actions": 2})


def both(*logs: Log, shares: tuple[float, ...] = (1.0, 1.0)) -> Log:
    return Log.concatenate(logs, shares)


def two_logs(**options: Any) -> Log:
    return both(*(episode_log(goals=True, seed=seed, **options) for seed in (0, 1)))


def corrected(log: Log, relabeler: DynamicsGap, updates: int = 200) -> tuple[TensorDict, Any]:
    """Return the last batches of some updates, relabeled, and the bound relabeler."""
    chunk, chain = drawn(log, relabeler, updates=updates)
    return chain(chunk)[-20:], chain.relabelers[0]


# --- what is learned ------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [(1.0, 1.0), (1.0, 9.0)])
def test_the_correction_ends_at_the_log_ratio_of_tb21(shares: tuple[float, float]) -> None:
    """p_target = (.9, .1), p_source = (.5, .5): log ratios .587787 and -1.609438."""
    batch, bound = corrected(both(coin(18), coin(10), shares=shares), gap())
    reward, up = batch["next", "reward"], batch["next", "observation"][..., 0] > 0
    source = batch["index"] >= 20
    assert float(reward[source & up].mean()) == pytest.approx(1.587787, abs=0.1)
    assert float(reward[source & ~up].mean()) == pytest.approx(1.0 - 1.609438, abs=0.2)
    assert bool((reward[~source] == 1.0).all())
    assert float(bound.metrics["gap_auc_pair"]) == pytest.approx(0.5, abs=0.05)
    assert float(bound.metrics["gap_auc_step"]) > 0.6


def test_equal_dynamics_leave_rewards_nearly_as_they_are() -> None:
    batch, bound = corrected(both(coin(10), coin(10)), gap())
    assert float((batch["next", "reward"] - 1.0).abs().max()) < 0.15
    assert float(bound.metrics["gap"]) == pytest.approx(0.0, abs=0.1)


def test_noise_makes_a_step_that_is_only_ever_the_sources_less_than_certain() -> None:
    """Target always up, source always down, at +1 and -1 once standardised.

    With noise s the ratio at the source's step is log N(-1; 1, s) / N(-1; -1, s) = -2^2 / (2 s^2).
    """
    log = both(coin(20), coin(0))
    found = {}
    for noise in (0.0, 2.0):
        batch, _ = corrected(log, gap(noise=noise), updates=400)
        source = batch["index"] >= 20
        found[noise] = float(batch["next", "reward"][source].mean()) - 1.0
    assert found[0.0] < -6.0
    assert found[2.0] == pytest.approx(-0.5, abs=0.2)


def test_before_the_warm_up_ends_rewards_stay_and_the_gap_is_measured() -> None:
    log = both(coin(18), coin(10))
    chunk, chain = drawn(log, gap(warmup=3), updates=6)
    batch = chain(chunk)
    assert batch["next", "reward"][:3].equal(chunk["next", "reward"][:3])
    assert not batch["next", "reward"][3:].equal(chunk["next", "reward"][3:])
    assert float(chain.relabelers[0].metrics["gap"]) != 0.0


def test_coefficient_nothing_is_the_identity_and_measures() -> None:
    log = two_logs()
    chunk, chain = drawn(log, gap(coefficient=0.0), updates=4)
    before = chunk.clone()
    batch = chain(chunk)
    words = [one["next", "reward"].view(torch.int32) for one in (batch, before)]
    assert words[0].equal(words[1]) and same(chunk, before)
    assert chain.state_dict()["0"]["updates"] == 4


def test_logs_of_other_places_are_warned_of() -> None:
    far = episode_log(goals=True)
    far = far.with_columns({"observation": far.column("observation") + 50.0})
    relabeler = gap(warmup=20)
    with pytest.warns(UserWarning, match="tells target from source by state and action alone"):
        corrected(both(far, episode_log(goals=True)), relabeler, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        corrected(both(coin(18), coin(10)), relabeler, 60)


# --- which rows -----------------------------------------------------------------------------------


def test_both_sides_are_drawn_from_their_own_rows() -> None:
    log = two_logs()
    first = log.sources[0].stop
    chunk, chain = drawn(log, gap(train_on_target=False))
    sides = {k: chunk["companion", f"0/{k}", "index"] for k in ("target", "source")}
    assert set(sides["target"].flatten().tolist()) == set(range(first))
    assert set(sides["source"].flatten().tolist()) == set(range(first, len(log)))
    assert chain.rows is not None and chain.rows.tolist() == list(range(first, len(log)))
    assert drawn(log, gap())[1].rows is None


def test_a_column_may_say_which_rows_are_the_targets() -> None:
    log = episode_log(goals=True)
    flag = (torch.arange(len(log)) % 3 == 0).float()
    part = gap(target="robot").prepare(log.with_columns({"robot": flag}))
    assert part._sides["target"].tolist() == list(range(0, len(log), 3))
    with pytest.raises(ValueError, match="no column 'robot' to tell target rows by"):
        gap(target="robot").prepare(log)


# --- learning once --------------------------------------------------------------------------------


def test_goes_on_from_its_state_bit_by_bit() -> None:
    chunk, straight = drawn(two_logs(), gap(noise=0.5), updates=6)
    whole = straight(chunk)
    _, first = drawn(two_logs(), gap(noise=0.5))
    first(chunk[:2])
    _, second = drawn(two_logs(), gap(noise=0.5, seed=5))
    second.load_state_dict(first.state_dict())
    assert same(second(chunk[2:4]), whole[2:4]) and same(second(chunk[4:]), whole[4:])
    assert differences(straight.state_dict(), second.state_dict()) == []
    _, other = drawn(two_logs(), gap(hidden=(4,)))
    with pytest.raises(ValueError, match="set hidden of DynamicsGap as in the run"):
        other.load_state_dict(first.state_dict())


def test_batches_seen_again_and_validation_teach_nothing() -> None:
    chunk, chain = drawn(two_logs(), gap())
    with torch.inference_mode():
        chain(chunk.clone())
    assert chain.state_dict() == {}
    chain(chunk)
    before = [weight.clone() for weight in chain.relabelers[0].weights]
    chain(chunk)
    assert all(torch.equal(a, b) for a, b in zip(before, chain.relabelers[0].weights, strict=True))


def test_two_ranks_equal_one_with_the_joined_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gloo between two threads: each shows its own rows, and the weights are those of all."""
    log, relabeler = two_logs(), gap(noise=0.5)
    chunk, whole = drawn(log, relabeler, updates=8, batch_size=12)
    expected = whole(chunk)
    store, here = torch.distributed.HashStore(), threading.local()
    found: dict[int, Any] = {}

    def gather(parts: list[Tensor], value: Tensor) -> None:
        here.group.allgather([parts], [value]).wait()

    def learn(rank: int) -> None:
        here.group = torch.distributed.ProcessGroupGloo(store, rank, 2)
        chain = drawn(log, relabeler)[1]
        found[rank] = (chain(chunk[:, 6 * rank : 6 * rank + 6]), chain.relabelers[0])

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", gather)
    threads = [threading.Thread(target=learn, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for rank in range(2):
        for one, two in zip(found[rank][1].weights, whole.relabelers[0].weights, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=1e-6)
    joined = torch.cat([found[rank][0]["next", "reward"] for rank in range(2)], dim=1)
    torch.testing.assert_close(joined, expected["next", "reward"], rtol=1e-5, atol=1e-4)


# --- with a learner -------------------------------------------------------------------------------


def test_offline_beside_iql_it_trains_and_says_what_it_does(tmp_path: Path) -> None:
    data = OfflineDataModule(two_logs(), [gap()], batch_size=16, updates_per_step=4)
    learner, kept = learner_of(IQL, data.spec), Kept()
    fit(learner, data, tmp_path, 8, logger=kept, log_every_n_steps=4)
    names = ("gap", "gap_loss", "gap_auc_pair", "gap_auc_step")
    assert all(kept.steps_of(f"data/{name}") == [4, 8] for name in names)


def test_offline_it_resumes_bit_by_bit_and_no_gradient_reaches_it(tmp_path: Path) -> None:
    """The relabeler's weights are the same beside another learner: nothing of it comes back."""

    def begun(kind: Any = SAC) -> tuple[OfflineDataModule, Any]:
        data = OfflineDataModule(
            two_logs(), [gap(noise=0.5)], batch_size=16, updates_per_step=2, seed=1
        )
        return data, learner_of(kind, data.spec)

    state = check_resumed(begun, tmp_path)["0"]
    assert state["updates"] == 10
    data, other = begun(IQL)
    fit(other, data, tmp_path / "other", 10)
    assert differences(data.relabel.state_dict()["0"], state) == []


def online(env: str = "Pendulum-v1") -> IteratedDataModule:
    short = Collection(initial_episodes=1, episodes_per_round=1, max_episode_steps=12, num_envs=1)
    robot = IteratedDataModule(env, env_kwargs={"g": 7.0}, collection=short, seed=9).log
    robot = Log.from_columns({key: robot.column(key) for key in robot.keys()}, robot.info)
    return IteratedDataModule(
        env,
        [gap(train_on_target=False, warmup=10)],
        source=robot,
        collection=short,
        mix={"log": 0.25, "collected": 0.75},
        batch_size=16,
        updates_per_step=4,
        seed=3,
    )


@pytest.mark.filterwarnings("ignore:.*the relabelers leave none of its:UserWarning")
def test_online_the_source_is_what_is_collected_and_a_resume_is_exact(tmp_path: Path) -> None:
    (data, other, straight) = (online() for _ in range(3))
    learner, again, last = (learner_of(SAC, each.spec) for each in (data, other, straight))
    fit(learner, data, tmp_path, 20).save_checkpoint(tmp_path / "twenty.ckpt")
    fit(last, straight, tmp_path, 40)
    fit(again, other, tmp_path, 40, ckpt_path=tmp_path / "twenty.ckpt")
    assert equal(weights(last), weights(again))
    assert differences(straight.relabel.state_dict(), other.relabel.state_dict()) == []
    part, log = straight.relabel.relabelers[0], straight.log
    assert isinstance(part, DynamicsGap) and len(straight.history) >= 3
    assert part._sides["target"].tolist() == list(range(log.sources[0].stop))
    assert log.drawable().tolist() == part._sides["source"].tolist()


# --- errors ---------------------------------------------------------------------------------------


def test_what_has_no_meaning_is_refused() -> None:
    message = r"walk is the only one: give data.source \[TARGET, LOG\].*with data.mix"
    with pytest.raises(ValueError, match=message):
        gap().prepare(episode_log(goals=True))
    with pytest.raises(ValueError, match="rows with a 'discount' stand for several: leave NStep"):
        OfflineDataModule(two_logs(), [NStep(3), gap()])
    with pytest.raises(ValueError, match="NStep is prepared on 'next.reward'"):
        OfflineDataModule(two_logs(), [gap(), NStep(3)])
    with pytest.raises(ValueError, match="DynamicsGap learns while a policy is fitted"):
        OfflineDataModule(two_logs(), [Once([gap()])])
    chunk, chain = drawn(two_logs(), gap())
    with pytest.raises(ValueError, match="rows of one learner: set model.seeds to 1$"):
        chain(chunk.unsqueeze(1).expand(4, 2, 64))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"coefficient": -1.0}, "coefficient is -1.0, it must be at least 0"),
        ({"clip": 0.0}, "clip is 0.0, it must be above 0"),
        ({"warmup": -1}, "warmup is -1 updates"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"hidden": (0,)}, r"hidden is \[0\]"),
        ({"learning_rate": 0.0}, "learning_rate is 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gap(**arguments)
