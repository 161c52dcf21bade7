"""LearnedFeatures: rewards side by side, and whose preferences an episode serves."""

import pytest
import torch
from episode_logs import episode_log
from relabelers import Sums
from torch import Tensor

from hindsight_rl.keys import ACTION, OBSERVATION
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.learned_features import LEARNED_REWARDS, LearnedFeatures
from hindsight_rl.relabel.learned_reward import LearnedReward
from hindsight_rl.tasks.family import DiscreteTasks
from hindsight_rl.tasks.linear import LinearTasks


class Pull(Sums):
    """A model whose reward is the first number of the action, or minus that."""

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def rewards(self, observation: Tensor, action: Tensor, task: Tensor | None = None) -> Tensor:
        """Return one member ``[1, N]``."""
        return self.sign * action[:, :1].T


def test_features_are_the_rewards_that_models_give_alone() -> None:
    log, models = episode_log(), [Sums(), Pull(1.0)]
    features = LearnedFeatures(models).prepare(log).columns[LEARNED_REWARDS]
    alone = [LearnedReward(model).given(log) for model in models]
    assert features.shape == (47, 2) and features.dtype == torch.float32
    torch.testing.assert_close(features, torch.stack(alone, dim=-1))
    assert set(LearnedFeatures(models).prepare_reads) == {OBSERVATION, ACTION}
    for given in ([], "reward.ckpt"):
        with pytest.raises(ValueError, match="give a list of at least one checkpoint"):
            LearnedFeatures(given)


def test_an_episode_is_for_the_annotator_whose_reward_it_collects() -> None:
    """The posterior over two opposed annotators, each with its log Z, by hand."""
    log = episode_log()
    people = DiscreteTasks(
        LinearTasks([0, 0], [1, 1], features="learned_rewards"), torch.eye(2).tolist()
    )
    chain = Compose(
        [LearnedFeatures([Pull(1.0), Pull(-1.0)]), InverseRL(people, tasks=torch.eye(2).tolist())]
    ).prepare(log)
    pull = LearnedReward(Pull(1.0)).given(log).double()
    total = torch.zeros(log.episodes, dtype=torch.float64).index_add_(
        0, log.column("episode"), pull
    )
    score = torch.stack([total, -total], dim=-1)
    score = score - score.logsumexp(0, keepdim=True)
    expected = score.softmax(-1).float()
    inverse = chain.relabelers[1]
    assert isinstance(inverse, InverseRL)
    torch.testing.assert_close(inverse.posterior, expected, atol=1e-5, rtol=1e-4)
    assert 0.0 < float(expected.amin()) < 0.1 < 0.9 < float(expected.amax())
