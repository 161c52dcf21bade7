"""Logs in object stores: fetched once into a folder of this machine, and read from there.

Readers map files, list folders and read them more than once, so a store is not read in place. The
folder is named by a hash of what the store says of the objects (names, sizes, and their ETag, hash
or time), so that an object that changed is fetched anew.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from hindsight_rl.files import WriteError, whole_folder
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.limits import check_count, check_room

CACHE_VARIABLE = "HINDSIGHT_CACHE"
"""Environment variable: folder of what was fetched, ``~/.cache/hindsight`` where it is unset."""

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
# What stores say of an object that changes with it, best first.
_MARKS = (
    *("ETag", "etag", "md5Hash", "md5", "crc32c", "generation"),
    *("mtime", "LastModified", "last_modified", "updated", "created"),
)
_PIECE = 8 << 20
_DENIED = re.compile(r"credential|forbidden|denied|unauthori[sz]ed|\b40[13]\b|token", re.I)


class _Object(NamedTuple):
    """An object of a store: its address there, its place in the folder, its size, what marks it."""

    path: str
    name: str
    size: int
    mark: str


def is_remote(source: str | Path) -> bool:
    """Return whether a source is an address, as ``s3://bucket/log.zarr`` is."""
    return isinstance(source, str) and bool(_ADDRESS.match(source))


def local_copy(address: str) -> Path:
    """Return the file or folder of an address; of an object store a copy on this machine.

    Args:
        address: ``s3://``, ``gs://`` or any that fsspec knows: an object, or all below a name;
            ``file://`` is read in place.

    Returns:
        Where it lies.

    Raises:
        LogError: fsspec or the package of the store is missing, the address holds a secret, nothing
            is there, it may not be read, or it does not fit on the disk.
        WriteError: The folder cannot be written.
    """
    parts = urlsplit(address)
    if parts.scheme.lower() == "file":
        return Path(unquote(parts.path))
    if parts.password or (parts.scheme.startswith("http") and parts.query):
        raise LogError(
            "the address holds a password or a signature, which would be kept with the log",
            "Leave it out, and give credentials as the store's own tools take them.",
            path=f"{parts.scheme}://{parts.hostname}",
        )
    with _told(address):
        store, path = _store(address)
        objects = _objects(store, path, address)
    name = PurePosixPath(parts.path).name or parts.netloc or "log"
    facts = [address, [(one.name, one.size, one.mark) for one in objects]]
    folder = _cache() / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    if not folder.is_dir():
        _fetch(store, objects, folder, name, address)
    return folder / name


def _cache() -> Path:
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hindsight"


def _store(address: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise LogError(
            "object stores are read by fsspec",
            "pip install 'hindsight-rl[train,remote]'.",
            path=address,
        ) from error
    try:
        store, path = url_to_fs(address)
    except ImportError as error:  # of the store's own package; the text names it
        raise LogError(
            f"its store needs a package of its own ({error})", "Install it.", path=address
        ) from error
    except ValueError as error:
        raise LogError(
            f"no store is known for it ({error})", "Correct it.", path=address
        ) from error
    return store, str(path)


def _objects(store: Any, path: str, address: str) -> list[_Object]:
    """Return what lies at an address, in the order of the names; one without a name is a file."""
    about = store.info(path)
    if about["type"] == "file":
        return [_Object(path, "", int(about["size"]), _mark(about))]
    found = []
    for place, inner in sorted(store.find(path, detail=True).items()):
        name = place.removeprefix(path.rstrip("/")).lstrip("/")
        if not name or ".." in PurePosixPath(name).parts or "\\" in name:
            raise LogError(f"an object is called {place[:200]!r}", "Rename it.", path=address)
        found.append(_Object(place, name, int(inner["size"]), _mark(inner)))
        check_count(len(found), "files", address)
    if not found:
        raise FileNotFoundError(path)
    return found


def _mark(about: Mapping[str, Any]) -> str:
    return next((f"{name}={about[name]}" for name in _MARKS if about.get(name)), "")


def _fetch(store: Any, objects: list[_Object], folder: Path, name: str, address: str) -> None:
    """Copy objects into a folder, which is whole or absent."""
    total = sum(one.size for one in objects)
    folder.parent.mkdir(parents=True, exist_ok=True)
    check_room(total, address, folder.parent)
    bar = tqdm(
        total=total,
        desc=f"fetching {address}",
        unit="B",
        unit_scale=True,
        mininterval=0.5 if sys.stderr.isatty() else 30.0,  # lines where there is no terminal
    )
    try:
        with bar, whole_folder(folder) as draft:
            for one in objects:
                place = draft / name / one.name if one.name else draft / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with _told(address):
                    _copy(store, one, place, bar)
    except WriteError:
        if not folder.is_dir():  # else another process was faster
            raise


def _copy(store: Any, one: _Object, place: Path, bar: Any) -> None:
    count = 0
    with store.open(one.path, "rb") as source, place.open("wb") as target:
        while piece := source.read(_PIECE):
            count += len(piece)
            if count > one.size:
                break
            target.write(piece)
            bar.update(len(piece))
    if count != one.size:
        raise LogError(
            f"{one.path}: {count:,} bytes where the store said {one.size:,}",
            "It changed meanwhile: read it again.",
        )


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Raise what a store raises as an error that says what to do."""
    try:
        yield
    except LogError:
        raise
    except FileNotFoundError as error:
        raise LogError("nothing is there", "Check the address.", path=address) from error
    except Exception as error:  # each store has errors of its own
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        fix = "Check the address and the network."
        if isinstance(error, PermissionError) or _DENIED.search(why):
            fix = (
                "Give credentials as the store's own tools take them: in environment variables or "
                "its configuration files."
            )
        raise LogError(f"it cannot be fetched ({why})", fix, path=address) from error
