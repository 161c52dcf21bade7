"""The packaged configurations: they hold what they say, they run, and every learner has one."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from small_fits import LEARNERS, fit, learner_of, log_for, pairs_of

from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.keys import NEXT_ACHIEVED
from hindsight_rl.logs.log import Log
from hindsight_rl.plugins import import_rooms
from hindsight_rl.training.learner import Learner

CONFIGS = sorted(
    path.name.removesuffix(".yaml")
    for path in files("hindsight_rl.configs").iterdir()
    if path.name.endswith(".yaml") and "\nmodel:" in "\n" + path.read_text()
)

# Of experts in an environment: what any policy did there will do.
IMITATED = dict.fromkeys(("airl", "gail"), "Pendulum-v1")


def parsed(name: str, source: Path, **trainer: Any) -> Any:
    """Return the instances a packaged configuration describes, parsed as the command does."""
    import_rooms("relabel", "tasks")
    parser = LightningArgumentParser(parser_mode="omegaconf")
    parser.add_lightning_class_args(Learner, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")
    config = yaml.safe_load((files("hindsight_rl.configs") / f"{name}.yaml").read_text())
    env = config.pop("env", None)
    if env and ":" in env:  # of a package that is an extra
        pytest.importorskip(env.partition(":")[0])
    few: dict[str, Any] = {"env": env}
    collection = config["data"]["init_args"].get("collection", {})
    few["collection"] = collection | {"initial_episodes": 2, "episodes_per_round": 1}
    if "log" in (config["data"]["init_args"].get("mix") or {}):  # of the same environment
        few["source"] = str(source)
    if imagined := config["data"]["init_args"].get("imagined"):  # by a function, fitted to nothing
        imagined |= {"model": "imagined_worlds:wander", "rows": 16}
        for name_of_learner in ("refit", "uncertainty"):
            imagined.pop(name_of_learner, None)
    answers = source.with_name("preferences.npz")
    changed = {
        OfflineDataModule: {"source": str(source)},
        IteratedDataModule: few,
        PreferenceDataModule: {"source": str(source), "preferences": str(answers)},
    }
    for step in config["data"]["init_args"].get("relabel", []):
        if step["class_path"] == "LearnedReward":
            step["init_args"]["checkpoint"] = str(source.with_name("reward.ckpt"))
    named = {kind.__name__: values for kind, values in changed.items()}
    config["data"]["init_args"] |= named[config["data"]["class_path"]]
    config["trainer"] |= trainer
    return parser.instantiate_classes(parser.parse_object(config))


def configured(name: str) -> type[Learner]:
    """Return the learner of a configuration."""
    model = yaml.safe_load((files("hindsight_rl.configs") / f"{name}.yaml").read_text())["model"]
    return LEARNERS[model["class_path"]]


@pytest.fixture
def saved_log(name: str, tmp_path: Path) -> Path:
    """A log of the kind that the learner of a configuration takes."""
    reward = torch.linspace(0.0, 1.0, 47).tolist()  # EMRL refuses negative returns
    if name in IMITATED:
        played = IteratedDataModule(IMITATED[name], collection=Collection(initial_episodes=1))
        keys = played.log.keys()
        Log.from_columns({k: played.log.column(k) for k in keys}, played.log.info).save(
            tmp_path / "log"
        )
        return tmp_path / "log"
    # So few rows give values of real actions no maximum, with the ridge of a configuration.
    options = {"discrete": True} if name == "lspi" else {}
    log = log_for(configured(name), goals=True, reward=reward, **options)
    if name == "point_mass":  # as many features as its tasks have weights
        log = log.with_columns({NEXT_ACHIEVED: torch.linspace(-1, 1, 235).reshape(47, 5)})
    log.save(tmp_path / "log")
    pairs = pairs_of(log)
    pairs.preferences.save(tmp_path / "preferences.npz")
    if name == "p_iql":
        model = learner_of(RewardModel, pairs.spec)
        fit(model, pairs, tmp_path, 1).save_checkpoint(tmp_path / "reward.ckpt")
    return tmp_path / "log"


def plain(value: Any) -> Any:
    """Return a value with tuples as lists, as a configuration file writes them."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_holds_the_defaults_of_its_learner(name: str, saved_log: Path) -> None:
    if name.replace("_", "") != configured(name).__name__.lower():
        pytest.skip("its values are those of a paper that is a learner and a data step")
    made = parsed(name, saved_log)
    learner, default = made.model, type(made.model)(made.data.spec)
    found, expected = (
        {key: plain(v) for key, v in made.hparams.items() if key not in ("spec", "_instantiator")}
        for made in (learner, default)
    )
    assert found == expected and "clip_norm" in found
    optimizers = learner.configure_optimizers(), default.configure_optimizers()
    assert type(optimizers[0]) is type(optimizers[1])
    assert optimizers[0].defaults == optimizers[1].defaults


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_fits(name: str, saved_log: Path, tmp_path: Path) -> None:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "max_steps": 3}
    made = parsed(name, saved_log, default_root_dir=str(tmp_path), **options)
    trainer = Trainer(**made.trainer)
    trainer.fit(made.model, made.data)
    assert trainer.global_step == 3


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_has_a_configuration(name: str) -> None:
    """Module, configuration and class bear one name; underscores may part its words."""
    module = LEARNERS[name].__module__.removeprefix("hindsight_rl.agents.")
    assert module.replace("_", "") == name.lower()
    assert module in CONFIGS, f"write configs/{module}.yaml"
