"""What a caller gives a policy at a step, as the graph takes it: checked, and in batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hindsight_rl.export.given import Given
from hindsight_rl.export.signature import Signature

Observation = ArrayLike | Mapping[str, ArrayLike]
"""One array, or one per entry by name."""
Array = NDArray[Any]


class Feed:
    """The inputs of a graph that a caller gives.

    Args:
        signature: Of the graph.

    Attributes:
        observation: Its entries, in the order of the contract.
        task: ``None`` where there is none.
    """

    def __init__(self, signature: Signature) -> None:
        self._signature = signature
        self.observation = [Given(stated) for stated in signature.observation]
        self.task = None if signature.task is None else Given(signature.task)

    def batch(self, observation: Observation, task: ArrayLike | None) -> dict[str, Array]:
        """Return checked inputs ``[n, ...]`` of a batch.

        Args:
            observation: ``[n, O]``, or a dictionary of such arrays.
            task: ``[n, Z]``, ``[Z]`` or ``None``.

        Returns:
            The arrays by input of the graph.

        Raises:
            ValueError: They break the contract, or the observation is a single one.
        """
        feed, single = self(observation, task)
        if single:
            raise ValueError("step takes a batch [n, ...]: put one row into a batch of 1")
        return feed

    def __call__(
        self, observation: Observation, task: ArrayLike | None
    ) -> tuple[dict[str, Array], bool]:
        """Return checked inputs ``[N, ...]``, and whether a single observation was given."""
        arrays = self._arrays(observation)
        first = self.observation[0]
        single = arrays[0].shape == first.shape
        if single:
            for given, array in zip(self.observation, arrays, strict=True):
                if array.shape != given.shape:
                    raise given.mismatch(array)
            arrays = [array[None] for array in arrays]
        feed: dict[str, Array] = {first.name: first.batch(arrays[0])}
        rows = len(feed[first.name])
        for given, array in zip(self.observation[1:], arrays[1:], strict=True):
            feed[given.name] = given.batch(array, rows)
        if self.task is not None:
            value = self.task.default if task is None else np.asarray(task)
            feed[self.task.name] = self.task.batch(value, rows)
        elif task is not None:
            raise ValueError("this policy takes no task, and one was given")
        return feed, single

    def _arrays(self, observation: Observation) -> list[Array]:
        """Return the entries of an observation in the order of the contract."""
        if not self._signature.entries:
            return [np.asarray(observation)]
        labels = [stated.label for stated in self._signature.observation]
        if not isinstance(observation, Mapping):
            raise ValueError(f"this policy takes a dictionary with {labels}, and got one array")
        if set(observation) != set(labels):
            raise ValueError(
                f"the observation has {sorted(observation)}, and this policy takes {labels}"
            )
        return [np.asarray(observation[label]) for label in labels]
