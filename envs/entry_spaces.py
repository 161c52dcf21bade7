"""Entries of a ``Dict`` observation as a policy takes them: by name, each in its own type."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from hindsight_rl.offsets import check_wide, has_offset
from hindsight_rl.spec import Discrete, Entry, Image, Vector


class RolloutError(ValueError):
    """An environment that cannot be made, or that does not fit the policy."""


class EntriesPart:
    """What is shown of an observation, by entry.

    Args:
        leaves: Spaces by the keys that lead to them.
        taken: The policy's entries by name: ``arm/q`` is the entry ``q`` of ``arm``.
        name: Of the environment, for messages.

    Raises:
        RolloutError: Names, types or shapes differ.
    """

    names: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()

    def __init__(
        self,
        leaves: Mapping[tuple[str, ...], spaces.Space[Any]],
        taken: Mapping[str, Entry],
        name: str,
    ) -> None:
        found = {"/".join(path): path for path in leaves}
        if sorted(found) != sorted(taken):
            if list(found) == [""]:
                raise RolloutError(
                    f"{name}: shows one array, and the policy takes the entries {list(taken)}. "
                    "Wrap it so that it shows a dictionary of these names, for instance in "
                    "gymnasium.wrappers.TransformObservation."
                )
            raise RolloutError(
                f"{name}: shows the entries {list(found)}, and the policy takes {list(taken)}"
            )
        self._paths = {label: found[label] for label in taken}
        self._dtypes = {
            label: shown_in(entry, [leaves[found[label]]], f"{name}, entry '{label}'")
            for label, entry in taken.items()
        }
        self._wide = [label for label in taken if is_wide(leaves[found[label]])]
        for label, entry in taken.items():
            here, there = _kind(leaves[found[label]]), _told(entry)
            if here != there:
                raise RolloutError(
                    f"{name}: its entry '{label}' is {here}, and the policy takes {there}"
                )

    @classmethod
    def own(cls, leaves: Mapping[tuple[str, ...], spaces.Space[Any]], name: str) -> "EntriesPart":
        """Return all entries of an environment, each as a log holds it.

        Args:
            leaves: Spaces by the keys that lead to them.
            name: Of the environment, for messages.

        Returns:
            The part.

        Raises:
            RolloutError: An entry is neither real numbers, bytes, nor choices from 0.
        """
        taken: dict[str, Entry] = {}
        for path, space in leaves.items():
            if isinstance(space, spaces.Box):
                kind = Image if space.dtype == np.uint8 else Vector
                taken["/".join(path)] = kind(tuple(space.shape))
            elif isinstance(space, spaces.Discrete) and space.start == 0:
                taken["/".join(path)] = Discrete(int(space.n))
            else:
                raise RolloutError(
                    f"{name}: its entry '{'/'.join(path)}' is {space}, and real numbers, images "
                    "and choices from 0 are collected. Wrap the environment"
                )
        return cls(leaves, taken, name)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the entries, in their order."""
        return tuple(self._paths)

    def of(self, observation: Any) -> dict[str, NDArray[Any]]:
        """Return the entries of an observation, copies, in the order of the policy's."""
        return {
            label: np.array(_at(observation, path), dtype=self._dtypes[label])
            for label, path in self._paths.items()
        }

    def exact(self, observation: Any) -> dict[str, NDArray[Any]]:
        """Return the entries that float32 may not hold, in their own type, copies in a row."""
        return {
            label: np.array(_at(observation, self._paths[label])).ravel() for label in self._wide
        }


def is_wide(space: spaces.Space[Any]) -> bool:
    """Return whether a space of numbers has a wider type than float32 holds exactly."""
    dtype = np.dtype(space.dtype)
    return isinstance(space, spaces.Box) and dtype.itemsize > (4 if dtype.kind == "f" else 2)


def _at(observation: Any, path: tuple[str, ...]) -> Any:
    """Return what lies at some keys."""
    for key in path:
        observation = observation[key]
    return observation


def shown_in(taken: Entry | None, leaves: Iterable[spaces.Space[Any]], name: str) -> np.dtype[Any]:
    """Return the type in which a policy is shown numbers.

    Args:
        taken: The policy's entry, ``None`` where it is not known.
        leaves: Spaces of what is shown.
        name: Of the environment and the entry, for messages.

    Returns:
        That of the entry; float64 where an offset is subtracted from it.

    Raises:
        RolloutError: An offset is subtracted, and the environment shows float32 already.
    """
    if not has_offset(taken):
        return np.dtype(np.float32 if taken is None else taken.dtype)
    for leaf in leaves:
        try:
            check_wide(np.dtype(leaf.dtype), "what it shows")
        except ValueError as error:
            raise RolloutError(f"{name}: {error}") from error
    return np.dtype(np.float64)


def _kind(space: spaces.Space[Any]) -> str:
    """Return what a space holds, as :func:`_told` says it."""
    if isinstance(space, spaces.Discrete):
        return f"one of {int(space.n)} choices" + (f" from {space.start}" if space.start else "")
    if not isinstance(space, spaces.Box):
        return str(space)
    if space.dtype == np.uint8:
        return f"an image {list(space.shape)}"
    return f"real numbers {list(space.shape)}"


def _told(entry: Entry) -> str:
    """Return what an entry of a policy holds."""
    if isinstance(entry, Discrete):
        return f"one of {entry.n} choices"
    if isinstance(entry, Image):
        return f"an image {list(entry.shape)}"
    return f"real numbers {list(entry.shape)}"


def stacked(observations: "list[NDArray[Any] | dict[str, NDArray[Any]]]") -> Any:
    """Return observations ``[...]`` of n environments as ``[n, ...]``, by entry where they are."""
    first = observations[0]
    if isinstance(first, dict):
        by_entry: Any = observations
        return {label: np.stack([each[label] for each in by_entry]) for label in first}
    arrays: Any = observations
    return np.stack(arrays)
