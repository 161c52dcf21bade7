"""Several actions per state by hand, and choosing among them."""

import copy

import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from torch import Tensor, nn

from hindsight_rl.agents.iql import IQL
from hindsight_rl.maths.draws import counters
from hindsight_rl.policies.action_values import (
    Choices,
    Greedy,
    best_of,
    choices,
    draw_of,
    several,
    value_of_best,
)


def test_drawn_actions_are_valued_one_by_one() -> None:
    """Action j of row i is made by the noise of row i from place j * A on; each counts 1 / m."""
    learner = learner_of(IQL, data_for(IQL).spec)
    batch = whole_log(learner, data_for(IQL))[:5]
    noise = torch.randn(5, 3 * 2, generator=torch.Generator().manual_seed(1))
    found = choices(learner.actor, learner.critic, batch["observation"], None, noise)
    assert found.value.shape == (2, 3, 5) and found.share.eq(1 / 3).all()
    for number in range(3):
        part = noise[:, 2 * number : 2 * number + 2]
        action, log_prob = learner.actor.draw(batch["observation"], part)
        value = learner.critic(batch["observation"], action)
        torch.testing.assert_close(found.value[:, number], value)
        torch.testing.assert_close(found.log_prob[number], log_prob)
    expected = found.value.min(0).values.mean(0)
    torch.testing.assert_close(found.expected(), expected)


def test_discrete_actions_are_all_valued() -> None:
    data = data_for(IQL, episode_log(discrete=True, task=True))
    learner = learner_of(IQL, data.spec)
    batch = whole_log(learner, data)[:5]
    found = choices(learner.actor, learner.critic, batch["observation"], batch["task"], None)
    assert found.value.shape == (2, 3, 5)
    torch.testing.assert_close(found.share.sum(0), torch.ones(5))
    torch.testing.assert_close(found.share, found.log_prob.exp())
    taken = found.value.gather(1, batch["action"].expand(2, 1, 5)).squeeze(1)
    torch.testing.assert_close(
        taken, learner.critic(batch["observation"], batch["action"], batch["task"])
    )


def test_expectation_takes_the_least_of_the_critics_action_by_action() -> None:
    """1, 4 and 3, 2: (1 + 2) / 2 = 1.5; the least of the critics' means would be 2.5."""
    share = torch.full((2, 1), 0.5)
    value = torch.tensor([[[1.0], [4.0]], [[3.0], [2.0]]])
    assert Choices(value, share, share.log()).expected().tolist() == [1.5]


def test_drawn_actions_lie_within_the_bounds_and_pass_a_gradient() -> None:
    learner = learner_of(IQL, data_for(IQL).spec, head="tanh_gaussian")
    batch = whole_log(learner, data_for(IQL))
    noise = torch.randn(len(batch), 2)
    action, log_prob = learner.actor.draw(batch["observation"], noise)
    scale = learner.actor.scale
    assert (action >= scale.low).all() and (action <= scale.high).all()
    expected = learner.actor.log_prob(batch["observation"], action)
    torch.testing.assert_close(log_prob, expected, rtol=1e-3, atol=1e-3)
    action.sum().backward()
    assert all(p.grad is not None for p in learner.actor.net.parameters())


def test_several_keeps_a_row_together() -> None:
    noise = torch.arange(12.0).reshape(2, 6)
    expected = torch.tensor([[[0.0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]])
    assert several(noise, 2).equal(expected)


ACTION = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]], [[5.0], [6.0]]])


def test_best_of_takes_the_first_of_equals() -> None:
    value = torch.tensor([[0.0, 7.0], [2.0, 7.0], [1.0, 0.0]])
    assert best_of(ACTION, value).equal(torch.tensor([[3.0], [2.0]]))


def test_value_of_best_is_of_the_first_of_equals() -> None:
    """The second entry of equal choosers 2, 2; no gradient reaches what chose."""
    value = torch.tensor([[5.0, 6.0, 7.0], [1.0, 2.0, 3.0]], requires_grad=True)
    chooser = torch.tensor([[0.0, 2.0, 2.0], [9.0, 0.0, 0.0]], requires_grad=True)
    found = value_of_best(value, chooser)
    assert found.tolist() == [6.0, 1.0]
    found.sum().backward()
    assert value.grad is not None and chooser.grad is None
    assert value.grad.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]


def test_draws_follow_the_soft_max() -> None:
    """Values 0 and log 3 at temperature 1: one in four draws is the first; cold: none is."""
    rows = torch.arange(4000)
    action = torch.tensor([0.0, 1.0]).reshape(2, 1, 1).expand(2, 4000, 1)
    value = torch.stack([torch.zeros(4000), torch.full((4000,), 3.0).log()])
    draws = counters(0, torch.zeros(1, dtype=torch.int64), rows)[0]
    share = draw_of(action, value, draws).mean().item()
    assert abs(share - 0.75) < 0.03
    assert draw_of(action, value, draws, temperature=0.01).mean().item() == 1.0


class Held(nn.Module):
    """Values that belong to a module, as a learner's do."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([[0.0, 2.0, 2.0]]))
        self.actor = Greedy(self.values, temperature=0.5)

    def values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        return self.value


def test_greedy_takes_the_first_of_the_best() -> None:
    held = Held()
    state = torch.zeros(1, 1)
    assert held.actor.mode(state).tolist() == [1]
    torch.testing.assert_close(held.actor(state).logits, torch.tensor([[0.0, 4.0, 4.0]]))
    assert held.actor.scale.to_environment(torch.tensor([2])).tolist() == [2]


def test_greedy_of_a_copy_reads_the_copy() -> None:
    held = Held()
    twin = copy.deepcopy(held)
    with torch.no_grad():
        twin.value[0, 0] = 9.0
    assert twin.actor.mode(torch.zeros(1, 1)).tolist() == [0]
    assert held.actor.mode(torch.zeros(1, 1)).tolist() == [1]
