"""Context: rows of a task, encoded into a latent vector that stands for it."""

from dataclasses import replace
from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.keys import REWARD
from hindsight_rl.maths.normal_products import Evidence
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.encoders.entries import Observation, make_inputs
from hindsight_rl.nets.encoders.history import Past
from hindsight_rl.nets.layers import mlp
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import Spec, TaskSpec


class Context(NamedTuple):
    """How a task is encoded.

    Args:
        network: Hidden layers of the encoder.
        latent: L, numbers that stand for a task.
        following: Whether the next observation is encoded too: needed where tasks differ in what
            follows an action, not only in its reward.
        log_std_range: Smallest and largest log of the spread of a row's evidence.
    """

    network: Network
    latent: int
    following: bool = False
    log_std_range: tuple[float, float] = (-5.0, 5.0)


def with_latent(spec: Spec, latent: int) -> Spec:
    """Return the spec of networks that are given a latent vector behind the task.

    Args:
        spec: The data's spec.
        latent: L.

    Returns:
        A spec whose task has L numbers more, about 1 in size.
    """
    zeros, ones = (0.0,) * latent, (1.0,) * latent
    if spec.task is None:
        return replace(spec, task=TaskSpec((latent,), zeros, ones))
    mean, std = spec.task.statistics
    return replace(spec, task=TaskSpec((spec.task.width + latent,), mean + zeros, std + ones))


class ContextEncoder(nn.Module):
    """What each row of a task says of its latent vector.

    Args:
        spec: The data's spec; a task that policies are told is no part of the context.
        context: Layers, latent numbers and what is encoded.
    """

    def __init__(self, spec: Spec, context: Context) -> None:
        super().__init__()
        self.context = context
        self.inputs, hidden = make_inputs(replace(spec, task=None), context.network)
        self.scale = ActionScale(spec.action)
        self.choices = spec.action.n if self.scale.discrete else 0
        width = self.inputs.width * (2 if context.following else 1)
        width += 1 + (self.choices or spec.action.width)
        self.net = mlp(width, hidden, 2 * context.latent)

    def forward(self, rows: TensorDict) -> Evidence:
        """Return the evidence of each row.

        Args:
            rows: TensorDict ``[..., N]`` with ``observation``, ``action``, ("next", "reward") and,
                where it counts, ("next", "observation").

        Returns:
            ``[..., N, L]``.
        """
        action = rows["action"]
        if self.choices:
            action = nn.functional.one_hot(action, self.choices).float()
        else:
            action = self.scale.to_policy(action)
        parts = [self.inputs(rows["observation"]), action, rows[REWARD].unsqueeze(-1)]
        if self.context.following:
            parts.append(self.inputs(rows["next", "observation"]))
        mean, raw = self.net(torch.cat(parts, dim=-1)).chunk(2, dim=-1)
        return Evidence.of(mean, raw.clamp(*self.context.log_std_range))


class ContextCritic(Critic):
    """Critics that are given a latent vector behind the task, and the encoder they teach.

    Args:
        spec: The data's spec.
        network: As of :class:`Critic`.
        context: Of the encoder.
        members: Number of estimates, E.
    """

    def __init__(self, spec: Spec, network: Network, context: Context, members: int) -> None:
        super().__init__(with_latent(spec, context.latent), network, members=members)
        self.encoder = ContextEncoder(spec, context)


class ContextPolicy(Policy):
    """A policy that is given a latent vector behind the task, or acts on the one it was left with.

    Args:
        spec: The data's spec.
        network: Inputs and hidden layers.
        head: Family of distributions.
        latent: L.

    Attributes:
        latent: ``[L]``, what stands for the task where none is given; 0 at first, the prior's mean.
    """

    latent: Tensor

    def __init__(self, spec: Spec, network: Network, head: Head, latent: int) -> None:
        super().__init__(with_latent(spec, latent), network, head=head)
        self.told = 0 if spec.task is None else spec.task.width
        self.register_buffer("latent", torch.zeros(latent))

    def forward(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Distribution:
        """Return the distribution of actions in policy units.

        Args:
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task; or with a latent vector behind it
                ``[..., Z + L]``.
            past: Not used.

        Returns:
            The distribution, batch shape ``[...]``.
        """
        if task is None or task.shape[-1] == self.told:
            seen = (
                observation if isinstance(observation, Tensor) else next(iter(observation.values()))
            )
            latent = self.latent.expand(*seen.shape[:-1], len(self.latent))
            task = latent if task is None else torch.cat([task, latent], dim=-1)
        return super().forward(observation, task)
