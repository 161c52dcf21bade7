"""Meta-World's reach and push: an arm seen by two cameras, and what its scripted experts recorded.

``install()`` puts pinned packages into build/metaworld, which only these scripts import. Pictures
are drawn in software by OSMesa (Debian and Ubuntu: ``apt-get install libosmesa6``).
"""

import ctypes.util
import functools
import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import common
import gymnasium
import numpy as np
from arm import simulator
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.files import write_whole
from hindsight_rl.logs.log import Log

HOME = common.BUILD / "metaworld"
# metaworld pins mujoco 3.3.0, and runs with this one; the other versions are in constraints.txt.
PACKAGES = ("metaworld==3.1.1", "mujoco==3.11.0", "scipy", "imageio", "etils", "glfw", "PyOpenGL")
TASKS = {"reach": "SawyerReachV3Policy", "push": "SawyerPushV3Policy"}
# Metres above the goal that the expert draws the wrist to. Meta-World measures from the fingers,
# and its own expert of reach draws the wrist to the goal: the fingers stop 0.046 m away, where
# 0.05 m count, and no imitation is that exact.
AIM = {"reach": 0.045, "push": 0.0}
DEMONSTRATIONS, DEMONSTRATION_SEED, SHAKE = 50, 0, 0.2
STEPS, AFTER, SIDE = 150, 10, 64
# Where the cameras look from, degrees; both look at the middle of where hand and goals are, metres.
AZIMUTHS = {"front": 270.0, "side": 180.0}
ELEVATION, DISTANCE, MIDDLE = -30.0, 0.9, (0.0, 0.72, 0.12)
# Of Meta-World's 39 numbers. Orientations hardly change here, and the same numbers a step ago give
# the last action away: cloning them all, an arm stops short of the goal.
HAND = (0, 1, 2, 3)
NUMBERS = {"state": (*HAND, 4, 5, 6, 36, 37, 38), "hand": HAND, "cameras": HAND}


def install() -> None:
    """Install what is missing, and have this process and those it starts find it.

    Raises:
        SystemExit: The library that draws is not on this machine.
    """
    if os.environ.setdefault("MUJOCO_GL", "osmesa") == "osmesa":
        os.environ.setdefault("LP_NUM_THREADS", "0")  # draw in the thread that asks
        if ctypes.util.find_library("OSMesa") is None:
            raise SystemExit("OSMesa is not installed. On Debian or Ubuntu: apt install libosmesa6")
    target = HOME / f"packages-{sys.version_info[0]}.{sys.version_info[1]}"
    made = target / "made"
    wanted = "\n".join(PACKAGES)
    if not made.exists() or made.read_text() != wanted:
        pins = str(common.ROOT / "constraints.txt")
        words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        words += ["-c", pins, "--no-deps", "--upgrade", "--target", str(target), *PACKAGES]
        subprocess.run(words, check=True)
        made.write_text(wanted)
    if str(target) not in sys.path:
        sys.path.append(str(target))


@functools.cache
def renderer(task: str) -> Any:
    """Return what draws a task: one a process, never closed.

    Where one of several OSMesa contexts is freed, the others draw old pictures, upside down.
    """
    import mujoco

    model = simulator(task).model
    model.vis.quality.offsamples = 0  # four samples a pixel take three times as long
    return mujoco.Renderer(model, SIDE, SIDE)


def pictures(task: str, data: Any) -> dict[str, NDArray[np.uint8]]:
    """Return what the two cameras see of a simulator's state, ``[64, 64, 3]`` each."""
    import mujoco

    draws, found = renderer(task), {}
    for name, azimuth in AZIMUTHS.items():
        camera = mujoco.MjvCamera()
        camera.lookat[:] = MIDDLE
        camera.distance, camera.azimuth, camera.elevation = DISTANCE, azimuth, ELEVATION
        draws.update_scene(data, camera)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            draws.scene.flags[flag] = 0
        found[name] = draws.render()
    return found


