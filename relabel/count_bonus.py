"""Bonus of counts: what was seen less often is worth more."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hindsight_rl.arguments import above, check_choices, check_ranges, within
from hindsight_rl.keys import ACTION, NEXT_OBSERVATION, OBSERVATION, Key
from hindsight_rl.maths.counts import cells, count_bonus, counts_of, sign_codes
from hindsight_rl.maths.draws import counters, fork, normals
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.bonus import Pay, RowBonus, Sign, chosen_columns, standard


class CountBonus(RowBonus):
    """Adds 1 / sqrt(N) to the reward, N being how often the log was there.

    Counts are exact: those of the whole log, found anew in every round of an
    ``IteratedDataModule``, so that the bonus of an old row shrinks too. Episodes of evaluation know
    the environment's reward only. It is an episodic bonus: what follows an end is worth nothing.

    A bonus makes no action attractive that was never tried, where values begin at 0: let them begin
    higher, or explore with the heads of ``DQN``.

    Args:
        coefficient: Of the bonus, at least 0; at 1 it is as large as returns of 1, at 0 rows stay
            as they are.
        keep: Factor of the reward that rows have, at least 0.
        sign: ``"bonus"`` where a policy collects; ``"penalty"`` keeps one that does not near the
            log (anti-exploration).
        by: ``"hash"``: signs of random projections of the standardised observation, near ones alike
            (SimHash); ``"cell"``: cells of a grid.
        bits: Number of signs, in [1, 62].
        width: Side of a cell, in the unit of the observation, above 0.
        columns: Places of the observation that are looked at; ``None`` for all.
        of: ``"state"``, where the step led; ``"step"``, state and action, of choices.
        scale: Divide by the spread of the discounted sums of bonuses; else they are as they come.
        discount: Of these sums, in [0, 1).
        seed: Of the projections.

    Raises:
        ValueError: An argument is out of range or none of its choices, or (``prepare``) columns are
            not there, or actions are real numbers and steps are counted.

    Reference:
        Tang et al. 2017, arXiv 1611.04717; as a penalty: Rezaeifar et al. 2022, arXiv 2106.06431.
    """

    in_keys: tuple[Key, ...] = (NEXT_OBSERVATION,)

    def __init__(
        self,
        coefficient: float = 0.1,
        keep: float = 1.0,
        sign: Sign = "bonus",
        by: Literal["hash", "cell"] = "hash",
        bits: int = 16,
        width: float = 1.0,
        columns: Sequence[int] | None = None,
        of: Literal["state", "step"] = "state",
        scale: bool = True,
        discount: float = 0.99,
        seed: int = 0,
    ) -> None:
        super().__init__(Pay(coefficient, keep, sign, discount, scale))
        check_choices(CountBonus.__init__, locals())
        check_ranges(within("[1, 62]", bits=bits))
        check_ranges(above(0, width=width))
        self.by, self.bits, self.width, self.of = by, bits, width, of
        self.places, self.seed = columns, seed
        if of == "step":
            self.in_keys = (OBSERVATION, ACTION)
        self.count = torch.empty(0, dtype=torch.int64)

    def prepare(self, log: LogView) -> "CountBonus":
        """Return a copy that knows how often the log was where each row led.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: Columns are not there, or steps of actions that are real numbers are
                counted.
        """
        other = self.bound()
        codes = self._codes(log)
        counted = torch.zeros(len(codes), dtype=torch.bool)
        counted[log.drawable()] = True
        other.count = counts_of(codes, counted).clamp_min(1)
        other._known(log, count_bonus(other.count))
        return other

    def _codes(self, log: LogView) -> Tensor:
        """Return what tells places apart, ``[N, F]`` int64."""
        key: Key = NEXT_OBSERVATION if self.of == "state" else OBSERVATION
        value = log.column(key)[:, chosen_columns(log, key, self.places)]
        codes = cells(value, self.width) if self.by == "cell" else self._hashes(value, log)
        if self.of == "state":
            return codes
        action = log.column(ACTION)
        if action.is_floating_point():
            raise ValueError(
                "CountBonus counts steps of choices, and the actions of this log are real numbers: "
                "set of to 'state'"
            )
        return torch.cat([codes, action.unsqueeze(-1)], dim=-1)

    def _hashes(self, value: Tensor, log: LogView) -> Tensor:
        mean, spread = standard(value, log)
        bits = counters(self.seed, torch.zeros(1, dtype=torch.int64), torch.arange(self.bits))
        directions = normals(fork(bits, "directions")[0], value.shape[1])
        return sign_codes((value - mean) / spread, directions).unsqueeze(-1)
