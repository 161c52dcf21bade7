"""One state, a few discrete actions, every episode one step: what weighted cloning ends at.

Imported as ``small_bandits`` (``tests`` is on pytest's path).
"""

from collections.abc import Sequence
from typing import Any

import torch
from episode_logs import episode_log
from small_fits import learner_of, whole_log

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner


def fitted_bandit(
    kind: type[Learner],
    counts: Sequence[int],
    reward: Sequence[float],
    *,
    steps: int = 200,
    **arguments: Any,
) -> Learner:
    """Return a learner of linear networks at its fixed point, targets equal to what they follow.

    Args:
        kind: The learner.
        counts: How often each action was logged.
        reward: What each action brings.
        steps: Updates, with the whole log each, at a rate that falls from 0.1 to 0.
        **arguments: Of the learner.

    Returns:
        The learner; its observation is zeros ``[3]``.
    """
    action = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    rows = len(action)
    log = episode_log([1] * rows, reward=[reward[a] for a in action], discrete=True).with_columns(
        {
            "observation": torch.zeros(rows, 3),
            ("next", "observation"): torch.zeros(rows, 3),
            "action": action,
            ("next", "terminated"): torch.ones(rows, dtype=torch.bool),
        }
    )
    log.info["discrete_actions"] = len(counts)
    data = OfflineDataModule(log, batch_size=rows)
    learner = learner_of(kind, data.spec, network=Network(hidden=()), **arguments)
    batch = whole_log(learner, data)
    trained = [p for network in learner.networks().values() for p in network.parameters()]
    optimizer = torch.optim.Adam(trained, lr=0.1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / steps)
        optimizer.zero_grad()
        torch.stack(list(learner.losses(batch).terms.values())).sum().backward()
        optimizer.step()
        for target, online in learner.targets.items():
            getattr(learner, target).load_state_dict(getattr(learner, online).state_dict())
    return learner
