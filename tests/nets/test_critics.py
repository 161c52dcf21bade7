"""Critics, networks whose weights rest, and temperatures."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from episode_logs import HIGH, episode_log
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.critics import Critic, Temperature, value_of
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import Spec

SMALL = Network(hidden=(8, 8))


def spec_of(**options: Any) -> Spec:
    return OfflineDataModule(episode_log(**options)).spec


def observations(count: int = 5) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def tasks(count: int = 5) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(2))


def test_discrete_critic_picks_the_output_of_the_action() -> None:
    critic = Critic(spec_of(discrete=True), SMALL)
    action = torch.tensor([2, 0, 1])
    features = critic.inputs(observations(3))
    for member, found in zip(critic.members, critic(observations(3), action), strict=True):
        every = member(features)
        picked = [every[row, number] for row, number in enumerate(action.tolist())]
        assert found.equal(torch.stack(picked))


def test_value_of_an_action_by_every_estimate() -> None:
    """Two estimates ``[2, 2, 3]`` of two states: entries 2 and 0 of each, and a gradient of 1."""
    values = torch.arange(12.0).reshape(2, 2, 3).requires_grad_()
    found = value_of(values, torch.tensor([2, 0]))
    assert found.tolist() == [[2.0, 3.0], [8.0, 9.0]]
    found.sum().backward()
    assert values.grad is not None
    assert values.grad.flatten().nonzero().flatten().tolist() == [2, 3, 8, 9]
    assert value_of(values[0], torch.tensor([1, 1])).tolist() == [1.0, 4.0]


def test_a_normalised_critic_is_bounded_however_far_an_action_lies() -> None:
    """The last layer sees 8 numbers of mean 0 and variance 1: at most |w| sqrt(8) + |b|, any input.

    Without the norm the value grows with the action.
    """
    spec, far = spec_of(), 1e4 * torch.ones(3, 2)
    plain, normed = Critic(spec, SMALL), Critic(spec, replace(SMALL, critic_norm=True))
    assert [type(layer).__name__ for layer in normed.members[0]] == [
        *("Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "LastLayer")
    ]
    last = [member[-1] for member in normed.members]
    bound = torch.stack([layer.weight.norm() * math.sqrt(8) + layer.bias.abs() for layer in last])
    values = normed(observations(3), far)
    assert bool((values.abs() <= bound).all())
    assert bool((plain(observations(3), far).abs() > 10 * bound).any())
    exact = normed(observations(3), far.double())
    assert exact.dtype == torch.float64
    torch.testing.assert_close(values.double(), exact, rtol=1e-4, atol=1e-5)


def test_continuous_critic_sees_actions_in_policy_units() -> None:
    critic = Critic(spec_of(), SMALL)
    action = torch.tensor([HIGH] * 3)
    joined = torch.cat([critic.inputs(observations(3)), torch.ones(3, 2)], dim=-1)
    for member, found in zip(critic.members, critic(observations(3), action), strict=True):
        torch.testing.assert_close(found, member(joined)[:, 0])


@pytest.mark.parametrize("members", [1, 3])
def test_critic_stacks_independent_estimates(options: dict[str, bool], members: int) -> None:
    """Each member has weights of its own: no two agree anywhere, and one moves by itself."""
    spec = spec_of(**options)
    critic = Critic(spec, SMALL, members=members)
    action = Policy(spec, SMALL).mode(observations(), tasks())
    q = critic(observations(), action, tasks())
    assert q.shape == (members, 5)
    assert all(len(row.unique()) == members for row in q.T)
    with torch.no_grad():
        critic.members[-1][-1].bias += 1.0
    moved = critic(observations(), action, tasks()) - q
    torch.testing.assert_close(moved[-1], torch.ones(5))
    assert (moved[:-1] == 0).all()


def test_discrete_critic_values_all_actions() -> None:
    critic = Critic(spec_of(discrete=True), SMALL)
    every = critic(observations(), None)
    assert every.shape == (2, 5, 3)
    for number in range(3):
        action = torch.full((5,), number)
        assert every[..., number].equal(critic(observations(), action))


def test_continuous_actions_are_not_listed() -> None:
    with pytest.raises(ValueError, match=r"cannot all be valued: pass action \[\.\.\., A\]"):
        Critic(spec_of(), SMALL)(observations(), None)


@pytest.mark.parametrize("wanted", [1, 2, None])
def test_critic_asks_the_first_members(options: dict[str, bool], wanted: int | None) -> None:
    spec = spec_of(**options)
    critic = Critic(spec, SMALL, members=3)
    action = Policy(spec, SMALL).mode(observations(), tasks())
    asked: list[int] = []
    for number, member in enumerate(critic.members):
        member.register_forward_hook(lambda *_, number=number: asked.append(number))
    found = critic(observations(), action, tasks(), members=wanted)
    assert asked == list(range(wanted or 3))
    assert found.equal(critic(observations(), action, tasks())[:wanted])


# --- temperature ----------------------------------------------------------------------------------


def test_temperature_stays_above_0() -> None:
    """Its parameter is the logarithm: 0.2 e^-9 after nine steps of 1 down."""
    temperature = Temperature(0.2)
    assert temperature().item() == pytest.approx(0.2) and temperature().shape == ()
    with torch.no_grad():
        temperature.log -= 9.0
    assert temperature().item() == pytest.approx(0.2 * math.exp(-9), rel=1e-4)


# --- frozen ---------------------------------------------------------------------------------------


class Judged(nn.Module):
    """A linear policy, and the value that a frozen critic gives its actions."""

    def __init__(self) -> None:
        super().__init__()
        self.critic, self.policy = Critic(spec_of(), SMALL), nn.Linear(3, 2)

    def forward(self, observation: Tensor) -> Tensor:
        judge = frozen(self.critic)
        return judge(observation, self.policy(observation), members=1).mean()


def test_frozen_network_gives_a_gradient_to_its_inputs_alone() -> None:
    """The same values, and the same gradient of the inputs, as the network itself."""
    judged, seen = Judged(), observations()
    plain = judged.critic(seen, judged.policy(seen), members=1).mean()
    expected = torch.autograd.grad(plain, list(judged.policy.parameters()))
    value = judged(seen)
    value.backward()
    assert value.equal(plain)
    for parameter, gradient in zip(judged.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
        assert bool((gradient != 0).any())
    assert all(parameter.grad is None for parameter in judged.critic.parameters())
    assert all(parameter.requires_grad for parameter in judged.critic.parameters())


def test_frozen_network_within_copies_under_vmap() -> None:
    """Each copy is judged by its own critic, and no critic gets a gradient."""
    copies, seen = [Judged(), Judged()], observations()
    parameters, buffers = stack_module_state(copies)

    def value(some: dict[str, Tensor], rest: dict[str, Tensor]) -> Tensor:
        return functional_call(copies[0], (some, rest), (seen,))

    found = vmap(grad(value))(parameters, buffers)
    for number, judged in enumerate(copies):
        judged(seen).backward()
        for name, parameter in judged.named_parameters():
            if parameter.grad is None:
                assert name.startswith("critic.") and (found[name] == 0).all()
            else:
                torch.testing.assert_close(found[name][number], parameter.grad)
