"""``hindsight judge``: what policies are worth by a log, without an environment."""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.files import write_text
from hindsight_rl.importing import importing

if TYPE_CHECKING:
    from hindsight_rl.diagnostics.ope.judge import Judged, Judgement
    from hindsight_rl.diagnostics.ope.question import Question

_EXAMPLES = """\
examples:
  hindsight judge policy.onnx --data.source log.npz
  hindsight judge --run runs/iql-001 --run runs/bc-001 --data.source log.npz --page judged.html
  hindsight judge --select runs/iql-001 --data.source log.npz
  hindsight judge policy.onnx --data.source log.npz --model runs/dynamics-001/checkpoints/last.ckpt
  hindsight judge a.ckpt --drawn --behavior logged --methods wdr fqe --by wdr --data.source log.npz

Values are discounted returns from the first states of the log. An exported policy that does one
thing only in each state has no probabilities: with --drawn a checkpoint is judged as it collects
(a file that 'hindsight export --drawn' wrote always is), and importance sampling and doubly robust
estimates are there too. docs/judging.md says which estimator to believe when."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight judge``.

    Args:
        argv: Words after ``judge``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 judged, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = _parser()
    given = parse(parser, argv)
    if not (given.policies or given.run or given.select):
        parser.error("give a policy: a checkpoint, an exported file, --run FOLDER or --select RUN")
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.diagnostics.ope.judge import as_dict, judge
        from hindsight_rl.logs.reading import read_log

    question = _question(given)
    policies = _policies(given)
    log = read_log(given.source, given.columns)
    found = judge(list(policies.values()), log, question, names=list(policies), say=_say)
    facts = as_dict(found)
    if given.page is not None:
        from hindsight_rl.reports.judging import page

        write_text(given.page, page(facts))
        sys.stderr.write(f"{given.page}: page\n")
    shown = json.dumps(facts, indent=1) if given.json else format_judgement(found)
    sys.stdout.write(f"{shown}\n")
    return 0


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _policies(given: argparse.Namespace) -> dict[str, Path]:
    """Return the files that are judged by their names, in the order of the command line."""
    from hindsight_rl.cli.runs import CHECKPOINTS, chosen_checkpoint

    found = {str(path): path for path in given.policies}
    found |= {str(folder): chosen_checkpoint(folder) for folder in given.run}
    for folder in given.select:
        saved = sorted(
            (folder / CHECKPOINTS).glob("step=*.ckpt"),
            key=lambda path: int(path.stem.partition("=")[2] or 0),
        )
        if not saved:
            raise ValueError(
                f"--select {folder}: no checkpoints/step=*.ckpt in it. Keep several while fitting: "
                "--checkpoint_every 1000 --keep 20"
            )
        found |= {f"{folder} {path.stem}": path for path in saved}
    return found


def _question(given: argparse.Namespace) -> "Question":
    from hindsight_rl.diagnostics.ope.fitting import Fitting
    from hindsight_rl.diagnostics.ope.question import METHODS, Question

    methods = tuple(given.methods or (METHODS if not given.select else ("fqe", "lstd")))
    fitting = Fitting(
        updates=given.updates,
        hidden=tuple(given.hidden),
        members=given.members,
        seed=given.seed,
    )
    return Question(
        discount=given.discount,
        horizon=given.horizon,
        behavior=given.behavior,
        methods=methods,
        by=given.by or ("fqe" if "fqe" in methods else methods[0]),
        model=given.model,
        drawn=given.drawn,
        samples=given.samples,
        check=not given.no_check,
        fitting=fitting,
    )


def format_judgement(found: "Judgement") -> str:
    """Return a judgement in aligned lines; the first says whether the log covers the policy.

    Args:
        found: What was judged.

    Returns:
        Text without a final newline.
    """
    several = len(found.policies) > 1
    lines = [
        f"{one.name}: {one.remarks[0]}." if several else f"{one.remarks[0]}."
        for one in found.policies
    ]
    end = "" if found.question.horizon is None else f", {found.question.horizon} steps"
    low, high = found.logged_interval
    lines += [
        "",
        f"log          {found.source}: {found.episodes:,} episodes, {found.transitions:,} steps",
        f"its return   {found.logged:,.4g} [{low:,.4g}, {high:,.4g}] (95 %), discounted by "
        f"{found.question.discount:g}{end}",
        f"its policy   {_behavior(found)}",
    ]
    if found.itself is not None:
        lines.append(f"check        {found.itself.sentence}")
        lines += [f"{'':<13}{_sentence(text)}" for text in found.itself.warnings]
    for one in found.policies:
        lines += ["", one.name, *_rows(one)]
        lines += [f"  {_sentence(text)}" for text in (*one.remarks[1:], *one.left_out)]
    if several:
        lines += ["", *_ranking(found)]
    return "\n".join(lines)


def _behavior(found: "Judgement") -> str:
    if found.behavior == "logged":
        return "its probabilities were logged"
    held_out = f"mean log-probability of held-out actions {found.held_out:.3g}"
    if math.isnan(found.held_out):
        held_out = "too few episodes to hold some out and check it"
    return f"its probabilities are those of a policy cloned from it ({held_out})"


def _rows(one: "Judged") -> list[str]:
    """Return the table of one policy."""
    lines = [f"  {'estimator':<10}{'value':>11}   {'95 % interval':<24}effective episodes"]
    for row in one.estimates:
        interval = f"[{row.interval.low:,.4g}, {row.interval.high:,.4g}]"
        size = "" if row.effective is None else f"{row.effective:,.1f}"
        lines.append(f"  {row.method:<10}{row.value:>11,.4g}   {interval:<24}{size}".rstrip())
        lines += [f"  {'':<10}{_sentence(text)}" for text in row.warnings]
    return lines


def _ranking(found: "Judgement") -> list[str]:
    """Return the order of several policies."""
    ranking = found.ranking
    if ranking is None:
        return [
            f"no ranking: {found.question.by} could not be used on every policy, or says nothing "
            "of any. Rank by another one: --by fqe"
        ]
    lines = [f"ranking by the lower end of {ranking.method}"]
    for place, number in enumerate(ranking.order, 1):
        one, gap = found.policies[number], ranking.gaps[number]
        row = one.estimate(ranking.method)
        if row is None or math.isnan(gap.low):
            lines.append(f"  {place:>2}  {one.name}  nothing is known")
            continue
        better = "" if place == 1 else f"; the first is better by [{gap.low:,.4g}, {gap.high:,.4g}]"
        lines.append(f"  {place:>2}  {one.name}  {row.interval.low:,.4g}{better}")
    lines.append(f"chosen: {found.chosen}; expected regret {ranking.regret:,.3g}")
    return lines


def _sentence(text: str) -> str:
    """Return a remark with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}."


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("judge", "Estimate what policies are worth by a log.", _EXAMPLES)
    add: Any = parser.add_argument
    add("policies", nargs="*", type=Path, help="checkpoints and exported files")
    add(
        "--run",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a run's best checkpoint, or its newest one; may be repeated",
    )
    add(
        "--select",
        type=Path,
        action="append",
        default=[],
        metavar="RUN",
        help="all checkpoints of a run, to choose one; may be repeated",
    )
    add("--data.source", dest="source", required=True, metavar="LOG", help="the log")
    add(
        "--data.columns",
        dest="columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    add("--discount", type=float, default=0.99, help="of the returns; default 0.99")
    add(
        "--horizon",
        type=int,
        metavar="N",
        help="count N steps only (discount 1 is possible then); default: all, beyond time limits",
    )
    add(
        "--behavior",
        choices=("auto", "logged", "fitted"),
        default="auto",
        help="where the probabilities of logged actions come from: the column action_log_prob, or "
        "a policy cloned from the log; auto takes the column where there is one",
    )
    add("--methods", nargs="+", metavar="NAME", help="estimators; default: all that can be used")
    add(
        "--model",
        metavar="CKPT",
        help="a model of the world in which policies are played too, as estimator model: a "
        "checkpoint of Dynamics, or module:function",
    )
    add("--by", metavar="NAME", help="estimator that ranks; default fqe")
    add(
        "--drawn",
        action="store_true",
        help="judge checkpoints as policies that draw their actions; default: as they are exported",
    )
    add("--samples", type=int, default=10, help="draws of each action of such a policy; default 10")
    add(
        "--no_check",
        action="store_true",
        help="do not compare fqe of what recorded the log with its returns, which takes one fit",
    )
    add("--updates", type=int, default=20_000, help="of fitted Q evaluation; default 20,000")
    add(
        "--hidden",
        type=int,
        nargs="+",
        default=[256, 256],
        metavar="N",
        help="layers of its networks; default 256 256",
    )
    add("--members", type=int, default=5, help="critics of its ensemble; default 5")
    add("--seed", type=int, default=0, help="of fits and resamples; default 0")
    add("--page", type=Path, metavar="HTML", help="write a page about the judgement")
    add("--json", action="store_true", help="print one JSON object")
    return parser
