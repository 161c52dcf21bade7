"""``hindsight judge``: what it prints and writes, and what it refuses, with code 2."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fits import cart_log, hindsight

from hindsight_rl import BC, Log, export_policy
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import ACTION, EPISODE, NEXT_OBSERVATION, OBSERVATION, REWARD
from hindsight_rl.nets.network import Network

SHORT = ("--updates", 20, "--hidden", 8, "--members", 2)


def judge(*words: object, log: str | Path = "log.npz") -> Any:
    return hindsight("judge", *words, "--data.source", log, *SHORT)


def test_a_run_is_judged_with_a_page(finished: Path, tmp_path: Path) -> None:
    log, page = finished.parent / "log.npz", tmp_path / "page.html"
    done = judge("--run", finished, "--page", page, log=log)
    assert done.code == 0, done.err
    first, *rest = done.out.splitlines()
    assert first.startswith("The log ") and first.endswith(".")
    names = [line.split()[0] for line in rest if line.startswith("  ") and "[" in line]
    # A deterministic choice has a probability, and every estimator is there.
    assert names[:7] == ["fqe", "lstd", "dualdice", "is", "pdis", "wis", "cwpdis"]
    assert "of a policy cloned from it" in done.out
    assert "\ncheck        fitted Q evaluation says " in done.out
    root = ET.fromstring(page.read_text().partition("\n")[2])
    words = " ".join(root.itertext())
    assert str(finished) in words and "effective episodes" in words
    assert "Check: fitted Q evaluation says " in words
    assert root.find(".//{http://www.w3.org/2000/svg}circle") is not None


def test_all_checkpoints_of_a_run_are_ranked(finished: Path) -> None:
    log = finished.parent / "log.npz"
    done = judge("--select", finished, "--json", "--no_check", log=log)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    names = {one["name"] for one in found["policies"]}
    saved = {f"{finished} {path.stem}" for path in finished.glob("checkpoints/step=*.ckpt")}
    assert names == saved and found["check"] is None
    assert found["chosen"] == found["ranking"]["order"][0]
    assert {row["method"] for row in found["policies"][0]["estimates"]} == {"fqe", "lstd"}


def continuous(path: Path, spread: float) -> Path:
    """Save a log whose actions follow the observation, with so much noise."""
    random = torch.Generator().manual_seed(0)
    rows, length = 600, 20
    seen = torch.rand(rows + 1, 1, generator=random)
    action = 0.5 * seen[:-1] + spread * torch.randn(rows, 1, generator=random)
    last = torch.arange(rows) % length == length - 1
    columns = {
        OBSERVATION: seen[:-1],
        ACTION: action,
        NEXT_OBSERVATION: seen[1:],
        REWARD: -action.squeeze(-1).abs(),
        ("next", "terminated"): torch.zeros(rows, dtype=torch.bool),
        ("next", "truncated"): last,
        EPISODE: torch.arange(rows) // length,
    }
    Log.from_columns(columns, {"action_low": [-3.0], "action_high": [3.0]}).save(path)
    return path


def test_a_policy_that_the_log_does_not_cover_is_named_in_the_first_line(tmp_path: Path) -> None:
    log = continuous(tmp_path / "log", spread=0.02)
    learner = BC(OfflineDataModule(str(log)).spec, network=Network(hidden=(8,)))
    with torch.no_grad():
        learner.actor.net[-1].bias.fill_(2.5)  # pushes to one side, wherever it is
    export_policy(learner.eval(), tmp_path / "push.onnx")
    done = judge(tmp_path / "push.onnx", log=log)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].startswith(
        "The log does not cover this policy: only in 0 % of the logged states"
    )
    assert "Do not believe these numbers" in done.out.splitlines()[0]
    assert "lies outside of the range of all logged actions" in done.out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ((), "give a policy"),
        (("nowhere.ckpt",), "nowhere.ckpt"),
        (("nowhere.onnx",), "nowhere.onnx"),
        (("--run", "nowhere"), "no readable checkpoint"),
        (("--select", "nowhere"), "no checkpoints/step="),
        (("log.npz",), "log.npz"),
        (("x.ckpt", "--methods", "luck"), "no estimator 'luck'"),
        (("x.ckpt", "--discount", "1"), "give a horizon"),
        (("x.ckpt", "--by", "model"), "give one (--model, a checkpoint of Dynamics"),
        (("x.ckpt", "--members", "1"), "members is 1, it must be at least 2"),
    ],
)
def test_mistakes_of_the_caller(place: Path, words: tuple[str, ...], fault: str) -> None:
    done = hindsight("judge", *SHORT, *words, "--data.source", "log.npz")
    assert done.code == 2
    assert fault in done.err and "Traceback" not in done.err
    assert not done.out


def test_a_policy_of_another_robot(finished: Path, tmp_path: Path) -> None:
    log = cart_log(tmp_path / "wide.npz", observations=np.zeros((200, 7), np.float32))
    done = judge("--run", finished, log=log)
    assert done.code == 2
    assert "its observation is observation [4], and that of the log observation [7]" in done.err


def test_a_policy_is_played_in_a_model(tmp_path: Path) -> None:
    """A model by name, s' = s + 1 that pays 10 s' and ends at 3: from s in [0, 1) three steps."""
    log = continuous(tmp_path / "log", spread=0.3)
    data = OfflineDataModule(str(log))
    export_policy(BC(data.spec, network=Network(hidden=(8,))).eval(), tmp_path / "policy.onnx")
    words = ("--methods", "model", "--by", "model", "--json")
    done = judge(tmp_path / "policy.onnx", "--model", "imagined_worlds:counting", *words, log=log)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    (row,) = found["policies"][0]["estimates"]
    start = float(data.log.column(OBSERVATION)[::20].mean())
    expected = sum(0.99**step * 10 * (start + step + 1) for step in range(3))
    assert row["method"] == found["ranking"]["by"] == "model"
    assert row["value"] == pytest.approx(expected, rel=1e-5)
