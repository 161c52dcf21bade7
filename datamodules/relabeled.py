"""Writing a relabeled log: every decision made once and kept, what it replaced kept beside it.

Training on the written log without relabelers equals training on the original with
``relabel=[Once(relabelers, seed)]``, bit for bit: rows, their numbers, the drawable ones and the
sources are the same. Rows are relabeled and written some thousands at a time, so that the log may
be larger than memory; several processes share them where workers are given, see
:mod:`hindsight_rl.datamodules.relabeled_shards`.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.datamodules.relabeled_rows import original, relabeled_rows, together
from hindsight_rl.datamodules.relabeled_shards import write_shards
from hindsight_rl.files import whole_folder, write_text
from hindsight_rl.keys import ACTION, Key, key_name
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.folder import (
    HEADER,
    MATRIX,
    ROWS,
    frames_file,
    make_header,
    read_file,
    write_rows,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.packed import Column, PackedColumns, content_hash
from hindsight_rl.logs.rows import SPAN
from hindsight_rl.relabel.bonus import check_of_fixed_log
from hindsight_rl.relabel.chain import Compose, parts_of
from hindsight_rl.relabel.once import Once
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.shards import waiting_folder
from hindsight_rl.workers import Workers, each

PROVENANCE = "relabeled"
"""Name, among the facts of a log, of the list that says how it was relabeled."""


def write_relabeled(
    log: Log,
    relabelers: Sequence[Relabeler],
    path: str | Path,
    *,
    seed: int = 0,
    rule: Sequence[Mapping[str, Any]] | None = None,
    overwrite: bool = False,
    workers: Workers | None = None,
    shards: int = 1,
) -> Relabeler:
    """Write a log as the relabelers make it, each row decided once, and say where it came from.

    A column that is replaced is kept as ``original.<name>``; of a log that was relabeled before,
    those of the first time stay. Rows that a filter leaves out are written too: the new log says,
    as the relabelers do, which may be drawn. The log that is read stays as it is.

    Args:
        log: The log.
        relabelers: In order, not yet bound.
        path: Folder to write; whole or absent.
        seed: Seed of the decisions, as of ``Once``.
        rule: The relabelers as a configuration would name them (``class_path``, ``init_args``), to
            be kept with the log; their classes unless given.
        overwrite: Replace a saved log that lies there.
        workers: Processes that share the work, ``None`` for this one alone; the log is the same.
        shards: Parts into which the rows are divided for them. Where ``rule`` is given, finished
            ones outlast an interrupted call, in ``PATH.shards``, and the next one of the same
            goes on from them.

    Returns:
        The bound chain that was applied.

    Raises:
        LogError: The folder exists, is part of the log or holds it; or a relabeler needs a
            learner, rewrites what it does not declare, or makes numbers that are not finite.
        ValueError: The relabelers do not go together, or one cannot be sent to other processes.
        WorkerError: A process ended without an answer.
    """
    target = Path(path)
    check_output(target, _folders(log), overwrite=overwrite)
    if workers is not None:
        log = replace(log, each=partial(each, workers))
    check_of_fixed_log(Compose(list(relabelers)))
    bound = Compose([Once(list(relabelers), seed)]).prepare(log)
    _check_no_critic(bound)
    _check_executed(bound)
    ready = log.with_columns(bound.columns).with_rows(bound.rows)
    described = rule or [{"class_path": _path_of(part)} for part in relabelers]
    done = {"rule": [dict(part) for part in described], "seed": seed, "source_hash": log.hash()}
    done |= {k: v for part in parts_of(bound) for k, v in part.provenance.items()}
    with whole_folder(target, overwrite=overwrite) as draft:
        if workers is None:
            columns = _write_columns(draft / MATRIX, log, ready, bound)
        else:
            columns = write_shards(
                draft / MATRIX,
                log,
                ready,
                bound,
                workers=workers,
                count=shards,
                folder=waiting_folder(target),
                plan=None if rule is None else done,
            )
        _finish(draft, log, ready.rows, columns, _provenance(log, columns, done))
    if workers is not None:
        shutil.rmtree(waiting_folder(target))
    return bound


def check_output(target: Path, sources: Sequence[Path], *, overwrite: bool) -> None:
    """Raise on a place where writing would touch the source, or something else that is there.

    Args:
        target: Folder to write.
        sources: Files and folders that are read.
        overwrite: Whether a saved log may be replaced.

    Raises:
        LogError: The place is that of a source, within it or around it; or it is taken.
    """
    place = target.resolve()
    for source in (source.resolve() for source in sources):
        if place == source or source in place.parents or place in source.parents:
            where = "is" if place == source else "holds" if place in source.parents else "lies in"
            raise LogError(
                f"the output {where} the source {source}, which stays as it is",
                "Name a folder beside it.",
                path=target,
            )
    if target.exists() and not overwrite:
        raise LogError("already exists", "Choose another name or pass --overwrite.", path=target)
    if target.exists() and not (target / HEADER).is_file():
        raise LogError(
            "is no saved log, so it is not overwritten", "Choose another name.", path=target
        )


def _check_no_critic(bound: Relabeler) -> None:
    try:
        bound.use(None)
    except ValueError as error:
        raise LogError(
            f"a log is relabeled without a learner, and a relabeler needs one ({error})",
            "Let 'hindsight fit' relabel while it trains, or judge whole trajectories.",
        ) from error


def _check_executed(bound: Relabeler) -> None:
    """Raise on another action beside the reward and the successor of the executed one."""
    for part in parts_of(bound):
        if ACTION in part.columns or ACTION in part.call_writes:
            raise LogError(
                f"{type(part).__name__} puts another action beside the reward and the successor of "
                "the one that was executed, and any learner may read the written log",
                "Leave it out here, and let 'hindsight fit' apply it (data.relabel).",
            )


def _folders(log: Log) -> list[Path]:
    return [Path(one.folder) for one in (log, *log.members) if one.folder is not None]


def _path_of(part: Relabeler) -> str:
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _write_columns(file: Path, log: Log, ready: Log, bound: Relabeler) -> dict[Key, Column]:
    """Write all rows and return their columns; see :func:`relabeled_rows` for what they are."""
    columns: dict[Key, Column] = {}
    written: list[Tensor] = []
    for values in relabeled_rows(log, ready, bound, range(len(log))):
        block = PackedColumns.pack(values)
        columns = block.columns
        written.append(block.matrix[:])
        if len(written) * together(log) >= SPAN:  # each write waits for the disk
            write_rows(file, torch.cat(written))
            written = []
    if written:
        write_rows(file, torch.cat(written))
    return columns


def _provenance(log: Log, columns: Mapping[Key, Column], done: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of the new log: those of the old one and, last in a list, what was done."""
    before = set(log.keys())
    found = {
        **done,
        "source": [source.name for source in log.sources],
        "original": {key_name(k): key_name(original(k)) for k in columns if original(k) in columns},
        "added": [key_name(k) for k in columns if k not in before and k[0] != "original"],
        "version": version("hindsight-rl"),
    }
    return log.info | {PROVENANCE: [*log.info.get(PROVENANCE, []), found]}


def _finish(
    draft: Path,
    log: Log,
    rows: Tensor | None,
    columns: dict[Key, Column],
    info: Mapping[str, Any],
) -> None:
    """Write all but the matrix: images, drawable rows and, last, the header."""
    width = sum(column.width for column in columns.values())
    block = PackedColumns(read_file(draft / MATRIX, np.float32, (len(log), width), True), columns)
    pixels = {key: frames.pixels for key, frames in log.images.items()}
    for number, frames in enumerate(pixels.values()):
        write_rows(draft / frames_file(number), frames)
    if rows is not None:
        rows.numpy().tofile(draft / ROWS)
    found = content_hash(block, pixels)
    sources = [[s.start, s.stop, s.weight, s.name] for s in log.sources]
    header = make_header(block, rows, [found, found], sources, info, pixels)
    write_text(draft / HEADER, json.dumps(header, indent=1))
