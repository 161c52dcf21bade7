"""On-policy rounds: one round is held, in shuffled passes; ratios of 1, resumes, ranks."""

import itertools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import Job, fit_job, run_jobs
from lightning.pytorch.callbacks import Callback
from small_fits import Kept, check_resumed, fit, learner_of
from small_replays import columns, iterated, log_of
from tiny_envs import HORIZON, Walk
from torch import Tensor

from hindsight_rl.agents.ppo import PPO
from hindsight_rl.datamodules.counter_grid import CounterGrid
from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.diagnostics.watch import Watch
from hindsight_rl.keys import ACTION_LOG_PROB
from hindsight_rl.maths.policy_gradient import generalized_advantages
from hindsight_rl.training.learner import Learner

REACH, WALK = "tiny_envs:Tiny/Reach-v0", "tiny_envs:Tiny/Walk-v0"


def choosing() -> Walk:
    return Walk(discrete=True)


def data_of(env: Any = WALK, **options: Any) -> IteratedDataModule:
    """Return a small datamodule of on-policy rounds."""
    plain = {"initial_episodes": 4, "episodes_per_round": 6, "epochs": 3, "num_envs": 2}
    return iterated(env, **plain | {"batch_size": 8, "updates_per_step": 5, "seed": 3} | options)


class Looking(Callback):
    """Keeps row numbers, ratios and columns of every chunk as it is trained on."""

    def __init__(self) -> None:
        self.chunks: list[tuple[int, Tensor]] = []
        self.off: dict[int, float] = {}

    def on_train_batch_start(self, trainer: Any, learner: Any, batch: Any, *_: Any) -> None:
        """Keep what the chunk begins with."""
        self.chunks.append((trainer.global_step, batch["index"]))
        with torch.no_grad():
            log_ratio, _ = learner.log_ratio(batch[0])
        self.off[trainer.global_step] = float((log_ratio.exp() - 1.0).abs().max())


def steps_of(data: IteratedDataModule) -> list[int]:
    """Return the steps of each round, the random one left out."""
    taken = [each.env_steps for each in data.history]
    return [after - before for before, after in itertools.pairwise(taken)]


def rows_by_round(data: IteratedDataModule, looking: Looking) -> list[Tensor]:
    """Return the row numbers ``[M]`` that each round was served, in order."""
    found = []
    for each in data.history[1:]:
        served = [index for first, index in looking.chunks if each.update <= first < each.end]
        found.append(torch.cat([index.flatten() for index in served]))
    return found


# --- rounds ---------------------------------------------------------------------------------------


