"""Fit one of d3rlpy's learners on a log of Pendulum-v1, and test it (see against_d3rlpy.py).

Runs in a Python of its own that has d3rlpy and nothing of this library:

    python benchmarks/peers_d3rlpy.py LOG.npz iql SEED UPDATES OUTPUT.json
"""

import json
import sys
import time
from pathlib import Path

import d3rlpy
import gymnasium
import numpy as np
import torch
from d3rlpy.algos import (
    AWACConfig,
    BCQConfig,
    CQLConfig,
    CRRConfig,
    IQLConfig,
    TD3PlusBCConfig,
)
from d3rlpy.models import VectorEncoderFactory

LEARNERS = {
    "iql": (IQLConfig, ("actor", "critic", "value")),
    "awac": (AWACConfig, ("actor", "critic")),
    "crr": (CRRConfig, ("actor", "critic")),
    "td3_bc": (TD3PlusBCConfig, ("actor", "critic")),
    "bcq": (BCQConfig, ("actor", "critic", "imitator")),
    "cql": (CQLConfig, ("actor", "critic")),
}
HIDDEN, BATCH, EPISODES, FIRST_EPISODE, TORQUE = [256, 256], 256, 50, 2_000_000, 2.0


def learner_of(name: str) -> d3rlpy.algos.QLearningAlgoBase:
    """Return a learner with its own defaults but for networks and batch."""
    config, networks = LEARNERS[name]
    encoders = {f"{each}_encoder_factory": VectorEncoderFactory(HIDDEN) for each in networks}
    return config(batch_size=BATCH, **encoders).create(device=False)


def returns(learner: d3rlpy.algos.QLearningAlgoBase) -> list[float]:
    """Return the returns of the test episodes; logged actions are half the torque."""
    env, found = gymnasium.make("Pendulum-v1"), []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=FIRST_EPISODE + episode)
        total, done = 0.0, False
        while not done:
            action = TORQUE * learner.predict(observation[None])[0]
            observation, reward, terminated, truncated, _ = env.step(np.clip(action, -2.0, 2.0))
            total, done = total + float(reward), terminated or truncated
        found.append(total)
    return found


def main() -> None:
    """Fit, test, write."""
    log, name, seed, updates, output = *sys.argv[1:3], *map(int, sys.argv[3:5]), Path(sys.argv[5])
    torch.set_num_threads(1)
    d3rlpy.seed(seed)
    with np.load(log, allow_pickle=False) as columns:
        last = np.flatnonzero(np.diff(columns["episode"], append=-1))
        timeouts = np.zeros(len(columns["reward"]), np.float32)
        timeouts[last] = 1.0
        dataset = d3rlpy.dataset.MDPDataset(
            columns["obs"].astype(np.float32),
            columns["action"].astype(np.float32).reshape(len(timeouts), -1),
            columns["reward"].astype(np.float32),
            np.zeros_like(timeouts),
            timeouts,
        )
    learner = learner_of(name)
    learner.build_with_dataset(dataset)
    start = time.perf_counter()
    learner.fit(
        dataset,
        n_steps=updates,
        n_steps_per_epoch=updates,
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    seconds = time.perf_counter() - start
    draft = output.with_suffix(".draft")
    draft.write_text(json.dumps({"returns": returns(learner), "seconds": seconds}))
    draft.replace(output)


if __name__ == "__main__":
    main()
