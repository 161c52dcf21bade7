"""Importing without looking for garbage: switched off, and on again, where it is worth it."""

import gc
import sys
from collections.abc import Iterator

import pytest

from hindsight_rl.importing import importing


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a process that has not imported PyTorch yet."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    yield
    gc.unfreeze()
    gc.enable()


def test_collection_pauses_and_what_was_made_is_never_looked_through(early: None) -> None:
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [[number] for number in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)


def test_collection_goes_on_after_an_error(early: None) -> None:
    with pytest.raises(ImportError), importing():
        raise ImportError("no such module")
    assert gc.isenabled()


def test_collection_that_is_off_stays_off(early: None) -> None:
    gc.disable()
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
    assert not gc.isenabled() and gc.get_freeze_count() == before


def test_where_pytorch_is_there_already_garbage_is_found() -> None:
    import torch  # noqa: F401

    before = gc.get_freeze_count()
    with importing():
        assert gc.isenabled()
    assert gc.get_freeze_count() == before
