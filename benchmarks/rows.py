"""The rows of docs/results.md: a log, a data step, a policy step, and their settings.

Every method on every log that it applies to, with the same network, batch and rate; what a method
has of its own was chosen with ``results.py --choose``.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from hindsight_rl.nets.network import Head, LatentNetwork, Network

Relabel = tuple[tuple[str, dict[str, Any]], ...]
SMALL = Network(hidden=(64, 64))
NETWORK: dict[str, Any] = {"network": SMALL, "lr": 1e-3}


@dataclass(frozen=True)
class Log:
    """A log and the environment its policies are tried in.

    Attributes:
        name: What the table calls it.
        file: Below the folder of logs, or below build/logs for those of ``make logs``.
        actions: Their kind.
        updates: Updates of each fit.
        env: Gymnasium id, ``None`` where there is nothing to act in.
        columns: Name of the column map, ``None`` for Minari.
        compare: For people: what the log's own policy earns, and others' numbers.
        env_kwargs: Arguments of the environment.
        ours: Whether ``make logs`` writes it.
        positive: Whether all its rewards are at least 0.
        success: Whether episodes succeed or fail, and the share of success is the score.
        relabel: What is done to the log before any method's own data step.
    """

    name: str
    file: str
    actions: str
    updates: int
    env: str | None
    columns: str | None = None
    compare: str = ""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    ours: bool = False
    success: bool = False
    positive: bool = False
    relabel: Relabel = ()


@dataclass(frozen=True)
class Method:
    """A data step and a policy step.

    Attributes:
        name: What the table calls it.
        learner: ``module.Class`` below ``agents``.
        relabel: ``module.Class`` below ``relabel``, with arguments.
        model: Arguments of the learner; ``lr`` is the optimiser's.
        actions: Kinds of actions it chooses.
        positive: Whether it needs rewards of at least 0.
        updates: Updates of each fit where they are fewer than the log's, because it is slow.
    """

    name: str
    learner: str
    relabel: Relabel = ()
    model: dict[str, Any] = field(default_factory=dict)
    actions: tuple[str, ...] = ("continuous", "discrete")
    positive: bool = False
    updates: int | None = None

    @property
    def page(self) -> str:
        """Name of the page in docs/learners that its numbers belong to."""
        return self.learner.partition(".")[0]


@dataclass(frozen=True)
class Row:
    """One line of the table, and what it must reach.

    Attributes:
        log: The log.
        method: The method.
        data: Arguments of the datamodule.
        must: A score, ``"above BC"``, ``"below repeat"``, or nothing.
        standardised: Whether networks standardise observations with the log's statistics, as usual.
    """

    log: Log
    method: Method
    data: dict[str, Any] = field(default_factory=dict)
    must: str = ""
    standardised: bool = True

    @property
    def name(self) -> str:
        """The row in one line."""
        return f"{self.log.name}: {self.method.name}"

    @property
    def relabel(self) -> Relabel:
        """The whole data step."""
        return self.log.relabel + self.method.relabel


CARTPOLE = Log(
    "rllib_cartpole", "rllib_cartpole/cartpole-v1_large.parquet", "discrete", 4000, "CartPole-v1",
    "rllib_cartpole", "behaviour 197 (cut at 200); pass marks BC 350, MARWIL 250", positive=True,
)  # fmt: skip
MEDIUM = Log(
    "rllib_pendulum medium", "rllib_pendulum/pendulum_medium_sac_50eps.npz", "continuous", 8000,
    "Pendulum-v1", "rllib_pendulum_sac", "behaviour -524",
)  # fmt: skip
REPLAY = Log(
    "rllib_pendulum replay", "rllib_pendulum/pendulum_replay_v1.1.0.npz", "continuous", 8000,
    "Pendulum-v1", "rllib_pendulum_replay", "behaviour -181",
)  # fmt: skip
EXPERT_CARTPOLE = Log(
    "imitation_expert CartPole", "imitation_expert/cartpole_expert.npz", "discrete", 4000,
    "CartPole-v1", "imitation_expert_cartpole", "behaviour 473", positive=True,
)  # fmt: skip
EXPERT_PENDULUM = Log(
    "imitation_expert Pendulum", "imitation_expert/pendulum_expert.npz", "continuous", 4000,
    "Pendulum-v1", "imitation_expert_pendulum", "behaviour -189",
)  # fmt: skip
MAZE = Log(
    "PointMaze U", "pointmaze/umaze-v0", "continuous", 5000,
    "gymnasium_robotics:PointMaze_UMaze-v3", compare="behaviour reaches 0.86 of its goals",
    env_kwargs={"continuing_task": False}, ours=True, success=True, positive=True,
)  # fmt: skip
# IQL's rule for locomotion: a temperature then means the same on every log.
SCALED = (("returns.ScaleReward", {"return_range": 1000.0}),)
CHEETAH = Log(
    "HalfCheetah replay", "halfcheetah/replay-v0", "continuous", 10000, "HalfCheetah-v5",
    compare="behaviour 4975; the SAC that made it ended at 6504", ours=True, relabel=SCALED,
)  # fmt: skip
HOPPER = Log(
    "Hopper replay", "hopper/replay-v0", "continuous", 10000, "Hopper-v5",
    compare="behaviour 600; the SAC that made it ended at 1145", ours=True, relabel=SCALED,
)  # fmt: skip
DOOR = Log(
    "adroit_door_human", "adroit_door_human/door_human.npz", "continuous", 10000,
    "gymnasium_robotics:AdroitHandDoor-v1", "adroit_door_human",
    "published BC 2.3 last, 9.4 best (D4RL score)",
)  # fmt: skip
HUMANOID = Log(
    "unitree_g1_pick_bottle", "unitree_g1_pick_bottle", "continuous", 600, None, "unitree_g1",
    "repeat the current position",
)  # fmt: skip

CONTINUOUS, DISCRETE = ("continuous",), ("discrete",)


def _top(share: float) -> Relabel:
    return (("filters.TopFraction", {"fraction": share}),)


# For policies that a critic improves: they go to the bounds, where a Gaussian would be cut.
SQUASHED = {"head": "tanh_gaussian"}
# The critics of SAC in the place of one that is copied, and the cloned policy acts.
SOFT = SQUASHED | {"critics": 2, "tau": 0.005, "target_every": 1, "candidates": 0}
# The paper's 2.5 stays near a log whose own policy is poor; locomotion has the paper's.
GREEDIER = {"value_weight": 10.0}
LOCOMOTION: dict[str, dict[str, Any]] = {"TD3+BC": {}}
# In policy units; the paper's 0.05 keeps to what the log's own policy would do.
FARTHER = {"max_perturbation": 0.3}
MODEL = LatentNetwork(hidden=(64, 64))
# The paper's limits and copied targets are made for millions of updates.
LOOSE = {
    "tau": 0.01, "target_every": 1, "critics": 2, "samples": 8, "initial_temperature": 1.0,
    "initial_penalty": (1.0, 1.0), "mean_limit": 1e-2, "spread_limit": 1e-2,
}  # fmt: skip
RETURN_TO_GO = (("returns.ReturnToGo", {"discount": 0.99}),)

METHODS = (
    Method("BC", "bc.BC"),
    Method("top 50 % + BC", "bc.BC", _top(0.5)),
    Method("top 10 % + BC", "bc.BC", _top(0.1)),
    Method("EMRL", "bc.BC", (("returns.ReturnWeight", {"rule": "linear"}),), positive=True),
    Method("RWR", "bc.BC", (("returns.ReturnWeight", {}),)),
    Method("signed labels", "signed_bc.SignedBC", (("labels.EpisodeLabel", {}),)),
    Method("SIL", "sil.SIL", RETURN_TO_GO),
    Method("MARWIL", "marwil.MARWIL", model={"lambda_": 0.95, "norm": "batch_std"}),
    Method("AWR", "awr.AWR"),
    Method("AWAC", "awac.AWAC", model=SQUASHED),
    Method("CRR", "crr.CRR", model=SOFT),
    Method("IQL", "iql.IQL", model=SQUASHED),
    Method("MPO", "mpo.MPO", model=LOOSE),
    Method("SAC", "sac.SAC"),
    Method("DDPG", "ddpg.DDPG", actions=CONTINUOUS),
    Method("TD3", "td3.TD3", actions=CONTINUOUS),
    Method("TD3+BC", "td3_bc.TD3BC", model=GREEDIER, actions=CONTINUOUS),
    Method("BCQ", "bcq.BCQ", model=FARTHER | {"behavior": MODEL}, actions=CONTINUOUS),
    Method("CQL", "cql.CQL", actions=CONTINUOUS, updates=2000),
    Method("DQN", "dqn.DQN", actions=DISCRETE),
    Method("double DQN", "dqn.DQN", model={"double": True}, actions=DISCRETE),
    Method("BCQ", "discrete_bcq.DiscreteBCQ", model={"threshold": 0.7}, actions=DISCRETE),
    Method("CQL", "discrete_cql.DiscreteCQL", actions=DISCRETE),
)

# Ten critics, whose updates take several times as long. REDQ has no delay here: that one is for
# updates between steps of an environment.
REDQ = Method("REDQ", "sac.SAC", model={"critics": 10, "subset": 2}, updates=4000)
EDAC = Method("EDAC", "sac.SAC", model={"critics": 10, "diversity": 1.0}, updates=4000)

# The six best on the pendulum logs, for the logs that take longest.
BEST = ("AWR", "AWAC", "CRR", "IQL", "TD3", "TD3+BC")

# What a method must reach on a log: the marks of RLlib's tuned examples, d3rlpy's scores, the log's
# own policy.
MUST = {
    ("rllib_cartpole", "BC"): "450",
    ("rllib_cartpole", "MARWIL"): "400",
    ("rllib_pendulum medium", "AWR"): "above BC",
    ("rllib_pendulum medium", "MARWIL"): "above BC",
    ("rllib_pendulum medium", "IQL"): "-220",
    ("imitation_expert CartPole", "BC"): "480",
    ("imitation_expert Pendulum", "BC"): "-200",
}


def rows() -> list[Row]:
    """Return every method on every log it applies to, then two logs for cloning alone."""
    found = []
    for log in (CARTPOLE, MEDIUM, REPLAY, EXPERT_CARTPOLE, EXPERT_PENDULUM, MAZE):
        for method in METHODS:
            if log.actions not in method.actions or (method.positive and not log.positive):
                continue
            found.append(Row(log, method, must=MUST.get((log.name, method.name), "")))
        if log in (MEDIUM, REPLAY):
            found += [Row(log, REDQ), Row(log, EDAC)]
    for log in (CHEETAH, HOPPER):
        found += [
            Row(log, replace(method, model=LOCOMOTION.get(method.name, method.model)))
            for method in METHODS
            if method.name in BEST and log.actions in method.actions
        ]
    door = Method("BC", "bc.BC", model={"network": Network(), "lr": 3e-4})
    humanoid = Method(
        "BC", "bc.BC", model={
            "network": Network(), "lr": 1e-4, "head": Head("laplace", relative_to=tuple(range(26))),
        },
    )  # fmt: skip
    found.append(Row(DOOR, door))
    return [*found, Row(HUMANOID, humanoid, data={"validation": 0.2}, must="below repeat")]
