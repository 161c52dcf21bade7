"""Learners' soft values for relabelers that judge transitions, and chunks to judge.

Imported as ``soft_logs`` (``tests`` is on pytest's path).
"""

from typing import Any

import torch
from episode_logs import drawn, episode_log
from small_fits import learner_of
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.relabel.relabeler import Relabeler

NEXT_ACHIEVED = ("next", "achieved_goal")
CORNERS = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]


def near(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return values that fall with the distance between where a step led and the task."""
    gap = torch.linalg.vector_norm(batch["next", "observation"][..., :2] - task, dim=-1)
    log_prob = -0.1 * (batch["action"][..., 0] - task[..., 0]).square()
    return SoftValues(log_prob, -3.0 * gap, torch.tensor(0.5), 0.99)


def sac_for(discrete: bool = False) -> SAC:
    """Return a small SAC for an :func:`episode_log` with a task."""
    log = episode_log(task=True, goals=True, discrete=discrete)
    learner = learner_of(SAC, OfflineDataModule(log).spec)
    assert isinstance(learner, SAC)
    return learner


def chunk_for(
    relabeler: Relabeler, values: Any = near, discrete: bool = False, **options: int
) -> tuple[TensorDict, Any]:
    """Return a chunk, not yet relabeled, and the bound relabeler with a learner's values."""
    chunk, chain = drawn(
        episode_log(task=True, goals=True, discrete=discrete), relabeler, **options
    )
    bound = chain.relabelers[0]
    bound.use(values)
    return chunk, bound
