"""Numbers of an environment that are drawn in every episode, and the column that keeps them."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from command_fits import hindsight
from small_fits import equal, fit, learner_of, weights

from hindsight_rl.agents.sac import SAC
from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.interface import RolloutError, make
from hindsight_rl.envs.lockstep import Singles, open_envs
from hindsight_rl.envs.randomised import Randomised, drawn_context
from hindsight_rl.envs.rollout import episode_seed, rollout
from hindsight_rl.keys import key_name
from hindsight_rl.logs.reading import read_log
from hindsight_rl.training.checkpoints.load import load_learner

RANGES = {"g": [7.0, 13.0], "l": [0.8, 1.2]}
RANDOM: dict[str, Any] = {"randomise": RANGES}


def collector(num_envs: int = 3, **more: Any) -> Collector:
    return Collector("Pendulum-v1", RANDOM, seed=5, num_envs=num_envs, max_episode_steps=4, **more)


def test_numbers_are_uniform_in_their_ranges_and_a_function_of_the_seed() -> None:
    found = np.stack([drawn_context(RANGES, seed) for seed in range(2000)])
    assert found.dtype == np.float32 and found.shape == (2000, 2)
    assert found.min(0) == pytest.approx([7.0, 0.8], abs=0.02)
    assert found.max(0) == pytest.approx([13.0, 1.2], abs=0.02)
    assert found.mean(0) == pytest.approx([10.0, 1.0], abs=0.15)
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.07
    assert (drawn_context(RANGES, 7) == found[7]).all()
    assert drawn_context({"g": [9, 9]}, 3).tolist() == [9.0]


def test_a_reset_sets_the_numbers_and_goes_on_without_a_seed() -> None:
    env, again = (Randomised(gymnasium.make("Pendulum-v1"), RANGES) for _ in range(2))
    seen = []
    for seed in (3, None, None, 3):
        (shown, info), (other, _) = env.reset(seed=seed), again.reset(seed=seed)
        plain: Any = env.unwrapped
        assert [plain.g, plain.l] == info["context"].tolist() and (shown == other).all()
        seen.append(tuple(info["context"].tolist()))
    assert seen[0] == seen[3] and len(set(seen)) == 3


def test_numbers_of_arrays_below_attributes_are_set_in_their_place() -> None:
    class Body:
        mass = np.array([1.0, 2.0, 3.0])

    env = gymnasium.make("Pendulum-v1")
    vars(env.unwrapped)["model"] = Body()
    Randomised(env, {"model.mass.1": [5, 5]}).reset(seed=0)
    assert Body.mass.tolist() == [1.0, 5.0, 3.0]


def test_collected_rows_move_as_their_context_says() -> None:
    """The change of speed is 3 g sin(angle) / 2 l + 3 torque / l^2 times .05 (mass 1)."""
    found = collector().collect(None, 0, 6)
    rows, context = found.columns, found.columns["context"].double()
    now, after = rows["observation"].double(), rows["next", "observation"].double()
    torque = rows["action"][:, 0].double()
    g, length = context.unbind(1)
    change = (3 * g / (2 * length) * now[:, 1] + 3 / length**2 * torque) * 0.05
    torch.testing.assert_close(after[:, 2] - now[:, 2], change, rtol=0, atol=1e-5)
    episodes = context.reshape(6, 4, 2)
    assert bool((episodes == episodes[:, :1]).all()) and len(episodes[:, 0].unique(dim=0)) == 6
    assert episodes[2, 0].float().numpy().tolist() == (
        drawn_context(RANGES, episode_seed(5, 2)).tolist()
    )


def test_episodes_are_the_same_for_any_number_of_environments_and_in_parts() -> None:
    whole = collector(1).collect(None, 0, 6).columns
    side = collector(4)
    parts = [side.collect(None, first, 3).columns for first in (0, 3)]
    assert "context" in side.keys
    for key, column in whole.items():
        assert torch.cat([part[key] for part in parts]).equal(column)
    plain = Collector("Pendulum-v1", seed=5)
    assert "context" not in plain.keys and "context" not in plain.collect(None, 0, 1).columns


def test_evaluation_draws_the_same_numbers_and_other_ones_than_a_fixed_world() -> None:
    def still(observation: Any, task: Any = None) -> Any:
        return np.zeros((len(observation), 1), np.float32)

    options: dict[str, Any] = {"episodes": 4, "seed": 1, "max_steps": 20}
    one = rollout(still, "Pendulum-v1", env_kwargs=RANDOM, num_envs=1, **options).returns
    two = rollout(still, "Pendulum-v1", env_kwargs=RANDOM, num_envs=4, **options).returns
    fixed = rollout(still, "Pendulum-v1", **options).returns
    assert (one == two).all() and (one != fixed).all()


def test_many_at_once_are_played_one_by_one() -> None:
    env = make("Hindsight/FourRooms-v0", draw=False)
    envs = open_envs("Hindsight/FourRooms-v0", {"randomise": {"anything": [0, 1]}}, env, 3)
    assert isinstance(envs, Singles)
    envs.close()


def test_a_fit_resumes_bit_by_bit_and_keeps_the_column(tmp_path: Path) -> None:
    short = Collection(initial_episodes=1, episodes_per_round=1, max_episode_steps=10, num_envs=1)
    made = [
        IteratedDataModule(
            "Pendulum-v1",
            env_kwargs=RANDOM,
            collection=short,
            batch_size=16,
            updates_per_step=4,
            seed=3,
        )
        for _ in range(3)
    ]
    learners = [learner_of(SAC, data.spec) for data in made]
    fit(learners[0], made[0], tmp_path, 20).save_checkpoint(tmp_path / "twenty.ckpt")
    fit(learners[1], made[1], tmp_path, 40)
    fit(learners[2], made[2], tmp_path, 40, ckpt_path=tmp_path / "twenty.ckpt")
    assert equal(weights(learners[1]), weights(learners[2]))
    columns = [data.log.column("context") for data in made[1:]]
    assert columns[0].equal(columns[1]) and len(columns[0].unique(dim=0)) >= 4


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"gravity": [1, 2]}, "names 'gravity', and PendulumEnv has no such number: it has dt, g"),
        ({"model.body_mass.1": [1, 2]}, "no such number: .* lie below model"),
        ({"metadata": [1, 2]}, "names 'metadata'"),
        ({"g": [2, 1]}, "gives 'g' the range"),
        ({"g": [1]}, "give the least and the largest value"),
        ({"g": [0, float("inf")]}, "gives 'g' the range"),
        ({"g": "12"}, "gives 'g' the range '12'"),
        ({}, "give numbers with their ranges"),
        (["g"], "give numbers with their ranges"),
    ],
)
def test_what_is_no_number_or_no_range_is_refused(ranges: Any, message: str) -> None:
    with pytest.raises(RolloutError, match=f"^Pendulum-v1: randomise .*{message}"):
        make("Pendulum-v1", {"randomise": ranges}, draw=False)


def test_the_command_says_so_with_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("fit", "--config", "sac_online", "--data.collection.initial_episodes", 1)
    done = hindsight(*words, "--data.env_kwargs", "{randomise: {gravity: [7, 13]}}")
    assert done.code == 2 and "randomise names 'gravity'" in done.err


def test_a_teacher_is_fitted_with_the_context_and_labels_for_a_student_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = collector().collect(None, 0, 4)
    columns = {key_name(key).rpartition(".")[2]: c for key, c in found.columns.items()}
    columns["observation"] = found.columns["observation"]  # not the next one
    columns |= dict(zip(RANGES, columns.pop("context").unbind(1), strict=True))
    arrays = {name: column.numpy() for name, column in columns.items()}
    np.savez("played.npz", episode=np.repeat(np.arange(4), found.lengths), **arrays)
    quick = ("--trainer.max_steps", 2, "--trainer.accelerator", "cpu")
    done = hindsight(
        *("fit", "--config", "bc", "--data.source", "played.npz", "--run", "runs/teacher", *quick),
        *("--data.columns", "{observation: [observation, g, l]}"),
    )
    assert done.code == 0, done.err
    assert hindsight("export", "--run", "runs/teacher", "--output", "teacher.onnx").code == 0
    Path("sides.yaml").write_text("extra: [g, l]\n")
    done = hindsight(
        *("relabel", "played.npz", "--expert", "teacher.onnx", "--output", "labelled"),
        *("--expert_reads", "observation,g,l", "--columns", "sides.yaml"),
    )
    assert done.code == 0, done.err
    labelled = read_log("labelled")
    teacher = load_learner(chosen_checkpoint(Path("runs/teacher")))
    assert teacher.spec.observation["observation"].shape == (5,)
    shown = torch.cat([found.columns["observation"], found.columns["context"]], dim=-1)
    with torch.no_grad():
        expected = teacher(shown)
    torch.testing.assert_close(labelled.column("expert_action"), expected, rtol=1e-4, atol=1e-5)
