"""The view of a batch that learner files read: names, what may be absent, and the target."""

from typing import Any

import pytest
import torch
from tensordict import TensorDict

from hindsight_rl.training.learner import Transition


def batch(**columns: Any) -> TensorDict:
    """Return two rows, the second of which ends."""
    rows = {
        "observation": torch.tensor([[1.0], [2.0]]),
        "action": torch.tensor([[3.0], [4.0]]),
        "next": {
            "observation": torch.tensor([[5.0], [6.0]]),
            "reward": torch.tensor([7.0, 8.0]),
            "terminated": torch.tensor([False, True]),
        },
    }
    return TensorDict(rows | columns, [2])


def test_names_are_the_columns_themselves() -> None:
    rows = batch(task=torch.ones(2, 3), weight=torch.ones(2), noise={"now": torch.zeros(2, 1)})
    now = Transition(rows)
    named = {
        "observation": now.observation,
        "action": now.action,
        "task": now.task,
        "weight": now.weight,
        ("noise", "now"): now.noise("now"),
        ("next", "observation"): now.next_observation,
        ("next", "reward"): now.reward,
        ("next", "terminated"): now.terminated,
    }
    for key, value in named.items():
        assert value is rows[key]


def test_what_rows_lack_is_none() -> None:
    now = Transition(batch())
    assert now.task is None and now.weight is None


def test_discrete_policies_need_no_noise_and_others_miss_it() -> None:
    """All discrete actions count; where actions are drawn, absent noise is named."""

    class Policy:
        def __init__(self, discrete: bool) -> None:
            self.discrete = discrete

    assert Transition(batch()).noise_of(Policy(True), "now") is None
    with pytest.raises(KeyError, match="noise"):
        Transition(batch()).noise_of(Policy(False), "now")
    rows = batch(noise={"now": torch.ones(2, 1)})
    assert Transition(rows).noise_of(Policy(False), "now") is rows["noise", "now"]


def test_nothing_is_read_before_it_is_asked_for() -> None:
    """Cloning has no next step in its batch."""
    rows = batch().select("observation", "action")
    assert Transition(rows).action.tolist() == [[3.0], [4.0]]
    with pytest.raises(KeyError, match="next"):
        _ = Transition(rows).reward


def test_target_has_the_constant_or_the_discount_of_the_row() -> None:
    """7 + g 10 and, as nothing follows, 8; without gradient."""
    value = torch.tensor([10.0, 10.0], requires_grad=True)
    found = Transition(batch(), 0.5).target(value)
    assert found.tolist() == [12.0, 8.0] and not found.requires_grad
    own = batch(discount=torch.tensor([0.25, 0.25]))
    assert Transition(own, 0.5).target(value).tolist() == [9.5, 8.0]


def test_target_without_a_discount_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"a target needs a discount: Transition\(batch, discount"):
        Transition(batch()).target(torch.zeros(2))


def test_squared_error_is_a_mean_over_rows_summed_over_critics() -> None:
    """Two critics that say s + a and s - a: 4, 6 and -2, -2; targets 5 and 7 are 1, 1, 7, 9 off."""

    def critic(observation: torch.Tensor, action: torch.Tensor, task: None) -> torch.Tensor:
        return torch.stack([observation + action, observation - action]).squeeze(-1)

    loss, q = Transition(batch()).regress(critic, torch.tensor([5.0, 7.0]))
    assert q.tolist() == [[4.0, 6.0], [-2.0, -2.0]]
    assert loss.item() == (1 + 1) / 2 + (49 + 81) / 2


def test_log_probability_may_be_asked_for_under_another_task() -> None:
    class Policy:
        def log_prob(self, *given: Any) -> Any:
            return given

    rows = batch(task=torch.zeros(2, 1))
    now, other = Transition(rows), torch.ones(2, 1)
    assert now.log_prob(Policy())[2] is rows["task"]
    assert now.log_prob(Policy(), other)[2] is other
