"""TopFraction: which rows of the log may be drawn."""

import pytest
import torch
from episode_logs import bind, episode_log, relabeled

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction


def hand_log() -> Log:
    """Return episodes A, B, C, D of 4, 2, 3, 1 steps and return 4, 10, 6, 8."""
    reward = [1.0] * 4 + [5.0] * 2 + [2.0] * 3 + [8.0]
    return episode_log([4, 2, 3, 1], reward=reward)


def kept(log: Log, relabeler: TopFraction) -> str:
    """Return the letters of the episodes whose rows may be drawn, in order; whole episodes only."""
    ready, _ = bind(log, relabeler)
    rows, episode = ready.drawable(), log.column("episode")
    letters = episode[rows].unique()
    assert rows.equal(torch.isin(episode, letters).nonzero()[:, 0])
    return "".join("ABCDEFGH"[number] for number in letters)


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [(0.01, "B"), (0.25, "B"), (0.49, "B"), (0.5, "BD"), (0.75, "BCD"), (1.0, "ABCD")],
)
def test_best_episodes(fraction: float, expected: str) -> None:
    """Order by return: B 10, D 8, C 6, A 4; max(1, floor(fraction * 4)) are kept."""
    assert kept(hand_log(), TopFraction(fraction)) == expected


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (0.01, "B"),
        (0.2, "B"),
        (0.21, "BD"),
        (0.3, "BD"),
        (0.31, "BCD"),
        (0.6, "BCD"),
        (1.0, "ABCD"),
    ],
)
def test_best_episodes_until_they_hold_the_share_of_steps(fraction: float, expected: str) -> None:
    """Steps held, best first: B 2, D 3, C 6, A 10 of 10."""
    assert kept(hand_log(), TopFraction(fraction, by="steps")) == expected


def test_score_is_discounted() -> None:
    """At discount .5: A 1.875, B 7.5, C 3.5, D 8: D beats B. At 0 the first reward counts alone."""
    assert kept(hand_log(), TopFraction(0.25, discount=0.5)) == "D"
    assert kept(hand_log(), TopFraction(0.5, discount=0.0)) == "BD"


def test_score_may_be_the_mean_of_a_column() -> None:
    """Means per episode: A 4, B 1, C 2, D 3; sums would put A first too, but C before D."""
    score = torch.tensor([4.0] * 4 + [1.0] * 2 + [2.0] * 3 + [3.0])
    log = hand_log().with_columns({"quality": score, ("next", "quality"): -score})
    assert kept(log, TopFraction(0.5, score="quality")) == "AD"
    assert kept(log, TopFraction(0.5, score="next.quality")) == "BC"


def test_the_lowest_are_kept_where_they_are_preferred() -> None:
    """Returns A 4, C 6, D 8, B 10 from below; by steps A holds 4 of 10, with C 7."""
    assert kept(hand_log(), TopFraction(0.5, prefer="low")) == "AC"
    assert kept(hand_log(), TopFraction(0.41, by="steps", prefer="low")) == "AC"
    ties = episode_log([2, 2, 2, 2], reward=[1.0] * 8)
    assert kept(ties, TopFraction(0.5, prefer="low")) == "AB"


@pytest.mark.parametrize("by", ["episodes", "steps"])
def test_ties_go_to_the_earlier_episode(by: str) -> None:
    log = episode_log([2, 2, 2, 2], reward=[1.0] * 8)
    assert kept(log, TopFraction(0.5, by=by)) == "AB"


@pytest.mark.parametrize("count", [3, 7, 10, 30])
@pytest.mark.parametrize("by", ["episodes", "steps"])
def test_fractions_that_hit_a_whole_number_keep_exactly_that_many(count: int, by: str) -> None:
    """K / n * n may come out as k - 1e-16 or k + 1e-16: neither loses nor adds an episode."""
    log = episode_log([1] * count)
    for number in range(1, count + 1):
        ready, _ = bind(log, TopFraction(number / count, by=by))
        assert len(ready.drawable()) == number


@pytest.mark.parametrize("by", ["episodes", "steps"])
def test_fraction_1_draws_what_no_filter_draws(by: str) -> None:
    log = episode_log()
    assert relabeled(log, TopFraction(1.0, by=by))["index"].equal(relabeled(log)["index"])


def test_only_kept_rows_are_drawn_and_all_of_them() -> None:
    log = hand_log()
    batch = relabeled(log, TopFraction(0.5), updates=8)
    assert batch["index"].unique().tolist() == [4, 5, 9]


@pytest.mark.parametrize("by", ["episodes", "steps"])
def test_held_out_rows_are_never_drawn(by: str) -> None:
    """The best share of the training episodes: the best of all may well be held out."""
    log = episode_log([2] * 20, reward=[float(row // 2) for row in range(40)])
    data = OfflineDataModule(log, [TopFraction(0.25, by=by)], validation=0.5, batch_size=8)
    held_out = torch.cat([batch["index"][0] for batch in data.val_dataloader()])
    rows = data.log.drawable()
    training = sorted(set(range(40)) - set(held_out.tolist()))
    episodes = sorted({row // 2 for row in training})
    assert not torch.isin(rows, held_out).any()
    assert sorted(set((rows // 2).tolist())) == episodes[-2 if by == "episodes" else -3 :]


@pytest.mark.parametrize("fraction", [0.0, 1.1])
def test_fraction_out_of_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=rf"fraction is {fraction}, it must lie in \(0, 1\]"):
        TopFraction(fraction)


@pytest.mark.parametrize("discount", [-0.1, 1.1])
def test_discount_out_of_range_is_refused(discount: float) -> None:
    with pytest.raises(ValueError, match=rf"discount is {discount}, it must lie in \[0, 1\]"):
        TopFraction(0.5, discount=discount)


def test_unknown_score_is_refused() -> None:
    with pytest.raises(LogError, match="the log has no 'quality'"):
        bind(episode_log(), TopFraction(0.5, score="quality"))
