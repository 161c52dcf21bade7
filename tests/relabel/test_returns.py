"""Returns as a column, as a weight, over n steps, rescaled: hand cases and plain loops."""

import math

import pytest
import torch
from episode_logs import bind, episode_log, relabeled
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.returns import NStep, ReturnToGo, ReturnWeight, ScaleReward

REWARD = ("next", "reward")


def column(log: Log, key: str | tuple[str, ...], *relabelers: object) -> Tensor:
    """Return a column of the log after these relabelers were bound to it."""
    return bind(log, Compose(list(relabelers)))[0].column(key)


def close(actual: Tensor, expected: list[float], atol: float = 2e-6) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=atol)


# --- ReturnToGo -----------------------------------------------------------------------------------


def test_return_to_go_of_t4() -> None:
    """T4: r = 1, 1, 1 at 0.99 gives 1 + .99 + .9801, 1 + .99, 1; the step's own reward counts."""
    log = episode_log([3], reward=[1.0] * 3)
    close(column(log, "return_to_go", ReturnToGo()), [2.9701, 1.99, 1.0])


def test_return_to_go_stops_at_both_kinds_of_end() -> None:
    """Episodes 0 and 2 are terminated, 1 is truncated: nothing is added at either end."""
    log = episode_log([2, 2, 1], reward=[1.0, 2.0, 4.0, 8.0, 16.0])
    close(column(log, "return_to_go", ReturnToGo(0.5)), [2.0, 2.0, 8.0, 8.0, 16.0])
    close(column(log, "return_to_go", ReturnToGo(1.0)), [3.0, 2.0, 12.0, 8.0, 16.0])
    close(column(log, "return_to_go", ReturnToGo(0.0)), [1.0, 2.0, 4.0, 8.0, 16.0])


def test_return_to_go_is_served() -> None:
    log = episode_log()
    batch = relabeled(log, ReturnToGo(0.9))
    assert "task" not in batch.keys()
    assert batch["return_to_go"].equal(column(log, "return_to_go", ReturnToGo(0.9))[batch["index"]])


# --- ReturnWeight ---------------------------------------------------------------------------------


def test_linear_weight_is_the_return_over_its_mean() -> None:
    """Returns to go 3, 2 and 7: mean 4."""
    log = episode_log([2, 1], reward=[1.0, 2.0, 7.0])
    weight = ReturnWeight("linear", discount=1.0)
    close(column(log, "weight", weight), [0.75, 0.5, 1.75])


def test_weight_by_the_return_of_the_episode() -> None:
    """Episode returns 3, 3 and 6: mean 4."""
    log = episode_log([2, 1], reward=[1.0, 2.0, 6.0])
    weight = ReturnWeight("linear", score="episode", discount=1.0)
    close(column(log, "weight", weight), [0.75, 0.75, 1.5])


def test_exponential_weight_in_reward_units() -> None:
    """Scores 1, 2, 3, temperature 2: exp(-1), exp(-.5), 1, over their mean."""
    log = episode_log([1, 1, 1], reward=[1.0, 2.0, 3.0])
    raw = [math.exp(-1.0), math.exp(-0.5), 1.0]
    expected = [3 * value / sum(raw) for value in raw]
    close(column(log, "weight", ReturnWeight(temperature=2.0, scale="reward")), expected)


def test_exponential_weight_in_standard_deviations() -> None:
    """Scores 0 and 4 have standard deviation 2: exp(-4 / 2), 1, over their mean."""
    log = episode_log([1, 1], reward=[0.0, 4.0])
    raw = [math.exp(-2.0), 1.0]
    close(column(log, "weight", ReturnWeight()), [2 * value / sum(raw) for value in raw])


def test_exponential_weight_has_mean_1_and_is_shift_invariant() -> None:
    log = episode_log()
    weight = column(log, "weight", ReturnWeight())
    assert weight.mean().item() == pytest.approx(1.0, abs=1e-6)
    shifted = log.with_columns({REWARD: log.column(REWARD) + 100.0})
    one_step = ReturnWeight(discount=0.0)
    torch.testing.assert_close(
        column(log, "weight", one_step), column(shifted, "weight", one_step), rtol=1e-4, atol=1e-4
    )


