"""Labels that are written equal labels on the fly, on one rank and on two."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import PROVENANCE, write_relabeled
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.expert_action import ExpertAction
from hindsight_rl.relabel.expert_labels import ExpertLabels
from hindsight_rl.relabel.relabeler import Relabeler


def where_right(observation: Any, task: Any, env: Any) -> Any:
    """Return two numbers, and nothing where the first is below 1."""
    found = observation[:, 1:].copy()
    found[observation[:, 0] < 1] = float("nan")
    return found


def weights(log: Log, relabel: list[Relabeler], folder: Path) -> dict[str, torch.Tensor]:
    data = OfflineDataModule(log, relabel, batch_size=16, updates_per_step=4, seed=5)
    learner = learner_of(BC, data.spec)
    fit(learner, data, folder, 12)
    return learner.state_dict()


def test_training_on_written_labels_equals_labels_on_the_fly(tmp_path: Path) -> None:
    log = episode_log()
    bound = write_relabeled(log, [ExpertLabels(where_right)], tmp_path / "log")
    assert bound.labelled is None
    found = Log.load(tmp_path / "log")
    assert torch.equal(found.column("action"), log.column("action"))
    missing = found.column("expert_action").isnan().all(1)
    assert torch.equal(missing, log.column("observation")[:, 0] < 1) and 0 < missing.sum()
    (done,) = found.info[PROVENANCE]
    assert done["added"] == ["expert_action"] and done["original"] == {}
    assert done["expert"] == f"{__name__}:where_right"
    assert len(done["expert_hash"]) == len("sha256:") + 64
    one = weights(log, [ExpertLabels(where_right), ExpertAction()], tmp_path)
    two = weights(found, [ExpertAction()], tmp_path)
    plain = weights(log, [], tmp_path)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], plain[name]) for name in one)


def test_an_action_that_was_not_executed_is_not_written(tmp_path: Path) -> None:
    """Its row would have the reward and the successor of another action."""
    message = "ExpertAction puts another action beside the reward and the successor of the one"
    with pytest.raises(LogError, match=message):
        write_relabeled(
            episode_log(), [ExpertLabels(where_right), ExpertAction()], tmp_path / "log"
        )
    assert not (tmp_path / "log").exists()
