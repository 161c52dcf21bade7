"""A person's answers: a table of what should have been done in some rows of a log."""

import hashlib
from pathlib import Path

import pytest
import torch
from episode_logs import HIGH, episode_log
from small_logs import small

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.expert_action import ExpertAction
from hindsight_rl.relabel.expert_labels import ExpertLabels
from hindsight_rl.relabel.experts import opened


def labels(folder: Path, text: str, log: Log, *, encoding: str = "utf-8") -> list[list[float]]:
    """Return the rows that a table labels, with the label behind each."""
    path = folder / "answers.csv"
    path.write_text(text, encoding=encoding)
    found = ExpertLabels(path).prepare(log).columns["expert_action"]
    assert found.dtype == torch.float32 and found.shape == log.column("action").shape
    flat = found.reshape(len(found), -1)
    rows = flat.isfinite().all(1).nonzero()[:, 0].tolist()
    return [[row, *[round(one, 4) for one in flat[row].tolist()]] for row in rows]


def test_rows_that_are_answered_have_labels(tmp_path: Path) -> None:
    """Episodes of 3 and 2, called 7 and 2 in what they were read from, are 0 and 1."""
    log = small(action=torch.full((5, 1), 9.0))
    assert log.column("episode").tolist() == [0, 0, 0, 1, 1]
    text = "episode,step,action,remark\n0,1,-0.5,too fast\n1,1,0.25,\n0,2,,do not know\n\n"
    assert labels(tmp_path, text, log) == [[1, -0.5], [4, 0.25]]
    chained = Compose([ExpertLabels(tmp_path / "answers.csv"), ExpertAction()]).prepare(log)
    assert chained.rows.tolist() == [1, 4]
    digest = hashlib.sha256(text.encode()).hexdigest()
    found = chained.relabelers[0].provenance
    assert found == {
        "expert": str(tmp_path / "answers.csv"),
        "expert_hash": f"sha256:{digest}",
    }


def test_spreadsheets_and_names_of_the_log(tmp_path: Path) -> None:
    """Semicolons, a byte order mark, names in any order; labels end at the bounds of the log."""
    log = episode_log([3, 4])
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    named = Log.from_columns(columns, log.info | {"names": {"action": ["lift", "turn"]}})
    text = "turn;lift;step;episode\r\n0.5;-1;2;1\r\n99;0;0;0\r\n"
    assert labels(tmp_path, text, named, encoding="utf-8-sig") == [[0, 0.0, HIGH[1]], [5, -1, 0.5]]
    plain = "episode,step,action[0],action[1]\n1,2,-1,0.5\n"
    assert labels(tmp_path, plain, named) == [[5, -1.0, 0.5]]


def test_choices_are_those_of_the_log(tmp_path: Path) -> None:
    log = episode_log(discrete=True)
    assert labels(tmp_path, "episode,step,action\n0,3,2\n", log) == [[3, 2.0]]
    with pytest.raises(ValueError, match="chooses 7, and the choices are 0 to 2"):
        labels(tmp_path, "episode,step,action\n0,3,7\n", log)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"names nothing; it needs episode, step, action\[0\], action\[1\]"),
        ("episode,step\n0,1\n", r"names episode, step; it needs episode, step, action\[0\]"),
        ("episode,step,action[0],action[0]\n", r"two columns are called 'action\[0\]'"),
        ("{}9,0,1,1\n", "line 2: the log has no step 0 in episode 9; both count from 0"),
        ("{}0,-1,1,1\n", "line 2: the log has no step -1 in episode 0"),
        ("{}0,99,1,1\n", "line 2: the log has no step 99 in episode 0"),
        ("{}0,1.5,1,1\n", "line 2: the log has no step 1.5 in episode 0"),
        ("{}0,,1,1\n", "line 2: the log has no step nan in episode 0"),
        ("{}0,1,1,1\n0,1,1,1\n", "line 3: episode 0, step 1 is answered twice"),
        ("{}0,1,1,\n", "line 2: half an action"),
        ("{}0,1,left,1\n", "line 2: 'left' is no number"),
        (
            'episode,step,remark,action[0],action[1]\n0,1,"a\nb",1,1\n0,2,,left,1\n',
            "line 4: 'left' is no number",
        ),
        ("{}0,1,inf,1\n", "line 2: 'inf' is not finite"),
        ("{}0,1,1\n", "line 2: 3 cells, and the first line has 4"),
    ],
)
def test_tables_that_are_none_are_errors(text: str, message: str, tmp_path: Path) -> None:
    filled = text.replace("{}", "episode,step,action[0],action[1]\n")
    with pytest.raises(ValueError, match=message):
        labels(tmp_path, filled, episode_log())


def test_a_table_is_there_and_answers_about_logs_alone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.csv: no such file"):
        ExpertLabels(tmp_path / "gone.csv").prepare(episode_log())
    with pytest.raises(ValueError, match="a table of answers, which sees nothing"):
        ExpertLabels("answers.csv", reads=["mass"])
    with pytest.raises(ValueError, match="cannot be asked in an environment"):
        opened("answers.csv")
