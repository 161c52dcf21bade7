"""How a learner's networks are built, as one argument of every learner: layers, inputs, head.

    IQL(spec, network=Network(hidden=(512, 512)), head=Head("mixture", components=8))

On the command line ``--model.network.hidden '[512,512]'``, ``--model.head mixture`` or
``--model.head.components 8``.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hindsight_rl.arguments import above, at_least, check_choices, check_ranges, within
from hindsight_rl.nets.encoders.encoder import Encoder, encoders_of

HeadKind = Literal[
    "deterministic", "gaussian", "laplace", "tanh_gaussian", "mixture", "autoregressive"
]
Acting = Literal["mode", "sample_mean", "density"]
Spread = Literal["shared", "per_state"]
Activation = Literal["relu", "tanh"]


@dataclass(frozen=True)
class Network:
    """What the networks of a learner are given, and their layers.

    Args:
        hidden: Width of each hidden layer.
        frequencies: Of sines and cosines of inputs, for positions among walls say: see
            :class:`hindsight_rl.nets.encoders.vector.Inputs`.
        task_scale: Divides each number of the task, above 0, instead of the log's statistics: the
            unit of returns and steps that grow while experience is collected.
        gate_task: Have the task gate the first layer instead of standing beside the observation.
        encoders: How entries of the observation are encoded, by name, ``images`` for all images
            that are not named; each network has its own. See
            :class:`hindsight_rl.nets.encoders.encoder.Encoder`.
        critic_norm: Layer norm before every bend of a critic Q(s, a), so that actions nobody took
            are not valued without bounds (Ball et al. 2023, arXiv 2302.02948); the policy has none.

    Raises:
        ValueError: An argument is out of range, or two do not go together.

    Attributes:
        activation: Between the layers of a policy, a value and a critic.
    """

    activation: ClassVar[Activation] = "relu"
    hidden: tuple[int, ...] = (256, 256)
    frequencies: int = 0
    task_scale: tuple[float, ...] | None = None
    gate_task: bool = False
    encoders: dict[str, Encoder] = field(default_factory=dict, hash=False)
    critic_norm: bool = False

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {list(self.hidden)}: every layer needs at least 1 unit")
        check_ranges(at_least(0, frequencies=self.frequencies))
        if self.task_scale is not None:
            object.__setattr__(self, "task_scale", tuple(self.task_scale))
        object.__setattr__(self, "encoders", encoders_of(self.encoders))
        check_ranges(above(0, task_scale=self.task_scale))
        if self.gate_task and self.frequencies:
            raise ValueError("gate_task and frequencies do not go together: leave one of them out")
        if self.gate_task and not self.hidden:
            raise ValueError("gate_task gates the first layer, and hidden is []: give one layer")

    def check_ungated(self, owner: str) -> None:
        """Check that the task does not gate the first layer.

        Args:
            owner: What has several networks behind one input, and would train that layer in each.

        Raises:
            ValueError: It does.
        """
        if self.gate_task:
            raise ValueError(
                f"gate_task is for one network, and {owner} has several behind the same inputs: "
                "leave it out"
            )


@dataclass(frozen=True)
class TanhNetwork(Network):
    """A network with tanh between its layers: smooth, and small where rounds are short.

    Args:
        hidden: Width of each hidden layer.
        frequencies: As in :class:`Network`.
        task_scale: As in :class:`Network`.
        gate_task: As in :class:`Network`.
        encoders: As in :class:`Network`.
        critic_norm: As in :class:`Network`.

    Raises:
        ValueError: An argument is out of range, or two do not go together.
    """

    activation: ClassVar[Activation] = "tanh"
    hidden: tuple[int, ...] = (64, 64)


@dataclass(frozen=True)
class LatentNetwork(Network):
    """A network that makes actions of latent numbers.

    Args:
        hidden: Width of each hidden layer.
        frequencies: As in :class:`Network`.
        task_scale: As in :class:`Network`.
        gate_task: As in :class:`Network`.
        encoders: As in :class:`Network`.
        critic_norm: As in :class:`Network`.
        latent: Latent numbers per action, at least 1; ``None`` for two per action dimension.

    Raises:
        ValueError: An argument is out of range, or two do not go together.
    """

    latent: int | None = None

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        super().__post_init__()
        check_ranges(at_least(1, latent=self.latent))


@dataclass(frozen=True)
class NoiseNetwork(Network):
    """A network that is given a noisy chunk of actions, a time, observation and task.

    Args:
        hidden: Width of each hidden layer.
        frequencies: As in :class:`Network`; of observation and task.
        task_scale: As in :class:`Network`.
        gate_task: As in :class:`Network`.
        encoders: As in :class:`Network`.
        critic_norm: As in :class:`Network`.
        residual: Blocks with layer norm and a shortcut, of equal width, in the place of plain
            layers: for deep networks.

    Raises:
        ValueError: An argument is out of range, or two do not go together.
    """

    residual: bool = False

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        super().__post_init__()
        if self.residual and len(set(self.hidden)) != 1:
            raise ValueError(
                f"hidden is {list(self.hidden)}: residual blocks need one width, such as [256, 256]"
            )


@dataclass(frozen=True)
class Head:
    """The family of distributions of continuous actions; discrete ones are always categorical.

    Args:
        kind: ``"deterministic"`` gives the mean squared error, ``"laplace"`` the mean absolute
            error with a learned spread.
        spread: ``"shared"``: one learned spread for all states; ``"per_state"``: a network output.
        squash_mean: Pass the mean through tanh, for bounded actions only; the density is not
            squashed.
        relative_to: Observation entries, one per action dimension and in the action's unit, that
            the mean starts from: the network answers with the difference. For robots whose actions
            are position targets of joints that are observed. Not with squashed or mixed heads.
        log_std_range: Smallest and largest log of the spread, policy units.
        exploration: Standard deviation of samples of a deterministic head, policy units, at least
            0, for bounded actions only; ``None`` for the point itself.
        components: Number of components of a mixture, at least 1.
        floor: Least spread of a component, policy units, above 0: it is added to the spread.
        bins: Of each dimension of an autoregressive head, at least 2; an odd number keeps the
            middle of the range a centre.
        acting: Which action is taken of several answers. ``"mode"``: the mean of the heaviest
            component, or each dimension's likeliest bin; ``"sample_mean"``: the mean of a drawn
            component, or the centres of drawn bins, which needs noise where it acts;
            ``"density"``: the mean at which a mixture is densest.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    kind: HeadKind = "gaussian"
    spread: Spread = "shared"
    squash_mean: bool = True
    relative_to: tuple[int, ...] | None = None
    log_std_range: tuple[float, float] = (-5.0, 2.0)
    exploration: float | None = None
    components: int = 5
    floor: float = 1e-2
    bins: int = 21
    acting: Acting = "mode"

    def __post_init__(self) -> None:
        """Check the arguments; lists become tuples."""
        check_choices(Head, vars(self))
        if self.relative_to is not None:
            object.__setattr__(self, "relative_to", tuple(self.relative_to))
        low, high = self.log_std_range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"log_std_range is {[low, high]}: give two numbers, rising")
        object.__setattr__(self, "log_std_range", (low, high))
        check_ranges(at_least(0, exploration=self.exploration))
        check_ranges(at_least(1, components=self.components))
        check_ranges(above(0, floor=self.floor))
        check_ranges(at_least(2, bins=self.bins))

    @classmethod
    def of(cls, head: "HeadKind | Head", *kinds: HeadKind) -> "Head":
        """Return the head that a kind names, or the head itself.

        Args:
            head: Kind, or head.
            *kinds: Those that may be chosen; all if left out.

        Returns:
            The head.

        Raises:
            ValueError: It is of another kind.
        """
        found = cls(head) if isinstance(head, str) else head
        if kinds and found.kind not in kinds:
            allowed = " or ".join(f"'{kind}'" for kind in kinds)
            raise ValueError(f"head is '{found.kind}', it must be {allowed}")
        return found


