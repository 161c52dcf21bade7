"""Rows of several origins: shares, draws, what lies where, and resuming with two replays."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from lightning.pytorch.callbacks import Callback
from small_fits import fit, learner_of
from small_logs import same
from small_replays import INFO, REACH, WALK, columns, log_of, online
from tensordict import TensorDict

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.mixture import Replays, warn_of_undrawn
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.episodes import Collected
from hindsight_rl.datamodules.sources.log import LogSource
from hindsight_rl.keys import ORIGIN, ORIGINS
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import Source
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FutureGoal

QUIET = {"compile": "off"}
HALVES = {"log": 0.5, "collected": 0.5}
FEW = {"log": 0.05, "collected": 0.95}
LOGGED, ROUNDS = [3, 4, 2, 5], [[2, 3], [4, 1, 1], [5], [2, 2, 6]]
FAR = 1000  # number of the first collected row


def episodes(first: int, lengths: list[int]) -> Collected:
    """Return episodes whose rows are numbered from ``first``."""
    rows = columns(first, sum(lengths))
    return Collected(rows, torch.tensor(lengths), torch.zeros(len(lengths)).double().numpy(), None)


def mixed(
    mix: dict[str, float] | None = HALVES,
    rounds: list[list[int]] = ROUNDS,
    capacity: int = 12,
    folder: Path | None = None,
) -> Replays:
    """Return a replay of a log and one of collected rounds, which drops its oldest episodes."""
    held = {"log": Replay(sum(LOGGED), INFO), "collected": Replay(capacity, INFO)}
    replays = Replays(held, mix)
    replays.append("log", episodes(0, LOGGED))
    if folder is not None:
        replays.to_file(folder)
    first = FAR
    for lengths in rounds:
        replays.append("collected", episodes(first, lengths))
        first += sum(lengths)
    return replays


def kept(rounds: list[list[int]], capacity: int) -> tuple[int, list[int]]:
    """Return the number of the first row and the lengths of the newest episodes that fit."""
    lengths = [length for each in rounds for length in each]
    end, held = FAR + sum(lengths), lengths[:]
    while sum(held) > capacity:
        held.pop(0)
    return end - sum(held), held


def log_from(first: int, lengths: list[int]) -> Log:
    """Return a log of episodes, made in one piece."""
    number = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return Log.from_columns(columns(first, sum(lengths)) | {"episode": number}, INFO)


def sampler_of(log: Log, **options: Any) -> ChunkSampler:
    return ChunkSampler(log, Compose().prepare(log), **({"batch_size": 400, "seed": 3} | options))


# --- rows and shares ------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("count", range(len(ROUNDS) + 1))
def test_two_replays_read_as_one_log(where: str, count: int, tmp_path: Path) -> None:
    """Rows, episodes and their ends are those of the logs joined in one piece."""
    folder = tmp_path if where == "file" else None
    log = mixed(rounds=ROUNDS[:count], folder=folder).log
    logs = [log_from(0, LOGGED)]
    if count:
        logs.append(log_from(*kept(ROUNDS[:count], 12)))
    joined = Log.concatenate(logs, [1.0] * len(logs))
    rows = torch.arange(len(joined))
    assert len(log) == len(joined) and log.episodes == joined.episodes
    assert same(log.gather(rows).exclude(ORIGIN), joined.gather(rows))
    for key in joined.keys():
        assert torch.equal(log.column(key), joined.column(key))
    assert torch.equal(log.column(ORIGIN), (log.column("observation")[:, 0] >= FAR).long())
    assert torch.equal(log.episode_ends(), joined.episode_ends())


@pytest.mark.parametrize(
    "mix", [HALVES, FEW, dict(reversed(FEW.items()))], ids=["halves", "few", "other order"]
)
def test_each_origin_is_drawn_with_its_share_and_its_rows_alike(mix: dict[str, float]) -> None:
    """200,000 draws: the observed share is within 4 sigma, and each row's within 5."""
    replays = mixed(mix)
    log, draws = replays.log, 200_000
    batch = sampler_of(log).chunk(0, draws // 400).reshape(-1)
    for origin, share in mix.items():
        number = ORIGINS.index(origin)
        found = int((batch[ORIGIN] == number).sum())
        assert abs(found - draws * share) < 4 * (draws * share * (1 - share)) ** 0.5
        rows = (log.column(ORIGIN) == number).nonzero().squeeze(1)
        times = torch.bincount(batch["index"], minlength=len(log))[rows]
        chance = share / len(rows)
        deviation = (draws * chance * (1 - chance)) ** 0.5
        assert (times - draws * chance).abs().max() < 5 * deviation
    # Each row is the one that its own replay holds.
    for number, replay in enumerate(replays._replays.values()):
        own = batch[batch[ORIGIN] == number]
        start = int((log.column(ORIGIN) < number).sum())
        held = replay.log.gather(own["index"] - start)
        for key in (*replay.log.blocks[0].columns, "step"):
            assert torch.equal(own[key], held[key])
        assert torch.equal(own["episode_end"] - start, held["episode_end"])


def test_draws_are_those_of_seed_update_and_row() -> None:
    """Not of K, of the number of ranks, or of where a run was resumed."""
    log = mixed(FEW).log
    whole = sampler_of(log).chunk(0, 40)
    pieces = [sampler_of(log).chunk(at, 7 if at < 35 else 5) for at in range(0, 40, 7)]
    assert same(torch.cat(pieces), whole)
    ranks = [sampler_of(log, process=(rank, 2)).chunk(0, 40) for rank in range(2)]
    assert same(torch.cat(ranks, dim=1), whole)
    assert same(sampler_of(log).chunk(25, 15), whole[25:])
    assert not same(sampler_of(log, seed=4).chunk(0, 40), whole)


def test_what_is_drawn_of_the_log_stays_while_others_come() -> None:
    """A round changes neither which rows of a batch are the log's nor which of them these are."""
    before, after = (mixed(rounds=ROUNDS[:count]).log for count in (2, 4))
    one, two = (sampler_of(log).chunk(0, 20) for log in (before, after))
    assert torch.equal(one[ORIGIN], two[ORIGIN])
    logged = one[ORIGIN] == 0
    assert torch.equal(one["index"][logged], two["index"][logged])


def test_an_origin_without_rows_is_not_drawn() -> None:
    batch = sampler_of(mixed(FEW, rounds=[]).log).chunk(0, 20)
    assert batch[ORIGIN].eq(0).all() and batch["index"].unique().tolist() == [*range(14)]


def test_an_origin_of_which_relabelers_leave_nothing_is_named() -> None:
    log = mixed(FEW).log
    with pytest.warns(UserWarning, match=r"leave none of its \d+ rows .*share of 0.95 in mix goes"):
        warn_of_undrawn(log.with_rows(torch.arange(3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_undrawn(log.with_rows(torch.tensor([0, 20])))
        warn_of_undrawn(mixed(FEW, rounds=[]).log.with_rows(torch.arange(3)))


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("count", range(3))
def test_both_replays_are_taken_up_again(where: str, count: int, tmp_path: Path) -> None:
    """Also where the one of collected rows was empty, or holds more than when it was made."""
    folder = tmp_path if where == "file" else None
    whole = mixed(rounds=ROUNDS[:count], folder=folder)
    state, rows = whole.state_dict(), torch.arange(len(whole.log))
    found = whole.log.gather(rows)
    whole.append("collected", episodes(FAR, [6, 6]))  # after the checkpoint
    again = mixed(rounds=[])
    again.load_state_dict(state, folder, cut=True)
    assert same(again.log.gather(rows), found)
    assert differences(again.state_dict(), state) == []
    with pytest.raises(LogError, match="the replay of this run lies in"):
        mixed(rounds=[]).load_state_dict(state, None if folder else tmp_path, cut=True)


def test_origins_with_other_columns_are_refused() -> None:
    other = episodes(FAR, [2])
    other.columns["observation"] = torch.zeros(2, 3)
    with pytest.raises(LogError, match="the replay holds the columns"):
        mixed(rounds=[]).append("collected", other)


# --- sources --------------------------------------------------------------------------------------


def test_environments_and_logs_are_sources() -> None:
    log, collector = log_of(), Collector(REACH)
    assert isinstance(collector, Source) and not isinstance(log, Source)
    assert isinstance(LogSource(log, None, Collector(WALK)), Source)


def test_a_log_gives_its_episodes_by_number() -> None:
    log, collector = log_of(), Collector(WALK, seed=7, num_envs=2)
    source = LogSource(log, None, collector)
    assert (source.episodes, len(source), source.hash) == (8, len(log), log.hash())
    for first, count in ((0, 8), (0, 1), (3, 4), (7, 1)):
        found, played = (each.collect(None, first, count) for each in (source, collector))
        assert torch.equal(found.lengths, played.lengths)
        assert found.returns == pytest.approx(played.returns) and found.successes is None
        for key, column in played.columns.items():
            assert torch.equal(found.columns[key], column)
    for first, count in ((-1, 2), (7, 2), (8, 1), (3, 0)):
        with pytest.raises(ValueError, match=rf"episodes {first} to {first + count} of 8 are ask"):
            source.collect(None, first, count)


# --- the datamodule -------------------------------------------------------------------------------


class Batches(Callback):
    """Keeps every batch that is trained on."""

    def __init__(self) -> None:
        self.chunks: list[TensorDict] = []

    def on_train_batch_start(self, trainer: Any, learner: Any, batch: TensorDict, *_: Any) -> None:
        """Keep a chunk."""
        self.chunks.append(batch.clone())


def test_a_fit_draws_with_the_shares_from_both(tmp_path: Path) -> None:
    """No row of the log goes, however small the capacity for those that are collected."""
    log, seen = log_of(), Batches()
    data = online(log, mix={"log": 0.25, "collected": 0.75}, capacity=20, batch_size=32)
    assert len(data.log) == len(log) and data.spec.dataset.rows == len(log)
    learner = learner_of(IQL, data.spec)
    fit(learner, data, tmp_path, 200, callbacks=[seen])
    assert len(data.history) > 5 and data.history[0].update == 0
    batch = torch.cat(seen.chunks).reshape(-1)
    drawn = len(batch)
    assert drawn == 200 * 32
    logged = batch[ORIGIN] == ORIGINS.index("log")
    assert abs(int(logged.sum()) - drawn / 4) < 4 * (drawn * 3 / 16) ** 0.5
    rows = batch["index"][logged]
    assert rows.unique().tolist() == [*range(len(log))]
    assert torch.equal(batch["action"][logged], log.column("action")[rows])
    assert batch["index"][~logged].min() >= len(log) and len(data.log) <= len(log) + 20
    assert torch.equal(data.log.column("action", slice(len(log))), log.column("action"))


def test_without_shares_nothing_is_told_apart(tmp_path: Path) -> None:
    data = online(log_of())
    trainer = fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 10)
    assert ORIGIN not in data.log and ORIGIN not in data.batch_keys()
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    state = torch.load(tmp_path / "some.ckpt", weights_only=True)["IteratedDataModule"]
    assert set(state["replay"]) == {"columns", "lengths", "rows"} and state["mix"] is None
    # A checkpoint from before there were shares goes on too.
    del state["mix"]
    again = online(log_of())
    again.load_state_dict(state)
    assert len(again.log) == len(data.log)


def test_a_learner_may_read_the_origin(tmp_path: Path) -> None:
    """One that needs it is told what gives it."""
    seen: list[Any] = []

    class Telling(BC):
        in_keys = (*BC.in_keys, ORIGIN)

        def losses(self, batch: TensorDict) -> Any:
            seen.append(batch[ORIGIN])
            return super().losses(batch)

    data = online(log_of(), mix=HALVES)
    fit(learner_of(Telling, data.spec, **QUIET), data, tmp_path, 5)
    assert {len(origin) for origin in seen} == {8} and seen[0].dtype == torch.int64
    assert torch.cat(seen).unique().tolist() == [0, 1]
    data = online(log_of())
    with pytest.raises(LogError, match=r"needs 'origin', which no batch has. Set data.mix"):
        fit(learner_of(Telling, data.spec, **QUIET), data, tmp_path, 5)


def test_collected_rows_alone_have_an_origin() -> None:
    data = online(None, mix={"collected": 1.0}, initial_episodes=4)
    assert data.log.column(ORIGIN).unique().tolist() == [ORIGINS.index("collected")]


def test_companions_and_goals_stay_inside_their_origin(tmp_path: Path) -> None:
    log, seen = log_of(REACH), Batches()
    data = online(log, REACH, [FutureGoal()], mix=HALVES)
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 30, callbacks=[seen])
    reached = data.log.column(("next", "achieved_goal"))
    log_goals = {tuple(goal) for goal in reached[: len(log)].tolist()}
    batch = torch.cat(seen.chunks).reshape(-1)
    for task, origin in zip(batch["task"].tolist(), batch[ORIGIN].tolist(), strict=True):
        assert (tuple(task) in log_goals) == (origin == 0)


@pytest.mark.parametrize("kind", [IQL, AWR])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_resumed_run_ends_the_same(kind: Any, where: str, tmp_path: Path) -> None:
    """In the middle of a round and at its edge; a learner that sweeps the log too."""
    log = log_of()

    def run(folder: Path, updates: int, ckpt_path: Path | None = None) -> Path:
        place = str(folder / "replay") if where == "file" else None
        data = online(log, mix=FEW, capacity=40, memory_map=place, explore=0.2)
        trainer = fit(learner_of(kind, data.spec, **QUIET), data, folder, updates, ckpt_path)
        if ckpt_path is None:
            begins.extend(each.end for each in data.history)
        trainer.save_checkpoint(folder / f"{updates}.ckpt")
        return folder / f"{updates}.ckpt"

    begins: list[int] = []
    whole = torch.load(run(tmp_path / "one", 100), weights_only=True)
    for stop in (begins[1], begins[1] + 4):
        folder = tmp_path / str(stop)
        again = torch.load(run(folder, 100, run(folder, stop)), weights_only=True)
        for key in ("state_dict", "optimizer_states", "global_step", "IteratedDataModule"):
            assert differences(whole[key], again[key], key) == []
    assert set(whole["IteratedDataModule"]["replay"]) == set(FEW)


def test_a_run_is_resumed_with_its_shares_only(tmp_path: Path) -> None:
    data = online(log_of(), mix=HALVES)
    trainer = fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 10)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    for mix in (FEW, None):
        other = online(log_of(), mix=mix)
        with pytest.raises(LogError, match=r"with mix {'log': 0.5, 'collected': 0.5}, and this is"):
            fit(learner_of(BC, other.spec), other, tmp_path, 20, tmp_path / "some.ckpt")


def test_a_filter_that_leaves_an_origin_nothing_is_told(tmp_path: Path) -> None:
    """The best episode of the log is far above what is collected."""
    log = log_of()
    best = log.with_columns({("next", "reward"): log.column(("next", "reward")) + 100}).packed()
    data = online(best, relabel=[TopFraction(0.1)], mix=HALVES)
    with pytest.warns(UserWarning, match=r"Walk-v0: the relabelers leave none of its \d+ rows"):
        fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 10)


@pytest.mark.parametrize(
    ("mix", "source", "words"),
    [
        ({"log": 0.5, "collected": 0.4}, True, "the shares of mix sum to 0.9, they must sum to 1"),
        ({"log": 0.5, "imagined": 0.5}, True, "mix names 'imagined', and rows come from 'log' and"),
        (HALVES, False, "mix names 'log', .* come from 'collected' here: give --data.source LOG"),
        ({"log": 1.0}, True, "mix gives no share to 'collected', and rows come from 'log' and"),
        ({}, True, "mix gives no share to 'log'"),
        ({"log": 0.0, "collected": 1.0}, True, "gives 'log' a share of 0, it must be above 0"),
        ({"log": 1.5, "collected": -0.5}, True, "a share of 1.5, it must be above 0 and at most 1"),
        ({"log": float("nan"), "collected": 1.0}, True, "a share of nan, it must be above 0"),
    ],
)
def test_shares_that_say_nothing_are_refused(mix: Any, source: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        online(log_of() if source else None, mix=mix, initial_episodes=2)


def test_shares_that_are_rounded_are_taken() -> None:
    mix = {"log": 1 / 3, "collected": 0.6666667}
    assert isinstance(online(log_of(), mix=mix), IteratedDataModule)
