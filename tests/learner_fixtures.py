"""What every test of a learner shares: small data of each kind, and Lightning kept quiet.

The ``conftest.py`` of each room that fits learners imports all of it.
"""

import logging
from collections.abc import Iterator

import gymnasium
import pytest
import torch
from episode_logs import episode_log
from small_fits import KINDS
from tiny_envs import Line

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.spec import Spec

ENV = "HindsightTestLine-v0"
ROOMS = ("agents", "nets", "policies", "training", "diagnostics", "tasks")
_TALK = (
    "ignore:.*isinstance.treespec, LeafSpec.*",
    "ignore:.*Total length of `list` across ranks is zero.*",
    "ignore:.*does not have many workers.*",
    "ignore:.*ModelCheckpoint with manual optimization.*",
    "ignore:.*exists and is not empty.*",
    "ignore:episodes are held out",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Silence what Lightning says about loaders and checkpoints that are meant to be so."""
    for item in items:
        if item.path.parent.name in ROOMS:
            for text in _TALK:
                item.add_marker(pytest.mark.filterwarnings(text))


@pytest.fixture(autouse=True, scope="session")
def quiet() -> None:
    """Keep Lightning from talking."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Start every test from the same generator."""
    torch.manual_seed(0)  # of the networks' first weights


@pytest.fixture
def env() -> Iterator[str]:
    """The id of a small environment."""
    gymnasium.register(ENV, entry_point=Line)
    yield ENV
    gymnasium.registry.pop(ENV)


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def options(request: pytest.FixtureRequest) -> dict[str, bool]:
    """Options of a log: continuous and discrete actions, with and without a task."""
    return request.param


@pytest.fixture
def spec(options: dict[str, bool]) -> Spec:
    """The spec of a log of each kind."""
    return OfflineDataModule(episode_log(**options)).spec
