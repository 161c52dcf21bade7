"""Episodes during fit and in test: when, with which seeds, and what becomes of their returns."""

import warnings
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from episode_logs import episode_log
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from lightning.pytorch.callbacks import ModelCheckpoint
from small_fits import Kept, data_for, equal, fit, learner_of, trainer_in, weights

from hindsight_rl.agents.bc import BC
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.envs import playing


def case(size: int = 64, **arguments: Any) -> Any:
    """Return a learner and its data, K = ``size``."""
    data = data_for(BC, updates_per_step=size)
    return learner_of(BC, data.spec, **arguments), data


def test_evaluation_during_fit_keeps_the_best_checkpoint(env: str, tmp_path: Path) -> None:
    """Every 20 updates, whatever K, at steps that count updates; the best is the best of those."""
    learner, data = case(size=7, evaluation=Evaluation(env=env, every=20, episodes=3))
    best = ModelCheckpoint(
        tmp_path, "{step}", monitor="eval/return", mode="max", every_n_train_steps=20
    )
    logger = Kept()
    options = {"callbacks": [best], "enable_checkpointing": True, "log_every_n_steps": 1}
    fit(learner, data, tmp_path, 100, logger=logger, **options)
    assert logger.steps_of("eval/return") == [20, 40, 60, 80, 100]
    returns = {step: line["eval/return"] for step, line in logger.lines if "eval/return" in line}
    assert len(set(returns.values())) == 5
    assert best.best_model_path == str(tmp_path / f"step={max(returns, key=returns.get)}.ckpt")
    assert best.best_model_score.item() == pytest.approx(max(returns.values()))
    last = logger.lines[-1][1]
    assert last["eval/length"] == 4 and last["eval/success"] == 0
    assert learner.latest["eval/return"] == returns[100]


def test_evaluation_does_not_change_training(env: str, tmp_path: Path) -> None:
    found = []
    for evaluation in (Evaluation(), Evaluation(env=env, every=10, episodes=2)):
        learner, data = case(size=7, evaluation=evaluation)
        fit(learner, data, tmp_path, 30)
        found.append(weights(learner))
    assert equal(*found)


def test_without_an_environment_nothing_is_evaluated(tmp_path: Path) -> None:
    learner, data = case(evaluation=Evaluation(every=5))
    assert learner.marks == []
    with pytest.warns(
        UserWarning, match="evaluation.every is 5, and there is no environment .* --env ID"
    ):
        fit(learner, data, tmp_path, 20)
    assert not any(name.startswith("eval") for name in learner.latest)


def test_test_runs_episodes_with_its_own_seed(env: str, tmp_path: Path) -> None:
    asked = Evaluation(env=env, env_kwargs={"offset": 9.0}, test_episodes=5)
    learner, _ = case(evaluation=asked)
    trainer_in(tmp_path, 1).test(learner, verbose=False)
    report = learner.test_report
    assert (report["env"], report["episodes"], report["seed"]) == (env, 5, 2_000_000)
    assert len(report["returns"]) == 5 and report["success"] == 1.0 and report["length"] == 4
    again, _ = case(evaluation=asked)
    trainer_in(tmp_path, 1).test(again, verbose=False)
    assert again.test_report == report
    other, _ = case(evaluation=replace(asked, test_seed=1))
    trainer_in(tmp_path, 1).test(other, verbose=False)
    assert other.test_report["returns"] != report["returns"]


def test_constant_task_of_evaluation_reaches_the_policy(env: str, tmp_path: Path) -> None:
    returns = []
    for task in ([0.0, 0.0], [3.0, -3.0]):
        data = data_for(BC, episode_log(task=True))
        evaluation = Evaluation(env=env, task=task, test_episodes=2)
        learner = learner_of(BC, data.spec, evaluation=evaluation)
        trainer_in(tmp_path, 1).test(learner, verbose=False)
        returns.append(learner.test_report["return"])
    assert returns[0] != returns[1]


