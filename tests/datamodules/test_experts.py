"""Collecting with an expert: labels, who acts, what is asked, and what is refused. T28."""

from pathlib import Path
from typing import Any

import numpy as np
import policy_files
import pytest
import tiny_envs
import torch
from small_fits import fit, learner_of
from small_logs import same
from small_replays import iterated

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.expert import Beta, Expert
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.rounds import Round
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.expert_action import ExpertAction

DRIFT = "tiny_envs:Tiny/Drift-v0"


def still(observation: Any, task: Any, draws: Any) -> Any:
    """Return a policy's action: stay."""
    return np.zeros((len(observation), 1), np.float32)


def collected(
    expert: Expert, policy: Any = still, episodes: int = 40, *, number: int = 1, **options: Any
) -> dict[Any, Any]:
    """Return the columns of some episodes, their lengths and how often the expert was asked."""
    queries = options.pop("queries", 0)
    collector = Collector(DRIFT, options.pop("env_kwargs", None), expert=expert, **options)
    found = collector.collect(policy, 0, episodes, number=number, queries=queries)
    collector.close()
    return found.columns | {"lengths": found.lengths, "queries": found.queries}


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_labels_are_the_experts_whatever_was_executed(share: float) -> None:
    """T28: expert_action = -s in every row; executed so in a share beta, within 4 sigma."""
    found = collected(Expert("environment", Beta((1.0, share))))
    assert torch.equal(found["expert_action"], -found["observation"])
    by, rows = found["by_expert"], len(found["action"])
    assert abs(by.sum().item() - share * rows) <= 4 * (rows * share * (1 - share)) ** 0.5
    assert torch.equal(found["action"][by], found["expert_action"][by])
    assert (found["action"][~by] == 0).all()
    assert found["queries"] == rows == 400


def test_round_zero_is_the_experts() -> None:
    """The default [1, 0, 0, ...]; without a policy the rest is drawn at random."""
    assert collected(Expert("environment"), None, number=0)["by_expert"].all()
    assert not collected(Expert("environment"), number=1)["by_expert"].any()
    half = collected(Expert("environment", Beta((0.5,))), None, number=0)
    others = half["action"][~half["by_expert"]]
    assert 100 < len(others) < 300 and others.abs().max() > 5


def test_one_draw_may_decide_an_episode() -> None:
    found = collected(Expert("environment", Beta((0.5,), per="episode")))
    by = found["by_expert"].reshape(40, 10)
    assert (by.all(1) | ~by.any(1)).all() and 8 < by[:, 0].sum() < 32


def test_an_episode_does_not_depend_on_how_many_are_played_together() -> None:
    expert = Expert("environment", Beta((0.5,)), noise=0.1)
    one, many = (collected(expert, num_envs=count) for count in (1, 7))
    for key, value in one.items():
        assert value == many[key] if key == "queries" else torch.equal(value, many[key]), key


def test_noise_is_executed_and_the_label_stays_clean() -> None:
    """DART: executed - label is normal with the given spread, and inside the bounds."""
    found = collected(Expert("environment", Beta((1.0,)), noise=0.5))
    assert torch.equal(found["expert_action"], -found["observation"])
    difference = found["action"] - found["expert_action"]
    assert abs(difference.mean().item()) < 4 * 0.5 / 20
    assert difference.std().item() == pytest.approx(0.5, abs=4 * 0.5 / 800**0.5)
    clipped = collected(Expert("environment", Beta((1.0,)), noise=50.0))
    assert clipped["action"].abs().max() == 9.0
    with pytest.raises(ValueError, match=r"expert\.noise is added to real numbers"):
        collected(Expert("environment", noise=0.5), env_kwargs={"discrete": True})


def test_choices_are_labelled_in_the_environments_numbers() -> None:
    def policy(observation: Any, task: Any, draws: Any) -> Any:
        return np.zeros(len(observation), np.int64)

    found = collected(Expert("environment", Beta((0.5,))), policy, env_kwargs={"discrete": True})
    assert torch.equal(found["expert_action"], -found["observation"][:, 0].sign())
    assert found["action"].dtype == torch.int64
    by = found["by_expert"]
    assert torch.equal(found["action"][by].float(), found["expert_action"][by])


