"""Proposals: actions like those of the log in a state, and small perturbations of them.

A conditional variational auto-encoder (CVAE) is a model of the log: its encoder turns an action
into a normal distribution of latent numbers, its decoder turns latent numbers into an action.
Its actions are in policy units, [-1, 1] per dimension.

Reference: Sohn, Lee and Yan 2015, "Learning structured output representation using deep conditional
generative models"; in the form of Fujimoto, Meger and Precup 2019, arXiv 1812.02900.
"""

import torch
from torch import Tensor, nn

from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import DiagonalNormal
from hindsight_rl.nets.encoders.entries import Observation, make_inputs
from hindsight_rl.nets.layers import mlp, outputs
from hindsight_rl.nets.network import LatentNetwork, Network
from hindsight_rl.spec import Spec


class CVAE(nn.Module):
    """A generative model of actions given an observation, and a task where there is one.

    Args:
        spec: The data's spec, of continuous actions.
        network: Inputs, hidden layers of the encoder and of the decoder, and latent numbers per
            action, L.
        samples: Latent vectors that are kept, so that an exported policy needs no chance.
        chunk: C, actions in a row that latent numbers stand for.
        squash: Keep actions in [-1, 1]; for bounded actions.
        latent_range: Drawn latent numbers are clipped to this magnitude, above 0: what the decoder
            makes of the tails of the prior is seldom in the log.
        log_std_range: Smallest and largest log of the encoder's spread.
    """

    latents: Tensor

    def __init__(
        self,
        spec: Spec,
        network: LatentNetwork = LatentNetwork(hidden=(750, 750)),
        *,
        samples: int = 0,
        chunk: int = 1,
        squash: bool = True,
        latent_range: float = 0.5,
        log_std_range: tuple[float, float] = (-4.0, 15.0),
    ) -> None:
        super().__init__()
        network.check_ungated("an encoder with its decoder")
        width = chunk * spec.action.width
        latent = 2 * spec.action.width if network.latent is None else network.latent
        self.inputs, hidden = make_inputs(spec, network)
        self.encoder = mlp(self.inputs.width + width, hidden, 2 * latent)
        self.decoder = mlp(self.inputs.width + latent, hidden, width)
        self.latent, self.samples, self.squash = latent, samples, squash
        self.latent_range, self.log_std_range = latent_range, log_std_range
        rows = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(samples))
        self.register_buffer("latents", self.clip(normals(rows[0], latent)))

    def forward(
        self, observation: Observation, latent: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the actions that latent numbers stand for.

        Args:
            observation: ``[..., O]``.
            latent: ``[..., L]``; dimensions before those of the observation mean several actions
                per state.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., C * A]`` in policy units, in [-1, 1] where they are squashed.
        """
        found = outputs(self.decoder, beside(self.inputs(observation, task), latent))
        return torch.tanh(found) if self.squash else found

    def clip(self, noise: Tensor) -> Tensor:
        """Return latent numbers to decode ``[..., L]`` of normal ones."""
        return noise.clamp(-self.latent_range, self.latent_range)

    def encode(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> DiagonalNormal:
        """Return where actions lie in the latent space.

        Args:
            observation: ``[..., O]``.
            action: ``[..., C * A]`` in policy units.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            The distribution of latent numbers, ``[..., L]``.
        """
        features = torch.cat([self.inputs(observation, task), action], dim=-1)
        mean, raw = self.encoder(features).chunk(2, dim=-1)
        return DiagonalNormal(mean, raw.clamp(*self.log_std_range))


class Perturbation(nn.Module):
    """a + xi(s, a): an action moved by a little in each dimension.

    Args:
        spec: The data's spec, of continuous actions.
        network: Inputs and hidden layers.
        limit: Largest move, policy units.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network = Network(hidden=(400, 300)),
        *,
        limit: float,
    ) -> None:
        super().__init__()
        width = spec.action.width
        self.inputs, hidden = make_inputs(spec, network)
        self.scale = ActionScale(spec.action)
        self.net = mlp(self.inputs.width + width, hidden, width)
        self.limit = limit

    def forward(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the moved actions.

        Args:
            observation: ``[..., O]``.
            action: ``[..., A]`` in policy units; dimensions before those of the observation mean
                several actions per state.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., A]`` in policy units within the bounds.
        """
        features = beside(self.inputs(observation, task), action)
        moved = action + self.limit * torch.tanh(outputs(self.net, features))
        # Not -1 and 1: a dimension whose bounds are equal is 0.
        low, high = (self.scale.to_policy(end) for end in (self.scale.low, self.scale.high))
        return torch.clamp(moved, low.to(moved.dtype), high.to(moved.dtype))


def beside(features: Tensor, value: Tensor) -> Tensor:
    """Return features of states beside numbers of several actions per state, in their precision.

    Args:
        features: ``[..., D]``.
        value: ``[m, ..., W]``, or ``[..., W]``.

    Returns:
        ``[m, ..., D + W]``, or ``[..., D + W]``, of the dtype of ``value``.
    """
    features = features.to(value.dtype).expand(*value.shape[:-1], features.shape[-1])
    return torch.cat([features, value], dim=-1)
