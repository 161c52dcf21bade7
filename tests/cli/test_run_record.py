"""``hindsight run --record``: the episodes of a file as a log that is read as any other."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_fits import learner_of
from small_replays import REACH, iterated
from specs import changed
from tiny_envs import HORIZON, Look, Walk

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.cli.run import LogFile, main
from hindsight_rl.diagnostics.ope.judge import judge
from hindsight_rl.diagnostics.ope.question import Question
from hindsight_rl.envs.rollout import episode_seed, rollout
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import ACTION_LOG_PROB
from hindsight_rl.logs.reading import read_log
from hindsight_rl.training.given import GivenPolicy

OPEN = {"low": None, "high": None}


def policy_of(
    folder: Path, kind: Any, env: Any, *, drawn: bool = False, spec: Any = None, **arguments: Any
) -> Any:
    """Export an unfitted policy for an environment; return it."""
    spec = iterated(env, initial_episodes=2).spec if spec is None else spec
    learner = learner_of(kind, spec, **arguments)
    export_policy(learner, folder / "policy.onnx", drawn=drawn)
    return learner


def recorded(folder: Path, env: str, *words: object) -> Path:
    """Return the log of four episodes."""
    given = [folder / "policy.onnx", "--env", env, "--episodes", 4, "--seed", 3]
    given += ["--record", folder / "played.npz", *words]
    assert main([str(word) for word in given]) == 0
    return folder / "played.npz"


def test_choices_are_certain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner = policy_of(tmp_path, DQN, "CartPole-v1")
    path = recorded(tmp_path, "CartPole-v1")
    shown = capsys.readouterr()
    log = read_log(path)
    told = f"log         {path} ({len(log)} rows; column map {tmp_path / 'played.yaml'})"
    assert shown.out.splitlines()[-1] == told and shown.err == ""
    assert (log.column(ACTION_LOG_PROB) == 0).all() and log.episodes == 4
    assert torch.equal(learner(log.column("observation")), log.column("action"))
    played = rollout(learner.player(), "CartPole-v1", episodes=4, seed=3)
    lengths = log.column("step")[log.episode_ends()] + 1
    assert lengths.tolist() == played.lengths.tolist()
    assert log.column(("next", "terminated"))[log.episode_ends()].all()
    assert log.info["repeated_next_observation"] == 0
    mapped = read_log(path, str(tmp_path / "played.yaml"))
    assert mapped.info["discrete_actions"] == 2 and mapped.hash() == log.hash()


def test_numbers_have_no_density(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_of(tmp_path, BC, "Pendulum-v1")
    path = recorded(tmp_path, "Pendulum-v1", "--max_steps", 9, "--json")
    told = "no action_log_prob is recorded: a deterministic policy of real numbers has no density\n"
    assert capsys.readouterr().err == told
    log = read_log(path, str(tmp_path / "played.yaml"))
    assert ACTION_LOG_PROB not in log and len(log) == 36
    assert log.info["action"] == {"low": [-2.0], "high": [2.0]}
    assert log.column(("next", "truncated")).nonzero().flatten().tolist() == [8, 17, 26, 35]


@pytest.mark.parametrize(
    ("env", "kind", "arguments"),
    [
        ("Pendulum-v1", BC, {"head": "gaussian"}),
        ("Pendulum-v1", BC, {"head": "mixture"}),
        ("Pendulum-v1", SAC, {}),
        ("CartPole-v1", DQN, {"temperature": 0.1}),
    ],
    ids=["gaussian", "mixture", "tanh", "choices"],
)
def test_a_file_that_draws_judged_by_its_own_log_is_worth_what_it_got(
    env: str, kind: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """Every weight is 1: per-decision importance sampling is the mean of the logged returns."""
    learner = policy_of(tmp_path, kind, env, drawn=True, **arguments)
    path = recorded(tmp_path, env, "--max_steps", 12)
    log = read_log(path, str(tmp_path / "played.yaml"))
    logged = log.column(ACTION_LOG_PROB).double()
    assert logged.isfinite().all() and len(logged.unique()) > 5
    seen, action = log.column("observation"), log.column("action")
    if kind is DQN:
        own = learner.distribution(seen).log_prob(action).double()
        assert len(action.unique()) == 2
    else:
        own = learner.actor.executed_log_prob(seen, action)
    torch.testing.assert_close(logged, own.detach(), atol=1e-4, rtol=1e-5)
    file = GivenPolicy(tmp_path / "policy.onnx", learner.spec)
    torch.testing.assert_close(file.log_prob(log), logged, atol=1e-5, rtol=1e-6)
    asked = Question(discount=0.9, horizon=12, behavior="logged", methods=("is", "pdis"), by="pdis")
    found = judge([tmp_path / "policy.onnx"], log, asked)
    discount = 0.9 ** log.column("step").double()
    total = float((discount * log.column(("next", "reward")).double()).sum()) / log.episodes
    assert found.logged == pytest.approx(total, rel=1e-6)
    for method in ("is", "pdis"):
        assert found.policies[0].estimate(method).value == pytest.approx(total, rel=1e-4)


def test_an_environment_may_clip_more_than_the_file(tmp_path: Path) -> None:
    """A log without bounds: what the environment clips has the mass of all beyond its bounds."""
    spec = changed(iterated("Pendulum-v1", initial_episodes=2).spec, action=OPEN)
    learner = policy_of(tmp_path, BC, "Pendulum-v1", drawn=True, spec=spec, head="gaussian")
    path = recorded(tmp_path, "Pendulum-v1", "--max_steps", 12)
    log = read_log(path, str(tmp_path / "played.yaml"))
    action, bound = log.column("action"), torch.tensor([2.0])
    assert 0.02 < (action.abs() == 2.0).float().mean() < 0.9
    distribution = learner.actor(log.column("observation"))
    expected = learner.actor.executed(distribution, action, -bound, bound).detach()
    torch.testing.assert_close(log.column(ACTION_LOG_PROB).double(), expected, atol=1e-4, rtol=1e-5)


def test_an_environment_that_rounds_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole number has the mass of all that is rounded to it, which no density says."""

    def whole() -> Walk:
        env = Walk()
        env.action_space = spaces.Box(-1, 1, (1,), np.int64)
        return env

    policy_of(tmp_path, BC, Walk, drawn=True)
    keep = LogFile(tmp_path / "played.npz")
    rollout(OnnxPolicy(tmp_path / "policy.onnx"), whole, episodes=2, seed=0, keep=keep)
    assert ACTION_LOG_PROB not in read_log(tmp_path / "played.npz", str(tmp_path / "played.yaml"))
    assert "rounds the policy's actions to whole numbers" in capsys.readouterr().err


