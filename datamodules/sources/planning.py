"""A planner in an environment: what it chooses among, and the model that it asks."""

from pathlib import Path
from typing import Any

from hindsight_rl.datamodules.sources.opened_model import opened, opened_learner
from hindsight_rl.envs.actions import ActionSpace
from hindsight_rl.envs.interface import Env, Interface
from hindsight_rl.planners.beam import Beam
from hindsight_rl.planners.known import known_model
from hindsight_rl.planners.planner import Planner
from hindsight_rl.ports import Actor, Ensemble, Model
from hindsight_rl.spec import Spec
from hindsight_rl.spec_parts import ActionSpec

TRUE = "true"
"""In the place of a model: the environment's own."""


def action_spec(actions: ActionSpace) -> ActionSpec:
    """Return what is chosen among the actions of an environment."""
    if actions.discrete:
        return ActionSpec("discrete", (), n=actions.n, start=actions.start)
    low, high = (tuple(end.ravel().tolist()) for end in (actions.low, actions.high))
    return ActionSpec("continuous", actions.shape, low=low, high=high)


def planning_actor(
    planner: Planner, model: str | Path | Model, env: Env, interface: Interface
) -> Actor:
    """Return what acts in an environment by planning.

    Args:
        planner: How plans are sought.
        model: ``"true"``: the model that the environment itself is, see
            :func:`hindsight_rl.planners.known.known_model`; the checkpoint of ``Dynamics`` (for
            ``Beam``: of ``TrajectoryTransformer``);
            ``module:function``; or from Python a model.
        env: One of the environments; it is not played.
        interface: What of it a policy meets.

    Returns:
        An actor.

    Raises:
        RolloutError: A learned model is of another environment.
        ValueError: No model is known, the planner does not choose such actions, or observations
            are entries by name.
    """
    if interface.entries:
        raise ValueError(
            f"{interface.name}: shows entries by name, and planners plan from one row of numbers: "
            "wrap it in gymnasium.wrappers.FlattenObservation"
        )
    if isinstance(planner, Beam) and isinstance(model, (str, Path)) and model != TRUE:
        learner: Any = opened_learner(model)
        interface.check_fit(learner.spec)
        return planner.actor(learner, action_spec(interface.actions))
    known: Any  # a model, or the ensemble whose members a planner tells apart
    if model == TRUE:
        known = known_model(env, interface.name)
    else:
        found = opened(model)
        if isinstance(spec := getattr(found.learner, "spec", None), Spec):
            interface.check_fit(spec)
        lasting = getattr(planner, "lasting", False) and isinstance(found.learner, Ensemble)
        known = found.learner if lasting else found.imagine
    return planner.actor(known, action_spec(interface.actions))
