"""SAC with many critics: REDQ's subsets and EDAC's diversity, by hand and by reductions."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of, weights, whole_log
from tensordict import TensorDict
from torch import Tensor
from torchrl_oracles import network_gradients

from hindsight_rl.agents.sac import SAC
from hindsight_rl.maths.ensembles import gradient_alignment
from hindsight_rl.nets.ensembles import action_gradients
from hindsight_rl.nets.network import Network
from hindsight_rl.training.learner import Learner


def case(
    *, discrete: bool = False, task: bool = False, **arguments: Any
) -> tuple[Learner, TensorDict]:
    data = data_for(SAC, episode_log(discrete=discrete, task=task))
    learner = learner_of(SAC, data.spec, critics=3, **arguments)
    return learner, whole_log(learner, data)


# --- subset: REDQ ---------------------------------------------------------------------------------


@pytest.mark.parametrize("discrete", [False, True])
def test_subset_of_all_has_the_target_of_plain_sac(discrete: bool) -> None:
    """Only the policy differs: it climbs the mean instead of the minimum."""
    learner, batch = case(discrete=discrete, subset=3, initial_temperature=0.5)
    plain, _ = case(discrete=discrete, initial_temperature=0.5)
    found, expected = learner.losses(batch).terms, plain.losses(batch).terms
    assert found["critic"] == expected["critic"] and found["temperature"] == expected["temperature"]
    assert found["actor"] < expected["actor"]


@pytest.mark.parametrize("discrete", [False, True])
def test_targets_take_the_minimum_of_the_critics_drawn(discrete: bool) -> None:
    """Target critics that answer 10, 20, 30: a row's target moves with the lots it drew alone.

    The critics answer 0, the temperature is nearly 0, and no reward is given: with discount 0.5 the
    targets are 5, 10 or 15, and each row's loss is 3 / 2 of their squares.
    """
    learner, batch = case(discrete=discrete, subset=1, discount=0.5, initial_temperature=1e-9)
    batch = batch[:3].clone()
    batch["next", "reward"] = torch.zeros(3)
    batch["next", "terminated"] = torch.zeros(3, dtype=torch.bool)
    batch["noise", "lots"] = torch.eye(3)

    def answers(*values: float) -> Any:
        def forward(observation: Tensor, action: Tensor | None, *_: Any, **__: Any) -> Tensor:
            shape = (
                (len(observation), 3)
                if action is None
                else action.shape[: None if discrete else -1]
            )
            return torch.stack([torch.full(shape, value) for value in values])

        return forward

    learner.target_critic.forward = answers(10.0, 20.0, 30.0)
    learner.critic.forward = answers(0.0, 0.0, 0.0)
    for row, target in enumerate((5.0, 10.0, 15.0)):
        loss, _ = learner.critic_loss(batch[row : row + 1])
        assert loss.item() == pytest.approx(1.5 * target**2)


@pytest.mark.parametrize("discrete", [False, True])
def test_policy_climbs_the_mean_of_the_critics(discrete: bool) -> None:
    """Its gradient is the mean of those that each critic alone would give it."""
    learner, batch = case(discrete=discrete, subset=2)
    loss = learner.losses(batch).terms["actor"]
    found = network_gradients(learner.actor, loss)
    expected = {name: torch.zeros_like(value) for name, value in found.items()}
    for number in range(3):
        alone, _ = case(discrete=discrete)
        alone.critic.members = learner.critic.members[number : number + 1]
        gradient = network_gradients(alone.actor, alone.losses(batch).terms["actor"])
        expected = {name: value + gradient[name] / 3 for name, value in expected.items()}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-6)


def test_lots_are_noise_of_the_batch() -> None:
    """One number per critic and row; they move the critics' term alone."""
    for discrete, others in ((False, {"now": 2, "next": 2}), (True, {})):
        learner, batch = case(discrete=discrete, subset=2, initial_temperature=0.5)
        assert learner.noise == others | {"lots": 3}
        other = batch.clone()
        other["noise", "lots"] = -other["noise", "lots"]
        first, second = learner.losses(batch).terms, learner.losses(other).terms
        assert {name for name in first if first[name] != second[name]} == {"critic"}


def test_policy_and_temperature_wait(tmp_path: Path) -> None:
    """With a delay of 3 only critics move at updates 1 and 2, and all networks at the third."""
    data = data_for(SAC)
    first = weights(learner_of(SAC, data.spec, delay=3))
    for updates, waits in ((2, {"actor", "temperature"}), (3, set())):
        learner = learner_of(SAC, data.spec, delay=3)
        fit(learner, data, tmp_path, updates)
        moved = {
            name.partition(".")[0]
            for name, value in learner.state_dict().items()
            if not value.equal(first[name])
        }
        assert moved == {"actor", "critic", "temperature", "target_critic"} - waits


