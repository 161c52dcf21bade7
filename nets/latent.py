"""LatentPolicy: actions decoded from a latent vector, fitted with an encoder beside the decoder."""

from typing import NamedTuple

from torch import Tensor, nn

from hindsight_rl.maths.latent import decoder_constant, decoder_error, latent_divergence
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.cloning import Density
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import LatentNetwork
from hindsight_rl.nets.proposals import CVAE
from hindsight_rl.spec import Spec


class LatentLoss(NamedTuple):
    """The parts of a row's loss, one draw of the latent vector each."""

    loss: Tensor
    """``[...]``, what is fitted, nats."""
    divergence: Tensor
    """``[...]``, from the encoder's distribution to the prior, nats."""
    bound: Tensor
    """``[...]``, at most log pi(a | s) on average over draws, nats, in policy units."""


class LatentPolicy(nn.Module):
    """p(a | s) = E over l ~ N(0, 1) of N(a; D(s, l), std^2).

    Args:
        spec: The data's spec, of continuous actions.
        network: Inputs, hidden layers of encoder and decoder, and latent numbers.
        chunk: C, actions of an answer.
        std: Spread of logged actions about what is decoded, policy units.
        kl_weight: Weight of the divergence, at least 0; 1 makes the loss a bound.
        free_bits: Nats of each latent number that cost nothing, at least 0.
    """

    density: Density = "bound"
    kind = "latent"

    def __init__(
        self,
        spec: Spec,
        network: LatentNetwork = LatentNetwork(),
        *,
        chunk: int = 1,
        std: float = 0.1,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale = ActionScale(spec.action)
        self.model = CVAE(spec, network, chunk=chunk, squash=self.scale.bounded)
        self.width = spec.action.width
        self.std, self.kl_weight, self.free_bits = std, kl_weight, free_bits

    @property
    def row_noise(self) -> int:
        """Normal numbers that the loss of a row needs, and an action is decoded from: L."""
        return self.model.latent

    def parts(
        self,
        observation: Observation,
        chunk: Tensor,
        noise: Tensor,
        task: Tensor | None = None,
        valid: Tensor | None = None,
    ) -> LatentLoss:
        """Return the loss of each row, and what it is made of.

        Args:
            observation: ``[B, O]``.
            chunk: ``[B, C, A]``, logged actions in environment units.
            noise: ``[B, L]`` standard normal.
            task: ``[B, Z]`` where the spec has a task.
            valid: ``[B, C]`` bool, which of the actions are there; ``None`` for all.

        Returns:
            The parts, ``[B]`` each.
        """
        action = self.scale.to_policy(chunk)
        code = self.model.encode(observation, action.flatten(-2), task)
        latent, _ = code.act_on(noise)
        decoded = self.model(observation, latent, task).unflatten(-1, (-1, self.width))
        there = action.new_ones(action.shape[:-1]) if valid is None else valid.to(action.dtype)
        error = (decoder_error(action, decoded, std=self.std) * there).sum(-1)
        divergence, counted = latent_divergence(code.mean, code.log_std, free=self.free_bits)
        constant = decoder_constant(self.width, std=self.std) * there.sum(-1)
        loss = error + self.kl_weight * counted
        return LatentLoss(loss, divergence, -error - constant - divergence)

    def row_loss(
        self,
        observation: Observation,
        action: Tensor,
        task: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return what imitating each action costs, see :class:`hindsight_rl.nets.cloning.Clones`.

        Args:
            observation: ``[B, O]``.
            action: ``[B, A]`` in environment units.
            task: ``[B, Z]`` where the spec has a task.
            noise: ``[B, L]`` standard normal.

        Returns:
            ``[B]``, nats.

        Raises:
            ValueError: The noise is missing.
        """
        if noise is None:
            raise ValueError("the loss of a latent policy needs noise: pass noise [B, L]")
        return self.parts(observation, action.unsqueeze(-2), noise, task).loss

    def decode(
        self, observation: Observation, latent: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the actions that latent numbers stand for.

        Args:
            observation: ``[..., O]``.
            latent: ``[..., L]``.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., C, A]`` in environment units within the bounds.
        """
        decoded = self.model(observation, latent, task).unflatten(-1, (-1, self.width))
        return self.scale.to_environment(decoded)
