"""Checkpoint files: written whole or not at all, and recognised when they are cut or damaged.

A checkpoint goes to a temporary file beside its place, is flushed to the disk and then renamed; it
holds the SHA-256 of its own content, which is compared whenever it is read. Files without one,
Lightning's own and older ones, are read as they are.

The hash is there against accidents. It is no signature: whoever changes a file can renew it.
"""

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import Tensor

from hindsight_rl.files import WriteError, write_whole

HASH = "content_hash"
SUFFIX = ".ckpt"
# What is wrong with a file that torch reads and no learner is in, and the fix of every wrong file.
NO_LEARNER = "not a Hindsight checkpoint: it holds no learner"
GIVE = "Give a .ckpt that 'hindsight fit' wrote."
GOES_ON = "Checkpoints written before are whole: 'hindsight fit --resume' goes on from the newest."
MOST_VALUES = 5_000_000
"""Values of a checkpoint at most; a flat list is one."""

MOST_BYTES = 256 << 20
"""Bytes of a checkpoint that are no tensors at most."""

_PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device)


class CheckpointError(ValueError):
    """A checkpoint is missing, cut or damaged.

    Args:
        path: The file.
        why: What is wrong with it.
        fix: What to do, a sentence.
    """

    def __init__(self, path: str | Path, why: str, fix: str = "") -> None:
        super().__init__(f"{path}: {why}. {fix}" if fix else f"{path}: {why}")
        self.path, self.why = Path(path), why


class CheckpointIO(TorchCheckpointIO):
    """Lightning's plugin for checkpoint files, here whole, hashed, and never unpickled."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint.

        Args:
            checkpoint: Its content; gets a hash.
            path: Where to; an address such as ``s3://...`` is left to Lightning.
            storage_options: Not used.
        """
        checkpoint[HASH] = content_hash(checkpoint)
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_checkpoint(Path(path), checkpoint)

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Return the content of a checkpoint on the CPU, without its hash.

        Args:
            path: The file.
            map_location: Not used: the trainer moves what it takes.
            weights_only: Not used: always so.

        Returns:
            The content.
        """
        if "://" in str(path):
            payload: dict[str, Any] = super().load_checkpoint(path, weights_only=True)
            return _checked(path, payload)
        return read_checkpoint(Path(path))


# ------------------------------------------------------------------ the hash


def content_hash(payload: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a nested payload: keys and plain values, and tensors to the bit.

    Of objects of other types, which a checkpoint cannot give back without unpickling, only the type
    counts.

    Args:
        payload: Content of a checkpoint; its own hash is left out.

    Returns:
        ``sha256:`` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    _feed(digest.update, {key: value for key, value in payload.items() if key != HASH})
    return f"sha256:{digest.hexdigest()}"


def _feed(update: Callable[[Any], None], value: Any) -> None:
    """Feed a value and what it holds; lengths go first, so that no two values feed the same."""
    if isinstance(value, Tensor):
        update(f"tensor {value.dtype} {tuple(value.shape)};".encode())
        flat = value.detach().cpu().contiguous().reshape(-1)
        update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, Mapping):
        update(f"mapping {len(value)};".encode())
        for key, inner in value.items():
            _feed(update, key)
            _feed(update, inner)
    elif isinstance(value, (list, tuple)) and not _flat(value):
        update(f"{'list' if isinstance(value, list) else 'tuple'} {len(value)};".encode())
        for inner in value:
            _feed(update, inner)
    else:
        text = repr(value) if isinstance(value, (*_PLAIN, list, tuple)) else ""
        plain = f"{type(value).__name__} {text}".encode()
        update(f"plain {len(plain)};".encode() + plain)


def _flat(value: Sequence[Any]) -> bool:
    """Return whether a sequence holds plain values only: its text is then enough, and fast."""
    return set(map(type, value)).issubset(_PLAIN)


# ------------------------------------------------------------------ reading


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint, tensors on the CPU.

    Args:
        path: The file.

    Returns:
        The content, without its hash.

    Raises:
        CheckpointError: Missing, a folder, cut or damaged; names the newest good one beside it, or
            in the run.
    """
    if not path.exists():
        raise CheckpointError(path, "no such checkpoint; give a file written by 'fit'")
    if path.is_dir():
        run = path / "checkpoints"
        found = newest_good(run if run.is_dir() else path).path
        fix = f"Give the checkpoint in it: {found}" if found else f"None in it is good. {GIVE}"
        raise CheckpointError(path, f"a {'run ' if run.is_dir() else ''}folder, not a file", fix)
    try:
        return _read(path)
    except CheckpointError as error:
        found = newest_good(path.parent).path
        beside = f"The newest good one beside it: {found}" if found else "None beside it is good"
        fix = beside if found else f"{beside}. {GIVE}"
        raise CheckpointError(path, error.why, fix) from error.__cause__


