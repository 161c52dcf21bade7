"""A picture of a log: returns, lengths, range of every dimension, actions."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hindsight_rl.files import write_whole
from hindsight_rl.keys import ACTION, TERMINATED, Key, key_name
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.packed import observed
from hindsight_rl.logs.reading.assembly import Assembly
from hindsight_rl.reports.summary import Summary, episode_totals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _ORANGE, _GREY = "#3b6ea5", "#d9822b", "#8a8f98"
_MOST = 64
"""Dimensions drawn at most; a picture of more cannot be read."""
_SAMPLE = 200_000
"""Rows looked at, evenly spaced: quantiles of more rows look the same."""


def plot(assembly: Assembly, summary: Summary, path: Path) -> None:
    """Draw a log into a file; the ending says the format (.png, .pdf, .svg).

    Args:
        assembly: Columns and facts.
        summary: Their numbers.
        path: File to write; it is whole or absent.

    Raises:
        LogError: The ending is unknown to matplotlib.
    """
    # The object interface needs no display; matplotlib is an extra, hence imported here.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    seen = _vectors(assembly)
    rows = max([_width(assembly, key) for key in (*seen, ACTION)])
    figure = Figure(figsize=(11, 4.2 + max(2.6, 0.19 * min(rows, _MOST))), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    if path.suffix[1:].lower() not in canvas.get_supported_filetypes():
        raise LogError(f"a plot cannot be a '{path.suffix}' file", "Name a .png file.", path=path)
    grid = figure.add_gridspec(2, 2, height_ratios=[2.6, max(2.6, 0.19 * min(rows, _MOST))])
    axes = [figure.add_subplot(grid[i, j]) for i in (0, 1) for j in (0, 1)]
    lengths, returns = episode_totals(assembly)
    ended = assembly.columns[TERMINATED][np.cumsum(lengths) - 1]
    _histogram(axes[0], returns, ended, "return of an episode")
    _histogram(axes[1], lengths.astype(float), ended, "steps of an episode")
    _ranges(axes[2], assembly)
    _actions(axes[3], assembly, summary)
    figure.suptitle(
        f"{Path(summary.source).name}: {summary.episodes:,} episodes, "
        f"{summary.transitions:,} transitions",
        fontsize=12,
    )
    _save(figure, path)


def _save(figure: "Figure", path: Path) -> None:
    kind = path.suffix[1:].lower()
    write_whole(path, lambda file: figure.savefig(file, format=kind, dpi=130))


def _vectors(assembly: Assembly) -> list[Key]:
    """Return the keys of what is observed in rows of numbers: neither images nor choices."""
    columns = assembly.columns
    return [key for key in observed(columns) if columns[key].ndim == 2]


def _width(assembly: Assembly, key: Key) -> int:
    values = assembly.columns[key]
    return values.shape[1] if values.ndim == 2 else 1


def _histogram(axes: "Axes", values: Array, ended: Array, label: str) -> None:
    """Draw a histogram over episodes, terminated ones stacked on truncated ones."""
    from matplotlib.ticker import MaxNLocator  # an extra, see `plot`

    finite = np.isfinite(values)
    values, ended = values[finite], ended[finite]
    if not len(values):
        axes.text(0.5, 0.5, "no finite value", ha="center", transform=axes.transAxes)
        return
    low, high = float(values.min()), float(values.max())
    count = min(40, max(10, int(np.sqrt(len(values)) * 2)))
    bins = np.linspace(low, high, count + 1) if high > low else np.array([low - 0.5, low + 0.5])
    kinds = [("truncated", _BLUE, values[~ended]), ("terminated", _ORANGE, values[ended])]
    kinds = [kind for kind in kinds if len(kind[2])]
    axes.hist(
        [kind[2] for kind in kinds],
        bins=bins.tolist(),
        stacked=True,
        color=[kind[1] for kind in kinds],
        label=[f"{kind[0]} ({len(kind[2]):,})" for kind in kinds],
    )
    if high == low:
        axes.set_xlim(low - 3, high + 3)
    mean = float(values.mean())
    axes.axvline(mean, color="black", linewidth=1, linestyle="--", label=f"mean {mean:,.1f}")
    axes.set(xlabel=label, ylabel="episodes")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes)
    _plain(axes)


def _ranges(axes: "Axes", assembly: Assembly) -> None:
    """Draw minimum to maximum (line), 5 to 95 % (bar) and median (dot) of each dimension."""
    seen = [_sampled(assembly, key) for key in _vectors(assembly)]
    if not seen:
        axes.text(
            0.5, 0.5, "no observation is a row of numbers", ha="center", transform=axes.transAxes
        )
        axes.set_axis_off()
        return
    values = np.concatenate([part for part, _ in seen], axis=1)
    names = [name for _, called in seen for name in called]
    low, five, half, most, high = np.nanquantile(values, [0, 0.05, 0.5, 0.95, 1], axis=0)
    where = np.arange(len(names))
    axes.axvline(0, color=_GREY, linewidth=0.5)
    axes.hlines(where, low, high, color=_GREY, linewidth=1)
    axes.barh(where, most - five, left=five, height=0.55, color=_BLUE, alpha=0.75)
    axes.plot(half, where, "o", color="black", markersize=3)
    reach = np.maximum(np.abs(low), np.abs(high))
    if np.nanmax(reach) > 100 * np.nanmedian(reach) > 0:
        axes.set_xscale("symlog", linthresh=float(np.nanmedian(reach)))
    _label_rows(axes, names)
    axes.set(xlabel="observation: range (line), 5 to 95 % (bar), median (dot)")
    _plain(axes)


def _actions(axes: "Axes", assembly: Assembly, summary: Summary) -> None:
    if summary.action_counts is not None:
        counts = np.asarray(summary.action_counts)
        first = summary.action_start or 0
        places = np.arange(first, first + len(counts))
        axes.bar(places, 100 * counts / max(counts.sum(), 1), 0.6, color=_BLUE)
        axes.set(xlabel="action", ylabel="% of rows", xlim=(first - 0.7, places[-1] + 0.7))
        axes.set_xticks(places if len(counts) <= 20 else [])
        _plain(axes)
        return
    values, names = _sampled(assembly, ACTION)
    if len(names) <= 3:
        _action_curves(axes, values, names, summary)
    else:
        _action_map(axes, values, names, summary)


def _action_curves(axes: "Axes", values: Array, names: Sequence[str], summary: Summary) -> None:
    low, high = _limits(values, summary)
    bins = np.linspace(low.min(), high.max(), 51)
    for i, (name, color) in enumerate(zip(names, (_BLUE, _ORANGE, _GREY), strict=False)):
        share, _ = np.histogram(values[:, i], bins)
        axes.stairs(
            100 * share / len(values), bins.tolist(), color=color, label=name, linewidth=1.5
        )
    for bound in {*(summary.action_low or []), *(summary.action_high or [])}:
        if bound is not None:
            axes.axvline(bound, color="black", linewidth=0.8, linestyle=":")
    axes.set(xlabel="action (dotted: bounds)", ylabel="% of rows per bin")
    _legend(axes)
    _plain(axes)


def _action_map(axes: "Axes", values: Array, names: Sequence[str], summary: Summary) -> None:
    """Draw one line of a heat map per dimension, from its lower to its upper end."""
    from matplotlib.colors import PowerNorm  # an extra, see `plot`

    low, high = _limits(values, summary)
    scaled = (values - low) / (high - low)
    share = [np.histogram(column, 50, (0, 1))[0] / len(values) for column in scaled.T]
    common = bool((low == low[0]).all() and (high == high[0]).all())
    ends = (float(low[0]), float(high[0])) if common else (0.0, 1.0)
    image = axes.imshow(
        100 * np.asarray(share),
        aspect="auto",
        cmap="Blues",
        # Square roots, or one crowded bin (a clipped action) would leave the rest blank.
        norm=PowerNorm(0.5, vmin=0),
        extent=(*ends, len(names) - 0.5, -0.5),
        interpolation="nearest",
    )
    axes.figure.colorbar(image, ax=axes, label="% of rows per bin", pad=0.01)
    _label_rows(axes, names)
    axes.set(xlabel="action" if common else "action, from its lowest (0) to its highest value (1)")


def _limits(values: Array, summary: Summary) -> tuple[Array, Array]:
    """Return the ends of each dimension: its bounds or, without, its extremes, never equal."""
    width = values.shape[1]
    low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
    for ends, bound in ((low, summary.action_low), (high, summary.action_high)):
        for i, end in enumerate((bound or [])[:width]):
            ends[i] = ends[i] if end is None else end
    flat = np.equal(low, high)
    return low - 0.5 * flat, high + 0.5 * flat


def _sampled(assembly: Assembly, key: Key) -> tuple[Array, list[str]]:
    """Return evenly spaced rows of the first dimensions and their names; infinite ones are NaN."""
    values = assembly.columns[key]
    values = values[:: max(1, len(values) // _SAMPLE), :_MOST].astype(np.float64)
    names = (assembly.info.get("names") or {}).get(key_name(key)) or [
        str(i) for i in range(values.shape[1])
    ]
    values = np.where(np.isfinite(values), values, np.nan)
    empty = np.asarray(np.isnan(values).all(axis=0))
    values[:, empty] = 0
    pairs = zip(names, empty, strict=False)
    return values, [f"{name} (never finite)" if none else name for name, none in pairs]


def _label_rows(axes: "Axes", names: Sequence[str]) -> None:
    axes.set_yticks(np.arange(len(names)), labels=list(names), fontsize=7 if len(names) > 12 else 9)
    axes.set_ylim(len(names) - 0.5, -0.5)  # the first dimension on top


def _legend(axes: "Axes") -> None:
    # Above the axes, where it hides nothing.
    place = (1, 0.98)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower right", bbox_to_anchor=place)


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
