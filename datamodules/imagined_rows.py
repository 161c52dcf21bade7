"""What a model imagines beside a log, and how."""

from dataclasses import dataclass
from typing import Literal

from hindsight_rl.ports import Model

UncertaintyName = Literal[
    "ensemble_std", "mean_deviation", "pairwise", "aleatoric_max", "total_std"
]


@dataclass(frozen=True)
class Growing:
    """A horizon that grows with the updates of a run, as MBPO's does.

    Args:
        first: Steps of a branch until ``begin``, at least 1.
        last: Steps from ``end`` on, at least ``first``.
        begin: Updates at which it begins to grow, at least 0.
        end: Updates at which it is ``last``, above ``begin``.

    Raises:
        ValueError: A number is out of range.

    Reference:
        Janner et al. 2019, arXiv 1906.08253, appendix C.
    """

    first: int = 1
    last: int = 15
    begin: int = 20_000
    end: int = 150_000

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not 1 <= self.first <= self.last:
            raise ValueError(
                f"imagined.horizon grows from {self.first} to {self.last}: give at least 1, and no "
                "less at the end"
            )
        if not 0 <= self.begin < self.end:
            raise ValueError(
                f"imagined.horizon grows from update {self.begin} to {self.end}: give at least 0, "
                "and a later end"
            )

    def at(self, update: int) -> int:
        """Return the steps of a branch that is imagined after so many updates."""
        share = min(max((update - self.begin) / (self.end - self.begin), 0.0), 1.0)
        return self.first + int(share * (self.last - self.first))


@dataclass(frozen=True)
class Unknown:
    """Where a model knows too little, imagined episodes end with a reward that is worth nothing.

    A step is unknown where the model's disagreement is above a threshold. Its row is kept, with
    ``terminated`` true: nothing is bootstrapped from where the model does not know. What it earns
    is what the worst logged step would earn for ever, so that no policy is drawn there: where
    rewards are costs, the worst single reward would be better than going on.

    Args:
        quantile: The threshold is this quantile of the model's disagreement on logged steps, in
            (0, 1]: those held out (``data.validation``), or all where none are. At 0.99 one logged
            step in a hundred is unknown, and the policy pays for each.
        threshold: The threshold itself, at least 0; ``None`` for the quantile.
        reward: What an unknown step earns, reward units; ``None``: r / (1 - discount) for the least
            logged reward r, or r itself where it is above 0.
        discount: That of the learner, in [0, 1).

    Raises:
        ValueError: A number is out of range.

    Reference:
        Kidambi et al. 2020 (MOReL), arXiv 2005.05951, definition 1 and eq. 2.
    """

    quantile: float = 1.0
    threshold: float | None = None
    reward: float | None = None
    discount: float = 0.99

    def __post_init__(self) -> None:
        """Check the arguments."""
        if not 0 < self.quantile <= 1:
            raise ValueError(f"imagined.unknown.quantile is {self.quantile}: it must lie in (0, 1]")
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"imagined.unknown.threshold is {self.threshold}: at least 0")
        if not 0 <= self.discount < 1:
            raise ValueError(f"imagined.unknown.discount is {self.discount}: it must lie in [0, 1)")


@dataclass(frozen=True)
class Refit:
    """The model is fitted on to what was collected, before each round that it imagines.

    Args:
        updates: Updates of the model before a round, at least 1.
        batch_size: Rows of each, at least 1.
        validation: Share of episodes held out to choose its elites, in [0, 1).

    Raises:
        ValueError: A number is out of range.
    """

    updates: int = 500
    batch_size: int = 256
    validation: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name in ("updates", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"imagined.refit.{name} is {getattr(self, name)}, it must be at least 1"
                )
        if not 0 <= self.validation < 1:
            raise ValueError(f"imagined.refit.validation is {self.validation}: within [0, 1)")


@dataclass(frozen=True)
class ImaginedRows:
    """Short episodes that a model of the world imagines, from logged states, by the current policy.

    Every ``every`` updates ``rows`` logged states are drawn, and the policy plays ``horizon`` steps
    from each in the model. They are episodes like any other: their last row is truncated unless the
    model says terminated, ``step`` counts from 0, and relabelers judge them as they judge the log.

    Args:
        model: Checkpoint or run of ``Dynamics``, or ``module:function``; from Python a model too,
            see :class:`hindsight_rl.ports.Model`.
        every: Updates from one round to the next, at least 1.
        rows: Logged states that a round starts from, 0 for none.
        horizon: Steps of an episode, at least 1; or how they grow.
        keep: Rounds that are drawn from, at least 1; the oldest rows go.
        uncertainty: What counts as disagreement of an ensemble, in standardised units; ``None`` for
            the model's own.
        penalty: Reward units taken from the reward per unit of disagreement, at least 0 (MOPO).
        unknown: Ends episodes where the model knows too little (MOReL); ``None``: nowhere.
        sample: Draw the policy's actions; False takes their mode.
        refit: How the model follows what is collected (``IteratedDataModule``); ``None``: it stays.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Janner et al. 2019 (MBPO), arXiv 1906.08253, algorithm 2; Yu et al. 2020 (MOPO), arXiv
        2005.13239, algorithm 2.
    """

    model: str | Model
    every: int = 1000
    rows: int = 10_000
    horizon: int | Growing = 5
    keep: int = 5
    uncertainty: UncertaintyName | None = None
    penalty: float = 0.0
    unknown: Unknown | None = None
    sample: bool = True
    refit: Refit | None = None

    def __post_init__(self) -> None:
        """Check the arguments."""
        least = {"every": 1, "rows": 0, "keep": 1}
        if isinstance(self.horizon, int):
            least["horizon"] = 1
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(
                    f"imagined.{name} is {getattr(self, name)}, it must be at least {low}"
                )
        if not self.penalty >= 0:
            raise ValueError(f"imagined.penalty is {self.penalty}, it may not be negative")

    def steps(self, update: int) -> int:
        """Return the steps of an episode that is imagined after so many updates."""
        return self.horizon if isinstance(self.horizon, int) else self.horizon.at(update)

    @property
    def capacity(self) -> int:
        """Return the rows that are held at most."""
        most = self.horizon if isinstance(self.horizon, int) else self.horizon.last
        return max(1, self.keep * self.rows * most)
