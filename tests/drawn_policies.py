"""Policies that draw their actions: one of every distribution that a file states.

Imported as ``drawn_policies`` (``tests`` is on pytest's path).
"""

from typing import Any

from small_fits import learner_of
from stand_ins import spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.nets.network import Head
from hindsight_rl.training.learner import Learner

HEADS: dict[str, Any] = {
    "normal": "gaussian",
    "laplace": "laplace",
    "tanh_normal": "tanh_gaussian",
    "mixture": "mixture",
    "per_state": Head("gaussian", spread="per_state"),
    "exploring": Head("deterministic", exploration=0.4),
}


def learner(name: str) -> Learner:
    """Return an unfitted policy whose actions are often at their bounds."""
    if name == "categorical":
        return learner_of(BC, spec_of(discrete=True, task=True)).eval()
    if name == "values":
        return learner_of(DQN, spec_of(discrete=True), temperature=0.25).eval()
    return learner_of(BC, spec_of(task=True), head=HEADS[name]).eval()


KINDS = [*HEADS, "categorical", "values"]
