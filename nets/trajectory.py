"""A transformer of whole episodes: what every number of a step is, given all before it."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from hindsight_rl.nets.encoders.transformer import Offered, Transformer, causal
from hindsight_rl.nets.encoders.vector import Standardize
from hindsight_rl.nets.network import Attention
from hindsight_rl.nets.step_bins import StepBins
from hindsight_rl.spec import Spec


class Written(NamedTuple):
    """Beginnings of episodes, one a row, which are written on token by token.

    Attributes:
        features: ``[R, W]`` of the last token, which the next is predicted from.
        offered: What all tokens offer, by block, ``[R, heads, T, W / heads]`` each.
        known: ``[R, T]`` bool, which tokens later steps look at.
        place: ``[R]`` int64, the step that the last token is of.
        slot: Place of the next token in its step.
    """

    features: Tensor
    offered: tuple[Offered, ...]
    known: Tensor
    place: Tensor
    slot: int

    def rows(self, some: Tensor) -> "Written":
        """Return some rows ``[R']`` int64, of which some may be the same."""
        offered = tuple((key[some], value[some]) for key, value in self.offered)
        return Written(self.features[some], offered, self.known[some], self.place[some], self.slot)


class TrajectoryNet(nn.Module):
    """Logits of every token of K steps, given those before it.

    The first token is a start, to which the task is added: it holds for the whole window. Outcomes
    (reward, return to go, end) are seen by tokens of their own step only: a policy that acts does
    not know those of the past. Steps are numbered from the first that is there.

    Args:
        spec: The data's spec.
        attention: Size of the transformer.
        bins: G of every number.
        steps: K, the most that are read, at least 1.

    Raises:
        ValueError: The observation is no vector, or there are more choices than bins.
    """

    def __init__(self, spec: Spec, attention: Attention, *, bins: int, steps: int) -> None:
        super().__init__()
        self.bins = StepBins(spec, bins)
        self.slots, width = self.bins.slots, attention.width
        self.seen_later = self.bins.first["reward"]
        self.token = nn.Embedding(self.slots * bins, width)
        self.place = nn.Embedding(steps, width)
        for table in (self.token, self.place):
            nn.init.normal_(table.weight, std=0.02)
        self.start = nn.Parameter(0.02 * torch.randn(width))
        self.task = self.of_task = None
        if spec.task is not None:
            self.task = Standardize(*spec.task.statistics)
            self.of_task = nn.Linear(spec.task.width, width, bias=False)
        self.transformer = Transformer(attention)
        self.weight = nn.Parameter(0.02 * torch.randn(self.slots, bins, width))
        self.bias = nn.Parameter(torch.zeros(self.slots, bins))

    def forward(self, tokens: Tensor, valid: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the log-probabilities of each token's bins, given the tokens before it.

        Args:
            tokens: ``[..., K, D]`` int64.
            valid: ``[..., K]``, which steps are there; those that are not come first.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., K, D, G]``, nats; of the first token of all it is that of the start alone, and
            where the step before is not there it means nothing.
        """
        found = self.transformer(self._turns(tokens, valid, task), self._seen(valid))
        features = found[..., :-1, :].unflatten(-2, tokens.shape[-2:])
        logits = torch.einsum("...dw,dgw->...dg", features, self.weight) + self.bias
        return torch.log_softmax(logits.masked_fill(~self.bins.open, -torch.inf), dim=-1)

    def nats(
        self, tokens: Tensor, valid: Tensor, task: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the cross entropy of every token, and which of them count.

        The first number of all is given: nothing is known that it could be predicted from.

        Args:
            tokens: ``[..., K, D]`` int64.
            valid: ``[..., K]`` bool.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., K, D]`` each; nats, 0 where none counts, and bool.
        """
        log_prob = self(tokens, valid, task).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        follows = nn.functional.pad(valid[..., :-1], (1, 0), value=False)
        counted = valid.unsqueeze(-1) & (follows.unsqueeze(-1) | (self._slot > 0))
        return torch.where(counted, -log_prob, 0.0), counted

    def begin(self, tokens: Tensor, valid: Tensor, task: Tensor | None = None) -> Written:
        """Return episodes up to what is observed now; the action is the next to be written.

        Args:
            tokens: ``[R, P + 1, D]`` int64, of the past and the present; of the present those of
                the observation count, of the past outcomes do not.
            valid: ``[R, P]``, which steps of the past are there.
            task: ``[R, Z]`` where the spec has a task.

        Returns:
            What is written, R rows.
        """
        there = nn.functional.pad(valid.bool(), (0, 1), value=True)
        observed = self.bins.sizes["observation"]
        length = 1 + valid.shape[-1] * self.slots + observed
        turns, seen = self._turns(tokens, there, task)[:, :length], self._seen(there)
        found, offered = self.transformer.more(turns, seen[:, :length, :length])
        later = there.unsqueeze(-1) & (self._slot < self.seen_later)
        known = nn.functional.pad(later.flatten(1), (1, 0), value=True)[:, :length]
        return Written(found[:, -1], offered, known, _places(there)[:, -1], observed)

    def more(self, token: Tensor, written: Written) -> Written:
        """Return what is written after one more token ``[R]`` int64."""
        known, slot = written.known, written.slot
        own = known.new_ones(len(known), slot + 1)  # tokens of this step, with the new one
        seen = torch.cat([known[:, : known.shape[1] - slot], own], dim=1)
        # After the last token of a step the next one begins.
        place = written.place
        turn = self.token(token + slot * self.bins.bins) + self.place(place)
        found, offered = self.transformer.more(
            turn.unsqueeze(1), seen.unsqueeze(1), written.offered
        )
        later = known.new_full((len(known), 1), slot < self.seen_later)
        after = (slot + 1) % self.slots
        return Written(
            found[:, 0],
            offered,
            torch.cat([known, later], dim=1),
            place if after else place + 1,
            after,
        )

    def next_log_prob(self, written: Written) -> Tensor:
        """Return the log-probabilities ``[R, G]`` of the next token's bins, nats."""
        slot = written.slot
        logits = nn.functional.linear(written.features, self.weight[slot], self.bias[slot])
        return torch.log_softmax(logits.masked_fill(~self.bins.open[slot], -torch.inf), dim=-1)

    @property
    def _slot(self) -> Tensor:
        return torch.arange(self.slots, device=self.start.device)

    def _turns(self, tokens: Tensor, valid: Tensor, task: Tensor | None) -> Tensor:
        """Return the start and the embedded tokens, ``[..., 1 + K D, W]``."""
        start = self.start.expand(*valid.shape[:-1], -1)
        if self.task is not None and self.of_task is not None:
            if task is None:
                raise ValueError("this network is conditioned on a task: pass task [..., Z]")
            start = start + self.of_task(self.task(task))
        of_place = self.place(_places(valid)).unsqueeze(-2)
        turns = self.token(tokens + self._slot * self.bins.bins) + of_place
        return torch.cat([start.unsqueeze(-2), turns.flatten(-3, -2)], dim=-2)

    def _seen(self, valid: Tensor) -> Tensor:
        """Return what the start and each token looks at, ``[..., 1 + K D, 1 + K D]`` bool."""
        count = valid.shape[-1]
        known = valid.bool().unsqueeze(-1).expand(*valid.shape, self.slots).flatten(-2)
        step = torch.arange(count, device=valid.device).repeat_interleave(self.slots)
        lasting = (self._slot < self.seen_later).repeat(count)
        open = nn.functional.pad(lasting | (step.unsqueeze(-1) == step), (1, 0, 1, 0), value=True)
        return causal(nn.functional.pad(known, (1, 0), value=True)) & open


def _places(valid: Tensor) -> Tensor:
    """Return the number ``[..., K]`` int64 of each step, counted from the first that is there."""
    return (valid.long().cumsum(-1) - 1).clamp(min=0)
