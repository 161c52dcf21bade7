"""preferences.npz: written, read, appended to; damaged, foreign, empty and mismatched files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log

from hindsight_rl.keys import EPISODE, REWARD
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import Preferences, joined, read_preferences
from hindsight_rl.logs.segments import draw_pairs, places, segment_returns, segment_starts

LENGTH = 4


def answers(log: Log, count: int = 6, **changed: Any) -> Preferences:
    """Return answers by the log's own rewards."""
    rows = draw_pairs(log, LENGTH, count, seed=3)
    episode, start = places(log, rows)
    score = segment_returns(log, rows, LENGTH).float()
    label = (score[:, 1] > score[:, 0]).float()
    names = ("",) * count
    found = Preferences(log.hash(), LENGTH, episode, start, label, score, names, names)
    return replace(found, **changed)


def same(one: Preferences, other: Preferences) -> bool:
    tensors = ("episode", "start", "label", "score")
    plain = ("log_hash", "length", "annotator", "page")
    return all(getattr(one, n) == getattr(other, n) for n in plain) and all(
        torch.equal(getattr(one, n).nan_to_num(), getattr(other, n).nan_to_num()) for n in tensors
    )


@pytest.fixture
def log() -> Log:
    return episode_log()


def test_what_is_written_is_read(log: Log, tmp_path: Path) -> None:
    given = answers(log, annotator=("ada", "bob", "ada", "", "bob", "ada"), page=("p",) * 6)
    given.save(tmp_path / "p.npz")
    found = read_preferences(tmp_path / "p.npz", log)
    assert same(found, given) and found.scored
    assert found.annotators == ["", "ada", "bob"] and len(found.of("ada")) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]


def test_rows_are_those_that_were_drawn(log: Log) -> None:
    rows = draw_pairs(log, LENGTH, 6, seed=3)
    assert answers(log).rows(log).equal(rows)


def test_scores_and_names_may_be_missing(log: Log, tmp_path: Path) -> None:
    write(tmp_path / "p.npz", log, without=("annotator", "page", "score_1", "score_2"))
    found = read_preferences(tmp_path / "p.npz", log)
    assert found.annotator == ("",) * 6 and not found.scored


# --- segments -------------------------------------------------------------------------------------


def test_segments_stay_within_their_episodes(log: Log) -> None:
    """Episodes of 9, 12, 7, 1, 10, 8 steps: 6 + 9 + 4 + 0 + 7 + 5 starts."""
    starts = segment_starts(log, LENGTH)
    assert len(starts) == 31
    episode = log.column(EPISODE)
    assert episode[starts].equal(episode[starts + LENGTH - 1])


def test_pairs_are_two_segments_each_and_depend_on_their_number() -> None:
    log = episode_log((5, 5))
    pairs = draw_pairs(log, 4, 400, seed=0)
    assert bool((pairs[:, 0] != pairs[:, 1]).all())
    found = {tuple(pair) for pair in pairs.tolist()}
    assert len(found) == 4 * 3  # every ordered pair of the four segments
    assert draw_pairs(log, 4, 10, seed=0, first=7).equal(pairs[7:17])
    assert not draw_pairs(log, 4, 400, seed=1).equal(pairs)


def test_returns_of_segments_by_hand(log: Log) -> None:
    reward = log.column(REWARD).double()
    found = segment_returns(log, torch.tensor([[0, 10]]), 3)
    torch.testing.assert_close(found, torch.stack([reward[:3].sum(), reward[10:13].sum()])[None])


def test_segments_longer_than_episodes(log: Log) -> None:
    with pytest.raises(LogError, match=r"segments of 13 .* longest episode has 12.*--length 6"):
        segment_starts(log, 13)
    with pytest.raises(ValueError, match="length is 0, it must be at least 1"):
        segment_starts(log, 0)


# --- appending ------------------------------------------------------------------------------------


def test_appended_answers_come_last_and_changed_ones_stay(log: Log, tmp_path: Path) -> None:
    old = answers(log, page=("a",) * 6)
    new = replace(old, label=1 - old.label)[torch.tensor([1, 4])]
    other = replace(answers(log)[torch.tensor([0])], page=("b",))
    found = joined(joined(old, new, tmp_path), other, tmp_path)
    expected = old.label.clone()
    expected[[1, 4]] = 1 - expected[[1, 4]]
    assert found.label.equal(torch.cat([expected, old.label[:1]]))
    assert found.page == ("a",) * 6 + ("b",)


def test_a_teacher_may_repeat_itself(log: Log, tmp_path: Path) -> None:
    """Without a page there is nothing that would be the same answer."""
    assert len(joined(answers(log), answers(log), tmp_path)) == 12


