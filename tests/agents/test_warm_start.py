"""Starting from the weights of another run: what comes along, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import LEARNERS, data_for, equal, fit, learner_of, log_for, weights

from hindsight_rl.agents.checkpoint_file import CheckpointError
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.learner import Learner
from hindsight_rl.agents.sac import SAC

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
    offline = saved["hyper_parameters"]["spec"]
    for part in ("observation", "action", "task"):
        assert learner.spec[part] == offline[part]
    assert learner.spec["dataset"] == data.spec["dataset"] != offline["dataset"]
    fit(learner, data, tmp_path, 8)
    assert not equal(weights(learner), saved["state_dict"])


def test_weights_of_something_else_are_refused(tmp_path: Path) -> None:
    start, data = checkpoint(IQL, tmp_path), data_for(IQL)
    with pytest.raises(CheckpointError, match=r"first.ckpt: of IQL, and this is SAC. Choose the"):
        learner_of(SAC, data.spec, weights_from=str(start))
    learner = learner_of(IQL, data.spec, weights_from=str(start), hidden=(8, 9))
    with pytest.raises(CheckpointError, match=r"is \[8, 8\] in it and \[9, 8\] in this learner"):
        fit(learner, data, tmp_path, 8)
    learner = learner_of(IQL, data.spec, weights_from=str(start), head="deterministic")
    told = r"networks are others: 'actor.log_std' is \[2\] in it and not there in this learner"
    with pytest.raises(CheckpointError, match=told):
        fit(learner, data, tmp_path, 8)
    with pytest.raises(ValueError, match="weights_from would give all 2 copies the same weights"):
        learner_of(IQL, data.spec, weights_from=str(start), seeds=2)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        learner_of(IQL, data.spec, weights_from=str(tmp_path / "none.ckpt"))
    torch.save({"global_step": 1}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=r"not a readable Hindsight checkpoint \(KeyError\)"):
        learner_of(IQL, data.spec, weights_from=str(tmp_path / "other.ckpt"))


def test_weights_for_other_data_are_refused(tmp_path: Path) -> None:
    start = str(checkpoint(IQL, tmp_path))

    def refused(spec: dict[str, Any], told: str) -> None:
        with pytest.raises(CheckpointError, match=told):
            learner_of(IQL, spec, weights_from=start)

    discrete = data_for(IQL, episode_log(discrete=True)).spec
    refused(discrete, "its action has kind continuous, and that of these data discrete")
    task = data_for(IQL, episode_log(task=True)).spec
    refused(task, r"its task has shape None, and that of these data \[2\]. Give data like those")
    spec = data_for(IQL).spec
    wide = spec | {"observation": spec["observation"] | {"shape": [4]}}
    refused(wide, r"its observation has shape \[3\], and that of these data \[4\]")
    loud = spec | {"action": spec["action"] | {"high": [2.0, 3.5]}}
    refused(loud, r"has high \[2.0, 3.0\], and that of these data \[2.0, 3.5\]")
    free = spec | {"action": spec["action"] | {"low": None}}
    refused(free, "has low .*, and that of these data None")
