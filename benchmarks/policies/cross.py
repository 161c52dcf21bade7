"""New policies beside cloning and IQL, and on inferred tasks (``make policies``).

    python benchmarks/policies/cross.py [--seeds 5] [--choose] [--only NAME]

Two logs. rllib_pendulum medium: episodes of a half-trained SAC (return -524); plain cloning, and
IQL, which prefers the better actions. Four rooms: aimless wandering without labels, rewards or
goals; goals are inferred by inverse RL, or are what an episode reached later (future), and each
policy is conditioned on them. Cloning cannot join pieces of different episodes. Does a policy of
many futures come closer to what SAC makes of the same labels (``make quickstart``)? Prints return
and success of the exported files, and writes build/cross.json. HINDSIGHT_DATA names the folder of
logs.
"""

import functools
import os
from pathlib import Path
from typing import Any

import common
from common import Case

DATA = Path(os.environ.get("HINDSIGHT_DATA", common.ROOT.parent / "shared" / "data"))
MEDIUM = DATA / "rllib_pendulum" / "pendulum_medium_sac_50eps.npz"
ROOMS = "hindsight_rl.envs:Hindsight/FourRooms-v0"
PENDULUM_EPISODES, ROOMS_EPISODES, WALKS = 50, 200, 2000
SMALL, ROOM = {"hidden": [64, 64]}, {"hidden": [256, 256], "frequencies": 3}
SQUASHED = {"head": "tanh_gaussian"}


def cases() -> list[Case]:
    """Return every policy on both logs."""
    pendulum = functools.partial(Case, log="pendulum", updates=5000)
    rooms = functools.partial(Case, log="rooms", updates=6000, batch=512)
    future = functools.partial(Case, log="rooms, future", updates=6000, batch=512)
    once = {"chunk": 1, "execute": 1}
    single = once | {"steps": 4}
    return [
        pendulum("pendulum, BC", "BC", {"network": SMALL}),
        pendulum("pendulum, mixture", "BC", {"network": SMALL, "head": "mixture"}),
        pendulum("pendulum, autoregressive", "BC", {"network": SMALL, "head": "autoregressive"}),
        pendulum("pendulum, latent", "LatentBC", {"network": SMALL}),
        pendulum("pendulum, flow", "FlowBC", {"network": SMALL} | single),
        pendulum(
            "pendulum, diffusion", "DiffusionBC", {"network": SMALL, "chunk": 1, "execute": 1}
        ),
        pendulum("pendulum, IQL", "IQL", {"network": SMALL} | SQUASHED),
        pendulum("pendulum, IQL, mixture", "IQL", {"network": SMALL, "head": "mixture"}),
        pendulum("pendulum, IDQL", "IDQL", {"network": SMALL, "critic_network": SMALL}),
        pendulum("pendulum, FQL", "FQL", {"network": SMALL, "critic_network": SMALL}),
        rooms("rooms, BC", "BC", {"network": ROOM}),
        rooms("rooms, mixture", "BC", {"network": ROOM, "head": "mixture"}),
        rooms("rooms, flow", "FlowBC", {"network": ROOM} | single),
        rooms("rooms, flow, chunks of 8", "FlowBC", {"network": ROOM, "chunk": 8, "steps": 4}),
        future("rooms, future, BC", "BC", {"network": ROOM}),
        future("rooms, future, mixture", "BC", {"network": ROOM, "head": "mixture"}),
        future("rooms, future, flow", "FlowBC", {"network": ROOM} | single),
    ]


@functools.cache
def wandering() -> Any:
    """Return the log of aimless wandering, collected once."""
    from hindsight_rl import read_log
    from hindsight_rl.cli.collect import main

    folder = common.BUILD / "policies" / "wandering"
    if not folder.exists():
        words = ("--env", ROOMS, "--env_kwargs", '{"ends": false}', "--episodes", str(WALKS))
        main([*words, "--output", str(folder)])
    return read_log(folder)


def log_of(name: str) -> tuple[Any, list[Any]]:
    """Return a log and its data step."""
    from hindsight_rl import read_log
    from hindsight_rl.relabel.goals import FutureGoal
    from hindsight_rl.relabel.inverse_trajectory import InverseRL
    from hindsight_rl.tasks.family import GoalReaching

    if name == "rooms":
        return wandering(), [InverseRL(GoalReaching(1.0, kind="dense"), candidates=64)]
    if name == "rooms, future":
        return wandering(), [FutureGoal(GoalReaching(1.0))]
    return read_log(MEDIUM, "rllib_pendulum_sac"), []


def work(case: Case, seed: int) -> common.Found:
    """Return what a seed of a policy gave: return on the pendulum, success in four rooms."""
    log, relabel = log_of(case.log)
    learner = common.fitted(case, log, seed, relabel=relabel)
    rooms = case.log.startswith("rooms")
    env = ROOMS if rooms else "Pendulum-v1"
    found, facts = common.played(learner, env, ROOMS_EPISODES if rooms else PENDULUM_EPISODES)
    score = found.successes if rooms else found.returns
    return {case.name: {"score": float(score.mean())} | facts}


if __name__ == "__main__":
    common.report("cross", common.over_seeds("cross", work, cases()), "Cross")