def test_an_expert_may_see_what_the_policy_does_not() -> None:
    """The policy sees the time; the label moves the hidden place, which only the env knows."""
    found = collected(Expert("tiny_envs:back"), env_kwargs={"hidden": True})
    assert set(found["observation"].flatten().tolist()) == set(range(10))
    assert found["expert_action"].unique().numel() == 400


def test_who_does_not_know_neither_labels_nor_acts() -> None:
    def right_only(observation: Any, task: Any, env: Any) -> Any:
        return np.where(observation > 0, -observation, np.nan)

    found = collected(Expert(right_only, Beta((1.0,))))
    known = found["observation"][:, 0] > 0
    assert torch.equal(found["expert_action"].isfinite()[:, 0], known)
    assert torch.equal(found["by_expert"], known) and 0 < known.sum() < 400
    nobody = collected(Expert(None, Beta((1.0,))))
    assert nobody["expert_action"].isnan().all() and not nobody["by_expert"].any()
    assert nobody["queries"] == 0


def test_an_exported_file_keeps_a_state_for_each_episode(tmp_path: Path) -> None:
    """Its answer is h' = h / 2 + observation; h = (1, -1) where an episode begins."""
    path = str(policy_files.leaky_sum(tmp_path / "policy.onnx"))
    env = "tiny_envs:Tiny/Walk-v0"
    with pytest.raises(RolloutError, match=r"takes real numbers \[1\], and the policy gives"):
        Collector(env, expert=Expert(path))

    class Plane(tiny_envs.Walk):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = tiny_envs.spaces.Box(-9.0, 9.0, (2,), np.float32)

    def policy(observation: Any, task: Any, draws: Any) -> Any:
        return np.zeros((len(observation), 2), np.float32)

    collector = Collector(Plane, expert=Expert(path), num_envs=3)
    found = collector.collect(policy, 0, 7, number=1)
    start = 0
    for length in found.lengths.tolist():
        kept = torch.tensor([1.0, -1.0])
        for row in range(start, start + length):
            kept = kept / 2 + found.columns["observation"][row]
            torch.testing.assert_close(found.columns["expert_action"][row], kept)
        start += length


@pytest.mark.parametrize("count", [1, 8])
def test_questions_end_with_the_budget(count: int) -> None:
    """57 questions, 20 of them asked before: 37 labels, and afterwards the policy alone acts."""
    expert = Expert("environment", Beta((1.0,)), max_queries=57)
    found = collected(expert, num_envs=count, queries=20)
    labelled = found["expert_action"].isfinite()[:, 0]
    assert labelled.sum() == found["queries"] == 37
    assert torch.equal(found["by_expert"], labelled)
    assert collected(expert, queries=57)["queries"] == 0


def test_stuck_episodes_are_cut() -> None:
    """One that moves by 3 a step is never within 2 of where it was 3 steps before."""

    def policy(observation: Any, task: Any, draws: Any) -> Any:
        return np.full((len(observation), 1), 3.0, np.float32)

    moving = Collector(DRIFT, stuck=(3, 2.0)).collect(policy, 0, 20)
    assert moving.lengths.tolist() == [10] * 20
    standing = Collector(DRIFT, stuck=(3, 2.0)).collect(still, 0, 20)
    assert standing.lengths.min() == 3
    ends = standing.lengths.cumsum(0) - 1
    assert standing.columns["next", "truncated"][ends].all()
    start = 0
    for length in standing.lengths.tolist():
        seen = standing.columns["observation"][start : start + length, 0].tolist()
        seen.append(standing.columns["next", "observation"][start + length - 1, 0].item())
        stays = [
            max(abs(seen[t - k] - seen[t - 3]) for k in range(3)) <= 2 for t in range(3, length + 1)
        ]
        assert not any(stays[:-1]) and (stays[-1] or length == 10)
        start += length
    none = Collector(DRIFT, stuck=(3, 0.0)).collect(still, 0, 20)
    assert none.lengths.tolist() == [10] * 20


