"""Each check alone: what passes unchanged, what is refused, and where the message points."""

import numpy as np
import pytest

from hindsight_rl.logs import checks
from hindsight_rl.logs.choice_checks import choices
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.problems import Problems, listed, missing_column, nearest

LOG = Problems("log.npz")


def test_a_problem_is_raised_or_collected() -> None:
    with pytest.raises(LogError, match=r"^log.npz, column 'c', row 3: wrong. Fix it.$"):
        LOG.report("wrong", "Fix it.", "c", 3)
    collecting = Problems("log.npz", collect=True)
    collecting.report("wrong", "Fix it.", "c", 3)
    collecting.report("also", "Fix it.")
    assert [error.row for error in collecting.found] == [3, None]


def test_rows_are_counted_within_their_file() -> None:
    findings = Problems("folder", parts=((0, "a.parquet"), (10, "b.parquet")))
    places = [findings.error("x", "y", "c", row) for row in (0, 9, 10, 14)]
    assert [(error.path, error.row) for error in places] == [
        ("a.parquet", 0),
        ("a.parquet", 9),
        ("b.parquet", 0),
        ("b.parquet", 4),
    ]
    assert findings.error("x", "y", "c").path == "folder"


def test_words() -> None:
    assert nearest("acton", ["action", "reward"]) == "Did you mean 'action'? "
    assert nearest("zzz", ["action", "reward"]) == ""
    assert listed([]) == "nothing" and listed(["a", "b"]) == "a, b"
    assert listed([str(i) for i in range(50)]).endswith("39 and 10 more")
    assert "Did you mean 'obs'? It holds: obs." in str(missing_column("ob", ["obs"], "log"))


def test_numbers_pass_unchanged() -> None:
    for values in (np.arange(3), np.array([True, False]), np.zeros((2, 3), np.float16)):
        assert checks.numeric(values, "c", LOG) is values


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.array(["1", "2", "x3"]), r"column 'c', row 2: text 'x3' where a number is needed"),
        (np.array([{}, 1], object), "objects of mixed type where plain numbers are needed"),
        (np.array([1j]), "complex numbers where plain numbers"),
        (np.array(["2020-01-01"], "datetime64[D]"), "dates where plain numbers"),
        (np.array(3.0), "a single value, no column"),
    ],
)
def test_other_types_are_refused(values: np.ndarray, told: str) -> None:
    with pytest.raises(LogError, match=told):
        checks.numeric(values, "c", LOG)


def test_float32_of_finite_numbers() -> None:
    made = checks.as_float32(np.array([[1, 2], [3, 4]]), "c", LOG)
    assert made.dtype == np.float32 and made.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("bad", "told"), [(np.nan, "NaN"), (-np.inf, "infinity"), (1e300, r"1e\+300, too large")]
)
def test_what_is_not_finite_is_refused(bad: float, told: str) -> None:
    values = np.ones((4, 2))
    values[2, 1] = values[3, 0] = bad
    with pytest.raises(LogError, match=f"column 'c', row 2: {told} .2 such entries in the column"):
        checks.as_float32(values, "c", LOG)


def test_flags() -> None:
    for values in (np.array([True, False]), np.array([1, 0]), np.array([[1.0], [0.0]])):
        assert checks.as_flag(values, "c", LOG).tolist() == [True, False]
    for bad in (2, np.nan):
        with pytest.raises(LogError, match="row 1: .* is no flag"):
            checks.as_flag(np.array([0, bad]), "c", LOG)
    with pytest.raises(LogError, match="2 entries per row where one is needed"):
        checks.as_flag(np.zeros((3, 2)), "c", LOG)


def test_lengths() -> None:
    checks.same_length(np.zeros(5), [5, 7], "c", LOG)
    checks.same_length(np.zeros(7), [5, 7], "c", LOG)
    with pytest.raises(LogError, match=r"6 rows where the actions have 5 \(or 7\)"):
        checks.same_length(np.zeros(6), [5, 7], "c", LOG)


def test_episodes_that_come_back() -> None:
    checks.episodes_apart(np.array([3, 3, 1, 2]), "id", LOG)
    with pytest.raises(LogError, match="row 3: episode 3 comes back after another one"):
        checks.episodes_apart(np.array([3, 3, 1, 3]), "id", LOG)
    with pytest.raises(LogError, match="row 2: episode a comes back"):
        checks.episodes_apart(np.array(["a", "b", "a"]), "id", LOG)


def test_steps_run_forward_within_an_episode() -> None:
    lengths = np.array([3, 2])
    checks.runs_forward(np.array([0, 1, 2, 0, 1]), lengths, "t", LOG)
    checks.runs_forward(np.array([0.0, 0.1, 0.1, 0.0, 0.1]), lengths, "t", LOG)
    for steps, row in (([0, 2, 1, 0, 1], 2), ([0, 1, 2, 1, 0], 4), ([0, 1, 1, 0, 1], 2)):
        with pytest.raises(LogError, match=f"row {row}: the episode runs backwards"):
            checks.runs_forward(np.array(steps), lengths, "t", LOG)


def test_flags_belong_on_last_rows() -> None:
    last = np.array([False, False, True])
    checks.flags_at_ends(np.array([False, False, True]), last, "done", LOG)
    with pytest.raises(LogError, match="column 'done', row 1: the flag is set but the episode"):
        checks.flags_at_ends(np.array([False, True, True]), last, "done", LOG)


def test_bounds() -> None:
    low, high = np.array([-1.0, -2.0]), np.array([1.0, 2.0])
    inside = np.array([[1.0, -2.0], [1.0000005, 2.000001]])
    checks.within_bounds(inside, low, high, "a", LOG)
    checks.within_bounds(inside * 100, None, None, "a", LOG)
    with pytest.raises(LogError, match=r"row 1: action\[1\] = 2.5 lies outside \[-2.0, 2.0\] \(25"):
        checks.within_bounds(np.array([[0, 0], [0, 2.5]]), low, high, "a", LOG)
    with pytest.raises(LogError, match=r"action\[0\] = -1.1 lies outside \[-1.0, inf\]"):
        checks.within_bounds(np.array([[-1.1, 0]]), low, None, "a", LOG)


def test_choices() -> None:
    assert choices(np.array([0.0, 2.0]), None, "a", LOG).dtype == np.int64
    for bad, told in (
        (0.5, "action 0.5 is no whole number"),
        (-1, "is negative"),
        (3, "is none of the 3 actions"),
        (np.nan, "is no whole number"),
    ):
        with pytest.raises(LogError, match=f"row 1: .*{told}"):
            choices(np.array([0, bad]), 3, "a", LOG)
    with pytest.raises(LogError, match="action 65536 is none of the 65536 actions"):
        choices(np.array([0, 65536]), None, "a", LOG)
