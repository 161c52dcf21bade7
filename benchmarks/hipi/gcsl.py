"""GCSL in four rooms from scratch: clone what was reached, collect with the clone, repeat.

    python benchmarks/hipi/gcsl.py [--seeds 5] [--choose]

Prints success on fresh goals and its curve over environment steps; writes build/hipi/gcsl.json.
Finished runs are kept in build/hipi/gcsl/.
"""

import functools
from typing import Any

import common
import gymnasium
import numpy as np

from hindsight_rl.nets.network import Network

ENV = "FourRoomsDirections-v0"
DIRECTIONS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], np.float32)
EVAL_EVERY = 4_000
SETTINGS: dict[str, Any] = {
    "updates": 40_000,
    "updates_per_env_step": 0.25,
    "hidden": [256, 256],
    "frequencies": 3,
    "rate": 5e-4,
    "offset": "uniform",
    "explore": 0.1,
}


def four_rooms(**kwargs: Any) -> Any:
    """Return four rooms with nine actions: three velocities per axis, as the paper cuts actions."""
    return gymnasium.wrappers.TransformAction(
        gymnasium.make("hindsight_rl.envs:Hindsight/FourRooms-v0", **kwargs),
        lambda number: DIRECTIONS[number],
        gymnasium.spaces.Discrete(len(DIRECTIONS)),
    )


def run(seed: int, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the curve of one run."""
    import torch

    from hindsight_rl.agents.bc import BC
    from hindsight_rl.datamodules.collection import Collection
    from hindsight_rl.datamodules.iterated import IteratedDataModule
    from hindsight_rl.diagnostics.evaluation import Evaluation
    from hindsight_rl.relabel.goals import FutureGoal
    from hindsight_rl.tasks.family import GoalReaching

    common.quiet(seed)
    gymnasium.register(ENV, entry_point=four_rooms)
    data = IteratedDataModule(
        ENV,
        [FutureGoal(GoalReaching(1.0), offset=settings["offset"])],
        seed=seed,
        collection=Collection(
            initial_episodes=135,
            episodes_per_round=8,
            explore=settings["explore"],
            updates_per_env_step=settings["updates_per_env_step"],
        ),
    )
    learner = BC(
        data.spec,
        network=Network(hidden=settings["hidden"], frequencies=settings["frequencies"]),
        optimizer=functools.partial(torch.optim.Adam, lr=settings["rate"], fused=True),
        evaluation=Evaluation(env=ENV, every=EVAL_EVERY, episodes=100),
    )
    curve = common.Curve(data, "eval/success")
    common.silent_trainer(settings["updates"], callbacks=[curve.callback()]).fit(learner, data)
    return {"env_steps": curve.steps, "scores": curve.scores, "final": curve.scores[-1]}


if __name__ == "__main__":
    raise SystemExit(common.from_scratch("gcsl", "GCSL in four rooms from scratch", SETTINGS, run))