class Sawyer(gymnasium.Env[Any, Any]):
    """reach-v3 or push-v3, with goal and object drawn anew by the seed of each reset.

    Success is that of Meta-World: fingers, or puck, within 0.05 m of the goal. An episode ends ten
    steps after the first success, and is cut after 150 steps (Meta-World: 500). Action ``[4]`` in
    [-1, 1]: where the hand is drawn to, and the effort of the gripper.

    Args:
        task: ``"reach"`` or ``"push"``.
        seen: ``"state"``: observation ``[10]``, place of the hand, width of the gripper, places of
            puck and goal. ``"hand"``: ``[4]``, place of the hand and width of the gripper.
            ``"cameras"``: two pictures, ``front`` and ``side``, and ``hand``.
    """

    action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def __init__(self, task: str, seen: str = "state") -> None:
        self.task, self.seen = task, seen
        self.simulator = simulator(task)
        self.state = np.zeros(39, np.float32)
        camera = spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8)
        hand = spaces.Box(-2.0, 2.0, (len(HAND),), np.float32)
        self.observation_space = {
            "state": spaces.Box(-2.0, 2.0, (len(NUMBERS["state"]),), np.float32),
            "hand": hand,
            "cameras": spaces.Dict({"front": camera, "side": camera, "hand": hand}),
        }[seen]
        self._steps, self._first = 0, STEPS

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Return the first observation.

        Args:
            seed: Of goal and object.
            options: Not used.

        Returns:
            Observation, and nothing.
        """
        import mujoco

        super().reset(seed=seed)
        self.simulator.seed(int(self.np_random.integers(2**31)))
        self.state = self.simulator.reset()[0].astype(np.float32)
        # The goal's mark has moved in the model, and not yet in what is drawn.
        mujoco.mj_forward(self.simulator.model, self.simulator.data)
        self._steps, self._first = 0, STEPS
        return self._observe(), {}

    def _observe(self) -> Any:
        numbers = self.state[list(NUMBERS[self.seen])]
        if self.seen != "cameras":
            return numbers
        return pictures(self.task, self.simulator.data) | {"hand": numbers}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one step."""
        wanted = np.clip(np.asarray(action, np.float32), -1.0, 1.0)
        state, reward, _, _, info = self.simulator.step(wanted)
        self.state = state.astype(np.float32)
        self._steps += 1
        success = bool(info["success"])
        if success:
            self._first = min(self._first, self._steps)
        over = self._steps >= self._first + AFTER
        cut = not over and self._steps >= STEPS
        return self._observe(), float(reward), over, cut, {"is_success": success}


def demonstration(task: str, seed: int) -> dict[str, NDArray[Any]]:
    """Return the columns of one episode of the expert: what it meant to do, while its hand shook.

    Pictures and states have one row more than the rest: what the last step led to.
    """
    from metaworld import policies

    env, draw = Sawyer(task, "cameras"), np.random.default_rng(seed)
    expert, aim = getattr(policies, TASKS[task])(), np.zeros(39, np.float32)
    aim[-1] = AIM[task]
    frame, _ = env.reset(seed=seed)
    rows: dict[str, list[Any]] = {"state": [env.state]}
    for name in AZIMUTHS:
        rows[name] = [frame[name]]
    over = cut = False
    while not (over or cut):
        with warnings.catch_warnings(action="ignore"):  # that it means more than 1
            meant = np.clip(expert.get_action(env.state + aim), -1.0, 1.0).astype(np.float32)
        shaken = meant + SHAKE * draw.normal(size=4) * (1, 1, 1, 0)
        frame, reward, over, cut, info = env.step(shaken)
        seen = {name: frame[name] for name in AZIMUTHS} | {"state": env.state}
        given = {"action": meant, "reward": np.float32(reward), "terminated": over}
        for name, value in (seen | given | {"truncated": cut}).items():
            rows.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in rows.items()}


def recorded(task: str) -> dict[str, NDArray[Any]]:
    """Return 50 demonstrations that succeeded, columns by name; recorded at the first call."""
    facts = (DEMONSTRATIONS, DEMONSTRATION_SEED, SHAKE, STEPS, AFTER, SIDE, AZIMUTHS, MIDDLE)
    text = repr((PACKAGES, facts, ELEVATION, DISTANCE, AIM[task]))
    path = HOME / f"{task}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.npz"
    if not path.exists():
        _record(task, path)
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def _record(task: str, path: Path) -> None:
    episodes: list[dict[str, NDArray[Any]]] = []
    number = 0
    while len(episodes) < DEMONSTRATIONS:
        found = demonstration(task, episode_seed(DEMONSTRATION_SEED, number))
        if found["terminated"][-1]:
            episodes.append(found)
        number += 1
    lengths = [len(found["action"]) for found in episodes]
    columns = {name: np.concatenate([one[name] for one in episodes]) for name in episodes[0]}
    columns["episode"] = np.repeat(np.arange(DEMONSTRATIONS), lengths)
    write_whole(path, lambda file: np.savez(file, **columns))
    common.say(f"{task}: {DEMONSTRATIONS} demonstrations of {number}, {sum(lengths)} steps")


@functools.cache
def log_of(task: str, seen: str) -> Log:
    """Return the demonstrations of a task, as a policy sees them: see :class:`Sawyer`."""
    found = recorded(task)
    episode, state = found["episode"], found["state"][:, NUMBERS[seen]]
    last = np.flatnonzero(np.diff(episode, append=-1))  # rows of an episode's last step
    ends = last + 1 + np.arange(len(last))  # rows of the state after it
    starts = np.append(0, ends[:-1] + 1)
    now, following = np.delete(state, ends, axis=0), np.delete(state, starts, axis=0)
    if seen == "cameras":
        columns: dict[Any, Any] = {("observation", name): found[name] for name in AZIMUTHS}
        columns["observation", "hand"] = now
        columns["next", "observation", "hand"] = following
    else:
        columns = {"observation": now, ("next", "observation"): following}
    columns |= {("next", name): found[name] for name in ("reward", "terminated", "truncated")}
    columns |= {"action": found["action"], "episode": episode}
    bounds = {"low": [-1.0] * 4, "high": [1.0] * 4}
    return Log.from_columns(columns, {"source": f"Meta-World {task}, {seen}", "action": bounds})
