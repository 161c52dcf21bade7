"""Steps per second of each robot: alone, many together on one thread, and on all cores.

Random actions within the bounds; episodes are reset as they end, and that time counts. Prints a
table, each cell by wall clock and, in brackets, by processor time, which other work on the machine
disturbs less; then how far robots stray from the environments that their models come from
(robots_parity.py). Writes build/robots.json.

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
import robots_parity
from gymnasium.vector import VectorEnv

import hindsight_rl.envs  # noqa: F401  registers the environments

OUTPUT = Path("build/robots.json")
_PREPARED = 64  # action batches drawn before the clock starts


def names() -> list[str]:
    """Return the robots that are registered, without ``Hindsight/`` and ``-v0``."""
    return [
        spec.name
        for spec in gymnasium.registry.values()
        if spec.namespace == "Hindsight" and ".robots." in str(spec.entry_point)
    ]


def is_batched(name: str) -> bool:
    """Return whether many of a robot step together."""
    return gymnasium.spec(f"Hindsight/{name}-v0").vector_entry_point is not None


class Clock:
    """Counts steps until the time is over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps = seconds, 0
        self._wall, self._processor = time.perf_counter(), time.process_time()

    @property
    def running(self) -> bool:
        """Whether there is time left."""
        return time.perf_counter() - self._wall < self.seconds

    def rates(self) -> dict[str, float]:
        """Return steps per second by wall clock, and by time of all processors."""
        wall, used = time.perf_counter() - self._wall, time.process_time() - self._processor
        return {"wall": self.steps / wall, "processor": self.steps / used}


def alone(name: str, seconds: float) -> dict[str, float]:
    """Return the steps per second of one environment."""
    env = gymnasium.make(f"Hindsight/{name}-v0", disable_env_checker=True)
    low, high = env.action_space.low, env.action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (_PREPARED, len(low)))
    env.reset(seed=0)
    clock = Clock(seconds)
    while clock.running:
        *_, terminated, truncated, _ = env.step(actions[clock.steps % _PREPARED])
        clock.steps += 1
        if terminated or truncated:
            env.reset()
    return clock.rates()


def together(name: str, seconds: float, count: int, threads: int) -> dict[str, float]:
    """Return the steps per second of so many environments, summed over them."""
    many: VectorEnv[Any, Any, Any] = gymnasium.make_vec(
        f"Hindsight/{name}-v0", count, threads=threads
    )
    low, high = many.single_action_space.low, many.single_action_space.high
    actions = np.random.default_rng(0).uniform(low, high, (_PREPARED, count, len(low)))
    many.reset(seed=0)
    clock = Clock(seconds)
    while clock.running:
        many.step(actions[clock.steps // count % _PREPARED])
        clock.steps += count
    many.close()
    return clock.rates()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="robots; all if none is named")
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--count", type=int, default=64, help="environments that step together")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    print(f"| robot | alone | {given.count} on 1 thread | {given.count} on {cores} threads |")
    print("|---|---|---|---|")
    for name in given.names or names():
        rows[name] = {"alone": alone(name, given.seconds)}
        for where, threads in (("one_thread", 1), ("all_cores", cores)):
            if is_batched(name):
                rows[name][where] = together(name, given.seconds, given.count, threads)
        cells = [f"{rate['wall']:,.0f} ({rate['processor']:,.0f})" for rate in rows[name].values()]
        cells += ["not batched"] * (3 - len(cells))
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    print()
    strays = robots_parity.table(given.names or names(), episodes=5, steps=200)
    about = {"count": given.count, "cores": cores, "python": platform.python_version()}
    about["mujoco"] = __import__("mujoco").__version__
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(
        json.dumps({**about, "steps_per_second": rows, "parity": strays}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main()
