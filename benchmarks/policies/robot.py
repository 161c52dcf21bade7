"""A real robot: action error on held-out episodes of a humanoid (``make policies``).

    python benchmarks/policies/robot.py [--seeds 5] [--choose] [--only NAME]

unitree_g1_pick_bottle: 26 joint targets at 30 Hz. The exported file is led along held-out episodes:
it sees what was logged, whatever it answers. The error is the mean absolute difference to the
logged action over all steps and joints, radians. Where chunks are executed in part, the later
actions of each count too. Repeating the measured position is the control. Writes build/robot.json.
Logs: HINDSIGHT_DATA names their folder.
"""

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
from common import Case

DATA = Path(os.environ.get("HINDSIGHT_DATA", common.ROOT.parent / "shared" / "data"))
LOG = DATA / "unitree_g1_pick_bottle"
JOINTS = list(range(26))
NET = {"hidden": [256, 256]}


def cases() -> list[Case]:
    """Return the policies; the first is that of docs/results.md."""
    robot = functools.partial(Case, updates=600, rate=1e-4)
    longer = functools.partial(Case, updates=4000, rate=1e-3)
    near = {"network": NET, "head": {"kind": "laplace", "relative_to": JOINTS}}
    return [
        Case("repeat", ""),
        robot("BC", "BC", near),
        robot("BC, history of 4", "BC", near | {"history": {"steps": 4, "actions": False}}),
        robot(
            "ACT, chunks of 15, 1 executed",
            "ACT",
            {"chunk": 15, "execute": 1},
            rate=1e-3,
            acting={"ACT, chunks of 15, 8 executed": {"execute": 8}},
        ),
        longer(
            "flow, chunks of 8, 1 executed",
            "FlowBC",
            {"network": NET, "execute": 1},
            acting={"flow, chunks of 8, 4 executed": {"execute": 4}},
        ),
    ]


@functools.cache
def log() -> Any:
    """Return the whole log."""
    from hindsight_rl import read_log

    return read_log(LOG, "unitree_g1")


def split(seed: int) -> tuple[Any, list[Any]]:
    """Return a log without a fifth of its episodes, and the rows of each of those."""
    from hindsight_rl import Log

    whole = log()
    episode = whole.column("episode").numpy()
    numbers = np.unique(episode)
    held = np.random.default_rng([seed, 7]).permutation(numbers)[: max(1, len(numbers) // 5)]
    keep = ~np.isin(episode, held)
    names = [key for key in whole.keys() if key not in ("step", "episode_end")]
    columns = {key: whole.column(key)[keep] for key in names}
    facts = {key: value for key, value in whole.info.items() if key in ("action", "source")}
    return Log.from_columns(columns, facts), [np.flatnonzero(episode == one) for one in held]


def work(case: Case, seed: int) -> common.Found:
    """Return the error of a seed's policy."""
    training, held = split(seed)
    observation, action = (log().column(key).numpy() for key in ("observation", "action"))
    if not case.learner:
        rows = np.concatenate(held)
        error = np.abs(observation[rows][:, JOINTS] - action[rows]).mean()
        return {case.name: {"score": float(error)}}
    from hindsight_rl import OnnxPolicy

    rows = {}
    for name, learner in common.ways_of_acting(case, common.fitted(case, training, seed)).items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "policy.onnx")
            facts = common.exported(learner, path)
            policy, errors = OnnxPolicy(path), []
        for each in held:
            policy.reset()
            errors += [np.abs(policy.act(observation[row]) - action[row]).mean() for row in each]
        rows[name] = {"score": float(np.mean(errors))} | facts
    return rows


if __name__ == "__main__":
    found = common.over_seeds("robot", work, cases())
    common.report("robot", found, "Humanoid: error on held-out episodes")
