"""``hindsight collect``: datasets of policies and scripts say how likely their actions were."""

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from saved_policies import policy_of, saved

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.cli.collect import main
from hindsight_rl.envs.behaviors import behaviors_for
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.keys import ACTION_LOG_PROB
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log
from hindsight_rl.propensities import clipped_normal

ROOMS = "Hindsight/FourRooms-v0"


def collected(env: str, folder: Path, *words: object, episodes: int = 4) -> Log:
    """Return the log that the command writes."""
    given = ["--env", env, "--output", folder / "log-v0", "--episodes", episodes, *words]
    assert main([str(word) for word in given]) == 0
    return read_log(folder / "log-v0")


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("explore", [0.0, 0.2])
@pytest.mark.parametrize("env", ["Pendulum-v1", ROOMS])
def test_drawn_from_a_run(
    env: str, explore: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As executed, masses at bounds, beside a uniform share: by the policy on the rows read."""
    learner = policy_of(BC, env)
    words = ["--policy", saved(learner, tmp_path), "--sample", "--explore", explore]
    log = collected(env, tmp_path, *words, "--max_steps", 50)
    found, action = log.column(ACTION_LOG_PROB), log.column("action")
    task = log.column("task") if "task" in log else None
    own = learner.actor.executed_log_prob(log.column("observation"), action, task).detach()
    low, high = (torch.tensor(log.info["action"][side]) for side in ("low", "high"))
    at_bound = (action == low) | (action == high)
    uniform = torch.where(at_bound, -24 * math.log(2), -(high - low).log()).sum(-1)
    drawn = uniform + (math.log(explore) if explore else -math.inf)
    expected = torch.logaddexp(own + math.log1p(-explore), drawn.double())
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=0)
    assert 0.05 < float(at_bound.double().mean()) < 0.95
    assert capsys.readouterr().err == ""


def test_choices_of_an_exported_file(tmp_path: Path) -> None:
    """With x = .4: log .8 for the file's choice, log .2 for the other one; the seed decides."""
    learner = policy_of(DQN, "CartPole-v1")
    export_policy(learner, tmp_path / "policy.onnx")
    words = ["--policy", tmp_path / "policy.onnx", "--explore", 0.4, "--seed", 5]
    log = collected("CartPole-v1", tmp_path, *words, episodes=20)
    likely = learner(log.column("observation")) == log.column("action")
    expected = torch.where(likely, math.log(0.8), math.log(0.2))
    torch.testing.assert_close(log.column(ACTION_LOG_PROB), expected, atol=1e-6, rtol=0)
    assert len(set(expected.tolist())) == 2 and log.info["discrete_actions"] == 2
    again = collected("CartPole-v1", tmp_path / "b", *words, episodes=20)
    assert log.hash() == again.hash()


def test_a_policy_with_a_past_plays_too(tmp_path: Path) -> None:
    run = saved(policy_of(BC, "CartPole-v1", history=2), tmp_path)
    log = collected("CartPole-v1", tmp_path, "--policy", run)
    assert (log.column(ACTION_LOG_PROB) == 0).all() and log.episodes == 4


@pytest.mark.parametrize(("kind", "env"), [(BC, "Pendulum-v1"), (DQN, "CartPole-v1")])
def test_a_file_that_draws_records_what_its_run_records(
    kind: Any, env: str, tmp_path: Path
) -> None:
    """With --sample: the same draws, a share of them uniform, and the same probabilities."""
    learner, words = policy_of(kind, env), ["--sample", "--explore", 0.2, "--max_steps", 9]
    path = tmp_path / "policy.onnx"
    export_policy(learner, path, opset=17, drawn=True)
    logs = [
        collected(env, tmp_path / name, "--policy", place, *words)
        for name, place in (("file", path), ("run", saved(learner, tmp_path)))
    ]
    found, expected = (log.column(ACTION_LOG_PROB) for log in logs)
    assert len(found.unique()) > 3
    actions = [log.column("action").float() for log in logs]
    torch.testing.assert_close(*actions, atol=1e-4, rtol=0)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_no_column_where_it_is_not_known(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(policy_of(BC, "Pendulum-v1"), tmp_path)
    log = collected("Pendulum-v1", tmp_path, "--policy", run, "--explore", 0.1, "--max_steps", 9)
    assert ACTION_LOG_PROB not in log
    told = "no action_log_prob is recorded: a deterministic policy of real numbers has no density\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("env", "words", "message"),
    [
        ("CartPole-v1", ["--sample"], "--sample is of a policy: give --policy"),
        ("CartPole-v1", ["--policy", "RUN", "--good", "0.5"], "--good is of scripted behaviour"),
        ("CartPole-v1", ["--policy", "RUN", "--explore", "2"], "--explore is 2.0, it must lie in"),
        (
            "CartPole-v1",
            ["--policy", "FILE", "--sample"],
            "acts as it was exported.*, or export it with --",
        ),
        ("Pendulum-v1", ["--policy", "RUN"], r"observes \[3\], and the policy takes \[4\]"),
        ("CartPole-v1", ["--policy", "nowhere"], "nowhere"),
    ],
)
def test_mistakes(
    env: str, words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner = policy_of(BC, "CartPole-v1")
    places = {"RUN": str(saved(learner, tmp_path)), "FILE": str(tmp_path / "policy.onnx")}
    if "FILE" in words:
        export_policy(learner, places["FILE"], opset=17)
    given = [places.get(word, word) for word in words]
    assert main(["--env", env, "--output", str(tmp_path / "log"), *given]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and not (tmp_path / "log").exists()
    assert re.search(message, told), told


# --- scripted behaviour ---------------------------------------------------------------------------


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "MountainCarContinuous-v0"])
def test_scripted_datasets_have_it(env: str, tmp_path: Path) -> None:
    log = collected(env, tmp_path, "--max_steps", 30, episodes=20)
    found = log.column(ACTION_LOG_PROB)
    if env == "MountainCarContinuous-v0":
        assert found.unique().tolist() == pytest.approx([-math.log(2)])
    assert torch.isfinite(found).all() and (env == "Pendulum-v1" or (found <= 0).all())


def test_held_actions_have_no_density(tmp_path: Path) -> None:
    log = collected("Hindsight/FourRooms-v0", tmp_path, episodes=2)
    assert ACTION_LOG_PROB not in log


def test_cartpole_slips_as_often_as_it_says() -> None:
    behavior = behaviors_for(gymnasium.make("CartPole-v1"))[0]
    act = behavior.start(np.random.default_rng(3))
    said = [act(np.zeros(4)) for _ in range(20_000)]
    count = Counter(each.action for each in said)
    stated = {each.action: math.exp(each.log_prob) for each in said}
    assert sum(stated.values()) == pytest.approx(1.0) and min(stated.values()) < 0.12
    for action, share in stated.items():
        assert count[action] / len(said) == pytest.approx(share, abs=0.01)


def test_pendulum_torques_are_as_likely_as_it_says() -> None:
    """At each bound the share is the mass; between them the mean of 1 / density is the width, 4."""
    noisy = behaviors_for(gymnasium.make("Pendulum-v1"))[3]
    assert noisy.name == "noisy hold"
    act = noisy.start(np.random.default_rng(3))
    said = [act(np.array([1.0, 0.0, 1.0])) for _ in range(20_000)]
    torque = np.array([each.action[0] for each in said])
    stated = np.exp([each.log_prob for each in said])
    for bound in (-2.0, 2.0):
        there = torque == bound
        assert there.mean() == pytest.approx(stated[there][0], abs=0.01) and there.any()
    inside = np.abs(torque) < 2
    assert (inside / stated).mean() == pytest.approx(4.0, abs=0.1)


@pytest.mark.parametrize(
    ("action", "expected"),
    [(0.5, -0.125 - math.log(2 * math.sqrt(2 * math.pi))), (-2.0, -2.7059), (3.0, -1.8410)],
)
def test_a_clipped_normal_by_hand(action: float, expected: float) -> None:
    """Mean 1, spread 2 - at 0.5 of mean 1.5; log Phi(-1.5), log Phi(-1)."""
    mean = 1.5 if action == 0.5 else 1.0
    assert clipped_normal(action, mean, 2.0, -2.0, 3.0) == pytest.approx(expected, abs=1e-4)


def test_a_mass_far_out_is_finite() -> None:
    """The log of Phi(-40): -804.6084 (Mills' series)."""
    assert clipped_normal(-1.0, 39.0, 1.0, -1.0, 1.0) == pytest.approx(-804.6084, abs=1e-2)
