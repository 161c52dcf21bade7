"""What an episode drew: shown to a teacher, written by the commands, read into ``context``."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fits import hindsight

from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.interface import Interface, RolloutError, make
from hindsight_rl.envs.randomised import drawn_context
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log
from hindsight_rl.training.checkpoints.load import load_learner

RANGES = {"g": [7.0, 13.0], "l": [0.8, 1.2]}
RANDOM: dict[str, Any] = {"randomise": RANGES}
SHOWN: dict[str, Any] = RANDOM | {"show_context": True}
QUICK = ("--trainer.max_steps", 2, "--trainer.accelerator", "cpu", "--model.evaluation.every", 0)


def test_the_numbers_stand_behind_what_is_observed() -> None:
    env, plain = (make("Pendulum-v1", given, draw=False) for given in (SHOWN, RANDOM))
    assert env.observation_space.low.tolist() == pytest.approx([-1, -1, -8, 7, 0.8])  # type: ignore[attr-defined]
    (shown, info), (seen, _) = env.reset(seed=3), plain.reset(seed=3)
    assert shown.dtype == np.float32 and env.observation_space.contains(shown)
    assert shown.tolist() == [*seen.tolist(), *info["context"].tolist()]
    after = env.step(np.ones(1, np.float32))[0]
    assert after[3:].tolist() == info["context"].tolist()


def test_goals_stay_as_they_are() -> None:
    given = {"randomise": {"radius": [0.5, 2.0]}, "show_context": True}
    env = make("Hindsight/FourRooms-v0", given, draw=False)
    observation, info = env.reset(seed=0)
    assert observation["observation"][2:].tolist() == info["context"].tolist()
    interface = Interface(env, "rooms")
    assert interface.observation_shape == (3,) and interface.task_shape == (2,)
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("env", "given", "message"),
    [
        ("Pendulum-v1", {"show_context": True}, "show_context shows what is drawn: give randomise"),
        (
            "FrozenLake-v1",
            {"randomise": {"nS": [1, 2]}, "show_context": True},
            "FrozenLake-v1: .*(no such number|it observes Discrete)",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(env: str, given: Any, message: str) -> None:
    with pytest.raises(RolloutError, match=message):
        make(env, given, draw=False)


def teacher(observation: Any, task: Any, env: Any) -> Any:
    """Answer with gravity / 10 less the length."""
    return observation[:, 3:4] / 10 - observation[:, 4:5]


def collected(expert: Expert, num_envs: int = 1, **more: Any) -> dict[Any, torch.Tensor]:
    side = Collector(
        "Pendulum-v1", RANDOM, seed=5, num_envs=num_envs, max_episode_steps=4, expert=expert, **more
    )
    found = side.collect(None, 0, 5).columns
    side.close()
    return found


def test_a_function_is_shown_what_the_episode_drew() -> None:
    found = collected(Expert(teacher, sees_context=True))
    context = found["context"]
    assert torch.equal(found["expert_action"][:, 0], context[:, 0] / 10 - context[:, 1])
    assert found["observation"].shape == (20, 3)


def test_what_an_expert_cannot_be_shown_is_refused() -> None:
    expert = Expert(teacher, sees_context=True)
    for given in (None, SHOWN):
        with pytest.raises(RolloutError, match=r"Pendulum-v1: expert\.sees_context shows what"):
            Collector("Pendulum-v1", given, expert=expert)
    with pytest.raises(ValueError, match=r"expert\.sees_context is of expert\.act"):
        Expert(sees_context=True)


def test_a_teacher_that_sees_more_is_fitted_exported_and_followed_by_a_student_with_a_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way by commands: docs/transfer.md has them."""
    monkeypatch.chdir(tmp_path)
    world, shown = "{randomise: {g: [7, 13], l: [0.8, 1.2]}", ", show_context: true}"
    short = ("--data.collection.max_episode_steps", 5, "--data.collection.initial_episodes", 2)
    done = hindsight(
        *("fit", "--config", "sac_online", "--env", "Pendulum-v1", "--run", "runs/teacher"),
        *("--data.env_kwargs", world + shown, "--model.evaluation.env_kwargs", world + shown),
        *(*short, *QUICK),
    )
    assert done.code == 0, done.err
    assert hindsight("export", "--run", "runs/teacher", "--output", "teacher.onnx").code == 0

    found, many = (collected(Expert("teacher.onnx", sees_context=True), n) for n in (1, 3))
    learner = load_learner(chosen_checkpoint(Path("runs/teacher")))
    with torch.no_grad():
        expected = learner(torch.cat([found["observation"], found["context"]], dim=-1))
    torch.testing.assert_close(found["expert_action"], expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(column, many[key]) for key, column in found.items())
    with pytest.raises(RolloutError, match=r"observes \[3\], and the policy takes \[5\]"):
        collected(Expert("teacher.onnx"))

    student = (
        *("fit", "--config", "dagger", "--env", "Pendulum-v1", "--run", "runs/student", *short),
        *("--data.collection.expert.act", "teacher.onnx", "--model.history", 4, *QUICK[:4]),
        *("--data.env_kwargs", world + "}"),
    )
    done = hindsight(*student, "--data.collection.expert.sees_context", "true")
    assert done.code == 0, done.err
    assert load_learner(chosen_checkpoint(Path("runs/student"))).spec.observation[
        "observation"
    ].shape == (3,)
    done = hindsight(*student)
    assert done.code == 2 and "the policy takes [5]" in done.err


