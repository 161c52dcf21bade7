"""Logs relabeled in shards: the bits of one process, whoever makes them; finished shards stay."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from episode_logs import LENGTHS, episode_log
from near_workers import Near
from relabelers import chain, relabelers

from hindsight_rl.datamodules import relabeled_rows
from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel import units
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.learned_reward import LearnedReward
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.returns import NStep, ReturnWeight
from hindsight_rl.shards import PLAN, divided, waiting_folder
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.workers import Cluster, Processes, WorkerError

SEED = 7
RULE = [{"class_path": "made.For", "init_args": {"tests": True}}]


def dense() -> GoalReaching:
    return GoalReaching(radius=0.7, kind="dense")


RULES: dict[str, Callable[[], list[Relabeler]]] = {
    "inverse": lambda: [InverseRL(dense(), candidates=5, temperature=4.0)],
    "rest": lambda: [InverseRL(dense(), candidates=5, unit="rest", perplexity=2.0)],
    "fulfilled": lambda: [InverseRL(GoalReaching(0.7), propose="reached", score="fulfilled")],
    "chain": lambda: [TopFraction(0.5), ReturnWeight(), FutureGoal(dense(), fraction=0.7)],
    "pairs": lambda: [FutureGoal(dense(), offset="pairs")],
    "steps": lambda: [NStep(3)],
}


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine blocks in a small log, and several of them where units are judged."""
    monkeypatch.setattr(relabeled_rows, "_TOGETHER", 16)
    monkeypatch.setattr(units, "_TOGETHER", 64)


def source() -> Log:
    return episode_log(LENGTHS * 3, task=True, goals=True)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_cover_the_log_and_begin_with_blocks() -> None:
    assert divided(100, 3, block=16) == [range(0, 32), range(32, 64), range(64, 100)]
    assert divided(100, 1, block=16) == [range(100)]
    assert divided(20, 9, block=16) == [range(16), range(16, 20)]


@pytest.mark.parametrize("shards", [1, 2, 3, 50])
@pytest.mark.parametrize("rule", RULES)
def test_shards_are_the_log_of_one_process(rule: str, shards: int, tmp_path: Path) -> None:
    write_relabeled(source(), RULES[rule](), tmp_path / "one", seed=SEED)
    near = Near()
    write_relabeled(
        source(), RULES[rule](), tmp_path / "many", seed=SEED, workers=near, shards=shards
    )
    assert files(tmp_path / "one") == files(tmp_path / "many")
    assert len(near.parts) >= min(shards, 9)
    assert not waiting_folder(tmp_path / "many").exists()


@pytest.mark.parametrize("name", relabelers())
def test_every_relabeler_shards_or_is_the_same_error(name: str, tmp_path: Path) -> None:
    """TransitionInverseRL and AscendTask need a learner, and what learns needs a fit."""
    kind = relabelers()[name]
    try:
        write_relabeled(source(), chain(kind), tmp_path / "one")
    except ValueError as error:
        with pytest.raises(type(error)) as again:
            write_relabeled(source(), chain(kind), tmp_path / "many", workers=Near(), shards=3)
        assert str(again.value) == str(error)
        return
    write_relabeled(source(), chain(kind), tmp_path / "many", workers=Near(), shards=3)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_a_saved_log_is_read_where_it_lies(tmp_path: Path) -> None:
    source().save(tmp_path / "log")
    for name, workers in (("one", None), ("many", Near())):
        log = Log.load(tmp_path / "log")
        write_relabeled(log, RULES["chain"](), tmp_path / name, workers=workers, shards=3)
    assert files(tmp_path / "one") == files(tmp_path / "many")
    again = Log.load(tmp_path / "many")
    write_relabeled(again, RULES["inverse"](), tmp_path / "twice", workers=Near(), shards=2)
    write_relabeled(again, RULES["inverse"](), tmp_path / "once")
    assert files(tmp_path / "once") == files(tmp_path / "twice")


