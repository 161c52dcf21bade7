"""Fork: which policies keep several good answers apart (``make policies``).

    python benchmarks/policies/fork.py [--seeds 5] [--choose] [--only NAME]

A disc may be passed on either side, and the expert does both. What averages its answers runs into
the disc. Prints success of the exported files, and writes build/fork.json.
"""

import functools
from typing import Any

import common
import worlds
from common import Case

EPISODES = 200
NET = {"hidden": [256, 256]}


def cases() -> list[Case]:
    """Return every policy of the table."""
    one = {"network": NET, "chunk": 1, "execute": 1}
    return [
        Case("MSE", "BC", {"network": NET, "head": "deterministic"}),
        Case(
            "mixture",
            "BC",
            {"network": NET, "head": "mixture"},
            acting={"mixture, a drawn component": {"head": drawn("mixture")}},
        ),
        Case(
            "autoregressive",
            "BC",
            {"network": NET, "head": "autoregressive"},
            acting={"autoregressive, drawn": {"head": drawn("autoregressive")}},
        ),
        Case("latent", "LatentBC", {"network": NET}),
        Case("flow", "FlowBC", one, exports=steps(1, 2, 4, 10)),
        Case("diffusion", "DiffusionBC", one, exports=steps(2, 10)),
        Case("one-step flow", "OneStepFlow", one | {"flow_steps": 4}),
    ]


def steps(*counts: int) -> dict[str, dict[str, int]]:
    """Return exports with so many steps from noise to action."""
    return {f", {n} step{'s' * (n > 1)}": {"steps": n} for n in counts}


def drawn(kind: str) -> dict[str, Any]:
    """Return a head whose answers are drawn."""
    return {"kind": kind, "acting": "sample_mean"}


@functools.cache
def log() -> Any:
    """Return the expert's log, the same for all."""
    return worlds.fork_log()


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave."""
    rows = {}
    for name, learner in common.ways_of_acting(case, common.fitted(case, log(), seed)).items():
        for added, options in case.exports.items():
            found, facts = common.played(learner, worlds.Fork, EPISODES, **options)
            rows[name + added] = {"score": float(found.successes.mean())} | facts
    return rows


if __name__ == "__main__":
    common.report("fork", common.over_seeds("fork", work, cases()), "Fork: success")
