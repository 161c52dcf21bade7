"""Eyes: the same task from numbers and from two cameras (``make policies``).

    python benchmarks/policies/eyes.py [--seeds 5] [--choose] [--only NAME]

A point moves to a goal. The policy sees four numbers, or frames of 64 x 64 by two cameras, each of
which sees half of the square; or one of them alone, which cannot be enough. One expert, one log of
100 episodes, three recordings. The exported files, which take bytes, play the episodes. Writes
build/eyes.json.
"""

import functools
from typing import Any

import common
import worlds
from common import Case

EPISODES = 100


def cases() -> list[Case]:
    """Return the policies."""
    settings: dict[str, Any] = {"head": "deterministic", "network": {"hidden": [64, 64]}}
    return [
        Case("state", "BC", settings, log="state", updates=1500, batch=64),
        Case("two cameras", "BC", settings, log="frames", updates=1500, batch=64),
        Case("one camera", "BC", settings, log="one", updates=1500, batch=64),
    ]


@functools.cache
def logs() -> dict[str, Any]:
    """Return the three recordings."""
    return worlds.reach_logs(100)


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave."""
    learner = common.fitted(case, logs()[case.log], seed)
    env = functools.partial(worlds.Reach, case.log)
    found, facts = common.played(learner, env, EPISODES)
    return {case.name: {"score": float(found.successes.mean())} | facts}


if __name__ == "__main__":
    common.report("eyes", common.over_seeds("eyes", work, cases()), "Eyes: success")
