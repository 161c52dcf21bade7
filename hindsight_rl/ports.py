"""Ports: what one room may ask of another, as Protocols. Nothing here imports torch at run time.

It is longer than other files because what rooms may ask of each other is to be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    TypeVar,
    runtime_checkable,
)

from hindsight_rl.densities import Kind
from hindsight_rl.keys import Key

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from tensordict import TensorDict
    from torch import Tensor, nn

    from hindsight_rl.spec import Spec
    from hindsight_rl.windows import ActionWindow, Shots, Window

Policy_contra = TypeVar("Policy_contra", contravariant=True)
Log_contra = TypeVar("Log_contra", contravariant=True)
Part = TypeVar("Part")
Found = TypeVar("Found")


Act = Callable[..., Any]
"""``act(observation [n, O]) -> action [n, ...]``, or ``act(observation, task [n, Z])``."""


@runtime_checkable
class Actor(Protocol):
    """A policy with a state, or with noise."""

    def initial_state(self, n: int) -> dict[str, NDArray[Any]]:
        """Return the state with which n episodes begin, ``[n, ...]`` by name."""

    def step(
        self,
        observation: NDArray[Any] | dict[str, NDArray[Any]],
        task: NDArray[np.float32] | None,
        state: dict[str, NDArray[Any]],
        noise: NDArray[np.int64],
    ) -> tuple[NDArray[Any], dict[str, NDArray[Any]]]:
        """Return actions and the following state.

        Args:
            observation: ``[n, O]``, or ``[n, ...]`` by entry.
            task: ``[n, Z]`` where there is one.
            state: ``[n, ...]`` by name.
            noise: ``[n, 3]``, the counters that random numbers are drawn from: key of the seed,
                number of the episode, step in it. An action that depends on nothing else is
                repeatable.

        Returns:
            Actions ``[n, ...]`` in the environment's units or numbers, and the next state.
        """


@runtime_checkable
class Remembering(Protocol):
    """An actor whose state holds the actions that were executed."""

    def with_executed(
        self, state: dict[str, NDArray[Any]], action: NDArray[Any]
    ) -> dict[str, NDArray[Any]]:
        """Return the state after a step in which these actions were executed.

        They differ from those of :meth:`Actor.step` where exploration replaced one, or where it was
        clipped, rounded or limited.

        Args:
            state: ``[n, ...]`` by name, as :meth:`Actor.step` returned it.
            action: ``[n, ...]``, in the environment's units or numbers.

        Returns:
            The state.
        """


class Each(Protocol):
    """Applies a function to parts, as ``map`` does; :mod:`hindsight_rl.workers` does it elsewhere.

    The function is then one of a module, and parts and answers are what processes can be sent.
    """

    def __call__(
        self, function: Callable[[Part], Found], parts: Iterable[Part], /
    ) -> Iterable[Found]:
        """Return what the function gives for the parts, in their order."""


class SourceView(Protocol):
    """What a relabeler may ask of one of the sources that a log was joined of."""

    @property
    def start(self) -> int:
        """Number of its first row."""

    @property
    def stop(self) -> int:
        """Number behind its last row."""

    @property
    def name(self) -> str:
        """For messages."""


class LogView(Protocol):
    """What a relabeler may ask of a log."""

    @property
    def sources(self) -> Sequence[SourceView]:
        """What it was joined of, in order; one entry where it was not."""

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the log that are no columns."""

    @property
    def rows(self) -> Tensor | None:
        """Row numbers ``[M]`` int64 that may be drawn, ``None`` for all."""

    @property
    def each(self) -> Each:
        """Applies a function to parts of the log, maybe in several processes."""

    def __len__(self) -> int:
        """Return the number of transitions."""

    def __contains__(self, key: Key) -> bool:
        """Return whether a column exists."""

    def column(self, key: Key) -> Tensor:
        """Return a whole column ``[N, ...]``."""

    def take(self, key: Key, rows: Tensor) -> Tensor:
        """Return rows of one column by their numbers ``[...]`` int64."""

    def drawable(self) -> Tensor:
        """Return the row numbers ``[M]`` int64 that may be drawn."""

    def with_columns(self, columns: Mapping[Key, Tensor]) -> Self:
        """Return the log with further columns."""

    def with_rows(self, rows: Tensor | None) -> Self:
        """Return the log with other drawable rows."""


class DrawNoise(NamedTuple):
    """The random numbers that make an action.

    Attributes:
        width: How many a row needs.
        distribution: ``"normal"``: standard normal; ``"uniform"``: on [0, 1).
        zero: Whether zeros make the mode of the distribution.
    """

    width: int
    distribution: Literal["normal", "uniform"] = "normal"
    zero: bool = False


class Described(NamedTuple):
    """A distribution of actions in the units of the environment: what a file says of it.

    Attributes:
        kind: Of the distribution.
        numbers: ``[n, ...]`` by name, see :mod:`hindsight_rl.densities`.
    """

    kind: Kind
    numbers: dict[str, Tensor]


