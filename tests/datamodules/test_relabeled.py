"""Relabeled logs: training on one equals relabeling on the fly; the source stays as it is."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import LENGTHS, episode_log, leaves
from small_fits import fit, learner_of
from small_logs import everything, pictures, same, small
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules import relabeled_rows
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import PROVENANCE, write_relabeled
from hindsight_rl.datamodules.relabeled_rows import original
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.once import Once
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import NStep, ReturnWeight, ScaleReward
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.training.learner import Learner

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")


def dense() -> GoalReaching:
    return GoalReaching(radius=0.7, kind="dense")


# Rules that draw, and rules that add columns, filter and weigh.
RULES: dict[str, Callable[[], list[Relabeler]]] = {
    "final": lambda: [FinalGoal(dense())],
    "future": lambda: [FutureGoal(dense(), fraction=0.7)],
    "geometric": lambda: [FutureGoal(dense(), offset="geometric", discount=0.8)],
    "inverse": lambda: [InverseRL(dense(), candidates=5, temperature=4.0)],
    "random": lambda: [RandomTask(GoalReaching(0.7), fraction=0.5)],
    "return": lambda: [ReturnTask(horizon=True)],
    "chain": lambda: [TopFraction(0.5), ScaleReward(0.1), ReturnWeight(), FutureGoal(dense())],
    "steps": lambda: [NStep(3)],
}
SEED = 11


def source() -> Log:
    return episode_log(task=True, goals=True)


def weights(kind: type[Learner], data: OfflineDataModule, folder: Path) -> dict[str, Tensor]:
    learner = learner_of(kind, data.spec)
    fit(learner, data, folder, 12)
    return learner.state_dict()


def module(log: Log, *relabelers: Relabeler) -> OfflineDataModule:
    return OfflineDataModule(log, list(relabelers), batch_size=16, updates_per_step=4, seed=5)


# --- the round trip -------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", [BC, IQL])
@pytest.mark.parametrize("rule", RULES)
def test_training_on_the_written_log_equals_relabeling_on_the_fly(
    rule: str, learner: type[Learner], tmp_path: Path
) -> None:
    write_relabeled(source(), RULES[rule](), tmp_path / "log", seed=SEED)
    on_the_fly = module(source(), Once(RULES[rule](), SEED))
    written = module(Log.load(tmp_path / "log"))
    # What was written beside the log's own columns is a column like others now.
    specs = [replace(d.spec, dataset=None, beside={}) for d in (on_the_fly, written)]
    assert specs[0] == specs[1]
    sizes = [replace(d.spec.dataset, hash="", source=()) for d in (on_the_fly, written)]
    assert sizes[0] == sizes[1]
    one, two = (weights(learner, data, tmp_path) for data in (on_the_fly, written))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    write_relabeled(source(), RULES["future"](), tmp_path / "log", seed=SEED + 1)
    on_the_fly = module(source(), Once(RULES["future"](), SEED))
    one = weights(BC, on_the_fly, tmp_path)
    two = weights(BC, module(Log.load(tmp_path / "log")), tmp_path)
    assert not all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("together", [1, 7, 1000])
def test_rows_are_the_same_however_many_are_relabeled_together(
    together: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = episode_log(LENGTHS * 3, task=True, goals=True)
    data = OfflineDataModule(log, [Once(RULES["geometric"](), SEED)], batch_size=4)
    whole = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    monkeypatch.setattr(relabeled_rows, "_TOGETHER", together)
    write_relabeled(log, RULES["geometric"](), tmp_path / "log", seed=SEED)
    found = leaves(everything(Log.load(tmp_path / "log")))
    for key, value in leaves(whole).items():
        if key != "draws":
            assert torch.equal(found[key], value), key


def test_filters_are_kept_as_rows_that_may_be_drawn(tmp_path: Path) -> None:
    write_relabeled(source(), RULES["chain"](), tmp_path / "log", seed=SEED)
    found = Log.load(tmp_path / "log")
    expected = module(source(), Once(RULES["chain"](), SEED)).log.rows
    assert len(found) == sum(LENGTHS)
    assert found.rows is not None and torch.equal(found.rows, expected)


def test_sources_and_their_weights_are_kept(tmp_path: Path) -> None:
    mixed = Log.concatenate([source(), episode_log(task=True, goals=True, seed=1)], [1.0, 3.0])
    write_relabeled(mixed, [FutureGoal()], tmp_path / "log")
    found = Log.load(tmp_path / "log")
    assert found.sources == mixed.sources
    chunks = [
        module(log, *parts)._sampler().chunk(3, 2)["index"]
        for log, parts in ((mixed, [Once([FutureGoal()])]), (found, []))
    ]
    assert torch.equal(*chunks)


# --- what is kept ---------------------------------------------------------------------------------


def test_replaced_columns_are_kept_under_other_names(tmp_path: Path) -> None:
    log = source()
    write_relabeled(log, [FutureGoal(GoalReaching(0.7))], tmp_path / "log")
    found = Log.load(tmp_path / "log")
    for key in ("task", REWARD, TERMINATED):
        assert torch.equal(found.column(original(key)), log.column(key))
        assert found.column(original(key)).dtype == log.column(key).dtype
    assert not torch.equal(found.column("task"), log.column("task"))
    untouched = [key for key in log.keys() if original(key) not in found]
    assert set(untouched) == set(log.keys()) - {"task", REWARD, TERMINATED}
    assert all(torch.equal(found.column(key), log.column(key)) for key in untouched)


def test_provenance_says_what_was_done(tmp_path: Path) -> None:
    log = episode_log(goals=True)
    rule = [{"class_path": "a.b.C", "init_args": {"radius": 0.7}}]
    write_relabeled(log, [FinalGoal()], tmp_path / "log", seed=4, rule=rule)
    (done,) = Log.load(tmp_path / "log").info[PROVENANCE]
    assert done["rule"] == rule and done["seed"] == 4
    assert done["source"] == ["walk"] and done["source_hash"] == log.hash()
    assert done["added"] == ["task"] and done["version"]
    assert done["original"] == {
        "next.reward": "original.next.reward",
        "next.terminated": "original.next.terminated",
    }


def test_rule_defaults_to_the_classes(tmp_path: Path) -> None:
    write_relabeled(episode_log(goals=True), [FinalGoal()], tmp_path / "log")
    (done,) = Log.load(tmp_path / "log").info[PROVENANCE]
    assert done["rule"] == [{"class_path": "hindsight_rl.relabel.goals.FinalGoal"}]


def test_relabeling_twice_keeps_the_first_originals_and_both_rules(tmp_path: Path) -> None:
    log = source()
    write_relabeled(log, [FutureGoal()], tmp_path / "one")
    first = Log.load(tmp_path / "one")
    write_relabeled(first, [FinalGoal()], tmp_path / "two", seed=1)
    second = Log.load(tmp_path / "two")
    assert torch.equal(second.column(original("task")), log.column("task"))
    assert [done["seed"] for done in second.info[PROVENANCE]] == [0, 1]
    assert second.info[PROVENANCE][1]["source_hash"] == first.hash()


def test_images_are_copied(tmp_path: Path) -> None:
    log = small(pixels=pictures(7), wrist=pictures(5))
    write_relabeled(log, [ScaleReward(2.0)], tmp_path / "log")
    found = everything(Log.load(tmp_path / "log"))
    assert torch.equal(found.pop(original(REWARD)), log.column(REWARD))
    assert torch.equal(found[REWARD], 2 * log.column(REWARD))
    expected = everything(log)
    expected["next"].set("reward", found[REWARD])
    assert same(found.exclude("original"), expected)


def test_mapped_source_stays_as_it_is(tmp_path: Path) -> None:
    source().save(tmp_path / "log")
    before = _digest(tmp_path / "log")
    write_relabeled(Log.load(tmp_path / "log"), RULES["chain"](), tmp_path / "new")
    assert _digest(tmp_path / "log") == before


def _digest(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "told"),
    [("log", "output is the source"), ("log/new", "lies in the source"), (".", "holds the source")],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_output_never_touches_the_source(
    place: str, told: str, overwrite: bool, tmp_path: Path
) -> None:
    source().save(tmp_path / "log")
    before = _digest(tmp_path / "log")
    with pytest.raises(LogError, match=told):
        write_relabeled(
            Log.load(tmp_path / "log"), [FinalGoal()], tmp_path / place, overwrite=overwrite
        )
    assert _digest(tmp_path / "log") == before


def test_a_link_to_the_source_is_the_source(tmp_path: Path) -> None:
    source().save(tmp_path / "log")
    (tmp_path / "link").symlink_to(tmp_path / "log")
    with pytest.raises(LogError, match="output is the source"):
        write_relabeled(Log.load(tmp_path / "log"), [FinalGoal()], tmp_path / "link")


def test_overwriting_must_be_asked_for_and_takes_logs_only(tmp_path: Path) -> None:
    write_relabeled(source(), [FinalGoal()], tmp_path / "new")
    with pytest.raises(LogError, match="already exists. Choose another name or pass --overwrite"):
        write_relabeled(source(), [FutureGoal()], tmp_path / "new")
    write_relabeled(source(), [FutureGoal()], tmp_path / "new", overwrite=True)
    (done,) = Log.load(tmp_path / "new").info[PROVENANCE]
    assert done["rule"][0]["class_path"].endswith("FutureGoal")
    (tmp_path / "thesis").mkdir()
    with pytest.raises(LogError, match="no saved log, so it is not overwritten"):
        write_relabeled(source(), [FinalGoal()], tmp_path / "thesis", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "thesis"]


def test_a_critic_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"without a learner.*hindsight fit.*whole trajectories"):
        write_relabeled(source(), [TransitionInverseRL(dense())], tmp_path / "new")
    assert not list(tmp_path.iterdir())


class Odd(Relabeler):
    """Rewrites a column in the batch, whatever it declares."""

    def __init__(self, key: Any, value: float) -> None:
        super().__init__()
        self.key, self.value = key, value

    def __call__(self, batch: TensorDict) -> TensorDict:
        rewritten = torch.full_like(batch[self.key], self.value)
        return batch.clone(recurse=True).set(self.key, rewritten)


@pytest.mark.parametrize(
    ("part", "told"),
    [
        (Odd("observation", 3), "column 'observation': a relabeler rewrites .* in out_keys"),
        (Odd("pixels", 3), "column 'pixels': a relabeler rewrites images"),
        (ScaleReward(float("nan")), "'next.reward', row 0: the relabelers make .* not finite"),
    ],
)
def test_what_cannot_be_kept_is_refused(part: Relabeler, told: str, tmp_path: Path) -> None:
    with pytest.raises(LogError, match=told):
        write_relabeled(small(pixels=pictures()), [part], tmp_path / "new")
    assert not list(tmp_path.iterdir())  # no draft is left


def test_header_is_plain_json(tmp_path: Path) -> None:
    write_relabeled(source(), RULES["chain"](), tmp_path / "new")
    header = json.loads((tmp_path / "new" / "header.json").read_text())
    assert header["info"][PROVENANCE][0]["seed"] == 0
    assert header["rows"] == sum(LENGTHS)
