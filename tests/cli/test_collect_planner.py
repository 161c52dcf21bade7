"""``hindsight collect --planner``: planned episodes, and the policy that is made of them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fits import hindsight

from hindsight_rl import OnnxPolicy, load_learner, read_log, rollout
from hindsight_rl.cli.planner_words import apart, named_planner
from hindsight_rl.planners.cem import CEM

SMALL = ("--planner.horizon", 8, "--planner.samples=30", "--planner.iterations", 2)


def collected(folder: Path, *words: object, env: str = "Pendulum-v1") -> Any:
    target = folder / "planned-v0"
    done = hindsight("collect", "--env", env, "--output", target, "--max_steps", 25, *words)
    assert done.code == 0, done.err
    return read_log(target)


def test_a_planned_log_is_better_than_a_random_one_and_repeats(tmp_path: Path) -> None:
    words = ("--episodes", 3, "--planner", "cem", *SMALL)
    first, again = (collected(tmp_path / name, *words) for name in "ab")
    other = collected(tmp_path / "c", *words, "--seed", 1)
    assert torch.equal(first.column("action"), again.column("action"))
    assert not torch.equal(first.column("action"), other.column("action"))
    assert first.episodes == 3 and len(first) == 75
    explored = collected(tmp_path / "d", *words, "--explore", 0.5)
    changed = explored.column("action") != first.column("action")
    assert changed.any() and first.column(("next", "reward")).isfinite().all()


def test_shards_hold_the_same_plans(tmp_path: Path) -> None:
    words = ("--episodes", 4, "--planner", "cem", *SMALL)
    one, many = collected(tmp_path / "a", *words), collected(tmp_path / "b", *words, "--shards", 2)
    assert torch.equal(one.column("action"), many.column("action"))


def test_choices_are_searched(tmp_path: Path) -> None:
    words = ("--planner", "UCT", "--planner.simulations", 8, "--episodes", 2)
    log = collected(tmp_path, *words, env="CartPole-v1")
    assert log.column("action").dtype == torch.int64 and len(log) == 50


def test_a_model_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest torque pays there."""
    (tmp_path / "my_world.py").write_text(
        "import torch\n"
        "from hindsight_rl.ports import Imagined\n\n\n"
        "def spinning(observation, action, draws=None):\n"
        "    reward = action[..., 0] + 0.0 * observation[..., 0]\n"
        "    return Imagined(observation, reward, reward.isnan(), torch.zeros_like(reward))\n"
    )
    monkeypatch.chdir(tmp_path)
    words = ("--planner", "cem", *SMALL, "--model", "my_world:spinning", "--episodes", 1)
    assert collected(tmp_path, *words).column("action").mean() > 1.2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--planner", "cen"), "--planner is 'cen', it must be beam or cem or"),
        (("--planner", "cem", "--planner.horizn", 3), "Did you mean 'horizon'?"),
        (("--planner", "cem", "--planner.horizon", 0), "horizon 0"),
        (("--planner.horizon", 3), "--planner.horizon is of a planner"),
        (("--model", "a:b"), "--model is of a planner"),
        (("--planner", "uct"), "real numbers [1]: CEM and MPPI"),
        (("--planner", "cem", "--sample"), "leave out --sample"),
        (("--planner", "cem", "--policy", "a.onnx"), "leave out --policy"),
        (("--planner", "cem", "--good", 0.5), "leave out --planner"),
        (("--planner", "cem", "--model", "nowhere.ckpt"), "nowhere.ckpt: no such model"),
    ],
)
def test_mistakes(words: tuple[object, ...], message: str, tmp_path: Path) -> None:
    done = hindsight("collect", "--env", "Pendulum-v1", "--output", tmp_path / "x-v0", *words)
    assert done.code == 2 and message in done.err and not (tmp_path / "x-v0").exists()


def test_words_of_a_planner() -> None:
    rest, options = apart(["--env", "A", "--planner", "cem", "--planner.horizon", "3", "--x"])
    assert rest == ["--env", "A", "--planner", "cem", "--x"] and options == ["--planner.horizon=3"]
    assert named_planner("cem", options) == CEM(horizon=3)
    assert named_planner("hindsight_rl.planners.cem.CEM", []) == CEM()


def test_the_clone_of_a_planner_is_exported_and_acts_as_torch_does(tmp_path: Path) -> None:
    """Plan, clone, export: onnxruntime equals torch on the planned rows, and in episodes."""
    log = collected(tmp_path, "--planner", "cem", *SMALL, "--episodes", 4)
    run, file = tmp_path / "run", tmp_path / "policy.onnx"
    fit = hindsight(
        *("fit", "--config", "bc", "--data.source", tmp_path / "planned-v0", "--run", run),
        *("--model.head", "deterministic", "--model.network.hidden", "[32,32]"),
        *("--trainer.max_steps", 150, "--data.batch_size", 32, "--trainer.accelerator", "cpu"),
    )
    assert fit.code == 0, fit.err
    exported = hindsight("export", "--run", run, "--output", file)
    assert exported.code == 0, exported.err
    (checkpoint,) = itertools.islice(sorted((run / "checkpoints").rglob("*.ckpt")), 1)
    learner, policy = load_learner(checkpoint).eval(), OnnxPolicy(file)
    seen = log.column("observation").numpy()
    assert np.abs(policy.act(seen) - learner.act_numpy(seen)).max() < 1e-5 * 4
    both = [
        rollout(act, "Pendulum-v1", episodes=3, seed=9, max_steps=25).returns
        for act in (policy, learner.player())
    ]
    assert np.allclose(*both, atol=1e-3)
    assert hindsight("export", "--verify", file).code == 0
