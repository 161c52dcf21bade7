"""Rooms meet by keys: what a learner reads, a log holds or a relabeler writes."""

from typing import Any

import pytest
import torch
from relabelers import WRITERS, chain, relabelers
from small_fits import log_for, pairs_of
from tensordict import TensorDict

from hindsight_rl.datamodules.make_spec import check_keys
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import ACTION_LOG_PROB, FIRST, NEXT_POLICY_ACTION, is_below
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.relabeler import Relabeler, producers
from hindsight_rl.training.checkpoints.load import learner_classes
from hindsight_rl.windows import window_names

RELABELERS = relabelers()
LEARNERS = {
    name: kind for name, kind in learner_classes().items() if name.startswith("hindsight_rl.")
}


def goal_log() -> Log:
    """Return three episodes of a goal-reaching point: 4, 6 and 5 steps."""
    lengths = torch.tensor([4, 6, 5])
    episode = torch.repeat_interleave(torch.arange(3), lengths)
    position = torch.arange(16.0)[:, None] / 4
    last = torch.isin(torch.arange(15), lengths.cumsum(0) - 1)
    columns = {
        "observation": position[:-1],
        "achieved_goal": position[:-1],
        "action": torch.linspace(-1, 1, 15)[:, None],
        "task": torch.full((15, 1), 9.0),
        "episode": episode,
        ("next", "observation"): position[1:],
        ("next", "achieved_goal"): position[1:],
        ("next", "reward"): torch.linspace(0.5, 2, 15),
        ("next", "terminated"): last & (episode == 0),
        ("next", "truncated"): last & (episode != 0),
    }
    return Log.from_columns(columns, {"action": {"low": [-1.0], "high": [1.0]}})


def batch_of(relabel: list[Relabeler]) -> TensorDict:
    """Return the first update's batch of the goal log."""
    data = OfflineDataModule(goal_log(), relabel, batch_size=32)
    return data.on_after_batch_transfer(next(data.in_order()), 0)


def bound_keys(relabel: list[Relabeler]) -> set[Any]:
    """Return what the last relabeler declares once it is bound to the goal log."""
    chain = OfflineDataModule(goal_log(), relabel, batch_size=32).relabel
    return set(chain.relabelers[-1].out_keys)


def flat(batch: TensorDict) -> dict[Any, torch.Tensor]:
    """Return the tensors of a batch by key, the counters of its draws left out."""
    keys = batch.keys(include_nested=True, leaves_only=True)
    return {key: batch[key] for key in keys if key != "draws"}


@pytest.mark.parametrize("name", sorted(RELABELERS.keys() - {"Compose"}))
def test_relabeler_writes_what_it_declares(name: str) -> None:
    *earlier, relabeler = chain(RELABELERS[name])
    before = flat(batch_of(earlier))
    after = flat(batch_of([*earlier, relabeler]))
    written = {
        key for key, value in after.items() if key not in before or not value.equal(before[key])
    }
    declared = bound_keys([*earlier, relabeler])
    assert declared <= set(relabeler.out_keys), f"{name} declares more once it is bound"
    assert written <= declared, f"{name}.out_keys lacks {written - declared}"
    assert declared <= after.keys(), f"{name} declares {declared - after.keys()}, never written"
    assert before.keys() <= after.keys(), f"{name} drops {before.keys() - after.keys()}"


@pytest.mark.parametrize(("key", "name"), WRITERS.items())
def test_producers_of_a_key_are_those_that_declare_it(key: str, name: str) -> None:
    found = producers(key)
    assert name in found and found == sorted(found)
    for known, kind in RELABELERS.items():
        assert (known in found) == (key in kind.out_keys), known


def test_producers_include_those_of_a_plug_in_and_may_be_none() -> None:
    class Rated(Relabeler):
        """Writes a column of its own."""

        out_keys = (("mine", "rating"),)

    assert producers(("mine", "rating")) == ["Rated"]
    assert producers("rating") == []


@pytest.mark.parametrize("name", sorted(LEARNERS))
def test_keys_of_learner_are_met(name: str) -> None:
    kind = LEARNERS[name]
    adapts = hasattr(kind, "adapted")
    # Columns of some logs.
    some = {NEXT_POLICY_ACTION, ACTION_LOG_PROB, ("chunk", ACTION_LOG_PROB)}
    beside = some & set(kind.in_keys)
    fits = "continuous" in kind.actions and not kind.one_hot and not beside and not adapts
    log = goal_log() if fits else log_for(kind, goals=True)
    learner = kind(OfflineDataModule(log, batch_size=32).spec)
    if any(is_below(key, FIRST) for key in learner.in_keys):
        assert set(learner.in_keys) <= pairs_of(log, batch_size=32).serve(learner).batch_keys()
        with pytest.raises(LogError, match="Serve pairs: --data PreferenceDataModule"):
            check_keys(learner.in_keys, OfflineDataModule(log).batch_keys())
        return
    seen = [name for part in ("history", "chunk") for name in window_names(learner.in_keys, part)]
    windows = [RELABELERS[WRITERS[key]]() for key in seen if key not in log]
    data = OfflineDataModule(log, windows, batch_size=32).serve(learner)
    missing = {key for key in learner.in_keys if key not in data.batch_keys()}
    assert missing <= WRITERS.keys(), f"{name} reads {missing}: nothing writes it"
    relabel = windows + [RELABELERS[WRITERS[key]]() for key in missing]
    served = OfflineDataModule(log, relabel, batch_size=32).serve(learner).batch_keys()
    assert set(learner.in_keys) <= served