# --- rounds ---------------------------------------------------------------------------------------


def data_of(expert: Expert | None = None, **options: Any) -> IteratedDataModule:
    """Return a small datamodule that trains on the expert's actions."""
    plain: dict[str, Any] = {
        "initial_episodes": 4,
        "episodes_per_round": 3,
        "updates_per_env_step": 0.5,
        "batch_size": 8,
        "updates_per_step": 5,
        "num_envs": 2,
        "sample": False,
        "seed": 3,
    }
    given = Expert("environment") if expert is None else expert
    return iterated(DRIFT, [ExpertAction()], expert=given, **plain | options)


def test_rounds_count_rows_episodes_and_questions(tmp_path: Path) -> None:
    data = data_of()
    fit(learner_of(BC, data.spec), data, tmp_path, 60)
    assert [each.queries for each in data.history] == [40, 70, 100, 130]
    assert [each.update for each in data.history] == [0, 20, 35, 50]
    assert data.history[-1].metrics()["collect/queries"] == 130
    by = data.log.column("by_expert")
    assert by[:40].all() and not by[40:].any()
    back = -data.log.column("observation").clamp(-9, 9)  # inside the bounds of actions
    assert torch.equal(data.log.column("action"), back)
    batch = data.on_after_batch_transfer(data._sampler().chunk(3, 1), 0)
    assert torch.equal(batch["action"], -batch["observation"].clamp(-9, 9))


@pytest.mark.parametrize(
    ("budget", "episodes", "queries"),
    [({"max_rows": 61}, 7, 70), ({"max_episodes": 8}, 8, 80), ({"max_queries": 55}, 13, 55)],
)
def test_budgets_end_what_they_are_for(
    budget: dict[str, int], episodes: int, queries: int, tmp_path: Path
) -> None:
    """Rows and episodes end collecting, questions end asking; updates go on."""
    data = data_of(Expert("environment", **budget))
    trainer = fit(learner_of(BC, data.spec), data, tmp_path, 60)
    assert trainer.global_step == 60
    assert data.history[-1].episodes == episodes and data.history[-1].queries == queries
    assert len(data.log.drawable()) == queries


def test_demonstrations_are_round_zero(tmp_path: Path) -> None:
    """A source without labels: its actions are the expert's if one says so; else an error."""
    found = collected(Expert("environment", Beta((1.0,))), episodes=5)
    number = torch.arange(5).repeat_interleave(found.pop("lengths"))
    found.pop("queries")
    info = Collector(DRIFT).info
    full = Log.from_columns(found | {"episode": number}, info)
    del found["expert_action"], found["by_expert"]
    log = Log.from_columns(found | {"episode": number}, info)
    options = {"initial_episodes": 0, "source": log}
    with pytest.raises(
        LogError, match=r"no column 'expert_action'.*demonstrations true; else label"
    ):
        data_of(**options)
    data = data_of(Expert("environment", demonstrations=True), **options)
    same_as = data_of(Expert("environment"), **options | {"source": full})
    assert data.log.column("by_expert").all()
    for key in ("action", "expert_action"):
        assert torch.equal(data.log.column(key), same_as.log.column(key))
    fit(learner_of(BC, data.spec), data, tmp_path, 20)
    assert not data.log.column("by_expert")[50:].any()
    assert data.history[0].queries == 30


def test_nobody_labels_and_a_labelled_source_is_trained_on(tmp_path: Path) -> None:
    found = collected(Expert("environment"), episodes=5)
    number = torch.arange(5).repeat_interleave(found.pop("lengths"))
    found.pop("queries")
    log = Log.from_columns(found | {"episode": number}, Collector(DRIFT).info)
    data = data_of(Expert(None), initial_episodes=0, source=log)
    fit(learner_of(BC, data.spec), data, tmp_path, 20)
    assert len(data.log) == 110 and data.log.drawable().tolist() == list(range(50))


def test_a_learner_of_rewards_is_refused(tmp_path: Path) -> None:
    data = data_of()
    with pytest.raises(ValueError, match=r"IQL reads 'next\.\w+', which belongs to the executed"):
        fit(learner_of(IQL, data.spec), data, tmp_path, 5)


