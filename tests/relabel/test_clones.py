"""What ``benchmarks/hipi`` clones: a biased task, and demonstrations of robots."""

import numpy as np
import pytest
import torch
from benchmark_scripts import loaded
from robots_installed import params
from tensordict import TensorDict

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.family import GoalReaching

clones = loaded("hipi/clones")
PLACES = [[0.0], [1.0], [2.0]]


def biased(bias):
    return clones.Biased(GoalReaching(0.1, ends=False), PLACES, bias)


def test_the_constant_is_added_to_the_first_task_alone():
    reached = torch.tensor([[0.0], [2.0]])
    batch = TensorDict({"next": {"achieved_goal": reached}}, batch_size=[2])
    every = biased(3.0).reward(batch, torch.eye(3), pairwise=True)
    assert torch.equal(every, torch.tensor([[3.0, -1.0, -1.0], [2.0, -1.0, 0.0]]))
    own = biased(3.0).reward(batch, torch.eye(3)[[0, 2]])
    assert torch.equal(own, torch.tensor([3.0, 0.0]))


def posterior(bias, partition):
    """Return the posterior of three episodes of four steps, each at a place of its own."""
    place = np.repeat(np.array(PLACES, np.float32), 4, axis=0)
    last = np.tile(np.arange(4) == 3, 3)
    log = Log.from_columns(
        {
            "observation": place,
            "action": place,
            "episode": np.repeat(np.arange(3), 4),
            ("next", "observation"): place,
            ("next", "achieved_goal"): place,
            ("next", "reward"): np.zeros(12, np.float32),
            ("next", "terminated"): np.zeros_like(last),
            ("next", "truncated"): last,
        }
    )
    tasks = np.eye(3).tolist()
    return InverseRL(biased(bias), tasks=tasks, partition=partition).prepare(log).posterior


