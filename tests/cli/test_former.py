"""Configurations that name ``InverseRL`` with a level, as runs before 2026-11 hold it."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from hindsight_rl.cli.former import current_classes
from hindsight_rl.cli.relabel import build, read_settings
from hindsight_rl.cli.words import configured_imports, packaged_config, spell_out
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.once import Once

COLLECTION = {field.name for field in fields(Collection)}
MOVED = "hindsight_rl.relabel.inverse.InverseRL"
# As `fit` wrote it into the config.yaml of a run: every argument, the class by its module.
EVERY: dict[str, Any] = {
    "family": {
        "class_path": "hindsight_rl.tasks.family.GoalReaching",
        "init_args": {"radius": 0.5, "kind": "dense"},
    },
    "level": "trajectory",
    "candidates": 7,
    "propose": "reached",
    "tasks": None,
    "partition": False,
    "temperature": 2.0,
    "fraction": 0.5,
    "entropy_scale": 1.0,
    "seed": 4,
    "rate": 0.05,
}


def entry(level: str, path: str = MOVED) -> dict[str, Any]:
    return {"class_path": path, "init_args": EVERY | {"level": level}}


@pytest.mark.parametrize("path", ["InverseRL", "hindsight_rl.InverseRL", MOVED])
def test_each_level_is_a_class_and_keeps_every_argument_that_acted(path: str) -> None:
    relabel = current_classes([entry("trajectory", path), entry("transition", path)])
    (one, two), _ = build(relabel, "config.yaml")
    assert type(one) is InverseRL and type(two) is TransitionInverseRL
    for part in (one, two):
        assert part.family.radius == 0.5 and part.family.kind == "dense"
        assert part.candidates == 7 and part.propose == "reached" and part.tasks is None
        assert part.partition is False and part.temperature == 2.0 and part.fraction == 0.5
    assert one.seed == 4
    assert two.entropy_scale == 1.0 and two.rate == 0.05


def test_classes_within_others_and_without_arguments() -> None:
    inner = {"class_path": "Once", "init_args": {"relabelers": [entry("trajectory")], "seed": 1}}
    (once, one, two), _ = build(
        current_classes([inner, {"class_path": MOVED}, MOVED]), "config.yaml"
    )
    assert isinstance(once, Once) and type(once.relabelers[0]) is InverseRL
    assert type(one) is type(two) is InverseRL


def test_what_is_of_today_is_left_as_it_is() -> None:
    today = [
        {"class_path": "InverseRL", "init_args": {"candidates": 3}},
        {"class_path": "InverseRL", "init_args": {"rate": 0.1}},  # no argument: to be refused
        {"class_path": "InverseRL", "init_args": {"level": "steps"}},  # never was one
        {"class_path": "TransitionInverseRL", "init_args": {"rate": 0.1}},
        {"class_path": "InverseRL"},
        {"class_path": "hindsight_rl.InverseRL", "init_args": {"seed": 2}},
        {"class_path": ["InverseRL"], "init_args": None},
        "InverseRL",
        3,
    ]
    assert current_classes(today) == today


def test_the_configuration_of_a_run_is_read_by_fit_and_relabel(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    data = {"class_path": "OfflineDataModule", "init_args": {"relabel": [entry("transition")]}}
    model = {"class_path": "SAC", "init_args": {"hidden": [8], "eval_every": 5}}
    own.write_text(yaml.safe_dump({"model": model, "data": data, "trainer": {"max_steps": 3}}))
    found = yaml.safe_load(spell_out(["fit", "--config", str(own)])[0][2])
    assert found["model"]["init_args"] == {
        "network": {"hidden": [8]},
        "evaluation": {"every": 5},
    }
    (part,) = found["data"]["init_args"]["relabel"]
    kept = {name: EVERY[name] for name in EVERY if name not in ("level", "seed")}
    assert part == {"class_path": "hindsight_rl.TransitionInverseRL", "init_args": kept}
    assert found["trainer"] == {"max_steps": 3}
    assert read_settings(str(own)).relabel == [part]


@pytest.mark.parametrize("name", ["hipi_bc", "hipi_rl", "four_rooms", "point_mass"])
def test_packaged_configurations_are_of_today(name: str) -> None:
    path = packaged_config(name)
    assert spell_out(["fit", "--config", name])[0][2] == path
    assert "level:" not in Path(path).read_text()


# --- what is collected --------------------------------------------------------------------------

# As `fit` wrote it into the config.yaml of a run: every argument.
FLAT: dict[str, Any] = {
    "env": "CartPole-v1",
    "relabel": None,
    "initial_episodes": 3,
    "episodes_per_round": 4,
    "updates_per_env_step": 0.5,
    "capacity": 900,
    "explore": 0.25,
    "sample": False,
    "num_envs": 2,
    "max_episode_steps": None,
    "command": {"class_path": "hindsight_rl.tasks.commands.BestReturn"},
}
MOVED_FIELDS = {name: value for name, value in FLAT.items() if name in COLLECTION}


@pytest.mark.parametrize(
    "path",
    [
        "IteratedDataModule",
        "hindsight_rl.IteratedDataModule",
        "hindsight_rl.datamodules.iterated.IteratedDataModule",
    ],
)
def test_flat_arguments_of_a_collection_are_its_fields(path: str) -> None:
    # These never stood flat.
    younger = {"expert", "max_stuck", "stuck_radius", "epochs", "steps_per_round"}
    younger |= {"delayed", "background"}
    assert set(MOVED_FIELDS) == COLLECTION - younger
    former = {"data": {"class_path": path, "init_args": FLAT}}
    rest = {"env": "CartPole-v1", "relabel": None, "capacity": 900}
    today = {"data": {"class_path": path, "init_args": rest | {"collection": MOVED_FIELDS}}}
    assert current_classes(former) == today == current_classes(today)
    both = {"class_path": path, "init_args": {"explore": 0.5, "collection": {"explore": 0.1}}}
    assert current_classes(both)["init_args"] == {"collection": {"explore": 0.1}}
    # Another class may have arguments of the same names.
    other = {"data": {"class_path": "my.DataModule", "init_args": FLAT}}
    assert current_classes(other) == other


@pytest.mark.parametrize("part", ["", "init_args."])
@pytest.mark.parametrize("named", ["file", "packaged", "word", "word="])
def test_former_words_of_a_collection(part: str, named: str, tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    own.write_text(yaml.safe_dump({"data": {"class_path": "IteratedDataModule"}}))
    data: dict[str, list[str]] = {
        "file": ["--config", str(own)],
        "packaged": ["--config", packaged_config("rcp")],
        "word": ["--data", "IteratedDataModule"],
        "word=": ["--data.class_path=hindsight_rl.IteratedDataModule"],
    }
    start, today = f"--data.{part}", f"--data.{part}collection."
    former = [f"{start}explore", "0.5", f"{start}num_envs=3", f"{start}command.initial", "[1.0]"]
    wanted = [f"{today}explore", "0.5", f"{today}num_envs=3", f"{today}command.initial", "[1.0]"]
    assert spell_out(["fit", *data[named], *former])[0] == ["fit", *data[named], *wanted]
    assert spell_out(["fit", *data[named], *wanted])[0] == ["fit", *data[named], *wanted]
    other = ["fit", *data[named], "--data", "my.DataModule", *former]
    assert spell_out(other)[0] == other


def test_imports_of_a_configuration_of_a_former_layout_are_read(tmp_path: Path) -> None:
    own = tmp_path / "config.yaml"
    data = {"class_path": "IteratedDataModule", "init_args": FLAT}
    own.write_text(yaml.safe_dump({"data": data, "import": ["my_learners"]}))
    words = spell_out(["fit", "--config", str(own)])[0]
    assert yaml.safe_load(words[2])["data"]["init_args"]["collection"] == MOVED_FIELDS
    assert configured_imports(words) == ["my_learners"]
