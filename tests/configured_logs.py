"""The packaged configurations, and a log of the kind that each of them takes.

They are the rows of README's table of methods: :func:`saved_log` gives what one of them is fitted
to. Imported as ``configured_logs`` (``tests`` is on pytest's path).
"""

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import yaml
from small_fits import LEARNERS, log_for, pairs_of

from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.keys import NEXT_ACHIEVED
from hindsight_rl.logs.log import Log
from hindsight_rl.training.learner import Learner

CONFIGS = sorted(
    path.name.removesuffix(".yaml")
    for path in files("hindsight_rl.configs").iterdir()
    if path.name.endswith(".yaml") and "\nmodel:" in "\n" + path.read_text()
)

# With a log of an environment beside what is collected: what any policy did there will do.
BESIDE = dict.fromkeys(("airl", "darc", "gail", "rlpd"), "Pendulum-v1")
# Of a target and a source: one log stands for both.
TWO_SIDED = ("dara",)


def settings(name: str) -> dict[str, Any]:
    """Return what a packaged configuration says."""
    text = (files("hindsight_rl.configs") / f"{name}.yaml").read_text()
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def configured(name: str) -> type[Learner]:
    """Return the learner of a configuration."""
    return LEARNERS[settings(name)["model"]["class_path"]]


def played_log(env: str, path: Path, episodes: int = 1) -> Path:
    """Write the log of some random episodes in an environment, and return its path."""
    played = IteratedDataModule(env, collection=Collection(initial_episodes=episodes))
    columns = {key: played.log.column(key) for key in played.log.keys()}
    Log.from_columns(columns, played.log.info).save(path)
    return path


def saved_log(name: str, folder: Path) -> Path:
    """Write the log that a configuration takes, pairs that a teacher compared beside it.

    Args:
        name: Of the configuration.
        folder: Where ``log`` and ``preferences.npz`` are written.

    Returns:
        The log's path.
    """
    if name in BESIDE:
        return played_log(BESIDE[name], folder / "log")
    reward = torch.linspace(0.0, 1.0, 47).tolist()  # EMRL refuses negative returns
    # So few rows give values of real actions no maximum, with the ridge of a configuration.
    options = {"discrete": True} if name == "lspi" else {}
    log = log_for(configured(name), goals=True, reward=reward, **options)
    if name == "point_mass":  # as many features as its tasks have weights
        log = log.with_columns({NEXT_ACHIEVED: torch.linspace(-1, 1, 235).reshape(47, 5)})
    log.save(folder / "log")
    pairs_of(log).preferences.save(folder / "preferences.npz")
    return folder / "log"
