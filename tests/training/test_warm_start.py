"""Starting from the weights of another run: what comes along, and what is refused."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from small_fits import LEARNERS, data_for, equal, fit, learner_of, log_for, weights
from specs import changed

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.sac import SAC
from hindsight_rl.agents.td3 import TD3
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.file import HASH, CheckpointError
from hindsight_rl.training.learner import Learner

QUIET = {"compile": "off"}


def checkpoint(kind: type[Learner], folder: Path, **options: Any) -> Path:
    """Return a checkpoint of eight updates on a small log."""
    data = data_for(kind, log_for(kind, **options))
    trainer = fit(learner_of(kind, data.spec, **QUIET), data, folder, 8)
    trainer.save_checkpoint(folder / "first.ckpt")
    return folder / "first.ckpt"


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_and_statistics_are_those_of_the_checkpoint(name: str, tmp_path: Path) -> None:
    """On another log: buffers and spec are the checkpoint's, and updates go on from there."""
    kind = LEARNERS[name]
    start = checkpoint(kind, tmp_path)
    saved = torch.load(start, weights_only=True)
    data = data_for(kind, log_for(kind, seed=1))
    learner = learner_of(kind, data.spec, weights_from=str(start), weight_seed=5, **QUIET)
    learner.trainer = fit(learner_of(kind, data.spec, **QUIET), data, tmp_path, 1)
    learner.setup("fit")
    assert equal(weights(learner), saved["state_dict"])
    offline = Spec.from_dict(saved["hyper_parameters"]["spec"])
    for part in ("observation", "action", "task"):
        assert getattr(learner.spec, part) == getattr(offline, part)
    assert learner.spec.dataset == data.spec.dataset != offline.dataset
    fit(learner, data, tmp_path, 8)
    assert not equal(weights(learner), saved["state_dict"])


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    start, data = checkpoint(IQL, tmp_path), data_for(IQL)
    with pytest.raises(CheckpointError, match=r"first.ckpt: of IQL, and this is SAC. Choose the"):
        learner_of(SAC, data.spec, weights_from=str(start))
    learner = learner_of(IQL, data.spec, weights_from=str(start), network=Network(hidden=(8, 9)))
    with pytest.raises(CheckpointError, match=r"is \[8, 8\] in it and \[9, 8\] in this learner"):
        fit(learner, data, tmp_path, 8)
    with pytest.raises(ValueError, match="weights_from would give all 2 seeds the same weights"):
        learner_of(IQL, data.spec, weights_from=str(start), seeds=2)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        learner_of(IQL, data.spec, weights_from=str(tmp_path / "none.ckpt"))
    torch.save({"global_step": 1}, tmp_path / "other.ckpt")
    with pytest.raises(
        CheckpointError, match=r"other.ckpt: not a Hindsight checkpoint: it ho.* Give a"
    ):
        learner_of(IQL, data.spec, weights_from=str(tmp_path / "other.ckpt"))


BACKWARDS = Head(relative_to=(1, 0))
SCALED = Network(hidden=(8, 8), task_scale=(5.0, 2.0))
BC_HEADS = ("gaussian", "laplace", "tanh_gaussian")  # one mean and one spread per dimension


@pytest.mark.parametrize(
    ("there", "here", "told"),
    [
        *(
            (
                {"head": one},
                {"head": two},
                f"has head.kind '{one}' in it and '{two}' in this learner",
            )
            for one, two in itertools.permutations(BC_HEADS, 2)
        ),
        (
            {"head": "gaussian"},
            {"head": "deterministic"},
            "has head.kind 'gaussian' in it and 'det",
        ),
        ({"head": Head(squash_mean=False)}, {}, "head.squash_mean False in it and True in this"),
        ({"head": BACKWARDS}, {}, r"relative_to \[1, 0\] in it and None in"),
        (
            {"head": BACKWARDS},
            {"head": Head(relative_to=(0, 1))},
            r"relative_to \[1, 0\] in it and \[0, 1\]",
        ),
        ({"network": SCALED}, {}, r"'actor.inputs' has task_scale \[5.0, 2.0\] in it"),
    ],
)
def test_equal_shapes_that_mean_something_else_are_refused(
    there: dict[str, Any], here: dict[str, Any], told: str, tmp_path: Path
) -> None:
    data = data_for(BC, episode_log(task=True))
    fit(learner_of(BC, data.spec, **QUIET | there), data, tmp_path, 8).save_checkpoint(
        tmp_path / "first.ckpt"
    )
    start = {"weights_from": str(tmp_path / "first.ckpt")}
    with pytest.raises(CheckpointError, match=f"networks are others: .*{told}.*Give the arguments"):
        fit(learner_of(BC, data.spec, **QUIET | here | start), data, tmp_path, 1)
    same = {**there, "clip_norm": 1.0}  # what means nothing to the weights may change
    fit(learner_of(BC, data.spec, **QUIET | same | start), data, tmp_path, 1)


