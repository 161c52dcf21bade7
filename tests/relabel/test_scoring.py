"""How candidates are scored for less work, and what is left of the exact posterior."""

import itertools
from typing import Any

import pytest
import torch
from small_logs import same
from soft_logs import CORNERS, chunk_for, near, sac_for
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.posterior import SoftValues, log_partition, task_posterior
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.scoring import Scoring, some_of
from hindsight_rl.tasks.family import GoalReaching

PLAIN = Scoring()


def inverse(scoring: Scoring = PLAIN, **options: Any) -> TransitionInverseRL:
    return TransitionInverseRL(GoalReaching(0.5, kind="dense"), scoring=scoring, **options)


def valued(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return :func:`near`, and values of the logged action that lag behind reward and next value.

    They are 5 too large, and wrong from pair to pair.
    """
    found = near(batch, task, draws)
    wrong = 5.0 + 0.5 * torch.sin(7.0 * task.sum(-1) + batch["action"][..., 0])
    return SoftValues(
        found.log_prob,
        found.next_value,
        found.temperature,
        found.discount,
        lambda: (0.99 + 1 / 3) * found.next_value + wrong,
    )


def table(chunk: TensorDict, bound: TransitionInverseRL, by: str) -> Tensor:
    """Return the scores ``[K, B, N]`` under the corners, without -log pi."""
    task = torch.tensor(CORNERS).expand(*chunk.batch_size, len(CORNERS), 2)
    rows = chunk.select("action", "next").unsqueeze(-1).expand(task.shape[:-1])
    found, reward = valued(rows, task, chunk["draws"]), bound.family.reward(rows, task)
    ended = bound.family.terminated(rows, task)
    if by == "critic":
        return torch.where(ended, reward, found.value)
    return reward + found.discount * torch.where(ended, 0.0, found.next_value)


def test_by_the_critic_is_its_value_and_the_reward_where_a_task_ends() -> None:
    chunk, bound = chunk_for(inverse(Scoring("critic"), tasks=CORNERS, entropy_scale=0.0), valued)
    expected = task_posterior(table(chunk, bound, "critic"))
    torch.testing.assert_close(bound.judge(chunk).posterior, expected)
    assert float((expected - task_posterior(table(chunk, bound, "step"))).abs().max()) > 0.05


def test_by_the_critic_with_the_log_probability() -> None:
    chunk, bound = chunk_for(inverse(Scoring("critic"), tasks=CORNERS, entropy_scale=2.0), valued)
    task = torch.tensor(CORNERS).expand(*chunk.batch_size, 4, 2)
    rows = chunk.select("action", "next").unsqueeze(-1).expand(task.shape[:-1])
    scores = table(chunk, bound, "critic") - 2.0 * near(rows, task, chunk["draws"]).log_prob
    torch.testing.assert_close(bound.judge(chunk).posterior, task_posterior(scores))


def test_a_network_that_is_not_needed_is_not_asked() -> None:
    def never() -> Tensor:
        raise AssertionError("this part was not asked for")

    def one(batch: TensorDict, task: Tensor, draws: Tensor, *, by: str) -> SoftValues:
        number = near(batch, task, draws).next_value
        step, critic = (number, never) if by == "step" else (never, number)
        return SoftValues(never, step, torch.tensor(1.0), 0.99, critic)

    for by in ("step", "critic"):
        values = lambda *given, by=by: one(*given, by=by)  # noqa: E731
        relabeler = inverse(Scoring(by), tasks=CORNERS, entropy_scale=0.0)  # type: ignore[arg-type]
        chunk, bound = chunk_for(relabeler, values)
        assert bool(bound.judge(chunk).posterior.isfinite().all())


@pytest.mark.parametrize("discrete", [False, True])
def test_a_learner_is_asked_for_every_pair_as_by_itself(discrete: bool) -> None:
    sac, options = sac_for(discrete), {"tasks": CORNERS, "entropy_scale": 0.0}
    chunk, bound = chunk_for(
        inverse(Scoring("critic"), **options), sac.soft_values, discrete, updates=2, batch_size=8
    )
    scores = torch.zeros(2, 8, 4)
    with torch.no_grad():
        for number, corner in enumerate(torch.tensor(CORNERS)):
            task = corner.expand(2, 8, 2)
            value = sac.critic(chunk["observation"], chunk["action"], task)[0]
            ended = bound.family.terminated(chunk, task)
            scores[..., number] = torch.where(ended, bound.family.reward(chunk, task), value)
    torch.testing.assert_close(
        bound.judge(chunk).posterior, task_posterior(scores), rtol=0, atol=1e-5
    )


# --- refined --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("refined", [1, 2, 4, 99])
def test_the_likeliest_are_scored_by_the_step(refined: int, fraction: float) -> None:
    scoring = Scoring("critic", refined)
    chunk, bound = chunk_for(
        inverse(scoring, tasks=CORNERS, entropy_scale=0.0, fraction=fraction), valued
    )
    judged = bound.judge(chunk)
    cheap, exact = table(chunk, bound, "critic"), table(chunk, bound, "step")
    best = task_posterior(cheap, mask=judged.rows).topk(min(refined, 4), -1).indices
    likely = torch.zeros_like(cheap).scatter(-1, best, 1.0) * judged.rows.unsqueeze(-1)
    mixed = cheap.clone()
    for update in range(len(cheap)):  # the others are shifted by the mean difference
        known = likely[update] == 1.0
        mixed[update] += (exact[update][known] - cheap[update][known]).mean()
        mixed[update][known] = exact[update][known]
    expected = task_posterior(mixed, mask=judged.rows)
    torch.testing.assert_close(judged.posterior[judged.rows], expected[judged.rows])
    if refined >= 4:
        whole = task_posterior(exact, mask=judged.rows)
        torch.testing.assert_close(judged.posterior[judged.rows], whole[judged.rows])


def test_refining_comes_closer_to_the_exact_posterior() -> None:
    apart = []
    for refined in (0, 1, 2, 3):
        scoring = Scoring("critic", refined)
        chunk, bound = chunk_for(inverse(scoring, tasks=CORNERS, entropy_scale=0.0), valued)
        exact = task_posterior(table(chunk, bound, "step"))
        apart.append(float((bound.judge(chunk).posterior - exact).abs().sum(-1).mean()))
    assert apart[3] < apart[2] < apart[1] < apart[0] and apart[0] > 0.05


# --- some candidates ------------------------------------------------------------------------------


def test_each_row_scores_so_many_and_gets_one_of_them() -> None:
    seen = []

    def values(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        seen.append(task.shape[:2].numel())
        return near(batch, task, draws)

    chunk, bound = chunk_for(inverse(Scoring(candidates=3), candidates=7, fraction=0.5), values)
    judged = bound.judge(chunk)
    assert sum(seen) == 3 * int(judged.rows.sum())
    assert bool(((judged.posterior[judged.rows] > 0).sum(-1) <= 3).all())
    torch.testing.assert_close(judged.posterior.sum(-1), torch.ones(chunk.batch_size))
    assert same(bound(chunk)[1:2], bound(chunk[1:2]))  # whatever the chunk


def test_the_posterior_over_some_by_hand() -> None:
    """Log Z of a task is that of the rows that scored it; the others get no row."""
    chunk, bound = chunk_for(inverse(Scoring(candidates=2), tasks=CORNERS, entropy_scale=0.0))
    scores, posterior = table(chunk, bound, "step"), bound.judge(chunk).posterior
    seen = posterior > 0
    assert bool((seen.sum(-1) == 2).all()) and len(seen.flatten(0, 1).unique(dim=0)) == 6
    log_z = log_partition(scores, seen).unsqueeze(-2)
    expected = torch.softmax(torch.where(seen, scores - log_z, -torch.inf), -1)
    torch.testing.assert_close(posterior, expected)


def test_as_many_as_there_are_is_exact() -> None:
    chunk, plain = chunk_for(inverse(tasks=CORNERS))
    _, some = chunk_for(inverse(Scoring(candidates=4), tasks=CORNERS))
    assert torch.equal(some.judge(chunk).posterior, plain.judge(chunk).posterior)


def test_tasks_and_pairs_of_tasks_are_equally_likely() -> None:
    """3 of 5 for 20,000 rows: each task has 3/5 of the rows, each pair 3/10, four deviations."""
    updates, rows = 2000, 10
    each = counters(3, torch.arange(updates), torch.arange(5))
    chosen = some_of(each, counters(4, torch.arange(updates), torch.arange(rows)), 3)
    scored = torch.zeros(updates, rows, 5).scatter_(-1, chosen, 1.0)
    assert bool((scored.sum(-1) == 3).all())
    assert float((scored.mean((0, 1)) - 0.6).abs().max()) < 4 * (0.24 / (updates * rows)) ** 0.5
    for one, two in itertools.combinations(range(5), 2):
        together = (scored[..., one] * scored[..., two]).mean(1)  # rows of an update share an order
        error = together.std() / updates**0.5
        assert abs(float(together.mean()) - 0.3) < 4 * float(error)


def test_z_from_the_rows_that_scored_a_task_is_unbiased() -> None:
    """Over 400 updates, each with rows of its own: within four standard errors of all rows' Z."""
    chunk, bound = chunk_for(
        inverse(Scoring(candidates=2), tasks=CORNERS, entropy_scale=0.0), updates=400, batch_size=32
    )
    scores, seen = table(chunk, bound, "step"), bound.judge(chunk).posterior > 0
    apart = log_partition(scores, seen).exp() - log_partition(scores).exp()
    error = apart.std(0) / 400**0.5
    assert bool((apart.mean(0).abs() < 4 * error).all())
    assert bool((error < 0.1 * log_partition(scores).exp().mean(0)).all())


# --- half precision -------------------------------------------------------------------------------


def test_half_precision_asks_in_bfloat16_and_hardly_moves_the_posterior() -> None:
    seen = []
    sac = sac_for()

    def values(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        seen.append(torch.is_autocast_enabled("cpu"))
        return sac.soft_values(batch, task, draws)

    for by in ("step", "critic"):
        options = {"tasks": CORNERS, "entropy_scale": 0.0}
        chunk, full = chunk_for(inverse(Scoring(by), **options), values)  # type: ignore[arg-type]
        assert not any(seen)
        seen.clear()
        half = Scoring(by, precision="bfloat16")  # type: ignore[arg-type]
        _, bound = chunk_for(inverse(half, **options), values)
        found, exact = bound.judge(chunk).posterior, full.judge(chunk).posterior
        assert seen[0] and found.dtype == torch.float32
        assert 0 < 0.5 * float((found - exact).abs().sum(-1).mean()) < 0.01
        seen.clear()


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"candidates": 1}, "scoring has candidates 1: a row needs at least 2"),
        ({"refined": -1, "by": "critic"}, "scoring has refined -1 and by 'critic'"),
        ({"refined": 2}, "scoring has refined 2 and by 'step': .* set by to 'critic'"),
        ({"by": "wrong"}, "by is 'wrong', it must be 'step' or 'critic'"),
        ({"precision": "wrong"}, "precision is 'wrong', it must be"),
    ],
)
def test_arguments_out_of_range_are_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scoring(**arguments)


def test_a_running_log_z_needs_all_tasks() -> None:
    with pytest.raises(ValueError, match="a running log Z needs every task in every update"):
        inverse(Scoring(candidates=2), tasks=CORNERS, partition="running")


def test_a_learner_that_does_not_value_the_logged_action_is_an_error() -> None:
    chunk, bound = chunk_for(inverse(Scoring("critic"), tasks=CORNERS))
    with pytest.raises(ValueError, match="do not say what the logged action is worth: set by to"):
        bound(chunk)
