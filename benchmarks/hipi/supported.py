"""How many rows are a success for any candidate of inverse RL by transitions (``make hipi``).

    python benchmarks/hipi/supported.py

Wandering in four rooms, candidates of the prior and states that the rows reached, no learner. A
row that is no success for any candidate says only how far the goals are. Prints a table, and writes
build/hipi/supported.json.
"""

from typing import Any

import common
import numpy as np
from wandering import rooms_log

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.inverse_transition import Proposal, TransitionInverseRL
from hindsight_rl.tasks.family import GoalReaching

CASES = ((1.0, 16, 256), (1.0, 32, 256), (0.3, 16, 256), (0.3, 32, 256), (0.3, 32, 128))
PROPOSALS: tuple[Proposal, ...] = ("prior", "reached")
UPDATES = 200


def share(log: Log, radius: float, candidates: int, rows: int, propose: Proposal) -> float:
    """Return the share of rows that are a success for any candidate, mean over updates."""
    relabeler = TransitionInverseRL(GoalReaching(radius), candidates=candidates, propose=propose)
    data = OfflineDataModule(log, [relabeler], batch_size=rows, seed=100)
    sampler, found = data._sampler(), []
    for update in range(UPDATES):
        data.relabel(sampler.chunk(update, 1))
        found.append(float(data.relabel.metrics["supported"]))
    return float(np.mean(found))


def main() -> int:
    """Print the table and write it."""
    log, report = rooms_log(), list[dict[str, Any]]()
    for radius, candidates, rows in CASES:
        found = {one: share(log, radius, candidates, rows, one) for one in PROPOSALS}
        report.append({"radius": radius, "candidates": candidates, "rows": rows, **found})
    header = ("radius", "candidates", "rows", *(f"`propose: {one}`" for one in PROPOSALS))
    cells = [
        (*case, *(f"{row[one]:.2f}" for one in PROPOSALS))
        for case, row in zip(CASES, report, strict=True)
    ]
    common.say(common.table(header, cells))
    common.write_json("supported", report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
