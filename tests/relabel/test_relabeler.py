"""The contract of the data step: chains, streams of draws, and that nothing is written to."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from episode_logs import bind, drawn, episode_log, leaves, relabeled
from relabelers import chain, relabelers
from small_logs import same
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import COMPANION, DRAWS
from hindsight_rl.maths.draws import fork
from hindsight_rl.maths.returns import last_rows
from hindsight_rl.relabel.ascent import AscendTask
from hindsight_rl.relabel.chain import Compose, parts_of
from hindsight_rl.relabel.count_bonus import CountBonus
from hindsight_rl.relabel.diayn import DIAYN
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import EpisodeGoal, FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.learned_bonus import RND
from hindsight_rl.relabel.learned_task import LearnedTask
from hindsight_rl.relabel.marginal_matching import StateMarginalMatching
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import NStep, ReturnToGo, ReturnWeight, ScaleReward
from hindsight_rl.tasks.family import GoalReaching

REWARD = ("next", "reward")
EVERY: dict[str, Callable[[], Relabeler]] = {
    "Relabeler": Relabeler,
    "Compose": Compose,
    "FinalGoal": lambda: FinalGoal(fraction=0.5),
    "FutureGoal": lambda: FutureGoal(fraction=0.5),
    "geometric FutureGoal": lambda: FutureGoal(offset="geometric", discount=0.8),
    "EpisodeGoal": lambda: EpisodeGoal(fraction=0.5),
    "RandomTask": lambda: RandomTask(fraction=0.5),
    "InverseRL": lambda: InverseRL(candidates=5, fraction=0.5),
    "InverseRL of steps": lambda: InverseRL(candidates=5, unit=3, fraction=0.5),
    "InverseRL of what is fulfilled": lambda: InverseRL(
        GoalReaching(0.5), candidates=5, unit="rest", score="fulfilled", perplexity=2
    ),
    "TransitionInverseRL": lambda: TransitionInverseRL(
        candidates=5, propose="reached", fraction=0.5
    ),
    "LearnedTask": lambda: LearnedTask([[0.0, 1.0], [1.0, 0.0]], fraction=0.5),
    "AscendTask": lambda: AscendTask(GoalReaching(kind="dense")),
    "TopFraction": lambda: TopFraction(0.5),
    "ReturnToGo": ReturnToGo,
    "ReturnWeight": ReturnWeight,
    "NStep": lambda: NStep(3),
    "ScaleReward": lambda: ScaleReward(2.0, shift=1.0),
    "two goals": lambda: Compose([FutureGoal(fraction=0.5), FinalGoal(fraction=0.5)]),
    "nested": lambda: Compose([Compose([ReturnToGo(), FutureGoal()]), FinalGoal(fraction=0.5)]),
}
for _name, _kind in relabelers().items():
    EVERY.setdefault(_name, partial(lambda kind: Compose(chain(kind)), _kind))


class Change(Relabeler):
    """Applies a function to the reward."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.change = change

    def __call__(self, batch: TensorDict) -> TensorDict:
        following = batch["next"].copy()
        following.set("reward", self.change(following["reward"]))
        return batch.copy().set("next", following)


class Keep(Relabeler):
    """Keeps the counters it was given, as a key of the batch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def __call__(self, batch: TensorDict) -> TensorDict:
        return batch.copy().set(self.name, batch[DRAWS])


class Ahead(Relabeler):
    """Adds the observation two steps on, or that of the episode's last step."""

    out_keys = ("ahead",)

    def prepare(self, log: Any) -> "Ahead":
        other = self.bound()
        other.end = log.column("episode_end")
        return other

    def companions(self, index: Tensor, draws: Tensor) -> dict[str, Tensor]:
        return {"last": torch.minimum(index + 2, self.end[index])}

    def __call__(self, batch: TensorDict) -> TensorDict:
        return batch.copy().set("ahead", batch[COMPANION, "last"]["observation"])


