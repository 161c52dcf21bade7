"""Chunks of actions by a transformer: what is observed and a latent style in, C actions out."""

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import DiagonalNormal
from hindsight_rl.nets.encoders.entries import Observation, make_inputs
from hindsight_rl.nets.encoders.transformer import Transformer
from hindsight_rl.nets.layers import LastLayer, mlp
from hindsight_rl.nets.network import Attention, Network
from hindsight_rl.spec import Spec


class ChunkNet(nn.Module):
    """Encoder, decoder and posterior of an action chunking transformer.

    The encoder sees two tokens: observation with task, and the latent vector. The decoder has one
    learned token for each action of the chunk, which look at each other and at the encoder's. The
    posterior sees the observation and the actions that were taken, and says which latent vector
    they come from.

    Args:
        spec: The data's spec, of continuous actions.
        network: Inputs, and hidden layers between them and their token.
        attention: Size of encoder, decoder and posterior.
        chunk: C, actions of an answer.
        latent: L, latent numbers; 0 for none, and no posterior.
    """

    log_std_range = (-5.0, 2.0)

    def __init__(
        self, spec: Spec, network: Network, attention: Attention, *, chunk: int, latent: int
    ) -> None:
        super().__init__()
        width, actions = attention.width, spec.action.width
        self.latent = latent
        self.inputs, hidden = make_inputs(spec, network)
        self.scale = ActionScale(spec.action)
        self.of_input = mlp(self.inputs.width, hidden, width)
        self.encoder = Transformer(attention)
        self.steps = nn.Parameter(0.02 * torch.randn(chunk, width))
        self.decoder = Transformer(attention, looks=True)
        self.out = LastLayer(width, actions)
        if latent:
            self.of_latent = nn.Linear(latent, width)
            self.of_action = nn.Linear(actions, width)
            self.summary = nn.Parameter(0.02 * torch.randn(width))
            self.times = nn.Parameter(0.02 * torch.randn(chunk, width))
            self.reader = Transformer(attention)
            self.moments = LastLayer(width, 2 * latent)

    def token(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the token of what is observed, ``[..., D]``."""
        found: Tensor = self.of_input(self.inputs(observation, task))
        return found

    def posterior(self, token: Tensor, action: Tensor, valid: Tensor) -> DiagonalNormal:
        """Return where chunks lie in the latent space.

        Args:
            token: ``[..., D]``, of :meth:`token`.
            action: ``[..., C, A]``, policy units.
            valid: ``[..., C]`` bool; what lies behind an episode's end is not looked at.

        Returns:
            The distribution of latent vectors, ``[..., L]``.
        """
        acted = self.of_action(action) + self.times
        first = self.summary.expand_as(token).unsqueeze(-2)
        tokens = torch.cat([first.to(acted.dtype), token.unsqueeze(-2), acted], dim=-2)
        known = torch.cat([torch.ones_like(valid[..., :1]).expand(*valid.shape[:-1], 2), valid], -1)
        # All that is not valid is seen by nobody; the first two are, so that no row is empty.
        seen = known.unsqueeze(-2).expand(*known.shape, known.shape[-1])
        read = self.reader(tokens, seen)[..., 0, :]
        mean, raw = self.moments(read).chunk(2, dim=-1)
        return DiagonalNormal(mean, raw.clamp(*self.log_std_range))

    def forward(self, token: Tensor, latent: Tensor | None = None) -> Tensor:
        """Return chunks of actions.

        Args:
            token: ``[..., D]``, of :meth:`token`.
            latent: ``[..., L]``; ``None`` for zeros.

        Returns:
            ``[..., C, A]``, policy units.
        """
        tokens = token.unsqueeze(-2)
        if self.latent:
            if latent is None:
                latent = token.new_zeros(*token.shape[:-1], self.latent)
            style = self.of_latent(latent).unsqueeze(-2)
            tokens = torch.cat([tokens.to(style.dtype), style], dim=-2)
        memory = self.encoder(tokens)
        asked = self.steps.expand(*token.shape[:-1], *self.steps.shape)
        found: Tensor = self.out(self.decoder(asked, memory=memory))
        return found
