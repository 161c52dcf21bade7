"""Goals of Gymnasium environments, judged by the environment's own functions."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import NEXT_ACHIEVED
from hindsight_rl.ports import LogView
from hindsight_rl.tasks.family import RowPrior, TaskFamily

Judge = Callable[[NDArray[Any], NDArray[Any], dict[str, Any]], Any]

_OWN = "write a family of your own (docs/task-families.md)"


class EnvGoals(TaskFamily):
    """A task is a goal of a Gymnasium environment, which judges where a step led.

    Reward and termination are what ``compute_reward`` and ``compute_terminated`` of the environment
    return for ``next.achieved_goal`` and the goal, as in the goal environments of
    Gymnasium-Robotics. They must need nothing else: they get an empty ``info``. The prior is
    uniform over the states reached in the log.

    The environment is made when the family meets its log, and never stepped. It computes in numpy
    on the CPU: where ``GoalReaching`` gives the same rewards, it is faster. A function that takes
    one pair only is called pair by pair.

    Args:
        env: Gymnasium id; ``gymnasium_robotics:FetchReach-v4`` imports a module first.
        env_kwargs: Passed to ``gymnasium.make``.
    """

    in_keys = (NEXT_ACHIEVED,)

    def __init__(self, env: str, env_kwargs: Mapping[str, Any] | None = None) -> None:
        self.env, self.env_kwargs = env, dict(env_kwargs or {})
        self._prior = RowPrior()
        self._made: gymnasium.Env[Any, Any] | None = None
        self._offset: NDArray[np.float64] | float = 0.0

    def prepare(self, log: LogView) -> Self:
        """Return a copy whose prior is the states reached in the log.

        Args:
            log: The log.

        Returns:
            The bound family.

        Raises:
            ValueError: The environment cannot be made, has goals of another shape than the log, or
                cannot judge them.
        """
        reached = log.column(NEXT_ACHIEVED)
        space = self._environment().observation_space
        goal = space.get("desired_goal") if isinstance(space, spaces.Dict) else None
        if goal is not None and goal.shape != tuple(reached.shape[1:]):
            raise ValueError(
                f"{self.env} has goals of shape {list(goal.shape or ())}, and 'next.achieved_goal' "
                f"of the log has {list(reached.shape[1:])}: name the environment it was recorded in"
            )
        other = copy.copy(self)
        other._prior = RowPrior(reached[log.drawable()])
        other._offset = np.asarray((log.info.get("offset") or {}).get("task", 0.0))
        few = reached[:2]
        batch = TensorDict({"next": {"achieved_goal": few}}, batch_size=[len(few)])
        other.reward(batch, few)
        other.terminated(batch, few)
        return other

    def sample(self, draws: Tensor) -> Tensor:
        """Return states reached in the log, one per counter."""
        return self._prior.sample(draws)

    def task_of(self, reached: Tensor, draws: Tensor) -> Tensor:
        """Return the place as goal, ``[..., Z]``."""
        return reached

    def log_prior(self, task: Tensor) -> Tensor:
        """Return the same log-probability for every goal."""
        return self._prior.log_prob(task)

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return what ``compute_reward`` says; ``ValueError`` where it judges no two goals."""
        return self._judged("compute_reward", batch, task, pairwise).float()

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        """Return what ``compute_terminated`` says; ``ValueError`` where it judges no two goals."""
        return self._judged("compute_terminated", batch, task, pairwise).bool()

    def _judged(self, name: str, batch: TensorDict, task: Tensor, pairwise: bool) -> Tensor:
        reached = batch[NEXT_ACHIEVED]
        pair = torch.broadcast_tensors(reached.unsqueeze(-2) if pairwise else reached, task)
        achieved, desired = (goal.reshape(-1, task.shape[-1]).cpu().numpy() for goal in pair)
        if np.any(self._offset):  # the environment knows goals as it shows them
            achieved, desired = (
                goal.astype(np.float64) + self._offset for goal in (achieved, desired)
            )
        try:
            judge = self._environment().get_wrapper_attr(name)
        except AttributeError:
            raise ValueError(f"{self.env} has no {name}: {_OWN}") from None
        try:
            answer = _ask(judge, achieved, desired)
        except Exception as error:  # whatever the environment's code raises
            raise ValueError(
                f"{name} of {self.env} cannot judge an achieved and a desired goal alone, with an "
                f"empty info ({type(error).__name__}: {error}): {_OWN}"
            ) from error
        return torch.from_numpy(answer).to(task.device).reshape(pair[0].shape[:-1])

    def _environment(self) -> gymnasium.Env[Any, Any]:
        if self._made is None:
            try:
                self._made = gymnasium.make(self.env, disable_env_checker=True, **self.env_kwargs)
            except (ImportError, TypeError, gymnasium.error.Error) as error:
                if "hindsight-rl[" in str(error):  # ours, which name their extra
                    raise ValueError(f"EnvGoals cannot make {self.env}: {error}") from error
                raise ValueError(
                    f"EnvGoals cannot make {self.env} with {self.env_kwargs} "
                    f"({str(error).rstrip('.')}). If a package other than Gymnasium brings it, "
                    "name that package: 'gymnasium_robotics:FetchReach-v4'. For MuJoCo and robot "
                    'environments: pip install "hindsight-rl[mujoco]"'
                ) from error
        return self._made


def _ask(judge: Judge, achieved: NDArray[Any], desired: NDArray[Any]) -> NDArray[Any]:
    """Return the answers ``[M]`` for goals ``[M, Z]``."""
    answer = np.asarray(judge(achieved, desired, {}))
    if answer.shape != (len(achieved),):
        # One answer for all: PointMaze takes the norm of the whole array, FetchReach says False.
        pairs = zip(achieved, desired, strict=True)
        answer = np.asarray([judge(one, other, {}) for one, other in pairs])
    if answer.shape != (len(achieved),):
        raise ValueError(f"the answer for one pair has shape {list(answer.shape[1:])}")
    return answer