def test_only_the_last_round_is_held(tmp_path: Path) -> None:
    data = data_of()
    fit(learner_of(PPO, data.spec), data, tmp_path, 60)
    steps = steps_of(data)
    assert len(data.log) == steps[-1] and int(data.log.column("episode").max()) == 5
    assert data.history[0].updates == 0  # random episodes: of no policy
    for each, taken in zip(data.history[1:], steps, strict=True):
        assert each.updates == max(1, 3 * taken // 8)
    begins = [each.update for each in data.history]
    assert begins[:2] == [0, 0] and begins[2:] == [each.end for each in data.history[1:-1]]


def test_every_row_comes_once_in_each_pass(tmp_path: Path) -> None:
    data, looking = data_of(), Looking()
    fit(learner_of(PPO, data.spec), data, tmp_path, 60, callbacks=[looking])
    passes = []
    steps = steps_of(data)
    for served, count in zip(rows_by_round(data, looking)[:-1], steps, strict=False):
        assert len(served) == 3 * count // 8 * 8
        passes += [each for each in served.split(count) if len(each) == count]
    assert len(passes) > 6
    for each in passes:
        assert torch.equal(each.sort().values, torch.arange(len(each)))
        assert not torch.equal(each, torch.arange(len(each)))
    assert not any(itertools.starmap(torch.equal, itertools.pairwise(passes)))


def test_passes_are_functions_of_seed_and_place() -> None:
    def passes(seed: int, updates: range, first: int = 10) -> Tensor:
        grid = CounterGrid([seed], torch.tensor(list(updates)), torch.arange(4))
        return grid.passes(6, first, 4).flatten()

    whole = passes(0, range(10, 16))  # four passes of six rows
    assert torch.equal(whole[8:], passes(0, range(12, 16)))
    assert not torch.equal(whole, passes(1, range(10, 16)))
    assert not torch.equal(whole, passes(0, range(16, 22), first=16))
    for each in whole.split(6):
        assert sorted(each.tolist()) == list(range(6))


def test_passes_are_shuffled_evenly() -> None:
    """Of 3000 passes over four rows each of the 24 orders comes 125 times, within 5 deviations."""
    grid = CounterGrid([5], torch.arange(3000), torch.arange(4))
    _, counts = grid.passes(4, 0, 4).squeeze(1).unique(dim=0, return_counts=True)
    assert len(counts) == 24 and int((counts - 125).abs().max()) < 5 * 125**0.5


def test_a_batch_may_be_larger_than_a_round(tmp_path: Path) -> None:
    data, looking = data_of(batch_size=128, epochs=1), Looking()
    fit(learner_of(PPO, data.spec), data, tmp_path, 3, callbacks=[looking])
    assert [each.updates for each in data.history] == [0, 1, 1, 1]
    counts = looking.chunks[-1][1].unique(return_counts=True)[1]
    assert len(counts) == len(data.log) and int(counts.max() - counts.min()) <= 1


@pytest.mark.parametrize("num_envs", [1, 3])
def test_a_round_of_steps_plays_what_it_begins(num_envs: int) -> None:
    one, other = (Collector(WALK, seed=4, num_envs=n) for n in (num_envs, 1))
    found = one.collect(None, 7, 0, steps=20)
    assert int(found.lengths.sum()) >= 20 > int(found.lengths[:-num_envs].sum())
    same = other.collect(None, 7, len(found.lengths))
    for key, column in found.columns.items():
        torch.testing.assert_close(column, same.columns[key])


def test_a_round_of_steps_keeps_what_was_drawn_of_its_worlds() -> None:
    """As many numbers as it has rows, those of the same episodes counted one by one."""
    ranges = {"randomise": {"g": [7, 13], "m": [0.8, 1.2]}}
    one, other = (
        Collector("Pendulum-v1", ranges, seed=4, num_envs=2, max_episode_steps=10) for _ in "ab"
    )
    found = one.collect(None, 3, 0, steps=25)
    same = other.collect(None, 3, len(found.lengths))
    assert len(found.lengths) > 2
    assert torch.equal(found.columns["context"], same.columns["context"])
    assert len(found.columns["context"].unique(dim=0)) == len(found.lengths)


def test_rounds_are_ended_by_their_steps(tmp_path: Path) -> None:
    data = data_of(steps_per_round=30, num_envs=4)
    fit(learner_of(PPO, data.spec), data, tmp_path, 60)
    steps = steps_of(data)
    assert len(steps) > 2 and all(30 <= taken < 30 + 4 * HORIZON for taken in steps)


def test_a_cleared_replay_begins_anew() -> None:
    replay = Replay(50, {})
    replay.append(columns(0, 9), torch.tensor([4, 5]))
    replay.clear()
    assert len(replay) == 0
    replay.append(columns(20, 5), torch.tensor([2, 3]))
    log = replay.log
    assert log.column("observation")[:, 0].tolist() == [20, 21, 22, 23, 24]
    assert log.column("episode").tolist() == [0, 0, 1, 1, 1]
    assert log.column("episode_end").tolist() == [1, 1, 4, 4, 4]
    Replay(5, {}).clear()  # nothing to drop


# --- ratios and columns ---------------------------------------------------------------------------


@pytest.mark.parametrize("env", [WALK, choosing, REACH], ids=["clipped", "discrete", "task"])
def test_ratios_begin_at_one(env: Any, tmp_path: Path) -> None:
    """To 1e-5 in the first update of each round, and nowhere else; half the actions are clipped."""
    data, looking, kept = data_of(env), Looking(), Kept()
    learner = learner_of(PPO, data.spec)
    options = {"callbacks": [looking, Watch()], "logger": kept, "log_every_n_steps": 1}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "watch/actor/ratio_off")
        fit(learner, data, tmp_path, 60, **options)
    begins = [each.update for each in data.history[1:]]
    assert len(begins) > 3
    for update, off in looking.off.items():
        assert off < 1e-5 if update in begins else off > 1e-5
    if env is WALK:
        assert float((data.log.column("action").abs() == 1.0).float().mean()) > 0.1
    assert kept.steps_of("watch/actor/ratio_off") == begins


def test_watch_warns_of_probabilities_in_other_units(tmp_path: Path) -> None:
    class Shifted(PPO):
        def log_ratio(self, batch: Any) -> tuple[Tensor, Tensor]:
            log_ratio, entropy = super().log_ratio(batch)
            return log_ratio + 0.01, entropy

    data = data_of()
    with pytest.warns(UserWarning, match=r"watch/actor/ratio_off, .* a ratio 0.01 off 1"):
        fit(learner_of(Shifted, data.spec), data, tmp_path, 5, callbacks=[Watch()])