def test_exponential_weight_is_capped_after_scaling() -> None:
    """One row of 100 is far above the rest: its scaled weight is 100, cut to 7 or 20."""
    log = episode_log([1] * 100, reward=[0.0] * 99 + [1000.0])
    for given, cap in (({"max_weight": 7.0}, 7.0), ({}, 20.0)):
        weight = column(log, "weight", ReturnWeight(scale="reward", **given))
        assert weight[-1] == cap and (weight[:-1] < 1e-6).all()


@pytest.mark.parametrize("scale", ["std", "reward"])
def test_equal_returns_have_equal_weights(scale: str) -> None:
    log = episode_log([1, 1, 1], reward=[5.0] * 3)
    close(column(log, "weight", ReturnWeight(scale=scale)), [1.0, 1.0, 1.0])


def test_one_row_has_weight_1() -> None:
    close(column(episode_log([1], reward=[5.0]), "weight", ReturnWeight()), [1.0])


def test_weights_average_1_over_the_rows_that_may_be_drawn() -> None:
    log = episode_log()
    ready, _ = bind(log, Compose([TopFraction(0.5), ReturnWeight()]))
    mean = ready.column("weight")[ready.drawable()].mean().item()
    assert mean == pytest.approx(1.0, abs=1e-6)


def test_negative_return_is_refused_by_the_linear_rule() -> None:
    log = episode_log([2, 1], reward=[1.0, 2.0, -3.0])
    with pytest.raises(
        ValueError, match=r"return -3 in row 2 is negative \(step 0 of episode 1\).* rwr"
    ):
        ReturnWeight("linear").prepare(log)
    ReturnWeight("exponential").prepare(log)


def test_returns_of_0_alone_are_refused_by_the_linear_rule() -> None:
    """The row that earned something is not drawn."""
    log = episode_log([2, 1], reward=[0.0, 0.0, 3.0])
    ReturnWeight("linear").prepare(log)
    with pytest.raises(
        ValueError, match="all returns are 0: no row would count. Give a log in whi"
    ):
        ReturnWeight("linear").prepare(log.with_rows(torch.arange(2)))


def test_refusal_names_the_row_of_the_log() -> None:
    """Of rows 1, 2 and 3, which may be drawn, row 2 is negative; row 0 is never drawn."""
    log = episode_log([1] * 4, reward=[-1.0, 1.0, -2.0, 1.0]).with_rows(torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="return -2 in row 2 is negative"):
        ReturnWeight("linear").prepare(log)
    ReturnWeight("linear").prepare(log.with_rows(torch.tensor([1, 3])))


@pytest.mark.parametrize("name", ["temperature", "max_weight"])
def test_weight_arguments_must_be_positive(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} 0\b.*must be above 0"):
        ReturnWeight(**{name: 0})


# --- NStep ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3, 20])
def test_n_step_transitions_equal_a_plain_loop(n: int) -> None:
    """Through the sampler: reward, discount, and the far end from the companion row."""
    log, discount = episode_log(), 0.9
    batch = relabeled(log, NStep(n, discount), updates=8).reshape(-1)
    assert batch["index"].unique().tolist() == list(range(len(log)))
    reward, end = log.column(REWARD).tolist(), log.column("episode_end").tolist()
    for row in batch:
        start = int(row["index"])
        steps = min(n, end[start] - start + 1)
        total = sum(discount**k * reward[start + k] for k in range(steps))
        far = log.gather(torch.tensor(start + steps - 1))
        assert row["next", "reward"].item() == pytest.approx(total, abs=1e-5)
        assert row["discount"].item() == pytest.approx(discount**steps)
        assert row["observation"].equal(log.column("observation")[start])
        for name in ("observation", "terminated", "truncated"):
            assert row["next", name].equal(far["next", name])


def test_n_step_ends_are_those_of_the_last_row() -> None:
    """Episode of 3, terminated: with n = 2 rows 1 and 2 reach the end, row 0 does not."""
    log = episode_log([3, 3])
    batch = relabeled(log, NStep(2)).reshape(-1)
    reached = {int(r["index"]): bool(r["next", "terminated"]) for r in batch}
    cut = {int(r["index"]): bool(r["next", "truncated"]) for r in batch}
    assert reached == {0: False, 1: True, 2: True, 3: False, 4: False, 5: False}
    assert cut == {0: False, 1: False, 2: False, 3: False, 4: True, 5: True}