def test_command_of_evaluation_is_held_or_lowered(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards are at least 4 here: the return asked for falls by them, the steps left to 1."""
    asked: dict[str, list[list[float]]] = {}
    for command in ("held", "lowered"):
        data = data_for(BC, episode_log(task=True))
        evaluation = Evaluation(
            env=env,
            env_kwargs={"offset": 9.0},
            task=[60.0, 3.0],
            command=command,
            test_episodes=1,
        )
        learner = learner_of(BC, data.spec, evaluation=evaluation)
        plain, seen = learner.act_numpy, asked.setdefault(command, [])
        monkeypatch.setattr(
            learner, "act_numpy", lambda o, task, p=plain, s=seen: s.append(task[0]) or p(o, task)
        )
        trainer_in(tmp_path, 1).test(learner, verbose=False)
    assert [list(task) for task in asked["held"]] == [[60.0, 3.0]] * 4
    left = [task[0] for task in asked["lowered"]]
    assert all(after <= before - 4 for before, after in pairwise(left))
    assert [task[1] for task in asked["lowered"]] == [3.0, 2.0, 1.0, 1.0]


class Endless(gymnasium.Env[Any, Any]):
    """Never ends, and nothing registers a limit."""

    observation_space = spaces.Box(-1.0, 1.0, (3,))
    action_space = spaces.Box(-9.0, 9.0, (2,))

    def reset(self, **given: Any) -> Any:
        """Return the only observation."""
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        """Return the only observation and a reward of 1."""
        return np.zeros(3, np.float32), 1.0, False, False, {}


def test_an_environment_without_end_does_not_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(playing.Limit.__init__, "__defaults__", (30,))
    monkeypatch.setitem(
        gymnasium.registry, "Endless-v0", EnvSpec("Endless-v0", entry_point=Endless)
    )
    asked = Evaluation(env="Endless-v0", every=10, episodes=2, test_episodes=2)
    learner, data = case(evaluation=asked)
    with pytest.warns(UserWarning, match="not end within 30 steps .* evaluation.max_steps"):
        fit(learner, data, tmp_path, 10)
    assert learner.latest["eval/length"] == learner.latest["eval/return"] == 30
    learner, data = case(evaluation=replace(asked, max_steps=5))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*did not end")
        fit(learner, data, tmp_path, 10)
        trainer_in(tmp_path, 1).test(learner, verbose=False)
    assert learner.latest["eval/length"] == learner.test_report["length"] == 5


def test_test_without_an_environment_is_refused(tmp_path: Path) -> None:
    learner, _ = case()
    with pytest.raises(ValueError, match="no environment to run episodes in: give --env ID"):
        trainer_in(tmp_path, 1).test(learner, verbose=False)


def test_policy_that_does_not_fit_is_refused_before_training(env: str, tmp_path: Path) -> None:
    data = data_for(BC, episode_log(discrete=True))
    learner = learner_of(BC, data.spec, evaluation=Evaluation(env=env))
    with pytest.raises(ValueError, match=env):
        fit(learner, data, tmp_path, 10)
    assert learner.updates == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"every": -1}, "evaluation.every is -1, it must be at least 0"),
        ({"episodes": 0}, "evaluation.episodes is 0, it must be at least 1"),
        ({"test_episodes": 0}, "evaluation.test_episodes is 0, it must be at least 1"),
        ({"max_steps": 0}, "evaluation.max_steps is 0, it must be at least 1"),
        ({"command": "lower"}, "command is 'lower', it must be .* Did you mean 'lowered'"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Evaluation(**arguments)


def test_evaluation_is_an_object() -> None:
    with pytest.raises(ValueError, match=r"evaluation is {'every': 5}: give Evaluation\(env=..."):
        case(evaluation={"every": 5})


@pytest.mark.parametrize("max_steps", [2, None])
def test_episodes_are_cut_where_the_evaluation_says(
    max_steps: int | None, env: str, tmp_path: Path
) -> None:
    learner, _ = case(evaluation=Evaluation(env=env, test_episodes=1, max_steps=max_steps))
    trainer_in(tmp_path, 1).test(learner, verbose=False)
    assert learner.test_report["length"] == (max_steps or 4)
