"""Fixtures of learners."""

from collections.abc import Callable
from functools import cache

import pytest
from learner_fixtures import (  # noqa: F401
    env,
    options,
    pytest_collection_modifyitems,
    quiet,
    seeded,
    spec,
)
from small_fits import weights
from torch import Tensor
from variants import EVERY
from whole_fits import SWEPT, fitted


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, Tensor]]:
    """Return the weights a variant ends with, alone and uncompiled: one fit for all tests."""

    @cache
    def end(name: str, seed: int) -> dict[str, Tensor]:
        return weights(fitted((EVERY | SWEPT)[name], tmp_path_factory.mktemp("alone"), seed))

    return end
