"""The model that an environment itself is, where one is known."""

from typing import Any

import gymnasium

from hindsight_rl.planners.classic import MODELS
from hindsight_rl.planners.simulated import Restored, Rowwise
from hindsight_rl.ports import Model

HARMLESS = {"TimeLimit", "OrderEnforcing", "PassiveEnvChecker"}
"""Wrappers that change neither observations nor actions nor rewards."""


def known_model(env: gymnasium.Env[Any, Any], name: str) -> Model:
    """Return a model that steps as the environment does, without its luck.

    Classic control is written out, environments that ``foresee`` many rows say themselves what
    follows, and simulators of MuJoCo are put where an observation says; of those a second one is
    made, and the one that is played is left alone.

    Args:
        env: The environment.
        name: Its name, for messages.

    Returns:
        The model; rewards of environments with tasks are those of the task that it is given.

    Raises:
        ValueError: No model of it is known, or a wrapper changes what it shows.
    """
    inner: Any = env.unwrapped
    outer = env
    while isinstance(outer, gymnasium.Wrapper):
        if type(outer).__name__ not in HARMLESS:
            raise ValueError(
                f"{name}: its wrapper {type(outer).__name__} may change what is seen or done, so "
                "the model within is another. Leave it out, or plan by a learned model (--model "
                "CHECKPOINT)"
            )
        outer = outer.env
    kind = type(inner).__name__
    if kind in MODELS and type(inner).__module__.startswith("gymnasium."):
        return MODELS[kind](inner)
    foresee = getattr(inner, "foresee", None)
    if callable(foresee):
        return Rowwise(foresee)
    if hasattr(inner, "set_state") and hasattr(inner, "model"):
        if env.spec is None:
            raise ValueError(f"{name}: it was not made by its id, so no second one can be made")
        return Rowwise(Restored(gymnasium.make(env.spec, disable_env_checker=True).unwrapped))
    raise ValueError(
        f"{name}: no model of it is known. Known are {', '.join(sorted(MODELS))}, "
        "environments with a method foresee, and those of MuJoCo whose observation tells all "
        "positions and velocities. Plan by a learned model (--model CHECKPOINT) or by one of your "
        "own (--model module:function)"
    )
