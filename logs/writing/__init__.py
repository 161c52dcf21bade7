"""Logs in the formats of other tools, with their column map and where they came from."""

import importlib
from pathlib import Path
from typing import Literal, Protocol, get_args

from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log

Target = Literal["parquet", "lerobot", "minari"]
TARGETS: tuple[str, ...] = get_args(Target)


class Write(Protocol):
    """What each module of a format offers."""

    def __call__(
        self, log: Log, path: Path, rate: float | None, *, overwrite: bool, **lossy: bool
    ) -> None:
        """Write a log as a whole."""


def write_log(
    log: Log,
    path: str | Path,
    format: Target,  # noqa: A002  (the field of a column map is called so)
    *,
    rate: float | None = None,
    overwrite: bool = False,
    video: bool = False,
) -> None:
    """Write a log in the format of another tool.

    ``read_log`` reads it back without a column map: what is written holds its own, and where the
    log came from (source, hash, how it was relabeled).

    Args:
        log: The log.
        path: File of ``parquet``, folder of ``lerobot`` (v3.0) and ``minari``; its parents are made
            too. It is whole or absent.
        format: One of the three.
        rate: Rows per second, where the log does not know its control rate; LeRobot needs one.
        overwrite: Replace what lies there.
        video: Of ``lerobot``: write cameras as videos, a fraction of the size, which lose detail.
            Left false, nothing is lost.

    Raises:
        LogError: The format cannot hold this log, the log knows another rate, or something lies
            there already.
    """
    target, known = Path(path), log.info.get("control_rate_hz")
    if rate and known and rate != known:
        raise LogError(
            f"its rows come at {known:g} Hz, and the rate given is {rate:g}",
            "Leave it out, or set control_rate_hz in the column map that it is read by.",
            path=log.sources[0].name,
        )
    if format not in TARGETS:
        raise LogError(f"'{format}' is no format that is written", f"Give {', '.join(TARGETS)}.")
    if target.exists() and not overwrite:
        raise LogError("already exists", "Choose another name, or overwrite it.", path=target)
    if target.exists() and target.is_dir() == (format == "parquet"):
        what = "a folder" if target.is_dir() else "a file"
        raise LogError(f"is {what}, so it is not overwritten", "Choose another name.", path=target)
    if video and (format != "lerobot" or not log.images):
        what = "the log has no images" if format == "lerobot" else f"{format} has none"
        raise LogError(f"videos are asked for, and {what}", "Leave --video out.", path=target)
    write: Write = importlib.import_module(f"{__name__}.{format}").write
    write(log, target, rate, overwrite=overwrite, **({"video": True} if video else {}))
