"""How far robots stray from the environments that their models come from, under the same actions.

Both start in the state of the other's reset, and take the same random actions. Prints the largest
difference of joint positions (metres, radians) over an episode, as median and largest of several:
once as it is, and once with the other's solver started cold before each step, as ours is. Touching
parts make small differences large.

    python benchmarks/robots_parity.py [--episodes 5] [--steps 200] [NAME ...]
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np

import hindsight_rl.envs  # noqa: F401  registers the environments

os.environ.setdefault("MUJOCO_GL", "disabled")
Step = Callable[[Any], Any]
Other = tuple[Step, Any]
"""What steps it, and its MuJoCo data."""


def of_suite(domain: str, task: str, seed: int) -> Other:
    """Return an environment of the DeepMind control suite."""
    from dm_control import suite

    env = suite.load(domain, task, task_kwargs={"random": seed})
    env.reset()
    return env.step, env.physics.data


def of_manipulation(seed: int) -> Other:
    """Return dm_control's arm that reaches."""
    from dm_control import manipulation

    env = manipulation.load("reach_site_features", seed=seed)
    env.reset()
    return env.step, env.physics.data


def of_meta_world(_: int) -> Other:
    """Return Meta-World's reach, which always starts alike."""
    from metaworld.envs.sawyer_reach_v3 import SawyerReachEnvV3

    env = SawyerReachEnvV3()
    env._set_task_called, env._last_rand_vec = True, np.array([0, 0.6, 0.02, 0, 0.85, 0.2])
    env.reset()
    return env.step, env.data


SOURCES: dict[str, tuple[str, Callable[[int], Other]]] = {
    "Walker": ("dm_control walker-run", partial(of_suite, "walker", "run")),
    "HalfCheetah": ("dm_control cheetah-run", partial(of_suite, "cheetah", "run")),
    "Reacher": ("dm_control reacher-hard", partial(of_suite, "reacher", "hard")),
    "Finger": ("dm_control finger-turn_hard", partial(of_suite, "finger", "turn_hard")),
    "Quadruped": ("dm_control quadruped-run", partial(of_suite, "quadruped", "run")),
    "SawyerReach": ("Meta-World reach-v3", of_meta_world),
    "JacoReach": ("dm_control reach_site_features", of_manipulation),
}


def stray(name: str, steps: int, seed: int, cold: bool) -> float:
    """Return the largest difference of joint positions over so many steps."""
    step, theirs = SOURCES[name][1](seed)
    env: Any = gymnasium.make(f"Hindsight/{name}-v0", disable_env_checker=True).unwrapped
    env.reset(seed=0)
    for part in ("qpos", "qvel", "act"):
        getattr(env.data, part)[:] = getattr(theirs, part)
    low, high = env.action_space.low, env.action_space.high
    worst = 0.0
    for action in np.random.default_rng(seed).uniform(low, high, (steps, len(low))):
        if cold:
            theirs.qacc_warmstart[:] = 0
        step(action)
        env.step(action)
        worst = max(worst, float(np.abs(env.data.qpos - theirs.qpos).max()))
    return worst


def table(names: list[str], episodes: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Print the table of the robots among ``names`` that have a source, and return its numbers."""
    print(f"| robot | source | {episodes} episodes of {steps} steps | its solver started cold |")
    print("|---|---|---|---|")
    rows: dict[str, dict[str, list[float]]] = {}
    for name in (name for name in SOURCES if name in names):
        rows[name] = {
            kind: [stray(name, steps, seed, kind == "cold") for seed in range(episodes)]
            for kind in ("warm", "cold")
        }
        cells = " | ".join(f"{np.median(x):.0e}, {max(x):.0e}" for x in rows[name].values())
        print(f"| {name} | {SOURCES[name][0]} | {cells} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="robots; all if none is named")
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    table(given.names or list(SOURCES), given.episodes, given.steps)


if __name__ == "__main__":
    main()
