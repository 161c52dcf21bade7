"""Meta-World's scenes with several tasks each, and what its scripted experts record in them.

A scene is one simulator, whatever is done in it. What an expert sees is made up for it; a policy
sees the 16 numbers of ``arm_tasks``.
"""

import functools
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import torch
from arm_tasks import SCENES, TABLE, TASKS, WIDTH, Turn, done, scene_of
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.envs.rollout import episode_seed

sys.path.append(str(Path(__file__).resolve().parents[1]))
import arm  # noqa: E402


class Place(NamedTuple):
    """A scene: whose simulator it is, its joint, and where that starts for all tasks alike."""

    host: str
    joint: str = ""
    start: float = 0.0


PLACES = {
    "puck": Place("pick-place"),
    "door": Place("door-open", "doorjoint", -1.15),  # further closed, an expert may fail
    "drawer": Place("drawer-open", "goal_slidey", -0.08),
    "window": Place("window-open", "window_slide", 0.1),
    "button": Place("button-press-topdown", "btnbox_joint"),
}
STEPS, AFTER = 150, 10
SHAKE = 0.2  # standard deviation of what is added to an expert's action, but for the gripper's
# The fingers hang 0.046 m below what the expert of reach brings to the mark.
ABOVE = np.array([0.0, 0.0, 0.045])
Numbers = NDArray[np.float32]
Columns = dict[Any, Any]


@functools.cache
def simulator(scene: str) -> Any:
    """Return the simulator of a scene, one in a process: making it takes longer than an episode.

    A reset puts the hand where the first one drew it to, in the place of drawing it there again.
    """
    made = arm.simulator(PLACES[scene].host)
    mujoco.mj_resetData(made.model, made.data)
    made._reset_hand()
    model, data, kinds = made.model, made.data, mujoco.mjtState.mjSTATE_INTEGRATION
    first = np.zeros(mujoco.mj_stateSize(model, kinds))
    mujoco.mj_getState(model, data, first, kinds)

    def put(steps: int = 0) -> None:
        mujoco.mj_setState(model, data, first, kinds)
        mujoco.mj_forward(model, data)
        made.init_tcp = made.tcp_center

    made._reset_hand = put
    return made


class Scene(gymnasium.Env[Any, Any]):
    """A scene in which one of its tasks is to be done; one at a time in a process.

    Place of the object and mark are drawn by the seed of the reset, whatever the task. The episode
    ends when the task is done, and is cut after 150 steps. Observation ``[16]``; ``desired_goal``
    is the task, one-hot ``[10]``; action ``[4]`` in [-1, 1]: where the hand is drawn to, and the
    effort of the gripper.

    Args:
        task: One of ``TASKS``.
        shared: Fixtures start half open, and the mark hangs in the air: the same for all tasks of
            the scene. Otherwise as in Meta-World: what is to be opened is closed, and the mark of
            push lies on the table.
        after: Steps that an episode goes on when the task is done.
    """

    action_space = spaces.Box(-1.0, 1.0, (4,), np.float32)

    def __init__(self, task: str, shared: bool, after: int = 0) -> None:
        self.task, self.shared, self.after, self.scene = task, shared, after, scene_of(task)
        self.place = PLACES[self.scene]
        self.number = list(TASKS).index(task)
        self.observation_space = spaces.Dict(
            observation=spaces.Box(-np.inf, np.inf, (WIDTH,), np.float32),
            desired_goal=spaces.Box(0.0, 1.0, (len(TASKS),), np.float32),
        )
        self.simulator, self._steps, self._done = simulator(self.scene), 0, 0
        self.mark = np.zeros(3)

    def start(self) -> float:
        """Return where the joint starts."""
        own = TASKS[self.task]
        return own.start if isinstance(own, Turn) and not self.shared else self.place.start

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the first observation, and nothing."""
        super().reset(seed=seed)
        self.simulator.seed(int(self.np_random.integers(2**31)))
        self.mark = self.simulator.reset_model()[36:]
        if self.scene != "puck":
            self.mark = np.zeros(3)
            self.simulator.data.joint(self.place.joint).qpos[0] = self.start()
            mujoco.mj_forward(self.simulator.model, self.simulator.data)
        elif self.task == "push" and not self.shared:
            self.mark[2] = TABLE
        self._steps = self._done = 0
        return self._seen(), {}

    def numbers(self) -> Numbers:
        """Return the observation ``[16]``."""
        data, scene = self.simulator.data, np.zeros(len(SCENES))
        scene[SCENES.index(self.scene)] = 1.0
        joint = data.joint(self.place.joint).qpos[0] if self.place.joint else 0.0
        width = np.linalg.norm(data.body("rightclaw").xpos - data.body("leftclaw").xpos) / 0.1
        width = min(width, 1.0)
        parts = (self.simulator.tcp_center, width, self.simulator._get_pos_objects(), self.mark)
        return np.hstack([*parts, joint, scene]).astype(np.float32)

    def _seen(self) -> dict[str, Any]:
        task = np.zeros(len(TASKS), np.float32)
        task[self.number] = 1.0
        return {"observation": self.numbers(), "desired_goal": task}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take one step; the reward is 1 where the task is done."""
        pulled, simulator = np.clip(np.asarray(action, np.float64), -1.0, 1.0), self.simulator
        simulator.set_xyz_action(pulled[:3])  # a step of Meta-World, without its reward
        simulator.do_simulation([pulled[3], -pulled[3]], simulator.frame_skip)
        mujoco.mj_forward(simulator.model, simulator.data)
        self._steps += 1
        seen = self._seen()
        success = bool(done(self.task, torch.as_tensor(seen["observation"])))
        self._done += success or self._done > 0
        over = self._done > self.after
        cut = not over and self._steps >= STEPS
        return seen, float(success), over, cut, {"is_success": success}

    def for_expert(self) -> NDArray[np.float64]:
        """Return the 39 numbers that the expert of the task is written for."""
        seen, data = np.zeros(39), self.simulator.data
        seen[:3], seen[36:] = self.simulator.get_endeff_pos(), self.mark
        seen[3:7] = self.numbers()[3:7]
        if self.task == "reach":
            seen[36:] += ABOVE
        elif self.task == "push":
            seen[38] = TABLE
        elif self.task == "door-close":
            seen[36:] = data.body("door").xpos + (0.2, -0.2, 0.0)
        elif self.task == "drawer-close":
            seen[6] += 0.05
        elif self.task == "window-close":
            seen[4:7] = data.site("handleCloseStart").xpos
        return seen


