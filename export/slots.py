"""What an exported policy keeps of the episodes that the rows of a batch belong to."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hindsight_rl.export import draws

Array = NDArray[Any]


class Slots:
    """State, number and step of one episode per row.

    Args:
        state: ``[n, ...]`` by name, as episodes begin.
        episodes: ``[n]``, number of each.
    """

    def __init__(self, state: dict[str, Array], episodes: NDArray[np.int64]) -> None:
        self.state, self.episodes = state, episodes
        self.steps = np.zeros(len(episodes), dtype=np.int64)

    def counters(self, seed: int) -> NDArray[np.int64]:
        """Return the counters of this step, ``[N, 3]``."""
        return draws.counters(seed, self.episodes, self.steps)

    def begin(self, slots: NDArray[np.int64], state: dict[str, Array], episode: int) -> None:
        """Begin an episode in some slots, the first of them that of a number."""
        for name, value in state.items():
            self.state[name] = self.state[name].copy()
            self.state[name][slots] = value
        self.episodes[slots] = np.arange(episode, episode + len(slots))
        self.steps[slots] = 0
