"""Two-link arm in the plane: bring its tip to a place, anywhere or one of 32."""

from collections.abc import Sequence

import numpy as np

from hindsight_rl.envs.robots.engine import Data, random_joints, suite_model
from hindsight_rl.envs.robots.world import Array, Floats, GoalWorld, Start, State

INNER, OUTER = 0.05, 0.20
"""Goals lie in the ring between these distances from the shoulder, metres; the arm reaches 0.24."""

# fmt: off
PLACES = np.array([
    [0.0195, 0.0861], [-0.0305, 0.0584], [-0.025, 0.1567], [0.1855, -0.0466],
    [0.1167, 0.0116], [0.0272, 0.1702], [0.1113, 0.148], [-0.0154, 0.1122],
    [-0.1527, 0.056], [-0.0942, 0.1097], [-0.1925, 0.0471], [0.0448, 0.0468],
    [0.1775, 0.0727], [-0.0562, -0.0252], [0.0791, -0.1759], [0.0667, 0.0683],
    [-0.1158, -0.1484], [-0.0738, -0.0545], [-0.1164, -0.1355], [0.0612, -0.0987],
    [-0.0135, -0.1022], [0.0625, -0.1447], [-0.1214, -0.0525], [0.1906, -0.0125],
    [0.1907, 0.0419], [-0.0869, -0.1519], [-0.0815, -0.1525], [-0.0728, -0.0343],
    [-0.1743, 0.077], [0.0266, -0.0938], [0.0093, -0.1624], [0.0304, 0.1717],
], np.float32)
# fmt: on
"""``[32, 2]``: the goals of the paper's code, uniform over the ring, to 0.1 mm."""

_LINK = 0.12


class Reacher(GoalWorld):
    """Bring the tip of the arm to a place. The task (``desired_goal``, ``[2]``) is where, metres.

    ``achieved_goal`` is the place of the tip. Goals have a uniform angle and a uniform distance in
    [0.05, 0.2] from the shoulder. Observation ``[7]``: sine and cosine of the shoulder, angle of
    the wrist, place of the tip, two velocities. Action ``[2]``: torques in [-1, 1]. Episodes start
    at rest in a random pose.

    Args:
        radius: Distance that counts as reached, metres, above 0.
        ends: Reaching the goal terminates.

    Reference:
        Eysenbach et al. 2020, arXiv 2002.11089, appendix C. Its published code compares these
        goals with the joint angles; its text and their ring mean places of the tip, as here.
    """

    task_low: Sequence[float] = (-OUTER, -OUTER)
    task_high: Sequence[float] = (OUTER, OUTER)
    observation_names = ("shoulder_sin", "shoulder_cos", "wrist", "tip_x", "tip_y") + (
        "shoulder_velocity",
        "wrist_velocity",
    )
    achieved_names = ("tip_x", "tip_y")
    view, extent = (0, 1), 0.56

    def __init__(self, radius: float = 0.01, ends: bool = True) -> None:
        super().__init__(radius, ends)
        self.model = suite_model("reacher")

    def start(self, generator: np.random.Generator) -> Start:
        """Return a random pose, at rest."""
        return random_joints(self.model, generator), np.zeros(self.model.nv)

    def sample_task(self, generator: np.random.Generator) -> Array:
        """Return a place in the ring, ``[2]``."""
        angle, length = generator.uniform(0.0, 2 * np.pi), generator.uniform(INNER, OUTER)
        return length * np.array([np.sin(angle), np.cos(angle)])

    def observe(self, state: State) -> Array:
        """Return angles, tip and velocities, ``[N, 7]``."""
        shoulder, wrist = state.qpos[:, :1], state.qpos[:, 1:]
        tip = _tip(state.qpos)
        return np.concatenate([np.sin(shoulder), np.cos(shoulder), wrist, tip, state.qvel], axis=1)

    def achieved(self, state: State, action: Array) -> Array:
        """Return the place of the tip, ``[N, 2]``."""
        return _tip(state.qpos)

    def marks(self, task: Floats) -> list[tuple[Sequence[float], float]]:
        """Return the goal."""
        x, y = self.goal(task)
        return [((float(x), float(y), 0.0), max(self.radius, 0.01))]

    def centre(self, data: Data) -> Array:
        """Return the shoulder."""
        return np.zeros(3)


class Reacher32(Reacher):
    """Bring the tip to one of 32 places. The task (``desired_goal``) is which, one-hot ``[32]``.

    All else is as in :class:`Reacher`: ``achieved_goal`` is the place of the tip, and places are
    :data:`PLACES`.

    Args:
        radius: Distance that counts as reached, metres, above 0. Some places are less than 0.01
            apart.
        ends: Reaching the goal terminates.
    """

    task_low, task_high = (0.0,) * len(PLACES), (1.0,) * len(PLACES)

    def sample_task(self, generator: np.random.Generator) -> Array:
        """Return one of the places, one-hot."""
        chosen: Array = np.eye(len(PLACES))[generator.integers(len(PLACES))]
        return chosen

    def goal(self, task: Floats) -> Floats:
        """Return the places ``[..., 2]`` that one-hot vectors mean."""
        places: Floats = PLACES[task.argmax(-1)]
        return places


def _tip(qpos: Array) -> Array:
    """Return where the tip is, ``[N, 2]``, metres from the shoulder."""
    first = np.ascontiguousarray(qpos[:, 0])
    second = qpos[:, 0] + qpos[:, 1]
    x, y = np.cos(first) + np.cos(second), np.sin(first) + np.sin(second)
    return _LINK * np.stack([x, y], axis=1)
