"""``hindsight convert``: a log in any format, relabeled ones too, in the format of another tool."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.importing import importing

_EXAMPLES = """\
examples:
  hindsight convert bag/ --columns arm.yaml --output arm --to lerobot
  hindsight convert log.relabeled --output log.parquet --to parquet
  hindsight convert cartpole.csv --output cartpole-expert-v0 --to minari

What is written holds its column map and where it came from: every command reads it back without
--columns. Images are written as PNG, which loses nothing (minari: as arrays)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight convert``.

    Args:
        argv: Words after ``convert``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_parser("convert", "Write a log in the format of another tool.", _EXAMPLES)
    parser.add_argument("source", help="file, folder, id of a local Minari dataset, or s3://...")
    parser.add_argument(
        "--to", required=True, choices=("parquet", "lerobot", "minari"), help="the format"
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="PATH", help="file (parquet) or folder"
    )
    parser.add_argument(
        "--columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    parser.add_argument(
        "--rate", type=float, metavar="HZ", help="rows per second, where the log does not know it"
    )
    parser.add_argument(
        "--video",
        action="store_true",
        help="cameras of lerobot as videos (H.264), much smaller, which lose detail; needs PyAV",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what lies there")
    given = parse(parser, argv)
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.logs.reading import read_log
        from hindsight_rl.logs.writing import write_log

    if given.rate is not None and not given.rate > 0:
        raise ValueError(f"--rate {given.rate:g}: give a number above 0")
    source, output = Path(given.source).resolve(), given.output.resolve()
    if output == source or source in output.parents or output in source.parents:
        raise ValueError(f"--output {given.output} touches the source: choose another place")
    log = read_log(given.source, given.columns)
    if log.rows is not None:
        sys.stderr.write(
            f"{len(log.rows):,} of {len(log):,} rows may be drawn here; {given.to} has no such "
            "choice, and holds all rows\n"
        )
    facts = {"rate": given.rate, "overwrite": given.overwrite, "video": given.video}
    write_log(log, given.output, given.to, **facts)
    sys.stdout.write(f"{given.output}: {len(log):,} rows in {log.episodes:,} episodes\n")
    return 0
