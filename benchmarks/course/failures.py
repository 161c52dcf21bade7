"""What learners of values make of a log that never fails: MPO and DQN, with failures and without.

    python benchmarks/course/failures.py [--seeds 5] [--document]

CartPole pays 1 a step, whatever is done, until the pole falls. The logs are those of q_learning.py,
random actions, as they are, and with the last step of every episode left out: no row shows a fall
then, and every episode is cut off. Network, batch, rate and updates are those of q_learning.py,
MPO's own settings those of rows.py. Writes build/course_failures.json and the table of
docs/learners/mpo.md; ``--document`` writes the table alone.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parent)]
import q_learning  # noqa: E402
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from rows import LOOSE  # noqa: E402
from shared import BUILD, FIVE_SEEDS, ROOT, quiet, silent_trainer, table  # noqa: E402

from hindsight_rl import DQN, MPO, Log, OfflineDataModule  # noqa: E402
from hindsight_rl.keys import EPISODE, TERMINATED, TRUNCATED  # noqa: E402

PAGE, FOUND = ROOT / "docs" / "learners" / "mpo.md", BUILD / "course_failures.json"
LEARNERS: dict[str, tuple[type[Any], dict[str, Any]]] = {"MPO": (MPO, LOOSE), "DQN": (DQN, {})}
LOGS = ("as recorded", "without the last steps")


def without_failures(log: Log) -> Log:
    """Return a log without the steps that ended an episode by a fall; what is left is cut off."""
    kept = ~log.column(TERMINATED)
    columns = {key: log.column(key)[kept] for key in log.keys()}
    number = columns[EPISODE]
    columns[TRUNCATED] = columns[TRUNCATED].clone()
    columns[TRUNCATED][:-1] |= number[:-1] != number[1:]
    columns[TRUNCATED][-1] = True
    return Log.from_columns(columns, log.info)


def fitted(name: str, which: str, seed: int) -> float:
    """Return the score of a learner on one of the logs."""
    seed_everything(seed, verbose=False)
    log = q_learning.random_log(seed)
    log = log if which == LOGS[0] else without_failures(log)
    data = OfflineDataModule(log, batch_size=q_learning.BATCH, updates_per_step=25, seed=seed)
    kind, options = LEARNERS[name]
    learner = kind(data.spec, network=worlds.SMALL, optimizer=worlds.adam, compile="off", **options)
    silent_trainer(q_learning.UPDATES).fit(learner, data)
    return worlds.score(learner, q_learning.CARTPOLE)


def document(rows: list[Any]) -> None:
    """Write the table of the page."""
    returns = [f"{each['mean']:.0f} [{each['low']:.0f}, {each['high']:.0f}]" for each in rows]
    cells = [
        [each["learner"], each["log"], found] for each, found in zip(rows, returns, strict=True)
    ]
    replace_part(PAGE, "failures", table(["learner", "log", "return, mean [95 %]"], cells))


def main() -> None:
    """Fit what is not kept, write, document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS), help="how many")
    parser.add_argument("--document", action="store_true", help="write the table alone")
    options = parser.parse_args()
    quiet()
    if options.document:
        document(json.loads(FOUND.read_text()))
        return
    seeds, rows = FIVE_SEEDS[: options.seeds], []
    for name in LEARNERS:
        for which in LOGS:
            fit = functools.partial(fitted, name, which)
            found = [
                worlds.kept("failures", f"{name} {which}", seed, functools.partial(fit, seed))
                for seed in seeds
            ]
            row = worlds.row(f"{name}, {which}", found, seeds, learner=name, log=which)
            rows.append(row)
    worlds.write_text(FOUND, json.dumps(rows, indent=1))
    if len(seeds) == len(FIVE_SEEDS):
        document(rows)


if __name__ == "__main__":
    main()
