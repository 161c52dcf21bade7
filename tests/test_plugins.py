"""Learners, relabelers, families and readers of another distribution, used through the command."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from command_fits import cart_log

from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.plugins import import_installed, import_named, take_imports

LEARNERS = '''
from hindsight_rl.agents.bc import BC


class Copycat(BC):
    """Cloning under a name of its own."""
'''
DATA_STEP = '''
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching


class Halves(Relabeler):
    """Halves the reward."""

    in_keys = (("next", "reward"),)
    out_keys = (("next", "reward"),)

    def __call__(self, batch):
        following = batch["next"].copy()
        return batch.copy().set("next", following.set("reward", following["reward"] / 2))


class Nearby(GoalReaching):
    """A family of tasks under a name of its own."""
'''
ENCODERS = '''
import torch
from torch import nn


class Colours(nn.Module):
    """Mean colours through one layer."""

    def __init__(self, shape, width=8):
        super().__init__()
        self.width, self.layer = width, nn.Linear(shape[0], width)

    def forward(self, pixels):
        return torch.relu(self.layer(pixels.mean(dim=(-2, -1))))
'''
READER = """
import numpy as np

from hindsight_rl.logs.reading import register_reader
from hindsight_rl.logs.reading.resolve import resolve, wanted
from hindsight_rl.logs.reading.table import Table


def read(path, columns):
    held = path.read_text().splitlines()
    values = {line.split(":")[0]: np.array(eval_numbers(line)) for line in held}
    resolved = resolve(columns, list(values), path)
    return Table(resolved, {name: values[name] for name in wanted(resolved)}, held=tuple(values))


def eval_numbers(line):
    return [float(word) for word in line.split(":")[1].split()]


