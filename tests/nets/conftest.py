"""Fixtures of learners."""

from learner_fixtures import (  # noqa: F401
    env,
    options,
    pytest_collection_modifyitems,
    quiet,
    seeded,
    spec,
)