def test_files_of_other_logs_or_lengths_are_not_joined(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    with pytest.raises(LogError, match=r"p.npz: holds answers about a log with hash .* --output"):
        joined(answers(log), answers(log, log_hash="0" * 16), path)
    with pytest.raises(LogError, match="segments of 4 steps, and the new ones are about 3"):
        joined(answers(log), answers(log, length=3), path)


# --- wrong files ----------------------------------------------------------------------------------


def write(path: Path, log: Log, without: tuple[str, ...] = (), **changed: Any) -> Path:
    """Write answers with some arrays changed."""
    answers(log).save(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in without}
    np.savez(path, **arrays | changed)
    return path


def test_another_log(log: Log, tmp_path: Path) -> None:
    path = write(tmp_path / "p.npz", log)
    with pytest.raises(LogError, match=rf"p.npz: is about a log with hash {log.hash()}, and walk"):
        read_preferences(path, episode_log(seed=1))


def test_missing_cut_and_foreign_files(log: Log, tmp_path: Path) -> None:
    with pytest.raises(LogError, match="none.npz: no such file"):
        read_preferences(tmp_path / "none.npz", log)
    path = write(tmp_path / "p.npz", log)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LogError, match="p.npz: cannot be read as an npz archive"):
        read_preferences(path, log)
    path.write_bytes(b"")
    with pytest.raises(LogError, match="p.npz: cannot be read as an npz archive"):
        read_preferences(path, log)
    np.savez(path, observation=np.zeros(3))
    with pytest.raises(LogError, match="no file of preferences: it has no array 'label'"):
        read_preferences(path, log)
    answers = tmp_path / "answers.json"
    answers.write_text("{}")
    with pytest.raises(LogError, match=r"saves answers as JSON\. Append .* --answers answers.json"):
        read_preferences(answers, log)


def test_nothing_is_unpickled(log: Log, tmp_path: Path) -> None:
    path = write(tmp_path / "p.npz", log, annotator=np.array([{}] * 6, dtype=object))
    with pytest.raises(LogError, match="column 'annotator': an array of Python objects"):
        read_preferences(path, log)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"label": np.zeros(0)}, r"column 'episode_1': shape \[6\] of int64, it must be \[0\]"),
        ({"label": np.full(6, 2.0)}, "column 'label', row 0: 2 is no probability"),
        ({"label": np.array([0, 1, np.nan, 0, 0, 0])}, "column 'label', row 2: nan is no prob"),
        ({"label": np.zeros((6, 1))}, r"column 'label': shape \[6, 1\] of float64"),
        ({"label": np.array(["a"] * 6)}, "column 'label': shape .* numbers"),
        ({"start_2": np.zeros(5, int)}, r"column 'start_2': shape \[5\] .* must be \[6\], whole"),
        ({"start_2": np.zeros(6)}, "column 'start_2': shape .* of float64"),
        ({"length": np.int64(0)}, "column 'length': segments of 0 steps"),
        ({"length": np.uint64(2**64 - 1)}, "column 'length': segments of 18446744073709551615"),
        ({"label": np.float64(1)}, r"column 'label': shape \[\] of float64, it must be \[0\]"),
        ({"length": np.array([4, 4])}, r"column 'length': shape \[2\]"),
        ({"log_hash": np.array(7)}, "column 'log_hash': shape .* text"),
        ({"page": np.zeros(6)}, "column 'page': shape .* text"),
        ({"score_1": np.zeros(2)}, "column 'score_1': shape"),
        ({"episode_1": np.full(6, 6)}, "row 0: steps .* of episode 6 .* has episodes 0 to 5"),
        ({"episode_1": np.full(6, -1)}, "of episode -1 are compared"),
        (
            {"episode_2": np.full(6, 3)},
            "row 0: .* of episode 3 are compared, .* that episode has 1",
        ),
        ({"start_1": np.full(6, 2**40)}, "are compared, and that episode has"),
    ],
)
def test_wrong_arrays(log: Log, tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "p.npz", log, **changed)
    with pytest.raises(LogError, match=message):
        read_preferences(path, log)


def test_no_answers_at_all(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    answers(log)[torch.empty(0, dtype=torch.int64)].save(path)
    with pytest.raises(LogError, match=r"p.npz: holds no answer.*'hindsight compare'"):
        read_preferences(path, log)


def test_an_unknown_annotator(log: Log) -> None:
    with pytest.raises(LogError, match=r"no answer is of annotator 'eve'. There are: \(no name\)"):
        answers(log).of("eve")
