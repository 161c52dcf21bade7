"""What a model of the dynamics is worth: its errors by horizon, and whether it knows of them.

From logged steps the model goes on by itself, under the logged actions, with a bunch of draws. How
far their mean is from what came, whether their range holds it, and whether the members disagree
where the error is large, is found for every number of steps.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    EPISODE_END,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
)
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.dynamics import UNCERTAINTIES, disagreement
from hindsight_rl.maths.horizons import PARTICLES, held, rank_correlation, sample_nll
from hindsight_rl.ports import Foresees, LogView

LEAST_CORRELATION = 0.3
"""Below this rank correlation with the error, a penalty on disagreement is mostly noise."""


class HorizonErrors(NamedTuple):
    """Errors after a number of imagined steps.

    Attributes:
        steps: How many.
        rows: Of how many starts the log goes on so far.
        error: Squared error of the mean of the draws, by the variance of the observation.
        still: The same of a model that says that nothing changes.
        reward_error: Squared error of the mean reward of the last step, by its variance.
        nll: -log density per number, nats, in standard deviations of the observation.
        coverage: Share of numbers within the range of 19 draws; .9 of a model that is right.
        correlation: Rank correlation, over the rows, of the error with the mean disagreement along
            the way, by kind.
    """

    steps: int
    rows: int
    error: float
    still: float
    reward_error: float
    nll: float
    coverage: float
    correlation: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return self._asdict()


@torch.no_grad()
def horizon_errors(
    model: Foresees,
    log: LogView,
    rows: Tensor | None = None,
    *,
    horizon: int = 10,
    starts: int = 500,
    seed: int = 0,
    numbers: int | None = None,
) -> list[HorizonErrors]:
    """Return the errors of a model for every number of steps.

    Args:
        model: In evaluation mode.
        log: Episodes of its kind.
        rows: Row numbers ``[M]`` int64 of whole episodes, held out ones say; ``None`` for all.
        horizon: Largest number of steps, at least 1.
        starts: Rows to start from at most, at even distances.
        seed: Of the draws.
        numbers: How many of the observation are looked at, the first ones; ``None`` for all.

    Returns:
        One for each number of steps; fewer where no episode is that long.

    Raises:
        ValueError: There are no rows, or a number is out of range.
    """
    if horizon < 1 or starts < 1:
        raise ValueError(f"horizon {horizon} and starts {starts} must be at least 1")
    rows = torch.arange(len(log)) if rows is None else rows
    if not len(rows):
        raise ValueError("there are no rows to look at: hold episodes out (data.validation)")
    places = torch.linspace(0, len(rows) - 1, min(starts, len(rows))).round().long()
    return _Ahead(model, log, rows, rows[places], (seed, numbers)).table(horizon)


class _Ahead:
    """Draws of a model that go on from logged rows."""

    def __init__(
        self,
        model: Foresees,
        log: LogView,
        rows: Tensor,
        starts: Tensor,
        given: tuple[int, int | None],
    ) -> None:
        self.model, self.log, self.starts = model, log, starts
        self.seed, numbers = given
        self.device = getattr(model, "device", torch.device("cpu"))
        spread = self._take(OBSERVATION, rows).double().var(0, correction=0)
        self.moves = spread > 0
        if numbers is not None:
            self.moves[numbers:] = False
        self.unit = spread.sqrt()[self.moves]
        self.reward_unit = self._take(REWARD, rows).double().std(correction=0).clamp_min(1e-12)
        self.first = self._take(OBSERVATION, starts)
        self.last = log.take(EPISODE_END, starts)

    def _take(self, key: Any, rows: Tensor) -> Tensor:
        return self.log.take(key, rows).to(self.device)

    def _action(self, rows: Tensor) -> Tensor:
        action = self._take(ACTION, rows)
        start = int(self.log.info.get("action_start") or 0)
        return action if action.is_floating_point() else action - start

    def table(self, horizon: int) -> list[HorizonErrors]:
        """Return the errors for 1 to ``horizon`` steps."""
        memory = {k: v.expand(PARTICLES, *v.shape) for k, v in self._memory().items()}
        here = self.first.expand(PARTICLES, *self.first.shape)
        nothing = torch.zeros(len(self.starts), dtype=torch.float64, device=self.device)
        doubts = {kind: nothing.clone() for kind in UNCERTAINTIES}
        number = torch.arange(PARTICLES * len(self.starts))
        found = []
        for step in range(horizon):
            going = self.starts + step <= self.last
            if int(going.sum()) < 2:  # nothing correlates
                break
            rows = torch.minimum(self.starts + step, self.last)
            draws = counters(self.seed, torch.tensor([step]), number)[0].to(self.device)
            draws = draws.reshape(PARTICLES, len(self.starts), 3)
            action = self._action(rows).expand(PARTICLES, len(rows), *self._action(rows).shape[1:])
            seen = self.model.foresee(here, action, memory, draws)
            here, memory = seen.imagined.next_observation, seen.memory
            for kind in UNCERTAINTIES:
                doubt = disagreement(seen.mean, seen.std, kind)  # type: ignore[arg-type]
                doubts[kind] += doubt.double().mean(0)  # float32 would part equal ones
            found.append(self._row(step + 1, rows, going, here, seen.imagined.reward, doubts))
        return found

    def _row(
        self,
        steps: int,
        rows: Tensor,
        going: Tensor,
        here: Tensor,
        reward: Tensor,
        doubts: dict[str, Tensor],
    ) -> HorizonErrors:
        going = going.to(self.device)
        truth = self._scaled(self._take(NEXT_OBSERVATION, rows))[going]
        samples, first = self._scaled(here)[:, going], self._scaled(self.first)[going]
        wrong = (samples.mean(0) - truth).square().mean(-1)
        rewarded = self._take(REWARD, rows)[going].double()
        off = (reward[:, going].double().mean(0) - rewarded) / self.reward_unit
        return HorizonErrors(
            steps,
            int(going.sum()),
            float(wrong.mean()),
            float((first - truth).square().mean()),
            float(off.square().mean()),
            float(sample_nll(samples, truth).mean()),
            float(held(samples, truth).double().mean()),
            {k: float(rank_correlation(v[going].cpu(), wrong.cpu())) for k, v in doubts.items()},
        )

    def _scaled(self, observation: Tensor) -> Tensor:
        return observation.double()[..., self.moves] / self.unit

    def _memory(self) -> dict[str, Tensor]:
        """Return what the model keeps at each start, of all logged steps before it."""
        memory = self.model.initial_memory(len(self.starts))
        if not memory:
            return {}
        before = self.log.take(STEP, self.starts)
        begin = self.starts - before
        kept = {name: value.clone() for name, value in memory.items()}
        for step in range(int(before.amax())):
            rows = torch.minimum(begin + step, self.starts)
            seen = self.model.foresee(self._take(OBSERVATION, rows), self._action(rows), memory)
            memory = seen.memory
            there = (before == step + 1).to(self.device)
            for name, value in memory.items():
                kept[name][there] = value[there]
        return kept
