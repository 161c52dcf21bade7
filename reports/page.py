"""The report on a relabeled log: one page that needs nothing but itself.

Text, numbers and drawings (SVG) lie in the file; it loads nothing and runs nothing. Whatever comes
from a log is escaped.
"""

import html
import math
import re
from pathlib import Path
from typing import Any

import yaml

from hindsight_rl.datamodules.relabeled import PROVENANCE
from hindsight_rl.datamodules.relabeled_rows import original
from hindsight_rl.files import write_text
from hindsight_rl.keys import REWARD, TERMINATED
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.reports.examples import draw_examples
from hindsight_rl.reports.figures import (
    draw_posterior,
    draw_rewards,
    draw_tasks,
    drawing,
    is_one_hot,
    to_svg,
)
from hindsight_rl.reports.numbers import Numbers, Posterior, measure

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ARROW = "\N{RIGHTWARDS ARROW}"

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:"/>
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light; }
body { margin: 0; background: #fff; color: #1c2733;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", Arial, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.65rem; line-height: 1.25; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .4rem; padding-top: .9rem;
  border-top: 1px solid #d8dde3; }
p { margin: .4rem 0; max-width: 48rem; }
.lead, figcaption, .card span, .card small { color: #55606d; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13.5rem, 1fr));
  gap: .75rem; margin: 1.5rem 0 0; }
.card { border: 1px solid #d8dde3; border-radius: .5rem; padding: .7rem .9rem .75rem; }
.card span { display: block; font-size: .85rem; }
.card b { display: block; font-size: 1.35rem; line-height: 1.35; font-weight: 600;
  font-variant-numeric: tabular-nums; }
.card small { display: block; font-size: .8rem; line-height: 1.35; }
figure { margin: 1rem 0 0; }
figure svg { display: block; width: 100%; min-width: 38rem; height: auto; }
figcaption { font-size: .9rem; margin-top: .35rem; max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .9rem 0 0; font-size: .95rem;
  font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem 1.4rem .3rem 0; vertical-align: top;
  border-bottom: 1px solid #e6eaee; }
th { font-weight: 500; color: #55606d; white-space: nowrap; }
td.n, th.n { text-align: right; }
code, pre { font: .85rem/1.45 ui-monospace, "SF Mono", "DejaVu Sans Mono", Menlo, monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 34rem) { .cards { grid-template-columns: 1fr 1fr; gap: .5rem; } }
@media print {
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; }
  figure svg { min-width: 0; } figure, .card, tr { break-inside: avoid; } h2 { break-after: avoid; }
}
"""


def write_report(log: Log, path: str | Path, bound: Relabeler | None = None) -> Numbers:
    """Write a page about a relabeled log, and return the numbers in it.

    Args:
        log: A log that ``write_relabeled`` wrote.
        path: File to write; whole, or as it was.
        bound: The relabelers it was made with: a posterior is shown only with them.

    Returns:
        The numbers.

    Raises:
        LogError: The log was not relabeled.
        ImportError: matplotlib is missing, which the extra ``report`` installs.
    """
    target = Path(path)
    numbers = measure(log, bound)
    text = page(log, numbers)
    write_text(target, text)
    return numbers


def page(log: Log, numbers: Numbers) -> str:
    """Return the page.

    Args:
        log: A relabeled log.
        numbers: Of it.

    Returns:
        HTML that is XML too.
    """
    name = " + ".join(_file_name(source.name) for source in log.sources)
    title = f"{name}, relabeled"
    done = log.info[PROVENANCE][-1]
    rules = [part["class_path"].rpartition(".")[2] for part in done["rule"]]
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="lead">{numbers.rows:,} rows in {numbers.episodes:,} episodes, relabeled by '
        f"{_text(', '.join(rules)) or 'nothing'} with seed {done['seed']}.</p>",
        _cards(log, numbers),
    ]
    with drawing():
        parts += [
            _tasks(log, numbers),
            *(_posterior(one, place) for place, one in enumerate(numbers.posteriors)),
            _examples(log, numbers),
            _rewards(log, numbers),
        ]
    parts += [_usefulness(numbers), _provenance(log)]
    return PAGE.format(title=_text(title), style=STYLE, body="\n".join(parts))


# --- sections -------------------------------------------------------------------------------------


def _cards(log: Log, numbers: Numbers) -> str:
    drawn = numbers.after.counts[0]
    cards = [
        _change(log, numbers),
        ("rows relabeled", _percent(numbers.rewritten, drawn), "another task, reward or end"),
    ]
    if numbers.moved is not None:
        note = "of those that may be drawn"
        cards.append(("rows with another task", _percent(numbers.moved, drawn), note))
    elif not numbers.had_task:
        now = "all rows have one now" if numbers.has_task else "nor has it one now"
        cards.append(("tasks before", "none", f"the log had no task; {now}"))
    if drawn < numbers.rows:
        kept = f"{drawn:,} of {numbers.rows:,}"
        cards.append(("rows that may be drawn", _percent(drawn, numbers.rows), kept))
    if numbers.effective_rows is not None:
        note = f"of {drawn:,}: (sum of weights)\N{SUPERSCRIPT TWO} / sum of their squares"
        cards.append(("effective rows", f"{numbers.effective_rows:,.0f}", note))
    for posterior in numbers.posteriors:
        cards += _posterior_cards(posterior)
    shown = (
        f'<div class="card"><span>{_text(name)}</span><b>{_text(value)}</b>'
        f"<small>{_text(note)}</small></div>"
        for name, value, note in cards
    )
    return f'<div class="cards">{"".join(shown)}</div>'


def _change(log: Log, numbers: Numbers) -> tuple[str, str, str]:
    """Return what became of the log: useful episodes, or returns where rewards are as logged."""
    sides = (numbers.before, numbers.after)
    if original(REWARD) in log or original(TERMINATED) in log:
        counts = (count for _, count in numbers.useful())
        shares = [_percent(n, side.counts[1]) for n, side in zip(counts, sides, strict=True)]
        return "useful episodes", f" {_ARROW} ".join(shares), f"with a row {numbers.usefulness()}"
    means = dict.fromkeys(f"{float(side.returns.mean()):,.4g}" for side in sides)
    return "mean return", f" {_ARROW} ".join(means), "of an episode, rewards as logged"


def _posterior_cards(posterior: Posterior) -> list[tuple[str, str, str]]:
    count = posterior.probability.shape[1]
    size = posterior.effective_trajectories
    return [
        (
            "effective sample size",
            f"{float(size.median()):.1f}",
            f"trajectories a task, median; {float(size.min()):.1f} to {float(size.max()):.1f}",
        ),
        (
            "entropy of the posterior",
            f"{posterior.entropy:.2f} nats",
            f"of at most {math.log(count):.2f}; as unsure as among "
            f"{math.exp(posterior.entropy):.1f} tasks",
        ),
        (
            "effective tasks",
            f"{posterior.effective_tasks:.1f} of {count}",
            "1 / sum of the squared shares of trajectories",
        ),
    ]


def _tasks(log: Log, numbers: Numbers) -> str:
    if not numbers.has_task:
        return _section("Tasks", "<p>The log has no task, before or after.</p>")
    count = numbers.after.sample["task"].shape[1]
    one_hot = is_one_hot(numbers.after.sample["task"])
    labels = task_labels(log, count, "{}" if one_hot else "task[{}]")
    remark = "" if numbers.had_task else "<p>The log had no task before.</p>"
    if numbers.had_task and original("task") not in log:
        remark = "<p>The tasks were not rewritten.</p>"
    caption = "Share of rows of each task."
    if count == 2 and numbers.places and not one_hot:
        caption = "Where the tasks lie; light grey: where the log has been."
    elif not one_hot:
        caption = "Distribution of each number of the task over the rows."
    return _section("Tasks", remark + _figure(draw_tasks(numbers, labels), "tasks", caption))


def _posterior(posterior: Posterior, place: int) -> str:
    caption = (
        "Probability of each task for each trajectory (square-root scale). Dark spots on a "
        "diagonal: the posterior separates trajectories; an even wash: all tasks are equally good. "
        "Above: the share each task gets (dotted: equal shares)."
    )
    figure = draw_posterior(posterior)
    return _section("Posterior over tasks", _figure(figure, f"posterior{place}", caption))


def _examples(log: Log, numbers: Numbers) -> str:
    task = numbers.after.sample.get("task")
    labels = [] if task is None else task_labels(log, task.shape[1])
    caption = (
        "From the best return after relabeling to the worst, evenly spaced in rank. Where rows "
        "have tasks of their own, those of some are shown, tied to them by dotted lines."
    )
    figure = draw_examples(log, numbers, labels)
    return _section("Examples", _figure(figure, "examples", caption))


def _rewards(log: Log, numbers: Numbers) -> str:
    remark = ""
    if original(REWARD) not in log:
        remark = "<p>The rewards were not rewritten.</p>"
    elif float(numbers.before.sample["reward"].abs().max()) == 0:
        remark = "<p>Before, all rewards were 0.</p>"
    caption = "Returns are sums of rewards over an episode, not discounted."
    return _section("Rewards", remark + _figure(draw_rewards(numbers), "rewards", caption))


def _usefulness(numbers: Numbers) -> str:
    sides = (numbers.before, numbers.after)
    rows = [
        ("rows", [f"{side.counts[0]:,}" for side in sides]),
        ("episodes", [f"{side.counts[1]:,}" for side in sides]),
        ("rows at which the task ends", [_share(s.successes[0], s.counts[0]) for s in sides]),
        ("\N{EN DASH} episodes with one", [_share(s.successes[1], s.counts[1]) for s in sides]),
        (
            "rows with a reward above the smallest",
            [_share(s.rewarded[0], s.counts[0]) for s in sides],
        ),
        ("\N{EN DASH} episodes with one", [_share(s.rewarded[1], s.counts[1]) for s in sides]),
        ("mean return of an episode", [f"{float(side.returns.mean()):,.4g}" for side in sides]),
    ]
    lines = "".join(
        f'<tr><th>{name}</th><td class="n">{old}</td><td class="n">{new}</td></tr>'
        for name, (old, new) in rows
    )
    head = '<tr><th></th><th class="n">before</th><th class="n">after</th></tr>'
    remark = (
        f"<p>Useful here: a row {_text(numbers.usefulness())}, and an episode with such a row. "
        "After: of the rows that may be drawn.</p>"
    )
    return _section("What became useful", f"{remark}<table>{head}{lines}</table>")


def _provenance(log: Log) -> str:
    parts = []
    for done in log.info[PROVENANCE]:
        kept = (f"{name} is kept as {held}" for name, held in done["original"].items())
        rows = [
            ("source", _text(", ".join(done["source"]))),
            ("hash of the source", f"<code>{_text(done['source_hash'])}</code>"),
            ("rule", f"<pre>{_text(_rule(done['rule']))}</pre>"),
            ("seed", _text(done["seed"])),
            ("replaced", _text("; ".join(kept)) or "nothing"),
            ("added", _text(", ".join(done["added"])) or "nothing"),
            ("written by", _text(f"hindsight-rl {done['version']}")),
        ]
        parts.append("".join(f"<tr><th>{n}</th><td>{value}</td></tr>" for n, value in rows))
    last = f"<tr><th>hash of this log</th><td><code>{_text(log.hash())}</code></td></tr>"
    tables = "".join(f'<div class="scroll"><table>{part}</table></div>' for part in parts[:-1])
    tables += f'<div class="scroll"><table>{parts[-1]}{last}</table></div>'
    return _section("Where this log comes from", tables)


# --- small pieces ---------------------------------------------------------------------------------


def task_labels(log: Log, count: int, pattern: str = "task[{}]") -> list[str]:
    """Return names of the numbers of a task, with units where they are known.

    Args:
        log: The log, whose facts may name them.
        count: Z.
        pattern: Makes a name of a number where the log has none.

    Returns:
        Z labels.
    """
    names = (log.info.get("names") or {}).get("task")
    names = names if names and len(names) == count else log.info.get("task_names")
    units = (log.info.get("units") or {}).get("task") or []
    if not isinstance(names, (list, tuple)) or len(names) != count:
        names = [pattern.format(n) for n in range(count)] if count > 1 else ["task"]
    units = units if len(units) == count else [""] * count
    pairs = zip(names, units, strict=True)
    return [clean(f"{name} [{unit}]" if unit else str(name)) for name, unit in pairs]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


def _figure(figure: Any, name: str, caption: str) -> str:
    svg = to_svg(figure, name).replace("<svg ", f'<svg role="img" aria-label="{caption}" ', 1)
    return f'<figure><div class="scroll">{svg}</div><figcaption>{caption}</figcaption></figure>'


def _rule(rule: Any) -> str:
    """Return relabelers as a configuration may hold them."""
    return str(yaml.safe_dump({"relabel": rule}, sort_keys=False)).rstrip()


def _percent(count: int, total: int) -> str:
    share = f"{100 * count / max(total, 1):.1f}"
    exact = {0: "0", total: "100"}.get(count, share)
    return f"{exact}\N{NO-BREAK SPACE}%"


def _share(count: int, total: int) -> str:
    return f"{count:,} ({_percent(count, total)})"


def _file_name(name: str) -> str:
    return Path(name).name or name


def clean(text: object) -> str:
    """Return text without characters that XML does not allow."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", str(text))


def _text(text: object) -> str:
    """Return text escaped for a page."""
    return html.escape(clean(text))