@pytest.mark.parametrize("act", ["environment", "tiny_envs:Counting"])
def test_a_fit_that_was_stopped_goes_on_as_if_it_was_not(act: str, tmp_path: Path) -> None:
    """In the middle of a round and at its edge; an expert that keeps something, too."""
    expert = Expert(act, Beta(linear=4), noise=0.1, max_queries=110)
    straight = data_of(expert)
    one = learner_of(BC, straight.spec)
    fit(one, straight, tmp_path, 70)
    for stop in (27, straight.history[2].update):
        data = data_of(expert)
        trainer = fit(learner_of(BC, data.spec), data, tmp_path, stop)
        trainer.save_checkpoint(tmp_path / "stopped.ckpt")
        resumed = data_of(expert)
        two = learner_of(BC, resumed.spec)
        fit(two, resumed, tmp_path, 70, ckpt_path=tmp_path / "stopped.ckpt")
        assert resumed.history == straight.history
        assert all(
            torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)
        )
        for key in straight.log.keys():
            here, there = (each.log.column(key) for each in (straight, resumed))
            assert torch.equal(here.float().nan_to_num(7), there.float().nan_to_num(7)), key
    state = straight.state_dict()["expert"]
    assert state == ({"count": 110} if "Counting" in act else {})


def test_a_checkpoint_of_a_release_without_experts_is_resumed(tmp_path: Path) -> None:
    data = iterated(DRIFT, None, initial_episodes=4, batch_size=8, seed=3)
    state = data.state_dict()
    state["history"] = [
        {k: v for k, v in each.items() if k != "queries"} for each in state["history"]
    ]
    del state["expert"]
    data.load_state_dict(state)
    assert [each.queries for each in data.history] == [None]
    assert "collect/queries" not in data.history[0].metrics()
    assert isinstance(data.history[0], Round)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beta(()), r"beta\.values is \[\]: give shares in \[0, 1\]"),
        (lambda: Beta((1.5,)), r"beta\.values is \[1\.5\]"),
        (lambda: Beta(linear=0), r"beta\.linear is 0, it must be at least 1"),
        (lambda: Beta(power=2.0), r"beta\.power is 2\.0, it must lie in \[0, 1\]"),
        (lambda: Beta(linear=3, power=0.5), "two schedules: give one of them"),
        (lambda: Beta(per="row"), "beta.per is 'row', it must be 'step' or 'episode'"),  # type: ignore[arg-type]
        (lambda: Expert(noise=-1.0), r"expert\.noise is -1\.0"),
        (lambda: Expert(max_queries=0), r"expert\.max_queries is 0, it must be at least 1"),
        (lambda: Collection(max_stuck=0), r"collection\.max_stuck is 0"),
        (
            lambda: Collection(expert=Expert(max_episodes=3)),
            "initial_episodes is 20, and the expert's max_episodes 3",
        ),
    ],
)
def test_numbers_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_answers_that_are_no_actions_are_errors() -> None:
    with pytest.raises(ValueError, match=r"the expert answered with shape \[\d, 2\], and"):
        collected(Expert(lambda o, t, e: np.zeros((1, 2))))
    with pytest.raises(ValueError, match="the expert answered with numbers that are not finite"):
        collected(Expert(lambda o, t, e: np.full((1, 1), np.inf)))
    with pytest.raises(RolloutError, match="names no expert"):
        Collector("tiny_envs:Tiny/Walk-v0", expert=Expert("environment"))


def test_the_experts_of_four_rooms_walks_to_the_goal() -> None:
    expert = Expert("environment", Beta((1.0,)))
    found = Collector("Hindsight/FourRooms-v0", expert=expert, num_envs=4).collect(None, 0, 12)
    assert found.successes is not None and found.successes.all()
    assert found.columns["by_expert"].all()


def test_same_seed_same_rounds() -> None:
    one, two = (data_of() for _ in range(2))
    chunks = [data._sampler().chunk(0, 2) for data in (one, two)]
    assert same(*chunks)
