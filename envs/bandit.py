"""A bandit: arms of unknown chances, the smallest task that must be found out by trying.

An episode is one pull, and shows nothing. Within a trial (``env_kwargs: {trial: 4}``) a policy that
remembers its pulls can find the arm that pays; one that does not is right by chance.
"""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray


class Bandit(gymnasium.Env[Any, Any]):
    """Pull one arm: the reward is 1 with the chance of that arm, else 0, and the episode ends.

    Observation: 0, ``[1]``. The chances are numbers for ``randomise``: ``chance.0``, ``chance.1``
    and so on each by itself, or ``paying``, the one arm that always pays while the others never do.

    Args:
        arms: At least 2.

    Raises:
        ValueError: ``arms`` is out of range.

    Attributes:
        chance: ``[arms]`` float64, in [0, 1]; at first those of ``paying`` 0.
    """

    def __init__(self, arms: int = 2) -> None:
        if arms < 2:
            raise ValueError(f"arms is {arms}, it must be at least 2")
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(arms)
        self.chance: NDArray[np.float64] = np.zeros(arms)
        self.paying = 0.0

    @property
    def paying(self) -> float:
        """The arm that pays most; set, rounded down, it is the only one that pays, and always."""
        return float(np.argmax(self.chance))

    @paying.setter
    def paying(self, arm: float) -> None:
        last = len(self.chance) - 1
        self.chance[:] = np.arange(last + 1) == min(int(arm), last)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Return 0, and an empty dictionary.

        Args:
            seed: Of the environment's generator; ``None`` goes on with the present one.
            options: Not used.

        Returns:
            Observation and info.
        """
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Pull an arm.

        Args:
            action: Number of the arm, from 0.

        Returns:
            Observation, reward, True, False, and an empty dictionary.

        Raises:
            ValueError: There is no such arm.
        """
        if not self.action_space.contains(action):
            raise ValueError(f"action is {action}: it must be an arm, 0 to {len(self.chance) - 1}")
        paid = self.np_random.random() < self.chance[action]
        return np.zeros(1, np.float32), float(paid), True, False, {}
