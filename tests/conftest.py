"""Shared set-up: one torch thread, reproducible Hypothesis, the folder of real logs."""

import os
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import settings

# The tensors here are small: more threads only wait for each other.
torch.set_num_threads(1)

# A shell has what it starts in the background ignore SIGINT, and some tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `pytest --hypothesis-profile explore` looks for new counterexamples.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=50)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of the real logs (`shared/data` beside the repository, or HINDSIGHT_DATA)."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HINDSIGHT_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no real logs at {folder}; HINDSIGHT_DATA names their folder")
    return folder
