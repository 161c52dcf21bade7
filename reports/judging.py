"""The page of a judgement: tables and intervals in one file that needs nothing but itself."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hindsight_rl.reports.page import PAGE, STYLE

_WIDTH, _LINE, _RIGHT, _LETTER = 760, 26, 30, 8.2
_GOOD, _PLAIN, _BAD = "#1f6f5c", "#33658a", "#b3413b"

_CSS = """
.verdict { border-left: .3rem solid #33658a; padding: .3rem .9rem; margin: 1rem 0; }
.verdict.bad { border-color: #b3413b; background: #fbf1f0; }
.verdict.good { border-color: #1f6f5c; }
.doubt { color: #8a2f2a; font-size: .9rem; }
"""


def page(facts: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        facts: A judgement as plain values.

    Returns:
        HTML that is XML too; whatever comes from a log is escaped.
    """
    names = ", ".join(one["name"] for one in facts["policies"])
    title = f"Judged by {Path(facts['source']).name}"
    parts = [f"<h1>{_text(title)}</h1>", f'<p class="lead">{_text(names)}</p>']
    parts += [_verdict(one, len(facts["policies"]) > 1) for one in facts["policies"]]
    parts += [_log(facts)]
    if facts["ranking"] is not None and len(facts["policies"]) > 1:
        parts.append(_ranking(facts))
    parts += [_policy(one, facts) for one in facts["policies"]]
    return PAGE.format(title=_text(title), style=STYLE + _CSS, body="\n".join(parts))


def _verdict(one: Mapping[str, Any], named: bool) -> str:
    kind = "good" if one["covered"] >= 0.8 else "bad" if one["covered"] < 0.5 else ""
    name = f"<b>{_text(one['name'])}</b>: " if named else ""
    return f'<p class="verdict {kind}">{name}{_text(one["remarks"][0])}.</p>'


def _log(facts: Mapping[str, Any]) -> str:
    end = "" if facts["horizon"] is None else f", {facts['horizon']} steps"
    logged = facts["logged"]
    fitted = facts["behavior"] == "fitted"
    source = "of a policy cloned from the log" if fitted else "logged"
    held = facts["behavior_held_out_log_prob"]
    rows = [
        ("episodes, steps", f"{facts['episodes']:,}, {facts['transitions']:,}"),
        (
            "return of the log",
            f"{_number(logged['value'])} {_interval(logged)}, discounted by "
            f"{facts['discount']:g}{end}",
        ),
        ("probabilities of its actions", source),
        ("held-out log-probability of a cloned policy", _number(held)),
    ]
    lines = "".join(
        f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in rows
    )
    check = facts["check"]
    notes = "" if check is None else f"<p>Check: {_text(check['sentence'])}.</p>"
    for text in () if check is None else check["warnings"]:
        notes += f'<p class="doubt">{_text(_sentence(text))}</p>'
    return f"<section><h2>The log</h2><table>{lines}</table>{notes}</section>"


def _ranking(facts: Mapping[str, Any]) -> str:
    ranking = facts["ranking"]
    by_name = {one["name"]: one for one in facts["policies"]}
    rows = []
    for name in ranking["order"]:
        found = [row for row in by_name[name]["estimates"] if row["method"] == ranking["by"]]
        rows += [{**row, "method": name} for row in found]
    gaps = ranking["chosen_better_by"]
    head = (
        '<tr><th></th><th>policy</th><th class="n">value</th><th>95 % interval</th>'
        "<th>the first is better by</th></tr>"
    )
    body = "".join(
        f"<tr><td>{place}</td><td>{_text(row['method'])}</td>"
        f'<td class="n">{_number(row["value"])}</td><td>{_interval(row)}</td>'
        f"<td>{'' if place == 1 else _interval(gaps[row['method']])}</td></tr>"
        for place, row in enumerate(rows, 1)
    )
    text = (
        f"<p>Ordered by the lower end of {_text(ranking['by'])}. Differences are paired: the same "
        "resampled episodes, or the same members. Expected regret of the choice: "
        f"{_number(ranking['expected_regret'])}.</p>"
    )
    drawn = _forest(rows, facts["logged"]["value"])
    return (
        f"<section><h2>Ranking</h2>{text}{drawn}"
        f'<div class="scroll"><table>{head}{body}</table></div></section>'
    )


def _policy(one: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    rows = one["estimates"]
    head = (
        '<tr><th>estimator</th><th class="n">value</th><th>95 % interval</th>'
        '<th class="n">effective episodes</th><th></th></tr>'
    )
    body = "".join(
        f'<tr><td>{_text(row["method"])}</td><td class="n">{_number(row["value"])}</td>'
        f'<td>{_interval(row)}</td><td class="n">{_size(row)}</td>'
        f'<td class="doubt">{_text("; ".join(row["warnings"]))}</td></tr>'
        for row in rows
    )
    notes = "".join(f"<p>{_text(_sentence(text))}</p>" for text in one["remarks"][1:])
    notes += "".join(f'<p class="lead">{_text(_sentence(text))}</p>' for text in one["left_out"])
    return (
        f"<section><h2>{_text(one['name'])}</h2>{_forest(rows, facts['logged']['value'])}"
        f'<div class="scroll"><table>{head}{body}</table></div>{notes}</section>'
    )


def _forest(rows: Sequence[Mapping[str, Any]], logged: float) -> str:
    """Return a drawing of intervals, one line each, and of the log's return as a dotted line."""
    shown = [row for row in rows if None not in (row["value"], row["low"], row["high"])]
    if not shown:
        return ""
    # One row that means nothing must not squeeze all others: it is cut at the edge.
    middle = sorted(row["value"] for row in shown)[len(shown) // 2]
    reach = sorted(max(abs(row["low"] - middle), abs(row["high"] - middle)) for row in shown)
    least = 1e-9 * max(1.0, abs(middle))
    reach_kept = 1.1 * max(reach[len(reach) // 2] * 2.0, abs(logged - middle), least)
    reach_kept = min(reach_kept, 1.1 * max(reach[-1], abs(logged - middle), least))
    left, right = float(middle - reach_kept), float(middle + reach_kept)
    height = _LINE * (len(rows) + 1) + 10
    labels = [_short(row["method"]) for row in rows]
    margin = 20 + _LETTER * max(len(label) for label in labels)

    def across(value: float) -> float:
        kept: float = min(max(value, left), right)
        return margin + (kept - left) / (right - left) * (_WIDTH - margin - _RIGHT)

    parts = [
        f'<line x1="{across(logged):.1f}" x2="{across(logged):.1f}" y1="4" '
        f'y2="{height - _LINE}" stroke="#8b95a1" stroke-dasharray="3 4"/>'
    ]
    for place, row in enumerate(rows):
        y = _LINE * (place + 0.6)
        parts.append(f'<text x="0" y="{y + 5:.1f}">{_text(labels[place])}</text>')
        if row not in shown:
            continue
        colour = _BAD if row["warnings"] else _PLAIN
        low, high = across(row["low"]), across(row["high"])
        parts.append(
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
        parts.append(
            f'<circle cx="{across(row["value"]):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
        )
    y = height - 8
    ends = [(left, "start"), (right, "end")]
    apart = min(across(logged) - across(left), across(right) - across(logged))
    for value, anchor in [*ends, (logged, "middle")] if apart > 120 else ends:
        parts.append(
            f'<text x="{across(value):.1f}" y="{y}" text-anchor="{anchor}" fill="#55606d" '
            f'font-size="12">{_number(value)}</text>'
        )
    drawing = "".join(parts)
    return (
        f'<figure class="scroll"><svg xmlns="http://www.w3.org/2000/svg" role="img" '
        f'aria-label="values and intervals" viewBox="0 0 {_WIDTH} {height}" font-size="14" '
        f'fill="#1c2733">{drawing}</svg><figcaption>Values and 95 % intervals; dotted: the return '
        "of the log; red: not to be believed; cut at the edges.</figcaption></figure>"
    )


def _short(name: str) -> str:
    """Return a name, or its end where it is long."""
    return name if len(name) <= 32 else f"...{name[-29:]}"


def _interval(row: Mapping[str, Any]) -> str:
    return f"[{_number(row['low'])}, {_number(row['high'])}]"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:,.4g}"


def _size(row: Mapping[str, Any]) -> str:
    size = row["effective_episodes"]
    return "" if size is None else f"{size:,.1f}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _text(value: Any) -> str:
    return html.escape(str(value))
