"""Gradient ascent on each row's task."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import learner_of
from small_logs import same
from soft_logs import chunk_for, near, sac_for
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.posterior import SoftValues, log_partition
from hindsight_rl.relabel.ascent import AscendTask
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.soft_scores import SoftScores
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching
from hindsight_rl.tasks.linear import LinearTasks

DENSE = GoalReaching(0.5, kind="dense")
BOX = LinearTasks([-1.0, -1.0], [1.0, 1.0])


def nothing(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return values that know nothing: the score is the reward."""
    zero = task.sum(-1) * 0.0
    return SoftValues(zero, zero, torch.tensor(1.0), 0.99)


def excess(bound: AscendTask, batch: TensorDict, values: Any) -> Tensor:
    soft = SoftScores(bound.family, values, bound.entropy_scale)
    with torch.no_grad():
        return bound.excess(soft, soft.rows(batch), batch["task"])


def test_a_step_by_hand() -> None:
    """Linear tasks, no critic: the slope is the row's features less their mean by exp(reward)."""
    relabeler = AscendTask(BOX, steps=1, rate=0.2, scored=64)
    chunk, bound = chunk_for(relabeler, nothing, updates=1)
    chunk.set("task", 0.1 * chunk["task"].clamp(-1, 1))
    features, task = chunk["next", "achieved_goal"][0], chunk["task"][0]
    seen: list[Tensor] = []

    def spy(batch: TensorDict, tasks: Tensor, draws: Tensor) -> SoftValues:
        seen.append(batch["next", "observation"][..., :2].squeeze(1))
        return nothing(batch, tasks, draws)

    bound.use(spy)
    result = bound(chunk)
    assert seen[1].shape == (64, 2)  # first the rows themselves, then those of log Z
    weight = torch.softmax(seen[1] @ task.T, dim=0)
    slope = features - weight.T @ seen[1]
    expected = task + 0.2 * slope / slope.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(result["task"][0], expected.clamp(-1, 1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", [DENSE, BOX], ids=["goals", "linear"])
def test_score_less_log_z_grows_and_the_row_is_that_of_its_new_task(family: Any) -> None:
    values = sac_for().soft_values
    chunk, bound = chunk_for(AscendTask(family, steps=5, rate=0.05, scored=16), values, updates=2)
    if family is BOX:
        chunk.set("task", chunk["task"].clamp(-1, 1))
    before, result = chunk.clone(), bound(chunk)
    gain = excess(bound, result, values) - excess(bound, chunk, values)
    assert float((gain > 0).float().mean()) > 0.9
    assert 0 < float(bound.metrics["task_moved"]) <= 5 * 0.05 + 1e-5
    reward = family.reward(result, result["task"])
    torch.testing.assert_close(result["next", "reward"], reward)
    assert same(chunk, before) and same(bound(chunk), result)
    if family is BOX:
        assert float(result["task"].abs().max()) <= 1.0


def test_margins_stay_in_their_range() -> None:
    family = GoalReaching((0.3, 0.6), kind="dense")
    chunk, bound = chunk_for(AscendTask(family, steps=4, rate=0.3, scored=8), nothing_but_margins)
    place = chunk["task"]
    chunk.set("task", torch.cat([place, torch.full_like(place[..., :1], 0.5)], -1))
    task = bound(chunk)["task"]
    assert bool((family.log_prior(task) > -torch.inf).all())
    assert not torch.equal(task[..., -1], chunk["task"][..., -1])


def nothing_but_margins(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
    """Return values that depend on the margin alone, on each row in its own way."""
    value = task[..., -1] * (batch["action"][..., 0] - 0.5)
    return SoftValues(value * 0.0, value, torch.tensor(1.0), 0.99)


def test_tasks_move_where_gradients_are_off() -> None:
    chunk, bound = chunk_for(AscendTask(DENSE, steps=2), near)
    moved = bound(chunk)
    with torch.inference_mode():
        assert same(bound(chunk.clone()), moved)


def test_log_z_is_that_of_all_rows_in_expectation() -> None:
    """Half as many rows, with replacement: Z is unbiased, so its mean is that of all rows."""
    chunk, bound = chunk_for(AscendTask(DENSE, scored=32), near, updates=60, batch_size=64)
    soft = SoftScores(DENSE, near, 1.0)
    rows = soft.rows(chunk)
    found = bound.excess(soft, rows, chunk["task"])
    exact = []
    for update in range(60):
        scores = soft(rows[update], chunk["task"][update].expand(64, 64, 2))
        exact.append(scores.diagonal() - log_partition(scores))
    ratio = (torch.stack(exact) - found).exp()
    assert 0.85 < float(ratio.mean()) < 1.15 and float(ratio.std()) > 0.01


def test_follows_inverse_rl_and_keeps_a_share_of_rows() -> None:
    parts = [TransitionInverseRL(DENSE, candidates=4), AscendTask(DENSE, fraction=0.5)]
    chunk, chain = chunk_for(Compose(parts), near)
    drawn = chain.relabelers[0](chunk)["task"]
    # Compose gives each part its stream: the first one alone draws otherwise.
    moved = chain(chunk)["task"]
    assert drawn.shape == moved.shape
    assert chain.metrics["task_moved"] > 0 and "entropy" in chain.metrics
    alone, bound = chunk_for(AscendTask(DENSE, fraction=0.5), near)
    kept = (bound(alone)["task"] == alone["task"]).all(-1).float().mean()
    assert 0.4 < float(kept) < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps 0 must be at least 1"),
        ({"scored": 1}, "scored 1 at least 2"),
        ({"rate": 0.0}, "rate 0.0 above 0"),
        ({"fraction": -0.5}, "fraction is -0.5"),
        ({"family": DiscreteTasks(DENSE, [[0.0, 0.0]])}, "discrete tasks have none between them"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AscendTask(**{"family": DENSE} | arguments)


def test_what_it_cannot_do_is_refused() -> None:
    chunk, bound = chunk_for(AscendTask(DENSE))
    with pytest.raises(ValueError, match="rows have none: put TransitionInverseRL before it"):
        bound(chunk.exclude("task"))
    with pytest.raises(ValueError, match="rows of one process and one learner"):
        bound(chunk.unsqueeze(1).expand(4, 2, 64))
    with pytest.raises(ValueError, match="AscendTask judges transitions by a critic"):
        bound.use(
            getattr(learner_of(BC, OfflineDataModule(episode_log()).spec), "soft_values", None)
        )
    assert chunk[DRAWS].shape == (4, 64, 3)