def test_noise_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_of(tmp_path, FlowBC, "Pendulum-v1")
    recorded(tmp_path, "Pendulum-v1", "--max_steps", 2)
    assert "the file draws its actions from noise" in capsys.readouterr().err


def test_goals_and_success(tmp_path: Path) -> None:
    learner = policy_of(tmp_path, BC, REACH)
    path = recorded(tmp_path, REACH)
    log = read_log(path, str(tmp_path / "played.yaml"))
    played = rollout(learner.player(), REACH, episodes=4, seed=3)
    ends = log.episode_ends()
    assert log.column("success").dtype == torch.bool
    assert log.column("success")[ends].tolist() == played.final_successes.tolist()
    assert log.column("achieved_goal").equal(log.column("observation"))
    assert log.column(("next", "achieved_goal")).equal(log.column(("next", "observation")))
    action = learner(log.column("observation"), log.column("task"))
    torch.testing.assert_close(action, log.column("action"), atol=1e-5, rtol=0)
    assert read_log(path).column("task").equal(log.column("task"))


def test_entries_stay_entries(tmp_path: Path) -> None:
    spec = iterated(Look, initial_episodes=2).spec

    def act(observation: Any) -> np.ndarray:
        return observation["state"][:, :1]

    keep = LogFile(tmp_path / "played.npz")
    rollout(act, Look, episodes=3, seed=3, spec=spec, keep=keep)
    log = read_log(tmp_path / "played.npz", str(tmp_path / "played.yaml"))
    assert log.shape(("observation", "camera")) == (16, 16, 3) and len(log) == 3 * HORIZON
    env = Look()
    first = env.reset(seed=episode_seed(3, 0))[0]
    np.testing.assert_allclose(log.column(("observation", "state"))[0], first["state"])
    np.testing.assert_array_equal(
        log.column(("observation", "camera"), slice(1))[0], first["camera"]
    )


