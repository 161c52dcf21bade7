"""Network and Head: what they check, and which networks take which."""

import inspect
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import LEARNERS, NETWORKED, data_for, learner_of

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.encoders.history import HistoryInputs
from hindsight_rl.nets.encoders.vector import GatedInputs, Inputs
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.network import Head, LatentNetwork, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.nets.proposals import CVAE, Perturbation

GATED = Network(hidden=(6, 5), gate_task=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": (8, 0)}, r"hidden is \[8, 0\]: every layer needs at least 1 unit"),
        ({"frequencies": -1}, "frequencies is -1, it must be at least 0"),
        ({"task_scale": (1.0, 0.0)}, r"task_scale is \[1.0, 0.0\], it must be above 0"),
        ({"gate_task": True, "frequencies": 1}, "gate_task and frequencies do not go together"),
        ({"gate_task": True, "hidden": ()}, r"gate_task gates the first layer, and hidden is \[\]"),
    ],
)
def test_networks_that_cannot_be_built_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Network(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "gauss"}, "kind is 'gauss', it must be .* Did you mean 'gaussian'?"),
        ({"spread": "per-state"}, "spread is 'per-state', .* Did you mean 'per_state'?"),
        ({"log_std_range": (1.0, 1.0)}, r"log_std_range is \[1.0, 1.0\]: give two numbers, rising"),
        ({"exploration": -0.1}, "exploration is -0.1, it must be at least 0"),
        ({"components": 0}, "components is 0, it must be at least 1"),
    ],
)
def test_heads_that_cannot_be_built_raise(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Head(**arguments)


def test_latent_numbers_are_at_least_one() -> None:
    with pytest.raises(ValueError, match="latent is 0, it must be at least 1"):
        LatentNetwork(latent=0)


def test_lists_become_tuples_and_equal_networks_are_equal() -> None:
    found = Network(hidden=[8, 9], task_scale=[2.0])  # type: ignore[arg-type]
    assert found == Network(hidden=(8, 9), task_scale=(2.0,)) and hash(found)
    assert Head(relative_to=[1, 0]) == Head(relative_to=(1, 0))  # type: ignore[arg-type]


def test_a_kind_stands_for_its_head() -> None:
    assert Head.of("mixture") == Head("mixture")
    assert Head.of(Head("laplace", spread="per_state")) == Head("laplace", spread="per_state")
    with pytest.raises(ValueError, match="head is 'mixture', it must be 'gaussian' or 'laplace'"):
        Head.of("mixture", "gaussian", "laplace")


@pytest.mark.parametrize("kind", [Policy, ValueNet, Denoiser])
def test_a_gate_is_the_first_hidden_layer(kind: Any) -> None:
    spec = OfflineDataModule(episode_log(task=True)).spec
    made = kind(spec, GATED)
    assert isinstance(made.inputs, GatedInputs) and made.inputs.width == 6
    widths = [layer.out_features for layer in made.net if isinstance(layer, torch.nn.Linear)]
    assert widths[:-1] == [5]


def test_a_gated_perturbation_and_critics_that_would_share_a_layer() -> None:
    spec = OfflineDataModule(episode_log(task=True)).spec
    assert isinstance(Perturbation(spec, GATED, limit=0.1).inputs, GatedInputs)
    with pytest.raises(ValueError, match="gate_task is for one network, and a critic has several"):
        Critic(spec, GATED)
    with pytest.raises(ValueError, match="gate_task is for one network, and an encoder with its d"):
        CVAE(spec, LatentNetwork(gate_task=True), samples=3)


def test_task_scale_reaches_every_network() -> None:
    spec = OfflineDataModule(episode_log(task=True)).spec
    scaled = Network(hidden=(8,), task_scale=(5.0, 2.0))
    for made in (Policy(spec, scaled), ValueNet(spec, scaled), Critic(spec, scaled)):
        assert made.inputs.task.std.tolist() == [5.0, 2.0]


def test_frequencies_stand_beside_a_history() -> None:
    spec = OfflineDataModule(episode_log()).spec
    plain, waves = (HistoryInputs(spec, Network(frequencies=count), 2) for count in (0, 3))
    assert waves.width - plain.width == 3 * 2 * 3  # three numbers, sine and cosine, three waves


@pytest.mark.parametrize("name", NETWORKED)
def test_every_learner_takes_a_network_and_keeps_it_as_plain_data(name: str) -> None:
    learner = learner_of(LEARNERS[name], data_for(LEARNERS[name]).spec)
    default = inspect.signature(LEARNERS[name]).parameters["network"].default
    assert learner.hparams.network == asdict(default) | {
        "hidden": (8, 8), "frequencies": 0, "task_scale": None, "gate_task": False
    }  # fmt: skip
    again = learner.fresh(0)
    assert all(one.equal(other) for one, other in
               zip(again.parameters(), learner.parameters(), strict=True))  # fmt: skip


@pytest.mark.parametrize("name", [name for name, kind in LEARNERS.items() if kind.linear])
def test_linear_learners_take_no_network(name: str) -> None:
    """Its fields would say nothing: features are fixed."""
    assert "network" not in inspect.signature(LEARNERS[name]).parameters


@pytest.mark.parametrize("name", [name for name, kind in LEARNERS.items() if kind.binned])
def test_learners_of_bins_take_no_network(name: str) -> None:
    """Its fields would say nothing: each token has a vector of its own."""
    assert "network" not in inspect.signature(LEARNERS[name]).parameters
    made = learner_of(LEARNERS[name], data_for(LEARNERS[name]).spec).modules()
    assert not any(isinstance(part, Inputs) for part in made)


@pytest.mark.parametrize("name", ["BC", "AWR", "IQL", "MARWIL", "RecurrentBC", "SIL", "SignedBC"])
def test_learners_that_choose_a_head_take_all_of_it(name: str) -> None:
    kind = LEARNERS[name]
    head = Head("mixture", components=3)
    learner = learner_of(kind, data_for(kind).spec, head=head)
    assert learner.actor.head == head
    assert learner.actor.net[-1].out_features == 3 * (1 + 2 * 2)
    assert learner.hparams.head["components"] == 3


@pytest.mark.parametrize("name", ["AWAC", "CRR"])
def test_learners_that_draw_actions_take_every_head(name: str) -> None:
    kind = LEARNERS[name]
    more = {"candidates": 0} if name == "CRR" else {}
    wide = Head("tanh_gaussian", spread="per_state")
    for head in (wide, Head("mixture"), replace(wide, kind="laplace")):
        assert learner_of(kind, data_for(kind).spec, head=head, **more).actor.head == head
