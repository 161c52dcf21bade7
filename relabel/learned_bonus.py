"""Bonuses that a network learns from the batches of a fit: what it does not know yet is new."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_ranges, within
from hindsight_rl.keys import DRAWS, NEXT_OBSERVATION, REWARD, Key
from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.nets.novelty import Distillation
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.bonus import (
    Pay,
    Sign,
    Unit,
    check_learning,
    chosen_columns,
    newest_rows,
    standard,
)
from hindsight_rl.relabel.learned import LearnedStep

_CLIP = 5.0  # standard deviations beyond which a number says no more


class LearnedBonus(LearnedStep):
    """Base class of bonuses that learn: one step of Adam for every update, then the bonus.

    The scale of the bonus is found once in every round, from the newest rows as they are known
    then; it is part of the state, beside weights and Adam's averages.

    Args:
        pay: How the bonus enters the reward.
        share: Of the rows of an update, that are learned from, in (0, 1].

    Raises:
        ValueError: ``share`` is out of range.
    """

    reads: ClassVar[tuple[Key, ...]]
    """Columns that bonuses are made of."""
    _unit: Unit

    def __init__(self, pay: Pay, share: float = 1.0) -> None:
        super().__init__()
        check_ranges(within("(0, 1]", share=share))
        self.pay, self.share, self.explores = pay, share, pay.explores
        self._seen_updates = 0

    @property
    def updates(self) -> int:
        """Updates seen."""
        return self._seen_updates

    @abstractmethod
    def _loss(self, rows: TensorDict) -> Tensor:
        """Return what learning from each of some rows ``[M]`` costs, ``[M]``."""

    @abstractmethod
    def _bonus(self, rows: TensorDict) -> Tensor:
        """Return the bonus ``[M]`` of rows, not scaled."""

    def _with_unit(self, log: LogView) -> Self:
        """Return itself, with a scale that the newest rows of a log will give."""
        self._unit = Unit(self.pay, *newest_rows(log, self.reads))
        return self

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with bonuses in its reward, each known after its own update.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by processes or seeds.
        """
        if self.pay.nothing:
            return batch
        numbers = batch[DRAWS][:, 0, 1].tolist()
        teaching = self._teaching(batch) if self.learns else [False] * len(numbers)
        scale = self._unit.of(self._given)
        learned = uniform(fork(batch[DRAWS], "learned")) < self.share
        rows, bonuses = batch.select(*self.reads, "index"), []
        for k, (teaches, number) in enumerate(zip(teaching, numbers, strict=True)):
            if teaches:
                self._learn(rows[k], learned[k])
                self._seen_updates = number + 1
            bonuses.append(self._given(rows[k]))
        bonus = torch.stack(bonuses) / scale
        self.metrics = self.metrics | {"bonus": bonus.mean()}
        return self.pay.into(batch, bonus)

    @torch.no_grad()
    def _given(self, rows: TensorDict) -> Tensor:
        device = self.weights[0].device if self.weights else rows.device
        return self._bonus(rows.to(device) if device is not None else rows)

    def _learn(self, rows: TensorDict, learned: Tensor) -> None:
        """Take a step of Adam on some of the rows ``[B]``; none is no step."""
        with torch.enable_grad():
            loss = (self._loss(rows) * learned).sum() / learned.sum().clamp_min(1)
        self._descend(loss)
        self.metrics = {"bonus_loss": loss.detach()}

    def _further_state(self) -> dict[str, Any]:
        """Return the number of updates and the scale."""
        return {"updates": self._seen_updates, "unit": self._unit.state_dict()}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        self._seen_updates = int(state["updates"])
        self._unit.load_state_dict(state["unit"])


class RND(LearnedBonus):
    """Adds the error of a network that learns what a random one says of where a step led.

    It falls with every visit, and never again rises. Noise that can be looked at for ever is new
    for ever: use the information of ``DisagreementBonus`` there. It is an episodic bonus: what
    follows an end is worth nothing; the paper's other one needs two critics.

    Args:
        coefficient: Of the bonus, at least 0; at 1 it is as large as returns of 1, at 0 rows stay
            as they are.
        keep: Factor of the reward that rows have, at least 0; the paper's is 2.
        sign: ``"bonus"`` where a policy collects; ``"penalty"`` keeps one that does not near the
            log.
        columns: Places of the next observation that are looked at; ``None`` for all.
        hidden: Widths of the hidden layers; the random network has one fewer.
        outputs: Numbers that the random network says, at least 1.
        learning_rate: Of Adam, above 0.
        share: Of the rows of an update, that are learned from, in (0, 1].
        scale: Divide by the spread of the discounted sums of bonuses; else they are as they come.
        discount: Of these sums, in [0, 1).
        seed: Of the first weights.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) columns are not there, or
            (``__call__``) rows are shared by processes or seeds.

    Reference:
        Burda et al. 2018, arXiv 1810.12894; as a penalty: Rezaeifar et al. 2022, arXiv 2106.06431.
    """

    in_keys = (NEXT_OBSERVATION,)
    out_keys = (REWARD,)
    adds_to_reward = True
    reads = (NEXT_OBSERVATION,)
    learned, settings = "random network distillation", "columns, hidden and outputs"

    def __init__(
        self,
        coefficient: float = 1.0,
        keep: float = 1.0,
        sign: Sign = "bonus",
        columns: Sequence[int] | None = None,
        hidden: Sequence[int] = (128, 128),
        outputs: int = 32,
        learning_rate: float = 1e-4,
        share: float = 0.25,
        scale: bool = True,
        discount: float = 0.99,
        seed: int = 0,
    ) -> None:
        super().__init__(Pay(coefficient, keep, sign, discount, scale), share)
        check_learning(hidden, learning_rate)
        check_ranges(within("[1, inf)", outputs=outputs))
        self.places, self.hidden, self.outputs = columns, tuple(hidden), outputs
        self.learning_rate, self.seed = learning_rate, seed
        self._places: list[int] = []
        self._mean = self._spread = torch.empty(0)

    @property
    def weights(self) -> list[Tensor]:
        """The parameters of the network that learns; none before it is bound."""
        return self._parameters(learned=True)

    def _parameters(self, *, learned: bool) -> list[Tensor]:
        every = () if self.net is None else self.net.parameters()
        return [weight for weight in every if weight.requires_grad is learned]

    def prepare(self, log: LogView) -> "RND":
        """Return a copy with networks at their first weights, and the spread of the log.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: Columns are not there.
        """
        other = self.bound()
        other._places = chosen_columns(log, NEXT_OBSERVATION, self.places)
        value = log.column(NEXT_OBSERVATION)[:, other._places]
        other._mean, other._spread = standard(value, log)
        net = Distillation(len(other._places), self.hidden, self.outputs, seed=self.seed)
        other._begin(net, self.learning_rate)
        return other._with_unit(log)

    def _further_state(self) -> dict[str, Any]:
        """Return the random network too, which is that of the run."""
        fixed = [weight.clone() for weight in self._parameters(learned=False)]
        return super()._further_state() | {"target": fixed}

    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        super()._load_further_state(state)
        with torch.no_grad():
            pairs = zip(self._parameters(learned=False), state["target"], strict=True)
            for weight, saved in pairs:
                weight.copy_(saved)

    def _loss(self, rows: TensorDict) -> Tensor:
        if self.net is None:
            raise RuntimeError("RND was not prepared")
        value = rows[NEXT_OBSERVATION][..., self._places]
        mean, spread = self._mean.to(value.device), self._spread.to(value.device)
        found: Tensor = self.net(((value - mean) / spread).clamp(-_CLIP, _CLIP))
        return found

    _bonus = _loss
