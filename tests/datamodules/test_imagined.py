"""Imagined episodes: branches by hand, penalties, unknown steps, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from imagined_worlds import HALVES, counting, data_given, data_of, drift, reach
from small_fits import fit, learner_of
from small_replays import REACH, log_of
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.imagined_rows import Growing, ImaginedRows, Unknown
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sources.model import ModelSource, worst_reward
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import Imagined, Source

QUIET = {"compile": "off"}
NEXT, REWARD = ("next", "observation"), ("next", "reward")
PLACES = {"episode", "step", "episode_end"}
TERMINATED, TRUNCATED = ("next", "terminated"), ("next", "truncated")


def states(*values: float, **info: Any) -> Log:
    """Return a log of episodes of one step, from given states."""
    place = torch.tensor(values).unsqueeze(-1)
    rows = len(values)
    return Log.from_columns(
        {
            "observation": place,
            "action": torch.zeros(rows, 1),
            NEXT: place + 1,
            REWARD: torch.arange(rows).float() - 2,
            TERMINATED: torch.zeros(rows, dtype=torch.bool),
            TRUNCATED: torch.ones(rows, dtype=torch.bool),
            "episode": torch.arange(rows),
        },
        {"action": {"low": [-1.0], "high": [1.0]}} | info,
    )


def branches(log: Log, count: int, horizon: int, **options: Any) -> Any:
    given = ImaginedRows(counting, rows=count, horizon=horizon, **options)
    return ModelSource(given, log).collect(None, 0, count, log)


# --- branches -------------------------------------------------------------------------------------


def test_branches_by_hand() -> None:
    """TB7: from 0 and 2, three steps: (0, 1, 2 | 2), ended both; two steps: (0, 1 | 2)."""
    log = states(0.0, 2.0)
    for horizon, from_0 in ((3, [0.0, 1.0, 2.0]), (2, [0.0, 1.0]), (1, [0.0])):
        found = branches(log, 16, horizon)
        parts = [column.split(found.lengths.tolist()) for column in found.columns.values()]
        rows = dict(zip(found.columns, parts, strict=True))
        begins = {float(part[0, 0]) for part in rows["observation"]}
        assert begins == {0.0, 2.0}
        for number in range(16):
            place = rows["observation"][number][:, 0].tolist()
            ended, cut = (rows[key][number].tolist() for key in (TERMINATED, TRUNCATED))
            assert place == (from_0 if place[0] == 0 else [2.0])
            assert ended == [s + 1 >= 3 for s in place]
            assert cut == [*[False] * (len(place) - 1), not ended[-1]]
            assert rows[NEXT][number][:, 0].tolist() == [s + 1 for s in place]
            assert rows[REWARD][number].tolist() == [10 * (s + 1) for s in place]


def test_a_penalty_is_taken_from_the_reward() -> None:
    log = states(0.0, 1.0)
    free, dear = (branches(log, 8, 2, penalty=penalty) for penalty in (0.0, 2.5))
    u = free.columns["observation"][:, 0]
    assert torch.equal(dear.columns[REWARD], free.columns[REWARD] - 2.5 * u)
    assert torch.equal(dear.disagreement, u) and float(u.max()) > 0


def test_unknown_steps_end_with_what_is_worst() -> None:
    """TB4: halting for ever at -1 a step is -10 at discount .9; a threshold of 1 allows u = 1."""
    log = states(0.0, 1.0)
    unknown = Unknown(threshold=1.0, reward=None, discount=0.9)
    found = branches(log, 8, 3, unknown=unknown)
    place = found.columns["observation"][:, 0]
    assert torch.equal(found.unknown, place > 1) and bool(found.unknown.any())
    assert torch.equal(found.columns[TERMINATED], place >= 2)
    assert found.columns[REWARD][found.unknown].tolist() == pytest.approx(
        [-20.0] * int(found.unknown.sum())
    )
    assert not found.columns[TRUNCATED][found.unknown].any()


@pytest.mark.parametrize(
    ("rewards", "reward", "expected"),
    [
        ([-1.0, 3.0], None, -10.0),
        ([2.0, 3.0], None, 2.0),
        ([-1.0, 3.0], -1.0, -1.0),
        ([-1.0, 3.0], -7.0, -7.0),
    ],
)
def test_the_worst_reward(rewards: list[float], reward: float | None, expected: float) -> None:
    """TB4: halting for ever at -1 is worth -10 at discount .9, and ending with -1 just -1."""
    log = states(0.0, 1.0).with_columns({REWARD: torch.tensor(rewards)})
    found = worst_reward(Unknown(reward=reward, discount=0.9), log)
    assert found == pytest.approx(expected)


def test_the_threshold_is_a_quantile_of_the_log() -> None:
    """Of held-out rows where there are some."""
    log = states(*[float(s) for s in range(10)])
    given = ImaginedRows(counting, rows=1, unknown=Unknown(quantile=0.8))
    assert ModelSource(given, log).threshold == 7.0
    assert ModelSource(given, log, torch.tensor([0, 1, 2, 3, 4])).threshold == 3.0
    assert ModelSource(ImaginedRows(counting, rows=1), log).threshold is None


class Logged:
    """Plays what was done in the logged state that is nearest."""

    def __init__(self, log: Log) -> None:
        self._seen, self._done = log.column("observation"), log.column("action")

    def initial_state(self, n: int) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def step(self, observation: Any, task: Any, state: Any, noise: Any) -> Any:
        """Return logged actions."""
        apart = torch.cdist(torch.from_numpy(observation), self._seen)
        return self._done[apart.argmin(1)].numpy(), state


def test_a_known_model_gives_the_logged_rows() -> None:
    """TB8: the world's own step under the logged actions; goals and what is achieved come along."""
    log = log_of(REACH, episodes=12)
    source = ModelSource(ImaginedRows(reach, rows=20, horizon=9), log, seed=4)
    assert isinstance(source, Source) and set(source.keys) == set(log.packed_keys()) - PLACES
    found = source.collect(Logged(log), 0, 20, log)
    first = found.lengths.cumsum(0) - found.lengths
    row = torch.cdist(found.columns["observation"], log.column("observation")).argmin(1)
    held = log.gather(row)
    for begin, length in zip(first.tolist(), found.lengths.tolist(), strict=True):
        # Beyond the end of its episode the world was not asked.
        left = int(held["episode_end"][begin]) - int(row[begin]) + 1
        same = slice(begin, begin + min(length, left))
        assert row[same].tolist() == list(
            range(int(row[begin]), int(row[begin]) + same.stop - begin)
        )
        for key in ("observation", NEXT, "action", "achieved_goal", ("next", "achieved_goal")):
            assert torch.allclose(found.columns[key][same], held[key][same], atol=1e-6)
        assert torch.equal(found.columns["task"][same], held["task"][same])


