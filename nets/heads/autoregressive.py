"""One dimension after the other, in bins, each given the bins of those before it.

    log pi(a | s) = sum_d [ log softmax(f_d(h(s), k_<d))[k_d] - log width_d[k_d] ]

The bins of bounded actions are equally wide, those of others hold about equally many actions of the
log. In training one pass with masked weights gives all conditionals of a logged action; to act, A
steps follow each other, and each takes the likeliest bin or draws one. Actions between bins are
the centres of theirs, so that the resolution is the width of a bin.

Reference: Metz et al. 2017, arXiv 1705.05035; masked weights: Germain et al. 2015, arXiv 1502.03509
(MADE); quantiles: Janner et al. 2021, arXiv 2106.02039.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from hindsight_rl.maths.bins import (
    bin_centres,
    bin_of,
    binned_log_prob,
    drawn_bin,
    drawn_lead,
    even_edges,
    lead,
    normal_share,
    quantile_edges,
)
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.executed import Units
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.heads.family import Chosen, Family, Place
from hindsight_rl.nets.layers import LastLayer, float32_linear
from hindsight_rl.nets.network import Head
from hindsight_rl.spec import ActionSpec

UNITS = 64
"""Hidden units of each dimension between the network's answer and the logits."""
LEAST_WIDTH = 1e-2
"""Of a bin between quantiles, policy units: the floor of a mixture's spread."""


