"""Learners with a deterministic policy, as torchrl's losses take them.

Imported as ``deterministic_oracles`` (``tests`` is on pytest's path).
"""

from typing import Any

import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torch import Tensor, nn
from torchrl.objectives import LossModule
from torchrl_oracles import compare, network_gradients, without_scale

from hindsight_rl.training.learner import Learner


def unit_case(kind: type[Learner], **arguments: Any) -> tuple[Learner, TensorDict]:
    """Return a learner of actions in [-1, 1], the unit torchrl reads, and a batch of such."""
    data = data_for(kind, episode_log())
    without_scale(data)
    learner = learner_of(kind, data.spec, **arguments)
    batch = whole_log(learner, data)
    batch["action"] = batch["action"].clamp(-3, 3) / 3.1
    return learner, batch


class Point(nn.Module):
    """The policy's action."""

    def __init__(self, policy: nn.Module) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor) -> Tensor:
        """Return actions ``[B, A]``."""
        return self.policy(observation).mode


def torchrl_point(learner: Learner) -> TensorDictModule:
    """Return a learner's policy, one without a task."""
    return TensorDictModule(Point(learner.actor), in_keys=["observation"], out_keys=["action"])


def move_targets(learner: Learner, theirs: LossModule, *networks: str) -> None:
    """Add 0.1 to every parameter of the target networks, so that they differ from what they follow.

    Args:
        learner: Ours.
        theirs: The loss module, made of the learner's networks.
        *networks: Its names of them.
    """
    with torch.no_grad():
        for name in learner.targets:
            for parameter in getattr(learner, name).parameters():
                parameter += 0.1
        for name in networks:
            online = getattr(theirs, f"{name}_network_params").flatten_keys(".")
            target = getattr(theirs, f"target_{name}_network_params").flatten_keys(".")
            for key in online.keys():
                if online[key].requires_grad:  # and not what the inputs are standardised with
                    target[key].data.add_(0.1)


def assert_twin_equals(
    learner: Learner, batch: TensorDict, theirs: LossModule, expected: TensorDict
) -> None:
    """Assert equal terms and gradients of a learner with twin critics and torchrl's loss.

    Args:
        learner: Ours.
        batch: What both were given.
        theirs: The loss module.
        expected: What it answered.
    """
    terms = learner.losses(batch).terms
    for name, theirs_name in (("actor", "actor"), ("critic", "qvalue")):
        loss = expected[f"loss_{theirs_name}"]
        torch.testing.assert_close(terms[name], loss, rtol=1e-5, atol=1e-6)
        found = network_gradients(getattr(learner, name), terms[name])
        compare(found, loss, theirs, theirs_name)
