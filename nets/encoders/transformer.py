"""A transformer: every token looks at those before it, and at none that is masked.

Written out, not ``nn.TransformerEncoder``: its fast path and its masks depend on the mode of the
module, it draws random numbers for dropout, and one explicit product exports to every operator set.
There is no dropout: random numbers of training are drawn from counters, and weight decay and early
stopping serve small logs.

Reference: Vaswani et al. 2017, arXiv 1706.03762, with the norm before each part: Xiong et al. 2020,
arXiv 2002.04745.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hindsight_rl.nets.network import Attention

Offered = tuple[Tensor, Tensor]
"""Keys and values of tokens, by which others look at them."""


class MultiHead(nn.Module):
    """Attention of several heads: softmax(Q K' / sqrt(d)) V, side by side, and a linear layer.

    Args:
        width: D of every token, a multiple of ``heads``.
        heads: How many.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, 1.0 / math.sqrt(width // heads)
        self.asks = nn.Linear(width, width)
        # A bias of keys moves no softmax: its gradient is rounding, and Adam would follow it.
        self.keys = nn.Linear(width, width, bias=False)
        self.values = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, asking: Tensor, offering: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return what tokens take from others.

        Args:
            asking: ``[..., T, D]``.
            offering: ``[..., S, D]``.
            seen: ``[..., T, S]`` bool, what each looks at, at least one; ``None`` for all.

        Returns:
            ``[..., T, D]``.
        """
        return self.take(asking, self.offer(offering), seen)

    def offer(self, offering: Tensor) -> Offered:
        """Return keys and values of tokens ``[..., S, D]``, ``[..., heads, S, D / heads]`` each."""
        return self._split(self.keys(offering)), self._split(self.values(offering))

    def take(self, asking: Tensor, offered: Offered, seen: Tensor | None = None) -> Tensor:
        """Return what tokens take from others, ``[..., T, D]``; see :meth:`forward`.

        Args:
            asking: ``[..., T, D]``.
            offered: What :meth:`offer` returned of S tokens.
            seen: ``[..., T, S]`` bool, ``None`` for all.

        Returns:
            ``[..., T, D]``.
        """
        query, (key, value) = self._split(self.asks(asking)), offered
        score = torch.matmul(query, key.transpose(-1, -2)) * self.scale
        if seen is not None:
            score = score.masked_fill(~seen.unsqueeze(-3), -math.inf)
        # Exactly 0 for what is not seen, so that it leaves no trace, not even of rounding.
        taken = torch.matmul(torch.softmax(score, dim=-1).to(value.dtype), value)
        found: Tensor = self.out(taken.transpose(-2, -3).flatten(-2))
        return found

    def _split(self, tokens: Tensor) -> Tensor:
        """Return ``[..., heads, T, D / heads]``."""
        heads: Tensor = tokens.unflatten(-1, (self.heads, -1))
        return heads.transpose(-2, -3)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x)); a decoder looks at a memory in between.

    Args:
        attention: Width and heads.
        looks: Whether the tokens look at a memory, too.
    """

    def __init__(self, attention: Attention, *, looks: bool = False) -> None:
        super().__init__()
        width = attention.width
        self.first, self.own = nn.LayerNorm(width), MultiHead(width, attention.heads)
        self.second = nn.LayerNorm(width) if looks else None
        self.there = MultiHead(width, attention.heads) if looks else None
        self.last = nn.LayerNorm(width)
        self.net = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )

    def forward(
        self, tokens: Tensor, seen: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """Return the tokens ``[..., T, D]`` after this block."""
        normed = self.first(tokens)
        tokens = tokens + self.own(normed, normed, seen)
        if self.second is not None and self.there is not None and memory is not None:
            tokens = tokens + self.there(self.second(tokens), memory)
        moved: Tensor = tokens + self.net(self.last(tokens))
        return moved

    def more(self, tokens: Tensor, seen: Tensor, before: Offered | None) -> tuple[Tensor, Offered]:
        """Return tokens ``[..., T, D]`` that follow S others, and what all S + T offer.

        Args:
            tokens: ``[..., T, D]``.
            seen: ``[..., T, S + T]`` bool, what each looks at.
            before: What the S others offer, ``None`` for none.

        Returns:
            Both.
        """
        normed = self.first(tokens)
        key, value = self.own.offer(normed)
        if before is not None:
            key, value = torch.cat([before[0], key], -2), torch.cat([before[1], value], -2)
        tokens = tokens + self.own.take(normed, (key, value), seen)
        return tokens + self.net(self.last(tokens)), (key, value)


class Transformer(nn.Module):
    """Blocks and a last norm; all of them are passed through, and the last one is read.

    Args:
        attention: Width, heads and number of blocks.
        looks: Whether the tokens look at a memory, too.
    """

    def __init__(self, attention: Attention, *, looks: bool = False) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(attention, looks=looks) for _ in range(attention.layers))
        self.norm = nn.LayerNorm(attention.width)

    def forward(
        self, tokens: Tensor, seen: Tensor | None = None, memory: Tensor | None = None
    ) -> Tensor:
        """Return the tokens after the last block.

        Args:
            tokens: ``[..., T, D]``.
            seen: ``[..., T, T]`` bool, what each token looks at, see :func:`causal`; ``None``: all.
            memory: ``[..., S, D]``, where they look at one.

        Returns:
            ``[..., T, D]``.
        """
        for block in self.blocks:
            tokens = block(tokens, seen, memory)
        found: Tensor = self.norm(tokens)
        return found

    def more(
        self, tokens: Tensor, seen: Tensor, before: Sequence[Offered] = ()
    ) -> tuple[Tensor, tuple[Offered, ...]]:
        """Return tokens that follow others, without computing those again.

        Args:
            tokens: ``[..., T, D]``.
            seen: ``[..., T, S + T]`` bool, what each looks at of all.
            before: What the S tokens before offer, by block, as this returned it; empty for none.

        Returns:
            ``[..., T, D]``, the last T that :meth:`forward` returns of all; and what all offer.
        """
        offered = []
        for number, block in enumerate(self.blocks):
            given = before[number] if before else None
            tokens, kept = cast(Block, block).more(tokens, seen, given)
            offered.append(kept)
        return self.norm(tokens), tuple(offered)


def causal(valid: Tensor) -> Tensor:
    """Return what each of T tokens in order looks at: valid ones up to itself, and itself.

    Args:
        valid: ``[..., T]`` bool; False for padding, at which no other token looks.

    Returns:
        ``[..., T, T]`` bool; padding looks at something, so that it stays finite.
    """
    place = torch.arange(valid.shape[-1], device=valid.device)
    earlier = place.unsqueeze(-1) >= place
    return (earlier & valid.unsqueeze(-2)) | (place.unsqueeze(-1) == place)
