"""Files of contract version 2 that are more than a function of one observation."""

import json
from collections.abc import Callable
from pathlib import Path

import gymnasium
import numpy as np
import onnx
import pytest
from policy_files import (
    VECTOR,
    chunked,
    components,
    contract,
    edit,
    entries,
    leaky_sum,
    node,
    noisy,
)
from policy_files import write as write_file

from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export import draws
from hindsight_rl.export.chunks import advance, due, initial
from hindsight_rl.export.contract import ContractError
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.signature import Action, Chunk
from hindsight_rl.export.verify import verify_file

ONE = np.float32([1.0, 0.0])
ZERO = np.float32([0.0, 0.0])

FILES: dict[str, Callable[[Path], Path]] = {
    "state": leaky_sum,
    "noise": noisy,
    "queue": lambda path: chunked(path, 4, 2),
    "ensemble": lambda path: chunked(path, 4, 1, 0.1),
    "entries": entries,
    "components": lambda path: components(path, [[0.0, 1.0], [3.0, 2.0]]),
}


@pytest.mark.parametrize("kind", FILES)
def test_files_pass_the_gate(kind: str, tmp_path: Path) -> None:
    report = verify_file(FILES[kind](tmp_path / "policy.onnx"))
    assert report["parity"]["max_difference"] <= 1e-6
    assert report["parity"]["batches"] == [1, 2, 7]


# --------------------------------------------------------------------------------------- state


def test_state_is_carried_and_reset(tmp_path: Path) -> None:
    policy = OnnxPolicy(leaky_sum(tmp_path / "policy.onnx"))
    # h: 1 -> 0.5 -> 1.25 -> 0.625, and the other -1 -> -0.5 -> -0.25 -> -0.125.
    for observation, expected in (
        (ZERO, [0.5, -0.5]),
        (ONE, [1.25, -0.25]),
        (ZERO, [0.625, -0.125]),
    ):
        np.testing.assert_array_equal(policy.act(observation), np.float32(expected))
    policy.reset()
    np.testing.assert_array_equal(policy.act(ONE), np.float32([1.5, -0.5]))


def test_an_answer_is_not_the_state(tmp_path: Path) -> None:
    policy = OnnxPolicy(leaky_sum(tmp_path / "policy.onnx"))
    policy.act(ZERO)[:] = 1000.0
    np.testing.assert_array_equal(policy.act(ZERO), np.float32([0.25, -0.25]))


def test_slots_follow_their_own_episodes(tmp_path: Path) -> None:
    policy = OnnxPolicy(leaky_sum(tmp_path / "policy.onnx"))
    policy.act(np.stack([ZERO, ONE, ONE]))
    policy.reset([1])
    found = policy.act(np.stack([ZERO, ZERO, ZERO]))
    np.testing.assert_array_equal(found, np.float32([[0.25, -0.25], [0.5, -0.5], [0.75, -0.25]]))
    with pytest.raises(ValueError, match="has 2 rows, and the last one had 3: .* Call reset first"):
        policy.act(np.stack([ZERO, ZERO]))
    with pytest.raises(ValueError, match=r"slots is \[3\], and the last batch had 3 rows"):
        policy.reset([3])
    policy.reset()
    assert policy.act(np.stack([ZERO, ZERO])).shape == (2, 2)


def test_step_keeps_nothing(tmp_path: Path) -> None:
    policy = OnnxPolicy(leaky_sum(tmp_path / "policy.onnx"))
    state = policy.initial_state(2)
    noise = draws.counters(0, np.arange(2), 0)
    assert {name: value.tolist() for name, value in state.items()} == {"state.h": [[1, -1]] * 2}
    for _ in range(2):
        action, following = policy.step(np.stack([ZERO, ONE]), None, state, noise)
        np.testing.assert_array_equal(action, np.float32([[0.5, -0.5], [1.5, -0.5]]))
        np.testing.assert_array_equal(following["state.h"], action)
    with pytest.raises(ValueError, match="step takes a batch"):
        policy.step(ZERO, None, policy.initial_state(1), noise[:1])


