"""Noise in numpy equals noise in PyTorch: an exported rollout is that of the learner."""

import numpy as np
import pytest
import torch

from hindsight_rl.export import draws as here
from hindsight_rl.maths import draws as there

SEEDS = [0, 1, 7, 2**31, 2**32, 2**40 + 3, 2**63, -1]


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_of_seeds(seed: int) -> None:
    assert here.seed_key(seed) == there.seed_key(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_equals_torch(seed: int) -> None:
    episodes, steps = np.array([0, 1, 5, 2**31, 2**33 + 1]), np.array([0, 1, 999, 2**20, 3])
    found = here.counters(seed, episodes, steps)
    torch_counters = there.counters(seed, torch.tensor(episodes), torch.tensor(steps))
    # There every episode meets every step; ours are the pairs.
    pairs = torch_counters[torch.arange(5), torch.arange(5)]
    np.testing.assert_array_equal(found, pairs.numpy())
    uniform = np.stack([there.uniform(pairs, draw).numpy() for draw in range(9)], axis=-1)
    np.testing.assert_array_equal(here.uniforms(found, 9), uniform)
    normal = there.normals(pairs, 9).numpy()
    ours = here.normals(found, 9)
    assert ours.dtype == np.float32 and ours.shape == (5, 9)
    np.testing.assert_allclose(ours, normal, rtol=0, atol=1e-6)


def test_one_step_of_all_episodes() -> None:
    found = here.counters(3, np.arange(4), 2)
    assert found.shape == (4, 3) and found[:, 2].tolist() == [2] * 4
    assert here.normals(found, 2).shape == (4, 2)


def test_noise_is_normal_and_uniform() -> None:
    found = here.counters(0, np.arange(200)[:, None], np.arange(50)[None])
    normal, uniform = here.normals(found, 4), here.uniforms(found, 4)
    # 40,000 numbers: five standard errors.
    assert abs(normal.mean()) < 0.025 and abs(normal.std() - 1.0) < 0.018
    assert abs(uniform.mean() - 0.5) < 0.0073 and 0.0 <= uniform.min() and uniform.max() < 1.0


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_draws_ahead_are_those_of_their_counters(distribution: str) -> None:
    """In order, over the end of what was drawn, back, with other rows, and after a reset."""
    ahead = here.Ahead(3, distribution)
    draw = here.normals if distribution == "normal" else here.uniforms
    steps = [*range(300), 5, 6, 1000, 1001, 0]
    asked = [here.counters(9, np.arange(2), step) for step in steps]
    asked += [
        here.counters(9, np.arange(400), 7),
        asked[0][:1],
        asked[0][::-1],
        here.counters(8, np.arange(2), 1),
        asked[0][:0],
    ]
    asked += [here.counters(9, np.array([4, 7]), np.array([12, 2])) + [0, 0, k] for k in range(9)]
    for counter in asked:
        np.testing.assert_array_equal(ahead.of(counter), draw(counter, 3))


def test_draws_ahead_are_the_callers_own() -> None:
    ahead, counter = here.Ahead(2, "normal"), here.counters(0, np.array([0]), 0)
    first = ahead.of(counter)
    kept, first[...] = first.copy(), 7.0
    np.testing.assert_array_equal(ahead.of(counter), kept)
