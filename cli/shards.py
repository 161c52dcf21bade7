"""``--shards`` and ``--ray``: processes of this machine, or of a cluster, that share work."""

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from hindsight_rl.cli.run_lock import locked
from hindsight_rl.shards import PLAN, waiting_folder
from hindsight_rl.workers import Cluster, Processes, Workers


class Shared(NamedTuple):
    """Who shares the work, and in how many shards.

    Attributes:
        workers: ``None`` for this process alone.
        shards: At least 1.
    """

    workers: Workers | None
    shards: int


def add_shards(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the options.

    Args:
        parser: Of a command.
        what: Of which shards are made, for the help.
    """
    parser.add_argument(
        "--shards",
        type=int,
        metavar="N",
        help=f"divide the {what} into N shards, made by as many processes as there are cores; "
        "finished ones outlast an interruption (1, and as many as Ray has cores)",
    )
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="make the shards on a Ray cluster: auto, ray://HOST:10001, local",
    )


@contextmanager
def sharing(given: argparse.Namespace, target: Path, command: str) -> Iterator[Shared]:
    """Give the processes that were asked for, and end them when the block ends.

    Args:
        given: With ``shards`` and ``ray``.
        target: What is written; one process at a time uses the folder where its shards wait.
        command: Which one runs, for messages.

    Yields:
        The processes; no one else where none were asked for.

    Raises:
        ValueError: There are no shards, no such cluster, or another process uses the folder.
    """
    if given.shards is not None and given.shards < 1:
        raise ValueError(f"--shards {given.shards}: at least 1")
    if given.ray is None and given.shards in (None, 1):
        yield Shared(None, 1)
        return
    folder = waiting_folder(target)
    with locked(folder, command, "--output"):
        workers: Workers = Processes(given.shards) if given.ray is None else Cluster(given.ray)
        try:
            with closing(workers):
                yield Shared(workers, given.shards or workers.count)
        except BaseException:
            if (folder / PLAN).exists():
                sys.stderr.write(f"finished shards are in {folder}: the same command goes on\n")
            raise
