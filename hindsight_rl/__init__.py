"""Hindsight: from a log of mixed quality to a policy in one ONNX file.

The public names, found when they are first used: importing this package costs nothing and needs
neither PyTorch nor Lightning, so ``from hindsight_rl import OnnxPolicy`` works on a robot.

    from lightning import Trainer

    from hindsight_rl import IQL, OfflineDataModule

    data = OfflineDataModule("log.npz")
    Trainer(max_steps=10_000, max_epochs=-1).fit(IQL(data.spec), data)
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # read by editors and mypy; a test compares it with the table below
    from hindsight_rl.agents.act import ACT as ACT
    from hindsight_rl.agents.awac import AWAC as AWAC
    from hindsight_rl.agents.awr import AWR as AWR
    from hindsight_rl.agents.bc import BC as BC
    from hindsight_rl.agents.bcq import BCQ as BCQ
    from hindsight_rl.agents.bootstrapped_dqn import BootstrappedDQN as BootstrappedDQN
    from hindsight_rl.agents.c_learning import CLearning as CLearning
    from hindsight_rl.agents.cpl import CPL as CPL
    from hindsight_rl.agents.cql import CQL as CQL
    from hindsight_rl.agents.crr import CRR as CRR
    from hindsight_rl.agents.ddpg import DDPG as DDPG
    from hindsight_rl.agents.decision_transformer import (
        DecisionTransformer as DecisionTransformer,
    )
    from hindsight_rl.agents.diffusion_bc import DiffusionBC as DiffusionBC
    from hindsight_rl.agents.discrete_bcq import DiscreteBCQ as DiscreteBCQ
    from hindsight_rl.agents.discrete_cql import DiscreteCQL as DiscreteCQL
    from hindsight_rl.agents.dpo import DPO as DPO
    from hindsight_rl.agents.dqn import DQN as DQN
    from hindsight_rl.agents.dynamics import Dynamics as Dynamics
    from hindsight_rl.agents.flow_bc import FlowBC as FlowBC
    from hindsight_rl.agents.fqe import FQE as FQE
    from hindsight_rl.agents.fql import FQL as FQL
    from hindsight_rl.agents.idql import IDQL as IDQL
    from hindsight_rl.agents.ipl import IPL as IPL
    from hindsight_rl.agents.iql import IQL as IQL
    from hindsight_rl.agents.latent_bc import LatentBC as LatentBC
    from hindsight_rl.agents.lspi import LSPI as LSPI
    from hindsight_rl.agents.maml_bc import MAMLBC as MAMLBC
    from hindsight_rl.agents.marwil import MARWIL as MARWIL
    from hindsight_rl.agents.mpo import MPO as MPO
    from hindsight_rl.agents.one_step_flow import OneStepFlow as OneStepFlow
    from hindsight_rl.agents.pearl import PEARL as PEARL
    from hindsight_rl.agents.ppo import PPO as PPO
    from hindsight_rl.agents.q_learning import QLearning as QLearning
    from hindsight_rl.agents.recurrent_bc import RecurrentBC as RecurrentBC
    from hindsight_rl.agents.recurrent_dynamics import RecurrentDynamics as RecurrentDynamics
    from hindsight_rl.agents.recurrent_ppo import RecurrentPPO as RecurrentPPO
    from hindsight_rl.agents.reward_model import RewardModel as RewardModel
    from hindsight_rl.agents.sac import SAC as SAC
    from hindsight_rl.agents.signed_bc import SignedBC as SignedBC
    from hindsight_rl.agents.sil import SIL as SIL
    from hindsight_rl.agents.successor_features import SuccessorFeatures as SuccessorFeatures
    from hindsight_rl.agents.td3 import TD3 as TD3
    from hindsight_rl.agents.td3_bc import TD3BC as TD3BC
    from hindsight_rl.agents.trajectory_transformer import (
        TrajectoryTransformer as TrajectoryTransformer,
    )
    from hindsight_rl.agents.trpo import TRPO as TRPO
    from hindsight_rl.datamodules.collection import Collection as Collection
    from hindsight_rl.datamodules.expert import Beta as Beta
    from hindsight_rl.datamodules.expert import Expert as Expert
    from hindsight_rl.datamodules.imagined_rows import Growing as Growing
    from hindsight_rl.datamodules.imagined_rows import ImaginedRows as ImaginedRows
    from hindsight_rl.datamodules.imagined_rows import Refit as Refit
    from hindsight_rl.datamodules.imagined_rows import Unknown as Unknown
    from hindsight_rl.datamodules.iterated import IteratedDataModule as IteratedDataModule
    from hindsight_rl.datamodules.offline import OfflineDataModule as OfflineDataModule
    from hindsight_rl.datamodules.preferences import (
        PreferenceDataModule as PreferenceDataModule,
    )
    from hindsight_rl.datamodules.priorities import Priorities as Priorities
    from hindsight_rl.diagnostics.bound import Bound as Bound
    from hindsight_rl.diagnostics.evaluation import Evaluation as Evaluation
    from hindsight_rl.diagnostics.ope.choosing import ChooseByLog as ChooseByLog
    from hindsight_rl.diagnostics.ope.fitting import Fitting as Fitting
    from hindsight_rl.diagnostics.ope.judge import judge as judge
    from hindsight_rl.diagnostics.ope.question import Question as Question
    from hindsight_rl.diagnostics.watch import Watch as Watch
    from hindsight_rl.envs.rollout import Rollout as Rollout
    from hindsight_rl.envs.rollout import rollout as rollout
    from hindsight_rl.export.loop import ControlLoop as ControlLoop
    from hindsight_rl.export.onnx import export_policy as export_policy
    from hindsight_rl.export.realtime import RealTime as RealTime
    from hindsight_rl.export.recorder import Recorder as Recorder
    from hindsight_rl.export.runtime import OnnxPolicy as OnnxPolicy
    from hindsight_rl.export.sensors import Sensed as Sensed
    from hindsight_rl.export.sensors import Sensors as Sensors
    from hindsight_rl.logs.errors import LogError as LogError
    from hindsight_rl.logs.log import Log as Log
    from hindsight_rl.logs.reading import read_log as read_log
    from hindsight_rl.logs.reading import read_logs as read_logs
    from hindsight_rl.logs.reading.column_map import ColumnMap as ColumnMap
    from hindsight_rl.maths.feature_matching import match_features as match_features
    from hindsight_rl.nets.discriminator import Discriminator as Discriminator
    from hindsight_rl.nets.network import Head as Head
    from hindsight_rl.nets.network import LatentNetwork as LatentNetwork
    from hindsight_rl.nets.network import Network as Network
    from hindsight_rl.nets.network import NoiseNetwork as NoiseNetwork
    from hindsight_rl.nets.network import TanhNetwork as TanhNetwork
    from hindsight_rl.planners.beam import Beam as Beam
    from hindsight_rl.planners.cem import CEM as CEM
    from hindsight_rl.planners.ilqr import ILQR as ILQR
    from hindsight_rl.planners.known import known_model as known_model
    from hindsight_rl.planners.mppi import MPPI as MPPI
    from hindsight_rl.planners.planner import Planner as Planner
    from hindsight_rl.planners.shooting import Shooting as Shooting
    from hindsight_rl.planners.uct import UCT as UCT
    from hindsight_rl.relabel.advantage import LinearAdvantage as LinearAdvantage
    from hindsight_rl.relabel.ascent import AscendTask as AscendTask
    from hindsight_rl.relabel.bonus import RowBonus as RowBonus
    from hindsight_rl.relabel.chain import Compose as Compose
    from hindsight_rl.relabel.column_weight import ColumnWeight as ColumnWeight
    from hindsight_rl.relabel.count_bonus import CountBonus as CountBonus
    from hindsight_rl.relabel.diayn import DIAYN as DIAYN
    from hindsight_rl.relabel.disagreement import DisagreementBonus as DisagreementBonus
    from hindsight_rl.relabel.discriminator import DiscriminatorReward as DiscriminatorReward
    from hindsight_rl.relabel.dynamics_gap import DynamicsGap as DynamicsGap
    from hindsight_rl.relabel.expert_action import ExpertAction as ExpertAction
    from hindsight_rl.relabel.expert_labels import ExpertLabels as ExpertLabels
    from hindsight_rl.relabel.filters import TopFraction as TopFraction
    from hindsight_rl.relabel.goals import EpisodeGoal as EpisodeGoal
    from hindsight_rl.relabel.goals import FinalGoal as FinalGoal
    from hindsight_rl.relabel.goals import FutureGoal as FutureGoal
    from hindsight_rl.relabel.inverse_trajectory import InverseRL as InverseRL
    from hindsight_rl.relabel.inverse_transition import (
        TransitionInverseRL as TransitionInverseRL,
    )
    from hindsight_rl.relabel.labels import ColumnLabel as ColumnLabel
    from hindsight_rl.relabel.labels import EpisodeLabel as EpisodeLabel
    from hindsight_rl.relabel.labels import ReturnLabel as ReturnLabel
    from hindsight_rl.relabel.learned import LearnedStep as LearnedStep
    from hindsight_rl.relabel.learned_bonus import RND as RND
    from hindsight_rl.relabel.learned_bonus import LearnedBonus as LearnedBonus
    from hindsight_rl.relabel.learned_features import LearnedFeatures as LearnedFeatures
    from hindsight_rl.relabel.learned_posterior import LearnedPosterior as LearnedPosterior
    from hindsight_rl.relabel.learned_reward import LearnedReward as LearnedReward
    from hindsight_rl.relabel.learned_task import LearnedTask as LearnedTask
    from hindsight_rl.relabel.marginal_matching import (
        StateMarginalMatching as StateMarginalMatching,
    )
    from hindsight_rl.relabel.once import Once as Once
    from hindsight_rl.relabel.quality import Quality as Quality
    from hindsight_rl.relabel.random_task import RandomTask as RandomTask
    from hindsight_rl.relabel.relabeler import Relabeler as Relabeler
    from hindsight_rl.relabel.return_task import ReturnTask as ReturnTask
    from hindsight_rl.relabel.returns import NStep as NStep
    from hindsight_rl.relabel.returns import ReturnToGo as ReturnToGo
    from hindsight_rl.relabel.returns import ReturnWeight as ReturnWeight
    from hindsight_rl.relabel.returns import ScaleReward as ScaleReward
    from hindsight_rl.relabel.sides import TwoSides as TwoSides
    from hindsight_rl.relabel.skewed_goal import SkewedGoal as SkewedGoal
    from hindsight_rl.relabel.tabular_reward import tabular_reward as tabular_reward
    from hindsight_rl.tasks.commands import BestAdvantage as BestAdvantage
    from hindsight_rl.tasks.commands import BestReturn as BestReturn
    from hindsight_rl.tasks.commands import OneOf as OneOf
    from hindsight_rl.tasks.commands import RareGoal as RareGoal
    from hindsight_rl.tasks.commands import RecentReturn as RecentReturn
    from hindsight_rl.tasks.environment import EnvGoals as EnvGoals
    from hindsight_rl.tasks.family import DiscreteTasks as DiscreteTasks
    from hindsight_rl.tasks.family import GoalReaching as GoalReaching
    from hindsight_rl.tasks.family import TaskFamily as TaskFamily
    from hindsight_rl.tasks.linear import LinearTasks as LinearTasks
    from hindsight_rl.tasks.returns import ReturnTasks as ReturnTasks
    from hindsight_rl.tasks.skewed import Skew as Skew
    from hindsight_rl.training.checkpoints.load import load_learner as load_learner
    from hindsight_rl.training.learner import Learner as Learner
    from hindsight_rl.training.learner import LossTerms as LossTerms
    from hindsight_rl.training.learner import Transition as Transition

# A wheel has the rooms inside this folder, a checkout beside it.
if not Path(__file__).with_name("maths").is_dir():
    __path__.append(str(Path(__file__).resolve().parents[1]))

# Public name: the module it comes from, below this package.
_HOME = {
    "ACT": "agents.act",
    "AWAC": "agents.awac",
    "AWR": "agents.awr",
    "AscendTask": "relabel.ascent",
    "BC": "agents.bc",
    "BCQ": "agents.bcq",
    "Beta": "datamodules.expert",
    "Beam": "planners.beam",
    "BestAdvantage": "tasks.commands",
    "BestReturn": "tasks.commands",
    "BootstrappedDQN": "agents.bootstrapped_dqn",
    "Bound": "diagnostics.bound",
    "ControlLoop": "export.loop",
    "CLearning": "agents.c_learning",
    "CountBonus": "relabel.count_bonus",
    "CPL": "agents.cpl",
    "CQL": "agents.cql",
    "CRR": "agents.crr",
    "CEM": "planners.cem",
    "ChooseByLog": "diagnostics.ope.choosing",
    "ColumnLabel": "relabel.labels",
    "ColumnMap": "logs.reading.column_map",
    "Collection": "datamodules.collection",
    "ColumnWeight": "relabel.column_weight",
    "Compose": "relabel.chain",
    "DDPG": "agents.ddpg",
    "DIAYN": "relabel.diayn",
    "DisagreementBonus": "relabel.disagreement",
    "DPO": "agents.dpo",
    "DQN": "agents.dqn",
    "DecisionTransformer": "agents.decision_transformer",
    "DiffusionBC": "agents.diffusion_bc",
    "DiscreteBCQ": "agents.discrete_bcq",
    "DiscreteCQL": "agents.discrete_cql",
    "DiscreteTasks": "tasks.family",
    "Discriminator": "nets.discriminator",
    "DiscriminatorReward": "relabel.discriminator",
    "Dynamics": "agents.dynamics",
    "DynamicsGap": "relabel.dynamics_gap",
    "EnvGoals": "tasks.environment",
    "EpisodeGoal": "relabel.goals",
    "EpisodeLabel": "relabel.labels",
    "Evaluation": "diagnostics.evaluation",
    "Expert": "datamodules.expert",
    "ExpertAction": "relabel.expert_action",
    "ExpertLabels": "relabel.expert_labels",
    "FQE": "agents.fqe",
    "FQL": "agents.fql",
    "FinalGoal": "relabel.goals",
    "Fitting": "diagnostics.ope.fitting",
    "FlowBC": "agents.flow_bc",
    "FutureGoal": "relabel.goals",
    "GoalReaching": "tasks.family",
    "Growing": "datamodules.imagined_rows",
    "Head": "nets.network",
    "IDQL": "agents.idql",
    "ILQR": "planners.ilqr",
    "IPL": "agents.ipl",
    "IQL": "agents.iql",
    "ImaginedRows": "datamodules.imagined_rows",
    "InverseRL": "relabel.inverse_trajectory",
    "IteratedDataModule": "datamodules.iterated",
    "LearnedBonus": "relabel.learned_bonus",
    "LearnedPosterior": "relabel.learned_posterior",
    "LSPI": "agents.lspi",
    "LatentBC": "agents.latent_bc",
    "LatentNetwork": "nets.network",
    "LearnedFeatures": "relabel.learned_features",
    "LearnedReward": "relabel.learned_reward",
    "LearnedStep": "relabel.learned",
    "LearnedTask": "relabel.learned_task",
    "Learner": "training.learner",
    "LinearAdvantage": "relabel.advantage",
    "LinearTasks": "tasks.linear",
    "Log": "logs.log",
    "LogError": "logs.errors",
    "LossTerms": "training.learner",
    "MAMLBC": "agents.maml_bc",
    "MARWIL": "agents.marwil",
    "MPO": "agents.mpo",
    "MPPI": "planners.mppi",
    "NStep": "relabel.returns",
    "Network": "nets.network",
    "NoiseNetwork": "nets.network",
    "OfflineDataModule": "datamodules.offline",
    "Once": "relabel.once",
    "OneOf": "tasks.commands",
    "OneStepFlow": "agents.one_step_flow",
    "OnnxPolicy": "export.runtime",
    "PPO": "agents.ppo",
    "PEARL": "agents.pearl",
    "Planner": "planners.planner",
    "PreferenceDataModule": "datamodules.preferences",
    "Priorities": "datamodules.priorities",
    "QLearning": "agents.q_learning",
    "Quality": "relabel.quality",
    "Question": "diagnostics.ope.question",
    "RandomTask": "relabel.random_task",
    "RareGoal": "tasks.commands",
    "RealTime": "export.realtime",
    "RecentReturn": "tasks.commands",
    "Recorder": "export.recorder",
    "RecurrentBC": "agents.recurrent_bc",
    "RecurrentDynamics": "agents.recurrent_dynamics",
    "RecurrentPPO": "agents.recurrent_ppo",
    "Refit": "datamodules.imagined_rows",
    "Relabeler": "relabel.relabeler",
    "ReturnLabel": "relabel.labels",
    "ReturnTask": "relabel.return_task",
    "ReturnTasks": "tasks.returns",
    "ReturnToGo": "relabel.returns",
    "ReturnWeight": "relabel.returns",
    "RewardModel": "agents.reward_model",
    "RND": "relabel.learned_bonus",
    "Rollout": "envs.rollout",
    "RowBonus": "relabel.bonus",
    "SAC": "agents.sac",
    "Sensed": "export.sensors",
    "Sensors": "export.sensors",
    "SIL": "agents.sil",
    "Shooting": "planners.shooting",
    "ScaleReward": "relabel.returns",
    "SignedBC": "agents.signed_bc",
    "Skew": "tasks.skewed",
    "SkewedGoal": "relabel.skewed_goal",
    "StateMarginalMatching": "relabel.marginal_matching",
    "SuccessorFeatures": "agents.successor_features",
    "TD3": "agents.td3",
    "TD3BC": "agents.td3_bc",
    "TRPO": "agents.trpo",
    "TrajectoryTransformer": "agents.trajectory_transformer",
    "TanhNetwork": "nets.network",
    "TaskFamily": "tasks.family",
    "TopFraction": "relabel.filters",
    "Transition": "training.learner",
    "TransitionInverseRL": "relabel.inverse_transition",
    "TwoSides": "relabel.sides",
    "UCT": "planners.uct",
    "Unknown": "datamodules.imagined_rows",
    "Watch": "diagnostics.watch",
    "export_policy": "export.onnx",
    "judge": "diagnostics.ope.judge",
    "known_model": "planners.known",
    "load_learner": "training.checkpoints.load",
    "match_features": "maths.feature_matching",
    "read_log": "logs.reading",
    "read_logs": "logs.reading",
    "rollout": "envs.rollout",
    "tabular_reward": "relabel.tabular_reward",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Return a public name, imported now."""
    if name == "__version__":
        from importlib.metadata import version

        return version("hindsight-rl")
    if name not in _HOME:
        raise AttributeError(f"module 'hindsight_rl' has no attribute '{name}'")
    found = getattr(import_module(f"hindsight_rl.{_HOME[name]}"), name)
    globals()[name] = found  # asked for once
    return found


def __dir__() -> list[str]:
    """Return the public names: what completes in a notebook."""
    return sorted({*globals(), *__all__})
