"""Arguments of a learner as checkpoints and configurations hold them, those of older layouts too.

Until 2026-11 the arguments of evaluation stood flat among those of the learner (``eval_every``).
What is read from a checkpoint, a configuration file or the command line is translated by one table,
here; Python takes the spelling of today only.
"""

from collections.abc import Mapping
from typing import Any

from hindsight_rl.diagnostics.evaluation import Evaluation

# Former argument of a learner: the field of Evaluation that it is now.
EVALUATION_FIELDS = {
    "env": "env",
    "env_kwargs": "env_kwargs",
    "eval_task": "task",
    "eval_command": "command",
    "eval_max_steps": "max_steps",
    "eval_every": "every",
    "eval_episodes": "episodes",
    "test_episodes": "test_episodes",
    "eval_seed": "seed",
    "test_seed": "test_seed",
}


def translated(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return a learner's arguments in the spelling of today.

    Args:
        arguments: By name, of any version; ``evaluation`` is a mapping of its fields.

    Returns:
        The same values. Where both spellings give a field, that of today counts.
    """
    kept = {name: value for name, value in arguments.items() if name not in EVALUATION_FIELDS}
    if isinstance(kept.get("evaluation"), str):  # which policy of CRR acts
        kept["acting"] = kept.pop("evaluation")
    moved = {
        EVALUATION_FIELDS[name]: value
        for name, value in arguments.items()
        if name in EVALUATION_FIELDS and value is not None  # None was always the default
    }
    if moved:
        kept["evaluation"] = moved | dict(kept.get("evaluation") or {})
    return kept


def constructor_arguments(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a learner's constructor takes, from the hyperparameters of a checkpoint.

    Args:
        saved: ``hyper_parameters`` of a checkpoint, of any version, or ``learner.hparams``.

    Returns:
        Arguments by name; Lightning's own entries are left out.
    """
    given = translated({k: v for k, v in saved.items() if not k.startswith("_")})
    return given | {"evaluation": Evaluation(**given.get("evaluation") or {})}
