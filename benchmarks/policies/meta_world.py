"""Meta-World's reach and push from 50 demonstrations: from numbers, and from two cameras.

    python benchmarks/policies/meta_world.py [--seeds 5] [--choose] [--only NAME]

The scripted experts of Meta-World record 50 episodes of each task, every goal and object somewhere
else. Cloning sees where hand, puck and goal are (``state``), or two pictures of 64 x 64 with the
place of the hand and the width of the gripper (``cameras``), or these four numbers alone
(``hand``), which cannot be enough. The exported files play 50 episodes with goals of their own.
Packages and recordings lie in build/metaworld. Writes build/meta_world.json.
"""

import functools
from typing import Any

import common
import sawyer
from common import Case

EPISODES = 50
CAMERA = {"channels": [16, 16, 32], "shift": 2}


def cases() -> list[Case]:
    """Return the policies."""
    settings: dict[str, Any] = {"head": "deterministic", "network": {"hidden": [64, 64]}}
    sees = settings | {"network": settings["network"] | {"encoders": {"images": CAMERA}}}
    found = []
    for task in sawyer.TASKS:
        for seen in ("state", "hand"):
            name = f"{task}, {seen}"
            found.append(Case(name, "BC", settings, log=name, updates=1500, batch=64))
        name = f"{task}, cameras"
        found.append(Case(name, "BC", sees, log=name, updates=2000, batch=32))
    return found


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave."""
    sawyer.install()
    task, seen = case.log.split(", ")
    learner = common.fitted(case, sawyer.log_of(task, seen), seed)
    found, facts = common.played(learner, functools.partial(sawyer.Sawyer, task, seen), EPISODES)
    return {case.name: {"score": float(found.successes.mean())} | facts}


if __name__ == "__main__":
    sawyer.install()
    for name in sawyer.TASKS:
        sawyer.recorded(name)
    common.report("meta_world", common.over_seeds("meta_world", work, cases()), "Arm: success")
