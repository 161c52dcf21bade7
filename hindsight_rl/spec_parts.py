"""Parts of a spec: the entries of an observation, the action, the task, the log, probe rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]
Numbers = tuple[float, ...]
"""One number per dimension; tuples of them where a shape has several sizes."""
Ends = tuple[float | None, ...]
"""One end of a range per dimension, ``None`` where it is open."""
Words = tuple[str, ...]
WHOLE = "observation"
"""Name of the entry where an observation is no dictionary."""
Kind = Literal["continuous", "discrete"]


class SpecError(ValueError):
    """A dictionary that is no spec; the message names what is missing or at fault."""


@dataclass(frozen=True)
class Vector:
    """An entry of real numbers.

    Args:
        shape: ``[O]``; of several sizes for what no network takes as it is.
        mean: Of the log, one number per dimension; ``None`` where nobody measured it.
        std: Spread of the log, above 0.
        names: One per dimension.
        units: One per dimension.
        offset: Subtracted, in float64, from what the environment shows, before it becomes float32;
            ``None``: nothing. Logs, networks and ``mean`` know the numbers without it.
    """

    shape: Shape
    mean: Numbers | None = None
    std: Numbers | None = None
    names: Words | None = None
    units: Words | None = None
    offset: Numbers | None = None
    kind: ClassVar[str] = "vector"
    dtype: ClassVar[str] = "float32"

    @property
    def width(self) -> int:
        """Return how many numbers there are."""
        return math.prod(self.shape)

    @property
    def statistics(self) -> tuple[Numbers, Numbers]:
        """Return mean and spread.

        Raises:
            SpecError: Nobody measured them.
        """
        if self.mean is None or self.std is None:
            raise SpecError("spec: mean and std of a vector are missing, and a network needs them")
        return self.mean, self.std


@dataclass(frozen=True)
class Image:
    """An entry of bytes: ``[H, W, C]``, or ``[S, H, W, C]`` where S frames are stacked.

    Args:
        shape: Of one observation.
        names: Not used by images; kept as given.
        units: Not used by images; kept as given.
    """

    shape: Shape
    names: Words | None = None
    units: Words | None = None
    kind: ClassVar[str] = "image"
    dtype: ClassVar[str] = "uint8"


@dataclass(frozen=True)
class Discrete:
    """An entry that is one of n choices, 0 to n - 1; its shape is ``[]`` or that of several.

    Args:
        n: Choices.
        shape: Of one observation.
        names: One per choice, or one for their column.
        units: Not used by choices; kept as given.
    """

    n: int
    shape: Shape = ()
    names: Words | None = None
    units: Words | None = None
    kind: ClassVar[str] = "discrete"
    dtype: ClassVar[str] = "int64"


Entry = Vector | Image | Discrete


@dataclass(frozen=True)
class ActionSpec:
    """What is chosen: real numbers ``[A]`` or one of n choices.

    Args:
        kind: ``"continuous"`` or ``"discrete"``.
        shape: ``[A]``, or ``[]`` for choices.
        low: Lower bounds, ``None`` where there are none; an open end is ``None`` or infinite.
        high: Upper bounds.
        mean: Of the log, of real numbers.
        std: Spread of the log, above 0.
        n: Choices; 0 for real numbers.
        start: The environment's number of the first choice.
        rate_limit: How fast each number may change, units per second.
        names: One per number or choice, or one for the column of choices.
        units: One per number.
        quantiles: Of the log, of real numbers that are not all bounded: of each of them those of
            the shares 0, .01, ..., 1.
    """

    kind: Kind
    shape: Shape
    low: Ends | None = None
    high: Ends | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    n: int = 0
    start: int = 0
    rate_limit: Ends | None = None
    names: Words | None = None
    units: Words | None = None
    quantiles: tuple[Numbers, ...] | None = None

    @property
    def discrete(self) -> bool:
        """Return whether an action is one of n choices."""
        return self.kind == "discrete"

    @property
    def dtype(self) -> str:
        """Return the type of an action."""
        return "int64" if self.discrete else "float32"

    @property
    def width(self) -> int:
        """Return how many numbers a network answers: A, or one per choice."""
        return self.n if self.discrete else self.shape[0]

    @property
    def statistics(self) -> tuple[Numbers, Numbers]:
        """Return mean and spread.

        Raises:
            SpecError: Nobody measured them.
        """
        if self.mean is None or self.std is None:
            raise SpecError(
                "spec: action.mean and action.std are missing, and not all bounds known"
            )
        return self.mean, self.std


@dataclass(frozen=True)
class TaskSpec(Vector):
    """What conditions a policy: a goal, weights of rewards, a return to reach.

    Args:
        family: Where the task comes from.
        default: What an exported policy takes where no task is given.
    """

    family: str = "task"
    default: Numbers | None = None


@dataclass(frozen=True)
class Dataset:
    """Which log the data are.

    Args:
        hash: Of its columns.
        source: Names of its files or environments.
        rows: Transitions.
        episodes: Episodes.
    """

    hash: str
    source: Words = ()
    rows: int = 0
    episodes: int = 0


@dataclass(frozen=True, eq=False)
class Probe:
    """Rows of the log on which an exported policy is compared with its learner.

    Args:
        observation: ``[R, ...]`` by entry; empty where there are none.
        task: ``[R, Z]`` float32, where there is a task.
    """

    observation: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    task: NDArray[np.float32] | None = None

    def __eq__(self, other: object) -> bool:
        """Return whether all rows are equal."""
        if not isinstance(other, Probe) or self.observation.keys() != other.observation.keys():
            return False
        pairs = [(rows, other.observation[name]) for name, rows in self.observation.items()]
        if self.task is None or other.task is None:
            return self.task is other.task and all(np.array_equal(*pair) for pair in pairs)
        return all(np.array_equal(*pair) for pair in [*pairs, (self.task, other.task)])

    __hash__ = None  # type: ignore[assignment]


def describe(part: Entry | ActionSpec | Dataset) -> dict[str, Any]:
    """Return a part of a spec as plain values.

    Args:
        part: An entry, the action, the task or the log.

    Returns:
        Its facts by name, shape and dtype included; lists in the place of tuples.
    """
    facts = {name: _plain(value) for name, value in vars(part).items()}
    if isinstance(part, Dataset):
        return facts
    facts["dtype"] = part.dtype
    if isinstance(part, Vector) and part.offset is None:  # left out, as files before did
        del facts["offset"]
    if isinstance(part, Image):
        facts |= {"mean": None, "std": None}
    if isinstance(part, ActionSpec):
        odd = ["low", "high", "mean", "std"] if part.discrete else ["n", "start"]
        # Left out where they say nothing, as files before did.
        odd += [name for name in ("start", "rate_limit", "quantiles") if not facts[name]]
        facts = {name: value for name, value in facts.items() if name not in odd}
    return facts


def _plain(value: Any) -> Any:
    return [_plain(part) for part in value] if isinstance(value, tuple) else value
