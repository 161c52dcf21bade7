"""IteratedDataModule: rounds, what Lightning is handed, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from small_fits import Kept, equal, fit, learner_of, trainer_in, weights
from small_replays import iterated
from tiny_envs import HORIZON, Walk

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.returns import ReturnToGo
from hindsight_rl.tasks.family import GoalReaching

REACH, WALK = "tiny_envs:Tiny/Reach-v0", "tiny_envs:Tiny/Walk-v0"


def data_of(env: Any = WALK, relabel: Any = None, **options: Any) -> IteratedDataModule:
    """Return a small datamodule."""
    plain = {"initial_episodes": 4, "episodes_per_round": 3, "batch_size": 8, "num_envs": 2}
    return iterated(env, relabel, **plain | {"updates_per_step": 5} | options)


class Watcher(Callback):
    """Keeps first update and size of every chunk, and the weights before and after it."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, int]] = []
        self.before: list[Any] = []
        self.after: list[Any] = []

    def on_train_batch_start(self, trainer: Any, learner: Any, batch: Any, *_: Any) -> None:
        """Keep what the chunk begins with."""
        self.chunks.append((trainer.global_step, len(batch)))
        self.before.append(weights(learner))

    def on_train_batch_end(self, trainer: Any, learner: Any, *_: Any) -> None:
        """Keep what the chunk ends with."""
        self.after.append(weights(learner))


# --- rounds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [1.0, 0.3, 2.5, 1e-6])
def test_updates_follow_the_steps_of_each_round(share: float, tmp_path: Path) -> None:
    data, watcher = data_of(updates_per_env_step=share), Watcher()
    fit(learner_of(BC, data.spec), data, tmp_path, 60, callbacks=[watcher])
    steps = np.diff([0, *(each.env_steps for each in data.history)])
    for each, taken in zip(data.history, steps, strict=True):
        assert each.updates == max(1, round(share * taken))
        assert each.mean_length * (4 if each.update == 0 else 3) == pytest.approx(taken)
    begins = [each.update for each in data.history]
    assert begins == [0, *(each.end for each in data.history[:-1])] and begins[-1] < 60
    assert [each.episodes for each in data.history] == [4 + 3 * n for n in range(len(begins))]
    # Chunks hold K updates, cut where a round or training ends.
    ends = [*(each.end for each in data.history[:-1]), 60]
    wanted = []
    for begin, end in zip(begins, ends, strict=True):
        wanted += [(at, min(5, end - at)) for at in range(begin, end, 5)]
    assert watcher.chunks == wanted


def test_chunks_are_cut_at_marks_too(tmp_path: Path) -> None:
    data, watcher = data_of(), Watcher()
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=7)
    options = {"callbacks": [watcher, saved], "enable_checkpointing": True}
    fit(learner_of(BC, data.spec), data, tmp_path, 60, **options)
    stops = [first + size for first, size in watcher.chunks]
    assert set(range(7, 60, 7)) <= set(stops) and {each.end for each in data.history[:-1]} <= {
        *stops
    }


def test_the_policy_that_collects_is_the_one_after_the_last_update(tmp_path: Path) -> None:
    """However far the loader runs ahead: rows of a round have the actions of those weights."""
    data, watcher = data_of(sample=False, num_envs=1), Watcher()
    learner = learner_of(BC, data.spec)
    fit(learner, data, tmp_path, 90, callbacks=[watcher])
    assert len(data.history) > 3
    for before, each in zip(data.history[:-1], data.history[1:], strict=True):
        number = [first for first, _ in watcher.chunks].index(each.update)
        assert equal(watcher.after[number - 1], watcher.before[number])
        learner.load_state_dict(watcher.before[number])
        rows = slice(before.env_steps, each.env_steps)
        seen = data.log.column("observation", rows)
        # One by one, as they were asked for: a batch is rounded in another way.
        action = torch.cat([learner(row[None]) for row in seen])
        assert torch.equal(action, data.log.column("action", rows))
        learner.load_state_dict(watcher.before[number - 1])
        assert not torch.equal(learner(seen), data.log.column("action", rows))


def test_collecting_leaves_the_learner_as_it_is(tmp_path: Path) -> None:
    class Modes(BC):
        def act(self, *given: Any, **named: Any) -> Any:
            assert torch.is_inference_mode_enabled() and self.training and not self.actor.training
            return super().act(*given, **named)

        def on_train_start(self) -> None:
            super().on_train_start()
            self.actor.eval()

    data = data_of()
    fit(learner_of(Modes, data.spec), data, tmp_path, 40)
    assert len(data.history) > 1


@pytest.mark.parametrize("num_envs", [1, 4])
def test_episodes_do_not_depend_on_who_plays_beside_them(num_envs: int, tmp_path: Path) -> None:
    one, other = (data_of(num_envs=n, explore=0.5) for n in (2, num_envs))
    for data in (one, other):
        fit(learner_of(BC, data.spec), data, tmp_path, 40)
    first = slice(0, one.history[1].env_steps)
    for key in one.log.keys():
        torch.testing.assert_close(one.log.column(key, first), other.log.column(key, first))


