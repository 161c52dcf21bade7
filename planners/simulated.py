"""Simulators as models: those of MuJoCo are put where an observation says, and stepped.

It takes a step of the simulator for each row, so plans cost what they cost there; nothing can be
differentiated. An environment of many rows at once says itself what follows (``foresee``).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hindsight_rl.planners.classic import known
from hindsight_rl.ports import Imagined

Array = NDArray[Any]
Foresee = Callable[[Array, Array, Array | None], tuple[Array, Array, Array]]
"""``foresee(observation [R, O], action [R, A], task [R, Z] or None)`` -> next observations
``[R, O]``, rewards ``[R]`` and whether episodes end ``[R]``."""


class Rowwise:
    """A model made of a function of rows of arrays.

    Args:
        foresee: The function.
        task: ``[n, Z]``, of rows ``[n, ...]``; ``None`` for none.
    """

    def __init__(self, foresee: Foresee, task: Tensor | None = None) -> None:
        self._foresee, self._task = foresee, task

    def given(self, task: Tensor) -> "Rowwise":
        """Return the model whose rewards are those of tasks ``[n, Z]``."""
        return Rowwise(self._foresee, task)

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        """Return what follows; see :class:`hindsight_rl.ports.Model`."""
        lanes = observation.shape[:-1]
        seen = observation.reshape(-1, observation.shape[-1]).numpy()
        done = action.expand(*lanes, *action.shape[len(lanes) :])
        done = done.reshape(len(seen), *action.shape[len(lanes) :])
        task = None
        if self._task is not None:
            wide = self._task.view(len(self._task), *[1] * (len(lanes) - 1), -1)
            task = wide.expand(*lanes, -1).reshape(len(seen), -1).numpy()
        following, reward, ended = self._foresee(seen, done.numpy(), task)
        return known(
            torch.from_numpy(np.asarray(following, np.float32)).view(*lanes, -1),
            torch.from_numpy(np.asarray(reward, np.float32)).view(lanes),
            torch.from_numpy(np.asarray(ended, np.bool_)).view(lanes),
        )


class Restored:
    """Steps of a MuJoCo environment of Gymnasium from any observation.

    Args:
        env: Its innermost environment; it is moved about, so nobody else may play it.

    Raises:
        ValueError: Its observation does not begin with the positions and end with the velocities.
    """

    def __init__(self, env: Any) -> None:
        parts = dict(getattr(env, "observation_structure", {}))
        skipped = int(parts.pop("skipped_qpos", 0))
        positions, velocities = int(parts.get("qpos", 0)), int(parts.get("qvel", 0))
        model = env.model
        if (skipped + positions, velocities) != (model.nq, model.nv):
            raise ValueError(
                f"{type(env).__name__}: its observation does not tell all positions and velocities "
                f"({parts or 'it does not say what it holds'}; the simulator has {model.nq} and "
                f"{model.nv}), so the simulator cannot be put there. Plan by a learned model "
                "(--model CHECKPOINT) or by one of your own (--model module:function)"
            )
        self._env, self._skipped = env, np.zeros(skipped)
        self._positions, self._velocities = positions, velocities

    def __call__(
        self, observation: Array, action: Array, task: Array | None
    ) -> tuple[Array, Array, Array]:
        """Return what follows, row by row; see :data:`Foresee`."""
        env, split = self._env, self._positions
        following, reward = np.empty(observation.shape, np.float32), np.empty(len(observation))
        ended = np.zeros(len(observation), np.bool_)
        for row, seen in enumerate(observation.astype(np.float64)):
            velocity = seen[split : split + self._velocities]
            env.data.qacc_warmstart[:] = 0.0  # of another row: the answer is a row's own
            env.set_state(np.concatenate([self._skipped, seen[:split]]), velocity)
            following[row], reward[row], ended[row], _, _ = env.step(action[row])
        return following, reward, ended
