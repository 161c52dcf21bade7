"""What goes into a policy's graph and comes out of it, typed: all versions of the contract.

The contract is JSON, written for every language; this is what Python code works with.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from hindsight_rl import densities

Kind = Literal["vector", "image", "discrete"]
Dtype = Literal["float32", "uint8", "int64"]
Distribution = Literal["normal", "uniform"]

DTYPES: dict[str, Dtype] = {"vector": "float32", "image": "uint8", "discrete": "int64"}
"""The one type of each kind of input."""


@dataclass(frozen=True)
class Input:
    """One input of the graph that the caller gives: an observation's entry, or the task.

    Attributes:
        name: Of the graph's input.
        label: What it is called in messages and, within an observation of entries, by its caller.
        kind: ``vector``: real numbers; ``image``: bytes; ``discrete``: whole numbers in ``[0, n)``.
        shape: Of one row.
        dtype: Of the graph's input.
        names: One per number, where they are known.
        offset: ``[...]`` float64, subtracted before numbers become float32, or ``None``.
        n: How many choices a ``discrete`` entry has.
        default: Used where no task is given.
    """

    name: str
    label: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: Dtype
    names: tuple[str, ...] | None = None
    offset: NDArray[np.float64] | None = None
    n: int | None = None
    default: NDArray[Any] | None = None

    def raw(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return rows of the graph's input as a caller gives them.

        Args:
            rows: ``[N, ...]``.

        Returns:
            The same; float64 and with its offset where there is one.
        """
        return rows if self.offset is None else rows.astype(np.float64) + self.offset


@dataclass(frozen=True)
class State:
    """What a policy keeps from step to step: input ``state.NAME``, output ``next_state.NAME``.

    Attributes:
        name: Its name.
        shape: Of one row.
        dtype: float32 or int64.
        initial: Its value where an episode begins.
        actions: Whether it holds actions ``[P, ...]``, the last one executed in the last place.
    """

    name: str
    shape: tuple[int, ...]
    dtype: Dtype
    initial: NDArray[Any]
    actions: bool = False


@dataclass(frozen=True)
class Noise:
    """Random numbers a step needs: input ``noise``.

    Attributes:
        shape: Of one row.
        distribution: ``normal``: standard normal; ``uniform``: on [0, 1).
        zero: Whether zeros in its place make a deterministic policy that was meant.
    """

    shape: tuple[int, ...]
    distribution: Distribution
    zero: bool

    @property
    def width(self) -> int:
        """How many numbers a row needs."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class DrawnFrom:
    """The distribution that an answer is drawn from: outputs ``distribution.NAME``.

    Attributes:
        kind: Which numbers state it, see :mod:`hindsight_rl.densities`.
        components: Of a mixture; 0 for others.
    """

    kind: densities.Kind
    components: int = 0

    def numbers(self, action: "Action") -> dict[str, tuple[int, ...]]:
        """Return the shape of a row of each of its numbers, by name."""
        return densities.shapes(self.kind, action.shape, self.components or action.n)


@dataclass(frozen=True)
class Chunk:
    """Several actions at once: output ``action [N, length, ...]``.

    Attributes:
        length: Actions the graph answers with; the first is for now.
        execute: Actions executed before the graph runs again.
        ensemble: Decay m of the weights exp(-m i) by which all answers for a step are averaged, i
            counting from the oldest; the graph then runs at every step. ``None``: no average.
        committed: Actions of the last answer that are still to be executed when the graph runs
            again: it is given them as a state, and the first actions of its answer repeat them.
    """

    length: int
    execute: int
    ensemble: float | None
    committed: int = 0


@dataclass(frozen=True)
class Action:
    """The answer.

    Attributes:
        discrete: One of ``n`` choices, not real numbers.
        shape: Of one action.
        dtype: float32 or int64.
        n: Number of choices; 0 where there are none.
        start: Number of the first choice.
    """

    discrete: bool
    shape: tuple[int, ...]
    dtype: Dtype
    n: int = 0
    start: int = 0


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a graph.

    Attributes:
        observation: Its entries.
        entries: Whether an observation is a dictionary of them; else there is one, unnamed.
        task: ``None`` where there is none.
        action: The answer.
        scores: Length of the scores of which the answer is an argmax; ``None`` where it is none.
        state: What is kept from step to step.
        noise: ``None`` where there is none.
        chunk: ``None`` where each answer is one action.
        distribution: ``None`` where answers are not drawn, or it is not stated from what.
    """

    observation: tuple[Input, ...]
    entries: bool
    task: Input | None
    action: Action
    scores: int | None
    state: tuple[State, ...]
    noise: Noise | None
    chunk: Chunk | None
    distribution: DrawnFrom | None = None

    @property
    def given(self) -> tuple[Input, ...]:
        """The inputs that the caller gives."""
        return self.observation if self.task is None else (*self.observation, self.task)

    @property
    def answer_shape(self) -> tuple[int, ...]:
        """Shape of one row of the output ``action``."""
        length = () if self.chunk is None else (self.chunk.length,)
        return (*length, *self.action.shape)

    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return type and row shape of every input of the graph, by name."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            given.name: (given.dtype, given.shape) for given in self.given
        }
        found |= {f"state.{kept.name}": (kept.dtype, kept.shape) for kept in self.state}
        if self.noise is not None:
            found["noise"] = ("float32", self.noise.shape)
        return found

    def outputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Return type and row shape of every output of the graph, by name."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            "action": (self.action.dtype, self.answer_shape)
        }
        if self.scores is not None:
            found["scores"] = ("float32", (self.scores,))
        found |= {f"next_state.{kept.name}": (kept.dtype, kept.shape) for kept in self.state}
        if self.distribution is not None:
            numbers = self.distribution.numbers(self.action).items()
            found |= {f"distribution.{name}": ("float32", shape) for name, shape in numbers}
        return found
