"""Upside-down RL: BC under return and steps left, which gate the first layer."""

from pathlib import Path

import torch
from episode_logs import episode_log
from small_fits import fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.return_task import ReturnTask


def test_policy_is_as_quick_as_it_is_told(tmp_path: Path) -> None:
    """Two ways to a return of 4: at once (action 0) or over four steps (action 1)."""
    lengths = [1, 4] * 60
    reward = [4.0, 1.0, 1.0, 1.0, 1.0] * 60
    log = episode_log(lengths, reward=reward, discrete=True)
    log = log.with_columns({"action": torch.tensor([0, 1, 1, 1, 1] * 60)})
    data = OfflineDataModule(log, [ReturnTask(horizon=True)], batch_size=64, updates_per_step=50)
    learner = learner_of(
        BC,
        data.spec,
        network=Network(hidden=(32,), task_scale=[4.0, 4.0], gate_task=True),
        learning_rates={"actor": 1e-2},
    )
    fit(learner, data, tmp_path, 300)
    observation = torch.tensor(data.spec.whole.mean).expand(5, 3)
    # The command of the long way, lowered step by step, stays its own.
    asked = torch.tensor([[4.0, 1.0], [4.0, 4.0], [3.0, 3.0], [2.0, 2.0], [1.0, 1.0]])
    assert learner(observation, asked).tolist() == [0, 1, 1, 1, 1]


def test_pair_of_an_episode_is_what_was_left_of_it() -> None:
    log = episode_log([3, 2], reward=[1.0, 2.0, 4.0, 8.0, 16.0])
    data = OfflineDataModule(log, [ReturnTask(horizon=True)])
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    assert batch["task"].tolist() == [[7, 3], [6, 2], [4, 1], [24, 2], [16, 1]]