class Decision(NamedTuple):
    """What a policy answers at one step: what its exported graph answers.

    Attributes:
        action: ``[n, A]`` in environment units, ``[n, C, A]`` where it answers with chunks, or
            ``[n]`` int64 counted from 0.
        state: What it keeps, ``[n, ...]`` by name.
        scores: ``[n, M]`` where the action is their argmax, or that of candidates they belong to;
            of several choices, by how much the least clear one leads, and 0. Where the best leads
            by little, rounding decides, and files are not compared.
        distribution: What the action was drawn from, where it was and that is known.
    """

    action: Tensor
    state: dict[str, Tensor]
    scores: Tensor | None = None
    distribution: Described | None = None


class Imagined(NamedTuple):
    """What a model says of a step.

    Attributes:
        next_observation: ``[..., O]``, units of the environment.
        reward: ``[...]``, reward units.
        terminated: ``[...]`` bool: nothing follows. Time limits are not the model's.
        disagreement: ``[...]``, at least 0: how much the model leaves open; 0 of one that is known.
    """

    next_observation: Tensor
    reward: Tensor
    terminated: Tensor
    disagreement: Tensor


@runtime_checkable
class Model(Protocol):
    """The dynamics of a world, learned or known: a simulator's step is one."""

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        """Return what follows actions.

        A row's answer depends on its own observation, action and counter alone, and is the same for
        the same ones: repeat a counter to give two plans the same luck, else give each row and step
        one of its own.

        Args:
            observation: ``[..., O]``, units of the environment.
            action: ``[..., A]`` in environment units, or ``[...]`` int64 from 0.
            draws: ``[..., 3]`` int64, counters of :mod:`hindsight_rl.maths.draws`, broadcast
                against the rows; ``None`` for no luck: the mean, and what is likelier.

        Returns:
            ``[..., O]`` and ``[...]``.
        """


