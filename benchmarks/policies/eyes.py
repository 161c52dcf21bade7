"""Eyes: the same task from numbers and from two cameras (``make policies``).

    python benchmarks/policies/eyes.py [--seeds 5] [--choose] [--only NAME]

A point moves to a goal. The policy sees four numbers, or frames of 64 x 64 by two cameras, each of
which sees half of the square; or one of them alone, which cannot be enough. One expert, one log of
400 episodes, three recordings. The exported files, which take bytes, play the episodes. Writes
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
    hidden = {"hidden": [64, 64]}
    small = hidden | {"encoders": {"images": {"channels": [16, 16, 32]}}}
    case = functools.partial(Case, updates=2000, batch=32)
    return [
        case("state", "BC", {"head": "deterministic", "network": hidden}, log="state"),
        case("two cameras", "BC", {"head": "deterministic", "network": small}, log="frames"),
        case("one camera", "BC", {"head": "deterministic", "network": small}, log="one"),
    ]


@functools.cache
def logs() -> dict[str, Any]:
    """Return the three recordings."""
    return worlds.reach_logs(400)


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave."""
    learner = common.fitted(case, logs()[case.log], seed)
    env = functools.partial(worlds.Reach, case.log)
    found, facts = common.played(learner, env, EPISODES)
    return {case.name: {"score": float(found.successes.mean())} | facts}


if __name__ == "__main__":
    common.report("eyes", common.over_seeds("eyes", work, cases()), "Eyes: success")
