"""How many steps after an action the state answers it.

The change of the state, x[t + 1] - x[t], is correlated with the action of k steps ago, given what
the state says already: x[t] and x[t] - x[t - 1]. Without these, feedback would be taken for an
answer: a controller's action follows the state, so it goes with the state's later changes. Given
the state, an action shows where it acts: a velocity or a force in the change, a target in the
distance that is left. Every action is compared with the one number of the state that it moves most.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.quality import episode_means

# Shares of a column below which what is left of it is rounding of float32: a change is the small
# difference of two numbers.
_ROUNDING, _ROUNDING_OF_CHANGES = 1e-5, 1e-3


class Response(NamedTuple):
    """How the state of a log answers its actions, over the P that it answers most."""

    actions: Tensor
    """``[P]`` int64, dimensions of the action."""
    states: Tensor
    """``[P]`` int64, the number of the state that answers each."""
    strength: Tensor
    """``[K + 1]``, mean squared partial correlation at each lag, in [0, 1]."""
    of_change: Tensor
    """``[2 D + 1, P]``, weights by which the state tells its change."""
    of_action: Tensor
    """``[K + 1, 2 D + 1, P]``, weights by which it tells the action of so many steps ago."""

    @property
    def lag(self) -> int:
        """Steps at which the correlation is largest."""
        return int(self.strength.argmax())


def response(
    action: Tensor, state: Tensor, episode: Tensor, most: int, least: float = 0.2, kept: int = 6
) -> Response | None:
    """Return how a log's state answers its actions.

    Args:
        action: ``[N, A]`` real.
        state: ``[N, D]``, standardised: digits are lost where a mean is large.
        episode: ``[N]`` int64, rows of one episode adjacent.
        most: K, the largest lag, in steps, at least 1.
        least: Smallest magnitude of a correlation that counts as an answer, in (0, 1).
        kept: Largest P.

    Returns:
        The response; ``None`` where no action is answered, or the log is too short to say so: it
        needs ten rows for each lag, and ten for each number of the state.
    """
    rows = _rows(episode, most)
    if not state.shape[1] or len(rows) < 10 * max(most + 1, 2 * state.shape[1] + 1):
        return None
    known, change = _known(state, rows), _change(state, rows)
    inverse = _inverse(known.T @ known)
    of_change = inverse @ (known.T @ change)
    left = change - known @ of_change
    left *= left.norm(dim=0) > _ROUNDING_OF_CHANGES * change.norm(dim=0)
    correlations, of_action = [], []
    for lag in range(most + 1):
        cause = action[rows - lag].double()
        mean = cause.mean(0)
        cause -= mean  # whose square would take digits from that of the rest
        products = known.T @ cause
        told = inverse @ products
        # Of the action, what the state does not tell; what is left of the change is orthogonal to
        # the rest already.
        square = cause.square().sum(0)
        rest = square - (products * told).sum(0)
        norm = torch.where(rest > _ROUNDING**2 * square, rest, torch.inf).sqrt()
        correlations.append((cause.T @ left) / norm[:, None])
        told[-1] += mean
        of_action.append(told)
    size = left.norm(dim=0)
    found = torch.stack(correlations) / torch.where(size > 0, size, 1.0)
    best, which = found.abs().amax(0).max(-1)
    pairs = best.argsort(descending=True, stable=True)[:kept]
    pairs = pairs[best[pairs] > least].sort().values
    if not len(pairs):
        return None
    states = which[pairs]
    strength = found[:, pairs, states].square().mean(-1)
    weights = torch.stack(of_action)[..., pairs]
    return Response(pairs, states, strength, of_change[:, states], weights)


def episode_lags(
    action: Tensor, state: Tensor, episode: Tensor, count: int, known: Response
) -> tuple[Tensor, Tensor]:
    """Return the lag of each episode, and whether it is clear.

    Args:
        action: ``[N, A]`` real.
        state: ``[N, D]``, standardised as before.
        episode: ``[N]`` int64, below ``count``.
        count: E.
        known: The response of the log.

    Returns:
        ``[E]`` int64, steps; and ``[E]`` bool, false for an episode that has fewer than ten rows
        for each lag, or answers with less than half of the log's strength.
    """
    most = len(known.strength) - 1
    rows = _rows(episode, most)
    action, of, told = action[:, known.actions].double(), episode[rows], _known(state, rows)
    change = _change(state[:, known.states], rows)
    own = _Own.of(state[:, known.states], rows, of, count)
    left = own.cleared(change - told @ known.of_change)
    size = episode_means(left.square(), of, count)
    strength = []
    for lag in range(most + 1):
        cause = own.cleared(action[rows - lag] - told @ known.of_action[lag])
        norm = (size * episode_means(cause.square(), of, count)).sqrt()
        product = episode_means(left * cause, of, count)
        strength.append((product / torch.where(norm > 0, norm, 1.0)).square().mean(-1))
    best, lags = torch.stack(strength, -1).max(-1)
    held = torch.bincount(of, minlength=count)
    return lags, (held >= 10 * (most + 1)) & (best > 0.5 * known.strength.max())


class _Own(NamedTuple):
    """What each answering number says itself, fitted episode by episode.

    The weights of the whole log are those of its usual lag; an episode of another lag has others.
    """

    known: Tensor
    """``[M, P, 3]``: the number, its last change and 1."""
    inverse: Tensor
    """``[E, P, 3, 3]``."""
    episode: Tensor
    """``[M]`` int64."""

    @classmethod
    def of(cls, state: Tensor, rows: Tensor, episode: Tensor, count: int) -> "_Own":
        """Return it for numbers ``[N, P]`` at rows ``[M]`` of episodes."""
        now = state[rows]
        known = torch.stack([now, now - state[rows - 1], torch.ones_like(now)], -1)
        gram = episode_means(known[..., :, None] * known[..., None, :], episode, count)
        return cls(known, _inverse(gram), episode)

    def cleared(self, values: Tensor) -> Tensor:
        """Return what it does not say of columns ``[M, P]``."""
        products = episode_means(self.known * values[..., None], self.episode, len(self.inverse))
        weights = (self.inverse @ products[..., None])[..., 0]
        return values - (self.known * weights[self.episode]).sum(-1)


def _rows(episode: Tensor, most: int) -> Tensor:
    """Return the rows ``[M]`` that have one after them and ``most`` before, in their episode."""
    before, reach = max(1, most), max(1, most) + 1
    inside = episode[reach:] == episode[: max(0, len(episode) - reach)]
    return inside.nonzero()[:, 0] + before


def _known(state: Tensor, rows: Tensor) -> Tensor:
    """Return what the state says: its numbers, their last change and 1, ``[M, 2 D + 1]``."""
    now = state[rows].double()
    last = now - state[rows - 1].double()
    return torch.cat([now, last, torch.ones_like(now[:, :1])], 1)


def _change(state: Tensor, rows: Tensor) -> Tensor:
    return state[rows + 1].double() - state[rows].double()


def _inverse(gram: Tensor) -> Tensor:
    """Return pseudo-inverses of products of columns ``[..., W, W]``, each column counting alike."""
    norm = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    norm = torch.where(norm > 0, norm, 1.0)
    scale = norm[..., :, None] * norm[..., None, :]
    found: Tensor = torch.linalg.pinv(gram / scale, rtol=1e-8, hermitian=True)
    return found / scale
