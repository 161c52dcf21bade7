"""Meta-World's simulators, of the extra ``robots`` or as benchmarks/policies/sawyer.py installs."""

from typing import Any


def simulator(task: str) -> Any:
    """Return a simulator of a task, whose goal is observed and drawn anew at every reset."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE as ENVIRONMENTS

    made = ENVIRONMENTS[f"{task}-v3-goal-observable"](seed=0)
    made.seeded_rand_vec, made._freeze_rand_vec = True, False
    return made