def test_a_log_is_an_archive(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_of(tmp_path, DQN, "CartPole-v1")
    words = [tmp_path / "policy.onnx", "--env", "CartPole-v1", "--record", tmp_path / "log.csv"]
    assert main([str(word) for word in words]) == 2
    assert (
        "End it in .npz or .mcap." in capsys.readouterr().err
        and not (tmp_path / "log.csv").exists()
    )


def test_recording_needs_no_torch(tmp_path: Path) -> None:
    policy_of(tmp_path, DQN, "CartPole-v1", drawn=True)
    script = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'lightning', 'tensordict', 'minari')))\n"
        "from hindsight_rl.cli.run import main\n"
        f"words = ['{tmp_path}/policy.onnx', '--env', 'CartPole-v1', '--episodes', '2']\n"
        f"raise SystemExit(main([*words, '--record', '{tmp_path}/played.npz']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    log = read_log(tmp_path / "played.npz")
    assert log.episodes == 2 and (log.column(ACTION_LOG_PROB) < 0).all()


@pytest.mark.parametrize("paced", [False, True])
def test_a_recording_is_the_same_log_as_an_archive(
    paced: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entries, goals, choices and flags come back through MCAP as through .npz."""
    pytest.importorskip("mcap", reason="needs the extra 'ros'")
    rate = ["--rate", 5000] if paced else []
    for kind, env in ((DQN, "CartPole-v1"), (BC, "Pendulum-v1"), (BC, REACH)):
        folder = tmp_path / kind.__name__ / env.rpartition("/")[2]
        folder.mkdir(parents=True)
        policy_of(folder, kind, env)
        words = [folder / "policy.onnx", "--env", env, "--episodes", 3, "--max_steps", 7]
        words += ["--seed", 3, "--json"]
        for name, more in (("a.npz", []), ("b.mcap", rate)):
            assert main([str(w) for w in [*words, "--record", folder / name, *more]]) == 0
        loop = '"loop"' in capsys.readouterr().out
        assert loop == paced
        there = read_log(folder / "a.npz", str(folder / "a.yaml"))
        log = read_log(folder / "b.mcap")
        assert log.hash() == there.hash()
        assert log.info.get("action") == there.info.get("action")
        assert log.info.get("discrete_actions") == there.info.get("discrete_actions")
        assert log.info["recording"]["topics"]["/step"]["messages"] == len(there)


def test_a_rate_is_kept_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy_of(tmp_path, BC, "Pendulum-v1")
    words = [str(tmp_path / "policy.onnx"), "--env", "Pendulum-v1", "--max_steps", "25"]
    assert main([*words, "--episodes", "2", "--rate", "500", "--real_time"]) == 0
    shown = capsys.readouterr().out
    assert "loop        500 Hz, 50 steps: " in shown and "median / p99 / max: late" in shown
    assert main([*words, "--rate", "500", "--num_envs", "2"]) == 2
    assert "at a rate one environment is played" in capsys.readouterr().err
    assert main([*words, "--real_time"]) == 2
    assert "--real_time is for a loop at a rate: give --rate" in capsys.readouterr().err
    assert main([*words, "--rate", "0"]) == 2
    assert "rate is 0.0, and must be above 0 Hz" in capsys.readouterr().err
    assert main([*words, "--record", str(tmp_path / "a.txt")]) == 2
    assert "End it in .npz or .mcap." in capsys.readouterr().err
