"""``hindsight inspect``: what is in a log, what looks odd, and what keeps it from being read."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindsight_rl.cli.errors import command_parser, parse, run
from hindsight_rl.importing import importing

if TYPE_CHECKING:
    from hindsight_rl.reports.quality import QualitySummary
    from hindsight_rl.reports.summary import ColumnSummary, Spread, Summary

_EXAMPLES = """\
examples:
  hindsight inspect cartpole.parquet --columns rllib_cartpole
  hindsight inspect log.csv --columns my_robot.yaml --plot log.png
  hindsight inspect log.npz --columns '{observation: obs, action_scale: 1e-3}'
  hindsight inspect labelled.csv --columns my_robot.yaml --reward_of next.achieved_goal
  hindsight inspect log.npz --model runs/dynamics --horizon 20
  hindsight inspect robot --columns '{image: observation.images.front}' --frames frames.png

Exit code 1 says that the log has problems, which `fit` reports as errors."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight inspect``.

    Args:
        argv: Words after ``inspect``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 the log can be read, 1 it has problems, 2 nothing can be said of it.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    parser = command_parser("inspect", "Count, check and plot a log in any format.", _EXAMPLES)
    parser.add_argument("source", help="file, folder, id of a local Minari dataset, or s3://...")
    parser.add_argument(
        "--columns",
        metavar="MAP",
        help="column map: a YAML file, the name of a packaged one, or '{observation: obs}'",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the log into this file")
    parser.add_argument(
        "--frames", type=Path, metavar="PNG", help="draw frames of some episodes into this file"
    )
    parser.add_argument(
        "--reward_of",
        metavar="FEATURES",
        help="name the reward as weights of a column: the task of a policy for linear rewards",
    )
    parser.add_argument(
        "--model",
        metavar="CHECKPOINT",
        help="judge a model of the dynamics: its errors by horizon, on episodes it never saw",
    )
    parser.add_argument(
        "--horizon", type=int, default=10, metavar="STEPS", help="of --model (default: 10)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parse(parser, argv)
    # torch, behind these, would make `--help` slow.
    with importing():
        from hindsight_rl.logs.errors import LogError
        from hindsight_rl.logs.reading import survey, topics_of
        from hindsight_rl.reports.summary import summarize

    try:
        assembly, problems = survey(given.source, given.columns)
    except LogError as error:
        # Of a bag there is something to say without a column map: what one could name.
        recording = topics_of(given.source)
        if recording is None:
            raise
        about = recording | {"source": given.source, "problems": [str(error)]}
        shown = json.dumps(about, indent=1) if given.json else _format_bag(about)
        sys.stdout.write(f"{shown}\n")
        return 1
    summary = summarize(assembly, problems)
    if given.plot is not None:
        from hindsight_rl.reports.plots import plot

        plot(assembly, summary, given.plot)
    if given.frames is not None:
        from hindsight_rl.reports.contact import contact_sheet

        contact_sheet(assembly, given.frames)
    about, task = summary.as_dict(), ""
    if given.reward_of is not None:
        from hindsight_rl.reports.named_reward import described_reward, named_reward

        about["reward_of"] = found = named_reward(assembly, given.reward_of)
        task = f"\n\ntask  {described_reward(found)}"
    if given.model is not None:
        from hindsight_rl.cli.inspect_model import model_errors, model_lines

        judged = model_errors(given.source, given.columns, given.model, given.horizon)
        about["model"], (cells, said) = judged, model_lines(judged)
        table = _aligned(cells, "r" * len(cells[0]))
        task += "\n".join(["\n", f"model  {judged['model']}", *table, *(f"  - {s}" for s in said)])
    shown = json.dumps(about, indent=1) if given.json else format_log(summary) + task
    sys.stdout.write(f"{shown}\n")
    return 1 if problems else 0


def format_log(summary: "Summary") -> str:
    """Return a summary in aligned lines.

    Args:
        summary: The numbers.

    Returns:
        Text without a final newline.
    """
    lines = [f"{summary.source}  ({summary.format})", ""]
    lines += _aligned(_facts(summary), "ll")
    if summary.topics:
        lines += ["", *format_topics(summary.topics)]
    lines += ["", *_aligned(_spreads(summary), "lrrrrrrr")]
    lines += ["", *_aligned(_columns(summary), "lrrrrl")]
    if summary.quality.measures:
        lines += ["", *_aligned(_quality(summary.quality), "lrrrl")]
    for title, sentences in (("Remarks", summary.remarks), ("Problems", summary.problems)):
        if sentences:
            lines += ["", title, *(f"  - {sentence}" for sentence in sentences)]
    if summary.problems:
        count = len(summary.problems)
        lines += ["", f"{count} problem{'s' if count > 1 else ''}: fit would stop here."]
    return "\n".join(lines)


def format_topics(topics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return one line for each topic of a bag: type, messages, rate, longest gap, stamps and ages.

    Args:
        topics: By name.

    Returns:
        Aligned lines.
    """
    rows = [["topic", "type", "messages", "rate", "longest gap", "age at rows: median, max"]]
    for name, about in topics.items():
        rate, gap, age = about["rate_hz"], about["longest_gap_s"], about.get("age_s")
        rows.append(
            [
                name,
                about["type"],
                f"{about['messages']:,}",
                "" if rate is None else f"{rate:.4g} Hz",
                "" if gap is None else f"{1000 * gap:,.4g} ms",
                ""
                if age is None
                else f"{1000 * age['median']:,.4g} ms, {1000 * age['max']:,.4g} ms "
                f"({about['stamps']} stamps)",
            ]
        )
    return _aligned(rows, "llrrrl")


def _format_bag(about: Mapping[str, Any]) -> str:
    """Return what can be said of a bag that is not read, in aligned lines."""
    lines = [f"{about['source']}  (rosbag, {about['bags']} bag{'s' * (about['bags'] != 1)})", ""]
    lines += format_topics(about["topics"])
    if about["lost"]:
        lines += ["", "Remarks", *(f"  - {sentence}." for sentence in about["lost"])]
    return "\n".join([*lines, "", "Problems", *(f"  - {one}" for one in about["problems"])])


def _facts(summary: "Summary") -> list[list[str]]:
    rows = [
        ["transitions", f"{summary.transitions:,}"],
        ["episodes", f"{summary.episodes:,}"],
        ["ends", f"{summary.terminated:,} terminated, {summary.truncated:,} truncated"],
        ["actions", _actions(summary)],
        *(
            [name, f"images, {' x '.join(map(str, shape))}"]
            for name, shape in summary.images.items()
            if name.removeprefix("observation.") not in summary.entries
        ),
        *([f"entry {name}", _entry(about)] for name, about in summary.entries.items()),
        *([f"{key} less", _less(numbers)] for key, numbers in summary.offsets.items()),
    ]
    if summary.clipped_actions is not None:
        entries = summary.transitions * len(summary.action_low or summary.action_high or [0])
        share = 100 * summary.clipped_actions / entries
        rows.append(["clipped", f"{summary.clipped_actions:,} action entries ({share:.2g} %)"])
    if summary.control_rate_hz:
        seconds = summary.transitions / summary.control_rate_hz
        rows.append(
            ["control rate", f"{summary.control_rate_hz:g} Hz, {_duration(seconds)} in all"]
        )
    if summary.quality.lag_steps is not None:
        rows.append(["response", _lag(summary.quality)])
    if summary.guessed:
        found = (f"{field}: {_listed(names)}" for field, names in summary.guessed.items())
        rows.append(["guessed", ", ".join(found)])
    return rows


def _entry(about: Mapping[str, Any]) -> str:
    """Return what an entry of the observation is."""
    shape = " x ".join(map(str, about["shape"]))
    if about["kind"] == "discrete":
        return f"one of {about['n']}" + (f", {shape}" if shape else "")
    if about["kind"] == "image":
        return f"images, {shape}"
    return f"{shape} real number{'' if shape == '1' else 's'}"


def _less(numbers: Sequence[Any]) -> str:
    """Return what was subtracted from the logged numbers."""
    return ", ".join(f"{number:.10g}" if number != 0 else "0" for number in numbers)


def _listed(names: list[str]) -> str:
    if len(names) <= 3:
        return names[0] if len(names) == 1 else f"[{', '.join(names)}]"
    return f"[{names[0]}, ..., {names[-1]}]"


def _actions(summary: "Summary") -> str:
    if summary.action_counts is not None:
        total = max(sum(summary.action_counts), 1)
        counts = enumerate(summary.action_counts, summary.action_start or 0)
        shares = (f"{n}: {100 * c / total:.1f} %" for n, c in counts)
        return f"one of {len(summary.action_counts)} ({', '.join(shares)})"
    width = sum(column.key == "action" for column in summary.columns)
    bounds = "without bounds"
    if summary.action_low or summary.action_high:
        bounds = f"in [{_ends(summary.action_low, '-inf')}, {_ends(summary.action_high, 'inf')}]"
    return f"{width} real number{'s' if width > 1 else ''} {bounds}"


def _ends(bound: list[float | None] | None, unbounded: str) -> str:
    if bound is None:
        return unbounded
    return _number(bound[0]) if len(set(bound)) == 1 and bound[0] is not None else "per dimension"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _spreads(summary: "Summary") -> list[list[str]]:
    head = ["", "mean", "sd", "min", "25 %", "median", "75 %", "max"]
    return [head, _spread("length", summary.length), _spread("return", summary.returns)]


def _spread(name: str, s: "Spread") -> list[str]:
    """Return one line; all numbers of it get the decimals that suit the largest."""
    numbers = (s.mean, s.std, s.min, s.quartile_1, s.median, s.quartile_3, s.max)
    largest = max(abs(number) for number in numbers)
    if not 0.1 <= largest < 1e7:
        return [name, *(_number(number) for number in numbers)]
    decimals = 1 if largest >= 100 else 2 if largest >= 10 else 3
    return [name, *(f"{number:,.{decimals}f}" for number in numbers)]


def _columns(summary: "Summary") -> list[list[str]]:
    rows = [["column", "min", "max", "mean", "sd", ""]]
    key = None
    for column in summary.columns:
        if column.key != key and not column.name.startswith(column.key):
            rows.append([column.key, "", "", "", "", ""])
        key = column.key
        indent = "" if column.name.startswith(column.key) else "  "
        unit = f" [{column.unit}]" if column.unit not in ("", "1") else ""
        s = column.spread
        numbers = [_number(number) for number in (s.min, s.max, s.mean, s.std)]
        rows.append([f"{indent}{column.name}{unit}", *numbers, _notes(column, summary)])
    return rows


def _notes(column: "ColumnSummary", summary: "Summary") -> str:
    notes = ["constant"] if column.constant else []
    if column.not_finite:
        notes.append(f"{column.not_finite:,} NaN or infinite")
    if column.same_as:
        notes.append(f"same as {column.same_as}")
    known = {
        "low": _is_bounded(column, summary, summary.action_low),
        "high": _is_bounded(column, summary, summary.action_high),
    }
    for side, share in (("low", column.at_low), ("high", column.at_high)):
        # Without bounds, a pile-up at the extreme is how clipping shows.
        if share is not None and share >= (0.0005 if known[side] else 0.01) and not column.constant:
            at = f"at the {side} bound" if known[side] else f"at the {side}est value"
            notes.append(f"{100 * share:.1f} % {at}")
    return ", ".join(notes)


def _is_bounded(
    column: "ColumnSummary", summary: "Summary", bound: list[float | None] | None
) -> bool:
    """Return whether a dimension has a bound on one side."""
    if not bound:
        return False
    actions = [other for other in summary.columns if other.key == column.key]
    place = next(i for i, other in enumerate(actions) if other is column)
    return place < len(bound) and bound[place] is not None


def _lag(quality: "QualitySummary") -> str:
    """Return how late the state answers the actions."""
    steps, ms = quality.lag_steps, quality.lag_ms
    if not steps:
        return "the state changes within the step of an action"
    many = (
        f"{steps} step{'s' if steps > 1 else ''}{' or more' if steps == quality.lag_limit else ''}"
    )
    return f"the state changes {many}{'' if ms is None else f' ({ms:.0f} ms)'} after an action"


def _quality(quality: "QualitySummary") -> list[list[str]]:
    """Return one line for each measure: median, range, and episodes that stand out."""
    rows = [["quality", "median", "min", "max", "episodes that stand out (counted from 0)"]]
    for measure in quality.measures:
        shown = [_measured(measure.name, v) for v in (measure.median, measure.min, measure.max)]
        far = [one for one in quality.stand_out if one.measure == measure.name]
        named = [f"{one.episode}: {_measured(one.measure, one.value)}" for one in far[:3]]
        more = [f"{len(far) - 3} more"] if len(far) > 3 else []
        label = measure.name + {"length": " (score)", "lag": " (steps)"}.get(measure.name, "")
        rows.append([label, *shown, ", ".join(named + more)])
    return rows


def _measured(name: str, value: float) -> str:
    if name in ("stillness", "saturation"):
        return f"{100 * value:.1f} %"
    return f"{value:.3g}"


def _number(number: float) -> str:
    return f"{number:.4g}" if abs(number) >= 1e-9 or number != number else "0"


def _aligned(rows: Sequence[Sequence[str]], sides: str) -> list[str]:
    """Return rows as lines with aligned columns; ``sides`` has ``l`` or ``r`` for each."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(sides))]
    return ["  ".join(_cells(row, widths, sides)).rstrip() for row in rows]


def _cells(row: Sequence[str], widths: Sequence[int], sides: str) -> Iterable[str]:
    for cell, width, side in zip(row, widths, sides, strict=True):
        yield cell.ljust(width) if side == "l" else cell.rjust(width)
