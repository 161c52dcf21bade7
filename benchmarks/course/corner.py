"""Four rooms from one corner, by steps in eight directions, and what collects logs of them."""

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning.pytorch import seed_everything
from shared import silent_trainer

from hindsight_rl import (
    DIAYN,
    DQN,
    RND,
    BootstrappedDQN,
    Collection,
    CountBonus,
    DisagreementBonus,
    FutureGoal,
    GoalReaching,
    IteratedDataModule,
    Log,
    Network,
    OneOf,
    RareGoal,
    Skew,
    SkewedGoal,
    StateMarginalMatching,
)
from hindsight_rl.envs.four_rooms import SIDE, WALLS, FourRooms, draw_position
from hindsight_rl.envs.paths import shortest_path
from hindsight_rl.keys import NEXT_OBSERVATION

EPISODES, STEPS, FIRST, ROUND, SHARE = 120, 75, 10, 5, 0.2
START = np.array([1.5, 1.5], np.float32)
NETWORK = Network(hidden=(64, 64), frequencies=3)
FAMILY, SKEW = GoalReaching(1.0), Skew(alpha=-1.0)
ALONE: dict[str, Any] = {"coefficient": 1.0, "keep": 0.0}  # the environment's reward is no help
SKILLS = HEADS = 8
METHODS = (
    "random actions",
    "counts",
    "RND",
    "disagreement",
    "marginal matching",
    "heads",
    "Skew-Fit",
    "DIAYN",
)
MOVES = np.array([(math.cos(a), math.sin(a)) for a in np.arange(8) * math.pi / 4], dtype=np.float32)
# Lowest and highest place (i, j) of goals: the room of the corner, the two beside it, the last.
ROOMS = {
    "near": [((0, 0), (15, 15))],
    "middle": [((0, 18), (18, 33)), ((18, 0), (33, 15))],
    "far": [((21, 18), (33, 33))],
}
APART = 5.0  # of a goal from the corner


def within(place: Any, room: str) -> Any:
    """Return which places ``[..., 2]`` lie in a room, ``[...]`` bool."""
    inside = [((place >= low) & (place < high)).all(-1) for low, high in map(np.array, ROOMS[room])]
    return np.any(inside, axis=0)


class Corner(FourRooms):
    """Four rooms whose episodes begin in one corner.

    Args:
        room: Where goals are; ``""``: nowhere near, and reaching one ends nothing.
    """

    def __init__(self, room: str = "") -> None:
        super().__init__(noise=0.5, ends=bool(room))
        self.room = room

    def draw(self, generator: Any, start: Any, task: Any) -> tuple[Any, Any]:
        """Return the corner, and a goal of the room unless it is given."""
        while self.room and task is None:
            place = draw_position(generator)
            if within(place, self.room) and np.linalg.norm(place - START) >= APART:
                task = place
        return super().draw(generator, START, task)


class Directions(gymnasium.ActionWrapper[Any, Any, Any]):
    """Four rooms by steps in eight directions.

    Args:
        room: See :class:`Corner`.
    """

    def __init__(self, room: str = "") -> None:
        super().__init__(gymnasium.wrappers.TimeLimit(Corner(room), STEPS))
        self.action_space = gymnasium.spaces.Discrete(len(MOVES))

    def action(self, action: Any) -> Any:
        """Return the velocity."""
        return MOVES[int(action)]


class Places(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The same without goals and rewards: the place alone."""

    def __init__(self) -> None:
        super().__init__(gymnasium.wrappers.TransformReward(Directions(), lambda reward: 0.0))
        self.observation_space = self.env.observation_space["observation"]

    def observation(self, observation: Any) -> Any:
        """Return the place."""
        return observation["observation"]


def shortest(observation: Any, goal: Any) -> Any:
    """Return the direction ``[n]`` nearest to that of a shortest path."""
    return (shortest_path(observation, goal) @ MOVES.T).argmax(-1)


def cells_of(log: Log) -> torch.Tensor:
    """Return the number of each row's cell, 1 x 1, ``[N]``."""
    place = log.column(NEXT_OBSERVATION).floor().long().clamp(0, SIDE - 1)
    return place[:, 0] * SIDE + place[:, 1]


FREE = int((~WALLS).sum())


def steps_of(method: str) -> list[Any]:
    """Return the data step of a method."""
    return {
        "random actions": [],
        "counts": [CountBonus(by="cell", width=1.0, **ALONE)],
        "RND": [RND(hidden=(64, 64), learning_rate=1e-3, **ALONE)],
        "disagreement": [DisagreementBonus(hidden=(32, 32), members=4, **ALONE)],
        "marginal matching": [StateMarginalMatching(bandwidth=1.0, centres=512, **ALONE)],
        "heads": [],
        "Skew-Fit": [SkewedGoal(FAMILY, 0.7, SKEW), FutureGoal(FAMILY, 0.4)],
        "DIAYN": [DIAYN(hidden=(64, 64), learning_rate=1e-3)],
    }[method]


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all policies."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def learner_of(method: str, spec: Any) -> Any:
    """Return the policy step of a method: all are Q-learning, drawn from a soft-max."""
    plain: dict[str, Any] = {"network": NETWORK, "optimizer": adam, "compile": "off", "threads": 1}
    plain |= {"discount": 0.95, "target_every": 50, "matmul_precision": "highest"}
    if method == "heads":
        return BootstrappedDQN(spec, heads=HEADS, prior=3.0, **plain)
    return DQN(spec, double=True, temperature=0.1, **plain)


def collected(method: str, seed: int) -> tuple[Log, float]:
    """Return the log of a method, and of DIAYN the share of its bound; else 0."""
    seed_everything(seed, verbose=False)
    commands = {"heads": OneOf(HEADS), "DIAYN": OneOf(SKILLS), "Skew-Fit": RareGoal(SKEW)}
    plan = Collection(
        initial_episodes=EPISODES if method == "random actions" else FIRST,
        episodes_per_round=ROUND,
        updates_per_env_step=SHARE,
        sample=method != "heads",
        command=commands.get(method),
    )
    data = IteratedDataModule(
        Directions if method == "Skew-Fit" else Places,
        steps_of(method),
        collection=plan,
        batch_size=128,
        updates_per_step=32,
        seed=seed,
    )
    if method == "random actions":
        return data.log, 0.0
    # The last round is collected when its updates would begin.
    updates = round((EPISODES - ROUND) * STEPS * SHARE) + 1
    learner = learner_of(method, data.spec)
    silent_trainer(updates).fit(learner, data)
    bound = data.relabel.metrics.get("skill_bound", torch.zeros(()))
    return data.log, float(bound)