register_reader("lines", read, suffixes=(".lines",))
"""
LINES = """\
observation: 0 1 2 3 4 5
action: 1 2 3 4 5 6
reward: 1 1 1 1 1 2
terminated: 0 0 1 0 0 1
"""


class Site(NamedTuple):
    """A folder with a package, on the path of a process of its own."""

    folder: Path

    def hindsight(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a command beside the log, with the package installed."""
        known = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK")}
        return subprocess.run(
            [sys.executable, "-m", "hindsight_rl.cli.main", *(str(word) for word in words)],
            cwd=self.folder / "work",
            env=known | {"PYTHONPATH": str(self.folder / "site"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=1200,
        )

    def good(self, *words: object) -> str:
        """Run a command that ends well and return what it printed."""
        done = self.hindsight(*words)
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return done.stdout


def site(folder: Path, *, entry_point: bool) -> Site:
    """Write a package of three modules, with or without an entry point, and a log."""
    package = folder / "site" / "my_robot"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    parts = {"learners": LEARNERS, "data_step": DATA_STEP, "encoders": ENCODERS, "reader": READER}
    for name, text in parts.items():
        (package / f"{name}.py").write_text(text)
    (package / "everything.py").write_text(f"from my_robot import {', '.join(parts)}\n")
    if entry_point:
        about = folder / "site" / "my_robot-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: my-robot\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(
            "[hindsight_rl.plugins]\neverything = my_robot.everything\n"
        )
    (folder / "work").mkdir()
    cart_log(folder / "work" / "log.npz")
    (folder / "work" / "log.lines").write_text(LINES)
    return Site(folder)


RELABEL = [
    {"class_path": "Halves"},
    {
        "class_path": "FutureGoal",
        "init_args": {"family": {"class_path": "Nearby", "init_args": {"radius": 0.5}}},
    },
]
FIT = (
    *("fit", "--model", "Copycat", "--model.network.hidden", "[8]", "--data", "OfflineDataModule"),
    *("--data.source", "log.npz", "--data.columns", "{achieved_goal: observations}"),
    *("--data.batch_size", "8", "--trainer.max_steps", "5"),
    *("--trainer.accelerator", "cpu", "--data.validation", "0.2", "--run", "run"),
)


@pytest.mark.slow
@pytest.mark.parametrize("entry_point", [True, False], ids=["installed", "imported"])
def test_a_package_from_elsewhere_is_used_by_every_command(
    tmp_path: Path, entry_point: bool
) -> None:
    """Fit, validate, test, predict, export, run, inspect, relabel and collect."""
    here = site(tmp_path, entry_point=entry_point)
    more = () if entry_point else ("--import", "my_robot.everything")
    here.good(*FIT, "--data.relabel", json.dumps(RELABEL), *more)
    config = (tmp_path / "work" / "run" / "config.yaml").read_text()
    assert "class_path: my_robot.learners.Copycat" in config
    assert ("my_robot.everything" in config) == (not entry_point)
    # The run knows what it needs imported, where its configuration is read.
    here.good("fit", "--resume", "--run", "run", "--trainer.max_steps", "7")
    if not entry_point:
        here.good("validate", "--run", "run")
        here.good("predict", "--run", "run")
    report = json.loads(
        here.good(
            *("test", "--run", "run", "--env", "CartPole-v1"),
            *("--model.eval_task", "[0, 0, 0, 0]", "--json", *more),
        )
    )
    assert report["episodes"] == 50
    assert "Copycat" in here.good("export", "--run", "run", "--output", "policy.onnx", *more)
    # The file needs no plug-in; an environment may be defined in one.
    words = ("run", "policy.onnx", "--env", "CartPole-v1", "--episodes", 1, "--task", *[0.0] * 4)
    assert "Copycat" in here.good(*words, "--import", "my_robot", "--json")
    told = json.loads(here.good("inspect", "log.lines", "--json", *more))
    assert (told["format"], told["transitions"], told["episodes"]) == ("lines", 6, 2)
    (tmp_path / "work" / "halves.yaml").write_text("relabel: [{class_path: Halves}]\n")
    here.good(*("relabel", "log.lines", "--config", "halves.yaml", "--output", "half"), *more)
    told = json.loads(here.good("inspect", "half", "--json", *more))
    assert told["returns"]["max"] == 2.0, "episodes of returns 3 and 4, halved"
    here.good("collect", "--env", "CartPole-v1", "--output", "own", "--episodes", 2, *more)


@pytest.mark.slow
def test_an_encoder_from_elsewhere(tmp_path: Path) -> None:
    """A camera is read by a module of the package, named in words; its file stands alone."""
    here = site(tmp_path, entry_point=False)
    draw = np.random.default_rng(0)
    cart_log(here.folder / "work" / "log.npz", top=draw.integers(0, 256, (200, 8, 8, 3), np.uint8))
    chosen = {"top": {"module": "my_robot.encoders.Colours", "arguments": {"width": 3}, "shift": 1}}
    words = (
        *("fit", "--model", "BC", "--model.network.hidden", "[8]", "--run", "run"),
        *("--model.network.encoders", json.dumps(chosen), "--data", "OfflineDataModule"),
        *("--data.source", "log.npz", "--data.batch_size", "8", "--trainer.max_steps", "5"),
        *("--data.columns", "{observation: {cart: observations, top: top}}"),
        *("--trainer.accelerator", "cpu"),
    )
    done = here.hindsight(*words)
    assert done.returncode == 2 and "Add --import my_robot.encoders to a command" in done.stderr
    here.good(*words, "--import", "my_robot.encoders")
    done = here.hindsight("export", "--run", "run", "--output", "policy.onnx")
    assert done.returncode == 2 and "Add --import my_robot.encoders to a command" in done.stderr
    here.good("export", "--run", "run", "--output", "policy.onnx", "--import", "my_robot.encoders")
    policy = OnnxPolicy(here.folder / "work" / "policy.onnx")
    seen = {"cart": np.zeros(4, np.float32), "top": np.zeros((8, 8, 3), np.uint8)}
    assert policy.act(seen) in (0, 1)


def test_a_learner_that_is_not_imported_is_named_with_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = site(tmp_path, entry_point=False)
    here.good(*FIT, "--import", "my_robot.learners")
    for words in (("test", "--run", "run", "--env", "CartPole-v1"), ("export", "--run", "run")):
        output = ("--output", "policy.onnx") if words[0] == "export" else ()
        done = here.hindsight(*words, *output)
        assert done.returncode == 2 and "my_robot.learners.Copycat is not imported" in done.stderr
        assert "--import" in done.stderr and "Traceback" not in done.stderr


def test_a_plug_in_that_is_broken_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(tmp_path, entry_point=True)
    (tmp_path / "site" / "my_robot" / "everything.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setattr("hindsight_rl.plugins._seen", set())
    why = r"plug-in everything \(my_robot.everything\) of my-robot is left out.*no_such_package"
    with pytest.warns(UserWarning, match=why):
        import_installed()


@pytest.mark.parametrize(
    ("words", "others", "modules"),
    [
        (["fit", "--import", "a.b", "--run", "c"], ["fit", "--run", "c"], ["a.b"]),
        (["--import=a", "--import", "b", "--import", "a"], [], ["a", "b"]),
        (["--import", '["a", "b"]', "x"], ["x"], ["a", "b"]),
        (["--important", "a"], ["--important", "a"], []),
    ],
)
def test_imports_are_taken_from_the_words(
    words: list[str], others: list[str], modules: list[str]
) -> None:
    assert take_imports(words) == (others, modules)


def test_an_import_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="--import names no module"):
        take_imports(["fit", "--import"])
    with pytest.raises(ValueError, match=r"--import \./a\.py: not the dotted name of a module"):
        import_named(["./a.py"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({}, "give suffixes or a mark to choose it by"),
        ({"suffixes": (".npz",)}, r"files in '\.npz' are read by this package already"),
        ({"suffixes": ("BAG",)}, "'BAG' is no ending in lower case with its dot"),
    ],
)
def test_a_reader_is_chosen_by_something_of_its_own(arguments: dict[str, Any], told: str) -> None:
    from hindsight_rl.logs.reading import register_reader

    with pytest.raises(ValueError, match=told):
        register_reader("mine", lambda *_: None, **arguments)
