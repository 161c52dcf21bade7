"""Writes the folder of a policy's page, once the file has proved itself here."""

import shutil
from pathlib import Path
from typing import Any

from hindsight_rl.export.verify import verify_bytes
from hindsight_rl.export.web.ort import Ort, read_ort
from hindsight_rl.files import whole_folder

_PAGE = Path(__file__).parent / "page"
_READER = Path(__file__).parents[2] / "runners" / "js"
MARKS = ("index.html", "policy.onnx", "reader")
"""What every folder that was written here has."""


class PageError(ValueError):
    """A folder that a page cannot be written to; the message says why."""


def write_web(
    data: bytes, path: str, output: Path, ort: Path | None = None, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a folder with a policy file and a page that runs it, and return a report.

    The folder needs a web server for files and nothing else: what the page loads lies in it.

    Args:
        data: Bytes of the policy file.
        path: Where they came from, for messages.
        output: The folder.
        ort: ``dist`` of npm's package onnxruntime-web. Without it the page is whole but for its
            folder ``ort``, and says how to get it.
        overwrite: Whether a page that was written there before is replaced.

    Returns:
        What ``verify_bytes`` returns; ``path`` of the folder, ``files`` and ``bytes`` in it, and
        ``ort``, the release of onnxruntime-web, ``None`` without.

    Raises:
        ContractError: The bytes are no policy file, or this machine's onnxruntime answers
            differently.
        OrtError: ``ort`` is another folder, or not as published.
        PageError: Something lies there that must not be replaced.
        WriteError: It cannot be written.
    """
    if output.exists():
        _check_old(output, overwrite=overwrite)
    report = verify_bytes(data, path)
    found = None if ort is None else read_ort(ort)
    with whole_folder(output, overwrite=overwrite) as draft:
        _fill(draft, data, found)
        sizes = [each.stat().st_size for each in draft.rglob("*") if each.is_file()]
    written = {"path": str(output), "files": len(sizes), "bytes": sum(sizes)}
    return report | written | {"ort": None if found is None else found.version}


def _fill(folder: Path, data: bytes, ort: Ort | None) -> None:
    for source, target in ((_PAGE, folder), (_READER, folder / "reader")):
        target.mkdir(exist_ok=True)
        for path in sorted(source.iterdir()):
            if path.suffix in (".html", ".css", ".mjs"):
                shutil.copyfile(path, target / path.name)
    (folder / "policy.onnx").write_bytes(data)
    if ort is not None:
        (folder / "ort").mkdir()
        for name, content in ort.files.items():
            (folder / "ort" / name).write_bytes(content)


def _check_old(output: Path, *, overwrite: bool) -> None:
    """Raise unless a folder may be replaced: it is one of ours, and that is wanted."""
    if not overwrite:
        raise PageError(f"{output} is there already: choose another folder, or pass --overwrite")
    if not all((output / name).exists() for name in MARKS):
        raise PageError(
            f"{output} is no page of a policy, and --overwrite would remove what it holds: "
            "choose another folder"
        )