class Found(NamedTuple):
    """The newest good checkpoint of a folder, and what is wrong with those passed over."""

    path: Path | None
    broken: list[CheckpointError]


def newest_good(folder: Path) -> Found:
    """Return the checkpoint with the most updates whose content agrees with its hash.

    Args:
        folder: Where to look. Of equal ones ``last.ckpt`` comes first: it was written last.

    Returns:
        The file, ``None`` where there is none, and the errors of those that were passed over.
    """
    found: list[tuple[int, bool, Path]] = []
    broken: list[CheckpointError] = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            payload = _load(path, mmap=True)
        except CheckpointError as error:
            broken.append(error)
            continue
        step = payload.get("global_step")
        if isinstance(step, int):
            found.append((step, path.stem == "last", path))
        else:
            broken.append(CheckpointError(path, "holds something else than a checkpoint"))
    for _, _, path in sorted(found, reverse=True):
        try:
            _read(path, mmap=True)
        except CheckpointError as error:
            broken.append(error)
        else:
            return Found(path, broken)
    return Found(None, broken)


def _read(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    return _checked(path, _load(path, mmap=mmap))


def _load(path: Path, *, mmap: bool) -> dict[str, Any]:
    """Return what a file holds, its hash not yet compared."""
    try:
        _check_archive(path)
        payload = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _check_values(payload)
    # Any way of being broken is the same to the caller.
    except (Exception, RecursionError, MemoryError) as error:
        why = "not a readable Hindsight checkpoint: cut, or a file of another kind"
        raise CheckpointError(path, why) from error
    if not isinstance(payload, dict):
        raise CheckpointError(path, "not a readable Hindsight checkpoint: it holds something else")
    return payload


def _check_archive(path: Path) -> None:
    """Raise ``ValueError`` where a file is no archive, or one that says it holds more than it does.

    PyTorch stores tensors as they are. Before 1.6 it wrote no archives, and reading such a file
    allocates what it asks for.
    """
    if not path.is_file():
        raise ValueError("no regular file")  # reading a pipe may wait for ever
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries are larger than the file")
    # The text that says what the tensors are is read into objects, each larger than its text.
    if sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl")) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES:,} bytes beside tensors")


def _check_values(payload: Any) -> None:
    """Raise ``ValueError`` where values unfold to more than the file holds.

    A tensor may repeat one element over any shape, and a list hold one list several times, which
    holds another several times, and so on: a few bytes that take for ever to look at.
    """
    waiting, count = [payload], 0
    while waiting:
        value = waiting.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if isinstance(value, Tensor):
            size = value.numel() * value.element_size()
            if value.device.type != "cpu" or size > value.untyped_storage().nbytes():
                raise ValueError(f"a tensor of {size:,} bytes that are not there")
        elif isinstance(value, Mapping):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple)) and not _flat(value):
            waiting += value


def _checked(path: Any, payload: dict[str, Any]) -> dict[str, Any]:
    stated = payload.pop(HASH, None)
    if stated is not None and stated != content_hash(payload):
        raise CheckpointError(path, "damaged: its content does not agree with its hash")
    return payload


# ------------------------------------------------------------------ writing


def write_checkpoint(path: Path, payload: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: The file; its folder is made where it is missing.
        payload: Its content.

    Raises:
        OSError: It cannot be written. What was there before is untouched, nothing else is left.
    """

    def write(file: BinaryIO) -> None:
        kept = _File(file)
        torch.save(payload, cast(IO[bytes], kept))  # it calls nothing else
        if kept.error is not None:
            raise kept.error

    try:
        write_whole(path, write)
    except WriteError as error:
        if not error.full:
            raise
        raise OSError(f"{error} {GOES_ON}") from error


class _File:
    """Keeps the first error instead of raising it into PyTorch's writer, which would not stop."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write, or do nothing after an error."""
        if self.error is None:
            try:
                self._raw.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file is flushed once, when it is whole."""
