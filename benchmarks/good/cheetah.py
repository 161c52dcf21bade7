"""A log of HalfCheetah of mixed quality, by demonstrators that random search found.

Augmented random search improves one linear policy, and its policies on the way, from one that falls
about to one that runs, play the episodes of a log: 200 steps each, with noise on their actions. So
the log holds good and bad behaviour and what lies between, as a robot's would that is being tuned.

Reference: Mania, Guy and Recht 2018, "Simple random search provides a competitive approach to
reinforcement learning", arXiv 1803.07055, algorithm 2.
"""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from hindsight_rl import Log
from hindsight_rl.files import write_whole

ENV, STEPS = "HalfCheetah-v5", 200
ITERATIONS, DIRECTIONS, BEST, STEP, SPREAD = 150, 16, 8, 0.02, 0.03
KEPT, NOISE = 10, 0.2  # every tenth policy plays; noise in units of torque
EARLY = 3  # of the policies play half of the episodes
Floats = NDArray[np.float64]


def made() -> gymnasium.Env[Any, Any]:
    """Return the environment, cut after 200 steps."""
    return gymnasium.make(ENV, max_episode_steps=STEPS)


class _Moments:
    """Mean and variance of what was observed, updated episode by episode."""

    def __init__(self, width: int) -> None:
        self.count, self.mean, self.square = 1e-4, np.zeros(width), np.zeros(width)

    def add(self, seen: Floats) -> None:
        """Count further observations ``[n, O]``."""
        self.count += len(seen)
        self.mean += (seen - self.mean).sum(0) / self.count
        self.square += ((seen**2) - self.square).sum(0) / self.count

    def folded(self, weights: Floats) -> Floats:
        """Return weights ``[O + 1, A]`` of raw observations for ``[O, A]`` of standardised ones."""
        spread = np.sqrt(np.maximum(self.square - self.mean**2, 1e-8))
        scaled = weights / spread[:, None]
        return np.concatenate([scaled, -(self.mean @ scaled)[None]])


def action(weights: Floats, observation: Floats) -> Floats:
    """Return the torques of a linear policy, ``[6]`` in [-1, 1]."""
    return np.clip(observation @ weights[:-1] + weights[-1], -1, 1)


def episode(
    env: gymnasium.Env[Any, Any], weights: Floats, seed: int, noise: Floats | None = None
) -> dict[str, Floats]:
    """Return the columns of one episode.

    Args:
        env: The environment.
        weights: ``[18, 6]``.
        seed: Of its start.
        noise: ``[200, 6]``, added to the actions.

    Returns:
        ``observation`` [201, 17], ``action`` [200, 6] and ``reward`` [200].
    """
    seen, _ = env.reset(seed=seed)
    observations, actions, rewards = [seen], [], []
    for step in range(STEPS):
        torque = action(weights, seen)
        torque = torque if noise is None else np.clip(torque + noise[step], -1, 1)
        seen, reward, *_ = env.step(torque)
        observations.append(seen)
        actions.append(torque)
        rewards.append(reward)
    return {k: np.array(v) for k, v in zip(_NAMES, (observations, actions, rewards), strict=True)}


_NAMES = ("observation", "action", "reward")


def search(seed: int = 0) -> Floats:
    """Return every tenth policy on the way, ``[P, 18, 6]``."""
    generator, env = np.random.default_rng(seed), made()
    weights, moments, kept = np.zeros((17, 6)), _Moments(17), []
    for iteration in range(ITERATIONS):
        kept += [moments.folded(weights)] if iteration % KEPT == 0 else []
        tried = generator.standard_normal((DIRECTIONS, *weights.shape))
        returns, seen = np.zeros((DIRECTIONS, 2)), []
        for number, direction in enumerate(tried):
            for place, sign in enumerate((1, -1)):
                child = moments.folded(weights + sign * SPREAD * direction)
                found = episode(env, child, iteration)
                returns[number, place] = found["reward"].sum()
                seen.append(found["observation"])
        best = returns.max(1).argsort()[-BEST:]
        gain = np.einsum("n,noa->oa", returns[best, 0] - returns[best, 1], tried[best])
        weights = weights + STEP / (BEST * max(returns[best].std(), 1e-6)) * gain
        moments.add(np.concatenate(seen))
    return np.stack([*kept, moments.folded(weights)])


def demonstrators(folder: Path) -> Floats:
    """Return the policies of the search, kept from before."""
    path = folder / f"cheetah-{ITERATIONS}-{DIRECTIONS}.npz"
    if not path.exists():
        found = search()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: np.savez(file, weights=found))
    with np.load(path) as kept:
        return np.asarray(kept["weights"])


def recorded(folder: Path, episodes: int, seed: int) -> Log:
    """Return a log whose episodes are played by the policies of the search.

    Half of them are played by one of the first three, which hardly move, half by any.

    Args:
        folder: Where the search is kept.
        episodes: How many.
        seed: Of the policies, the starts and the noise.

    Returns:
        The log.
    """
    policies, generator, env = demonstrators(folder), np.random.default_rng(seed), made()
    played = []
    for number in range(episodes):
        noise = NOISE * generator.standard_normal((STEPS, 6))
        weights = policies[generator.integers(len(policies) if number % 2 else EARLY)]
        played.append(episode(env, weights, seed * 1_000_000 + number, noise))
    joined = {name: np.stack([one[name] for one in played]) for name in _NAMES}
    seen, over = torch.from_numpy(joined["observation"]).float(), torch.zeros(episodes, STEPS)
    over[:, -1] = 1
    columns = {
        "observation": seen[:, :-1],
        "action": torch.from_numpy(joined["action"]).float(),
        "episode": torch.arange(episodes)[:, None].expand(-1, STEPS),
        ("next", "observation"): seen[:, 1:],
        ("next", "reward"): torch.from_numpy(joined["reward"]).float(),
        ("next", "terminated"): torch.zeros(episodes, STEPS, dtype=torch.bool),
        ("next", "truncated"): over.bool(),
    }
    rows = {key: value.flatten(0, 1) for key, value in columns.items()}
    return Log.from_columns(rows, {"action": {"low": [-1.0] * 6, "high": [1.0] * 6}})