@runtime_checkable
class Ensemble(Protocol):
    """A learned model of several members that can each be asked alone."""

    def imagine(self, observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        """Return what follows actions: a :class:`Model`, of a member drawn for every step."""

    def each_elite(self) -> list[Model]:
        """Return the members that imagine, each as a model."""


class Foreseen(NamedTuple):
    """What an ensemble says of a step, and what one imagines of it.

    Attributes:
        imagined: What follows.
        mean: ``[E, ..., D]``, of every member, standardised: observations, then the reward.
        std: ``[E, ..., D]``.
        memory: What it keeps for the next step, ``[..., S]`` by name; empty where nothing.
    """

    imagined: Imagined
    mean: Tensor
    std: Tensor
    memory: dict[str, Tensor]


@runtime_checkable
class Foresees(Protocol):
    """A learned model that tells its members apart, with a memory or without."""

    def initial_memory(self, n: int) -> dict[str, Tensor]:
        """Return what it keeps where n episodes begin, ``[n, S]`` by name; {} for nothing."""

    def foresee(
        self,
        observation: Tensor,
        action: Tensor,
        memory: dict[str, Tensor],
        draws: Tensor | None = None,
    ) -> Foreseen:
        """Return what follows actions, and the memory after them.

        Args:
            observation: ``[..., O]``, units of the environment.
            action: ``[..., A]`` in environment units, or ``[...]`` int64 from 0.
            memory: ``[..., S]`` by name, of :meth:`initial_memory` or of the step before.
            draws: ``[..., 3]`` int64 counters; ``None`` for no luck.

        Returns:
            What members say, and what is imagined.
        """


class Episodes(Protocol):
    """Whole episodes, in the order of their numbers; read only."""

    @property
    def columns(self) -> Mapping[Key, Tensor]:
        """Return the columns ``[M, ...]``, all but where episodes begin and end."""

    @property
    def lengths(self) -> Tensor:
        """Return the steps of each episode, ``[E]`` int64."""


@runtime_checkable
class Source(Protocol[Policy_contra, Log_contra]):
    """What gives episodes: an environment, a log, a model, an expert.

    An episode is a function of its number, the policy and what was there before, and of nothing
    else: called again, a source gives the same one. All sources of a datamodule give the same
    columns, and every episode is whole: ``terminated`` or ``truncated`` in its last row.

    Attributes:
        name: For messages.
    """

    name: str

    def collect(
        self, policy: Policy_contra | None, first: int, count: int, log: Log_contra | None = None
    ) -> Episodes:
        """Return whole episodes.

        Args:
            policy: What acts; ``None`` for uniformly random actions. A log has no use for it.
            first: Number of the first episode.
            count: How many, at least 1.
            log: What was there before, ``None`` for nothing: where a source begins from it.

        Returns:
            The episodes.
        """


class RelabelView(Protocol):
    """What a learner may ask of the relabelers of its datamodule."""

    metrics: dict[str, Tensor]

    @property
    def call_writes(self) -> tuple[Key, ...]:
        """Keys that are rewritten in every batch."""


class DataView(Protocol):
    """What a learner and the diagnostics may ask of a datamodule."""

    @property
    def log(self) -> LogView:
        """The log with the columns and drawable rows that the relabelers left."""

    @property
    def relabel(self) -> RelabelView:
        """The bound relabelers."""

    def in_order(
        self, rows: Tensor | None = None, *, batch_size: int = 4096, stream: str = "sweep"
    ) -> Iterator[TensorDict]:
        """Yield rows ``[1, B]`` in the order of the log, not yet relabeled."""

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Return the relabeled batch."""


class LossesView(Protocol):
    """What the losses of a batch say."""

    @property
    def terms(self) -> dict[str, Tensor]:
        """Scalars to minimise."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """Scalars to look at."""


class EvaluationView(Protocol):
    """Which episodes judge a learner."""

    @property
    def env(self) -> str | None:
        """Gymnasium id; ``None`` for no episodes."""

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Passed to ``gymnasium.make``."""

    @property
    def task(self) -> list[float] | None:
        """Task of the episodes where the environment does not give one."""

    @property
    def command(self) -> Literal["held", "lowered"]:
        """What becomes of a task that is a command."""

    @property
    def max_steps(self) -> int | None:
        """Steps after which an episode is cut."""

    @property
    def every(self) -> int:
        """Updates between evaluations that are asked for, 0 for none."""

    @property
    def interval(self) -> int:
        """Updates between evaluations, 0 where nothing is evaluated."""

    @property
    def episodes(self) -> int:
        """Episodes of each."""

    @property
    def seed(self) -> int:
        """Seed of the episodes during ``fit``."""

    @property
    def test_episodes(self) -> int:
        """Episodes of ``test``."""

    @property
    def test_seed(self) -> int:
        """Seed of the test episodes."""


class LogColumns(Protocol):
    """Columns over the whole log that a learner finds once, or now and then."""

    keys: tuple[Key, ...]

    @property
    def pending(self) -> bool:
        """Whether they are to be computed before the next update."""

    def expire(self) -> None:
        """Have them computed anew before the next update."""


@runtime_checkable
class Adapts(Protocol):
    """A learner whose policy adapts to a task by rows of it."""

    in_keys: tuple[Key, ...]

    def adapted(self, rows: TensorDict) -> Self:
        """Return the learner of one task.

        Args:
            rows: TensorDict ``[N]``: what it reads below ``"support"``, of one task.

        Returns:
            A learner of its own, in evaluation mode; this one stays as it is.
        """


class Exported(Protocol):
    """What is exported: what every such learner has; more is in ``export/exportable.py``."""

    @property
    def spec(self) -> Spec:
        """What the data look like."""

    def __call__(
        self, observation: Tensor | Mapping[str, Tensor], task: Tensor | None = None
    ) -> Tensor:
        """Return the deterministic action."""


@runtime_checkable
class JudgesRows(Protocol):
    """A learner that says how wrong it is about single rows, so that they can have priorities."""

    def row_errors(self, batch: TensorDict) -> Tensor:
        """Return target minus value of rows ``[B]``, reward units."""


class LearnerView(Protocol):
    """What datamodules, diagnostics and export may ask of a learner."""

    in_keys: tuple[Key, ...]
    acts: bool
    window: Window
    shots: Shots | None
    action_windows: Mapping[str, ActionWindow]
    spec: Spec
    seeds: int
    clip_norm: float | None
    watch_gradients: bool
    latest: dict[str, float]
    training: bool

    @property
    def evaluation(self) -> EvaluationView:
        """Which episodes judge it."""

    @property
    def log_pass(self) -> LogColumns | None:
        """Columns over the whole log, ``None`` for none."""

    @property
    def device(self) -> torch.device:
        """Where its networks are."""

    @property
    def read_keys(self) -> tuple[Key, ...]:
        """Keys the losses may read."""

    @property
    def follows(self) -> bool:
        """Whether acting takes more than the present."""

    @property
    def first_choice(self) -> int:
        """The environment's number of what a learner calls action 0."""

    def __call__(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action."""

    def act(
        self, observation: Tensor, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return actions, the mode or a sample where draws are given."""

    def act_numpy(
        self, observation: NDArray[np.float32], task: NDArray[np.float32] | None = None
    ) -> NDArray[Any]:
        """Return deterministic actions for arrays."""

    def player(self) -> Act | Actor:
        """Return what the loop that plays episodes asks."""

    def collecting(self, sample: bool) -> Actor:
        """Return what the collector of episodes asks."""

    def fresh(self, seed_index: int) -> Self:
        """Return a learner with the same arguments and the initial weights of a seed."""

    def state_dict(self) -> dict[str, Any]:
        """Return its weights by name."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> object:
        """Take over weights."""

    def losses(self, batch: TensorDict) -> LossesView:
        """Return the losses of a batch."""

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with what the losses need beside the data."""

    def read(self, batch: TensorDict) -> TensorDict:
        """Return a batch with what the losses may read, and nothing else."""

    def networks(self) -> dict[str, nn.Module]:
        """Return what is trained, by name."""

    def each_seed(self) -> Iterable[int]:
        """Select every seed in turn."""

    def report(self, metrics: Mapping[str, float], step: int) -> None:
        """Give metrics to the loggers and to callbacks that watch one."""

    def eval(self) -> Self:
        """Switch to evaluation."""

    def train(self, mode: bool = True) -> Self:
        """Switch to training, or back."""
