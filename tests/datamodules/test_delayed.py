"""Rounds collected one ahead: equal in the background and at once, resumed, and when they fail."""

import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fit_process import Job, differences, fit_job
from lightning.pytorch.callbacks import Callback
from small_fits import fit, learner_of
from small_replays import ROUNDS, WALK, iterated, log_of, online
from tiny_envs import HORIZON, Drift, Walk

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.envs.interface import RolloutError
from hindsight_rl.nets.network import History

UPDATES = 130
DATA = ROUNDS | {"delayed": True}


class Slow(Walk):
    """The walk, a step of which takes longer than an update."""

    def step(self, action: Any) -> Any:
        """Wait, and step."""
        time.sleep(0.002)
        return super().step(action)


def job_of(folder: Path, updates: int = UPDATES, **data: Any) -> Job:
    return Job("BC", "", str(folder), updates, arguments={"compile": "off"}, data=DATA | data)


def assert_same_end(one: Path, other: Path) -> None:
    """Weights, optimizer, rounds, replay and the round that comes: nothing differs."""
    ends = [torch.load(path, weights_only=True) for path in (one, other)]
    for key in ("state_dict", "optimizer_states", "global_step", "IteratedDataModule"):
        assert differences(ends[0][key], ends[1][key], key) == []


@pytest.fixture(scope="module")
def at_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a fit that waits for every round."""
    folder = tmp_path_factory.mktemp("at_once")
    fit_job(job_of(folder))
    return folder


def test_the_background_ends_as_waiting_does(at_once: Path, tmp_path: Path) -> None:
    assert_same_end(fit_job(job_of(tmp_path, background=True)), at_once / "final.ckpt")
    state = torch.load(at_once / "final.ckpt", weights_only=True)["IteratedDataModule"]
    assert len(state["history"]) > 3 and len(state["next"]["lengths"]) == 4


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_resumed_in_the_middle_of_a_round(
    background: bool, where: str, at_once: Path, tmp_path: Path
) -> None:
    more = {"memory_map": str(tmp_path / "replay")} if where == "file" else {}
    stopped = fit_job(job_of(tmp_path, 75, background=not background, **more))
    begins = [e["update"] for e in torch.load(stopped)["IteratedDataModule"]["history"]]
    assert 75 not in begins
    found = fit_job(job_of(tmp_path, background=background, **more), ckpt_path=stopped)
    if where == "memory":
        assert_same_end(found, at_once / "final.ckpt")
        return
    ends = [torch.load(path) for path in (found, at_once / "final.ckpt")]
    assert differences(ends[0]["state_dict"], ends[1]["state_dict"], "state_dict") == []


def test_resumed_at_the_edge_of_a_round(at_once: Path, tmp_path: Path) -> None:
    state = torch.load(at_once / "final.ckpt")["IteratedDataModule"]
    edge = state["history"][2]["update"]
    stopped = fit_job(job_of(tmp_path, edge, background=True))
    found = fit_job(job_of(tmp_path, background=True), ckpt_path=stopped)
    assert_same_end(found, at_once / "final.ckpt")


class Weights(Callback):
    """Keeps the policy's weights at the end of every chunk, by update."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[str, Any]] = {}

    def on_train_start(self, trainer: Any, learner: Any) -> None:
        self.on_train_batch_end(trainer, learner)

    def on_train_batch_end(self, trainer: Any, learner: Any, *_: Any) -> None:
        self.kept[trainer.global_step] = {k: v.clone() for k, v in learner.state_dict().items()}


@pytest.mark.parametrize("kind", ["BC", "SAC", "RecurrentBC", "history"])
def test_a_round_is_of_the_policy_of_the_round_before(kind: str, tmp_path: Path) -> None:
    """Round n + 1 is what the weights play with which the updates of round n begin."""
    kinds: dict[str, Any] = {"SAC": SAC, "RecurrentBC": RecurrentBC}
    own = {"history": History(steps=2)} if kind == "history" else {}
    plain = {k: v for k, v in DATA.items() if k != "env"} | {"updates_per_env_step": 2.0}
    data = iterated(WALK, **plain | {"background": True, "capacity": 10_000})
    learner = learner_of(kinds.get(kind, BC), data.spec, compile="off", **own)
    weights = Weights()
    fit(learner, data, tmp_path, 300, callbacks=[weights])
    assert len(data.history) > 4
    episodes, rows = data.history[0].episodes, data.history[0].env_steps
    for before, now in zip(data.history[:-1], data.history[1:], strict=True):
        learner.load_state_dict(weights.kept[before.update])
        other = IteratedDataModule(WALK, collection=data.collection)
        other._collector.stating = data._collector.stating
        found = other._collector.collect(
            learner.collecting(True), episodes, now.episodes - episodes, None
        )
        for key, column in found.columns.items():
            held = data._replays.real.column(key)[rows : now.env_steps]
            assert torch.equal(held, column), (key, now)
        episodes, rows = now.episodes, now.env_steps


def test_after_a_log_alone_the_first_round_is_as_new_as_the_second(tmp_path: Path) -> None:
    """Nothing is there to update on before: both are of the first weights."""
    data = online(log_of(), delayed=True, background=True)
    weights = Weights()
    learner = learner_of(BC, data.spec, compile="off")
    fit(learner, data, tmp_path, 60, callbacks=[weights])
    assert data.history[0].update == 0 and len(data.history) > 2
    learner.load_state_dict(weights.kept[0])
    other = online(log_of())
    other._collector.stating = data._collector.stating
    start = len(log_of())
    for first in (0, 3):
        action = other._collector.collect(learner.collecting(True), first, 3, None).columns[
            "action"
        ]
        assert torch.equal(data._replays.real.column("action")[start : start + len(action)], action)
        start += len(action)