def test_an_episode_is_a_function_of_its_number() -> None:
    log = log_of(REACH)
    source = ModelSource(ImaginedRows(reach, horizon=4), log, seed=4)
    whole = source.collect(None, 0, 30, log)
    parts = [source.collect(None, first, 10, log) for first in (20, 0, 10)]
    for key, column in whole.columns.items():
        found = torch.cat([parts[number].columns[key] for number in (1, 2, 0)])
        assert torch.equal(found, column)
    other = ModelSource(ImaginedRows(reach, horizon=4), log, seed=5).collect(None, 0, 30, log)
    assert not torch.equal(other.columns["action"][:5], whole.columns["action"][:5])


def test_horizons_grow() -> None:
    growing = Growing(first=1, last=15, begin=20, end=150)
    assert [growing.at(update) for update in (0, 20, 29, 30, 85, 149, 150, 999)] == [
        *(1, 1, 1, 2, 8, 14, 15, 15)
    ]
    given = ImaginedRows(counting, horizon=growing, rows=2, keep=3)
    assert (given.steps(85), given.capacity) == (8, 90)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rows": -1}, "imagined.rows is -1, it must be at least 0"),
        ({"every": 0}, "imagined.every is 0, it must be at least 1"),
        ({"horizon": 0}, "imagined.horizon is 0, it must be at least 1"),
        ({"keep": 0}, "imagined.keep is 0"),
        ({"penalty": -1.0}, "imagined.penalty is -1.0, it may not be negative"),
        ({"penalty": float("nan")}, "imagined.penalty is nan"),
    ],
)
def test_numbers_out_of_range_are_refused(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ImaginedRows(drift, **options)


def test_parts_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="grows from 3 to 2"):
        Growing(3, 2)
    with pytest.raises(ValueError, match="grows from update 5 to 5"):
        Growing(1, 2, 5, 5)
    for options, words in (
        ({"quantile": 0.0}, r"quantile is 0.0: it must lie in \(0, 1\]"),
        ({"threshold": -1.0}, "threshold is -1.0: at least 0"),
        ({"discount": 1.0}, r"discount is 1.0: it must lie in \[0, 1\)"),
    ):
        with pytest.raises(ValueError, match=words):
            Unknown(**options)


def test_shares_and_imagined_rows_go_together() -> None:
    log = log_of()
    with pytest.raises(ValueError, match=r"need a share of each batch: mix \{log: 0.5"):
        OfflineDataModule(log, imagined=data_given())
    with pytest.raises(ValueError, match="those of imagined rows, and imagined is not given"):
        OfflineDataModule(log, mix=HALVES)
    with pytest.raises(ValueError, match="mix names 'collected', and rows come from 'log' and"):
        OfflineDataModule(log, imagined=data_given(), mix={"log": 0.5, "collected": 0.5})


def test_each_of_several_seeds_would_need_its_own(tmp_path: Path) -> None:
    data = data_of()
    with pytest.raises(ValueError, match="model.seeds is 2, but each seed's policy would imagine"):
        fit(learner_of(BC, data.spec, seeds=2), data, tmp_path, 5)


def test_numbers_that_are_not_finite_are_refused() -> None:
    def broken(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        found = counting(observation, action)
        return found._replace(reward=found.reward / 0 * 0)

    log = states(0.0)
    source = ModelSource(ImaginedRows(broken, rows=1), log)
    with pytest.raises(LogError, match="imagines numbers that are not finite"):
        source.collect(None, 0, 1, log)


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    log = log_of()
    data = OfflineDataModule(log)
    for model, words in (
        (learner_of(BC, data.spec), "BC does not say what follows actions: give a checkpoint"),
        ("no_such_module:step", "model no_such_module:step: no module no_such_module"),
        ("tiny_envs:step", "model tiny_envs:step: tiny_envs has no step"),
        (3, "int is no model: nobody can ask it"),
    ):
        with pytest.raises(ValueError, match=words):
            ModelSource(ImaginedRows(model), log)
    with pytest.raises(ValueError, match="drift knows one disagreement"):
        ModelSource(ImaginedRows(drift, uncertainty="pairwise"), log)


def test_what_no_model_imagines_is_refused() -> None:
    log = log_of(REACH)
    shifted = log.with_columns({("next", "achieved_goal"): log.column(NEXT) + 1}).packed()
    with pytest.raises(LogError, match=r"numbers \[0, 1\] of what was achieved are none of the"):
        data_of(shifted, model=reach)
    offset = Log(log.blocks, log.info | {"offset": {"observation": [1.0, 2.0]}}, log.sources)
    with pytest.raises(LogError, match="is less an offset, and a model imagines"):
        data_of(offset, model=reach)