def test_without_delay_networks_share_a_group() -> None:
    """A group costs time, and checkpoints hold groups."""
    groups = [len(case(delay=d)[0].configure_optimizers().param_groups) for d in (1, 2)]
    assert groups == [1, 3]


# --- diversity: EDAC ------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [False, True])
def test_slopes_are_derivatives_by_the_action(task: bool) -> None:
    """Of each critic by itself, in policy units, where 1 is half the range of the bounds."""
    learner, batch = case(task=task)
    critic = learner.critic
    found = action_gradients(critic, batch["observation"], batch["action"], batch.get("task", None))
    action = batch["action"].clone().requires_grad_()
    values = critic(batch["observation"], action, batch.get("task", None))
    for number, value in enumerate(values):
        (gradient,) = torch.autograd.grad(value.sum(), action, retain_graph=True)
        half_range = torch.tensor([2.0, 2.0])
        torch.testing.assert_close(found[number], gradient * half_range)


def test_diversity_adds_half_its_share_of_the_likeness() -> None:
    """Value and gradient, by autograd twice, of SAC's loss plus diversity / 2 E[likeness]."""
    learner, batch = case(diversity=1.5, network=Network(hidden=(8,)))
    plain, _ = case(network=Network(hidden=(8,)))
    action = plain.critic.scale.to_policy(batch["action"])
    features = torch.cat([plain.critic.inputs(batch["observation"]), action], -1).requires_grad_()
    slopes = [
        torch.autograd.grad(member(features).sum(), features, create_graph=True)[0][:, -2:]
        for member in plain.critic.members
    ]
    likeness = gradient_alignment(torch.stack(slopes)).mean()
    expected = plain.losses(batch).terms["critic"] + 0.75 * likeness
    found = learner.losses(batch)
    torch.testing.assert_close(found.terms["critic"], expected)
    torch.testing.assert_close(found.metrics["critic/alignment"], likeness.detach())
    gradients = network_gradients(plain.critic, expected)
    for name, value in network_gradients(learner.critic, found.terms["critic"]).items():
        torch.testing.assert_close(value, gradients[name], rtol=1e-4, atol=1e-6)


def test_diversity_turns_the_slopes_apart(tmp_path: Path) -> None:
    """After the same updates the critics agree less than without."""
    likeness = []
    for diversity in (0.0, 10.0):
        data = data_for(SAC)
        learner = learner_of(SAC, data.spec, critics=3, diversity=diversity)
        fit(learner, data, tmp_path, 60)
        likeness.append(learner.diversity_loss(whole_log(learner, data)).item())
    assert likeness[1] < likeness[0] - 0.1


# --- engine and errors ----------------------------------------------------------------------------


def test_ensembles_compile_and_run_for_several_seeds_at_once(tmp_path: Path) -> None:
    """The slopes' gradient lies within that of the losses, and that within the map over copies."""
    torch._dynamo.reset()
    options = {"critics": 3, "subset": 2, "diversity": 1.0}
    learner, batch = case(subset=2, diversity=1.0)
    compiled = torch.compile(learner.losses, fullgraph=True, backend="eager", dynamic=False)
    for name, term in learner.losses(batch).terms.items():
        torch.testing.assert_close(compiled(batch).terms[name], term)
    data = data_for(SAC)
    several = learner_of(SAC, data.spec, seeds=2, compile="off", **options)
    alone = learner_of(SAC, data.spec, compile="off", **options)
    for one in (several, alone):
        fit(one, data, tmp_path, 8)
    assert several.runner.engine.why_sequential == ""
    for name, value in alone.critic.state_dict().items():
        torch.testing.assert_close(several.critic.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subset": 0}, r"subset is 0, it must lie in \[1, 3\], the critics, or null"),
        ({"subset": 4}, r"subset is 4, it must lie in \[1, 3\], the critics, or null"),
        ({"delay": 0}, r"delay is 0 updates, it must be at least 1"),
        ({"diversity": -1.0}, r"diversity is -1.0: it must be at least 0, and above 0 needs 2 "),
        ({"diversity": 1.0, "discrete": True}, "SAC's diversity is for continuous actions"),
    ],
)
def test_argument_out_of_range_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case(**arguments)


def test_one_critic_cannot_be_diverse() -> None:
    with pytest.raises(ValueError, match=r"diversity is 1.0: .* above 0 needs 2 critics or more"):
        learner_of(SAC, data_for(SAC).spec, critics=1, diversity=1.0)
