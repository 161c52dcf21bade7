"""Transfer to other dynamics: rewards less for what the target cannot do (DARC, DARA)."""

import warnings
from typing import cast

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.keys import COMPANION, DRAWS, NEXT_OBSERVATION, REWARD, Key
from hindsight_rl.maths.draws import fork, normals
from hindsight_rl.maths.dynamics_gap import corrected_reward, gap_loss, ranked_above
from hindsight_rl.nets.dynamics_gap import GapLogits, GapNet
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned import (
    choices_of,
    logged_rows,
    summed,
    transition_rows,
)
from hindsight_rl.relabel.sides import TwoSides, spread_of, two_sides

_APART = 0.99  # AUC of state and action alone, above which the sides visit other places


class DynamicsGap(TwoSides):
    """The reward of source rows plus how much likelier the step is in the target: DARC, DARA.

    Many rows come from a source (a simulator, an older robot), few from the target (the robot).
    Two classifiers learn in every update to tell them apart, one by state and action, one by the
    next state too, on as many rows of each side as the batch has rows. What the next state adds is
    log p_target(s' | s, a) - log p_source(s' | s, a), nats, which is added to the source's rewards.

    - DARC: the target's log as ``data.source`` of an ``IteratedDataModule`` with ``mix``, which
      collects in the source, and SAC.
    - DARA: two sources of an ``OfflineDataModule``, the target's first, and any learner.

    What the source cannot do, and the target can, is not found this way.

    Args:
        target: Column that is above 0 in rows of the target; ``None``: the rows of the first source
            are the target's.
        coefficient: Reward per nat, at least 0; 0 measures the gap and leaves rewards as they are.
        clip: Largest magnitude of the gap, nats, above 0.
        warmup: Updates before rewards change, at least 0.
        noise: Standard deviation of what is added to the classifiers' inputs while they learn, in
            those of the inputs, at least 0. Without noise a step that differs at all is certain to
            be of one side.
        hidden: Width of each hidden layer of both networks.
        learning_rate: Of Adam, above 0.
        train_on_target: Whether the learner is served rows of the target too, with their reward.
        seed: Of the first weights.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) the log holds no second side, or
            rows of n steps.

    Reference:
        Eysenbach et al. 2021, arXiv 2006.13916, eq. 3 and algorithm 1; offline: Liu et al. 2022,
        arXiv 2203.06662.

    Note:
        Unlike the authors' code it shows the classifiers s' - s in place of s', inputs are
        standardised, and the gap is clipped: noise then counts in units of what a step changes.
    """

    in_keys = ("observation", "action", NEXT_OBSERVATION, REWARD)
    out_keys = (REWARD,)
    adds_to_reward = True
    learned, settings, judges = "pair of classifiers", "hidden", "compares"

    def __init__(
        self,
        target: str | None = None,
        coefficient: float = 1.0,
        clip: float = 10.0,
        warmup: int = 1000,
        noise: float = 0.3,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 3e-4,
        train_on_target: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for reach in (
            at_least(0, coefficient=coefficient),
            at_least(0, noise=noise),
            above(0, clip=clip),
            above(0, learning_rate=learning_rate),
        ):
            check_ranges(reach)
        check_ranges(at_least(0, warmup=warmup), unit="updates")
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden is {list(hidden)}: every layer needs at least 1 unit")
        self.target, self.coefficient, self.clip = target, coefficient, clip
        self.warmup, self.noise, self.hidden = warmup, noise, tuple(hidden)
        self.learning_rate, self.train_on_target, self.seed = learning_rate, train_on_target, seed
        self._observed = 0
        self._is_target = torch.empty(0, dtype=torch.bool)

    @property
    def companion_reads(self) -> tuple[Key, ...]:
        """Keys it reads of the rows to tell apart."""
        return ("observation", "action", NEXT_OBSERVATION)

    def prepare(self, log: LogView) -> "DynamicsGap":
        """Return a copy that knows both sides, with networks at their first weights.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: A side has no rows, or rows are those of n steps.
        """
        self._check_steps(log)
        sides = two_sides(log, self.target, "DynamicsGap", "target")
        served = None if self.train_on_target or not len(sides.other) else sides.other
        other = self.bound(rows=served)
        # Before anything is collected there is no source, and no gap.
        source = sides.other if len(sides.other) else sides.own
        other._sides = {"target": sides.own, "source": source}
        other._is_target = torch.zeros(len(log), dtype=torch.bool)
        other._is_target[sides.own] = True
        other._choices, other._observed = choices_of(log), log.column("observation").shape[1]
        halves = [other._moves(logged_rows(log, rows)) for rows in other._sides.values()]
        other._mean, other._std = spread_of(torch.cat(halves))
        acted = len(other._mean) - 2 * other._observed
        net = GapNet(other._observed, acted, self.hidden, seed=self.seed)
        other._begin(net, self.learning_rate)
        return other

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with corrected rewards, by the networks as they are after each update.

        Args:
            batch: TensorDict ``[K, B]``.

        Returns:
            TensorDict of the same shape.

        Raises:
            ValueError: Rows are shared by seeds.
        """
        teaching, updates = self._teaching(batch), batch[DRAWS][:, :1, 1]
        sides = [self._rows(batch[COMPANION][name]) for name in ("target", "source")]
        noises = [self._noise(batch[DRAWS], name) for name in ("target", "source")]
        own, gaps = self._rows(batch), []
        for k, teaches in enumerate(teaching):
            if teaches:
                shown = [rows[k] + noise[k] for rows, noise in zip(sides, noises, strict=True)]
                self.metrics = {"gap_loss": self._learn(torch.cat(shown))}
                self._seen_updates = int(updates[k]) + 1
            with torch.no_grad():
                gaps.append(self._logits(own[k]).gap)
        gap = torch.stack(gaps)
        source = ~self._is_target.to(gap.device)[batch["index"]]
        reward = corrected_reward(
            batch[REWARD],
            gap,
            source & (updates >= self.warmup),
            coefficient=self.coefficient,
            clip=self.clip,
        )
        self._look(gap[source], [rows[-1] for rows in sides])
        if bool((updates == self.warmup).any()):
            self._check_places([rows.flatten(0, 1) for rows in sides])
        return batch.copy().set("next", batch["next"].copy().set("reward", reward))

    def _learn(self, rows: Tensor) -> Tensor:
        """Take a step of Adam on target rows and, behind them, as many source rows."""
        with torch.enable_grad():
            logits = self._logits(rows)
            target = torch.arange(len(rows), device=rows.device) < len(rows) // 2
            cost = gap_loss(logits.pair, logits.gap, target)
            loss = cost.sum() / summed(cost.new_tensor(float(len(rows))))
        self._descend(loss)
        return loss.detach()

    @torch.no_grad()
    def _look(self, gap: Tensor, sides: list[Tensor]) -> None:
        """Note the gap of source rows, and how well rows of both sides are told apart."""
        target, others = (self._logits(rows) for rows in sides)
        self.metrics = self.metrics | {
            "gap": gap.clamp(-self.clip, self.clip).sum() / max(1, len(gap)),
            "gap_auc_pair": ranked_above(target.pair, others.pair),
            "gap_auc_step": ranked_above(target.pair + target.gap, others.pair + others.gap),
        }

    @torch.no_grad()
    def _check_places(self, sides: list[Tensor]) -> None:
        """Warn where the sides are told apart by places alone."""
        target, others = (self._logits(rows).pair for rows in sides)
        if float(ranked_above(target, others)) > _APART:
            warnings.warn(
                "DynamicsGap tells target from source by state and action alone: the two logs "
                "visit other places, and the gap is a guess where the target was never seen. Log "
                "the target where the source's policy goes, or set coefficient to 0",
                stacklevel=3,
            )

    def _logits(self, rows: Tensor) -> GapLogits:
        return cast(GapLogits, cast(GapNet, self.net)(rows))

    def _moves(self, rows: Tensor) -> Tensor:
        """Return transitions with the change of state in place of the next one."""
        now, following = rows[..., : self._observed], rows[..., -self._observed :]
        return torch.cat([rows[..., : -self._observed], following - now], dim=-1)

    @torch.no_grad()
    def _rows(self, batch: TensorDict) -> Tensor:
        rows = self._moves(transition_rows(batch, self._choices))
        return (rows - self._mean.to(rows.device)) / self._std.to(rows.device)

    def _noise(self, draws: Tensor, name: str) -> Tensor:
        return self.noise * normals(fork(fork(draws, "noise"), name), len(self._mean))
