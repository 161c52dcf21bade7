"""Goal environments of Gymnasium-Robotics through every command, as they are."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command_fits import hindsight

from hindsight_rl.logs.reading import read_log

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("gymnasium_robotics") is None, reason="needs the extra 'mujoco'"
    ),
    pytest.mark.filterwarnings("ignore"),
]

# Environment, its arguments, sizes of observation, goal and action.
ROBOTS: list[tuple[str, dict[str, Any], tuple[int, int, int]]] = [
    ("FetchReach-v4", {}, (10, 3, 4)),
    ("FetchPush-v4", {}, (25, 3, 4)),
    ("PointMaze_UMaze-v3", {"continuing_task": False}, (4, 2, 2)),
]


def settings(env: str, kwargs: dict[str, Any], relabeler: str, options: dict[str, Any]) -> str:
    """Return a configuration that takes the log "seen-v0" and collects two more rounds."""
    family = {"class_path": "EnvGoals", "init_args": {"env": env, "env_kwargs": kwargs}}
    evaluation = {"every": 40, "episodes": 1, "test_episodes": 1, "env_kwargs": kwargs}
    chain = [{"class_path": relabeler, "init_args": {"family": family, **options}}]
    collection = {"initial_episodes": 0, "episodes_per_round": 1, "max_episode_steps": 20}
    whole = {
        "env": env,
        "model": {
            "class_path": "SAC",
            "init_args": {
                "network": {"hidden": [8]},
                "compile": "off",
                "evaluation": evaluation,
            },
        },
        "data": {
            "class_path": "IteratedDataModule",
            "init_args": {
                "env": env,
                "env_kwargs": kwargs,
                "source": "seen-v0",
                "collection": collection,
                "relabel": chain,
                "batch_size": 16,
                "updates_per_step": 10,
            },
        },
        "trainer": {"max_steps": 40, "accelerator": "cpu"},
    }
    return yaml.safe_dump(whole)


@pytest.mark.parametrize(("name", "kwargs", "sizes"), ROBOTS)
def test_a_log_a_fit_and_a_file(
    name: str,
    kwargs: dict[str, Any],
    sizes: tuple[int, int, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Collected at random, fitted under relabeled goals while more is collected, tested, run."""
    monkeypatch.chdir(tmp_path)
    env = f"gymnasium_robotics:{name}"
    where = ("--env", env, "--env_kwargs", json.dumps(kwargs))
    done = hindsight("collect", *where, "--episodes", 3, "--max_steps", 20, "--output", "seen-v0")
    assert done.code == 0, done.err
    log = read_log(tmp_path / "seen-v0")
    shapes = (log.shape(key) for key in ("observation", "task", "action"))
    assert [shape[0] for shape in shapes] == list(sizes) and len(log) == 60
    for relabeler, options in (
        ("FutureGoal", {"fraction": 0.8}),
        ("InverseRL", {"candidates": 4}),
    ):
        (tmp_path / "fit.yaml").write_text(settings(env, kwargs, relabeler, options))
        done = hindsight("fit", "--config", "fit.yaml", "--run", relabeler, "--json")
        assert done.code == 0, done.err
        report = json.loads(done.out)
        assert report["updates"] == 40 and report["collect/episodes"] >= 2
        assert np.isfinite(report["train/critic"]) and 0 <= report["eval/success"] <= 1
    tested = hindsight("test", "--run", "InverseRL", "--json")
    assert tested.code == 0, tested.err
    report = json.loads(tested.out)
    assert (report["env"], report["episodes"]) == (env, 1)
    checkpoint = "InverseRL/checkpoints/last.ckpt"
    done = hindsight("export", "--ckpt_path", checkpoint, "--output", "policy.onnx")
    assert done.code == 0, done.err
    played = hindsight("run", "policy.onnx", *where, "--episodes", 1, "--max_steps", 20, "--json")
    assert played.code == 0, played.err
    assert json.loads(played.out)["length"] <= 20