def test_n_step_moves_what_was_achieved_too() -> None:
    log = episode_log([3], goals=True)
    batch = relabeled(log, NStep(2)).reshape(-1)
    last = (batch["index"] + 1).clamp_max(2)
    far = log.column(("next", "achieved_goal"))[last]
    assert batch["next", "achieved_goal"].equal(far)


def test_n_must_be_positive() -> None:
    with pytest.raises(ValueError, match="n is 0, it must be at least 1"):
        NStep(0)


# --- ScaleReward ----------------------------------------------------------------------------------


def test_reward_is_multiplied_then_shifted() -> None:
    log = episode_log([2], reward=[1.0, -2.0])
    close(column(log, REWARD, ScaleReward(3.0, shift=0.5)), [3.5, -5.5])
    batch = relabeled(log, ScaleReward(3.0, shift=0.5))
    close(batch[REWARD].unique(), [-5.5, 3.5])


def test_reward_is_scaled_by_the_spread_of_returns() -> None:
    """Episode returns 3 and 8: spread 5; to 1000 means times 200, then factor and shift."""
    log = episode_log([2, 1], reward=[1.0, 2.0, 8.0])
    close(column(log, REWARD, ScaleReward(return_range=1000)), [200.0, 400.0, 1600.0], 1e-3)
    close(column(log, REWARD, ScaleReward(2.0, 1.0, 1000)), [401.0, 801.0, 3201.0], 1e-3)


def test_the_spread_is_that_of_episodes_that_may_be_drawn() -> None:
    """Returns 3, 8 and 100; the last is held out, and one row of the second is enough to count."""
    log = episode_log([2, 2, 1], reward=[1.0, 2.0, 4.0, 4.0, 100.0])
    log = log.with_rows(torch.tensor([0, 1, 3]))
    expected = [200.0, 400.0, 800.0, 800.0, 20000.0]
    close(column(log, REWARD, ScaleReward(return_range=1000)), expected, 1e-2)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nearly_equal_returns_are_scaled_by_what_they_are(sign: float) -> None:
    """Returns 8 and 10, or -8 and -10: they differ by 2, and lie up to 10 from 0."""
    log = episode_log([2, 1], reward=[3.0 * sign, 5.0 * sign, 10.0 * sign])
    spread = ScaleReward(return_range=100)
    close(column(log, REWARD, spread), [150.0 * sign, 250.0 * sign, 500.0 * sign], 1e-3)
    from_zero = ScaleReward(return_range=100, from_zero=True)
    close(column(log, REWARD, from_zero), [30.0 * sign, 50.0 * sign, 100.0 * sign], 1e-4)


def test_returns_on_both_sides_of_zero_are_scaled_alike() -> None:
    """Returns -1 and 4: 0 lies between them, and changes nothing."""
    log = episode_log([1, 1], reward=[-1.0, 4.0])
    close(column(log, REWARD, ScaleReward(return_range=10, from_zero=True)), [-2.0, 8.0], 1e-5)


def test_from_zero_needs_a_range() -> None:
    with pytest.raises(ValueError, match="from_zero is about return_range: give one"):
        ScaleReward(from_zero=True)


def test_equal_returns_cannot_be_scaled() -> None:
    with pytest.raises(ValueError, match="all episodes have the same return: return_range cannot"):
        ScaleReward(return_range=1.0).prepare(episode_log([2, 1], reward=[1.0, 1.0, 2.0]))
    with pytest.raises(ValueError, match="all episodes have the same return: return_range cannot"):
        ScaleReward(return_range=1.0, from_zero=True).prepare(episode_log([1], reward=[0.0]))


def test_return_range_must_be_positive() -> None:
    with pytest.raises(ValueError, match="return_range is 0, it must be above 0"):
        ScaleReward(return_range=0)


@pytest.mark.parametrize("kind", [ReturnToGo, ReturnWeight, lambda discount: NStep(2, discount)])
@pytest.mark.parametrize("discount", [-0.1, 1.1])
def test_discount_out_of_range_is_refused(kind: type, discount: float) -> None:
    with pytest.raises(ValueError, match=rf"discount is {discount}, it must lie in \[0, 1\]"):
        kind(discount=discount)
