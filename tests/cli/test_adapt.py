"""``hindsight adapt``: the exported policy is that of the task that a few episodes are of."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_fits import hindsight
from episode_logs import episode_log
from small_fits import LEARNERS, fit, learner_of, log_for, moved

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.shots import support_of
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.inferred_task import inferred_task
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.linear import LinearTasks
from hindsight_rl.training.checkpoints.load import load_learner

RULE = """
relabel:
  - class_path: InverseRL
    init_args:
      family: {class_path: LinearTasks, init_args: {low: [-1, -1], high: [1, 1]}}
      candidates: 16
"""


def saved(name: str, log: Log, folder: Path) -> Path:
    """Write a checkpoint of a learner with moved weights, and return its path."""
    data = OfflineDataModule(log, batch_size=16, updates_per_step=2)
    learner = learner_of(LEARNERS[name], data.spec)
    trainer = fit(learner, data, folder, 2)
    moved(learner)
    trainer.save_checkpoint(folder / "some.ckpt", weights_only=True)
    return folder / "some.ckpt"


def few_of(folder: Path, name: str = "few", **options: bool) -> Path:
    """Write three episodes of the same robot, and return where."""
    log = episode_log((4, 6, 5), seed=3, **options)
    log.save(folder / name)
    return folder / name


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("steps", [None, 3])
def test_inner_steps_are_in_the_file(steps: int | None, discrete: bool, tmp_path: Path) -> None:
    """It answers as the learner adapted in Python does, and not as it did before."""
    path = saved("MAMLBC", log_for(LEARNERS["MAMLBC"], discrete=discrete), tmp_path)
    few = few_of(tmp_path, discrete=discrete)
    words = [] if steps is None else ["--steps", steps]
    done = hindsight(
        *("adapt", "--ckpt_path", path, "--data.source", few, "--json", *words),
        *("--output", tmp_path / "one.onnx"),
    )
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["adapted"] == {"episodes": 3, "rows": 15}
    learner, log = load_learner(path), Log.load(few)
    before = learner.scores if discrete else learner
    if steps is not None:
        learner.inner_steps = steps
    adapted = learner.adapted(support_of(log, learner.in_keys))
    seen = log.column("observation")
    with torch.no_grad():
        expected, plain = adapted(seen), learner(seen)
        changed = (before(seen) - (adapted.scores if discrete else adapted)(seen)).abs().max()
    policy = OnnxPolicy(tmp_path / "one.onnx")
    np.testing.assert_allclose(policy.act(seen.numpy()), expected.numpy(), atol=1e-4)
    assert changed > 1e-3 and plain.shape == expected.shape
    assert policy.contract["learner"]["hparams"]["adapted_to"] == {"hash": log.hash(), "rows": 15}


def test_the_task_of_the_episodes_is_what_the_file_does_unless_given_another(
    tmp_path: Path,
) -> None:
    reference = episode_log(task=True, goals=True)
    path = saved("BC", reference, tmp_path)
    reference.save(tmp_path / "reference")
    few = few_of(tmp_path, goals=True)
    (tmp_path / "rule.yaml").write_text(RULE)
    words = ("--data.source", few, "--reference", tmp_path / "reference")
    done = hindsight(
        *("adapt", "--ckpt_path", path, *words, "--config", tmp_path / "rule.yaml"),
        *("--output", tmp_path / "one.onnx"),
    )
    assert done.code == 0, done.err
    assert done.out.startswith("adapted     episodes 3, rows 15, task [")
    rule = InverseRL(LinearTasks([-1, -1], [1, 1]), candidates=16)
    found = inferred_task(rule, reference, Log.load(few))
    policy, seen = OnnxPolicy(tmp_path / "one.onnx"), Log.load(few).column("observation").numpy()
    task = found.task.numpy()
    assert policy.contract["task"]["default"] == pytest.approx(task.tolist())
    rows = np.broadcast_to(task, (len(seen), 2)).copy()
    np.testing.assert_array_equal(policy.act(seen), policy.act(seen, rows))
    assert (policy.act(seen) != policy.act(seen, rows + 1)).any()


def refused(*words: object) -> str:
    """Return what a command that is refused says."""
    done = hindsight("adapt", *words)
    assert done.code == 2 and not done.out
    return done.err


def test_mistakes_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "maml").mkdir()
    path = saved("MAMLBC", log_for(LEARNERS["MAMLBC"]), tmp_path / "maml")
    out = ("--output", tmp_path / "one.onnx")
    few = ("--data.source", few_of(tmp_path))
    assert "give either --ckpt_path or --run" in refused(*few, *out)
    text = refused("--ckpt_path", path, *few, *out, "--steps", 0)
    assert text == "error: --steps is 0, it must be at least 1\n"
    text = refused("--ckpt_path", path, *few, *out, "--config", "rule.yaml")
    assert "MAMLBC adapts by the rows alone: leave out --config and --reference" in text
    other = few_of(tmp_path, "other", discrete=True)
    text = refused("--ckpt_path", path, "--data.source", other, *out)
    assert "its action is" in text and "Adapt it by a log of the robot" in text
    text = refused("--ckpt_path", path, "--data.source", tmp_path / "nowhere", *out)
    assert "nowhere" in text
    (tmp_path / "bc").mkdir()
    plain = saved("BC", episode_log(), tmp_path / "bc")
    assert "BC does not adapt, and takes no task" in refused("--ckpt_path", plain, *few, *out)
    assert "BC takes no inner steps" in refused("--ckpt_path", plain, *few, *out, "--steps", 2)
    assert not (tmp_path / "one.onnx").exists()


def test_mistakes_of_a_policy_that_takes_a_task(tmp_path: Path) -> None:
    reference = episode_log(task=True, goals=True)
    path = saved("BC", reference, tmp_path)
    reference.save(tmp_path / "reference")
    words = ("--ckpt_path", path, "--data.source", few_of(tmp_path, goals=True))
    words += ("--output", tmp_path / "one.onnx")
    assert "BC takes a task, and inverse RL finds which: give --config FILE" in refused(*words)
    words += ("--reference", tmp_path / "reference", "--config", tmp_path / "rule.yaml")
    (tmp_path / "rule.yaml").write_text("relabel: [{class_path: ReturnToGo}]")
    assert "rule.yaml: none of its relabelers is InverseRL" in refused(*words)
    wide = RULE.replace("[-1, -1]", "[-1, -1, -1]").replace(
        "[1, 1]", "[1, 1, 1], features: observation"
    )
    (tmp_path / "rule.yaml").write_text(wide)
    assert "InverseRL has shape [3], and the policy takes [2]" in refused(*words)
    (tmp_path / "rule.yaml").write_text(RULE + "      unit: rest\n")
    assert "unit 'rest', and here whole episodes are of one task" in refused(*words)
    assert not (tmp_path / "one.onnx").exists()


def test_episodes_measured_from_another_zero_are_refused(tmp_path: Path) -> None:
    path = saved("MAMLBC", log_for(LEARNERS["MAMLBC"]), tmp_path)
    log = episode_log((4, 6))
    shifted = Log.from_columns(
        {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")},
        log.info | {"offset": {"observation": [1.0, 0.0, 0.0]}},
    )
    shifted.save(tmp_path / "few")
    text = refused(
        *("--ckpt_path", path, "--data.source", tmp_path / "few"),
        *("--output", tmp_path / "one.onnx"),
    )
    assert "from 'observation' (1.0, 0.0, 0.0) was subtracted, and the policy was fitted" in text