def test_the_oldest_episodes_go(tmp_path: Path) -> None:
    data = data_of(capacity=30)
    fit(learner_of(BC, data.spec), data, tmp_path, 80)
    assert 30 - HORIZON < len(data.log) <= 30 < data.history[-1].env_steps


def test_where_the_replay_lies_changes_nothing(tmp_path: Path) -> None:
    """Relabelers with columns of their own included."""
    ends = []
    for folder in (None, str(tmp_path / "replay")):
        data = data_of(REACH, [ReturnToGo(), FutureGoal()], capacity=40, memory_map=folder)
        learner = learner_of(BC, data.spec)
        fit(learner, data, tmp_path, 80)
        ends.append(weights(learner))
    assert equal(*ends)
    assert bool(data.log.info.get("memory_mapped"))


def test_windows_are_there_from_the_first_round(tmp_path: Path) -> None:
    """The replay is bound before there is a learner; its chunks hold what the learner reads."""
    data = data_of(updates_per_env_step=0.5)
    learner = learner_of(BC, data.spec, history=2)
    first = weights(learner)
    fit(learner, data, tmp_path, 4)
    assert len(data.history) == 1
    assert not equal(first, weights(learner))


def test_relabelers_are_prepared_anew_and_given_the_learner(tmp_path: Path) -> None:
    class Noting(Relabeler):
        out_keys = ("rows_seen",)
        rows_seen: list[int] = []
        given: list[Any] = []

        def prepare(self, log: Any) -> Relabeler:
            self.rows_seen.append(len(log))
            rows = torch.full([len(log)], float(len(log)))
            return self.bound(columns={"rows_seen": rows})

        def use(self, values: Any) -> None:
            self.given.append(values)

        def __call__(self, batch: Any) -> Any:
            self.calls = getattr(self, "calls", 0) + 1
            return batch

        def state_dict(self) -> dict[str, Any]:
            return {"calls": self.calls}

        def load_state_dict(self, state: Any) -> None:
            self.calls = state.get("calls", 0)

    class Soft(BC):
        optional_keys = ("rows_seen",)

        def soft_values(self, *_: Any) -> None:
            """Be asked for."""

        def losses(self, batch: Any) -> Any:
            assert (batch["rows_seen"] == Noting.rows_seen[-1]).all()
            return super().losses(batch)

    data, watcher = data_of(relabel=[Noting()]), Watcher()
    learner = learner_of(Soft, data.spec)
    fit(learner, data, tmp_path, 60, callbacks=[watcher])
    assert Noting.rows_seen == [each.env_steps for each in data.history]
    assert len(Noting.given) == len(data.history) > 2
    assert all(found == learner.soft_values for found in Noting.given)
    # What it learned from batches outlives a round, and is part of the checkpoint.
    assert data.state_dict()["relabel"]["0"]["calls"] > len(watcher.chunks) > len(data.history)


# --- what is told ---------------------------------------------------------------------------------


def test_metrics_are_logged_at_the_update_of_each_round(tmp_path: Path) -> None:
    data, kept = data_of(), Kept()
    learner = learner_of(BC, data.spec)
    fit(learner, data, tmp_path, 60, logger=kept)
    assert kept.steps_of("collect/return") == [each.update for each in data.history]
    lines = [m for _, m in kept.lines if "collect/return" in m]
    assert [line["collect/env_steps"] for line in lines] == [e.env_steps for e in data.history]
    newest = data.history[-1]
    rows = slice(data.history[-2].env_steps, newest.env_steps)
    reward = data.log.column(("next", "reward"), rows)
    assert newest.mean_return == pytest.approx(float(reward.sum()) / 3, rel=1e-5)
    assert learner.latest["collect/return"] == newest.mean_return
    assert learner.latest["collect/episodes"] == newest.episodes
    assert learner.latest["collect/length"] == newest.mean_length
    assert learner.latest["collect/success"] == newest.success


def test_spec_comes_from_the_first_episodes() -> None:
    data = data_of(REACH, [FutureGoal()])
    assert (data.spec.action.low, data.spec.action.high) == ((-1.0, -1.0), (1.0, 1.0))
    assert data.spec.task.shape == (2,)
    mean = data.log.column("observation").mean(0).tolist()
    assert data.spec.whole.mean == pytest.approx(mean)
    assert data.spec.dataset.source == (REACH,) and data.spec.dataset.episodes == 4
    assert data_of(lambda: Walk(discrete=True), max_episode_steps=9).spec.action.n == 2


# --- learners -------------------------------------------------------------------------------------


def test_learners_that_sweep_the_log_sweep_every_round(tmp_path: Path) -> None:
    class Sweeping(AWR):
        rows: list[int] = []

        def training_step(self, chunk: Any, batch_idx: int) -> None:
            super().training_step(chunk, batch_idx)
            self.rows.append(len(self.log_pass.columns["advantage"]))

    data, watcher = data_of(capacity=40), Watcher()
    learner = learner_of(Sweeping, data.spec, sweep_every=1000)
    fit(learner, data, tmp_path, 80, callbacks=[watcher])
    assert len(set(learner.rows)) > 2 and learner.rows[-1] == len(data.log)


