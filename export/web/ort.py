"""onnxruntime-web, as npm installed it: the files that a page needs, and whether they are whole.

They are 14 MB, so that they are no part of this package.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import NamedTuple

TRIED = "1.30.0"
"""The release that this package's tests run."""
COMMAND = f"npm install onnxruntime-web@{TRIED}"
PLACE = "node_modules/onnxruntime-web/dist"
"""Where that command puts it."""

_OLDEST = (1, 20)  # has the bundle
_BUNDLE, _WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
_FILES = {  # and their sha256 in the release that was tried
    _BUNDLE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    _WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}


class OrtError(ValueError):
    """A folder that does not have onnxruntime-web as npm installs it; the message names the fix."""


class Ort(NamedTuple):
    """A release of onnxruntime-web.

    Attributes:
        version: Its number.
        files: Bytes by name of the file.
    """

    version: str
    files: dict[str, bytes]


def read_ort(folder: Path) -> Ort:
    """Return the files of onnxruntime-web that run a policy on one thread of a browser.

    Args:
        folder: ``dist`` of the package, as npm installed it.

    Returns:
        Release and files.

    Raises:
        OrtError: The folder is another one, the release is too old, or a file of the release that
            was tried is not as it was published.
    """
    version = _version(folder)
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise OrtError(
            f"{folder}: onnxruntime-web {version} is older than "
            f"{'.'.join(map(str, _OLDEST))}: {COMMAND}"
        )
    found = {}
    for name, digest in _FILES.items():
        if not (folder / name).is_file():
            raise OrtError(f"{folder}: {name} of onnxruntime-web {version} is missing: {COMMAND}")
        found[name] = (folder / name).read_bytes()
        if version == TRIED and hashlib.sha256(found[name]).hexdigest() != digest:
            raise OrtError(
                f"{folder / name}: not as onnxruntime-web {version} was published (its sha256 "
                f"differs). Remove the folder, and install it again: {COMMAND}"
            )
    return Ort(version, found)


def _version(folder: Path) -> str:
    """Return what the package says of itself, beside its folder ``dist``."""
    path = folder.resolve().parent / "package.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        stated = None
    except (ValueError, RecursionError) as error:
        raise OrtError(f"{path}: not readable as JSON ({error}). Again: {COMMAND}") from error
    named = isinstance(stated, dict) and stated.get("name") == "onnxruntime-web"
    version = stated.get("version") if named else None
    if not isinstance(version, str) or not re.match(r"\d+\.\d+\.", version):
        raise OrtError(
            f"{folder}: not the folder 'dist' of npm's package onnxruntime-web. Install it with "
            f"'{COMMAND}', and give {PLACE}"
        )
    return version
