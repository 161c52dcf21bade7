"""Memory: policies that must remember (``make memory``).

    python benchmarks/policies/memory.py [--seeds 5] [--choose] [--only NAME]

Pendulum-v1 by an expert, of whose three numbers the policy sees two: cosine and sine of the angle,
not the velocity. Then a T-maze: a signal at the first step says which way to turn thirty steps
later. Each policy is exported; its file plays the episodes, beside the learner for a thousand steps
of its own answers, with a reset in the middle. Writes build/memory.json. Logs: HINDSIGHT_DATA names
their folder.
"""

import functools
import os
from pathlib import Path
from typing import Any

import common
import gymnasium
import numpy as np
import worlds
from common import Case

DATA = Path(os.environ.get("HINDSIGHT_DATA", common.ROOT.parent / "shared" / "data"))
LOG = DATA / "rllib_pendulum" / "pendulum_expert_sac_50eps.npz"
EPISODES, CORRIDOR = 50, 30
SMALL, ATTENTION = {"hidden": [64, 64]}, {"width": 32, "heads": 4, "layers": 2}


def cases() -> list[Case]:
    """Return every policy on both logs."""
    pendulum = functools.partial(Case, log="angles", updates=3000, batch=64)
    maze = functools.partial(Case, log="maze", updates=6000, batch=64, rate=3e-3)
    gru: dict[str, Any] = {"network": {"hidden": [64]}, "units": 64}
    slower: dict[str, Any] = {"rate": 1e-3, "updates": 4000}
    long = {"segment": CORRIDOR + 2, "burn_in": 0}
    return [
        pendulum("angle only", "BC", past(0)),
        pendulum("angle, history of 1", "BC", past(1)),
        pendulum("angle, history of 8", "BC", past(8)),
        pendulum("angle, transformer of 8", "BC", past(8, attention=ATTENTION)),
        pendulum("angle, GRU", "RecurrentBC", gru),
        maze("maze, no memory", "BC", past(0), updates=2000),
        maze("maze, history of 8", "BC", past(8), updates=2000),
        maze("maze, transformer", "BC", past(CORRIDOR + 1, attention=ATTENTION), **slower),
        maze("maze, GRU", "RecurrentBC", gru | long),
    ]


def past(steps: int, **history: Any) -> dict[str, Any]:
    """Return the arguments of cloning with a past of observations."""
    return {"network": SMALL, "history": {"steps": steps, "actions": False} | history}


class Angle(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Pendulum-v1 without its velocity."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("Pendulum-v1"))
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)

    def observation(self, observation: Any) -> Any:
        """Return cosine and sine."""
        return observation[:2]


ENVS = {"angles": Angle, "maze": functools.partial(worlds.TMaze, CORRIDOR)}


@functools.cache
def log_of(name: str) -> Any:
    """Return a log."""
    from hindsight_rl import Log, read_log

    if name == "maze":
        return worlds.t_maze_log(CORRIDOR)
    log = read_log(LOG)
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    for key in ("observation", ("next", "observation")):
        columns[key] = columns[key][:, :2]
    return Log.from_columns(columns, {"action": log.info.get("action"), "source": "angles"})


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave; the return in the maze is its share of successes."""
    learner = common.fitted(case, log_of(case.log), seed)
    found, facts = common.played(learner, ENVS[case.log], EPISODES)
    facts |= {"score": float(found.returns.mean()), "self_fed": common.self_fed(learner)}
    return {case.name: facts}


if __name__ == "__main__":
    found = common.over_seeds("memory", work, cases())
    common.report("memory", found, "Memory: return on the pendulum, success in the maze")