def test_a_thousand_steps_equal_the_recursion(tmp_path: Path) -> None:
    policy = OnnxPolicy(leaky_sum(tmp_path / "policy.onnx"))
    draw, kept = np.random.default_rng(0), np.float32([1.0, -1.0])
    for step in range(1000):
        if step == 500:
            policy.reset()
            kept = np.float32([1.0, -1.0])
        row = draw.normal(size=2).astype(np.float32)
        kept = kept / np.float32(2) + row
        np.testing.assert_allclose(policy.act(row), kept, rtol=1e-6)


@pytest.mark.parametrize("carried", [0.5, 0.501], ids=["as stated", "changed"])
def test_the_gate_carries_the_state(carried: float, tmp_path: Path) -> None:
    # A graph that forgets 0.1 % less passes where the state begins, and not after a step.
    path = leaky_sum(tmp_path / "policy.onnx")
    model = onnx.load(path)
    stated = json.loads(model.metadata_props[0].value)
    policy = OnnxPolicy(path)
    assert policy.signature.state[0].initial.tolist() == [1.0, -1.0]
    nodes = list(model.graph.node)
    write_file(path, stated, nodes, {"half": np.float32(carried)})
    if carried == 0.5:
        verify_file(path)
    else:
        with pytest.raises(ContractError, match=r"differ by .* of the action range"):
            verify_file(path)


def test_the_gate_resets_the_state(tmp_path: Path) -> None:
    # Without the reset of row 3 the learner's answers are not met.
    path = leaky_sum(tmp_path / "policy.onnx")
    probe = OnnxPolicy(path).contract["probe"] | {"first": [True] + [False] * 4}
    with pytest.raises(ContractError, match=r"differ by .* of the action range"):
        verify_file(edit(path, probe=probe))


def test_whole_numbers_may_be_carried(tmp_path: Path) -> None:
    stated = contract(
        action={"kind": "discrete", "shape": [], "dtype": "int64", "n": 9, "start": 0},
        scores={"shape": [9]},
        state=[{"name": "count", "shape": [], "dtype": "int64"}],
        probe={
            "observation": [[0.0, 0.0], [1.0, 0.0]],
            "action": [0, 1],
            "scores": np.eye(9)[:2].tolist(),
            "first": [True, False],
        },
    )
    nodes = [
        node("Identity", "state.count", "action"),
        node("Add", "state.count one", "next_state.count"),
        node("OneHot", "state.count depth values", "scores"),
    ]
    constants = {"one": np.int64(1), "depth": np.int64(9), "values": np.float32([0, 1])}
    policy = OnnxPolicy(write_file(tmp_path / "policy.onnx", stated, nodes, constants))
    assert [policy.act(ONE) for _ in range(4)] == [0, 1, 2, 3]
    policy.reset()
    assert policy.act(ONE) == 0


# --------------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_noise_is_that_of_seed_episode_and_step(distribution: str, tmp_path: Path) -> None:
    path = noisy(tmp_path / "policy.onnx", distribution)
    draw = draws.normals if distribution == "normal" else draws.uniforms
    policy = OnnxPolicy(path, seed=5)
    for episode in range(2):
        for step in range(3):
            counters = draws.counters(5, np.array([episode]), step)
            np.testing.assert_array_equal(policy.act(ZERO), draw(counters, 2)[0])
        policy.reset()
    policy.reset(episode=1)
    again = draws.counters(5, np.array([1]), 0)
    np.testing.assert_array_equal(policy.act(ZERO), draw(again, 2)[0])
    assert not np.array_equal(
        OnnxPolicy(path, seed=6).act(ZERO), OnnxPolicy(path, seed=5).act(ZERO)
    )


def test_rows_of_a_batch_are_episodes(tmp_path: Path) -> None:
    policy = OnnxPolicy(noisy(tmp_path / "policy.onnx"), seed=5)
    rows = np.stack([ZERO] * 3)
    policy.act(rows)
    policy.reset([2])
    counters = draws.counters(5, np.array([0, 1, 3]), np.array([1, 1, 0]))
    np.testing.assert_array_equal(policy.act(rows), draws.normals(counters, 2))


def test_zero_noise_only_where_it_is_meant(tmp_path: Path) -> None:
    policy = OnnxPolicy(noisy(tmp_path / "policy.onnx"), deterministic=True)
    np.testing.assert_array_equal(policy.act(ONE), ONE)
    path = noisy(tmp_path / "other.onnx", zero=False)
    with pytest.raises(ValueError, match="this policy was not made for that"):
        OnnxPolicy(path, deterministic=True)