def learns(relabeler: Relabeler) -> bool:
    """Return whether a part learns from batches."""
    return any(part.learns for part in parts_of(relabeler))


@pytest.fixture(params=EVERY.values(), ids=EVERY.keys())
def relabeler(request: pytest.FixtureRequest) -> Relabeler:
    return request.param()


def test_compose_applies_first_to_last() -> None:
    """Compose(a, b)(td) == b(a(td)), and a, b do not commute."""
    plus, twice = Change(lambda r: r + 1), Change(lambda r: 2 * r)
    chunk, _ = drawn(episode_log())
    assert same(Compose([plus, twice])(chunk), twice(plus(chunk)))
    assert not same(Compose([plus, twice])(chunk), plus(twice(chunk)))


def test_empty_compose_is_the_identity() -> None:
    chunk, bound = drawn(episode_log())
    assert same(bound(chunk), chunk)


def test_base_class_changes_nothing() -> None:
    log = episode_log()
    chunk, _ = drawn(log)
    relabeler = Relabeler()
    assert relabeler.prepare(log) is relabeler
    assert relabeler.companions(chunk["index"], chunk[DRAWS]) == {}
    assert same(relabeler(chunk), chunk)


def test_input_is_not_written_to(relabeler: Relabeler) -> None:
    """Neither keys nor numbers of the batch change, nor those of the log."""
    log = episode_log(task=True, goals=True)
    columns = {key: log.column(key).clone() for key in log.keys()}
    chunk, bound = drawn(log, relabeler)
    before, keys = chunk.clone(), set(chunk.keys(True))
    bound(chunk)
    assert set(chunk.keys(True)) == keys
    assert same(chunk, before)
    assert log.keys() == list(columns)
    assert all(torch.equal(log.column(key), value) for key, value in columns.items())


def test_prepare_leaves_the_original_unbound(relabeler: Relabeler) -> None:
    before = {name: str(value) for name, value in vars(relabeler).items()}
    relabeler.prepare(episode_log(task=True, goals=True))
    assert {name: str(value) for name, value in vars(relabeler).items()} == before


def test_same_draws_give_the_same_batch(relabeler: Relabeler) -> None:
    log = episode_log(task=True, goals=True)
    first, second = relabeled(log, relabeler), relabeled(log, relabeler)
    assert same(first, second)
    chunk, bound = drawn(log, relabeler)
    with torch.set_grad_enabled(not learns(bound)):  # what was learned in between counts
        assert same(bound(chunk), bound(chunk))


def test_batch_shape_is_kept_and_companions_are_dropped(relabeler: Relabeler) -> None:
    batch = relabeled(episode_log(task=True, goals=True), relabeler, updates=3, batch_size=5)
    assert batch.batch_size == (3, 5)
    assert all(value.shape[:2] == (3, 5) for value in leaves(batch).values())
    assert COMPANION not in batch.keys()


def test_rows_do_not_depend_on_their_chunk(relabeler: Relabeler) -> None:
    """The third stage works row by row: relabeling one update alone gives the same numbers."""
    chunk, bound = drawn(episode_log(task=True, goals=True), relabeler)
    with torch.set_grad_enabled(not learns(bound)):
        assert same(bound(chunk)[2:3], bound(chunk[2:3]))


def test_each_part_draws_from_its_own_stream() -> None:
    chunk, _ = drawn(episode_log())
    batch = Compose([Keep("one"), Compose([Keep("two")]), Keep("three")])(chunk)
    assert batch["one"].equal(fork(chunk[DRAWS], 0))
    assert batch["two"].equal(fork(fork(chunk[DRAWS], 1), 0))
    assert batch["three"].equal(fork(chunk[DRAWS], 2))
    assert batch[DRAWS].equal(chunk[DRAWS])