@pytest.mark.parametrize("kind", ["processes", "ray"])
def test_other_processes_give_the_same_bits(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks have their usual size there, so the log has more than two of them."""
    if kind == "ray":
        pytest.importorskip("ray", reason="of the extra 'ray'")
    monkeypatch.setattr(relabeled_rows, "_TOGETHER", 8192)
    log = episode_log([50] * 360, task=True, goals=True)
    rules: dict[str, list[Relabeler]] = {
        name: RULES[name]() for name in ("inverse", "rest", "chain", "steps")
    }
    rules["learned"] = [*chain(relabelers()["ExpertLabels"]), *chain(LearnedReward)]
    with closing(Processes(2) if kind == "processes" else Cluster("local")) as workers:
        for name, rule in rules.items():
            write_relabeled(log, rule, tmp_path / name, seed=SEED)
            many = tmp_path / f"{name}-many"
            write_relabeled(log, rule, many, seed=SEED, workers=workers, shards=3)
            assert files(tmp_path / name) == files(many), name


# --- interruptions --------------------------------------------------------------------------------


def _write(folder: Path, workers: Near, seed: int = SEED, shards: int = 4) -> None:
    write_relabeled(
        source(), RULES["chain"](), folder, seed=seed, rule=RULE, workers=workers, shards=shards
    )


def test_finished_shards_are_kept_and_gone_on_from(tmp_path: Path) -> None:
    target, stopped, going_on = tmp_path / "log", Near(most=2), Near()
    with pytest.raises(WorkerError, match=r"^shard 3 of 4 \(rows 64 to 95\): its process was"):
        _write(target, stopped)
    waiting = waiting_folder(target)
    assert not target.exists() and {"0.bin", "1.bin", PLAN} <= {p.name for p in waiting.iterdir()}
    _write(target, going_on)
    assert [part.start for part in going_on.parts] == [64, 96]
    write_relabeled(source(), RULES["chain"](), tmp_path / "one", seed=SEED, rule=RULE)
    assert files(target) == files(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "one"]


def test_a_shard_that_was_cut_is_made_again(tmp_path: Path) -> None:
    target, going_on = tmp_path / "log", Near()
    with pytest.raises(WorkerError):
        _write(target, Near(most=2))
    shard = waiting_folder(target) / "0.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    _write(target, going_on)
    assert [part.start for part in going_on.parts] == [0, 64, 96]


@pytest.mark.parametrize("changed", [{"seed": 8}, {"shards": 3}])
def test_shards_of_something_else_are_an_error(changed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WorkerError):
        _write(tmp_path / "log", Near(most=2))
    plan = (waiting_folder(tmp_path / "log") / PLAN).read_text()
    with pytest.raises(ValueError, match=r"log\.shards holds shards of something else"):
        _write(tmp_path / "log", Near(), **changed)
    assert (waiting_folder(tmp_path / "log") / PLAN).read_text() == plan


def test_without_a_rule_nothing_is_gone_on_from(tmp_path: Path) -> None:
    """What arguments the finished shards were made with is then not known."""
    with pytest.raises(WorkerError):
        write_relabeled(source(), RULES["steps"](), tmp_path / "log", workers=Near(2), shards=4)
    near = Near()
    write_relabeled(source(), RULES["steps"](), tmp_path / "log", workers=near, shards=4)
    assert [part.start for part in near.parts] == [0, 32, 64, 96]


class _Shifted(FutureGoal):
    """A relabeler that no other process can be given."""

    def __init__(self) -> None:
        super().__init__(dense())
        self.shift = lambda row: row + 1


def test_a_relabeler_that_cannot_be_sent_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="_Shifted cannot be sent to other processes .*relabel in"):
        write_relabeled(source(), [_Shifted()], tmp_path / "log", workers=Near(), shards=2)
    assert not (tmp_path / "log").exists()
