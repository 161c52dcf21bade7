"""Ten tasks of an arm in five scenes, and what a step is worth for each: pure functions of the log.

An observation has 16 numbers, metres and radians: 0 to 2 the middle between the fingers, 3 the
width of the gripper, 4 to 6 the object (puck, or handle or knob of a fixture), 7 to 9 the mark
where puck or fingers are to go (zeros where there is none), 10 the joint of the fixture (0 where
there is none), 11 to 15 which scene it is.

A task is done where Meta-World 3.0.0 says so: near the mark, or the joint past a limit. The limits
are where its predicates change along the joint.
"""

from typing import NamedTuple

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.draws import integers
from hindsight_rl.tasks.family import DiscreteTasks, TaskFamily

SCENES = ("puck", "door", "drawer", "window", "button")
WIDTH = 11 + len(SCENES)
FINGERS, OBJECT, MARK, JOINT = slice(0, 3), slice(4, 7), slice(7, 10), 10
TABLE = 0.02  # metres: height of a puck that lies
DONE = 10.0  # the reward of success in Meta-World


class Turn(NamedTuple):
    """A task of a fixture: its joint is to go from one end past a limit."""

    scene: str
    start: float
    limit: float


class Bring(NamedTuple):
    """A task of the puck's scene: something is to be brought to the mark, or to the table below."""

    what: slice
    radius: float = 0.05  # metres from the mark
    lies: bool = False


TASKS: dict[str, Turn | Bring] = {
    "reach": Bring(FINGERS),
    "push": Bring(OBJECT, lies=True),
    "pick-place": Bring(OBJECT, radius=0.07),
    "door-open": Turn("door", 0.0, -1.3836),
    "door-close": Turn("door", -1.5708, -0.1784),
    "drawer-open": Turn("drawer", 0.0, -0.1602),
    "drawer-close": Turn("drawer", -0.15, -0.0314),
    "window-open": Turn("window", 0.0, 0.1902),
    "window-close": Turn("window", 0.2, 0.0399),
    "button-press-topdown": Turn("button", 0.0, -0.0692),
}
ONE_HOT = torch.eye(len(TASKS)).tolist()


def scene_of(task: str) -> str:
    """Return the scene of a task."""
    kind = TASKS[task]
    return kind.scene if isinstance(kind, Turn) else "puck"


def done(task: str, observation: Tensor) -> Tensor:
    """Return whether a task is done, as Meta-World says it.

    Args:
        task: Its name.
        observation: ``[..., 16]``.

    Returns:
        bool ``[...]``; False in another scene, where the object is not there.
    """
    kind = TASKS[task]
    here = observation[..., WIDTH - len(SCENES) + SCENES.index(scene_of(task))] > 0.5
    if isinstance(kind, Turn):
        joint = observation[..., JOINT]
        return here & ((joint >= kind.limit) if kind.limit > kind.start else (joint <= kind.limit))
    away = observation[..., kind.what] - observation[..., MARK]
    if kind.lies:
        height = observation[..., kind.what][..., 2:] - TABLE
        away = torch.cat([away[..., :2], height], dim=-1)
    return here & (torch.linalg.vector_norm(away, dim=-1) <= kind.radius)


class Doing(TaskFamily):
    """A task is the number of one of the ten; what counts is that it gets done.

    10 for the step that does it, -10 for one that undoes it, else 0: the sum over an episode says
    whether the task was done in it. What was done before is no merit of the episode, as a sum of
    Meta-World's dense rewards would have it: a door that is to be opened is closed for most of the
    time.
    """

    in_keys = ("observation", ("next", "observation"))

    def sample(self, draws: Tensor) -> Tensor:
        """Return numbers of tasks ``[..., 1]``."""
        return integers(draws, len(TASKS)).unsqueeze(-1).float()

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every task, up to a constant."""
        return torch.zeros(task.shape[:-1], device=task.device)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return what the step did."""
        before, after = (
            torch.stack([done(task, batch[key]) for task in TASKS], dim=-1).float()
            for key in self.in_keys
        )
        return _of(task, DONE * (after - before), pairwise)

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return False throughout: an episode goes on when a task is done."""
        none = torch.zeros(*batch.shape, len(TASKS), dtype=torch.bool, device=task.device)
        return _of(task, none, pairwise)


def _of(task: Tensor, every: Tensor, pairwise: bool) -> Tensor:
    """Return of ``[..., 10]`` what belongs to the tasks: one of a row, or all for every row."""
    number = task[..., 0].long()
    return every[..., number] if pairwise else every.gather(-1, number.unsqueeze(-1)).squeeze(-1)


def family() -> DiscreteTasks:
    """Return the ten tasks as one-hot vectors."""
    return DiscreteTasks(Doing(), [[float(number)] for number in range(len(TASKS))])


def confusion(posterior: Tensor, true: Tensor) -> list[list[float]]:
    """Return how the episodes of each task are shared out among tasks.

    Args:
        posterior: ``[E, N]``, of each episode.
        true: ``[E]`` int64, number of the task that each was played for.

    Returns:
        ``[N, N]``: row k is the mean posterior of the episodes of task k, zeros without one.
    """
    choice = torch.nn.functional.one_hot(true, posterior.shape[-1]).double()
    counts = choice.sum(0).clamp_min(1).unsqueeze(-1)
    found: list[list[float]] = (choice.T @ posterior.double() / counts).tolist()
    return found
