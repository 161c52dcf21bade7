"""Imagined rows beside collected ones: three origins, what is played, and resuming."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fit_process import differences
from imagined_worlds import Batches, drift, reach
from lightning.pytorch.callbacks import Callback
from small_fits import fit, learner_of
from small_replays import REACH, WALK, log_of, online

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.imagined_rows import ImaginedRows, Refit
from hindsight_rl.datamodules.sources.model import ModelSource
from hindsight_rl.keys import ACTION_LOG_PROB, IMAGINED, ORIGIN, ORIGINS, REWARD
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.goals import FutureGoal

QUIET = {"compile": "off"}
THIRDS = {"log": 0.3, "collected": 0.2, "imagined": 0.5}
MANY = {"collected": 0.25, "imagined": 0.75}


def data_of(log: Log | None, env: str = WALK, **options: Any) -> Any:
    """Return a small datamodule that collects and imagines."""
    given = {"model": drift, "every": 20, "rows": 30, "horizon": 3, "keep": 2}
    given |= options.pop("given", {})
    plain = {"mix": MANY if log is None else THIRDS, "initial_episodes": 4 if log is None else 0}
    return online(log, env, imagined=ImaginedRows(**given), **plain | options)


@pytest.mark.parametrize("logged", [False, True])
def test_every_origin_has_its_share(logged: bool, tmp_path: Path) -> None:
    seen, data = Batches(), data_of(log_of() if logged else None, batch_size=32)
    before = data.spec.to_dict()
    assert len(data.log) == data.spec.dataset.rows
    learner = learner_of(SAC, data.spec, **QUIET)
    fit(learner, data, tmp_path, 100, callbacks=[seen])
    origin = seen.rows[ORIGIN]
    for name, share in data.mix.items():
        count = int((origin == ORIGINS.index(name)).sum())
        assert (
            abs(count - origin.numel() * share) < 4 * (origin.numel() * share * (1 - share)) ** 0.5
        )
    assert bool((seen.rows[REWARD][origin == IMAGINED] > 50).all())
    assert bool((seen.rows[REWARD][origin != IMAGINED] < 10).all())
    assert differences(learner.spec.to_dict(), before) == []
    # Rounds of collecting count steps of the environment alone.
    held = data.log.column(ORIGIN) == ORIGINS.index("collected")
    assert int(held.sum()) == data.history[-1].env_steps


def test_branches_begin_in_collected_states_too(tmp_path: Path) -> None:
    """As those of the source alone, from what was played until then, by the policy as it is."""
    kept: dict[int, Any] = {}

    class Keeping(Callback):
        def on_train_batch_start(self, trainer: Any, learner: Any, *_: Any) -> None:
            kept[trainer.global_step] = data._replays.real.column("observation").clone()

    data = data_of(log_of(), given={"horizon": 1, "keep": 1, "rows": 200})
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 45, callbacks=[Keeping()])
    rows = data.log.gather((data.log.column(ORIGIN) == IMAGINED).nonzero().squeeze(1))
    begun = kept[40]
    apart = (rows["observation"].unsqueeze(1) == begun).all(-1)
    assert bool(apart.any(1).all()) and bool(apart[:, -20:].any())  # the newest among them


def test_a_command_sees_what_was_played_alone(tmp_path: Path) -> None:
    """And goals of imagined rows are those that they reach."""
    data = data_of(log_of(REACH), REACH, relabel=[FutureGoal()], given={"model": reach})
    seen = Batches()
    fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 50, callbacks=[seen])
    assert len(data._replays.real) < len(data.log)
    reached = data._replays.real.column(("next", "achieved_goal"))
    batch = seen.chunks[-1].reshape(-1)
    played = batch[batch[ORIGIN] != IMAGINED]["task"]
    assert bool((played.unsqueeze(1) == reached).all(-1).any(1).all())


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_resumed_run_ends_the_same(where: str, tmp_path: Path) -> None:
    """In the middle of a round of imagining, and at its edge."""
    log = log_of()

    def run(folder: Path, updates: int, ckpt_path: Path | None = None) -> Path:
        place = str(folder / "replay") if where == "file" else None
        data = data_of(log, capacity=40, memory_map=place)
        trainer = fit(learner_of(SAC, data.spec, **QUIET), data, folder, updates, ckpt_path)
        trainer.save_checkpoint(folder / f"{updates}.ckpt")
        return folder / f"{updates}.ckpt"

    whole = torch.load(run(tmp_path / "one", 90), weights_only=True)
    for stop in (50, 60):
        folder = tmp_path / str(stop)
        again = torch.load(run(folder, 90, run(folder, stop)), weights_only=True)
        for key in ("state_dict", "optimizer_states", "global_step", "IteratedDataModule"):
            assert differences(whole[key], again[key], key) == []
    assert set(whole["IteratedDataModule"]["replay"]) == set(THIRDS)


def test_another_model_does_not_resume(tmp_path: Path) -> None:
    data = data_of(None)
    trainer = fit(learner_of(BC, data.spec, **QUIET), data, tmp_path, 10)
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    other = data_of(None, given={"model": reach})
    with pytest.raises(LogError, match="with the model drift, and this one is reach"):
        fit(learner_of(BC, other.spec), other, tmp_path, 20, tmp_path / "some.ckpt")


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    for options, words in (
        ({"mix": None}, r"need a share of each batch: mix \{collected"),
        ({"mix": {"collected": 1.0}}, "mix gives no share to 'imagined'"),
        ({"expert": Expert()}, "nobody asks collection.expert what to do in imagined states"),
        ({"given": {"refit": Refit()}}, "fits the model drift on, and it is no learner's"),
    ):
        with pytest.raises(ValueError, match=words):
            data_of(None, **options)
    data = data_of(None)
    assert ACTION_LOG_PROB not in data.log

    class Reading(BC):
        in_keys = (*BC.in_keys, ACTION_LOG_PROB)

    with pytest.raises(LogError, match="a model imagines rows"):
        fit(learner_of(Reading, data.spec), data, tmp_path, 5)
    for options, words in (
        ({"updates": 0}, "imagined.refit.updates is 0"),
        ({"validation": 1.0}, "imagined.refit.validation is 1.0"),
    ):
        with pytest.raises(ValueError, match=words):
            Refit(**options)


def test_a_log_that_stays_needs_no_new_model() -> None:
    from imagined_worlds import data_of as offline

    with pytest.raises(ValueError, match="and the log stays as it is: leave it out"):
        offline(refit=Refit())


def test_a_source_of_a_replay_gives_its_columns() -> None:
    data = data_of(None, REACH, given={"model": reach})
    source = ModelSource(ImaginedRows(reach), data._replays.real)
    assert source.keys == tuple(data._replays.real.blocks[0].columns)
