"""What networks are given: standardised observation and task, beside each other or gated."""

import dataclasses
import inspect
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import LEARNERS, NETWORKED, data_for, learner_of
from specs import changed
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.encoders.vector import GatedInputs, Inputs, Standardize
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


def test_standardize_by_hand() -> None:
    layer = Standardize([1.0, -2.0], [2.0, 0.5])
    assert layer(torch.tensor([[3.0, -3.0]])).tolist() == [[1.0, -2.0]]
    assert set(layer.state_dict()) == {"mean", "std"}


def test_inputs_standardise_observation_and_task_side_by_side() -> None:
    """On the log itself the features have mean 0 and standard deviation 1."""
    log = episode_log(task=True)
    inputs = Inputs(OfflineDataModule(log).spec)
    features = inputs(log.column("observation"), log.column("task"))
    assert inputs.width == 5 and features.shape == (47, 5)
    torch.testing.assert_close(features[:, :3].mean(0), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(features[:, :3].std(0, correction=0), torch.ones(3))
    # Task statistics are estimated from 4,096 draws.
    torch.testing.assert_close(features[:, 3:].mean(0), torch.zeros(2), rtol=0, atol=0.1)


def test_inputs_without_a_task_ignore_one() -> None:
    inputs = Inputs(spec_of())
    assert inputs(observations()).equal(inputs(observations(), tasks()))


@pytest.mark.parametrize("kind", [Policy, ValueNet])
def test_network_with_a_task_refuses_to_go_without(kind: type[nn.Module]) -> None:
    network = kind(spec_of(task=True), SMALL)
    with pytest.raises(ValueError, match=r"conditioned on a task: pass task \[\.\.\., Z\]"):
        network(observations())


def test_scale_of_the_task_replaces_its_statistics() -> None:
    spec = spec_of(task=True)
    inputs = Inputs(spec, task_scale=[50.0, 100.0])
    found = inputs(torch.tensor([spec.whole.mean]), torch.tensor([[25.0, -200.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 0.0, 0.5, -2.0]]))


@pytest.mark.parametrize("scale", [[1.0], [1.0, 0.0], [1.0, 1.0, 1.0]])
def test_scale_of_another_width_is_refused(scale: list[float]) -> None:
    spec = spec_of(task=True)
    with pytest.raises(ValueError, match=r"task_scale is \[.*\]: give 2 numbers above 0"):
        Inputs(spec, task_scale=scale)


def test_gate_multiplies_the_features_of_the_observation() -> None:
    """tanh(W s) sigmoid(V z): a shut gate lets nothing through, an open one everything."""
    spec = spec_of(task=True)
    gated = GatedInputs(spec, 4)
    observation, task = torch.randn(5, 3), torch.randn(5, 2)
    command = (task - gated.inputs.task.mean) / gated.inputs.task.std
    state = (observation - gated.inputs.observation.mean) / gated.inputs.observation.std
    expected = torch.tanh(gated.state(state)) * torch.sigmoid(gated.gate(command))
    torch.testing.assert_close(gated(observation, task), expected)
    nn.init.zeros_(gated.gate.weight)
    for bias, share in ((-100.0, 0.0), (0.0, 0.5), (100.0, 1.0)):
        nn.init.constant_(gated.gate.bias, bias)
        torch.testing.assert_close(gated(observation, task), share * torch.tanh(gated.state(state)))


def test_gate_without_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match=r"gate_task needs a task: add a relabeler that gives one"):
        Policy(spec_of(), network=Network(gate_task=True))


def test_gated_policy_has_the_first_width_as_its_gate() -> None:
    policy = Policy(spec_of(task=True), Network(hidden=(6, 5), gate_task=True))
    assert [tuple(p.shape) for p in policy.inputs.parameters()] == [(6, 3), (6,), (6, 2), (6,)]
    assert policy.net[0].in_features == 6 and policy.net[0].out_features == 5


def test_frequencies_by_hand() -> None:
    """Sine and cosine of pi x / 2 and pi x of both numbers, after the numbers themselves."""
    spec = spec_of()
    spec = changed(spec, observation={"shape": [2], "mean": [0.0, 1.0], "std": [1.0, 2.0]})
    inputs = Inputs(spec, frequencies=2)
    found = inputs(torch.tensor([[1.0, 2.0]]))
    assert inputs.width == found.shape[-1] == 10
    root = 0.5**0.5
    expected = [1.0, 0.5, 1.0, root, 0.0, 1.0, 0.0, root, -1.0, 0.0]
    torch.testing.assert_close(found, torch.tensor([expected]), rtol=0, atol=1e-6)


def test_frequencies_cover_the_task_and_reach_every_network() -> None:
    spec = spec_of(task=True)
    assert Inputs(spec, frequencies=3).width == 7 * 5
    for kind in (Policy, ValueNet):
        network = kind(spec, Network(hidden=(8, 8), frequencies=3))
        network(observations(), tasks())
    critic = Critic(spec, Network(hidden=(8, 8), frequencies=3))
    assert critic(observations(), torch.zeros(5, 2), tasks()).shape == (2, 5)


@pytest.mark.parametrize("name", NETWORKED)
def test_every_learner_of_networks_takes_frequencies(name: str) -> None:
    """All but tables and bins, which have no inputs to widen."""
    kind = LEARNERS[name]
    waves = {
        argument: dataclasses.replace(parameter.default, frequencies=2)
        for argument, parameter in inspect.signature(kind).parameters.items()
        if isinstance(parameter.default, Network)  # of a model of the log, of critics
    }
    assert "network" in waves
    made = learner_of(kind, data_for(kind).spec, **waves).modules()
    found = [len(part.factors) for part in made if isinstance(part, Inputs)]
    assert found and set(found) == {2}


def test_frequencies_are_refused_below_zero_and_with_gates() -> None:
    with pytest.raises(ValueError, match="frequencies is -1, it must be at least 0"):
        Inputs(spec_of(), frequencies=-1)
    with pytest.raises(ValueError, match="gate_task and frequencies do not go together"):
        Network(frequencies=1, gate_task=True)
