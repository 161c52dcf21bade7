"""Returns: as a column, as a weight, over n steps, rescaled."""

import math
from typing import Literal

import torch
from tensordict import TensorDict

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import COMPANION, REWARD, Key
from hindsight_rl.maths.returns import last_rows, n_step_returns, returns_to_go
from hindsight_rl.maths.weights import exponential_weight, return_weight
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler


def _check_discount(discount: float) -> None:
    if not 0 <= discount <= 1:
        raise ValueError(f"discount is {discount}, it must lie in [0, 1]")


class ReturnToGo(Relabeler):
    """Adds ``return_to_go``: the discounted sum of rewards from this step to the episode's end.

    The reward of the step itself counts. Nothing is added at a truncated end.

    Args:
        discount: In [0, 1].

    Raises:
        ValueError: ``discount`` is outside [0, 1].
    """

    in_keys = (REWARD,)
    out_keys = ("return_to_go",)

    def __init__(self, discount: float = 0.99) -> None:
        super().__init__()
        _check_discount(discount)
        self.discount = discount

    def prepare(self, log: LogView) -> "ReturnToGo":
        """Return a copy that carries the column."""
        value = returns_to_go(
            log.column(REWARD), last_rows(log.column("episode_end")), self.discount
        ).float()
        return self.bound(columns={"return_to_go": value})


