"""The fuzz target notices what it looks for; ``make fuzz`` runs it."""

import json
import os
from pathlib import Path

import pytest
from fuzz import worker
from fuzz.cases import CASES, Case
from fuzz.mutations import SENTINEL, Mutation, mutate, payload
from fuzz.run import kept

from hindsight_rl.logs.errors import LogError


@pytest.fixture
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that a pickle makes when it is loaded."""
    monkeypatch.setenv(SENTINEL, str(tmp_path / "executed"))
    return tmp_path / "executed"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "answer"),
        (KeyError("x"), "fault"),
        (MemoryError(), "fault"),
        (ValueError("raised by a test, not by the product"), "fault"),
    ],
)
def test_outcomes(
    error: Exception | None, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(_: Path) -> None:
        if error is not None:
            raise error

    monkeypatch.setitem(CASES, "npz", Case(read, read))
    assert worker.attempt("npz", tmp_path)["outcome"] == outcome


def test_an_error_of_the_product_is_one(tmp_path: Path) -> None:
    answer = worker.attempt("npz", tmp_path)
    assert answer["outcome"] == "error" and answer["detail"].startswith(LogError.__name__)


def test_the_pickle_leaves_a_trace_when_it_is_loaded(sentinel: Path) -> None:
    import pickle  # noqa: S403 - what must never happen in the product is shown to work here

    pickle.loads(payload())
    assert sentinel.is_dir()


def test_mutations_are_made_again_from_their_numbers(sentinel: Path, tmp_path: Path) -> None:
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "a.json").write_text(json.dumps({"a": [1, 2, {"b": 3}], "c": "text"}))
        for number in range(40):
            mutate(folder, Mutation(number, number * 7, number * 13, number * 31))
            if not os.path.isfile(folder / "a.json"):
                break
        written.append(sorted(path.name for path in folder.iterdir()))
    assert written[0] == written[1]


def test_what_was_found_is_kept() -> None:
    assert all(case in CASES for case, _ in kept())
