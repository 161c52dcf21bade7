"""Signed labels from returns and from columns, by hand."""

import warnings
from typing import Any

import pytest
import torch
from episode_logs import bind, episode_log, relabeled
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.labels import ColumnLabel, EpisodeLabel, ReturnLabel
from hindsight_rl.relabel.relabeler import Relabeler


def label(log: Log, relabel: Relabeler) -> Tensor:
    """Return the labels a relabeler gives the rows of a log."""
    return bind(log, relabel)[0].column("label")


def close(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), rtol=0, atol=2e-6)


# --- EpisodeLabel ---------------------------------------------------------------------------------

FOUR = {"lengths": [2, 1, 1, 2], "reward": [1.0, 2.0, 9.0, -5.0, 0.5, 0.5]}
"""Four episodes with the returns 3, 9, -5 and 1."""


@pytest.mark.parametrize(
    ("best", "worst", "expected", "rows"),
    [
        (0.5, 0.5, [1, 1, 1, -1, -1, -1], [0, 1, 2, 3, 4, 5]),
        (0.25, 0.25, [0, 0, 1, -1, 0, 0], [2, 3]),
        (0.5, 0.0, [1, 1, 1, 0, 0, 0], [0, 1, 2]),
        (0.1, 0.2, [0, 0, 1, 0, 0, 0], [2]),  # one episode at least is imitated, none avoided
        (1.0, 0.0, [1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_best_and_worst_episodes(
    best: float, worst: float, expected: list[float], rows: list[int]
) -> None:
    log, _ = bind(episode_log(**FOUR), EpisodeLabel(best, worst))
    assert log.column("label").tolist() == expected
    assert log.drawable().tolist() == rows


def test_the_return_may_be_discounted() -> None:
    """Returns 2 + 0 and 0 + 3; at discount 0.5, 2 and 1.5."""
    log = episode_log([2, 2], reward=[2.0, 0.0, 0.0, 3.0])
    assert label(log, EpisodeLabel(0.5, 0.5)).tolist() == [-1, -1, 1, 1]
    assert label(log, EpisodeLabel(0.5, 0.5, discount=0.5)).tolist() == [1, 1, -1, -1]


def test_only_episodes_that_may_be_drawn_are_ranked() -> None:
    """The best episode is held out; of the other three one is best and one worst."""
    held = torch.tensor([0, 1, 3, 4, 5])
    log, _ = bind(episode_log(**FOUR).with_rows(held), EpisodeLabel(0.34, 0.34))
    assert log.column("label").tolist() == [1, 1, 0, -1, 0, 0]
    assert log.drawable().tolist() == [0, 1, 3]


def test_one_episode_is_imitated_and_equal_ones_go_by_their_order() -> None:
    assert label(episode_log([2]), EpisodeLabel(0.5, 0.5)).tolist() == [1, 1]
    log = episode_log([1] * 4, reward=[1.0] * 4)
    assert label(log, EpisodeLabel(0.5, 0.25)).tolist() == [1, 1, 0, -1]


def test_a_share_of_less_than_one_episode_is_told() -> None:
    with pytest.warns(
        UserWarning, match=r"worst 0.2 of 4 episode\(s\) is less than one: none is av"
    ):
        EpisodeLabel(0.25, 0.2).prepare(episode_log(**FOUR))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        EpisodeLabel(0.25, 0.25).prepare(episode_log(**FOUR))
        EpisodeLabel(0.25, 0.0).prepare(episode_log(**FOUR))


def test_labels_are_served_and_only_labelled_rows_are_drawn() -> None:
    batch = relabeled(episode_log(**FOUR), EpisodeLabel(0.25, 0.25))
    assert batch["label"].dtype == torch.float32
    assert sorted(batch["index"].unique().tolist()) == [2, 3]
    assert batch["label"].equal(torch.where(batch["index"] == 2, 1.0, -1.0))


@pytest.mark.parametrize("shares", [(0.0, 0.5), (1.1, 0.0), (0.5, -0.1), (0.6, 0.5)])
def test_wrong_shares_are_named(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"best {shares[0]} must .* worst {shares[1]} in .* sum"):
        EpisodeLabel(*shares)


# --- ReturnLabel ----------------------------------------------------------------------------------

TWO = {"lengths": [2, 1], "reward": [1.0, 2.0, 6.0]}
"""Returns to go 3, 2 and 6."""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"baseline": 2.5}, [0.5, -0.5, 3.5]),
        ({"baseline": "mean"}, [-2 / 3, -5 / 3, 7 / 3]),
        ({"baseline": "step"}, [-1.5, 0.0, 1.5]),  # 4.5 at step 0, 2 at step 1
        ({"baseline": 0.0, "score": "episode"}, [3.0, 3.0, 6.0]),
        ({"baseline": 0.0, "discount": 0.5}, [2.0, 2.0, 6.0]),
    ],
)
def test_return_less_baseline(options: dict[str, Any], expected: list[float]) -> None:
    relabel = ReturnLabel(**{"discount": 1.0, "scale": "reward"} | options)
    close(label(episode_log(**TWO), relabel), expected)


