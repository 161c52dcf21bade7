"""``hindsight relabel``: a relabeled copy of a log, with its provenance, and a page about it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.cli.shards import add_shards, sharing
from hindsight_rl.importing import importing

if TYPE_CHECKING:
    from hindsight_rl.logs.log import Log
    from hindsight_rl.relabel.relabeler import Relabeler

_EXAMPLES = """\
examples:
  hindsight relabel wandering.npz --config hipi_bc --output wandering.relabeled
  hindsight relabel log.hdf5 --config goals.yaml --output log.relabeled --report report.html
  hindsight relabel log --config hipi_bc --output log.relabeled --shards 16
  hindsight relabel played.npz --expert policy.onnx --output labelled
  hindsight relabel played.npz --expert answers.csv --output labelled
  hindsight relabel played.npz --expert robot:act --expert_reads observation,mass --output new

goals.yaml is a configuration of 'fit', of which the data block counts (relabel, columns, seed), or

  relabel:
    - class_path: FutureGoal
      init_args:
        family: {class_path: GoalReaching, init_args: {radius: 0.5}}

--expert adds the column expert_action, what an expert would do in each row's state: an exported
file, a function of the current folder, controller(observation [n, O], task [n, Z] or None, env),
where env is None, or a table of a person's answers (episode,step,ACTION). The relabeler
ExpertAction trains on it.

