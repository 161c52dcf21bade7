"""Whether networks that are made get the weights of a checkpoint: then no other file is read."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_restoring: ContextVar[bool] = ContextVar("restoring", default=False)


@contextmanager
def restoring() -> Iterator[None]:
    """Leave files of weights unread for a while: a checkpoint holds what they would give."""
    token = _restoring.set(True)
    try:
        yield
    finally:
        _restoring.reset(token)


def is_restoring() -> bool:
    """Return whether weights are to come."""
    return _restoring.get()