# --------------------------------------------------------------------------------------- chunks


def test_a_chunk_is_executed_in_turn(tmp_path: Path) -> None:
    policy = OnnxPolicy(chunked(tmp_path / "policy.onnx", 4, 2))
    found = [policy.act(np.float32([step, 0.0]))[0] for step in range(5)]
    # Asked at steps 0, 2 and 4: its second action is that of the older observation, 100 ahead.
    assert found == [0.0, 100.0, 2.0, 102.0, 4.0]
    policy.reset()
    assert policy.act(np.float32([7.0, 0.0]))[0] == 7.0


def test_queues_of_slots_are_their_own(tmp_path: Path) -> None:
    policy = OnnxPolicy(chunked(tmp_path / "policy.onnx", 3, 3))
    rows = [np.float32([[step, 0.0], [10.0 + step, 0.0]]) for step in range(4)]
    assert policy.act(rows[0])[:, 0].tolist() == [0.0, 10.0]
    policy.reset([1])
    assert policy.act(rows[1])[:, 0].tolist() == [100.0, 11.0]
    assert policy.act(rows[2])[:, 0].tolist() == [200.0, 111.0]
    assert policy.act(rows[3])[:, 0].tolist() == [3.0, 211.0]


@pytest.mark.parametrize("decay", [0.0, 0.1, -0.1])
def test_an_ensemble_weighs_old_answers_more(decay: float, tmp_path: Path) -> None:
    length = 3
    policy = OnnxPolicy(chunked(tmp_path / "policy.onnx", length, 1, decay))
    seen = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    for step in range(50):
        answers = [seen[step - ahead] + 100.0 * ahead for ahead in range(length) if ahead <= step]
        weights = np.exp(-decay * np.arange(len(answers)))  # the oldest first
        expected = np.average(answers[::-1], axis=0, weights=weights)
        np.testing.assert_allclose(policy.act(seen[step]), expected, rtol=1e-5)


def test_the_weights_of_the_paper() -> None:
    for decay, expected in ((0.0, 2.333333), (0.01, 2.323339), (0.1, 2.234054), (-0.1, 2.433721)):
        chunk, action = Chunk(3, 1, decay), Action(False, (1,), "float32")
        state = initial(chunk, action, 1)
        for value in (1.0, 2.0, 4.0):
            answer = np.full((1, 3, 1), value, dtype=np.float32)
            last, state = advance(chunk, state, due(chunk, state), answer)
        assert last[0, 0] == pytest.approx(expected, abs=1e-6)


# -------------------------------------------------------------------------------------- entries


def observed(**changes: object) -> dict[str, object]:
    camera = np.full((4, 4, 3), 51, dtype=np.uint8)
    return {"camera": camera, "arm": np.float32([0.5]), "mode": 2} | changes


def test_entries_are_given_by_name(tmp_path: Path) -> None:
    policy = OnnxPolicy(entries(tmp_path / "policy.onnx"))
    np.testing.assert_allclose(policy.act(observed()), [0.7, 2.0], rtol=1e-6)
    turned = dict(reversed(observed().items()))
    np.testing.assert_allclose(policy.act(turned), [0.7, 2.0], rtol=1e-6)
    batch = {name: np.stack([np.asarray(value)] * 2) for name, value in observed().items()}
    assert policy.act(batch).shape == (2, 2)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            observed(camera=np.zeros((4, 4, 3))),
            "observation.camera has dtype float64, and .* uint8",
        ),
        (
            observed(camera=np.zeros((3, 4, 4), np.uint8)),
            r"observation.camera has shape \[3, 4, 4\]",
        ),
        (observed(arm=[np.nan]), r"observation.arm\[0\] \('elbow'\) is nan"),
        (observed(arm=[1]), "observation.arm has dtype int64, and this policy takes float32"),
        (observed(arm=[[1.0]]), r"observation.arm has shape \[1, 1\]"),
        (observed(mode=3), "observation.mode is 3, and is one of 3 choices from 0"),
        (observed(mode=-1), "observation.mode is -1"),
        (observed(mode=1.0), "observation.mode has dtype float64, and this policy takes whole"),
        ({"camera": 0, "arm": 0}, r"has \['arm', 'camera'\], and this policy takes \['camera'"),
        (np.zeros(2), "takes a dictionary with .* and got one array"),
    ],
)
def test_entries_that_do_not_fit(given: object, told: str, tmp_path: Path) -> None:
    policy = OnnxPolicy(entries(tmp_path / "policy.onnx"))
    with pytest.raises(ValueError, match=told):
        policy.act(given)


