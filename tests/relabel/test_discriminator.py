"""Rewards from telling an expert's transitions from others."""

import math
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from episode_logs import drawn, episode_log
from small_fits import Kept, check_resumed, differences, fit, learner_of, weights
from small_logs import same
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.crr import CRR
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import REWARD, TERMINATED
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.discriminator import Discriminator
from hindsight_rl.relabel.discriminator import DiscriminatorReward
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.once import Once
from hindsight_rl.relabel.returns import NStep

SMALL: dict[str, Any] = {"hidden": (8,), "learning_rate": 3e-2, "penalty": 0.0}
EXPERT, POLICY = (0.7, 0.3), (0.4, 0.6)
RATIO = [math.log(e / p) for e, p in zip(EXPERT, POLICY, strict=True)]


def discriminator(small: dict[str, Any] | None = None, **options: Any) -> DiscriminatorReward:
    return DiscriminatorReward(Discriminator(**SMALL | (small or {})), **options)


def choices(share: tuple[float, float], ended: bool = False) -> Log:
    """Return ten episodes of one step, whose actions are 0 and 1 in these shares."""
    rows, first = 10, round(10 * share[0])
    columns: dict[Any, Tensor] = {
        "observation": torch.ones(rows, 1),
        "action": (torch.arange(rows) >= first).long(),
        "episode": torch.arange(rows),
        ("next", "observation"): torch.ones(rows, 1),
        REWARD: torch.zeros(rows),
        TERMINATED: torch.full((rows,), ended),
        ("next", "truncated"): torch.full((rows,), not ended),
    }
    return Log.from_columns(columns, {"discrete_actions": 2})


def both(*logs: Log) -> Log:
    return Log.concatenate(logs, [1.0] * len(logs))


def two_logs(**options: Any) -> Log:
    """Return two walks of one kind, the first of which is the expert's."""
    return both(*(episode_log(goals=True, seed=seed, **options) for seed in (0, 1)))


def told(log: Log, relabeler: DiscriminatorReward, updates: int = 150, values: Any = None) -> Any:
    """Return the last batches of some updates, relabeled, and the bound relabeler."""
    chunk, chain = drawn(log, relabeler, updates=updates)
    if values is not None:
        chain.use(values)
    return chain(chunk)[-20:], chain.relabelers[0]


def by_action(batch: TensorDict) -> list[float]:
    """Return the mean reward of each action."""
    reward, action = batch["next", "reward"], batch["action"]
    return [float(reward[action == choice].mean()) for choice in (0, 1)]


# --- optima of an enumerable problem --------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("f", [0.559616, -0.693147]),
        ("logit", [0.559616, -0.693147]),
        ("survive", [1.011601, 0.405465]),
        ("end", [-0.451985, -1.098612]),
    ],
)
def test_gail_ends_at_the_log_ratio_of_t40(form: Any, expected: list[float]) -> None:
    log = both(choices(EXPERT), choices(POLICY))
    batch, _ = told(log, discriminator(reward=form, scale=False))
    assert by_action(batch) == pytest.approx(expected, abs=0.15)


