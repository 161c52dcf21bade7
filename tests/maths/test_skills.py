"""Skills told apart by where they lead: TB20 by hand, and that they are inverse RL's posterior."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from hindsight_rl.maths import skills
from hindsight_rl.maths.posterior import task_posterior

PRIOR = torch.full((4,), -math.log(4), dtype=torch.float64)
SKILL = torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=torch.float64)


def log_q(own: float) -> Tensor:
    """Return log q of four skills, of which the second has a share and the others the rest."""
    share = torch.full((4,), (1 - own) / 3, dtype=torch.float64)
    share[1] = own
    return share.log()


def test_reward_by_hand() -> None:
    """K = 4: at most log 4, at q .7 it is 1.029619, and 0 where nothing is known."""
    found = [skills.skill_reward(log_q(q), SKILL, PRIOR).item() for q in (1 - 1e-12, 0.7, 0.25)]
    assert found == pytest.approx([1.386294, 1.029619, 0.0], abs=2e-6)


def test_the_sign_of_the_released_code_would_pay_for_worse_skills() -> None:
    """-log q - log p is 1.742969 at q .7, above the 1.386294 of perfect skills."""
    wrong = -(SKILL * (log_q(0.7) + PRIOR)).sum().item()
    assert wrong == pytest.approx(1.742969, abs=2e-6)
    assert skills.skill_reward(log_q(0.7), SKILL, PRIOR) < skills.skill_reward(
        log_q(0.9), SKILL, PRIOR
    )


def test_rows_without_a_skill_earn_nothing() -> None:
    assert skills.skill_reward(log_q(0.7), torch.zeros_like(SKILL), PRIOR).item() == 0.0


def test_the_discriminator_is_the_task_posterior_of_learned_scores() -> None:
    scores = torch.tensor([[0.3, -1.0, 2.0], [5.0, 5.0, 1.0]], dtype=torch.float64)
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log()
    found = skills.log_posterior(scores, prior).exp()
    assert_close(found, task_posterior(scores, prior, partition=False))
    assert_close(skills.log_posterior(scores), torch.log_softmax(scores, -1))


def test_what_q_descends_and_its_slope() -> None:
    """One-hot target: -log q(z), slope q - target; at the target there is nothing left."""
    scores = log_q(0.7).clone().requires_grad_()
    loss = skills.posterior_divergence(SKILL, skills.log_posterior(scores))
    assert loss.item() == pytest.approx(-math.log(0.7))
    loss.backward()
    assert_close(scores.grad, log_q(0.7).exp() - SKILL)
    soft = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    assert skills.posterior_divergence(soft, soft.log()).item() == pytest.approx(0.0)


def test_mean_reward_is_a_bound_on_what_outcomes_say_of_skills() -> None:
    """Two skills, outcomes p(s | z) = (.9, .1), (.2, .8): at the true posterior it is I(z; s)."""
    outcome = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64)  # [z, s]
    prior = torch.full((2,), 0.5, dtype=torch.float64)
    joint = prior[:, None] * outcome
    mutual = (joint * (outcome / joint.sum(0)).log()).sum()
    reward = skills.skill_reward(
        skills.log_posterior(outcome.log().T).unsqueeze(0).expand(2, 2, 2),
        torch.eye(2, dtype=torch.float64)[:, None].expand(2, 2, 2),
        prior.log(),
    )
    assert_close((joint * reward).sum(), mutual)
    worse = skills.log_posterior(torch.zeros(2, 2, 2, dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)[:, None].expand(2, 2, 2)
    assert (joint * skills.skill_reward(worse, eye, prior.log())).sum() < mutual


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="task"):
        skills.skill_reward(PRIOR, SKILL[:3], PRIOR)
