"""PreferenceDataModule: what a pair holds, its split, its ranks, its errors."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import learner_of, pairs_of, trainer_in

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.cpl import CPL
from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.keys import ACTION, FIRST, OBSERVATION, PAIR, PREFERENCE, SECOND, TASK
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log


def chunk(data: PreferenceDataModule, updates: int = 3, **options: Any) -> Any:
    return data._sampler(**options).chunk(0, updates)


@pytest.mark.parametrize("options", [{}, {"discrete": True, "task": True}])
def test_a_pair_holds_both_segments_step_by_step(options: dict[str, bool]) -> None:
    log = episode_log(**options)
    data = pairs_of(log, batch_size=16)
    batch = chunk(data)
    assert batch.batch_size == (3, 16)
    rows = data.preferences.rows(log)[batch[PAIR]]
    assert batch["index"].equal(rows[..., 0])
    for place, part in enumerate((FIRST, SECOND)):
        steps = rows[..., place].unsqueeze(-1) + torch.arange(4)
        for key in (OBSERVATION, ACTION, *((TASK,) if options else ())):
            assert batch[part, key].equal(log.column(key)[steps])
        assert batch[part, "score"].equal(data.preferences.score[batch[PAIR]][..., place])
    assert batch[PREFERENCE].equal(data.preferences.label[batch[PAIR]])


def test_choices_are_numbered_from_zero() -> None:
    log = episode_log(discrete=True)
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    columns[ACTION] = columns[ACTION] + 4
    shifted = Log.from_columns(columns, log.info | {"action_start": 4})
    data = pairs_of(shifted, batch_size=16)
    batch = data.on_after_batch_transfer(chunk(data), 0)
    for place, part in enumerate((FIRST, SECOND)):
        steps = data.preferences.rows(log)[batch[PAIR]][..., place, None] + torch.arange(4)
        assert batch[part, ACTION].equal(log.column(ACTION)[steps])


def test_entries_of_observations_are_pairs_too() -> None:
    log = episode_log()
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    for start in ((), ("next",)):
        whole = columns.pop((*start, OBSERVATION) if start else OBSERVATION)
        columns[*start, OBSERVATION, "place"] = whole[:, :2]
        columns[*start, OBSERVATION, "speed"] = whole[:, 2:]
    data = pairs_of(Log.from_columns(columns, log.info))
    model = learner_of(RewardModel, data.spec)
    assert set(model.in_keys) <= {
        key if key in model.in_keys else key[:-1] for key in data.batch_keys()
    }
    batch = model.complete(next(data.in_order()))[0]
    assert torch.isfinite(model.losses(model.read(batch)).terms["reward"])


def test_training_and_held_out_pairs_are_apart() -> None:
    data = pairs_of(episode_log(), 200, validation=0.25, batch_size=64)
    trained = set(chunk(data, 50)[PAIR].flatten().tolist())
    held = set(data._held_out.tolist())
    assert trained == set(range(200)) - held and 30 < len(held) < 70
    batches = list(data.val_dataloader())
    assert batches[0][PAIR][0].equal(data._held_out)


def test_answers_about_the_same_segments_are_on_one_side() -> None:
    """Asked twice, the second time the other way around: neither gives the other away."""
    data = pairs_of(episode_log(), 100)
    known, turned = data.preferences, torch.tensor([1, 0])
    again = replace(
        known,
        episode=torch.cat([known.episode, known.episode[:, turned]]),
        start=torch.cat([known.start, known.start[:, turned]]),
        label=torch.cat([known.label, 1 - known.label]),
        score=torch.cat([known.score, known.score[:, turned]]),
        annotator=known.annotator * 2,
        page=known.page * 2,
    )
    held = PreferenceDataModule(data.log, again, validation=0.3)._held_out
    first, second = held[held < 100], held[held >= 100] - 100
    assert first.equal(second) and len(first) > 10
    fewer = PreferenceDataModule(data.log, known, validation=0.3)._held_out
    assert fewer.equal(first)  # further answers keep the split


def test_draws_depend_on_seed_update_and_row_only() -> None:
    data = pairs_of(episode_log(), batch_size=16)
    whole = chunk(data, 4)
    assert data._sampler().chunk(2, 2)[PAIR].equal(whole[PAIR][2:])
    halves = [chunk(data, 4, process=(rank, 2))[PAIR] for rank in range(2)]
    assert torch.cat(halves, dim=1).equal(whole[PAIR])
    assert not chunk(pairs_of(episode_log(), batch_size=16, seed=1), 4)[PAIR].equal(whole[PAIR])


def test_answers_of_one_annotator() -> None:
    data = pairs_of(episode_log(), 10)
    names = ("ada", "bob") * 5
    both = replace(data.preferences, annotator=names)
    found = PreferenceDataModule(data.log, both, annotator="bob", validation=0.0)
    assert found.preferences.label.equal(both.label[1::2])


def test_a_resume_needs_the_same_answers_and_split(tmp_path: Path) -> None:
    data = pairs_of(episode_log(), 40, validation=0.2)
    state = data.state_dict()
    data.load_state_dict(state)
    for other, name in (
        (pairs_of(episode_log(), 41, validation=0.2), "preferences_hash"),
        (pairs_of(episode_log(seed=1), 40, validation=0.2), "log_hash"),
        (pairs_of(episode_log(), 40, validation=0.3), "validation"),
        (pairs_of(episode_log(), 40, validation=0.2, seed=5), "seed"),
    ):
        with pytest.raises(LogError, match=f"the checkpoint was trained with {name}"):
            other.load_state_dict(state)
    longer = pairs_of(episode_log(), 41, validation=0.2)
    longer.trainer = SimpleNamespace(state=SimpleNamespace(fn="validate"))  # type: ignore[assignment]
    longer.load_state_dict(state)


def test_what_does_not_go_together(tmp_path: Path) -> None:
    data = pairs_of(episode_log())
    with pytest.raises(LogError, match="preferences: is about a log with hash"):
        PreferenceDataModule(episode_log(seed=1), data.preferences)
    with pytest.raises(LogError, match="none.npz: no such file"):
        PreferenceDataModule(data.log, tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"validation is 1.0, it must lie in \[0, 1\)"):
        pairs_of(episode_log(), validation=1.0)
    with pytest.raises(LogError, match="all answers are about the same two segments"):
        pairs_of(episode_log(), 1, validation=0.5)
    with pytest.raises(LogError, match="BC reads single rows.*Use OfflineDataModule"):
        trainer_in(tmp_path, 2).fit(learner_of(BC, data.spec), data)
    score = data.preferences.score.clone()
    score[3:, 1] = torch.nan
    mixed = PreferenceDataModule(data.log, replace(data.preferences, score=score), validation=0.0)
    with pytest.raises(LogError, match="CPL ranks segments by a teacher's scores, and 3 of 47 an"):
        trainer_in(tmp_path, 2).fit(learner_of(CPL, data.spec, compare="ranks"), mixed)