def test_labels_in_standard_deviations() -> None:
    """Scores 0 and 4: 2 from their mean either way, which is one standard deviation."""
    log = episode_log([1, 1], reward=[0.0, 4.0])
    close(label(log, ReturnLabel()), [-1.0, 1.0])


def test_only_rows_that_may_be_drawn_shape_the_labels() -> None:
    """Scores 0, 4 and 99, the last held out: mean 2, standard deviation 2."""
    log = episode_log([1, 1, 1], reward=[0.0, 4.0, 99.0]).with_rows(torch.arange(2))
    close(label(log, ReturnLabel()), [-1.0, 1.0, 48.5])
    close(label(log, ReturnLabel("step")), [-1.0, 1.0, 48.5])


@pytest.mark.parametrize("kind", [EpisodeLabel, ReturnLabel])
def test_wrong_discounts_are_named(kind: type[Relabeler]) -> None:
    with pytest.raises(ValueError, match=r"discount is 1.5, it must lie in \[0, 1\]"):
        kind(discount=1.5)


# --- labels of one sign ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("relabel", "reward", "told"),
    [
        (ReturnLabel(), [3.0, 3.0], r"ReturnLabel: no label is above 0 \(0 to 0\): nothing is im"),
        (ReturnLabel(4.0), [3.0, 3.0], "nothing is imitated. To fix it, take baseline 'mean', or"),
        (
            ColumnLabel(),
            [-3.0, 0.5],
            r"ColumnLabel of 'next.reward': no label is above 0 \(-1 to -1\): nothing is imitated. "
            r"To fix it, set a threshold \(now 0.5\) within the column's values, -3 to 0.5, or",
        ),
        (
            ColumnLabel(threshold=None),
            [0.0, 0.0],
            "0 to 0.*: nothing is imitated. .*, use EpisodeL",
        ),
    ],
)
def test_labels_that_tell_no_rows_apart_and_imitate_none_are_refused(
    relabel: Relabeler, reward: list[float], told: str
) -> None:
    """The last row, which would be imitated, is not drawn."""
    log = episode_log([1, 1, 1], reward=[*reward, 9.0]).with_rows(torch.arange(2))
    with pytest.raises(ValueError, match=told):
        relabel.prepare(log)


@pytest.mark.parametrize(
    ("relabel", "reward", "told"),
    [
        (
            ReturnLabel(0.0),
            [-1.0, -2.0],
            "ReturnLabel: no label is above 0 .*: nothing is imitated",
        ),
        (ReturnLabel(0.0), [1.0, 2.0], "ReturnLabel: no label is below 0 .*: nothing is avoided"),
        (
            ColumnLabel(),
            [1.0, 1.0],
            r"no label is below 0 \(1 to 1\): .* To fix it, use EpisodeLabel",
        ),
        (
            ColumnLabel(threshold=None),
            [-1.0, 0.0],
            r"no label is above 0 \(-1 to 0\): nothing is i",
        ),
    ],
)
def test_labels_of_one_sign_are_told(relabel: Relabeler, reward: list[float], told: str) -> None:
    log = episode_log([1, 1, 1], reward=[*reward, 0.0]).with_rows(torch.arange(2))
    with pytest.warns(UserWarning, match=told):
        relabel.prepare(log)


# --- ColumnLabel ----------------------------------------------------------------------------------


def success_log() -> Log:
    """Return episodes of 3, 2 and 1 steps: success in the second step, none, at once."""
    success = torch.tensor([False, True, False, False, False, True])
    return episode_log([3, 2, 1]).with_columns({"success": success})


def test_success_anywhere_labels_the_whole_episode() -> None:
    assert label(success_log(), ColumnLabel("success")).tolist() == [1, 1, 1, -1, -1, 1]
    by_row = ColumnLabel("success", over="row")
    assert label(success_log(), by_row).tolist() == [-1, 1, -1, -1, -1, 1]


def test_a_column_may_be_the_label() -> None:
    log = episode_log([2, 1], reward=[-1.0, 3.0, -2.0])
    assert label(log, ColumnLabel(threshold=None, over="row")).tolist() == [-1, 3, -2]
    assert label(log, ColumnLabel(threshold=None)).tolist() == [3, 3, -2]
    log = episode_log([2, 1], reward=[-1.0, 3.0, 4.0])
    assert label(log, ColumnLabel(threshold=3.0)).tolist() == [-1, -1, 1]  # above it, not at it
    assert label(log, ColumnLabel(threshold=3.0, prefer="low")).tolist() == [1, 1, -1]
    log = episode_log([2, 1], reward=[-1.0, 3.0, -4.0])
    assert label(log, ColumnLabel(threshold=None, prefer="low")).tolist() == [-3, -3, 4]


def test_wrong_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"no column 'success' to label by: .*EpisodeLabel"):
        ColumnLabel("success").prepare(episode_log())
    with pytest.raises(ValueError, match=r"'observation' has shape \[3\], not one number per row"):
        ColumnLabel("observation").prepare(episode_log())