def test_an_offset_is_subtracted_before_float32(tmp_path: Path) -> None:
    # A clock in seconds since 1970: float32 holds it to 128 s.
    stated = contract(observation=VECTOR | {"offset": [1.7e9, 0.0]})
    path = write_file(tmp_path / "policy.onnx", stated, [node("Identity", "observation", "action")])
    policy = OnnxPolicy(path)
    clock = np.array([1.7e9 + 0.25, 3.0])
    np.testing.assert_array_equal(policy.act(clock), np.float32([0.25, 3.0]))
    np.testing.assert_array_equal(policy.act(clock[None]), np.float32([[0.25, 3.0]]))


# ------------------------------------------------------------------------------------ tie rule


def test_ties_are_not_compared(tmp_path: Path) -> None:
    # The learner saw the other component ahead by a rounding error.
    path = components(tmp_path / "policy.onnx", [[0.5, 0.5], [0.0, 1.0], [3.0, 2.0]])
    probe = OnnxPolicy(path).contract["probe"]
    tied = probe | {"action": [[-1.0, -1.0], *probe["action"][1:]]}
    report = verify_file(edit(path, probe=tied))["parity"]
    assert report["close"] == 1 and report["max_difference"] == 0.0
    wrong = probe | {"action": [probe["action"][0], [1.0, 1.0], probe["action"][2]]}
    with pytest.raises(ContractError, match=r"differ by 2 of the action range"):
        verify_file(edit(path, probe=wrong))
    ties = probe | {"scores": [[1.0, 1.0]] * 3}
    with pytest.raises(ContractError, match="every probe row is a tie"):
        verify_file(edit(path, probe=ties))


def test_scores_that_are_not_finite_raise(tmp_path: Path) -> None:
    # log(0): the action would be a component's mean all the same.
    stated = contract(
        scores={"shape": [2]},
        probe={
            "observation": [[1.0, 2.0], [2.0, 1.0]],
            "scores": np.log([[1.0, 2.0], [2.0, 1.0]]).tolist(),
            "action": [[1.0, 2.0], [2.0, 1.0]],
        },
    )
    nodes = [node("Log", "observation", "scores"), node("Identity", "observation", "action")]
    policy = OnnxPolicy(write_file(tmp_path / "policy.onnx", stated, nodes))
    for observation in (ONE, np.stack([ONE, ONE])):
        with pytest.raises(ValueError, match="policy answered scores -inf"):
            policy.act(observation)


# ---------------------------------------------------------------------------------- in episodes


class Counting(gymnasium.Env):
    """Shows its step, pays the first action, and lasts 2 to 6 steps by its seed."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        self.step_, self.length = 0, 2 + int(seed) % 5
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.step_ += 1
        seen = np.full(2, self.step_, np.float32)
        return seen, float(action[0]), self.step_ == self.length, False, {}


@pytest.mark.parametrize("kind", ["state", "noise", "queue", "ensemble"])
def test_an_episode_is_its_own_whatever_plays_beside_it(kind: str, tmp_path: Path) -> None:
    policy = OnnxPolicy(FILES[kind](tmp_path / "policy.onnx"))
    alone, beside = (
        rollout(policy, Counting, episodes=9, seed=4, num_envs=count) for count in (1, 4)
    )
    assert len(set(alone.lengths)) > 1
    np.testing.assert_array_equal(alone.returns, beside.returns)
    if kind != "noise":
        return
    # (key, episode, step): episode 2 draws its own numbers.
    steps = np.arange(alone.lengths[2])
    keys = np.stack([np.full_like(steps, draws.seed_key(4)), np.full_like(steps, 2), steps], -1)
    expected = steps.sum() + draws.normals(keys, 2)[:, 0].sum()
    assert alone.returns[2] == pytest.approx(expected, rel=1e-6)
