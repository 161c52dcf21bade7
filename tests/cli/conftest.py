"""What tests of ``fit``, ``validate``, ``test`` and ``predict`` share: a log, and runs of it."""

from pathlib import Path

import pytest
from command_fits import cart_log, fit


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for ``log.npz``."""
    monkeypatch.chdir(tmp_path)
    return cart_log(tmp_path / "log.npz").parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 60 updates with held-out episodes and evaluations; not to be changed.

    Its log lies beside it.
    """
    folder = tmp_path_factory.mktemp("finished")
    log = cart_log(folder / "log.npz")
    words = (
        "--data.validation",
        0.3,
        "--env",
        "CartPole-v1",
        "--model.init_args.evaluation.every",
        20,
    )
    more = ("--trainer.val_check_interval", 60)
    done = fit("--run", folder / "run", *words, *more, log=log)
    assert done.code == 0, done.err
    return folder / "run"
