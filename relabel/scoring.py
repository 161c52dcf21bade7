"""Which pairs of rows and candidate tasks are scored, and how: all exactly, or for less work."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_choices
from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.draws import fork, integers, uniform
from hindsight_rl.maths.posterior import refined_scores
from hindsight_rl.relabel.soft_scores import Precision, Score, SoftScores


@dataclass(frozen=True)
class Scoring:
    """How candidates are scored; docs/hipi.md says what each choice costs and changes.

    Args:
        by: ``"step"``, reward and value of the next state; ``"critic"``, the critic's value of the
            logged action (the reward where a task ends), one pass of a network in place of two: the
            same once a critic without entropy has converged.
        refined: Candidates of each row, the likeliest by the critic, that are then scored by the
            step; the critic's scores of the others are shifted by the mean difference.
        candidates: How many each row is scored under, at least 2, drawn anew for every row: it gets
            one of them, and log Z of a task is that of the rows that scored it. ``None`` for all.
        precision: Of the hidden layers of the networks that are asked: ``"bfloat16"`` is faster
            where the processor computes in it.

    Raises:
        ValueError: An argument is out of range, or two do not go together.
    """

    by: Score = "step"
    refined: int = 0
    candidates: int | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_choices(Scoring, vars(self))
        if self.candidates is not None and self.candidates < 2:
            raise ValueError(
                f"scoring has candidates {self.candidates}: a row needs at least 2 to choose from"
            )
        if self.refined < 0 or (self.refined and self.by != "critic"):
            raise ValueError(
                f"scoring has refined {self.refined} and by '{self.by}': it is at least 0, and "
                "what is scored by the step cannot be refined by it; set by to 'critic'"
            )


Posterior = Callable[[Tensor, Tensor], Tensor]
"""``(scores [K, B, N], counted) -> [K, B, N]``."""


@torch.no_grad()
def table_of(
    scoring: Scoring,
    soft: SoftScores,
    batch: TensorDict,
    tasks: Tensor,
    each: Tensor,
    judged: Tensor,
    posterior: Posterior,
) -> tuple[Tensor, Tensor]:
    """Return the scores of rows under the tasks of their update, and which of them count.

    Args:
        scoring: Which are computed, and how.
        soft: Scores by ``scoring.by`` in its precision.
        batch: TensorDict ``[K, B]``.
        tasks: ``[K, N, Z]``.
        each: ``[K, N, 3]`` int64 counters of the tasks, the same on every rank.
        judged: ``[K, B]`` bool, the rows that are scored.
        posterior: What chooses the likeliest of each row.

    Returns:
        ``[K, B, N]``, nats, -inf for pairs that are not scored; what counts for log Z, ``[K, B]``
        or ``[K, B, N]`` bool.
    """
    count, rows = tasks.shape[-2], soft.rows(batch)
    if scoring.candidates is None or scoring.candidates >= count:
        scores, counted = _under_all(soft, rows, tasks, judged), judged
    else:
        chosen = some_of(each, batch[DRAWS], scoring.candidates)
        nothing = torch.full((*judged.shape, count), -torch.inf, device=tasks.device)
        scores = _under_some(soft, rows, tasks, judged, chosen, nothing)
        seen = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, chosen, True)
        counted = judged.unsqueeze(-1) & seen
    if scoring.refined:
        most = min(scoring.refined, scoring.candidates or count, count)
        best = posterior(scores, counted).topk(most, -1).indices
        step = _under_some(replace(soft, score="step"), rows, tasks, judged, best, scores)
        likely = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
        scores = refined_scores(scores, step, likely & judged.unsqueeze(-1))
    return scores, counted


def _under_all(soft: SoftScores, rows: TensorDict, tasks: Tensor, judged: Tensor) -> Tensor:
    """Return the scores ``[K, B, N]``, -inf for rows that are not judged."""
    if bool(judged.all()):
        group = torch.arange(len(tasks), device=tasks.device).repeat_interleave(rows.shape[1])
        every: Tensor = soft(rows.reshape(-1), tasks, group).unflatten(0, rows.batch_size)
        return every
    scores = torch.full((*judged.shape, tasks.shape[-2]), -torch.inf, device=tasks.device)
    scores[judged] = soft(rows[judged], tasks, judged.nonzero()[:, 0])
    return scores


def _under_some(
    soft: SoftScores,
    rows: TensorDict,
    tasks: Tensor,
    judged: Tensor,
    chosen: Tensor,
    scores: Tensor,
) -> Tensor:
    """Return the scores ``[K, B, N]`` with those of judged rows under chosen tasks anew."""
    place = chosen[judged]
    own = tasks[judged.nonzero()[:, :1], place]
    anew = scores[judged].scatter(-1, place, soft(rows[judged], own))
    scores = scores.clone()
    scores[judged] = anew
    return scores


def some_of(each: Tensor, draws: Tensor, size: int) -> Tensor:
    """Return which tasks each row is scored under: neighbours on a ring, in an order of the update.

    Every task is as likely as any other, and so is every pair; one sort an update, not a row.

    Args:
        each: ``[K, N, 3]`` int64 counters of the tasks.
        draws: ``[K, B, 3]`` int64 counters of the rows.
        size: How many, at most N.

    Returns:
        ``[K, B, size]`` int64, all different.
    """
    count = each.shape[1]
    order = uniform(fork(each, "order")).argsort(-1)
    start = integers(fork(draws, "scored"), count).unsqueeze(-1)
    place = (start + torch.arange(size, device=draws.device)) % count
    chosen: Tensor = order.gather(1, place.flatten(1)).unflatten(1, place.shape[1:])
    return chosen