def test_updates_go_on_meanwhile(tmp_path: Path) -> None:
    """Chunks end while a slow round is collected."""

    class Seen(Callback):
        running = 0

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            self.running += bool(multiprocessing.active_children())

    for background in (False, True):
        seen = Seen()
        data = iterated(Slow, initial_episodes=4, batch_size=4, delayed=True, background=background)
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 40, callbacks=[seen])
        assert bool(seen.running) == background
    assert not multiprocessing.active_children()


class Breaking(Walk):
    """The walk, which breaks in the n-th step of all its copies."""

    left = 0

    def step(self, action: Any) -> Any:
        """Break, or step."""
        type(self).left -= 1
        if not type(self).left:
            raise OSError("the simulator is gone")
        return super().step(action)


@pytest.mark.parametrize("background", [False, True])
def test_an_environment_that_breaks(background: bool, tmp_path: Path) -> None:
    Breaking.left = 60
    data = iterated(Breaking, initial_episodes=4, batch_size=4, delayed=True, background=background)
    with pytest.raises(OSError, match="the simulator is gone") as error:
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 2000)
    assert not data._next.begun and data.state_dict()["next"] is None
    notes = getattr(error.value, "__notes__", [])
    assert any("in step" in note for note in notes) == background


def test_an_error_that_a_checkpoint_waits_for_is_not_lost(tmp_path: Path) -> None:
    class Saved(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            saved.append(trainer.datamodule.state_dict()["next"])

    saved: list[Any] = []
    Breaking.left = 60
    data = iterated(Breaking, initial_episodes=4, batch_size=4, delayed=True, background=True)
    with pytest.raises(OSError, match="the simulator is gone"):
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 99, callbacks=[Saved()])
    assert saved == [None]


class OddError(Exception):
    """An error that takes two arguments and keeps one."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def test_an_error_that_cannot_be_sent(tmp_path: Path) -> None:
    class Odd(Walk):
        def step(self, action: Any) -> Any:
            if os.getpid() != parent:
                raise OddError("one thing", "another")
            return super().step(action)

    parent = os.getpid()
    data = iterated(Odd, initial_episodes=4, batch_size=4, delayed=True, background=True)
    with pytest.raises(RuntimeError, match="OddError: one thing and another"):
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 2000)


def test_a_simulator_that_takes_its_process_along(tmp_path: Path) -> None:
    class Crashing(Walk):
        def step(self, action: Any) -> Any:
            if os.getpid() != parent:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().step(action)

    parent = os.getpid()
    data = iterated(Crashing, initial_episodes=4, batch_size=4, delayed=True, background=True)
    with pytest.raises(RolloutError, match="process that collects in the background ended with co"):
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 2000)


def test_warnings_are_handed_on_once(tmp_path: Path) -> None:
    class Warning(Walk):
        def step(self, action: Any) -> Any:
            if os.getpid() != parent:
                warnings.warn("the gears are worn", stacklevel=1)
            return super().step(action)

    parent = os.getpid()
    data = iterated(Warning, initial_episodes=4, batch_size=4, delayed=True, background=True)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 200)
    assert len(data.history) > 2
    assert [str(w.message) for w in found].count("the gears are worn") == 1


def test_an_expert_keeps_what_it_learned_in_the_background(tmp_path: Path) -> None:
    """Questions asked in a fork are counted, and what was asked is the same as at once."""
    ends = []
    for background in (False, True):
        data = iterated(
            Drift,
            initial_episodes=4,
            batch_size=4,
            expert=Expert("environment", max_queries=10_000),
            delayed=True,
            background=background,
        )
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 100)
        ends.append(data.state_dict())
    assert differences(*ends) == [] and ends[0]["history"][-1]["queries"] > 24


def test_numbers_that_are_not_finite_are_the_usual_error(tmp_path: Path) -> None:
    class Late(Walk):
        episodes = 0

        def reset(self, **given: Any) -> Any:
            type(self).episodes += 1
            self.broken = HORIZON * (type(self).episodes > 10)
            return super().reset(**given)

    data = iterated(Late, initial_episodes=4, batch_size=4, delayed=True, background=True)
    with pytest.raises(RolloutError, match="'next.observation' is not finite in the episode with"):
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 2000)


def test_a_fit_that_fails_ends_the_round(tmp_path: Path) -> None:
    """It does not wait for episodes without an end."""

    class Failing(Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            raise RuntimeError("a callback failed")

    def endless() -> Walk:
        return Slow(endless=True)

    data = iterated(endless, initial_episodes=1, batch_size=4, delayed=True, background=True,
                    max_episode_steps=20)  # fmt: skip
    data._collector._limit.steps = 10**9
    with pytest.raises(RuntimeError, match="a callback failed"):
        fit(learner_of(BC, data.spec, compile="off"), data, tmp_path, 40, callbacks=[Failing()])
    assert not multiprocessing.active_children()


def test_settings_that_do_not_go_together() -> None:
    with pytest.raises(ValueError, match=r"collection.background is true, .* collection.delayed"):
        Collection(background=True)
    with pytest.raises(ValueError, match=r"collection.delayed is true, and rounds of epochs are"):
        Collection(delayed=True, epochs=2)
    assert np.all(Collection(delayed=True, background=True).delayed)
