"""Judge a policy with d3rlpy's fitted Q evaluation (see against_d3rlpy.py).

Runs in a Python of its own that has d3rlpy and nothing of this library:

    python benchmarks/judging/peers_d3rlpy.py FOLDER '{"updates": 2000, ...}'

FOLDER holds log.npz and policy.pt, and gets found.json.
"""

import json
import sys
import time
from pathlib import Path

import d3rlpy
import numpy as np
import torch
from d3rlpy.models import VectorEncoderFactory
from d3rlpy.ope import FQE, FQEConfig


class Given:
    """A policy in the place of a d3rlpy algorithm, which is asked for its actions alone."""

    def __init__(self, policy: torch.jit.ScriptModule) -> None:
        self.policy = policy
        self.impl = self

    def predict_best_action(self, observation: torch.Tensor) -> torch.Tensor:
        """Return actions ``[N, 1]`` in [-1, 1]."""
        with torch.no_grad():
            return self.policy(observation)

    def get_action_type(self) -> d3rlpy.ActionSpace:
        """Return that actions are real numbers."""
        return d3rlpy.ActionSpace.CONTINUOUS


def main() -> None:
    """Fit, ask, write."""
    folder, asked = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    d3rlpy.seed(asked["seed"])
    policy = torch.jit.load(str(folder / "policy.pt"))
    with np.load(folder / "log.npz", allow_pickle=False) as columns:
        last = columns["last"].astype(np.float32)
        dataset = d3rlpy.dataset.MDPDataset(
            columns["observation"], columns["action"], columns["reward"], np.zeros_like(last), last
        )
        first = columns["observation"][np.flatnonzero(np.append(1.0, last[:-1]))]
    config = FQEConfig(
        batch_size=asked["batch"],
        gamma=asked["discount"],
        encoder_factory=VectorEncoderFactory(asked["hidden"]),
    )
    evaluation = FQE(algo=Given(policy), config=config, device=False)
    evaluation.build_with_dataset(dataset)
    start = time.perf_counter()
    evaluation.fit(
        dataset,
        n_steps=asked["updates"],
        n_steps_per_epoch=asked["updates"],
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    seconds = time.perf_counter() - start
    actions = policy(torch.as_tensor(first)).detach().numpy()
    value = float(evaluation.predict_value(first, actions).mean())
    (folder / "found.json").write_text(json.dumps({"value": value, "took": seconds}))


if __name__ == "__main__":
    main()
