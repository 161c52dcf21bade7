"""Imagined rows of fitted models: from a checkpoint, by kinds of doubt, fitted on meanwhile."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from small_fits import fit, learner_of
from small_replays import log_of, online

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.datamodules.imagined_rows import ImaginedRows, Refit, Unknown
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sources.model import ModelSource
from hindsight_rl.keys import ACTION, IMAGINED, NEXT_OBSERVATION, OBSERVATION, ORIGIN, REWARD
from hindsight_rl.maths.dynamics import UNCERTAINTIES

QUIET = {"compile": "off"}


def model_of(log: Any, folder: Path, updates: int = 20, **options: Any) -> tuple[Any, Path]:
    """Return a small model of a log, and its checkpoint."""
    data = OfflineDataModule(log, batch_size=16, validation=0.25)
    plain: dict[str, Any] = {"members": 3, "elites": 2, "termination": "none"}
    learner = learner_of(Dynamics, data.spec, **QUIET | plain | options)
    trainer = fit(learner, data, folder, updates, val_check_interval=updates)
    trainer.save_checkpoint(folder / "model.ckpt")
    return learner, folder / "model.ckpt"


def test_a_checkpoint_imagines_as_its_learner_does(tmp_path: Path) -> None:
    log = log_of()
    learner, path = model_of(log, tmp_path)
    rows, identity = [], []
    for model in (str(path), learner):
        source = ModelSource(ImaginedRows(model, horizon=3), log, seed=2)
        rows.append(source.collect(None, 0, 30, log))
        identity.append(source.model.identity)
    assert identity[0] == identity[1] and identity[0].startswith("sha256:")
    for key, column in rows[0].columns.items():
        assert torch.equal(column, rows[1].columns[key])
    # One step from a logged state is what the learner says of it, luck apart.
    here, action = rows[0].columns[OBSERVATION][:5], rows[0].columns[ACTION][:5]
    said = learner.imagine(here, action)
    assert torch.equal(said.disagreement, rows[0].disagreement[:5])
    assert not torch.equal(said.next_observation, rows[0].columns[NEXT_OBSERVATION][:5])
    with torch.no_grad():
        next(learner.parameters()).add_(1e-3)
    assert ModelSource(ImaginedRows(learner), log).model.identity != identity[0]


@pytest.mark.parametrize("kind", UNCERTAINTIES)
def test_doubts_are_those_that_are_asked_for(kind: Any, tmp_path: Path) -> None:
    """MOPO's reward is less the penalty times it; MOReL's threshold is a quantile of it."""
    log = log_of()
    learner, path = model_of(log, tmp_path)
    learner.uncertainty = kind
    expected = learner.imagine(log.column(OBSERVATION), log.column(ACTION)).disagreement
    options = {"rows": 20, "horizon": 2, "uncertainty": kind}
    source = ModelSource(ImaginedRows(str(path), **options, unknown=Unknown(0.5)), log)
    assert torch.equal(source.disagreement(log, torch.arange(len(log))), expected)
    assert source.threshold == pytest.approx(float(expected.sort().values[(len(log) - 1) // 2]))
    plain, dear = (
        ModelSource(ImaginedRows(str(path), **options, penalty=penalty), log).collect(
            None, 0, 20, log
        )
        for penalty in (0.0, 3.0)
    )
    lowered = plain.columns[REWARD] - 3.0 * plain.disagreement
    torch.testing.assert_close(dear.columns[REWARD], lowered)
    assert float(plain.disagreement.min()) > 0


def test_a_model_follows_what_is_collected(tmp_path: Path) -> None:
    """Fitted on before every round; resumed in the middle of one and at its edge to the bit."""
    log = log_of()
    checkpoint = model_of(log, tmp_path)[1]
    given = {"every": 20, "rows": 20, "horizon": 2, "refit": Refit(5, 8, 0.25)}
    shares = {"log": 0.25, "collected": 0.25, "imagined": 0.5}

    def run(folder: Path, updates: int, ckpt_path: Path | None = None) -> Path:
        imagined = ImaginedRows(str(checkpoint), **given)
        data = online(log, mix=shares, imagined=imagined)
        trainer = fit(learner_of(BC, data.spec, **QUIET), data, folder, updates, ckpt_path)
        trainer.save_checkpoint(folder / f"{updates}.ckpt")
        assert int((data.log.column(ORIGIN) == IMAGINED).sum()) > 0
        return folder / f"{updates}.ckpt"

    whole = torch.load(run(tmp_path / "one", 50), weights_only=True)
    for stop in (30, 40):
        folder = tmp_path / str(stop)
        again = torch.load(run(folder, 50, run(folder, stop)), weights_only=True)
        for key in ("state_dict", "optimizer_states", "IteratedDataModule"):
            assert differences(whole[key], again[key], key) == []
    first = torch.load(checkpoint, weights_only=True)["state_dict"]
    weights = whole["IteratedDataModule"]["imagined"]["weights"]
    assert differences(first, weights) and first.keys() == weights.keys()


def test_a_policy_is_no_model(tmp_path: Path) -> None:
    log = log_of()
    data = OfflineDataModule(log)
    trainer = fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 1)
    trainer.save_checkpoint(tmp_path / "bc.ckpt")
    with pytest.raises(ValueError, match="BC does not say what follows actions: give a checkpoint"):
        ModelSource(ImaginedRows(str(tmp_path / "bc.ckpt")), log)