def test_companions_of_nested_parts_reach_their_owner() -> None:
    """Two goal relabelers and one that looks ahead, nested: each finds the row it asked for."""
    log = episode_log(goals=True)
    future, final, far = FutureGoal(), FinalGoal(), Ahead()
    nested = Compose([Compose([future, far]), final])
    chunk, bound = drawn(log, nested)
    index, draws = chunk["index"], chunk[DRAWS]
    asked = bound.companions(index, draws)
    end = log.column("episode_end")[index]
    assert set(asked) == {"0/0/0/goal", "0/0/1/last", "0/1/goal"}
    inner = fork(fork(fork(draws, 0), 0), 0)
    assert asked["0/0/0/goal"].equal(future.prepare(log).companions(index, inner)["goal"])
    assert asked["0/0/1/last"].equal(torch.minimum(index + 2, end))
    assert asked["0/1/goal"].equal(end)
    batch = bound(chunk)
    # The last relabeler has the last word on the task.
    assert batch["task"].equal(log.column(("next", "achieved_goal"))[end])
    assert batch["ahead"].equal(log.column("observation")[asked["0/0/1/last"]])


def test_later_parts_see_the_columns_of_earlier_ones() -> None:
    """Returns after scaling are scaled; returns before it are not, but the reward is."""
    log = episode_log([2, 1], reward=[1.0, 2.0, 4.0])
    scaled, _ = bind(log, Compose([ScaleReward(10.0), ReturnToGo(1.0)]))
    assert scaled.column("return_to_go").tolist() == [30, 20, 40]
    plain, _ = bind(log, Compose([ReturnToGo(1.0), ScaleReward(10.0)]))
    assert plain.column("return_to_go").tolist() == [3, 2, 4]
    assert plain.column(REWARD).tolist() == [10, 20, 40]


def test_later_parts_see_the_rows_of_earlier_ones() -> None:
    """Half of the best half: one of four episodes; its weights average 1 over its rows."""
    log = episode_log([1, 1, 1, 2], reward=[1.0, 5.0, 3.0, 4.0, 4.0])
    ready, bound = bind(log, Compose([TopFraction(0.5), TopFraction(0.5), ReturnWeight()]))
    assert ready.drawable().tolist() == [3, 4]
    assert ready.column("weight")[3:].mean().item() == pytest.approx(1.0)
    assert bound.rows is not None and bound.rows.tolist() == [3, 4]


# --- order ----------------------------------------------------------------------------------------


class Scaled(Relabeler):
    """Sets the reward before the first draw, out of nothing."""

    out_keys = (REWARD,)

    def prepare(self, log: Any) -> "Scaled":
        return self.bound(columns={REWARD: torch.ones(len(log))})


