"""Episodes with an image and a vector: recorded, kept, served, trained on, saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_fits import fit, learner_of
from small_replays import iterated
from tiny_envs import HORIZON, Look

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.spec import Image, Vector

STATE, CAMERA = ("observation", "state"), ("observation", "camera")


def played(action: np.ndarray, seed: int, episode: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the states ``[T + 1, 2]`` and frames that an environment shows for some actions."""
    env = Look()
    shown = [env.reset(seed=episode_seed(seed, episode))[0]]
    shown += [env.step(each)[0] for each in action]
    return tuple(np.stack([seen[name] for seen in shown]) for name in ("state", "camera"))


def online(**options: Any) -> Any:
    small: dict[str, Any] = {"initial_episodes": 4, "episodes_per_round": 3, "num_envs": 2}
    small |= {"batch_size": 8, "updates_per_step": 5, "seed": 3, "updates_per_env_step": 0.1}
    return iterated(Look, **small | options)


def test_entries_are_recorded_as_they_are_shown() -> None:
    found = Collector(Look, seed=3, num_envs=2).collect(None, 0, 5)
    action = found.columns["action"].numpy().reshape(5, HORIZON, 1)
    assert found.columns[CAMERA].dtype == torch.uint8
    cameras = found.columns[CAMERA].numpy().reshape(5, HORIZON + 1, 16, 16, 3)
    states, after = (
        found.columns[key].numpy().reshape(5, HORIZON, 2) for key in (STATE, ("next", *STATE))
    )
    for episode in range(5):
        state, frames = played(action[episode], 3, episode)
        np.testing.assert_array_equal(cameras[episode], frames)
        np.testing.assert_array_equal(states[episode], state[:-1])
        np.testing.assert_array_equal(after[episode], state[1:])


def test_they_are_served_trained_on_and_read_back(tmp_path: Path) -> None:
    data = online()
    assert list(data.spec.observation) == ["state", "camera"]
    state, camera = data.spec.observation.values()
    assert isinstance(state, Vector) and camera == Image((16, 16, 3))
    learner = learner_of(BC, data.spec, compile="off")
    before = [p.detach().clone() for p in learner.parameters()]
    fit(learner, data, tmp_path, 4)
    assert len(data.history) == 2  # the policy itself has collected the second round
    assert any(not p.equal(q) for p, q in zip(learner.parameters(), before, strict=True))
    log = data.log
    assert len(log) == 7 * HORIZON and log.episodes == 7
    action = log.column("action").numpy().reshape(7, HORIZON, 1)
    for episode in range(7):
        states, frames = played(action[episode], 3, episode)
        rows = torch.arange(episode * HORIZON, (episode + 1) * HORIZON)
        batch = log.gather(rows)
        np.testing.assert_array_equal(batch[CAMERA], frames[:-1])
        np.testing.assert_array_equal(batch["next", *CAMERA], frames[1:])
        np.testing.assert_array_equal(batch[STATE], states[:-1])
        assert batch[CAMERA].dtype == torch.uint8
    log.save(tmp_path / "saved.log")
    for mapped in (True, False):
        again = Log.load(tmp_path / "saved.log", memory_map=mapped)
        assert set(again.keys()) == set(log.keys()) and again.observed == [STATE, CAMERA]
        for key in log.keys():
            assert again.column(key).equal(log.column(key)), key
            assert again.column(key).dtype == log.column(key).dtype


def test_the_oldest_frames_go_with_their_episodes() -> None:
    collector = Collector(Look, seed=3, num_envs=2)
    replay = Replay(3 * HORIZON, collector.info)
    for first, count in ((0, 2), (2, 2), (4, 1), (5, 5)):  # the last ones are too many at once
        replay.append(*collector.collect(None, first, count)[:2])
        last = first + count
        log, held = replay.log, min(3, last)
        assert log.episodes == held and len(log) == held * HORIZON
        wanted = collector.collect(None, last - held, held).columns[CAMERA]
        assert log.images[CAMERA].pixels[:].equal(wanted)
        batch = log.gather(torch.arange(len(log)))
        frames = wanted.reshape(held, HORIZON + 1, 16, 16, 3)
        assert batch["next", *CAMERA].equal(frames[:, 1:].flatten(0, 1))
    other = Replay(3 * HORIZON, collector.info)
    other.begin_like(replay)
    other.load_state_dict(replay.state_dict())
    assert other.log.images[CAMERA].pixels[:].equal(replay.log.images[CAMERA].pixels[:])
    assert other.log.hash() == replay.log.hash()
    state = replay.state_dict()
    del state["images"]
    with pytest.raises(LogError, match="the replay holds the images .*camera.* those given are"):
        other.load_state_dict(state)


def test_a_run_goes_on_with_its_frames(tmp_path: Path) -> None:
    ends = []
    for stops in ([8], [4, 8]):
        path = None
        for stop in stops:
            data = online()
            learner = learner_of(BC, data.spec, compile="off")
            trainer = fit(learner, data, tmp_path, stop, ckpt_path=path)
            path = tmp_path / f"{len(stops)}-{stop}.ckpt"
            trainer.save_checkpoint(path)
        ends.append((data.log, learner))
    (one, learner), (two, other) = ends
    assert one.images[CAMERA].pixels[:].equal(two.images[CAMERA].pixels[:])
    assert one.hash() == two.hash()
    pairs = zip(learner.parameters(), other.parameters(), strict=True)
    assert all(p.equal(q) for p, q in pairs)


@pytest.mark.parametrize("name", ["mix", "memory_map"])
def test_what_does_not_take_images_says_so(name: str, tmp_path: Path) -> None:
    value = {"collected": 1.0} if name == "mix" else str(tmp_path / "replay")
    with pytest.raises(ValueError, match=f"an image among them, and {name} does not take images"):
        online(**{name: value})