class ReturnWeight(Relabeler):
    """Adds ``weight`` from the return: EMRL (the return itself) or RWR (its exponential).

    RWR divides by the temperature after the largest return of the log has been subtracted, so the
    best row has weight 1 and nothing overflows; weights are then scaled to mean 1 over the rows
    that may be drawn, and cut at ``max_weight``.

    Args:
        rule: ``"linear"`` (EMRL; negative returns raise an error, because shifting them would
            change the answer) or ``"exponential"`` (RWR).
        score: ``"return_to_go"`` from this step on, or ``"episode"`` for the return of the whole
            episode.
        discount: In [0, 1].
        temperature: RWR only, above 0, in units of ``scale``.
        scale: RWR only: ``"std"`` measures the temperature in standard deviations of the score over
            the log, ``"reward"`` in reward units.
        max_weight: RWR only: cap after scaling to mean 1.

    Raises:
        ValueError: An argument is out of range, or (``prepare``) a return is negative, or all are
            0, under EMRL.

    Reference:
        Peters and Schaal 2007, "Reinforcement learning by reward-weighted regression"; Dayan and
        Hinton 1997, "Using expectation-maximization for reinforcement learning", eq. 5.
    """

    in_keys = (REWARD,)
    out_keys = ("weight",)

    def __init__(
        self,
        rule: Literal["linear", "exponential"] = "exponential",
        score: Literal["return_to_go", "episode"] = "return_to_go",
        discount: float = 0.99,
        temperature: float = 1.0,
        scale: Literal["std", "reward"] = "std",
        max_weight: float = 20.0,
    ) -> None:
        super().__init__()
        check_choices(ReturnWeight.__init__, locals())
        _check_discount(discount)
        if not temperature > 0 or not max_weight > 0:
            raise ValueError(
                f"temperature {temperature} and max_weight {max_weight} must be above 0"
            )
        self.rule, self.score, self.discount = rule, score, discount
        self.temperature, self.scale, self.max_weight = temperature, scale, max_weight

    def prepare(self, log: LogView) -> "ReturnWeight":
        """Return a copy that carries the column.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: A return is negative, or all are 0, under the linear rule.
        """
        value = returns_to_go(
            log.column(REWARD), last_rows(log.column("episode_end")), self.discount
        )
        if self.score == "episode":
            start = torch.arange(len(log)) - log.column("step")
            value = value[start]
        rows = log.drawable()
        if self.rule == "linear":
            _check_returns(value[rows], rows, log)
            weight = value.index_copy(0, rows, return_weight(value[rows]))
        else:
            weight = self._exponential(value, rows)
        weight = weight / weight[rows].mean().clamp_min(1e-12)
        if self.rule == "exponential":
            weight = weight.clamp(max=self.max_weight)
        return self.bound(columns={"weight": weight.float()})

    def _exponential(self, value: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        spread = value[rows].std(correction=0).clamp_min(1e-12)
        unit = float(spread) if self.scale == "std" else 1.0
        return exponential_weight(value - value[rows].max(), temperature=self.temperature * unit)


class NStep(Relabeler):
    """Makes n-step transitions: summed reward, all else of ``next`` n steps on, discount gamma**n.

    Near the end of an episode fewer steps are summed, and ``discount`` says so.

    Args:
        n: Number of steps, at least 1.
        discount: In [0, 1].

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = (REWARD,)
    out_keys = (
        REWARD,
        ("next", "observation"),
        ("next", "achieved_goal"),
        ("next", "terminated"),
        ("next", "truncated"),
        "discount",
    )

    def __init__(self, n: int, discount: float = 0.99) -> None:
        super().__init__()
        _check_discount(discount)
        if n < 1:
            raise ValueError(f"n is {n}, it must be at least 1")
        self.n, self.discount = n, discount
        self._last_row = torch.empty(0, dtype=torch.int64)

    @property
    def call_writes(self) -> tuple[Key, ...]:
        """All that is written: what ``prepare`` found is no longer about single steps either."""
        return self.out_keys

    def prepare(self, log: LogView) -> "NStep":
        """Return a copy that knows each row's sum and bootstrap row."""
        found = n_step_returns(log.column(REWARD), log.column("episode_end"), self.n, self.discount)
        other = self.bound(
            columns={REWARD: found.reward.float(), "discount": found.discount.float()}
        )
        other._last_row = found.last_row
        return other

    def companions(self, index: torch.Tensor, draws: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the row whose next observation is bootstrapped from."""
        return {"last": self._last_row[index]}

    def __call__(self, batch: TensorDict) -> TensorDict:
        """Return the batch with the far end of the n steps as what comes next."""
        last = batch[COMPANION, "last"]
        result = batch.copy()
        following = batch["next"].copy()
        for name in following.keys():
            if name != "reward":
                following.set(name, last["next", name])
        return result.set("next", following)


class ScaleReward(Relabeler):
    """Rewrites the reward: ``reward * factor + shift``, or scaled by the log's spread of returns.

    Args:
        factor: Multiplies the reward.
        shift: Added after that, reward units.
        return_range: Where given, the reward is first divided by (largest - smallest undiscounted
            return of the episodes that may be drawn) and multiplied by this number; 1000 is IQL's
            rule for locomotion.
        from_zero: Count a return of 0 among them, so that a log whose episodes earn nearly the same
            is divided by what they earn, not by how little they differ.

    Raises:
        ValueError: ``return_range`` is not above 0 or missing where ``from_zero`` needs it, or
            (``prepare``) all returns are equal.
    """

    in_keys = (REWARD,)
    out_keys = (REWARD,)

    def __init__(
        self,
        factor: float = 1.0,
        shift: float = 0.0,
        return_range: float | None = None,
        *,
        from_zero: bool = False,
    ) -> None:
        super().__init__()
        if return_range is not None and not return_range > 0:
            raise ValueError(f"return_range is {return_range}, it must be above 0")
        if from_zero and return_range is None:
            raise ValueError("from_zero is about return_range: give one, or leave from_zero out")
        self.factor, self.shift, self.return_range = factor, shift, return_range
        self.from_zero = from_zero

    def prepare(self, log: LogView) -> "ScaleReward":
        """Return a copy that carries the rescaled reward, so that later relabelers see it.

        Args:
            log: The log.

        Returns:
            The bound relabeler.

        Raises:
            ValueError: All returns are equal and ``return_range`` is given.
        """
        reward = log.column(REWARD).double()
        if self.return_range is not None:
            total = returns_to_go(reward, last_rows(log.column("episode_end")), 1.0)[
                log.column("step") == 0
            ]
            total = total[log.column("episode")[log.drawable()].unique()]
            if self.from_zero:
                total = torch.cat([total, total.new_zeros(1)])
            spread = float(total.max() - total.min())
            if spread == 0 or math.isnan(spread):
                raise ValueError(
                    "all episodes have the same return: return_range cannot scale them"
                )
            reward = reward * (self.return_range / spread)
        return self.bound(columns={REWARD: (reward * self.factor + self.shift).float()})


def _check_returns(value: torch.Tensor, rows: torch.Tensor, log: LogView) -> None:
    """Check that returns ``[M]`` of rows ``[M]`` can be weights, and that one is above 0."""
    negative = rows[value < 0].tolist()
    if negative:
        row = negative[0]
        raise ValueError(
            f"return {float(value[value < 0][0]):g} in row {row} is negative (step "
            f"{int(log.column('step')[row])} of episode {int(log.column('episode')[row])}): EMRL "
            "weighs by the return, which must be at least 0. Set rule to exponential (RWR, "
            "--config rwr), or shift the rewards yourself (ScaleReward)"
        )
    if not value.any():
        raise ValueError(
            "all returns are 0: no row would count. Give a log in which something was earned, name "
            "its reward in the column map, or collect more at first (initial_episodes)"
        )
