"""Pictures of a relabeled log, as SVG text that can stand inside a page."""

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.logs.checks import Array
from hindsight_rl.reports.numbers import Numbers, Posterior

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

BEFORE, AFTER, TASK, INK, GROUND = "#8a929c", "#2f6db0", "#d9691e", "#1c2733", "#e3e7ec"
WIDTH = 9.6  # inches; a page shows them at about 100 pixels each
_MOST_DIMENSIONS = 8
_MOST_TRAJECTORIES = 400
_BARS = 12
"""Up to so many different values get a bar each."""
_FEW = 64
"""Up to so many different tasks are drawn one by one."""

_STYLE: "dict[RcKeyType, Any]" = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "hindsight",  # equal logs, equal pages
    "text.parse_math": False,  # a name may hold a dollar sign
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#6b7480",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
}


@contextmanager
def drawing() -> Iterator[None]:
    """Draw in the style of the report, whatever the user's settings of matplotlib are."""
    from matplotlib import rc_context, rcdefaults  # an extra, see `new_figure`

    with rc_context(), warnings.catch_warnings():
        # The browser has fonts of its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        rcdefaults()
        with rc_context(_STYLE):
            yield


def new_figure(height: float) -> "Figure":
    """Return an empty figure of the width of the page.

    Args:
        height: In inches.

    Returns:
        A figure of matplotlib, which an extra installs; hence the import here.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def to_svg(figure: "Figure", name: str) -> str:
    """Return a figure as an SVG element.

    Args:
        figure: The figure.
        name: Put before its ids, which may occur once in a page.

    Returns:
        XML without a prologue; its size is that of what holds it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG  # an extra, see `new_figure`

    FigureCanvasSVG(figure)
    out = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(out, format="svg", metadata=nothing, dpi=150)
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, count=1, flags=re.DOTALL)
    text = re.sub(r'(<svg [^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", text, count=1)
    pointed = {*re.findall(r'href="#([^"]+)', text), *re.findall(r"url\(#([^)]+)", text)}
    # Ids that nothing points to may come twice, and are of no use.
    text = re.sub(r' id="([^"]*)"', lambda m: m[0] if m[1] in pointed else "", text)
    text = text.replace(' id="', f' id="{name}-').replace('href="#', f'href="#{name}-')
    return text.replace("url(#", f"url(#{name}-")


# --- tasks ----------------------------------------------------------------------------------------


def draw_tasks(numbers: Numbers, labels: Sequence[str]) -> "Figure":
    """Return the distribution of tasks before and after.

    Args:
        numbers: Of the log; it has tasks now.
        labels: Names of the Z numbers of a task.

    Returns:
        Maps of tasks that are places, bars of one-hot tasks, else a histogram for each number.
    """
    after = numbers.after.sample["task"]
    was = numbers.before.sample.get("task")
    if is_one_hot(after) and (was is None or is_one_hot(was)):
        return _task_bars(was, after, labels)
    if numbers.places and after.shape[1] == 2 and (was is None or was.shape[1] == 2):
        return _task_maps(numbers, labels)
    return _task_histograms(was, after, labels)


def is_one_hot(task: Tensor) -> bool:
    """Return whether all tasks ``[S, Z]`` are one-hot vectors of two or more."""
    return bool(
        task.shape[1] > 1 and ((task == 0) | (task == 1)).all() and (task.sum(1) == 1).all()
    )


def _task_bars(was: Tensor | None, after: Tensor, labels: Sequence[str]) -> "Figure":
    figure = new_figure(2.9)
    axes = figure.add_subplot()
    place = np.arange(after.shape[1])
    sides = [("before", BEFORE, was), ("after", AFTER, after)]
    width = len(place)
    drawn = [(n, c, t) for n, c, t in sides if t is not None and t.shape[1] == width]
    for number, (name, color, task) in enumerate(drawn):
        share = 100 * task.double().mean(0).numpy()
        shift = (number - (len(drawn) - 1) / 2) * 0.38
        axes.bar(place + shift, share, 0.36, color=color, label=name)
    axes.set_xticks(place, labels if width <= 20 else [""] * width)
    axes.set(ylabel="% of rows", xlabel="task")
    _legend(axes)
    return figure


def _task_maps(numbers: Numbers, labels: Sequence[str]) -> "Figure":
    was, after = numbers.before.sample.get("task"), numbers.after.sample["task"]
    ground, limits = ground_of(numbers)
    panels: list[tuple[str, str, str, Any]] = [("tasks after", AFTER, "Blues", after)]
    if was is not None:
        panels.insert(0, ("tasks before", BEFORE, "Greys", was))
    elif ground is not None:
        panels.insert(0, ("no task before; states reached", BEFORE, "Greys", ground))
    figure = new_figure(4.7)
    for number, (name, color, shades, points) in enumerate(panels):
        axes = figure.add_subplot(1, 2, number + 1)
        draw_ground(axes, ground, limits)
        _cloud(axes, np.asarray(points, dtype=np.float64), color, shades, limits)
        frame_map(axes, limits, labels, name)
    return figure


def _cloud(axes: "Axes", task: Array, color: str, shades: str, limits: Array) -> None:
    places, count = np.unique(task, axis=0, return_counts=True)
    if len(places) <= _FEW:
        area = 30 + 900 * count / len(task)
        across, up = places[:, 0], places[:, 1]
        axes.scatter(across, up, area, color=color, alpha=0.75, edgecolor="white", linewidth=0.6)
        return
    from matplotlib.colors import PowerNorm  # an extra, see `new_figure`

    edges = _edges(task, limits)
    density, *_ = np.histogram2d(task[:, 0], task[:, 1], bins=edges)
    shown = np.ma.masked_equal(density.T, 0)
    norm = PowerNorm(0.5, vmin=-0.15 * density.max(), vmax=density.max())
    extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
    axes.imshow(
        shown, origin="lower", extent=extent, cmap=shades, norm=norm, interpolation="nearest"
    )


def _task_histograms(was: Tensor | None, after: Tensor, labels: Sequence[str]) -> "Figure":
    count = min(after.shape[1], _MOST_DIMENSIONS)
    across = min(count, 4) if count != 1 else 1
    down = -(-count // across)
    figure = new_figure(2.1 * down + 0.6)
    for number in range(count):
        axes = figure.add_subplot(down, across, number + 1)
        alike = was is not None and was.shape[1] == after.shape[1]
        overlay(axes, was[:, number] if alike and was is not None else None, after[:, number])
        axes.set(xlabel=labels[number], ylabel="% of rows" if number % across == 0 else "")
        if number == 0:
            _legend(axes)
    return figure


# --- maps -----------------------------------------------------------------------------------------


def ground_of(numbers: Numbers) -> tuple[Array | None, Array]:
    """Return the states reached ``[S, 2]`` (or ``None``) and the limits ``[2, 2]`` of a map.

    Args:
        numbers: Of a log with tasks or states reached of two numbers.

    Returns:
        Both, float64.
    """
    achieved = numbers.before.sample.get("achieved")
    on_map = achieved is not None and achieved.shape[1] == 2
    ground = achieved.double().numpy() if achieved is not None and on_map else None
    parts: list[Any] = [] if ground is None else [ground]
    for side in (numbers.before, numbers.after):
        task = side.sample.get("task")
        if task is not None and task.shape[1] == 2 and not is_one_hot(task):
            parts.append(task)
    return ground, limits_of(parts)


def limits_of(parts: Sequence[Any]) -> Array:
    """Return lower and upper ends ``[2, 2]`` of all points ``[S, 2]``, with a margin."""
    points = np.concatenate([np.asarray(part, dtype=np.float64) for part in parts])
    low, high = points.min(0), points.max(0)
    margin = np.maximum(0.03 * (high - low), 1e-6 + 0.03 * (high - low).max())
    return np.stack([low - margin, high + margin])


def _edges(points: Array, limits: Array) -> list[Array]:
    """Return bin edges of both axes; whole numbers get a bin each."""
    whole = bool((points == np.round(points)).all()) and float((limits[1] - limits[0]).max()) < 200
    if whole:
        low, high = points.min(0), points.max(0)
        return [np.arange(a - 0.5, b + 1) for a, b in zip(low, high, strict=True)]
    count = int(np.clip(np.sqrt(len(points)) / 3, 16, 66))
    return [np.linspace(limits[0][i], limits[1][i], count + 1) for i in (0, 1)]


def draw_ground(axes: "Axes", ground: Array | None, limits: Array) -> None:
    """Shade where the log has been, so that walls and gaps show."""
    if ground is None:
        return
    from matplotlib.colors import ListedColormap  # an extra, see `new_figure`

    edges = _edges(ground, limits)
    seen, *_ = np.histogram2d(ground[:, 0], ground[:, 1], bins=edges)
    extent = (edges[0][0], edges[0][-1], edges[1][0], edges[1][-1])
    shown = np.ma.masked_equal((seen > 0).T.astype(float), 0)
    axes.imshow(
        shown,
        origin="lower",
        extent=extent,
        cmap=ListedColormap([GROUND]),
        interpolation="nearest",
        zorder=0,
    )


def frame_map(axes: "Axes", limits: Array, labels: Sequence[str], title: str) -> None:
    """Set limits, equal scales and labels of a map."""
    axes.set(xlim=tuple(limits[:, 0]), ylim=tuple(limits[:, 1]), title=title)
    axes.set_aspect("equal" if _alike(limits) else "auto")
    if len(labels) == 2:
        axes.set(xlabel=labels[0], ylabel=labels[1])


def _alike(limits: Array) -> bool:
    """Return whether both axes may have one scale without one of them vanishing."""
    size = limits[1] - limits[0]
    return bool(size.max() < 8 * size.min())


# --- histograms -----------------------------------------------------------------------------------


def draw_rewards(numbers: Numbers) -> "Figure":
    """Return histograms of rewards and of returns, before and after."""
    figure = new_figure(2.9)
    pairs: list[tuple[str, str, Callable[[Any], Tensor]]] = [
        ("reward of a row", "% of rows", lambda side: side.sample["reward"]),
        ("return of an episode", "% of episodes", lambda side: side.returns),
    ]
    for number, (label, unit, values) in enumerate(pairs):
        axes = figure.add_subplot(1, 2, number + 1)
        was, after = values(numbers.before), values(numbers.after)
        alike = torch.equal(was, after)
        overlay(axes, None if alike else was, after)
        axes.set(xlabel=label, ylabel=unit)
        if not alike:
            _legend(axes)
    return figure


def overlay(axes: "Axes", was: Tensor | None, after: Tensor) -> None:
    """Draw two histograms over each other, in percent of their own numbers."""
    sides = [("before", BEFORE, was), ("after", AFTER, after)]
    values = [(n, c, v.double().numpy()) for n, c, v in sides if v is not None and len(v)]
    few = np.unique(np.concatenate([value for *_, value in values]))
    if len(few) <= _BARS:  # bins would place them anywhere
        _bars(axes, values, few)
        return
    bins = np.linspace(few[0], few[-1], 51)
    for name, color, value in values:
        if value[0] == value.max() == value.min():  # a bar up to 100 % would flatten the rest
            label = f"{name}: all {value[0]:g}"
            axes.axvline(value[0], color=color, linewidth=2, linestyle="--", label=label)
            continue
        share, _ = np.histogram(value, bins)
        shown = 100 * share / len(value)
        axes.stairs(shown, bins.tolist(), fill=True, color=color, alpha=0.35)
        axes.stairs(shown, bins.tolist(), color=color, label=name, linewidth=1.4)
    axes.set_ylim(bottom=0)


def _bars(axes: "Axes", values: Sequence[tuple[str, str, Array]], few: Array) -> None:
    """Draw a bar for each of a few values, those of both sides beside each other."""
    gap = float(np.diff(few).min()) if len(few) > 1 else 1.0
    for number, (name, color, value) in enumerate(values):
        share = [100 * float((value == one).mean()) for one in few]
        shift = (number - (len(values) - 1) / 2) * 0.32 * gap
        axes.bar(few + shift, share, 0.3 * gap, color=color, label=name)
    axes.set_xlim(few[0] - gap, few[-1] + gap)


def _legend(axes: "Axes") -> None:
    axes.legend(fontsize=8.5, ncols=2, loc="lower right", bbox_to_anchor=(1, 0.99), borderpad=0.1)


# --- posterior ------------------------------------------------------------------------------------


def draw_posterior(posterior: Posterior) -> "Figure":
    """Return the posterior as a heat map, trajectories down, tasks across.

    Tasks are put beside those that share trajectories with them, and trajectories in the order of
    their tasks, so that a posterior that separates tasks shows as a diagonal.

    Args:
        posterior: Of one relabeler.

    Returns:
        The figure; above the map, the share of trajectories of each task.
    """
    from matplotlib.colors import PowerNorm  # an extra, see `new_figure`

    q = posterior.probability.double()
    step = max(1, -(-len(q) // _MOST_TRAJECTORIES))
    rows, columns = seriation(q[::step])
    shown = q[::step][rows][:, columns].numpy()
    figure = new_figure(4.4)
    grid = figure.add_gridspec(2, 1, height_ratios=[1, 3.6])
    above, axes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    count = q.shape[1]
    share = 100 * q.mean(0)[columns].numpy()
    above.bar(np.arange(count), share, 0.85, color=AFTER)
    above.axhline(100 / count, color=INK, linewidth=0.8, linestyle=":")
    above.set(ylabel="% of\ntrajectories", xlim=(-0.5, count - 0.5))
    above.set_xticks([])
    image = axes.imshow(
        shown,
        aspect="auto",
        cmap="Blues",
        # Square roots, or one certain trajectory would leave the rest blank.
        norm=PowerNorm(0.5, vmin=0, vmax=1),
        interpolation="nearest",
    )
    axes.set(
        xlabel=f"{count} candidate tasks, ordered by the trajectories they share",
        ylabel=f"{len(shown)} trajectories" + (f", one in {step}" if step > 1 else ""),
        yticks=[],
    )
    axes.set_xticks(np.arange(count) if count <= _BARS else [])
    axes.set_xticklabels(columns.tolist() if count <= _BARS else [])
    figure.colorbar(image, ax=axes, label="probability", pad=0.01, ticks=[0, 0.05, 0.25, 0.5, 1])
    return figure


def seriation(q: Tensor) -> tuple[Tensor, Tensor]:
    """Return orders of the rows and columns of ``[E, N]`` that gather what is large.

    Columns follow the second singular vectors of the table (correspondence analysis: columns that
    occur in the same rows lie together), rows the mean place of their columns.

    Args:
        q: ``[E, N]`` float64, not negative, rows that sum to 1.

    Returns:
        Row numbers ``[E]`` and column numbers ``[N]``, int64.
    """
    mass = q.sum(0).clamp_min(1e-12)
    table = q / mass.sqrt()
    weights, vectors = torch.linalg.eigh(table.T @ table)
    second = vectors[:, -2] if len(weights) > 1 else vectors[:, -1]
    columns = (second / mass.sqrt()).argsort(stable=True)
    place = torch.empty_like(columns).scatter_(0, columns, torch.arange(len(columns)))
    rows = (q @ place.double()).argsort(stable=True)
    return rows, columns
