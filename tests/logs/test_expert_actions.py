"""The column ``expert_action`` of any log, and of a saved one: NaN where nobody said."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import torch
from small_logs import small

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log

NAN = float("nan")
ROWS = foreign.ROWS
Write = Callable[[Path, Mapping[str, Any]], Path]
WRITERS: dict[str, Write] = {
    "log.npz": foreign.npz,
    "log.csv": foreign.csv,
    "log.hdf5": foreign.hdf5,
    "log.parquet": foreign.parquet,
}


def plain() -> dict[str, Any]:
    """Return rows of two numbers, actions of one and two episodes of four."""
    row = np.arange(8, dtype=np.float64)
    return {
        "obs": np.stack([row, row * row], axis=1),
        "action": (row - 4.0) / 4.0,
        "reward": np.zeros(8),
        "episode": np.repeat([0, 1], 4),
        "terminated": row % 4 == 3,
    }


def said(*rows: int, value: float = 0.25) -> Any:
    """Return a column of eight rows with a label in some."""
    column = np.full(8, NAN)
    column[list(rows)] = value
    return column


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_has_the_usual_name(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / name, plain() | {"expert_action": said(1, 6)})
    log = read_log(path, {"observation": "obs_*" if name == "log.csv" else "obs"})
    column = log.column("expert_action")
    assert column.shape == log.column("action").shape == (8, 1)
    assert column.isfinite().flatten().nonzero().flatten().tolist() == [1, 6]
    assert column[1].item() == 0.25


def test_labels_are_scaled_and_clipped_as_actions_are(tmp_path: Path) -> None:
    row = plain() | {"who": said(1, value=0.75), "action": np.linspace(-1.0, 0.5, 8)}
    path = foreign.npz(tmp_path / "log.npz", row)
    given = {
        "observation": "obs",
        "expert_action": "who",
        "action_scale": 2.0,
        "action_offset": 1.0,
    }
    log = read_log(path, given)
    assert log.column("expert_action")[1].item() == 2.5
    assert log.column("action")[0].item() == -1.0
    bounds = {"action_low": -2.0, "action_high": 2.4}
    with pytest.raises(LogError, match=r"column 'who', row 1: action\[0\] = 2\.5 lies outside"):
        read_log(path, given | bounds)
    clipped = read_log(path, given | bounds | {"clip": True}).column("expert_action")
    assert clipped[1].item() == pytest.approx(2.4) and clipped.isnan().sum() == 7
    assert "expert_action" not in read_log(path, {"observation": "obs"})


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (said(1, value=np.inf), r"column 'expert_action', row 1: \[inf\] is no action\. Give an"),
        (said(1)[:5], "5 rows where the actions have 8"),
        (np.stack([said(1)] * 2, 1), "2 numbers in a row where the actions have 1"),
    ],
)
def test_what_is_no_action_is_an_error(column: Any, message: str, tmp_path: Path) -> None:
    path = foreign.npz(tmp_path / "log.npz", plain() | {"expert_action": column})
    with pytest.raises(LogError, match=message):
        read_log(path, {"observation": "obs"})


def test_choices_are_those_of_the_log(tmp_path: Path) -> None:
    choices = plain() | {"action": np.array([1, 2, 3, 1, 2, 3, 1, 2])}
    given = {"observation": "obs", "action_start": 1}
    path = foreign.npz(tmp_path / "log.npz", choices | {"expert_action": said(2, 5, value=3.0)})
    log = read_log(path, given)
    assert log.column("expert_action")[[2, 5]].tolist() == [3.0, 3.0]
    for value, row in ((4.0, 2), (1.5, 2)):
        more = choices | {"expert_action": said(row, value=value)}
        path = foreign.npz(tmp_path / "other.npz", more)
        with pytest.raises(LogError, match=f"row {row}: {value:g} is none of the choices 1 to 3"):
            read_log(path, given)


def test_a_saved_log_keeps_what_nobody_said(tmp_path: Path) -> None:
    label = torch.tensor([[0.1], [NAN], [0.3], [NAN], [NAN]])
    log = small(action=torch.zeros(5, 1), expert_action=label)
    log.save(tmp_path / "log")
    found = Log.load(tmp_path / "log").column("expert_action")
    assert torch.equal(found.nan_to_num(7.0), label.nan_to_num(7.0))
    small(action=torch.zeros(5, 1), expert_action=label / 0.0).save(tmp_path / "other")
    with pytest.raises(LogError, match=r"expert_action', row 0: inf is no number"):
        Log.load(tmp_path / "other")
    small(action=torch.zeros(5, 1), other=label).save(tmp_path / "third")
    with pytest.raises(LogError, match=r"column 'other', row 1: nan is no number"):
        Log.load(tmp_path / "third")
