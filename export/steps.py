"""The steps of a sampler, chosen where a policy is exported.

A learner that turns noise into actions step by step has ``sampler``, and that ``steps``,
``choose(steps)`` (ValueError where it cannot take so many), ``caution() -> str | None`` (what is
lost with so few) and ``describe() -> dict``, what the contract says of it.
"""

import warnings
from typing import Any

from hindsight_rl.export.torch_graph import ExportError


def choose_steps(learner: Any, steps: int | None) -> None:
    """Give the sampler of a learner its number of steps, and warn where modes are averaged.

    Args:
        learner: What is exported, a copy of its own: its sampler and ``hparams`` are changed.
        steps: At least 1; ``None`` for those that it has.

    Raises:
        ExportError: It has no sampler, or its sampler cannot take so many steps.
    """
    name, sampler = type(learner).__name__, getattr(learner, "sampler", None)
    if sampler is None:
        if steps is not None:
            raise ExportError(
                f"steps is {steps}, and {name} does not act step by step from noise: leave it "
                "out. FlowBC, DiffusionBC and IDQL do."
            )
        return
    if steps is not None:
        try:
            sampler.choose(steps)
        except ValueError as error:
            raise ExportError(f"{name}: {error}") from error
        if "steps" in getattr(learner, "hparams", {}):
            learner.hparams["steps"] = steps  # the contract tells what the file does
    caution = sampler.caution()
    if caution is not None:
        warnings.warn(f"{name}: {caution}", stacklevel=3)