@pytest.mark.parametrize("shards", [(), ("--shards", 2)])
def test_collect_writes_what_was_drawn(shards: tuple[Any, ...], tmp_path: Path) -> None:
    done = hindsight(
        *("collect", "--env", "Pendulum-v1", "--output", tmp_path / "log-v0", "--episodes", 3),
        *("--env_kwargs", '{"randomise": {"g": [7, 13], "l": [0.8, 1.2]}}', "--max_steps", 6),
        *shards,
    )
    assert done.code == 0, done.err
    log = read_log(tmp_path / "log-v0", {"context": "infos/context"})
    moved(log.column("observation"), log.column(("next", "observation")), log)
    assert len(log.column("context").unique(dim=0)) == 3
    assert "context" not in read_log(tmp_path / "log-v0")


def moved(now: torch.Tensor, after: torch.Tensor, log: Any) -> None:
    """Check that speeds change by 3 g sin(angle) / 2 l + 3 torque / l^2 times .05 (mass 1)."""
    g, length = log.column("context").double().unbind(1)
    torque = log.column("action")[:, 0].double()
    change = (3 * g / (2 * length) * now[:, 1].double() + 3 / length**2 * torque) * 0.05
    inside = after[:, 2].abs() < 8
    torch.testing.assert_close(
        (after - now)[:, 2].double()[inside], change[inside], rtol=0, atol=1e-5
    )


def test_an_exported_policy_that_is_played_records_it(tmp_path: Path) -> None:
    done = hindsight(
        *("fit", "--config", "sac_online", "--env", "Pendulum-v1", "--run", tmp_path / "run"),
        *("--data.collection.initial_episodes", 1, "--data.collection.max_episode_steps", 5),
        *QUICK,
    )
    assert done.code == 0, done.err
    policy, played = tmp_path / "policy.onnx", tmp_path / "played.npz"
    assert hindsight("export", "--run", tmp_path / "run", "--output", policy).code == 0
    done = hindsight(
        *("run", policy, "--env", "Pendulum-v1", "--episodes", 2, "--max_steps", 6, "--seed", 4),
        *("--env_kwargs", '{"randomise": {"g": [7, 13], "l": [0.8, 1.2]}}', "--record", played),
    )
    assert done.code == 0, done.err
    log = read_log(played)
    assert "context" not in log
    log = read_log(played, {"context": "context"})
    drawn = np.stack([drawn_context(RANGES, episode_seed(4, number)) for number in (0, 1)])
    assert log.column("context")[::6].numpy().tolist() == drawn.tolist()
    moved(log.column("observation"), log.column(("next", "observation")), log)


def test_columns_of_a_log_are_joined_to_a_context_and_written_again(tmp_path: Path) -> None:
    rows = np.arange(8, dtype=np.float32)
    columns: dict[str, Any] = {
        "observation": rows[:, None],
        "action": rows[:, None],
        "reward": rows,
        "episode": rows // 4,
        "mass": np.array([2.0, 3.0]),
        "wind": np.stack([rows, -rows], axis=1),
    }
    np.savez(tmp_path / "log.npz", **columns)
    log = read_log(tmp_path / "log.npz", {"context": ["mass", "wind"]})
    expected = np.stack([np.repeat([2.0, 3.0], 4), rows, -rows], axis=1)
    assert log.column("context").tolist() == expected.tolist()
    words = ("convert", tmp_path / "log.npz", "--columns", "{context: [mass, wind]}", "--rate", 10)
    for target, name in (("parquet", "log.parquet"), ("minari", "log-v0"), ("lerobot", "robot")):
        done = hindsight(*words, "--to", target, "--output", tmp_path / name)
        assert done.code == 0, done.err
        assert read_log(tmp_path / name).column("context").tolist() == expected.tolist(), target
    np.savez(tmp_path / "bad.npz", **columns | {"mass": np.full(8, np.nan)})
    with pytest.raises(LogError, match="column 'mass', row 0"):
        read_log(tmp_path / "bad.npz", {"context": "mass"})
    with pytest.raises(LogError, match="'masses': no such column"):
        read_log(tmp_path / "log.npz", {"context": "masses"})
    np.savez(tmp_path / "two.npz", **columns | {"context": rows})
    with pytest.raises(LogError, match="'context', as another column is"):
        read_log(tmp_path / "two.npz", {"context": "mass", "extra": "context"})
