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
# Bars: what was reached on two cores by small scripts of the same recipes, less a margin.
MARKS = {"MSE": "at most 0.75", "mixture": "at least 0.99", "flow, 4 steps": "at least 0.93"}
MARKS |= {"diffusion, 10 steps": "at least 0.90"}


def cases() -> list[Case]:
    """Return every policy of the table."""
    flow = {"network": NET, "chunk": 1, "execute": 1}
    return [
        Case("MSE", "BC", {"network": NET, "head": "deterministic"}),
        Case("mixture", "BC", {"network": NET, "head": "mixture"}),
        Case("mixture, a drawn component", "BC", {"network": NET, "head": drawn("mixture")}),
        Case("autoregressive", "BC", {"network": NET, "head": "autoregressive"}),
        Case("autoregressive, drawn", "BC", {"network": NET, "head": drawn("autoregressive")}),
        Case("latent", "LatentBC", {"network": NET}),
        *(
            Case(f"flow, {n} step{'s' * (n > 1)}", "FlowBC", flow | {"steps": n})
            for n in (1, 2, 4, 10)
        ),
    ]


def drawn(kind: str) -> dict[str, Any]:
    """Return a head whose answers are drawn."""
    return {"kind": kind, "acting": "sample_mean"}


@functools.cache
def log() -> Any:
    """Return the expert's log, the same for all."""
    return worlds.fork_log()


def work(case: Case, seed: int) -> dict[str, Any]:
    """Return what a seed of a policy gave."""
    learner = common.fitted(case, log(), seed)
    found, facts = common.played(learner, case, worlds.Fork, EPISODES)
    return {"score": float(found.successes.mean())} | facts


if __name__ == "__main__":
    common.report("fork", common.over_seeds("fork", work, cases()), "Fork: success")
