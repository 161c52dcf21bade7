"""CPL: T43 through the learner in both modes, cloning, the policy of the advantage, errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import fit, learner_of, pairs_of, whole_log
from tensordict import TensorDict

from hindsight_rl.agents.cpl import CPL
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND
from hindsight_rl.maths.preferences import contrastive_loss, ranked_loss
from hindsight_rl.nets.network import Network


def made(**arguments: Any) -> tuple[CPL, TensorDict]:
    data = pairs_of(episode_log(discrete=True))
    model = learner_of(CPL, data.spec, **arguments)
    return model, whole_log(model, data)


def sums(model: CPL, batch: TensorDict) -> list[torch.Tensor]:
    """Return the sums of log pi of both segments, step by step."""
    found = []
    for part in (FIRST, SECOND):
        logits = model.actor(batch[part, "observation"], None).logits
        chosen = torch.log_softmax(logits, -1).gather(-1, batch[part, "action"][..., None])
        found.append(chosen.squeeze(-1).sum(-1))
    return found


@pytest.mark.parametrize("bias", [1.0, 0.5])
def test_loss_of_pairs_is_that_of_the_sums(bias: float) -> None:
    """-log sigma(alpha (winner - bias loser)), by hand of the policy's log-probabilities."""
    model, batch = made(alpha=0.3, bias=bias)
    first, second = sums(model, batch)
    expected = contrastive_loss(0.3 * first, 0.3 * second, batch[PREFERENCE], bias=bias).mean()
    found = model.losses(batch)
    torch.testing.assert_close(found.terms["actor"], expected)
    better = torch.where(batch[PREFERENCE] > 0.5, second > first, first > second).float().mean()
    torch.testing.assert_close(found.metrics["actor/accuracy"], better)


def test_ranked_loss_compares_all_segments_by_their_scores() -> None:
    model, batch = made(compare="ranks", alpha=0.2)
    value = 0.2 * torch.cat(sums(model, batch))
    score = torch.cat([batch[FIRST, "score"], batch[SECOND, "score"]])
    found = model.losses(batch).terms["actor"]
    torch.testing.assert_close(found, ranked_loss(value, score, bias=0.5).mean())
    with pytest.raises(KeyError, match="score"):
        model.losses(batch.exclude((FIRST, "score")))


def test_cloning_alone_is_the_likelihood_of_all_steps() -> None:
    model, batch = made(contrast=0.0, cloning=1.0)
    expected = -torch.cat(sums(model, batch)).mean() / 4
    torch.testing.assert_close(model.losses(batch).terms["actor"], expected)


def test_the_policy_comes_to_prefer_what_is_preferred(tmp_path: Path) -> None:
    """The teacher likes action 2: reward 1 there, 0 elsewhere."""
    log = episode_log((30,) * 12, discrete=True)
    reward = (log.column("action") == 2).float()
    log = episode_log((30,) * 12, discrete=True, reward=reward.tolist())
    data = pairs_of(log, 300, 4, batch_size=32, updates_per_step=20)
    model = CPL(data.spec, network=Network(hidden=(16,)), learning_rates={"actor": 1e-2})
    before = torch.softmax(model.scores(log.column("observation"), None), -1)[:, 2].mean()
    fit(model, data, tmp_path, 200)
    after = torch.softmax(model.scores(log.column("observation"), None), -1)[:, 2].mean()
    assert after > before + 0.2


def test_wrong_arguments() -> None:
    data = pairs_of(episode_log())
    with pytest.raises(ValueError, match="contrast and cloning are both 0"):
        CPL(data.spec, contrast=0.0)
    with pytest.raises(ValueError, match="CPL needs an exact density, and head 'deterministic'"):
        CPL(data.spec, head="deterministic")
    for wrong in ({"alpha": 0.0}, {"bias": 0.0}, {"cloning": -1.0}, {"compare": "all"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CPL(data.spec, **wrong)
