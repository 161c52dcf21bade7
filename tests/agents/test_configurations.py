"""The packaged configurations: they hold what they say, they run, and every learner has one."""

from pathlib import Path
from typing import Any

import pytest
from configured_logs import CONFIGS, TWO_SIDED, configured, saved_log, settings
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from small_fits import LEARNERS, fit, learner_of, pairs_of

from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.plugins import import_rooms
from hindsight_rl.training.learner import Learner


def parsed(name: str, source: Path, **trainer: Any) -> Any:
    """Return the instances a packaged configuration describes, parsed as the command does."""
    import_rooms("relabel", "tasks", "planners")
    parser = LightningArgumentParser(parser_mode="omegaconf")
    parser.add_lightning_class_args(Learner, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")
    config = settings(name)
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
        OfflineDataModule: {"source": [str(source)] * 2 if name in TWO_SIDED else str(source)},
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


@pytest.fixture
def log(name: str, tmp_path: Path) -> Path:
    """A log of the kind that the learner of a configuration takes."""
    path = saved_log(name, tmp_path)
    if name == "p_iql":
        pairs = pairs_of(Log.load(path))
        model = learner_of(RewardModel, pairs.spec)
        fit(model, pairs, tmp_path, 1).save_checkpoint(tmp_path / "reward.ckpt")
    return path


def plain(value: Any) -> Any:
    """Return a value with tuples as lists, as a configuration file writes them."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", CONFIGS)
def test_configuration_holds_the_defaults_of_its_learner(name: str, log: Path) -> None:
    if name.replace("_", "") != configured(name).__name__.lower():
        pytest.skip("its values are those of a paper that is a learner and a data step")
    made = parsed(name, log)
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
def test_configuration_fits(name: str, log: Path, tmp_path: Path) -> None:
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    options = dict.fromkeys(quiet, False) | {"accelerator": "cpu", "max_steps": 3}
    made = parsed(name, log, default_root_dir=str(tmp_path), **options)
    trainer = Trainer(**made.trainer)
    trainer.fit(made.model, made.data)
    assert trainer.global_step == 3


@pytest.mark.parametrize("name", LEARNERS)
def test_learner_has_a_configuration(name: str) -> None:
    """Module, configuration and class bear one name; underscores may part its words."""
    module = LEARNERS[name].__module__.removeprefix("hindsight_rl.agents.")
    assert module.replace("_", "") == name.lower()
    assert module in CONFIGS, f"write configs/{module}.yaml"