def test_columns_are_found_once_a_round_with_the_value_as_it_is(tmp_path: Path) -> None:
    class Keeping(PPO):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            super().on_train_batch_start(batch, batch_idx)
            if self.log_pass.pending:
                log = self.trainer.datamodule.log
                value, following = (
                    self.value(log.column(key)).detach()
                    for key in ("observation", ("next", "observation"))
                )
                ends = log.column("episode_end") == torch.arange(len(log))
                expected.append(
                    generalized_advantages(
                        log.column(("next", "reward")),
                        value,
                        following,
                        log.column(("next", "terminated")),
                        ends,
                        discount=0.99,
                        lambda_=0.95,
                    )
                )

        def on_train_batch_end(self, *given: Any) -> None:
            super().on_train_batch_end(*given)
            found.append((self.log_pass.swept_at, self.log_pass.columns["advantage"]))

    expected: list[Tensor] = []
    found: list[tuple[int, Tensor]] = []
    data = data_of()
    fit(learner_of(Keeping, data.spec, scaling="raw"), data, tmp_path, 40)
    begins = [each.update for each in data.history[1:]]
    assert sorted({at for at, _ in found}) == begins and len(expected) == len(begins)
    for begin, advantage in zip(begins, expected, strict=True):
        ours = next(column for at, column in found if at == begin)
        torch.testing.assert_close(ours, advantage.float(), rtol=1e-5, atol=1e-5)


# --- equal bits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "file"])
def test_a_resumed_run_ends_with_the_same_bits(place: str, tmp_path: Path) -> None:
    """From the middle of the first round into the second."""
    made: list[IteratedDataModule] = []
    # What resumes finds the file of the run that was interrupted.
    folders = iter(("interrupted", "interrupted", "straight"))

    def begun() -> tuple[Any, Learner]:
        own = {} if place == "memory" else {"memory_map": str(tmp_path / next(folders))}
        data = data_of(epochs=2, **own)
        made.append(data)
        return data, learner_of(PPO, data.spec)

    check_resumed(begun, tmp_path)
    begins = [each.update for each in made[-1].history]
    assert 4 not in begins and begins == [each.update for each in made[1].history]
    assert len(begins) > 2


def test_other_seeds_play_and_shuffle_otherwise(tmp_path: Path) -> None:
    ends = []
    for seed in (3, 3, 4):
        data = data_of(seed=seed)
        learner = learner_of(PPO, data.spec)
        fit(learner, data, tmp_path, 30)
        ends.append([value.clone() for value in learner.parameters()])
    assert all(map(torch.equal, ends[0], ends[1]))
    assert not any(map(torch.equal, ends[0], ends[2]))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "own"), [("PPO", {}), ("RecurrentPPO", {"segment": 4})])
def test_two_processes_learn_as_one(name: str, own: dict[str, Any], tmp_path: Path) -> None:
    """Each plays the whole round, and is served its share of every batch."""
    plain = {"env": WALK, "initial_episodes": 4, "episodes_per_round": 6, "epochs": 3}
    data = plain | {"batch_size": 8, "updates_per_step": 5, "seed": 3}
    job = Job(name, "", str(tmp_path / "two"), 40, data=data, arguments=own)
    ended = run_jobs([replace(job, trainer={"strategy": "ddp", "devices": 2})], tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    shared, alone = (
        torch.load(path, weights_only=True)
        for path in (
            tmp_path / "two" / "final.ckpt",
            fit_job(replace(job, folder=str(tmp_path / "one"))),
        )
    )
    for name, value in alone["state_dict"].items():
        torch.testing.assert_close(shared["state_dict"][name], value, rtol=1e-6, atol=1e-6)
    rounds = alone["IteratedDataModule"]["history"]
    assert [each["update"] for each in shared["IteratedDataModule"]["history"]] == [
        each["update"] for each in rounds
    ]
    assert len(rounds) > 3


# --- what does not go together --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "collection.epochs is 0, it must be at least 1"),
        ({"steps_per_round": 0}, "collection.steps_per_round is 0, it must be at least 1"),
        ({"explore": 0.1}, r"collection.explore is 0.1, and rounds of epochs are on-policy"),
        (
            {"steps_per_round": 9, "expert": Expert("stand_ins:first_numbers", max_episodes=9)},
            "steps_per_round may begin more episodes than the expert's max_episodes",
        ),
    ],
)
def test_argument_out_of_range_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data_of(**options)


def test_shares_do_not_go_with_passes() -> None:
    with pytest.raises(ValueError, match=r"collection.epochs serves .* mix gives other rows"):
        data_of(source=log_of(), mix={"log": 0.5, "collected": 0.5})


def test_actions_without_a_density_are_named(tmp_path: Path) -> None:
    data = data_of(sample=False)
    with pytest.raises(ValueError, match="the learner needs 'action_log_prob', .*sample"):
        fit(learner_of(PPO, data.spec), data, tmp_path, 5)


def test_a_log_may_come_first_and_goes_with_the_first_round(tmp_path: Path) -> None:
    log = log_of()
    log = log.with_columns({ACTION_LOG_PROB: torch.full((len(log),), -0.7)})
    data = data_of(source=log, initial_episodes=0)
    assert len(data.log) == len(log)
    fit(learner_of(PPO, data.spec), data, tmp_path, 5)
    assert len(data.log) == data.history[0].env_steps != len(log)
