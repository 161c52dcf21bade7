"""A stand-in for the desk of play data: nine things to do with a drawer, a window, buttons, a cube.

The simulator of that desk (Lynch et al. 2019, arXiv 1903.01973) is not public. Here the scene is
that of OGBench, as its package simulates it.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.envs.robots.engine import Data, engine
from hindsight_rl.envs.robots.picture import picture
from hindsight_rl.envs.robots.world import (
    BEGINNING,
    Array,
    Flags,
    Floats,
    Observation,
    check_time,
    clipped,
)

TASKS = ("cube_near", "cube_middle", "cube_far", "first_button", "second_button") + (
    "open_drawer",
    "close_drawer",
    "open_window",
    "close_window",
)
"""What the nine tasks ask for."""

_PLACES = np.array([[0.35, -0.05, 0.02], [0.35, 0.15, 0.02], [0.42, 0.05, 0.02]])  # of the cube
_SLIDES = {"drawer": (-0.16, 0.0), "window": (0.2, 0.0)}  # open and closed, metres
_CLOSE = 0.04  # metres, OGBench's tolerance
_SEEN, _ACTIONS, _SUBSTEPS = 40, 5, 25


class DeskStandIn(gymnasium.Env[Any, Any]):
    """Do one of nine things. The task (``desired_goal``) is which, one-hot ``[9]``: :data:`TASKS`.

    Cube at one of three places, one of two buttons on, drawer or window open or closed: each is
    judged from one state. ``achieved_goal`` ``[9]`` says of each whether it is so, 1 or 0. The
    reward is 1 where the task's is, else 0, and no episode ends. Observation ``[40]`` and action
    ``[5]`` in [-1, 1] (moves of the hand, turn, grip) are those of OGBench's ``scene-v0``. Buttons
    toggle the locks of drawer and window. All begins at random; a task is one of those that are not
    fulfilled then.

    Worlds do not step together: OGBench moves each arm by inverse kinematics of its own, and its
    locks are properties of the model. ``reset(options={"task": [9]})`` chooses the task.

    Args:
        render_mode: ``"rgb_array"`` or ``None``.

    Reference:
        Park et al. 2025, arXiv 2410.20092 (OGBench); for the nine tasks, Eysenbach et al. 2020,
        arXiv 2002.11089, appendix C.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}
    view, extent = (0, 1), 1.1
    skeleton = (
        ("ur5e/base", "ur5e/shoulder_link", "ur5e/upper_arm_link", "ur5e/forearm_link")
        + ("ur5e/wrist_1_link", "ur5e/wrist_2_link", "ur5e/wrist_3_link", "ur5e/robotiq/base"),
        *(("ur5e/robotiq/base", f"ur5e/robotiq/{side}_pad") for side in ("left", "right")),
        *((body,) for body in ("object_0", "button_0", "button_1")),
        ("drawer_base", "drawer_link_virtual_handle"),
        ("window", "windowb_a_virtual_handle"),
    )

    def __init__(self, render_mode: str | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing screen
            kind = engine("ogbench.manipspace.envs.scene_env").SceneEnv
            self.scene = kind("scene", mode="data_collection", visualize_info=False)
        self.render_mode = render_mode
        seen = spaces.Box(-np.inf, np.inf, (_SEEN,), np.float32)
        part = spaces.Box(0.0, 1.0, (len(TASKS),), np.float32)
        self.observation_space = spaces.Dict(
            {"observation": seen, "achieved_goal": part, "desired_goal": part}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (_ACTIONS,), np.float32)
        self._task = np.zeros(len(TASKS), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Return the first observation of a new episode.

        Args:
            seed: Seed of the environment's generator; ``None`` goes on with the present one.
            options: ``task`` ``[9]``.

        Returns:
            Observation, and an empty dictionary.

        Raises:
            ValueError: An option is unknown, or the task is not one-hot.
        """
        super().reset(seed=seed)
        options = options or {}
        task = np.array(options.get("task", np.eye(len(TASKS))[0]), np.float32)
        if unknown := set(options) - {"task"}:
            raise ValueError(f"options has {sorted(unknown)}; known is 'task'")
        if task.shape != self._task.shape or sorted(task) != [0.0] * (len(TASKS) - 1) + [1.0]:
            raise ValueError(f"task is {options['task']!r}: it must be one-hot, of {len(TASKS)}")
        seen, info = self.scene.reset(seed=int(self.np_random.integers(2**31)))
        self.scene.data.time = BEGINNING
        drawn = self.np_random.choice(np.flatnonzero(_fulfilled(info) == 0))
        self._task = task if "task" in options else np.eye(len(TASKS), dtype=np.float32)[drawn]
        return self._observe(seen, info), {}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step.

        Args:
            action: ``[5]``, clipped to its space.

        Returns:
            Observation, reward, False, False, and ``is_success``. A simulation that diverges is a
            ``RuntimeError``.
        """
        data = self.scene.data
        before = np.array([data.time])
        bound = np.ones(_ACTIONS)
        seen, _, _, _, info = self.scene.step(clipped(action, -bound, bound))
        check_time(self.scene.model, _SUBSTEPS, before, np.array([data.time]))
        observation = self._observe(seen, info)
        reward = float(self.compute_reward(observation["achieved_goal"], self._task))
        return observation, reward, False, False, {"is_success": reward == 1}

    def compute_reward(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Floats:
        """Return the rewards of steps that achieved ``achieved_goal``.

        Args:
            achieved_goal: ``[..., 9]``.
            desired_goal: ``[..., 9]``, tasks.
            info: Not used.

        Returns:
            ``[...]`` float32, 1 or 0.
        """
        achieved, task = (np.asarray(x, np.float32) for x in (achieved_goal, desired_goal))
        reward: Floats = (achieved * task).sum(-1)
        return reward

    def compute_terminated(
        self, achieved_goal: ArrayLike, desired_goal: ArrayLike, info: Any = None
    ) -> Flags:
        """Return False for all steps, ``[...]``: no episode ends."""
        return np.zeros(self.compute_reward(achieved_goal, desired_goal).shape, np.bool_)

    def render(self) -> NDArray[np.uint8] | None:
        """Return a picture ``[360, 480, 3]`` from above; the place for the cube is green."""
        return None if self.render_mode is None else picture(self, self.scene.data, self._task)

    @property
    def model(self) -> Any:
        """MuJoCo's model."""
        return self.scene.model

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the place of the cube that a task asks for."""
        return [(place, _CLOSE) for place in _PLACES[task[: len(_PLACES)] == 1].tolist()]

    def centre(self, data: Data) -> Array:
        """Return a place above the table."""
        return np.array([0.3, 0.0, 0.0])

    def _observe(self, seen: Array, info: dict[str, Any]) -> Observation:
        return {
            "observation": seen.astype(np.float32),
            "achieved_goal": _fulfilled(info),
            "desired_goal": self._task.copy(),
        }


def _fulfilled(info: dict[str, Any]) -> Floats:
    """Return which tasks are fulfilled, ``[9]``, by what OGBench says of a state."""
    offset = info["privileged/block_0_pos"] - _PLACES
    near = np.sqrt((offset * offset).sum(1)) <= _CLOSE
    slid = [
        abs(info[f"privileged/{name}_pos"][0] - place) <= _CLOSE
        for name, places in _SLIDES.items()
        for place in places
    ]
    return np.concatenate([near, info["button_states"] == 1, slid]).astype(np.float32)
