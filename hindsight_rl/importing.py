"""Importing much at once, as a command does that has found out what it is to do."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Look for no garbage while a block imports, and never among what was there at its end.

    What modules define stays. To look through it again and again, as Python does while PyTorch and
    Lightning make a million objects, takes a fifth of the time of importing them. Where PyTorch is
    there already nothing is done: what is garbage by then must be found.

        with importing():
            from hindsight_rl.logs.reading import read_log
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