def test_log_z_takes_the_constant_away_and_without_it_one_task_takes_all():
    # Sums are 0 for an episode's own place and -4 for others, whatever the task: log Z is alike.
    own = 1 / (1 + 2 * np.exp(-4.0))
    expected = torch.full((3, 3), (1 - own) / 2).fill_diagonal_(own)
    for bias in (0.0, 1.0, 5.0):
        torch.testing.assert_close(posterior(bias, True), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(posterior(0.0, False), expected, atol=1e-6, rtol=0)
    # Without log Z the first task gains 4 biases: 20 nats for each episode.
    assert (posterior(5.0, False)[:, 0] > 1 - 1e-6).all()
    other = 1 / (2 + np.exp(-4.0))  # a constant of 1 makes up for four steps elsewhere
    torch.testing.assert_close(posterior(1.0, False)[1, 0].item(), other, atol=1e-6, rtol=0)


def test_clones_of_a_seed_are_made_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(clones.common, "BUILD", tmp_path)
    made = []

    def clone(name, labels, seed, bias):
        made.append((name, labels, bias))
        return {"score": 1.0, "teacher": 2.0}

    study = clones.Study({"a": None, "b": None}, ("none", "inverse RL"), "b", "tasks", clone, {})
    found = clones.of_seed(study, "test", ["a", "b"], 7)
    assert clones.of_seed(study, "test", ["a", "b"], 7) == found
    figure_7 = [(name, labels, 0.0) for name in "ab" for labels in ("none", "inverse RL")]
    figure_8 = [("b", "inverse RL", bias) for bias in (1.0, 5.0)]
    figure_8 += [("b", "inverse RL without Z", bias) for bias in (0.0, 1.0, 5.0)]
    assert made == figure_7 + figure_8
    assert [(one["domain"], one["labels"], one["bias"]) for one in found] == made
    clones.of_seed(study, "test", ["a"], 8)
    assert made[-2:] == [("a", "none", 0.0), ("a", "inverse RL", 0.0)]


@pytest.mark.parametrize("env", params(["Walker", "HalfCheetah", "Reacher32", "SawyerReach"]))
def test_demonstrations_of_robots_are_what_the_family_judges(monkeypatch, env):
    script = loaded("hipi/robot_cloning")
    (name,) = (name for name, robot in script.ROBOTS.items() if robot.env == env)
    monkeypatch.setattr(script, "STEPS", 5)
    monkeypatch.setattr(script, "DEMONSTRATIONS", 3)
    monkeypatch.setattr(script, "TEST_EPISODES", 2)
    width = {"Reacher32": 2, "SawyerReach": 4}.get(env, 6)
    act = lambda seen, task: np.full((len(seen), width), 0.5, np.float32)  # noqa: E731
    monkeypatch.setattr(script, "teacher", lambda name: act)
    log, _ = script.demonstrations.__wrapped__(name, 0)
    assert len(log) == 15
    assert log.column("episode").tolist() == sorted(list(range(3)) * 5)
    ahead, now = log.column(("next", "observation")), log.column("observation")
    inside = log.column("episode")[1:] == log.column("episode")[:-1]
    assert torch.equal(ahead[:-1][inside], now[1:][inside])
    keys = ("task", ("next", "achieved_goal"))
    batch = TensorDict({key: log.column(key) for key in keys}, batch_size=[15])
    reward = script.family_of(env).reward(batch, batch["task"])
    torch.testing.assert_close(reward, log.column(("next", "reward")), atol=1e-5, rtol=1e-5)


def test_a_clone_of_corners_is_scored_and_says_who_got_the_first(monkeypatch, tmp_path):
    script = loaded("hipi/cloning")
    monkeypatch.setattr(script.common, "BUILD", tmp_path)
    for name, value in {"DEMONSTRATIONS": 4, "UPDATES": 2, "TEST_EPISODES": 2}.items():
        monkeypatch.setattr(script, name, value)
    act = lambda seen, task: np.zeros((len(seen), 2), np.float32)  # noqa: E731
    monkeypatch.setattr(script, "teacher", lambda name, seed: act)
    assert script.clone("corners", "inverse RL without Z", 0, 5.0)["share"] == pytest.approx(1.0)
    blind = script.clone("corners", "none", 0, 0.0)
    assert blind.keys() == {"score", "teacher"} and 0 <= blind["score"] <= 1


@pytest.mark.parametrize("env", params(["Reacher32"]))
def test_a_clone_of_the_reacher_gets_its_tasks_by_label(monkeypatch, env):
    script = loaded("hipi/robot_cloning")
    for name, value in {"STEPS": 5, "DEMONSTRATIONS": 4, "UPDATES": 2, "TEST_EPISODES": 2}.items():
        monkeypatch.setattr(script, name, value)
    act = lambda seen, task: np.zeros((len(seen), 2), np.float32)  # noqa: E731
    monkeypatch.setattr(script, "teacher", lambda name: act)
    script.demonstrations.cache_clear()
    shares = {
        labels: script.clone("reacher_32", labels, 0, 5.0).get("share") for labels in script.LABELS
    }
    script.demonstrations.cache_clear()
    assert {label for label, share in shares.items() if share is None} == {"none", "random", "true"}
    assert shares["inverse RL without Z"] > 1 - 1e-6
    assert shares["inverse RL"] < 0.5


@pytest.mark.parametrize("env", params(["Walker"]))
def test_the_walkers_demonstrator_takes_the_best_policy_for_a_task(monkeypatch, tmp_path, env):
    script = loaded("hipi/gaits")
    monkeypatch.setattr(script.common, "BUILD", tmp_path)
    for name, value in {"POLICIES": 6, "ROUNDS": 2, "STEPS": 10, "TASKS": 50}.items():
        monkeypatch.setattr(script, name, value)
    weights, sums = script.search()
    np.testing.assert_allclose(script.features(weights), sums, atol=1e-9)
    act = script.demonstrator()
    seen = np.random.default_rng(0).standard_normal((len(sums), 24)).astype(np.float32)
    tasks = 1e3 * sums - sums.mean(0)
    best = (tasks @ sums.T).argmax(1)
    np.testing.assert_array_equal(act(seen, tasks), script.actions(weights[best], seen))
    assert np.abs(act(seen, tasks)).max() <= 1
    calm = np.array([0, 0, 0, 0, 0, 0, -1.0])  # effort alone: nothing does better than nothing
    assert (act(seen[:1], calm[None]) == 0).all()