def test_the_unit_of_values_is_compared_and_exploration_is_not(tmp_path: Path) -> None:
    start = str(checkpoint(AWR, tmp_path))
    data = data_for(AWR)
    learner = learner_of(AWR, data.spec, weights_from=start, discount=0.9)
    with pytest.raises(CheckpointError, match="'value' has scale 99.99.* in it and 10.0"):
        fit(learner, data, tmp_path, 1)
    start, data = str(checkpoint(TD3, tmp_path)), data_for(TD3)
    options = {"exploration": 0.4, "discount": 0.9, "weights_from": start}
    fit(learner_of(TD3, data.spec, **QUIET | options), data, tmp_path, 1)


@pytest.mark.parametrize("kind", ["mixture", "autoregressive"])
def test_the_way_of_choosing_among_answers_may_change(kind: Any, tmp_path: Path) -> None:
    data = data_for(BC)
    first = learner_of(BC, data.spec, **QUIET | {"head": kind})
    fit(first, data, tmp_path, 8).save_checkpoint(tmp_path / "first.ckpt")
    options = {"head": Head(kind, acting="sample_mean"), "weights_from": f"{tmp_path}/first.ckpt"}
    fit(learner_of(BC, data.spec, **QUIET | options), data, tmp_path, 1)


def test_a_head_says_nothing_of_discrete_actions(tmp_path: Path) -> None:
    start = str(checkpoint(BC, tmp_path, discrete=True))
    data = data_for(BC, episode_log(discrete=True))
    fit(learner_of(BC, data.spec, weights_from=start, head="laplace"), data, tmp_path, 1)


def test_a_learner_that_cannot_be_made_again_is_told(tmp_path: Path) -> None:
    payload = torch.load(checkpoint(BC, tmp_path), weights_only=True)
    payload["hyper_parameters"]["gone"] = 1
    torch.save(
        {name: part for name, part in payload.items() if name != HASH}, tmp_path / "old.ckpt"
    )
    learner = learner_of(BC, data_for(BC).spec, weights_from=str(tmp_path / "old.ckpt"))
    with pytest.raises(CheckpointError, match=r"learner cannot be made again .*gone.* of this ver"):
        fit(learner, data_for(BC), tmp_path, 1)


def test_bounds_that_are_open_on_one_side_are_compared(tmp_path: Path) -> None:
    data = data_for(BC)

    def spec(low: list[float | None] | None) -> Spec:
        return changed(data.spec, action={"low": low})

    learner = learner_of(BC, spec([None, -1.0]), **QUIET)
    fit(learner, data, tmp_path, 8).save_checkpoint(tmp_path / "first.ckpt")
    start = {"weights_from": str(tmp_path / "first.ckpt")}
    taken = learner_of(BC, spec([None, -1.0 - 1e-7]), **start)
    assert taken.spec.action.low == (None, -1.0)
    for low in ([None, -2.0], [-1.0, -1.0], [-1.0, None], [None], None):
        with pytest.raises(
            CheckpointError, match=r"its action has low \[None, -1.0\], and that of"
        ):
            learner_of(BC, spec(low), **start)


def test_a_run_folder_and_other_files_are_told(tmp_path: Path) -> None:
    spec = data_for(BC).spec
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    checkpoint(BC, tmp_path).rename(folder / "last.ckpt")
    whole = (folder / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[:-1000])
    (tmp_path / "policy.onnx").write_bytes(b"onnx")
    np.savez(tmp_path / "log.npz", action=np.zeros(3))
    (tmp_path / "empty").mkdir()
    no_mend = "None beside it is good. Give a .ckpt that 'hindsight fit' wrote."
    for name, told in {
        "run": f"run: a run folder, not a file. Give the checkpoint in it: {folder / 'last.ckpt'}",
        "empty": "empty: a folder, not a file. None in it is good. Give a .ckpt that 'hindsight",
        "cut.ckpt": f"not a readable Hindsight checkpoint: cut, or a file of another .*{no_mend}",
        "policy.onnx": f"policy.onnx: not a readable Hindsight checkpoint: cut, or .*{no_mend}",
        "log.npz": f"log.npz: not a readable Hindsight checkpoint: cut, or .*{no_mend}",
    }.items():
        with pytest.raises(CheckpointError, match=told) as error:
            learner_of(BC, spec, weights_from=str(tmp_path / name))
        assert "Error" not in str(error.value)


def test_weights_for_other_data_are_refused(tmp_path: Path) -> None:
    start = str(checkpoint(IQL, tmp_path))

    def refused(spec: Spec, told: str) -> None:
        with pytest.raises(CheckpointError, match=told):
            learner_of(IQL, spec, weights_from=start)

    discrete = data_for(IQL, episode_log(discrete=True)).spec
    refused(discrete, "its action has kind continuous, and that of these data discrete")
    task = data_for(IQL, episode_log(task=True)).spec
    refused(task, r"its task has shape None, and that of these data \[2\]. Give data like those")
    spec = data_for(IQL).spec
    wide = changed(spec, observation={"shape": [4]})
    refused(wide, r"its observation has shape \[3\], and that of these data \[4\]")
    loud = changed(spec, action={"high": [2.0, 3.5]})
    refused(loud, r"has high \[2.0, 3.0\], and that of these data \[2.0, 3.5\]")
    free = changed(spec, action={"low": None})
    refused(free, "has low .*, and that of these data None")
