"""Logs in object stores: fetched once, anew where they changed, errors that say what to do."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import pytest

from hindsight_rl.cli import inspect
from hindsight_rl.logs import remote
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.reading import read_log, read_logs, survey

fsspec = pytest.importorskip("fsspec", reason="needs the extra 'remote'")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The object store in memory, empty, and a cache of its own."""
    monkeypatch.setenv(remote.CACHE_VARIABLE, str(tmp_path / "cache"))
    found = fsspec.filesystem("memory")
    found.store.clear()
    yield found
    found.store.clear()


def put(store: Any, path: Path, place: str) -> None:
    """Copy a file or folder into the store."""
    for file in [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]:
        name = "" if path.is_file() else f"/{file.relative_to(path).as_posix()}"
        store.pipe(f"{place}{name}", file.read_bytes())


def fetched(tmp_path: Path) -> list[Path]:
    """Return the folders of the cache."""
    return sorted((tmp_path / "cache").iterdir())


def test_a_file_is_fetched_once(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    put(store, path, "/bucket/day/log.npz")
    log = read_log("memory://bucket/day/log.npz")
    assert log.hash() == read_log(path).hash()
    assert log.info["source"] == "memory://bucket/day/log.npz"
    assert "fetching memory://bucket/day/log.npz" in capsys.readouterr().err
    again = read_log("memory://bucket/day/log.npz")
    assert again.hash() == log.hash() and "fetching" not in capsys.readouterr().err
    assert len(fetched(tmp_path)) == 1
    both = read_logs(["memory://bucket/day/log.npz", path])
    assert len(both) == 2 * len(log)
    assert survey("memory://bucket/day/log.npz")[1] == []


def test_an_object_that_changed_is_fetched_anew(store: Any, tmp_path: Path) -> None:
    made = foreign.columns()
    put(store, foreign.npz(tmp_path / "a.npz", made), "/bucket/log.npz")
    first = read_log("memory://bucket/log.npz")
    put(
        store,
        foreign.npz(tmp_path / "b.npz", made | {"reward": made["reward"] + 1}),
        "/bucket/log.npz",
    )
    second = read_log("memory://bucket/log.npz")
    assert (second.column(("next", "reward")) == first.column(("next", "reward")) + 1).all()
    assert len(fetched(tmp_path)) == 2


def test_folders_are_fetched_whole(store: Any, tmp_path: Path) -> None:
    """LeRobot datasets, and logs of our own, which are mapped from the copy."""
    put(store, foreign.lerobot(tmp_path / "robot", "v3.0"), "/bucket/robot")
    log = read_log("memory://bucket/robot")
    assert log.hash() == read_log(tmp_path / "robot").hash()
    log.save(tmp_path / "saved")
    put(store, tmp_path / "saved", "/bucket/saved")
    assert read_log("memory://bucket/saved/").hash() == log.hash()


def test_addresses_of_files_are_read_in_place(
    store: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    path = foreign.npz(folder / "log.npz", foreign.columns())
    log = read_log(path.as_uri())
    assert log.hash() == read_log(path).hash() and not (tmp_path / "cache").exists()
    assert inspect.main([path.as_uri()]) == 0
    assert "transitions  8" in capsys.readouterr().out


def test_what_is_cut_leaves_nothing(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, foreign.npz(tmp_path / "log.npz", foreign.columns()), "/bucket/log.npz")
    whole = type(store).info

    def longer(self: Any, path: str, **given: Any) -> Any:
        about = whole(self, path, **given)
        return about | {"size": about["size"] + 1}

    monkeypatch.setattr(type(store), "info", longer)
    with pytest.raises(LogError, match=r"bytes where the store said .* It changed meanwhile"):
        read_log("memory://bucket/log.npz")
    assert fetched(tmp_path) == []


def test_a_process_that_was_faster_is_believed(
    store: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = foreign.npz(tmp_path / "log.npz", foreign.columns())
    put(store, path, "/bucket/log.npz")
    copy = remote._copy

    def slow(store: Any, one: Any, place: Path, bar: Any) -> None:
        copy(store, one, place, bar)
        (folder,) = {name.split(".")[1] for name in os.listdir(tmp_path / "cache")}
        (tmp_path / "cache" / folder).mkdir()
        (tmp_path / "cache" / folder / "log.npz").write_bytes(path.read_bytes())

    monkeypatch.setattr(remote, "_copy", slow)
    assert read_log("memory://bucket/log.npz").hash() == read_log(path).hash()
    assert len(fetched(tmp_path)) == 1


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("x"), "nothing is there. Check the address."),
        (PermissionError("no"), "PermissionError: no.*Give credentials as the store's own tools"),
        (OSError("Unable to locate credentials"), "Give credentials as the store's own"),
        (OSError("timed out"), "OSError: timed out.*Check the address and the network"),
    ],
)
def test_errors_of_stores_say_what_to_do(
    error: Exception, message: str, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Any, path: str, **given: Any) -> Any:
        raise error

    monkeypatch.setattr(type(store), "info", refuse)
    with pytest.raises(LogError, match=f"memory://bucket/log.npz: .*{message}"):
        read_log("memory://bucket/log.npz")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("memory://bucket/none.npz", "nothing is there"),
        ("s4://bucket/log.npz", "no store is known for it"),
        ("sftp://me:secret@host/log.npz", "sftp://host: the address holds a password"),
        ("https://host/log.npz?sig=secret", "https://host: the address holds a password"),
    ],
)
def test_addresses_that_are_wrong(address: str, message: str, store: Any) -> None:
    with pytest.raises(LogError, match=message) as caught:
        read_log(address)
    assert "secret" not in str(caught.value)


def test_a_package_of_the_store_that_is_missing_is_named(store: Any) -> None:
    fsspec.register_implementation("s9", "nowhere.Store", errtxt="Install s9fs", clobber=True)
    with pytest.raises(LogError, match="needs a package of its own .Install s9fs"):
        read_log("s9://bucket/log.npz")


def test_names_that_lead_out_of_the_folder_are_errors(store: Any, tmp_path: Path) -> None:
    store.store["/bucket/log/../../evil"] = store.store.get("/x") or _file(store)
    with pytest.raises(LogError, match=r"an object is called '/bucket/log/\.\./\.\./evil'"):
        read_log("memory://bucket/log")


def _file(store: Any) -> Any:
    store.pipe("/made", b"x")
    return store.store.pop("/made")