@dataclass(frozen=True)
class Attention:
    """The size of a transformer.

    Args:
        width: Of every token, a multiple of ``heads``; the perceptron of a block is 4 times as
            wide.
        heads: Of attention, at least 1.
        layers: Number of blocks, at least 1.

    Raises:
        ValueError: An argument is out of range, or ``heads`` does not divide ``width``.
    """

    width: int = 64
    heads: int = 4
    layers: int = 2

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_ranges(at_least(1, **vars(self)))
        if self.width % self.heads:
            raise ValueError(
                f"width of attention is {self.width}: it must be a multiple of heads, {self.heads}"
            )


@dataclass(frozen=True)
class History:
    """What a policy sees of the steps before the present.

    Where actions follow each other closely, a policy that sees the last one may learn to repeat it:
    the loss on the log falls, and so does the return. Leave actions out first, then hide the past
    now and then.

    Args:
        steps: P, at least 0; 0 for none.
        actions: Whether the past holds actions too.
        attention: Reads the past with a transformer of this size, a token for every step; ``None``
            puts all steps side by side.
        hide_past: Share of rows whose whole past is hidden while training, in [0, 1).
        hide_steps: Share of past steps, each by itself, that are hidden while training, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    steps: int = 0
    actions: bool = True
    attention: Attention | None = None
    hide_past: float = 0.0
    hide_steps: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments; a mapping, as checkpoints hold it, becomes a size."""
        attention: object = self.attention
        if isinstance(attention, Mapping):
            object.__setattr__(self, "attention", Attention(**attention))
        check_ranges(at_least(0, history=self.steps))
        check_ranges(within("[0, 1)", hide_past=self.hide_past, hide_steps=self.hide_steps))

    @classmethod
    def of(cls, history: "int | History") -> "History":
        """Return the history of so many steps, or the history itself."""
        return cls(history) if isinstance(history, int) else history
