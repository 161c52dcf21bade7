"""Teachers that see more than their students, and people: what docs/experts.md says, run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command_fits import hindsight

from hindsight_rl.datamodules.relabeled import PROVENANCE
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log

DOCS = Path(__file__).parents[2] / "docs" / "experts.md"
SMALL = (
    *("--trainer.max_steps", 30, "--trainer.accelerator", "cpu", "--model.network.hidden", "[8]"),
    *("--data.batch_size", 16, "--data.updates_per_step", 8, "--model.compile", "off"),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the log ``played.npz``: 6 episodes of 20 steps, each of another mass."""
    draw = np.random.default_rng(0)
    rows = 120
    state = draw.normal(size=(rows, 2)).astype(np.float32)
    mass = np.repeat(draw.uniform(1, 2, 6), 20).astype(np.float32)
    np.savez(
        tmp_path / "played.npz",
        state=state,
        mass=mass,
        action=np.clip(-state[:, :1] * mass[:, None], -2, 2),
        reward=np.zeros(rows, np.float32),
        terminated=np.zeros(rows, bool),
        truncated=np.arange(rows) % 20 == 19,
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_student_learns_from_a_teacher_that_sees_more(place: Path) -> None:
    """The page's own commands and its file: the teacher sees the mass, the student does not."""
    teacher = ("--data.source", "played.npz", "--data.columns", "{observation: [state, mass]}")
    done = hindsight("fit", "--config", "bc", *teacher, *SMALL, "--run", "runs/teacher")
    assert done.code == 0, done.err
    done = hindsight("export", "--run", "runs/teacher", "--output", "teacher.onnx")
    assert done.code == 0, done.err
    _, _, rest = DOCS.read_text().partition("```yaml\n# student.yaml\n")
    (place / "student.yaml").write_text(rest.partition("```")[0])
    more = ("--model.segment", 4, "--model.burn_in", 1, "--model.units", 8)
    done = hindsight("fit", "--config", "student.yaml", *SMALL, *more, "--run", "runs/student")
    assert done.code == 0, done.err
    assert hindsight("export", "--run", "runs/student", "--output", "student.onnx").code == 0
    shapes = [
        OnnxPolicy(f"{name}.onnx").contract["observation"]["shape"]
        for name in ("teacher", "student")
    ]
    assert shapes == [[3], [2]]
    words = ("--expert", "teacher.onnx", "--expert_reads", "observation,mass")
    columns = ("--columns", "{observation: state, extra: [mass]}", "--output", "labelled")
    done = hindsight("relabel", "played.npz", *words, *columns)
    assert done.code == 0, done.err
    log = Log.load("labelled")
    seen = torch.cat([log.column("observation"), log.column("mass")[:, None]], dim=1)
    answers = OnnxPolicy("teacher.onnx").act(seen.numpy())
    np.testing.assert_allclose(log.column("expert_action").numpy(), answers, atol=1e-6)


def test_a_persons_table_is_written_and_trained_on(place: Path) -> None:
    (place / "answers.csv").write_text("episode,step,action,remark\n3,11,-0.2,slow\n0,0,1.5,\n")
    words = ("relabel", "played.npz", "--columns", "{observation: state}", "--output", "labelled")
    done = hindsight(*words, "--expert", "answers.csv")
    assert done.out == "labelled: 120 rows in 6 episodes; added expert_action\n", done.err
    log = Log.load("labelled")
    label = log.column("expert_action")[:, 0]
    assert label.isfinite().nonzero()[:, 0].tolist() == [0, 71]
    assert label[[0, 71]].tolist() == pytest.approx([1.5, -0.2])
    assert log.info[PROVENANCE][0]["expert"] == "answers.csv"
    relabel = ("--data.relabel", "[{class_path: ExpertAction}]")
    fit = ("fit", "--config", "bc", "--data.source", "labelled", *SMALL, *relabel)
    assert hindsight(*fit, "--run", "a").code == 0
    (place / "answers.csv").write_text("episode,step,action\n9,0,1\n")
    done = hindsight(*words, "--expert", "answers.csv", "--overwrite")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "answers.csv, line 2: the log has no step 0 in episode 9" in done.err
