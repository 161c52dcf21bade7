"""A demonstrator of the walker: for each task the best of many linear policies.

After 16,000 steps SAC still does worse than nothing on the walker's tasks. Its episodes all start
alike, so that one episode of a policy tells its return for every task: the weights of a task times
the sums of its features. Policies are found in rounds: the first are random, the further ones are
near those that were the best for some task.
"""

import common
import numpy as np
from clones import Act
from numpy.typing import NDArray

from hindsight_rl.files import write_whole

POLICIES, ROUNDS, STEPS, TASKS = 400, 5, 100, 2_000
SPREAD, STRAY = (0.02, 1.0), 0.3  # of weights, log-uniform; of children about their parents
_SEEN = np.r_[np.ones(15), np.full(9, 5.0)]  # size of what is observed: poses, then velocities
Floats = NDArray[np.float64]


def actions(weights: Floats, observation: np.ndarray) -> np.ndarray:
    """Return the torques of linear policies.

    Args:
        weights: ``[n, 25, 6]``, the last row is constant.
        observation: ``[n, 24]``.

    Returns:
        ``[n, 6]`` float32 in [-1, 1].
    """
    given = np.concatenate([observation / _SEEN, np.ones((len(observation), 1))], axis=1)
    return np.tanh(np.einsum("no,noa->na", given, weights)).astype(np.float32)


def features(weights: Floats) -> Floats:
    """Return the sums of features over an episode of each policy, ``[n, 7]``."""
    import gymnasium

    name = "hindsight_rl.envs:Hindsight/Walker-v0"
    kind = {"vectorization_mode": "vector_entry_point", "autoreset_mode": "Disabled"}
    env = gymnasium.make_vec(name, len(weights), **kind)
    seen, _ = env.reset(seed=0)
    sums = np.zeros((len(weights), 7))
    for _ in range(STEPS):
        seen, *_ = env.step(actions(weights, seen["observation"]))
        sums += seen["achieved_goal"]
    env.close()
    return sums


def search(seed: int = 0) -> tuple[Floats, Floats]:
    """Return policies ``[P, 25, 6]`` and the sums of their features ``[P, 7]``."""
    from hindsight_rl.envs.robots.walker import HIGH, LOW

    generator = np.random.default_rng(seed)
    tasks = generator.uniform(LOW, HIGH, (TASKS, 7))
    spread = np.exp(generator.uniform(*np.log(SPREAD), (POLICIES, 1, 1)))
    weights = spread * generator.standard_normal((POLICIES, 25, 6))
    weights[0] = 0.0  # does nothing
    sums = features(weights)
    for _ in range(ROUNDS - 1):
        best = (tasks @ sums.T).argmax(1)  # the parent of the child of a random task
        parent = weights[generator.choice(best, POLICIES)]
        size = STRAY * parent.std((1, 2), keepdims=True) + SPREAD[0]
        children = parent + size * generator.standard_normal(parent.shape)
        weights = np.concatenate([weights, children])
        sums = np.concatenate([sums, features(children)])
    kept = np.unique((tasks @ sums.T).argmax(1))
    return weights[kept], sums[kept]


def demonstrator() -> Act:
    """Return the policy that takes the best of the policies for a task, kept from before."""
    path = common.BUILD / "demonstrators" / f"gaits-{POLICIES}-{ROUNDS}.npz"
    if not path.exists():
        weights, sums = search()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.savez(file, weights=weights, sums=sums))
    with np.load(path) as found:
        weights, sums = found["weights"], found["sums"]
    return lambda observation, task: actions(weights[(task @ sums.T).argmax(1)], observation)
