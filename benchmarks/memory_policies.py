"""Policies that remember and foresee, on a log that hides the velocity (``make memory``).

    python benchmarks/memory_policies.py [--updates 3000] [--seeds 0 1 2]

Pendulum-v1 by an expert, of whose three numbers the policy sees two: cosine and sine of the angle.
Cloned without a past, with four past steps, with a GRU, and in chunks of eight by flow matching
(that one sees the velocity too). Each is exported; its file plays the episodes, beside the learner
for a thousand steps first. Prints a table and writes build/memory_policies.json. Logs:
HINDSIGHT_DATA names their folder.
"""

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning import Trainer

from hindsight_rl import (
    BC,
    FlowBC,
    Learner,
    Log,
    OfflineDataModule,
    OnnxPolicy,
    RecurrentBC,
    export_policy,
    read_log,
    rollout,
)
from hindsight_rl.export.draws import counters
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.torch_actor import TorchActor

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("HINDSIGHT_DATA", ROOT.parent / "shared" / "data"))
LOG = DATA / "rllib_pendulum" / "pendulum_expert_sac_50eps.npz"
EPISODES, SEED = 50, 2_000_000
# Two-sided 95 % quantiles of Student's t distribution, by number of seeds.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
SMALL = Network(hidden=(64, 64))
SEEING = {"network": SMALL, "history": 4, "past_actions": False}
CHUNKS = {"network": Network(hidden=(128, 128)), "chunk": 8, "execute": 1}
KINDS: dict[str, tuple[type[Learner], dict[str, Any], bool]] = {
    "BC, angle only": (BC, {"network": SMALL}, False),
    "BC, history of 4": (BC, SEEING, False),
    "GRU, segments of 16": (RecurrentBC, {"units": 64, "network": Network(hidden=(64,))}, False),
    "flow, chunks of 8": (FlowBC, CHUNKS, True),
}


class Angle(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Pendulum-v1 without its velocity."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("Pendulum-v1"))
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def observation(self, observation: Any) -> Any:
        """Return cosine and sine."""
        return observation[:2]


def log_of(whole: bool) -> Log:
    """Return the log, with the velocity or without."""
    log = read_log(LOG)
    if whole:
        return log
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    for key in ("observation", ("next", "observation")):
        columns[key] = columns[key][:, :2]
    return Log.from_columns(columns, {"action": log.info.get("action"), "source": "angles"})


def fitted(name: str, seed: int, updates: int) -> Learner:
    """Return a learner after so many updates."""
    kind, arguments, whole = KINDS[name]
    data = OfflineDataModule(log_of(whole), batch_size=64, updates_per_step=50, seed=seed)
    torch.manual_seed(seed)
    learner = kind(
        data.spec, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, fused=True), **arguments
    )
    Trainer(
        max_steps=updates,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(learner, data)
    return learner.eval()


def difference(learner: Learner, policy: OnnxPolicy, steps: int = 1000) -> float:
    """Return the largest difference of learner and file, fed by themselves, reset in the middle."""
    actor, most = TorchActor(learner), 0.0
    seen = np.zeros((1, learner.spec.vector.width), np.float32)
    state = actor.initial_state(1)
    for step in range(steps):
        if step == steps // 2:
            state = actor.initial_state(1)
            policy.reset()
        noise = counters(0, np.array([2 * step // steps]), step % (steps // 2))
        expected, state = actor.step(seen, None, state, noise)
        found = policy.act(seen[0])
        most = max(most, float(np.abs(found - expected[0]).max()))
        seen = np.tanh(seen + 0.3 * np.sin(found.sum() + step)).astype(np.float32)
    return most


def main() -> None:
    """Fit, export, play and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = []
    print(f"{'policy':22}{'return':>10}{'low':>10}{'high':>10}{'file':>10}{'seconds':>9}")
    for name in KINDS:
        means, most, started = [], 0.0, time.perf_counter()
        for seed in asked.seeds:
            learner = fitted(name, seed, asked.updates)
            with tempfile.TemporaryDirectory() as folder:
                export_policy(learner, Path(folder, "policy.onnx"))
                policy = OnnxPolicy(Path(folder, "policy.onnx"))
            most = max(most, difference(learner, policy))
            env: Any = "Pendulum-v1" if KINDS[name][2] else Angle
            means.append(float(rollout(policy, env, episodes=EPISODES, seed=SEED).returns.mean()))
        mean, count = statistics.fmean(means), len(means)
        half = STUDENT[count] * statistics.stdev(means) / count**0.5 if count in STUDENT else 0.0
        seconds = time.perf_counter() - started
        print(
            f"{name:22}{mean:10.1f}{mean - half:10.1f}{mean + half:10.1f}{most:10.1e}{seconds:9.1f}"
        )
        found.append(
            {
                "name": name,
                "mean": mean,
                "low": mean - half,
                "high": mean + half,
                "seeds": asked.seeds,
                "seconds": seconds,
                "file_difference": most,
            }
        )
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "memory_policies.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
