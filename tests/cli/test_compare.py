"""``hindsight compare``: a teacher's answers, appended; and what it refuses, with code 2."""

from pathlib import Path

import pytest
import torch
from command_fits import LENGTH, cart_log, hindsight

from hindsight_rl.logs.preferences import read_preferences
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.segments import segment_returns


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return cart_log(tmp_path / "log.npz")


def teach(log: Path, *words: object) -> tuple[Path, str]:
    """Have a teacher answer about segments of five steps; return the file and what was said."""
    path = log.with_name("preferences.npz")
    done = hindsight(
        "compare", "--data.source", log, "--teacher", "return", "--output", path, *words
    )
    assert done.code == 0, done.err
    return path, done.out


def test_a_teacher_answers_by_returns(log: Path) -> None:
    path, said = teach(log, "--pairs", 200, "--length", 5)
    found = read_preferences(path, read_log(log))
    assert said == f"{path}: 200 answers about segments of 5 steps\n"
    assert found.length == 5 and len(found) == 200 and found.annotators == ["teacher return"]
    returns = segment_returns(read_log(log), found.rows(read_log(log)), 5)
    assert found.label.equal((returns[:, 1] > returns[:, 0]).float())
    torch.testing.assert_close(found.score, returns.float())
    assert 60 < float(found.label.sum()) < 140


def test_further_answers_are_about_other_pairs(log: Path) -> None:
    path, _ = teach(log, "--pairs", 30, "--length", 5)
    first = path.read_bytes()
    _, said = teach(log, "--pairs", 20)
    assert said == f"{path}: 50 answers about segments of 5 steps, 20 of them new\n"
    path.unlink()
    again, _ = teach(log, "--pairs", 30, "--length", 5)
    assert again.read_bytes() == first
    found = read_preferences(again, read_log(log))
    teach(log, "--pairs", 20)
    both = read_preferences(again, read_log(log))
    rows = both.rows(read_log(log))
    assert rows[:30].equal(found.rows(read_log(log))) and len(rows.unique(dim=0)) > 48


def test_teachers_that_err_call_ties_or_are_unsure(log: Path) -> None:
    def agreement(*words: object) -> float:
        path, _ = teach(log, "--pairs", 1000, "--length", 5, *words)
        found = read_preferences(path, read_log(log))
        path.unlink()
        better = (found.score[:, 1] > found.score[:, 0]).float()
        decided = found.label != 0.5
        return float((found.label == better)[decided].float().mean())

    assert agreement() == 1.0
    assert agreement("--mistakes", 0.1) == pytest.approx(0.9, abs=0.03)
    margin_sure = agreement("--beta", 100)
    assert margin_sure > 0.97 and 0.5 < agreement("--beta", 0.2) < 0.75
    path, said = teach(log, "--pairs", 100, "--length", 5, "--ties", 1e6)
    assert "100 ties" in said and set(read_preferences(path, read_log(log)).label.tolist()) == {0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--length", LENGTH + 1), "fewer than two segments of 21 steps can be drawn"),
        (("--length", 0), "length is 0, it must be at least 1"),
        (("--pairs", 0), "--pairs 0: at least 1"),
        (("--length", 5, "--beta", 0), "beta 0.0 must be above 0"),
        (("--length", 5, "--mistakes", 2), "mistakes 2.0 in"),
    ],
)
def test_mistakes_of_the_caller(log: Path, words: tuple[object, ...], message: str) -> None:
    path = log.with_name("preferences.npz")
    done = hindsight(
        "compare", "--data.source", log, "--teacher", "return", "--output", path, *words
    )
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not path.exists()


def test_answers_about_another_log_or_length_stay_as_they_are(log: Path) -> None:
    path, _ = teach(log, "--pairs", 10, "--length", 5)
    before = path.read_bytes()
    other = cart_log(log.with_name("other.npz"), rewards=torch.zeros(200).numpy())
    for words, message in (
        (("--data.source", other), "is about a log with hash"),
        (("--data.source", log, "--length", 4), "holds answers about segments of steps: 5"),
    ):
        done = hindsight("compare", *words, "--teacher", "return", "--output", path)
        assert done.code == 2 and message in done.err
        assert path.read_bytes() == before
