"""Fits of learners to compare: alone or many at once, one by one or as one function."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from small_fits import data_for, fit, learner_of, network_of
from torch import Tensor
from variants import Variant

from hindsight_rl.agents.bc import BC
from hindsight_rl.logs.log import Log
from hindsight_rl.training.learner import Learner

UPDATES = 100


def arguments_of(kind: type[Learner]) -> dict[str, Any]:
    """Return everything at once that has an order: own rates, clipping, decay, a late beginning."""
    own = {"decay": 80, "learning_rates": 1e-3, "freeze": 5}
    return {"clip_norm": 1.0} | {what: {network_of(kind): value} for what, value in own.items()}


ARGUMENTS = arguments_of(BC)
SWEPT = {"MARWIL swept": Variant("MARWIL", {"lambda_": 0.95, "sweep_every": 30})}


def trained(
    kind: type[Learner],
    folder: Path,
    seed: int = 0,
    updates: int = UPDATES,
    log: Log | None = None,
    own: Mapping[str, Any] = MappingProxyType({}),
    **arguments: Any,
) -> Learner:
    """Return a learner after a fit with a seed for weights and draws.

    ``own`` holds arguments that say what it needs of its data. The statistics of tasks, which come
    from drawn rows, are those of the first seed.
    """
    options = {k: arguments.pop(k) for k in ("updates_per_step", "batch_size") if k in arguments}
    data = data_for(kind, log, dict(own), seed=seed, **options)
    arguments = {"compile": "off", **own, **arguments}
    spec = data_for(kind, log, dict(own)).spec if seed else data.spec
    learner = learner_of(kind, spec, weight_seed=seed, **arguments)
    fit(learner, data, folder, updates)
    return learner


def fitted(variant: Variant, folder: Path, seed: int = 0, **arguments: Any) -> Learner:
    """Return one of the variants after such a fit; of images a shorter one that begins at once.

    Where rounding turns a ReLU of a picture over, Adam moves weights by a whole step.
    """
    arguments = arguments_of(variant.kind) | ({"freeze": {}} if variant.images else {}) | arguments
    own, log, updates = variant.arguments, variant.log(), 20 if variant.images else UPDATES
    return trained(variant.kind, folder, seed, updates, log, own, **arguments)


def assert_close(one: dict[str, Tensor], two: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=0, atol=tolerance, msg=name)