class MaskedLayer(LastLayer):
    """A last layer some of whose weights are absent.

    Args:
        mask: ``[D, H]`` bool, the weights that are there.
        bias: Whether outputs have one.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)
        with torch.no_grad():
            # As if absent inputs were not there.
            share = mask.shape[1] / mask.sum(-1, keepdim=True).clamp(min=1)
            self.weight.mul_(share.sqrt() * mask)

    def forward(self, features: Tensor) -> Tensor:
        """Return the outputs ``[..., D]`` of features ``[..., H]``."""
        return float32_linear(features, self.weight * self.mask, self.bias)

    def part(self, features: Tensor, rows: slice) -> Tensor:
        """Return some outputs ``[..., d]``, which read the first features ``[..., h]`` at most."""
        weight = (self.weight * self.mask)[rows, : features.shape[-1]]
        return float32_linear(features, weight, None if self.bias is None else self.bias[rows])


class Conditionals(nn.Module):
    """The logits of each dimension given the bins of those before it.

    Args:
        width: A, dimensions of an action.
        bins: G, bins of each.
    """

    def __init__(self, width: int, bins: int) -> None:
        super().__init__()
        self.width, self.bins = width, bins
        place = torch.arange(width)
        before = place.unsqueeze(-1) > place  # of the dimension in the row
        # The first dimension, which may be the only one, has none before it.
        self.earlier = MaskedLayer(_blocks(before, UNITS, bins), False) if width > 1 else None
        self.logits = MaskedLayer(_blocks(before | torch.eye(width).bool(), bins, UNITS))

    def forward(self, context: Tensor, taken: Tensor) -> Tensor:
        """Return the logits of all dimensions at once.

        Args:
            context: ``[..., A * UNITS]``, of the state.
            taken: ``[..., A]`` int64, the bins; those from dimension d on do not reach its logits.

        Returns:
            ``[..., A, G]``.
        """
        if self.earlier is not None:
            context = context + self.earlier(self.one_hot(taken).flatten(-2))
        logits: Tensor = self.logits(torch.relu(context)).unflatten(-1, (self.width, self.bins))
        return logits

    def one_hot(self, taken: Tensor) -> Tensor:
        """Return bins ``[...]`` as numbers ``[..., G]`` float32, one of which is 1."""
        place = torch.arange(self.bins, device=taken.device)
        return (taken.unsqueeze(-1) == place).to(self.logits.bias.dtype)

    def hidden_at(self, place: int, context: Tensor, taken: list[Tensor]) -> Tensor:
        """Return the hidden units ``[..., UNITS]`` of a dimension, given one-hot bins before it."""
        units = slice(place * UNITS, (place + 1) * UNITS)
        own = context[..., units]
        if taken and self.earlier is not None:
            own = own + self.earlier.part(torch.cat(taken, dim=-1), units)
        return torch.relu(own)

    def logits_at(self, place: int, hidden: list[Tensor]) -> Tensor:
        """Return the logits ``[..., G]`` of a dimension, given hidden units up to its own."""
        outputs = slice(place * self.bins, (place + 1) * self.bins)
        return self.logits.part(torch.cat(hidden, dim=-1), outputs)


def _blocks(pairs: Tensor, rows: int, columns: int) -> Tensor:
    """Return a mask ``[A * rows, A * columns]`` of pairs of dimensions ``[A, A]``."""
    return pairs.repeat_interleave(rows, 0).repeat_interleave(columns, 1)


class Autoregressive(NamedTuple):
    """Bins of one dimension after the other; the density is constant within a bin."""

    context: Tensor
    """``[..., A * UNITS]``, of the state."""
    edges: Tensor
    """``[A, G + 1]``, rising, policy units."""
    conditionals: Conditionals
    """Logits of a dimension given those before it."""

    def log_prob(self, action: Tensor) -> Tensor:
        """Return the log-density of actions ``[..., A]``, shape ``[...]``, nats."""
        return self._density(bin_of(action, self.edges))

    def _density(self, bins: Tensor) -> Tensor:
        logits = self.conditionals(self._context(bins), bins)
        return binned_log_prob(bins, logits, self.edges)

    def _context(self, actions: Tensor) -> Tensor:
        """Return the context of each of actions ``[..., A]``, of which a state may have several."""
        return self.context.expand(*actions.shape[:-1], self.context.shape[-1])

    def greedy(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bins that are each the likeliest after those before.

        They are not always the likeliest answer as a whole, which would take a search.

        Returns:
            The centres ``[..., A]``; the least lead of a bin over the second, ``[...]``, nats; and
            the sum of the entropies on the way, ``[...]``, nats.
        """
        net = self.conditionals
        taken: list[Tensor] = []
        hidden: list[Tensor] = []
        leads, entropies, places = [], [], []
        log_width = (self.edges[:, 1:] - self.edges[:, :-1]).log()
        for place in range(net.width):
            hidden.append(net.hidden_at(place, self.context, taken))
            logits = net.logits_at(place, hidden)
            taken.append(net.one_hot(logits.argmax(-1)))
            log_prob = torch.log_softmax(logits, -1)
            entropies.append((log_prob.exp() * (log_width[place] - log_prob)).sum(-1))
            leads.append(lead(logits))
            places.append((taken[-1] * bin_centres(self.edges[place])).sum(-1))
        return (
            torch.stack(places, -1),
            torch.stack(leads, -1).amin(-1),
            torch.stack(entropies, -1).sum(-1),
        )

    def drawn(self, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the bins that shares of the probability lead to, one dimension after the other.

        Args:
            share: ``[..., A]``, in [0, 1].

        Returns:
            The bins ``[..., A]`` int64; the place within each, ``[..., A]``, in [0, 1]; and how far
            the least clear share is from another bin, ``[...]``.
        """
        net = self.conditionals
        taken: list[Tensor] = []
        hidden: list[Tensor] = []
        context = self._context(share)
        bins, places, away = [], [], []
        for place in range(net.width):
            hidden.append(net.hidden_at(place, context, taken))
            logits = net.logits_at(place, hidden)
            chosen, inside = drawn_bin(logits, share[..., place])
            taken.append(net.one_hot(chosen))
            bins.append(chosen)
            places.append(inside)
            away.append(drawn_lead(logits, share[..., place]))
        return torch.stack(bins, -1), torch.stack(places, -1), torch.stack(away, -1).amin(-1)

    def decoded(self, bins: Tensor, place: Tensor | float) -> Tensor:
        """Return the actions ``[..., A]`` at a place in bins, 0.5 being the centre."""
        edges = self.edges.expand(*bins.shape, self.edges.shape[-1])
        lower, upper = (edges.gather(-1, (bins + k).unsqueeze(-1)).squeeze(-1) for k in (0, 1))
        return lower + (upper - lower) * place

    @property
    def mode(self) -> Tensor:
        """Return the centres of the greedy bins, ``[..., A]``."""
        return self.greedy()[0]

    def sample(self, draws: Tensor) -> Tensor:
        """Return one action ``[..., A]`` per counter ``[..., 3]``."""
        share = torch.stack([uniform(draws, d) for d in range(self.conditionals.width)], dim=-1)
        bins, place, _ = self.drawn(share)
        return self.decoded(bins, place)

    def act_on(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the action ``[..., A]`` that normal noise makes, and its log-density ``[...]``."""
        bins, place, _ = self.drawn(normal_share(noise))
        return self.decoded(bins, place), self._density(bins)

    def entropy(self) -> Tensor:
        """Return the sum of entropies along the greedy bins ``[...]``, nats.

        It is the entropy where dimensions are independent, and neither bound of it elsewhere.
        """
        return self.greedy()[2]

    def executed(self, action: Tensor, units: Units) -> Tensor:
        """Return the log-density ``[...]`` of executed actions ``[..., A]``: none is clipped."""
        found = self.log_prob(((action - units.centre) / units.scale).to(self.edges.dtype))
        return found - units.scale.log().sum()


class AutoregressiveHead(Family):
    """Bins of bounded actions, or between quantiles of the log; see this module.

    Args:
        head: As in :class:`Family`.
        action: As in :class:`Family`.
        scale: As in :class:`Family`.

    Raises:
        ValueError: Actions have no bounds, and the spec no quantiles.
    """

    choices = ("mode", "sample_mean")
    several = True
    edges: Tensor

    def __init__(self, head: Head, action: ActionSpec, scale: ActionScale) -> None:
        super().__init__(head, action, scale)
        self.outputs = self.width * UNITS
        self.draws = head.acting == "sample_mean"
        self.acting_noise = self.width if self.draws else 0
        self.register_buffer("edges", _edges(action, scale, head.bins))
        self.conditionals = Conditionals(self.width, head.bins)

    def forward(self, output: Tensor, place: Place, log_std: Tensor | None) -> Distribution:
        """Return the distribution, see :meth:`Family.forward`."""
        return Autoregressive(output, self.edges, self.conditionals)

    def act(self, distribution: Distribution, noise: Tensor | None = None) -> Chosen:
        """Return the centres of the greedy bins, or of drawn ones, and how clear they are."""
        found = cast(Autoregressive, distribution)
        if self.draws and noise is not None:
            bins, _, away = found.drawn(normal_share(noise))
            action = found.decoded(bins, 0.5)
        else:
            action, away, _ = found.greedy()
        return Chosen(action, torch.stack([away, torch.zeros_like(away)], dim=-1))

    def unstated(self, units: Units) -> str:
        """Return a reason where actions are clipped, see :meth:`Family.unstated`."""
        ends = units.place(self.edges[:, [0, -1]].T)
        room = 1e-6 * (ends[1] - ends[0])
        if bool(((ends[0] >= units.low - room) & (ends[1] <= units.high + room)).all()):
            return ""
        return "head 'autoregressive' draws actions that are clipped to the bounds"

    @property
    def not_drawn(self) -> str:
        """Return that the density of an action takes the network once more."""
        return "head 'autoregressive' asks its network again for the density of every action"

    def metrics(self, distribution: Distribution) -> dict[str, Tensor]:
        """Return nothing: the entropy along the greedy bins costs more than the loss."""
        return {}


def _edges(action: ActionSpec, scale: ActionScale, bins: int) -> Tensor:
    """Return the edges ``[A, G + 1]`` of the bins, policy units."""
    if scale.bounded:
        one = torch.ones(action.width)
        return even_edges(-one, one, bins=bins)
    if action.quantiles is None:
        raise ValueError(
            "head 'autoregressive' puts actions into bins, and the spec knows neither their bounds "
            "nor their quantiles: give action_low and action_high in the column map "
            "(--data.columns), or the spec of a log"
        )
    quantiles = scale.to_policy(torch.tensor(action.quantiles).T).T
    return quantile_edges(quantiles, bins=bins, least=LEAST_WIDTH)


FAMILY = AutoregressiveHead
