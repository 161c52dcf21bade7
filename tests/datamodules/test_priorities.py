"""Prioritised draws of rows: the column, what is served, resume, ranks, errors."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from lightning.pytorch.callbacks import ModelCheckpoint
from small_fits import data_for, differences, fit, learner_of
from small_replays import iterated
from tiny_envs import Walk

from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.priorities import Priorities, PriorityColumn
from hindsight_rl.keys import IMPORTANCE
from hindsight_rl.logs.errors import LogError
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.training.transition import Transition


def column(*values: float, **settings: Any) -> PriorityColumn:
    """Return a column with these priorities."""
    found = PriorityColumn(Priorities(**settings), len(values))
    found.value = torch.tensor(values, dtype=torch.float32)
    return found


def module(**options: Any) -> OfflineDataModule:
    """Return a datamodule that serves 47 rows of discrete actions by priority."""
    given = {"batch_size": 16, "updates_per_step": 4, "priorities": Priorities()} | options
    return data_for(DQN, episode_log(discrete=True), **given)


# --- the column -----------------------------------------------------------------------------------


def test_new_rows_get_the_largest_priority_and_old_ones_go_first() -> None:
    """Of 4 rows, errors 3 and 0.5; then 3 rows come, and 5 are there: the last 2 of the 4 stay."""
    found = column(1, 1, 1, 1, exponent=1.0, floor=1e-6)
    found.take(torch.tensor([0, 3]), torch.tensor([-3.0, 0.5]))
    assert found.value.tolist() == pytest.approx([3.0, 1.0, 1.0, 0.5], rel=1e-5)
    found.follow(3, 5)
    assert found.value.tolist() == pytest.approx([1.0, 0.5, 3.0, 3.0, 3.0], rel=1e-5)
    found.follow(7, 6)  # more than fit: all are new
    assert found.value.tolist() == pytest.approx([3.0] * 6, rel=1e-5)


def test_a_row_that_was_drawn_twice_gets_the_larger_error() -> None:
    found = column(1, 1, exponent=1.0)
    found.take(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[0.2, 0.0], [-0.7, 0.1]]))
    assert found.value.tolist() == pytest.approx([1e-6, 0.7], rel=1e-4)


def test_weights_by_hand() -> None:
    """Priorities 1, 4, 2; beta from .5 at update 0 to 1 at 100. Only rows 1 and 2 are drawable."""
    found = column(1, 4, 2, correction=0.5, corrected_after=100)
    index, updates = torch.tensor([[1, 2], [1, 2], [1, 2]]), torch.tensor([0, 50, 1000])
    weight = found.weight(index, updates, None)
    expected = [[0.5, 0.5**0.5], [0.25**0.75, 0.5**0.75], [0.25, 0.5]]
    torch.testing.assert_close(weight, torch.tensor(expected))
    among = found.weight(index, updates, torch.tensor([1, 2]))
    torch.testing.assert_close(among[2], torch.tensor([0.5, 1.0]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exponent": -0.1}, "exponent is -0.1, it must be at least 0"),
        ({"correction": 1.5}, r"correction is 1.5, it must lie in \[0, 1\]"),
        ({"corrected_after": 0}, "corrected_after is 0 updates, it must be at least 1"),
        ({"floor": 0.0}, "floor is 0.0, it must be above 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Priorities(**settings)


# --- what is served -------------------------------------------------------------------------------


def test_rows_are_drawn_by_priority_and_weighted_against_it() -> None:
    """One row has as much priority as all the others together: it is half of what is drawn."""
    data = module(priorities=Priorities(correction=1.0))
    assert data._priorities is not None
    data._priorities.value[7] = 46.0
    chunk = data._sampler().chunk(0, 200)
    counts = Counter(chunk["index"].flatten().tolist())
    assert 0.45 < counts[7] / 3200 < 0.55 and len(counts) == 47
    batch = data.on_after_batch_transfer(chunk, 0)
    assert IMPORTANCE not in batch.keys()
    seventh = batch["index"] == 7
    torch.testing.assert_close(batch["weight"][seventh], torch.full((counts[7],), 1 / 46))
    assert bool((batch["weight"][~seventh] == 1).all())


def test_a_weight_of_the_log_is_multiplied() -> None:
    own = torch.linspace(1.0, 3.0, 47)
    log = episode_log(discrete=True).with_columns({"weight": own})
    data = data_for(DQN, log, batch_size=16, priorities=Priorities(correction=1.0))
    assert data._priorities is not None
    data._priorities.value[:] = torch.linspace(0.5, 2.0, 47)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 4), 0)
    index = batch["index"]
    expected = own[index] * 0.5 / data._priorities.value[index]
    torch.testing.assert_close(batch["weight"], expected)


def test_rows_that_a_filter_drops_are_never_drawn() -> None:
    data = OfflineDataModule(
        episode_log(discrete=True), [TopFraction(0.4)], batch_size=64, priorities=Priorities()
    )
    assert data.log.rows is not None and data._priorities is not None
    data._priorities.value[data.log.rows[0]] = 5.0
    drawn = set(data._sampler().chunk(0, 20)["index"].flatten().tolist())
    assert drawn <= set(data.log.rows.tolist()) and len(drawn) > 1


def test_exponent_0_draws_uniformly_and_weighs_nothing(tmp_path: Path) -> None:
    """Every priority stays 1, and so does every weight."""
    data = module(priorities=Priorities(exponent=0.0))
    fit(learner_of(DQN, data.spec), data, tmp_path, 8)
    assert data._priorities is not None and data._priorities.value.tolist() == [1.0] * 47
    batch = data.on_after_batch_transfer(data._sampler().chunk(8, 4), 0)
    assert bool((batch["weight"] == 1).all())


# --- fitting --------------------------------------------------------------------------------------


def test_priorities_are_the_errors_that_a_chunk_left(tmp_path: Path) -> None:
    """After one chunk: those of its rows by the learner as it is, those of the others 1."""
    data = module()
    learner = learner_of(DQN, data.spec)
    first = data.on_after_batch_transfer(data._sampler().chunk(0, 4), 0)
    fit(learner, data, tmp_path, 4)
    found = data._priorities
    assert found is not None
    with torch.no_grad():
        error = learner.row_errors(first.flatten(0, 1))
    index = first["index"].flatten()
    torch.testing.assert_close(found.value[index], (error.abs() + 1e-6) ** 0.6)
    others = sorted(set(range(47)) - set(index.tolist()))
    assert others and found.value[others].tolist() == [1.0] * len(others)


@pytest.mark.parametrize("options", [{}, {"quantiles": 3}, {"critics": 2}], ids=str)
def test_row_errors_are_targets_minus_values(options: dict[str, Any]) -> None:
    """With squared errors of values the loss of a row is half the square of its error."""
    data = module()
    learner = learner_of(DQN, data.spec, huber=None, **options)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0].exclude("weight")
    error = learner.row_errors(batch)
    assert error.shape == (16,)
    if not options:
        expected = learner.losses(batch).terms["critic"]
        torch.testing.assert_close(0.5 * error.square().mean(), expected)
    place, share = learner.target(Transition(batch, learner.discount))
    target = (place * share).sum(-1)
    value = learner.critic(batch["observation"], batch["action"], None)
    value = value.mean(-1) if learner.returns.count else value
    torch.testing.assert_close(error, target - value.mean(0))


def assert_resumed(begun: Callable[[], tuple[Any, DQN]], folder: Path) -> None:
    """Check that a fit that goes on from one of its checkpoints ends as it did, bit for bit."""

    def saving(updates: int, name: str, ckpt_path: Path | None = None) -> dict[str, Any]:
        data, learner = begun()
        saved = ModelCheckpoint(folder / name, "{step}", every_n_train_steps=10, save_top_k=-1)
        options: dict[str, Any] = {"callbacks": [saved], "enable_checkpointing": True}
        fit(learner, data, folder, updates, ckpt_path, **options)
        path = folder / name / f"step={updates}.ckpt"
        found: dict[str, Any] = torch.load(path, weights_only=True)
        return {key: found[key] for key in ("state_dict", type(data).__name__)}

    straight = saving(40, "straight")
    resumed = saving(40, "resumed", folder / "straight" / "step=10.ckpt")
    assert differences(straight, resumed) == []


def test_a_resumed_fit_ends_with_the_same_bits(tmp_path: Path) -> None:
    def begun() -> tuple[OfflineDataModule, DQN]:
        data = module(updates_per_step=3)
        return data, learner_of(DQN, data.spec)

    assert_resumed(begun, tmp_path)


def collected() -> tuple[Any, DQN]:
    """Return a datamodule that collects a round every few updates into a small replay."""
    data = iterated(
        lambda: Walk(discrete=True),
        initial_episodes=3,
        episodes_per_round=1,
        updates_per_env_step=1.0,
        capacity=20,
        batch_size=8,
        updates_per_step=2,
        priorities=Priorities(),
    )
    return data, learner_of(DQN, data.spec)


def test_rows_that_were_collected_keep_their_priorities(tmp_path: Path) -> None:
    """The column is as long as the replay, whatever came and went."""
    data, learner = collected()
    fit(learner, data, tmp_path, 30)
    assert len(data.history) > 2 and data._priorities is not None
    assert len(data._priorities.value) == len(data.log)
    assert len(data._priorities.value.unique()) > 5


def test_resumed_collecting_ends_with_the_same_bits(tmp_path: Path) -> None:
    assert_resumed(collected, tmp_path)


def test_shares_of_origins_are_refused() -> None:
    log = episode_log(discrete=True)
    shares = {"log": 0.5, "imagined": 0.5}
    with pytest.raises(ValueError, match=r"and so does mix \{'log': 0.5, .*: leave one"):
        OfflineDataModule(
            log,
            priorities=Priorities(),
            mix=shares,
            imagined=ImaginedRows("imagined_worlds:wander", rows=4),
        )


@pytest.mark.parametrize("saved", [True, False], ids=["with", "without"])
def test_resuming_with_other_draws_is_refused(saved: bool, tmp_path: Path) -> None:
    data = module(priorities=Priorities() if saved else None)
    learner = learner_of(DQN, data.spec)
    path = tmp_path / "a.ckpt"
    fit(learner, data, tmp_path, 4).save_checkpoint(path)
    other = module(priorities=None if saved else Priorities())
    how = "with" if saved else "without"
    with pytest.raises(LogError, match=f"the run was started {how} priorities of rows"):
        fit(learner_of(DQN, other.spec), other, tmp_path, 8, ckpt_path=str(path))


# --- errors ---------------------------------------------------------------------------------------


def test_learners_without_errors_of_rows_are_refused(tmp_path: Path) -> None:
    data = data_for(DiscreteCQL, episode_log(discrete=True), priorities=Priorities())
    with pytest.raises(ValueError, match="DiscreteCQL does not say what they are: use DQN"):
        fit(learner_of(DiscreteCQL, data.spec), data, tmp_path, 4)


def test_several_seeds_are_refused(tmp_path: Path) -> None:
    data = module()
    with pytest.raises(ValueError, match="each of several seeds would draw rows of its own"):
        fit(learner_of(DQN, data.spec, seeds=2), data, tmp_path, 4)


def test_shares_of_sources_are_refused() -> None:
    log = episode_log(discrete=True)
    with pytest.raises(ValueError, match="and so does the weighing of 2 sources: leave one"):
        OfflineDataModule(type(log).concatenate([log, log], [1.0, 1.0]), priorities=Priorities())


def test_passes_over_a_round_are_refused() -> None:
    with pytest.raises(ValueError, match=r"and so does collection.epochs: leave one"):
        iterated(lambda: Walk(discrete=True), epochs=2, priorities=Priorities())