@pytest.mark.parametrize(
    ("relabelers", "message"),
    [
        (
            [FutureGoal(fraction=0.5), ScaleReward(10.0, 5.0)],
            r"^ScaleReward is prepared on 'next.reward' of the log, but FutureGoal, which stands "
            r"before it, rewrites that afterwards: put ScaleReward before FutureGoal \(rewards of "
            r"new goals are those of its task family\)$",
        ),
        ([FinalGoal(), ReturnToGo()], "put ReturnToGo before FinalGoal"),
        ([FinalGoal(), ReturnWeight()], "put ReturnWeight before FinalGoal"),
        ([FutureGoal(), TopFraction(0.5)], "put TopFraction before FutureGoal"),
        ([ReturnTask(), TopFraction(0.5, score="task")], "on 'task' of the log"),
        ([FutureGoal(), Scaled()], "put Scaled before FutureGoal"),
        ([Compose([FutureGoal()]), Compose([ReturnToGo()])], "put ReturnToGo before FutureGoal"),
        ([NStep(3), ReturnToGo()], "put ReturnToGo before NStep$"),
        ([NStep(3), ScaleReward(2.0)], "put ScaleReward before NStep$"),
        ([NStep(3), TopFraction(0.5)], "put TopFraction before NStep$"),
        ([NStep(3), TopFraction(0.5, score="next.achieved_goal")], "before NStep$"),
        ([NStep(3), NStep(2)], "NStep stands twice, and the second works on 'next.reward'"),
        ([NStep(3), FutureGoal()], "NStep and FutureGoal together have no meaning: rewards summed"),
        ([FutureGoal(), NStep(3)], "FutureGoal and NStep together have no meaning.*leave one"),
        ([FinalGoal(), Compose([NStep(3)])], "FinalGoal and NStep together have no meaning"),
        (
            [CountBonus(), FutureGoal(fraction=0.5)],
            "^CountBonus adds to the reward of a row, and FutureGoal, which stands behind it, "
            "gives the row another: put FutureGoal before CountBonus, or leave CountBonus out$",
        ),
        ([RND(), Compose([FinalGoal()])], "put FinalGoal before RND"),
        ([StateMarginalMatching(), DIAYN(keep=0.0)], "put DIAYN before StateMarginalMatching"),
    ],
)
def test_order_without_meaning_is_refused(relabelers: list[Relabeler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Compose(relabelers).prepare(episode_log(task=True, goals=True))


def test_scaling_before_goals_reaches_the_rows_that_keep_their_task() -> None:
    log = episode_log(task=True, goals=True)
    parts = [ScaleReward(10.0, 5.0), TopFraction(0.9), ReturnToGo(), FutureGoal(fraction=0.5)]
    batch = relabeled(log, *parts).reshape(-1)
    kept = (batch["task"] == log.column("task")[batch["index"]]).all(-1)
    scaled = 10.0 * log.column(REWARD)[batch["index"]] + 5.0
    assert 0.3 < kept.float().mean() < 0.7
    torch.testing.assert_close(batch["next", "reward"][kept], scaled[kept])
    assert set(batch["next", "reward"][~kept].tolist()) == {-1.0, 0.0}


def test_scaling_before_n_steps_scales_the_sum() -> None:
    log = episode_log([3], reward=[1.0, 2.0, 4.0])
    ready, _ = bind(log, Compose([ScaleReward(10.0), ReturnToGo(1.0), NStep(2, 0.5)]))
    assert ready.column(REWARD).tolist() == [20.0, 40.0, 40.0]
    assert ready.column("return_to_go").tolist() == [70.0, 60.0, 40.0]


def test_change_made_in_the_batch_may_follow_goals() -> None:
    """A part that reads the reward only in the batch sees that of the new goal."""
    log = episode_log(goals=True)
    plain, lower = (
        relabeled(log, FutureGoal(), *more) for more in ([], [Change(lambda reward: reward - 1)])
    )
    assert lower["next", "reward"].equal(plain["next", "reward"] - 1)


def test_chain_declares_what_its_parts_rewrite() -> None:
    log = episode_log(goals=True)
    chain = Compose([ReturnToGo(), Compose([FutureGoal()]), FinalGoal()]).prepare(log)
    assert chain.call_writes == ("task", REWARD, ("next", "terminated"))


def test_last_rows_are_the_ends_of_episodes() -> None:
    ends = episode_log([2, 1, 3]).column("episode_end")
    assert last_rows(ends).nonzero()[:, 0].tolist() == [1, 2, 5]


class Counting(Relabeler):
    """Remembers a number."""

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.number = number

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number} if self.number else {}

    def load_state_dict(self, state: Any) -> None:
        self.number = state.get("number", 0)


def test_state_goes_to_the_part_at_the_same_place() -> None:
    """Nested chains too; parts that learn nothing have no entry, and then start anew."""
    chain = Compose([FutureGoal(), Counting(3), Compose([Counting(), Counting(7)])])
    state = chain.state_dict()
    assert state == {"1": {"number": 3}, "2": {"1": {"number": 7}}}
    one, two, three = Counting(9), Counting(9), Counting(9)
    Compose([FutureGoal(), one, Compose([two, three])]).load_state_dict(state)
    assert [part.number for part in (one, two, three)] == [3, 0, 7]
    assert Relabeler().state_dict() == {}