def test_iql_learns_on_what_it_collects(tmp_path: Path) -> None:
    data = data_of(batch_size=32)
    learner = learner_of(IQL, data.spec)
    fit(learner, data, tmp_path, 60)
    assert all(np.isfinite(value) for value in learner.latest.values())


def test_gcsl_learns_to_reach_goals(tmp_path: Path) -> None:
    """BC on what was reached, iterated: random play ends at about 1 in 5 goals."""
    data = data_of(
        REACH,
        [FutureGoal(GoalReaching(radius=0.3))],
        initial_episodes=50,
        episodes_per_round=20,
        batch_size=64,
        updates_per_step=32,
        num_envs=10,
    )
    learner = learner_of(BC, data.spec, network=Network(hidden=(64, 64)), compile="off")
    learner.build_optimizer = lambda groups: torch.optim.Adam(groups, lr=3e-3)
    fit(learner, data, tmp_path, 500)
    assert data.history[0].success < 0.45 < 0.8 < data.history[-1].success


# --- Lightning ------------------------------------------------------------------------------------


def test_batches_of_other_loaders_pass(tmp_path: Path) -> None:
    data = data_of()
    trainer = trainer_in(tmp_path, 10)
    parts = trainer.predict(learner_of(BC, data.spec), data)
    rows = torch.cat([part["index"] for part in parts])
    assert rows.equal(torch.arange(data.history[0].env_steps)) and data.val_dataloader() == []


def test_environments_are_closed_in_the_end(tmp_path: Path) -> None:
    made: list[Any] = []

    class Closing(Walk):
        closed = False

        def close(self) -> None:
            self.closed = True

    def make() -> Any:
        made.append(Closing())
        return made[-1]

    data = data_of(make)
    assert len(made) == 2 and not any(env.closed for env in made)
    fit(learner_of(BC, data.spec), data, tmp_path, 40)
    assert len(made) == 2 and all(env.closed for env in made)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0, it must be at least 1"),
        ({"updates_per_step": 0}, "updates_per_step is 0, it must be at least 1"),
        ({"initial_episodes": 0}, "initial_episodes is 0, it must be at least 1"),
        ({"episodes_per_round": 0}, "episodes_per_round is 0, it must be at least 1"),
        ({"updates_per_env_step": 0.0}, "updates_per_env_step is 0.0, it must be above 0"),
        ({"capacity": 0}, "capacity is 0 rows"),
        ({"capacity": 3}, "does not fit a capacity of 3 rows"),
        ({"explore": 1.5}, r"explore is 1.5, it must lie in \[0, 1\]"),
        ({"seed": -1}, "seed is -1: it may not be negative"),
    ],
)
def test_argument_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_of(**options)


@pytest.mark.parametrize(
    ("arguments", "data", "message"),
    [
        ({"seeds": 2}, {}, "model.seeds is 2, but each seed would need experience of its own"),
        ({}, {"seed": 1_000_000}, "data.seed is 1000000, which is the seed of evaluation"),
        ({}, {"seed": 2_000_000}, "data.seed is 2000000, which is the seed of evaluation"),
    ],
)
def test_learner_that_does_not_go_with_it_is_refused(
    arguments: dict[str, Any], data: dict[str, Any], message: str, tmp_path: Path
) -> None:
    served = data_of(**data)
    with pytest.raises(ValueError, match=message):
        fit(learner_of(BC, served.spec, **arguments), served, tmp_path, 10)


def test_several_processes_are_refused() -> None:
    data = data_of()
    data.trainer = type("Trainer", (), {"world_size": 2, "lightning_module": None})()
    with pytest.raises(ValueError, match="2 processes would each collect .* trainer.devices to 1"):
        data.train_dataloader()


def test_keys_that_are_missing_are_named(tmp_path: Path) -> None:
    class Needy(BC):
        in_keys = ("observation", "weight")

    data = data_of()
    with pytest.raises(
        LogError, match="the learner needs 'weight', .* Add ColumnWeight or ReturnWeight"
    ):
        fit(learner_of(Needy, data.spec), data, tmp_path, 10)


def test_a_second_fit_needs_a_datamodule_of_its_own(tmp_path: Path) -> None:
    data = data_of()
    fit(learner_of(BC, data.spec), data, tmp_path, 40)
    with pytest.raises(ValueError, match=r"has collected until update \d+ and the trainer is at 0"):
        fit(learner_of(BC, data.spec), data, tmp_path, 40)


def test_tasks_without_anybody_to_give_them_are_refused() -> None:
    class Tasks(Relabeler):
        out_keys = ("task",)

        def __call__(self, batch: Any) -> Any:
            return batch.copy().set("task", torch.zeros(*batch.shape, 3))

    with pytest.raises(
        LogError, match=r"nothing gives the policy one .* Give collection.command, or"
    ):
        data_of(WALK, [Tasks()])
    with pytest.raises(LogError, match=r"write tasks of shape \(3,\), and the policy .* \(2,\)"):
        data_of(REACH, [Tasks()])
