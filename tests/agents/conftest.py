"""What every test of a learner shares: small data of each kind, and Lightning kept quiet."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import KINDS

from hindsight_rl.datamodules.offline import OfflineDataModule

_TALK = (
    "ignore:.*isinstance.treespec, LeafSpec.*",
    "ignore:.*Total length of `list` across ranks is zero.*",
    "ignore:.*does not have many workers.*",
    "ignore:.*ModelCheckpoint with manual optimization.*",
    "ignore:.*exists and is not empty.*",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Silence what Lightning says about loaders and checkpoints that are meant to be so."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for text in _TALK:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True, scope="session")
def _quiet() -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)  # of the networks' first weights


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def options(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Options of a log: continuous and discrete actions, with and without a task."""
    return request.param


@pytest.fixture
def spec(options: dict[str, bool]) -> dict[str, Any]:
    """The spec of a log of each kind."""
    return OfflineDataModule(episode_log(**options)).spec
