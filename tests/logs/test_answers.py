"""Answers of a page: read, and what no page saved."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log

from hindsight_rl.logs.answers import FORMAT, read_answers
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log

ONE = {"episode_1": 0, "start_1": 5, "episode_2": 1, "start_2": 0, "label": 1}
TIE = {"episode_1": 4, "start_1": 6, "episode_2": 0, "start_2": 2, "label": 0.5}


def saved(folder: Path, log: Log, **changed: Any) -> Path:
    """Write a file of two answers about segments of four steps, some of it changed."""
    facts = {"format": FORMAT, "page": "p", "log_hash": log.hash(), "length": 4, "annotator": "ada"}
    path = folder / "answers.json"
    path.write_text(json.dumps(facts | {"answers": [ONE, TIE]} | changed))
    return path


def test_answers_become_preferences(tmp_path: Path) -> None:
    log = episode_log()
    found = read_answers(saved(tmp_path, log), log)
    assert found.episode.tolist() == [[0, 1], [4, 0]] and found.start.tolist() == [[5, 0], [6, 2]]
    assert found.label.equal(torch.tensor([1.0, 0.5])) and not found.scored
    assert found.annotator == ("ada",) * 2 and found.page == ("p",) * 2 and found.length == 4
    assert read_answers(saved(tmp_path, log), log, annotator="bob").annotators == ["bob"]
    found.save(tmp_path / "p.npz")  # as any other


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "x"}, f"no file of answers: it does not say '{FORMAT}'"),
        ({"page": 3}, "'page' is no text"),
        ({"annotator": None}, "'annotator' is no text"),
        ({"length": 4.0}, "'length' is 4.0, no number of steps"),
        ({"length": 0}, "'length' is 0"),
        ({"length": True}, "'length' is True"),
        ({"answers": {}}, "'answers' is no list"),
        ({"answers": []}, "holds no answer"),
        ({"answers": [3]}, "row 0: an answer is no object"),
        ({"answers": [ONE, ONE | {"label": 0.7}]}, "row 1: 'label' is 0.7, it must be 0, 0.5 or"),
        ({"answers": [ONE | {"label": True}]}, "'label' is True"),
        ({"answers": [ONE | {"label": None}]}, "'label' is None"),
        ({"answers": [ONE | {"start_2": "0"}]}, "'start_2' is no whole number"),
        ({"answers": [ONE | {"start_2": 2**70}]}, "'start_2' is no whole number"),
        ({"answers": [ONE | {"start_1": 6}]}, "steps 6 to 9 of episode 0 .* that episode has 9"),
        ({"log_hash": "0" * 16}, "is about a log with hash 0000"),
    ],
)
def test_files_that_no_page_saved(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    log = episode_log()
    with pytest.raises(LogError, match=rf"answers.json.*{message}"):
        read_answers(saved(tmp_path, log, **changed), log)


def test_files_that_are_no_json(tmp_path: Path) -> None:
    log = episode_log()
    path = saved(tmp_path, log)
    path.write_text(path.read_text()[:50])
    with pytest.raises(LogError, match="answers.json"):
        read_answers(path, log)
    with pytest.raises(LogError, match="none.json: no such file"):
        read_answers(tmp_path / "none.json", log)
