"""Steps per second of each robot: alone, many together on one thread, and on all cores.

Random actions within the bounds; episodes are reset as they end, and that time counts. Prints a
table and writes build/robots.json.

    python benchmarks/robots.py [--seconds 1.5] [--count 64] [NAME ...]
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import VectorEnv

import hindsight_rl.envs  # noqa: F401  registers the environments

OUTPUT = Path("build/robots.json")
_PREPARED = 64  # action batches drawn before the clock starts


def names() -> list[str]:
    """Return the robots that are registered, without ``Hindsight/`` and ``-v0``."""
    return [
        spec.name
        for spec in gymnasium.registry.values()
        if spec.namespace == "Hindsight" and "world" in spec.kwargs
    ]


def alone(name: str, seconds: float) -> float:
    """Return the steps per second of one environment."""
    env = gymnasium.make(f"Hindsight/{name}-v0", disable_env_checker=True)
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (_PREPARED, len(low)))
    env.reset(seed=0)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        *_, terminated, truncated, _ = env.step(actions[steps % _PREPARED])
        steps += 1
        if terminated or truncated:
            env.reset()
    return steps / (time.perf_counter() - begin)


def together(name: str, seconds: float, count: int, threads: int) -> float:
    """Return the steps per second of so many environments, summed over them."""
    many: VectorEnv[Any, Any, Any] = gymnasium.make_vec(
        f"Hindsight/{name}-v0", count, threads=threads
    )
    low, high = many.single_action_space.low, many.single_action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (_PREPARED, count, len(low)))
    many.reset(seed=0)
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        many.step(actions[steps % _PREPARED])
        steps += 1
    rate = steps * count / (time.perf_counter() - begin)
    many.close()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="robots; all if none is named")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--count", type=int, default=64, help="environments that step together")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rows: dict[str, dict[str, float]] = {}
    print(f"| robot | alone | {given.count} on 1 thread | {given.count} on {cores} threads |")
    print("|---|---|---|---|")
    for name in given.names or names():
        rows[name] = {
            "alone": alone(name, given.seconds),
            "one_thread": together(name, given.seconds, given.count, 1),
            "all_cores": together(name, given.seconds, given.count, cores),
        }
        print(f"| {name} | " + " | ".join(f"{rate:,.0f}" for rate in rows[name].values()) + " |")
    about = {"count": given.count, "cores": cores, "python": platform.python_version()}
    about["mujoco"] = __import__("mujoco").__version__
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps({**about, "steps_per_second": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
