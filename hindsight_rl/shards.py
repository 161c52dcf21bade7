"""Shards of a long work: how it is divided, and the folder in which finished ones wait.

The folder lies beside what is written, ``NAME.shards``. It says in ``plan.json`` what is being
done; the same command goes on from the shards that are there, another one is an error.
"""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hindsight_rl.files import write_text

PLAN = "plan.json"


def waiting_folder(target: Path) -> Path:
    """Return the folder in which the shards of what is written wait for each other."""
    return target.with_name(f"{target.name}.shards")


def divided(total: int, count: int, *, block: int = 1) -> list[range]:
    """Return shards of about one size.

    Args:
        total: What is divided, at least 1: rows, or episodes.
        count: How many shards, at least 1; fewer where there are fewer blocks.
        block: Shards begin at multiples of this.

    Returns:
        Adjacent ranges from 0 to ``total``.
    """
    blocks = -(-total // block)
    count = min(count, blocks)
    ends = [blocks * number // count * block for number in range(count)]
    return [range(*pair) for pair in zip(ends, [*ends[1:], total], strict=True)]


def keep_plan(folder: Path, done: Mapping[str, Any] | None, shards: list[range]) -> None:
    """Write what the shards of a folder are; it is made where it is missing.

    Args:
        folder: Where shards wait.
        done: What is done, as JSON holds it. ``None``: that is not known, and shards that wait
            there are removed.
        shards: How it is divided.

    Raises:
        ValueError: The folder holds shards of something else.
        WriteError: It cannot be written.
    """
    divided_at = [[shard.start, shard.stop] for shard in shards]
    plan = {"done": done, "shards": divided_at, "version": version("hindsight-rl")}
    text, path = json.dumps(plan, indent=1, default=str), folder / PLAN
    if done is None and folder.exists():
        shutil.rmtree(folder)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{folder} holds shards of something else, or of another number of them: give the "
            "words of that command to go on with it, or remove the folder"
        )
    write_text(path, text)
