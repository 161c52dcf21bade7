"""``hindsight sweep``: fits over settings and seeds, and one table of what they reached."""

import argparse
import json
import math
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import closing
from pathlib import Path
from statistics import fmean
from typing import Any

from hindsight_rl.cli.errors import command_parser, run
from hindsight_rl.cli.run_lock import locked
from hindsight_rl.cli.runs import CONFIG
from hindsight_rl.cli.sweep_ray import RayRuns
from hindsight_rl.cli.sweep_runs import Fit, Pool, Processes, RunError
from hindsight_rl.cli.sweep_search import Search
from hindsight_rl.cli.sweep_table import Row, markdown, numbers, rows
from hindsight_rl.cli.sweep_values import OWN, Grid, Plan, Values, name_of, parse_over
from hindsight_rl.endings import Ended
from hindsight_rl.files import write_text
from hindsight_rl.workers import WorkerError

_EXAMPLES = """\
examples:
  hindsight sweep --folder sweeps/iql --over model.expectile=0.7,0.9 --seeds 5 \\
      --config iql --data.source log.npz --env Pendulum-v1
  hindsight sweep --folder sweeps/rate --over model.learning_rate=1e-4..1e-2:log --trials 20 \\
      --config bc --data.source log.npz --data.validation 0.2 --by validation/value --least

Words that 'sweep' does not know are those of 'fit'. Runs lie in FOLDER/runs, what they wrote to the
terminal in FOLDER/logs, the table in FOLDER/table.md and table.json. The same command goes on where
it was stopped, and adds the seeds and values that are new."""
TABLE, PAGE = "table.json", "table.md"
"""Files of a sweep's folder."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight sweep``.

    Args:
        argv: Words after ``sweep``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 1 some runs failed, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    given, words = _parser().parse_known_args(argv)
    over = parse_over(given.over)
    words += [word for module in getattr(given, "import") or () for word in ("--import", module)]
    _check(given, words)
    folder = given.folder.absolute()
    with locked(folder, "sweep", "--folder"):
        # Here, since another sweep may have drawn trials until now; a mistake leaves no folder.
        plan = _plan(given, over)
        _keep_words(folder / "sweep.json", words)
        sweep = Sweep(plan, folder, tuple(words), given.seeds, given.by)
        pool: Pool = RayRuns(given.ray) if given.ray else Processes(given.jobs)
        at_once = max(1, given.jobs // given.seeds) if given.trials else None
        try:
            with closing(pool):
                sweep.run(pool, at_once)
        except (Ended, KeyboardInterrupt):
            sys.stderr.write(f"the same command goes on from what is in {given.folder}\n")
            raise
        finally:
            if sweep.results:
                _write(folder, rows(sweep.results, given.by, least=given.least), given.by)
    _say(folder, given.json)
    for fit, error in sweep.failed:
        sys.stderr.write(f"failed: {fit.name}: {error} (see {fit.log})\n")
    return 1 if sweep.failed else 0


class Sweep:
    """Settings of a plan, each with several seeds, and what they reached.

    Args:
        plan: Which settings.
        folder: Of the sweep.
        words: Words of ``fit`` that all runs share.
        seeds: How many seeds, from 0.
        by: Name of the number that settings are ranked by.
    """

    def __init__(self, plan: Plan, folder: Path, words: tuple[str, ...], seeds: int, by: str):
        self._plan, self._seeds, self._by = plan, seeds, by
        self._folder, self._words = folder, words
        self._values: dict[str, list[float]] = {}
        self._pending: dict[Future[dict[str, Any]], Fit] = {}
        self.results: list[dict[str, Any]] = []
        """Of finished runs, in the order in which they finished."""
        self.failed: list[tuple[Fit, RunError | WorkerError]] = []
        """Runs that failed, and why."""

    def run(self, pool: Pool, at_once: int | None) -> None:
        """Run everything.

        Args:
            pool: Where.
            at_once: How many settings are under way at a time, ``None`` for all.
        """
        left = True
        while left or self._pending:
            while left and (at_once is None or self._under_way() < at_once):
                setting = self._plan.next()
                left = setting is not None
                for seed in range(self._seeds) if setting is not None else ():
                    fit = Fit(str(self._folder), self._words, setting or {}, seed, os.getcwd())
                    self._pending[pool.submit(fit)] = fit
            for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                self._take(self._pending.pop(future), future)

    def _under_way(self) -> int:
        return len({name_of(fit.setting) for fit in self._pending.values()})

    def _take(self, fit: Fit, future: "Future[dict[str, Any]]") -> None:
        try:
            result = future.result()
        except (RunError, WorkerError) as error:
            self.failed.append((fit, error))
            sys.stderr.write(f"{fit.name}: failed\n")
            return
        value = fmean(numbers(result, self._by))
        sys.stderr.write(f"{fit.name}: {self._by} {value:.4g}, {result['seconds']:.0f} s\n")
        self.results.append(result)
        values = self._values.setdefault(name_of(fit.setting), [])
        values.append(value)
        if len(values) == self._seeds and math.isfinite(sum(values)):
            self._plan.tell(fit.setting, fmean(values))


def _plan(given: argparse.Namespace, over: dict[str, Values]) -> Plan:
    if not given.trials:
        return Grid(over)
    if not over:
        raise ValueError("--trials draws from --over NAME=VALUES, and there is none")
    return Search(over, given.folder / "trials.json", given.trials, least=given.least)


def _check(given: argparse.Namespace, words: Sequence[str]) -> None:
    """Raise on what would fail in every run."""
    for name in ("seeds", "jobs"):
        if getattr(given, name) < 1:
            raise ValueError(f"--{name} {getattr(given, name)}: at least 1")
    if given.trials is not None and given.trials < 1:
        raise ValueError(f"--trials {given.trials}: at least 1")
    if not words:
        raise ValueError("the words of 'fit' are missing, such as --config iql --data.source LOG")
    for word in words:
        name = word.removeprefix("--").partition("=")[0]
        if word.startswith("--") and name in OWN:
            raise ValueError(f"--{name}: each run of a sweep has its own; leave it out")


def _keep_words(path: Path, words: Sequence[str]) -> None:
    """Write the words of ``fit``, or raise where the folder holds a sweep of others."""
    if path.exists() and any((path.parent / "runs").rglob(CONFIG)):
        before = json.loads(path.read_text())["fit"]
        if before != list(words):
            raise ValueError(
                f"{path.parent} holds a sweep of other words: fit {shlex.join(before)}; give "
                "those, or another --folder"
            )
    write_text(path, json.dumps({"fit": list(words)}, indent=1) + "\n")


def _write(folder: Path, found: Sequence[Row], by: str) -> None:
    write_text(folder / TABLE, json.dumps([row._asdict() for row in found], indent=1) + "\n")
    write_text(folder / PAGE, markdown(found, by) + "\n")


def _say(folder: Path, as_json: bool) -> None:
    path = folder / (TABLE if as_json else PAGE)
    if path.exists():
        sys.stdout.write(path.read_text())


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "sweep", "Fits over settings and seeds, and one table with intervals.", _EXAMPLES
    )
    parser.allow_abbrev = False
    add = parser.add_argument
    add("--folder", type=Path, required=True, help="of the sweep")
    add(
        "--over",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="an option of 'fit' and its values: 0.7,0.9 or [[64,64],[256,256]]; with --trials a "
        "range too: 1e-4..1e-2, 1e-4..1e-2:log, 2..8; may be repeated: every combination is fitted",
    )
    add(
        "--seeds", type=int, default=1, metavar="N", help="seeds of each setting, from 0; default 1"
    )
    add(
        "--trials",
        type=int,
        metavar="N",
        help="let Optuna draw so many settings, most where earlier ones were good, in place of all",
    )
    add("--jobs", type=int, default=1, metavar="N", help="runs at a time; default 1")
    add(
        "--by",
        default="return",
        metavar="NAME",
        help="number that ranks, of the report of 'test', or of 'fit'; default return",
    )
    add("--least", action="store_true", help="the smallest is best")
    add("--ray", metavar="ADDRESS", help="run on a Ray cluster: auto, ray://HOST:10001, local")
    add("--json", action="store_true", help="print the table as JSON")
    return parser
