"""Networks, batches and gradients of ours, as torchrl's losses take them.

Imported as ``torchrl_oracles`` (``tests`` is on pytest's path).
"""

from typing import Any

import torch
from specs import changed
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torch import distributions as torchd
from torchrl.modules import IndependentNormal, ProbabilisticActor, TanhNormal
from torchrl.objectives import LossModule

from hindsight_rl.training.learner import Learner

KINDS = {"gaussian": IndependentNormal, "tanh_gaussian": TanhNormal}


class PolicyHead(nn.Module):
    """The policy's parameters, as torchrl's distributions take them."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return logits, or mean and spread."""
        found = self.policy(observation)
        return found.logits if self.policy.discrete else (found.mean, found.log_std.exp())


class Member(nn.Module):
    """One of our critics alone; what it shares with the others is kept out of its parameters."""

    def __init__(self, critic: nn.Module, number: int) -> None:
        super().__init__()
        self.net = critic.members[number]
        self.shared = (critic.inputs, critic.scale)

    def forward(self, observation: Tensor, action: Tensor | None = None) -> Tensor:
        """Return values ``[B, 1]``, or ``[B, n]`` of all discrete actions."""
        inputs, scale = self.shared
        features = inputs(observation)
        if action is not None:
            features = torch.cat([features, scale.to_policy(action)], dim=-1)
        return self.net(features)


def torchrl_actor(learner: Learner) -> ProbabilisticActor:
    """Return a learner's policy, one without a task."""
    policy = learner.actor
    keys = ["logits"] if policy.discrete else ["loc", "scale"]
    return ProbabilisticActor(
        TensorDictModule(PolicyHead(policy), in_keys=["observation"], out_keys=keys),
        in_keys=keys,
        distribution_class=torchd.Categorical if policy.discrete else KINDS[policy.head.kind],
    )


def torchrl_critics(learner: Learner, out_key: str) -> list[TensorDictModule]:
    """Return a learner's critics, each alone."""
    read = ["observation"] if learner.actor.discrete else ["observation", "action"]
    return [
        TensorDictModule(Member(learner.critic, number), in_keys=read, out_keys=[out_key])
        for number in range(len(learner.critic.members))
    ]


def torchrl_batch(batch: TensorDict) -> TensorDict:
    """Return a batch with flags and rewards ``[B, 1]``."""
    following = batch["next"].select("observation")
    for name in ("reward", "terminated", "truncated"):
        following[name] = batch["next", name].unsqueeze(-1)
    following["done"] = following["terminated"] | following["truncated"]
    return batch.select("observation", "action").set("next", following)


def without_scale(data: Any) -> None:
    """Bound continuous actions by [-1, 1], so that environment and policy units are one."""
    if data.spec.action.kind == "continuous":
        data.spec = changed(data.spec, action={"low": [-1.0, -1.0], "high": [1.0, 1.0]})


def network_gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Return the gradients that a loss gives to a network, by the names of its parameters."""
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, retain_graph=True)
    return dict(zip(names, found, strict=True))


def compare(found: dict[str, Tensor], loss: Tensor, theirs: LossModule, network: str) -> None:
    """Assert that torchrl's loss gives a network these gradients.

    Args:
        found: Ours, by name.
        loss: Theirs, ``[]``.
        theirs: The loss module.
        network: ``"actor"``, ``"value"``, or ``"qvalue"``, whose members torchrl stacks.
    """
    kept = getattr(theirs, f"{network}_network_params").flatten_keys(".")
    expected: dict[str, Tensor] = {}
    for key in kept.keys():
        if not kept[key].requires_grad:  # statistics of the inputs
            continue
        gradient = torch.autograd.grad(loss, kept[key], retain_graph=True)[0]
        if network == "qvalue":
            tail = key.partition("net.")[2]
            expected |= {f"members.{number}.{tail}": g for number, g in enumerate(gradient)}
        else:
            expected[key.partition("policy." if network == "actor" else "value.")[2]] = gradient
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
