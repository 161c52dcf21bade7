"""Packaged maps against the code of the tools themselves: OGBench's loader, steps of RLDS."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hindsight_rl.logs.reading import read_log

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "logs.md"
LENGTHS = (4, 2, 3)  # rows in the file, of which the last is no step
ENDS = np.cumsum(LENGTHS) - 1


def ogbench(path: Path, pixels: bool) -> Path:
    """Write a file as OGBench's data generation does: `terminals` at the end of each episode."""
    draw, rows = np.random.default_rng(0), sum(LENGTHS)
    shape = (rows, 8, 8, 3) if pixels else (rows, 5)
    seen = draw.integers(0, 256, shape).astype(np.uint8) if pixels else draw.normal(size=shape)
    values = {
        "observations": seen if pixels else seen.astype(np.float32),
        "actions": draw.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "terminals": np.isin(np.arange(rows), ENDS),
        "qpos": draw.normal(size=(rows, 7)),
        "qvel": draw.normal(size=(rows, 6)),
    }
    np.savez_compressed(path, **values)
    return path


@pytest.mark.parametrize("pixels", [False, True])
def test_ogbench_is_read_as_its_own_loader_reads_it(pixels: bool, tmp_path: Path) -> None:
    loader = pytest.importorskip("ogbench.utils", reason="needs the extra 'robots'")
    path = ogbench(tmp_path / "visual-cube.npz", pixels)
    theirs = loader.load_dataset(path, ob_dtype=np.uint8 if pixels else np.float32)
    log = read_log(path, "ogbench")
    np.testing.assert_array_equal(log.column("observation"), theirs["observations"])
    np.testing.assert_array_equal(log.column(("next", "observation")), theirs["next_observations"])
    np.testing.assert_array_equal(log.column("action"), theirs["actions"])
    ends = np.zeros(len(log))
    ends[log.episode_ends().numpy()] = 1
    np.testing.assert_array_equal(ends, theirs["terminals"])
    assert not log.column(("next", "terminated")).any() and not log.column(("next", "reward")).any()


def test_what_ogbench_loads_and_others_save_is_read_with_a_step_in_each_row(tmp_path: Path) -> None:
    """As the map says: next observations are stored then, and the last row is a step."""
    loader = pytest.importorskip("ogbench.utils", reason="needs the extra 'robots'")
    theirs = loader.load_dataset(ogbench(tmp_path / "a.npz", False))
    np.savez(tmp_path / "b.npz", **theirs)
    columns = {"observation": "observations", "action": "actions", "reward": 0.0}
    columns |= {"next_observation": "next_observations", "terminated": None}
    columns |= {"episode_end": "terminals", "last_row": "step"}
    log, there = read_log(tmp_path / "b.npz", columns), read_log(tmp_path / "a.npz", "ogbench")
    for key in ("observation", ("next", "observation"), "action", "episode"):
        np.testing.assert_array_equal(log.column(key), there.column(key))


def steps(observe: Any, *, acts_to_the_end: bool) -> Iterator[list[dict[str, Any]]]:
    """Yield episodes of steps as RLDS has them, or as data sets of Open X-Embodiment do.

    By RLDS step k holds what is observed, then what is done, then what that gave. The last step is
    an observation; the others' fields of it mean nothing.
    """
    for number, (length, ended) in enumerate(zip((3, 2), (True, False), strict=True)):
        count = length if acts_to_the_end else length + 1
        yield [
            {
                "observation": observe(10 * number + k),
                "action": np.float32([k, 9.0] if k < length else [77.0, 77.0]),
                "reward": np.float32(k + 1 if k < length else 99.0),
                "discount": np.float32(1.0),
                "is_first": k == 0,
                "is_last": k == count - 1,
                "is_terminal": k == count - 1 and (ended or acts_to_the_end),
                "language": b"pick" if number else b"put down",
            }
            for k in range(count)
        ]


def run_guide(
    episodes: list[list[dict[str, Any]]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Run the code of the guide where tensorflow_datasets has these episodes."""
    code = re.search(r"^```python\n(import numpy.*?tfds.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert code is not None
    stand_in = SimpleNamespace(
        load=lambda name, split: [{"steps": iter(episode)} for episode in episodes],
        as_numpy=lambda given: given,
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", stand_in)
    monkeypatch.chdir(folder)
    exec(compile(code[1], str(GUIDE), "exec"), {})  # noqa: S102 - the code that the guide shows
    return folder / "steps.npz"


def test_the_guide_makes_a_file_of_rlds_that_its_map_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episode 0 terminates in what its third action led to, episode 1 is cut."""
    made = list(steps(lambda n: np.float32([n, -n]), acts_to_the_end=False))
    log = read_log(run_guide(made, tmp_path, monkeypatch), "rlds_steps")
    assert log.column("observation")[:, 0].tolist() == [0, 1, 2, 10, 11]
    assert log.column(("next", "observation"))[:, 0].tolist() == [1, 2, 3, 11, 12]
    assert log.column("action")[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert log.column(("next", "reward")).tolist() == [1, 2, 3, 1, 2]
    assert log.column(("next", "terminated")).tolist() == [False, False, True, False, False]
    assert log.column(("next", "truncated")).tolist() == [False] * 4 + [True]


def test_nested_observations_of_open_x_embodiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second map of the guide: every row is a step, and ends are cuts."""
    import yaml

    def observe(number: int) -> dict[str, Any]:
        return {"image": np.full((8, 8, 3), number, np.uint8), "state": np.float32([number])}

    made = list(steps(observe, acts_to_the_end=True))
    path = run_guide(made, tmp_path, monkeypatch)
    shown = re.search(r"^```yaml\n(observation: \{image.*?)^```", GUIDE.read_text(), re.M | re.S)
    assert shown is not None
    log = read_log(path, yaml.safe_load(shown[1]))
    assert log.column(("observation", "state"))[:, 0].tolist() == [0, 1, 2, 10, 11]
    assert log.column(("observation", "image"))[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11]
    assert log.column(("next", "reward")).tolist() == [1, 2, 3, 1, 2]
    assert log.column(("next", "truncated")).nonzero()[:, 0].tolist() == [2, 4]
    assert not log.column(("next", "terminated")).any()