def expert(task: str) -> Any:
    """Return Meta-World's scripted policy of a task."""
    from metaworld import policies

    words = "".join(word.capitalize() for word in task.split("-"))
    return getattr(policies, f"Sawyer{words}V3Policy")()


def demonstration(task: str, shared: bool, seed: int) -> tuple[Columns, bool]:
    """Return the columns of one episode of the expert, and whether it succeeded.

    Actions are what it meant to do, while its hand shook. The episode goes on ten steps longer.
    """
    env, draw, scripted = Scene(task, shared, AFTER), np.random.default_rng(seed), expert(task)
    now, _ = env.reset(seed=seed)
    rows: Columns = {}
    over = cut = False
    while not (over or cut):
        with warnings.catch_warnings(action="ignore"):  # that it means more than 1
            meant = np.clip(scripted.get_action(env.for_expert()), -1.0, 1.0).astype(np.float32)
        following, _, over, cut, _ = env.step(meant + SHAKE * draw.normal(size=4) * (1, 1, 1, 0))
        row = {"observation": now["observation"], "action": meant, "task": now["desired_goal"]}
        after = {"observation": following["observation"], "truncated": over or cut}
        row |= {("next", name): value for name, value in after.items()}
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
        now = following
    return {name: np.stack(values) for name, values in rows.items()}, over


def recorded(shared: bool, episodes: int, seed: int) -> tuple[Columns, list[int]]:
    """Return demonstrations that succeeded, so many of each task, and how many it took.

    Args:
        shared: See :class:`Scene`.
        episodes: Of each task.
        seed: Of the recording.

    Returns:
        Columns of a log with the true tasks, and for each task the episodes tried.

    Raises:
        RuntimeError: An expert succeeds in fewer than one of five.
    """
    found: list[Columns] = []
    counts = []
    for number, task in enumerate(TASKS):
        tried = kept = 0
        while kept < episodes:
            one, success = demonstration(task, shared, episode_seed(seed, 1000 * number + tried))
            found += [one] if success else []
            tried, kept = tried + 1, kept + success
            if tried >= 5 * episodes:
                raise RuntimeError(f"{task}: the expert succeeded in {kept} of {tried} episodes")
        counts.append(tried)
    columns: Columns = {key: np.concatenate([one[key] for one in found]) for key in found[0]}
    columns["episode"] = np.repeat(np.arange(len(found)), [len(one["action"]) for one in found])
    columns["next", "terminated"] = np.zeros(len(columns["episode"]), np.bool_)
    return columns, counts
