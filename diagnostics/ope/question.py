"""What is asked of a log: which return, by which estimators, and how networks are fitted."""

from dataclasses import dataclass, field
from pathlib import Path

from hindsight_rl.arguments import above, check_ranges, within
from hindsight_rl.diagnostics.ope.behavior import Kind
from hindsight_rl.diagnostics.ope.fitting import Fitting
from hindsight_rl.ports import Model

METHODS = (
    *("fqe", "lstd", "dualdice"),
    *("is", "pdis", "wis", "cwpdis", "kernel"),
    *("dr", "wdr", "magic"),
)
MODEL = "model"
"""The estimator that needs a model of the world."""


@dataclass(frozen=True)
class Question:
    """What is asked of a log.

    Args:
        discount: Of the returns, in [0, 1]; 1 needs a horizon.
        horizon: Steps that count; ``None`` for all, beyond the time limits of the log too.
        behavior: Where the probabilities of the logged actions come from.
        methods: Estimators, names of :data:`METHODS`, or ``"model"``.
        by: Estimator that ranks.
        model: Of the world: path of a checkpoint of ``Dynamics``, ``module:function``, or itself;
            with it ``"model"`` is among the methods. ``None`` for none.
        drawn: Judge checkpoints as policies that draw their actions, as they would collect; False:
            as they are exported.
        samples: Draws of each action of a policy of chance, at least 1.
        check: Evaluate what recorded the log too, by ``fqe`` if it is among the methods, and
            compare with its returns: one fit more, whatever the number of policies.
        fitting: How networks are fitted.

    Raises:
        ValueError: An argument is out of range, or a method is none.
    """

    discount: float = 0.99
    horizon: int | None = None
    behavior: Kind = "auto"
    methods: tuple[str, ...] = METHODS
    by: str = "fqe"
    model: str | Path | Model | None = None
    drawn: bool = False
    samples: int = 10
    check: bool = True
    fitting: Fitting = field(default_factory=Fitting)

    def __post_init__(self) -> None:
        """Check the arguments."""
        check_ranges(within("[0, 1]", discount=self.discount), above(0, samples=self.samples))
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"horizon is {self.horizon}, it must be at least 1")
        if self.discount == 1.0 and self.horizon is None:
            raise ValueError(
                "discount 1 has no value without an end: give a horizon, the steps that count"
            )
        known = (*METHODS, MODEL)
        unknown = [name for name in (*self.methods, self.by) if name not in known]
        if unknown:
            raise ValueError(f"no estimator {unknown[0]!r}: there are {', '.join(known)}")
        if self.model is None and MODEL in (*self.methods, self.by):
            raise ValueError(
                "the estimator 'model' plays the policy in a model of the world: give one "
                "(--model, a checkpoint of Dynamics or module:function)"
            )
        if self.by not in self.methods and self.by != MODEL:
            raise ValueError(f"{self.by} ranks, so that it must be among the methods")
