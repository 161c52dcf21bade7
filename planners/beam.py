"""Beam search in a model of whole episodes: its policy as a planner, with settings of its own."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.planners.planner import Planner, Value
from hindsight_rl.ports import Actor, Model
from hindsight_rl.spec_parts import ActionSpec


@runtime_checkable
class Sequential(Protocol):
    """A model of whole episodes: a fitted ``TrajectoryTransformer``."""

    def searching(self, *, horizon: int, beam: int, candidates: int, cut: float) -> Actor:
        """Return what acts by the best plan that a beam finds."""


@dataclass(frozen=True)
class Beam(Planner):
    """Beam search in a trajectory transformer: likely actions, ranked by what they promise.

    The model remembers and values, so there is no other model and no value at the horizon.

    Args:
        horizon: Steps of a plan, at least 1 and below the model's context.
        beam: Plans that are kept after every step, at least 1.
        candidates: Actions that each of them is continued with, at least 1.
        cut: Share of the probability that the least likely bins of an action hold, which are no
            candidates, in [0, 1).

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Janner, Li and Levine 2021, arXiv 2106.02039, algorithm 1.
    """

    horizon: int = 5
    beam: int = 32
    candidates: int = 2
    cut: float = 0.2

    def __post_init__(self) -> None:
        """Check the arguments."""
        sizes = {"horizon": self.horizon, "beam": self.beam, "candidates": self.candidates}
        check_ranges(at_least(1, **sizes), within("[0, 1)", cut=self.cut))

    def actor(
        self, model: Model | Sequential, action: ActionSpec, *, value: Value | None = None
    ) -> Actor:
        """Return what acts by planning.

        Args:
            model: A fitted ``TrajectoryTransformer``.
            action: Not used: it is what the model was fitted to.
            value: None: returns to go are the model's.

        Returns:
            An actor that remembers the last steps.

        Raises:
            ValueError: The model is another, or a value is given.
        """
        if not isinstance(model, Sequential):
            raise ValueError(
                "Beam searches a model of whole episodes: give the checkpoint or run of a "
                "TrajectoryTransformer (--model)"
            )
        if value is not None:
            raise ValueError("Beam ranks plans by the model's returns to go: leave out the value")
        return model.searching(
            horizon=self.horizon, beam=self.beam, candidates=self.candidates, cut=self.cut
        )
