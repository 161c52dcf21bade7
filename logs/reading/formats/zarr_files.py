"""Files of a Zarr store: those of a folder, or the entries of a zip archive."""

import os
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Protocol

from hindsight_rl.logs.archives import DAMAGE
from hindsight_rl.logs.errors import LogError, unreadable
from hindsight_rl.logs.limits import check_count, regular_file

METADATA = (".zgroup", ".zarray", "zarr.json")
"""Names of the files that describe a group or an array."""


class ZarrFiles(Protocol):
    """Files by their keys, ``data/action/0.0``."""

    path: Path

    def below(self, at: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""

    def size(self, key: str) -> int | None:
        """Return the bytes of a file, ``None`` where there is none."""

    def read(self, key: str) -> bytes:
        """Return what a file holds."""

    def stored(self, at: str) -> int:
        """Return the bytes of all files below a folder, as they lie on the disk."""


class FolderFiles:
    """Files of a folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def below(self, at: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        with os.scandir(self.path / at) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir())

    def size(self, key: str) -> int | None:
        """Return the bytes of a file, ``None`` where there is none."""
        path = self.path / key
        return regular_file(path).stat().st_size if path.exists() else None

    def read(self, key: str) -> bytes:
        """Return what a file holds."""
        return (self.path / key).read_bytes()

    def stored(self, at: str) -> int:
        """Return the bytes of all files below a folder."""
        found = 0
        for folder, _, names in os.walk(self.path / at):
            found += sum((Path(folder) / name).lstat().st_size for name in names)
        return found


class ZipFiles:
    """Entries of a zip archive, whose store may lie in a folder within it.

    Args:
        path: The archive.
        archive: The same, opened; whoever opened it closes it.

    Raises:
        LogError: It holds no store, two entries have one name, or there are too many.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        check_count(len(entries), "files", path)
        home = _home([entry.filename for entry in entries], path)
        self._entries: dict[str, zipfile.ZipInfo] = {}
        self._folders: dict[str, set[str]] = defaultdict(set)
        for entry in entries:
            if not entry.filename.startswith(home):
                continue
            key = entry.filename[len(home) :]
            if key in self._entries:
                raise LogError(f"two entries '{key[:200]}'", "Write the archive again.", path=path)
            self._entries[key] = entry
            parts = key.split("/")
            for depth in range(1, min(len(parts), 100)):
                self._folders["/".join(parts[: depth - 1])].add(parts[depth - 1])

    def below(self, at: str) -> list[str]:
        """Return the names of the folders in a folder, sorted."""
        return sorted(self._folders.get(at, ()))

    def size(self, key: str) -> int | None:
        """Return the bytes of an entry, ``None`` where there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.file_size

    def read(self, key: str) -> bytes:
        """Return what an entry holds."""
        try:
            return self._archive.read(self._entries[key])
        except DAMAGE as error:
            raise unreadable(f"{self.path}, {key}", "an entry of a zip archive", error) from error

    def stored(self, at: str) -> int:
        """Return the packed bytes of all entries below a folder."""
        inside = (entry for key, entry in self._entries.items() if key.startswith(f"{at}/"))
        return min(sum(entry.compress_size for entry in inside), self.path.stat().st_size)


def _home(names: list[str], path: Path) -> str:
    """Return the folder of the archive in which the store lies, ``""`` or ending in ``/``."""
    found = [name.rpartition("/") for name in names]
    homes = [f"{folder}{slash}" for folder, slash, name in found if name in METADATA]
    if not homes:
        raise LogError(
            "the archive holds no Zarr group",
            "Give a store that zarr wrote (.zgroup or zarr.json), or unpack the archive.",
            path=path,
        )
    return min(homes, key=lambda home: (home.count("/"), home))