def log_pi(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return values of a policy that takes the actions as POLICY does."""
    log_prob = torch.tensor(POLICY).log()[batch["action"]]
    return SoftValues(lambda: log_prob, lambda: log_prob, torch.ones(()), 0.99)


def test_airl_ends_at_the_experts_log_probability() -> None:
    """F = log p_expert, whoever the policy is; the logit f - log pi is that of GAIL."""
    log, shaped = both(choices(EXPERT), choices(POLICY)), {"shaped": True, "discount": 0.0}
    batch, _ = told(log, discriminator(shaped, scale=False), values=log_pi)
    assert by_action(batch) == pytest.approx([math.log(p) for p in EXPERT], abs=0.15)
    batch, _ = told(log, discriminator(shaped, reward="logit", scale=False), values=log_pi)
    assert by_action(batch) == pytest.approx(RATIO, abs=0.15)


def test_experts_that_end_make_the_absorbing_state_worth_more_than_going_on() -> None:
    """The expert's episodes end, the others do not: 99 steps of log D > log .5 behind the end."""
    log = both(choices((0.5, 0.5), ended=True), choices((0.5, 0.5)))
    batch, bound = told(log, discriminator(reward="end", scale=False), 150)
    reward, ended = batch["next", "reward"], batch["next", "terminated"]
    going_on = reward[~ended].mean() / (1.0 - 0.99)
    assert reward[ended].mean() > going_on + 10.0
    assert float(bound.metrics["told_apart"]) == pytest.approx(0.5)  # rows themselves are alike


def test_a_network_that_knows_nothing_pays_the_same_for_ever() -> None:
    """Reward 'survive' at f = 0: log 2 a step, log 2 / (1 - discount) in the row that ends."""
    log = both(choices(EXPERT), choices(POLICY, ended=True))
    chunk, chain = drawn(log, discriminator(reward="survive", scale=False))
    for weight in chain.relabelers[0].weights:
        torch.nn.init.zeros_(weight)
    with torch.no_grad():
        batch = chain(chunk)
    ended = batch["next", "terminated"]
    assert batch["next", "reward"][~ended].unique().item() == pytest.approx(math.log(2))
    found = batch["next", "reward"][ended].mean()
    assert found.item() == pytest.approx(100 * math.log(2), rel=1e-4)


def test_rewards_are_scaled_by_their_running_square_and_clipped_by_the_step() -> None:
    """The first update divides by its own root mean square, the next moves it by a hundredth."""
    log = both(choices(EXPERT), choices(POLICY))
    scaled, plain = (
        told(log, discriminator(scale=scale), 2)[0]["next", "reward"] for scale in (True, False)
    )
    square = plain.square().mean(-1)
    torch.testing.assert_close(scaled[0], plain[0] / square[0].sqrt())
    second = 0.99 * square[0] + 0.01 * square[1]
    torch.testing.assert_close(scaled[1], plain[1] / second.sqrt())
    clipped, _ = told(log, discriminator(scale=False, clip=0.25))
    assert by_action(clipped) == pytest.approx([0.25, -0.25])


# --- which rows -----------------------------------------------------------------------------------


def test_both_sides_are_drawn_from_their_own_rows() -> None:
    log = two_logs()
    first = log.sources[0].stop
    chunk, chain = drawn(log, discriminator(newest=5, train_on_expert=False))
    sides = {k: chunk["companion", f"0/{k}", "index"] for k in ("expert", "other")}
    assert set(sides["expert"].flatten().tolist()) == set(range(first))
    assert set(sides["other"].flatten().tolist()) == set(range(len(log) - 5, len(log)))
    assert chain.rows is not None and chain.rows.tolist() == list(range(first, len(log)))
    assert drawn(log, discriminator())[1].rows is None


def test_held_out_and_filtered_rows_are_on_no_side() -> None:
    log = two_logs()
    data = OfflineDataModule(log, [discriminator()], validation=0.5)
    part = data.relabel.relabelers[0]
    used = torch.cat([part._sides["expert"], part._sides["other"]])
    assert set(used.tolist()) == set(data.log.drawable().tolist())


def test_a_column_may_say_which_rows_are_the_experts() -> None:
    log = episode_log(goals=True)
    flag = (torch.arange(len(log)) % 3 == 0).float()
    part = discriminator(expert="by_hand").prepare(log.with_columns({"by_hand": flag}))
    assert part._sides["expert"].tolist() == list(range(0, len(log), 3))
    with pytest.raises(ValueError, match="no column 'by_hand' to tell expert rows by"):
        discriminator(expert="by_hand").prepare(log)


# --- learning once --------------------------------------------------------------------------------


def test_goes_on_from_its_state_bit_by_bit() -> None:
    chunk, straight = drawn(two_logs(), discriminator({"penalty": 1.0}), updates=6)
    whole = straight(chunk)
    _, first = drawn(two_logs(), discriminator({"penalty": 1.0}))
    first(chunk[:2])
    _, second = drawn(two_logs(), discriminator({"penalty": 1.0}, seed=5))
    second.load_state_dict(first.state_dict())
    assert same(second(chunk[2:4]), whole[2:4]) and same(second(chunk[4:]), whole[4:])
    assert differences(straight.state_dict(), second.state_dict()) == []
    _, other = drawn(two_logs(), discriminator({"hidden": (4,)}))
    with pytest.raises(ValueError, match="set discriminator and absorbing of DiscriminatorReward"):
        other.load_state_dict(first.state_dict())


def test_batches_seen_again_and_validation_teach_nothing() -> None:
    chunk, chain = drawn(two_logs(), discriminator())
    with torch.inference_mode():
        chain(chunk.clone())
    assert chain.state_dict() == {}
    chain(chunk)
    before = [weight.clone() for weight in chain.relabelers[0].weights]
    chain(chunk)
    assert all(torch.equal(a, b) for a, b in zip(before, chain.relabelers[0].weights, strict=True))


def test_every_second_update_may_teach() -> None:
    chunk, chain = drawn(two_logs(), discriminator({"every": 2}), updates=3)
    chain(chunk)
    adam = chain.relabelers[0].state_dict()["adam"]
    assert float(adam["state"][0]["step"]) == 2  # updates 0 and 2


def squares(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return values of a policy whose log pi is a function of the action."""
    log_prob = -batch["action"].square().sum(-1)
    return SoftValues(lambda: log_prob, lambda: log_prob, torch.ones(()), 0.99)


def test_a_discriminator_that_is_always_right_is_left_as_it_is() -> None:
    """Expert and others never do the same: .9 is soon passed, and the reward stays small."""
    log, found = both(choices((1.0, 0.0)), choices((0.0, 1.0))), {}
    for stop in (1.0, 0.9):
        batch, bound = told(log, discriminator({"stop_above": stop}, scale=False), 60)
        steps = bound.state_dict()["adam"]["state"][0]["step"]
        found[stop] = float(steps), by_action(batch)[0]
        assert float(bound.metrics["told_apart"]) == 1.0
    assert found[1.0][0] == 60 and 1 <= found[0.9][0] < 20
    assert 0.0 < found[0.9][1] < found[1.0][1] / 3


@pytest.mark.parametrize(
    "further", [{}, {"stop_above": 0.52}, {"shaped": True}], ids=["absorbing", "stopped", "airl"]
)
@pytest.mark.filterwarnings("ignore:episodes terminate")
def test_two_ranks_equal_one_with_the_joined_batch(
    further: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gloo between two threads: weights and scale are those of all rows, endings counted."""
    log = two_logs()
    small = {"penalty": 2.0, "smoothing": 0.1} | further
    chunk, whole = drawn(log, discriminator(small), updates=8, batch_size=12)
    whole.use(squares)
    sides = [chunk["companion", f"0/{side}"] for side in ("expert", "other")]
    assert all(bool(side["next", "terminated"].any()) for side in (chunk, *sides))
    expected = whole(chunk)
    steps = float(whole.relabelers[0].state_dict()["adam"]["state"][0]["step"])
    assert steps == (6 if "stop_above" in further else 8)
    store, here = torch.distributed.HashStore(), threading.local()
    found: dict[int, Any] = {}

    def gather(parts: list[Tensor], value: Tensor) -> None:
        here.group.allgather([parts], [value]).wait()

    def learn(rank: int) -> None:
        here.group = torch.distributed.ProcessGroupGloo(store, rank, 2)
        chain = drawn(log, discriminator(small))[1]
        chain.use(squares)
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


def test_offline_beside_crr_it_trains_and_says_what_it_does(tmp_path: Path) -> None:
    data = OfflineDataModule(two_logs(), [discriminator()], batch_size=16, updates_per_step=4)
    learner, kept = learner_of(CRR, data.spec), Kept()
    fit(learner, data, tmp_path, 8, logger=kept, log_every_n_steps=4)
    assert all(
        kept.steps_of(f"data/{name}") == [4, 8]
        for name in ("discriminator_loss", "told_apart", "reward")
    )


@pytest.mark.parametrize("shaped", [False, True], ids=["gail", "airl"])
def test_offline_it_resumes_bit_by_bit(shaped: bool, tmp_path: Path) -> None:
    def begun() -> tuple[OfflineDataModule, SAC]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            data = OfflineDataModule(
                two_logs(), [discriminator({"shaped": shaped})], batch_size=16, updates_per_step=2
            )
        return data, learner_of(SAC, data.spec)

    assert check_resumed(begun, tmp_path)["0"]["updates"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("shaped", [False, True], ids=["gail", "airl"])
@pytest.mark.filterwarnings("ignore:episodes terminate")
def test_compiled_updates_equal_eager_ones(shaped: bool, tmp_path: Path) -> None:
    """AIRL asks the policy, whose weights differ in the last bit: so do its own, then."""
    states, exact = [], {"rtol": 0.0, "atol": 1e-5 if shaped else 0.0}
    for mode in ("off", "update"):
        relabel = [discriminator({"shaped": shaped, "penalty": 1.0})]
        data = OfflineDataModule(two_logs(), relabel, batch_size=16, updates_per_step=4)
        learner = learner_of(SAC, data.spec, compile=mode)
        fit(learner, data, tmp_path / mode, 8)
        states.append((data.relabel.state_dict()["0"], weights(learner)))
    (eager, one), (compiled, two) = states
    for a, b in zip(eager["weights"], compiled["weights"], strict=True):
        torch.testing.assert_close(a, b, **exact)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5)


# --- errors ---------------------------------------------------------------------------------------


def test_one_log_has_no_second_side() -> None:
    message = r"walk is the only one: give data.source \[EXPERT, LOG\].*with data.mix"
    with pytest.raises(ValueError, match=message):
        discriminator().prepare(episode_log(goals=True))
    log = two_logs()
    rest = torch.arange(log.sources[0].stop, len(log))
    with pytest.raises(ValueError, match="no row that may be drawn is the expert's"):
        discriminator().prepare(log.with_rows(rest))


def test_what_has_no_meaning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="absorbing and discriminator.shaped do not go together"):
        discriminator({"shaped": True}, absorbing=True)
    with pytest.raises(ValueError, match="rows with a 'discount' stand for several: leave NStep"):
        OfflineDataModule(two_logs(), [NStep(3), discriminator()])
    with pytest.raises(ValueError, match="NStep is prepared on 'next.reward'"):
        OfflineDataModule(two_logs(), [discriminator(), NStep(3)])
    with pytest.raises(ValueError, match="DiscriminatorReward learns while a policy is fitted"):
        OfflineDataModule(two_logs(), [Once([discriminator()])])
    chunk, chain = drawn(two_logs(), discriminator())
    with pytest.raises(ValueError, match="rows of one learner: set model.seeds to 1$"):
        chain(chunk.unsqueeze(1).expand(4, 2, 64))
    with pytest.warns(UserWarning, match="behind an end DiscriminatorReward gives 0"):
        data = OfflineDataModule(two_logs(), [discriminator({"shaped": True})], batch_size=16)
    with warnings.catch_warnings():  # of what it advises it does not warn
        warnings.simplefilter("error")
        discriminator({"shaped": True}, reward="survive").prepare(two_logs())
    with pytest.raises(ValueError, match="compares with log pi of the policy, and this learner"):
        fit(learner_of(BC, data.spec), data, tmp_path, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"newest": 0}, "newest is 0, it must be at least 1"),
        ({"clip": 0.0}, "clip is 0.0, it must be above 0"),
        ({"small": {"penalty": -1.0}}, "penalty is -1.0, it must be at least 0"),
        ({"small": {"every": 0}}, "every is 0 updates"),
        ({"small": {"discount": 1.0}}, "discount 1.0"),
        ({"small": {"hidden": [0]}}, r"hidden is \[0\]"),
        ({"small": {"stop_above": 0.5}}, r"stop_above is 0.5, it must lie in \(0.5, 1\]"),
        ({"small": {"learning_rate": 0.0}}, "learning_rate is 0.0"),
        ({"small": {"reads": "all"}}, "reads is 'all', it must be 'action'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        discriminator(**arguments)


def test_a_task_is_part_of_the_state_and_no_relabeler_may_change_it() -> None:
    """Only the task tells these two logs apart, and the policy's log pi is asked under it."""
    log = episode_log(task=True, goals=True)
    sides = [log.with_columns({"task": torch.full((len(log), 2), sign)}) for sign in (1.0, -1.0)]
    asked: list[Tensor] = []

    def values(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        asked.append(task)
        zeros = torch.zeros(batch.batch_size)
        return SoftValues(lambda: zeros, lambda: zeros, torch.ones(()), 0.99)

    for small in ({"reads": "state"}, {"reads": "state", "shaped": True}):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _, bound = told(both(*sides), discriminator(small), 60, values)
        assert float(bound.metrics["told_apart"]) > 0.95
    assert len(asked) == 3 and {float(task.abs().min()) for task in asked} == {1.0}
    with pytest.raises(ValueError, match="DiscriminatorReward and FutureGoal together have no"):
        OfflineDataModule(both(*sides), [FutureGoal(), discriminator()])