Every row is decided about once. Training on the copy without relabelers gives what training on the
source with these relabelers in Once(..., seed) gives. Columns that are replaced are kept."""

_FIELDS = ("relabel", "columns", "seed")


class Settings(NamedTuple):
    """What a configuration says of the data step."""

    relabel: list[Any]
    columns: Any
    seed: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight relabel``.

    Args:
        argv: Words after ``relabel``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    given = parse(_parser(), argv)
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.datamodules.relabeled import check_output, write_relabeled
        from hindsight_rl.logs.log import Log
        from hindsight_rl.logs.reading import locate, read_log
        from hindsight_rl.logs.reading.column_map import ColumnMap

    if given.report is not None:
        import matplotlib  # noqa: F401  # an extra: said before the work, not after it
    settings = _settings(given)
    if isinstance(settings.columns, list) and given.columns is None:
        raise ValueError(
            f"--config {given.config} has a column map for each of several sources: give --columns"
        )
    columns = ColumnMap.load(given.columns or settings.columns)
    seed = settings.seed if given.seed is None else given.seed
    _, source = locate(given.source, columns)
    check_output(given.output, [source], overwrite=given.overwrite)
    if given.report is not None:
        _check_report(given.report, source, given.output)
    relabelers, rule = build(settings.relabel, given.config or "--expert")
    log = read_log(given.source, columns)
    with sharing(given, given.output, "relabel") as shared:
        bound = write_relabeled(
            log,
            relabelers,
            given.output,
            seed=seed,
            rule=rule,
            overwrite=given.overwrite,
            workers=shared.workers,
            shards=shared.shards,
        )
    written = Log.load(given.output)
    sys.stdout.write(f"{given.output}: {_told(written)}\n")
    if given.report is not None:
        from hindsight_rl.reports.page import write_report

        write_report(written, given.report, bound)
        sys.stdout.write(f"{given.report}: report\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("relabel", "Write a relabeled copy of a log.", _EXAMPLES)
    parser.add_argument("source", help="file, folder, id of a local Minari dataset, or s3://...")
    parser.add_argument(
        "-c", "--config", metavar="FILE", help="YAML file, or a packaged one's name"
    )
    parser.add_argument(
        "--expert",
        metavar="WHO",
        help="label every row first: policy.onnx, module:function, or a person's answers.csv",
    )
    parser.add_argument(
        "--expert_reads",
        metavar="COLUMNS",
        type=lambda text: text.split(","),
        help="columns that the expert sees, joined, in the place of the observation: a,b",
    )
    parser.add_argument(
        "--output", required=True, type=Path, metavar="FOLDER", help="where the copy goes"
    )
    parser.add_argument(
        "--columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    parser.add_argument(
        "--seed", type=int, metavar="N", help="of the decisions (that of the configuration, else 0)"
    )
    parser.add_argument("--report", type=Path, metavar="HTML", help="write a page about the copy")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing copy")
    add_shards(parser, "rows")
    return parser


def _settings(given: argparse.Namespace) -> Settings:
    """Return what is to be done: the labels of the expert, then what the configuration says."""
    if given.config is None and given.expert is None:
        raise ValueError("there is nothing to do: give --config FILE, --expert WHO, or both")
    if given.expert is None and given.expert_reads:
        raise ValueError("--expert_reads is what an expert sees: give --expert WHO too")
    found = Settings([], None, 0) if given.config is None else read_settings(given.config)
    if given.expert is None:
        return found
    arguments = {"expert": given.expert, "reads": given.expert_reads}
    seed = found.seed if given.seed is None else given.seed
    labels = {"class_path": "ExpertLabels", "init_args": arguments | {"seed": seed}}
    return found._replace(relabel=[labels, *found.relabel])


def read_settings(config: str) -> Settings:
    """Return the data step of a configuration.

    Args:
        config: Path of a YAML file, or the name of a packaged one.

    Returns:
        Its relabelers (as they stand there), column map and seed.

    Raises:
        ValueError: It cannot be read, or has no relabelers.
    """
    import yaml  # of the training install
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from hindsight_rl.cli.former import current_classes
    from hindsight_rl.cli.words import packaged_config
    from hindsight_rl.logs.reading.column_values import yaml_values

    path = packaged_config(config)
    try:
        whole = OmegaConf.create(yaml_values(Path(path).read_text(encoding="utf-8")))
        values: Any = OmegaConf.to_container(whole.data if "data" in whole else whole, resolve=True)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise ValueError(f"{path}: not a readable YAML file of settings ({error})") from error
    except OmegaConfBaseException as error:
        raise ValueError(f"{path}: {error}") from error
    fix = "add 'relabel: [{class_path: FutureGoal}]', or the like"
    if not isinstance(values, Mapping):
        raise ValueError(f"{path}: holds no settings: {fix}")
    if "data" in whole:
        values = {**values, **(values.get("init_args") or {})}
    elif unknown := sorted(values.keys() - set(_FIELDS)):
        raise ValueError(
            f"{path}: '{unknown[0]}' is no setting of a data step: give {', '.join(_FIELDS)}, or a "
            "whole configuration of 'fit' with a data block"
        )
    relabel, seed = current_classes(values.get("relabel")), values.get("seed") or 0
    if not relabel or not isinstance(relabel, list):
        raise ValueError(f"{path}: has no list of relabelers: {fix}")
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise ValueError(f"{path}: seed is {seed!r}: give a whole number")
    return Settings(relabel, values.get("columns"), seed)


def build(relabel: list[Any], config: str) -> tuple[list["Relabeler"], list[dict[str, Any]]]:
    """Return the relabelers of a configuration, and their full description.

    Args:
        relabel: Class paths (short names will do) and their arguments.
        config: Where they stand, for messages.

    Returns:
        The relabelers; and class paths with all arguments, those left out too.

    Raises:
        ValueError: A class or an argument is unknown, or a value is out of range.
    """
    from jsonargparse import ArgumentParser

    from hindsight_rl.plugins import import_installed, import_rooms
    from hindsight_rl.relabel.relabeler import Relabeler

    # Short names are those of classes that were imported.
    import_rooms("relabel", "tasks")
    import_installed()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--relabel", type=list[Relabeler])
    try:
        parsed = parser.parse_object({"relabel": relabel})
        made = parser.instantiate_classes(parsed)
    except argparse.ArgumentError as error:
        from hindsight_rl.cli.messages import reduced  # imports every learner, for their names

        raise ValueError(f"{config}: {reduced(str(error))}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{config}: {error}") from error
    rule: list[dict[str, Any]] = parsed.as_dict()["relabel"]
    return made.relabel, rule


def _check_report(report: Path, source: Path, output: Path) -> None:
    place = report.resolve()
    if report.is_dir():
        raise ValueError(f"--report {report} is a folder: name a file, such as report.html")
    for taken, what in ((source.resolve(), "the source"), (output.resolve(), "the copy")):
        if place == taken or taken in place.parents:
            raise ValueError(f"--report {report} would write into {what}: name a file beside it")


def _told(log: "Log") -> str:
    from hindsight_rl.datamodules.relabeled import PROVENANCE

    done = log.info[PROVENANCE][-1]
    rows = f"{len(log):,} rows in {log.episodes:,} episodes"
    if log.rows is not None:
        rows += f", {len(log.rows):,} rows may be drawn"
    replaced, added = ", ".join(done["original"]), ", ".join(done["added"])
    parts = [rows, f"replaced {replaced}" if replaced else "", f"added {added}" if added else ""]
    return "; ".join(part for part in parts if part)
