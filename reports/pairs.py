"""The page that asks which of two segments is better: one file that needs nothing but itself.

Each pair is drawn as lines over time, one strip for every number, on the scale of the log, so that
the two can be compared at a glance; frames above them where the log has images. Answers stay in the
page until they are saved as a file of JSON, which ``hindsight compare --answers`` appends. The one
script is named by its hash, nothing else is run, and nothing is loaded.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, TASK, Key, key_name
from hindsight_rl.logs.answers import FORMAT
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.segments import places
from hindsight_rl.reports.contact import picture
from hindsight_rl.reports.page import PAGE, STYLE, clean
from hindsight_rl.reports.pairs_script import CSS, SCRIPT

MOST_STRIPS = 16
"""Numbers drawn at most: those of observation, action and task that move most in the segments."""

_SCALE_ROWS = 20_000  # of the log, evenly spaced, that scales come from
_WIDTH, _HIGH, _GAP = 420, 40, 18
_FRAMES = 12  # of a segment
_BEAT = 150  # milliseconds between frames where the log does not say how fast it is
_COLOURS = {"observation": "#33658a", "action": "#b5651d", "task": "#1f6f5c"}


class _Strip(NamedTuple):
    """A number that is drawn over time."""

    key: Key
    column: int
    label: str
    low: float
    high: float

    @property
    def colour(self) -> str:
        """That of what it belongs to."""
        return _COLOURS[self.key if isinstance(self.key, str) else self.key[0]]


def page_id(log: Log, rows: Tensor, length: int) -> str:
    """Return what tells a page from others: its log and its pairs, 12 hexadecimal digits."""
    digest = hashlib.sha256(f"{log.hash()} {length}".encode())
    digest.update(rows.contiguous().numpy().data)
    return digest.hexdigest()[:12]


def page(log: Log, rows: Tensor, length: int, *, annotator: str = "") -> str:
    """Return a page of pairs.

    Args:
        log: The log.
        rows: ``[M, 2]`` int64, rows of the segments' first steps.
        length: Steps of each.
        annotator: Who is asked, to be changed on the page.

    Returns:
        HTML that is XML too; whatever comes from the log is escaped.
    """
    every = _strips(log)
    strips = _moving(log, every, rows, length)
    facts = {
        "format": FORMAT,
        "page": page_id(log, rows, length),
        "log_hash": log.hash(),
        "length": length,
        "interval": _interval(log, length),
        "pairs": _pairs(log, rows),
    }
    shown = "\n".join(
        _pair(log, pair, length, strips, number) for number, pair in enumerate(rows.tolist())
    )
    name = clean(log.sources[0].name.rpartition("/")[2])
    title = html.escape(f"{name}: which is better?")
    note = f" Lines show {_duration(log, length)}, each on the scale of the log."
    if len(strips) < len(every):
        note += f" The {len(strips)} of {len(every)} numbers that move most are drawn."
    body = _BODY.format(
        title=title,
        count=len(rows),
        length=length,
        note=note,
        annotator=html.escape(clean(annotator), quote=True),
        pairs=shown,
        facts=html.escape(json.dumps(facts), quote=True),
        script=SCRIPT,
    )
    named = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"img-src data:; script-src 'sha256-{named}'"
    return PAGE.replace("img-src data:", policy).format(title=title, style=STYLE + CSS, body=body)


_BODY = """<h1>{title}</h1>
<p class="lead">{count} pairs of {length} steps each. Click the better one, or press <b>1</b>
or <b>2</b>; <b>S</b> where they are the same, <b>K</b> to skip, <b>B</b> to go back. Save the
answers at the end.{note}</p>
<div class="bar"><label>your name <input id="annotator" value="{annotator}"/></label>
<span id="place"></span><button id="save">Save answers</button></div>
<div id="pairs">
{pairs}
</div>
<div class="bar last"><button id="first">1 is better</button>
<button id="second">2 is better</button><button id="same">Same (S)</button>
<button id="skip">Skip (K)</button><button id="back">Back (B)</button></div>
<p id="done" hidden="hidden">That was the last pair. Save the answers, and append them:
<code>hindsight compare --data.source LOG --answers FILE</code></p>
<div id="facts" hidden="hidden" data-facts="{facts}"></div>
<script>{script}</script>"""


def _pairs(log: Log, rows: Tensor) -> list[dict[str, int]]:
    """Return the segments of each pair as answers name them."""
    episode, start = (part.tolist() for part in places(log, rows))
    return [
        {"episode_1": e[0], "start_1": s[0], "episode_2": e[1], "start_2": s[1]}
        for e, s in zip(episode, start, strict=True)
    ]


def _strips(log: Log) -> list[_Strip]:
    """Return what is drawn, with the scale of the log: 1 to 99 % of its rows, and a margin."""
    keys = [key for key in (*log.observed, ACTION, TASK) if key in log and key not in log.images]
    at = torch.linspace(0, len(log) - 1, min(len(log), _SCALE_ROWS)).long()
    found: list[_Strip] = []
    for key in keys:
        values = _flat(log, key, at)
        names, units = (
            (log.info.get(fact) or {}).get(key_name(key)) or [] for fact in ("names", "units")
        )
        low, high = np.quantile(values, [0.01, 0.99], axis=0)
        for column in range(values.shape[1]):
            known = len(names) == values.shape[1]
            plain = f"{key_name(key)}[{column}]" if values.shape[1] > 1 else key_name(key)
            label = clean(names[column] if known else plain)
            if known and key in (ACTION, TASK):  # often named like what is observed
                label = f"{key_name(key)} {label}"
            if len(units) == values.shape[1] and units[column]:
                label += f" [{clean(units[column])}]"
            ends = float(low[column]), float(high[column])
            margin = 0.08 * (ends[1] - ends[0]) or 0.5
            found.append(_Strip(key, column, label, ends[0] - margin, ends[1] + margin))
    return found


def _moving(log: Log, strips: list[_Strip], rows: Tensor, length: int) -> list[_Strip]:
    """Return the strips that move most in the segments, on their scales, in their order."""
    if len(strips) <= MOST_STRIPS:
        return strips
    inside = rows.flatten().unsqueeze(-1) + torch.arange(length)
    spread = []
    for key in dict.fromkeys(strip.key for strip in strips):
        values = _flat(log, key, inside.flatten()).reshape(*inside.shape, -1)
        spread.append(np.ptp(values, axis=1).mean(axis=0))
    scale = np.array([strip.high - strip.low for strip in strips])
    order = np.argsort(-np.concatenate(spread) / scale, kind="stable")
    return [strips[place] for place in sorted(order[:MOST_STRIPS].tolist())]


def _duration(log: Log, length: int) -> str:
    """Return how long a segment takes: in seconds where the log says how many rows one has."""
    rate = log.info.get("control_rate_hz")
    return f"{length} steps" if not rate else f"{length / rate:.3g} seconds"


def _interval(log: Log, length: int) -> int:
    """Return the milliseconds between frames: as it was, not faster or slower than can be seen."""
    rate = log.info.get("control_rate_hz")
    if not rate:
        return _BEAT
    apart = 1000 * length / float(rate) / min(_FRAMES, length)
    return round(min(max(apart, 60.0), 500.0))


def _flat(log: Log, key: Key, rows: Tensor) -> Array:
    values: Array = log.take(key, rows).double().numpy()
    return values.reshape(len(values), -1)


def _pair(log: Log, pair: Sequence[int], length: int, strips: list[_Strip], number: int) -> str:
    sides = "".join(
        f'<div class="side" role="button" tabindex="0" data-side="{place + 1}">'
        f"<h2>{place + 1}</h2>{_segment(log, row, length, strips)}</div>"
        for place, row in enumerate(pair)
    )
    hidden = "" if number == 0 else ' hidden="hidden"'
    return f'<section class="pair"{hidden}>{sides}</section>'


def _segment(log: Log, row: int, length: int, strips: list[_Strip]) -> str:
    rows = torch.arange(row, row + length)
    pictures = "".join(_film(log, key, rows) for key in log.observed if key in log.images)
    held = {key: _flat(log, key, rows) for key in dict.fromkeys(strip.key for strip in strips)}
    lines = "".join(
        _line(held[strip.key][:, strip.column], strip, place) for place, strip in enumerate(strips)
    )
    height = len(strips) * (_HIGH + _GAP)
    drawn = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'font-size="10">{lines}</svg>'
        if strips
        else ""
    )
    return pictures + drawn


def _line(values: Array, strip: _Strip, place: int) -> str:
    """Return one number over time, cut at the ends of its scale."""
    top = place * (_HIGH + _GAP) + _GAP - 4
    share = (np.clip(values, strip.low, strip.high) - strip.low) / (strip.high - strip.low)
    across = np.linspace(0, _WIDTH, len(values)) if len(values) > 1 else np.array([_WIDTH / 2])
    down = top + _HIGH * (1 - share)
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))
    zero = ""
    if strip.low < 0 < strip.high:
        y = top + _HIGH * strip.high / (strip.high - strip.low)
        zero = f'<line x1="0" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#c4cad1"/>'
    return (
        f'<rect x="0" y="{top}" width="{_WIDTH}" height="{_HIGH}" fill="#f5f7f9"/>{zero}'
        f'<polyline points="{points}" fill="none" stroke="{strip.colour}" stroke-width="1.6"/>'
        f'<text x="0" y="{top - 4}" fill="#55606d">{html.escape(strip.label)}</text>'
        f'<text x="{_WIDTH}" y="{top - 4}" fill="#7b8794" text-anchor="end">'
        f"{strip.low:.3g} to {strip.high:.3g}</text>"
    )


def _film(log: Log, key: Key, rows: Tensor) -> str:
    """Return some frames of a segment, evenly spaced, first and last among them."""
    at = rows[torch.linspace(0, len(rows) - 1, min(_FRAMES, len(rows))).round().long()]
    parts = [f'<img alt="" src="{_data(frame)}"/>' for frame in log.take(key, at).numpy()]
    return f'<div class="film" title="{html.escape(clean(key_name(key)))}">{"".join(parts)}</div>'


def _data(frame: Array) -> str:
    """Return a frame as the address of its own bytes: drawings as PNG, photographs as JPEG."""
    shown, kinds = picture(frame), {"png": {}, "jpeg": {"quality": 88, "subsampling": 0}}
    written = {}
    for kind, options in kinds.items():
        file = io.BytesIO()
        shown.save(file, format=kind, **options)
        written[kind] = file.getvalue()
    kind = min(written, key=lambda one: len(written[one]))
    return f"data:image/{kind};base64,{base64.b64encode(written[kind]).decode()}"
