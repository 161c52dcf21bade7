"""Draw the plots and rewrite the tables of docs/hipi.md from the results in build/hipi/.

    python benchmarks/hipi/document.py

Intervals of curves are stratified bootstraps by rliable (Agarwal et al. 2021, arXiv 2108.13264).
What has no result yet keeps its place in the page as it is.
"""

import re
import shutil
from collections.abc import Callable
from typing import Any

import common
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import matrix
from rliable import library, metrics

PAGE = common.ROOT / "docs" / "hipi.md"
PICTURES = common.ROOT / "docs" / "hipi"
COLOURS = {
    "inverse RL": "#c1272d",
    "inverse RL, states reached": "#f08a5d",
    "future": "#0000a7",
    "final": "#008176",
    "random": "#eecc16",
    "none": "#8a8a8a",
    "inverse RL without Z": "#008176",
    "true": "#0000a7",
    "demonstrators": "#000000",
}
WORDS = {
    "none": "no task",
    "random": "random tasks",
    "inverse RL without Z": "highest reward, no log Z",
    "true": "true tasks",
}


def interval(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the interquartile mean ``[T]`` of scores ``[seeds, T]``, and its ends ``[2, T]``."""

    def iqm(values: np.ndarray) -> np.ndarray:
        return np.array([metrics.aggregate_iqm(values[..., t]) for t in range(values.shape[-1])])

    state = np.random.RandomState(0)
    point, ends = library.get_interval_estimates(
        {"": scores[:, None, :]}, iqm, reps=2000, random_state=state
    )
    return point[""], ends[""]


def curves(found: dict[str, Any], name: str, score: str, over: str = "environment steps") -> None:
    """Draw curves, one line per data step, and save them as docs/hipi/NAME.svg.

    Left over environment steps (or what ``over`` says), right over seconds of one core where they
    were measured.
    """
    scales = [("env_steps", over)]
    if all("seconds_at" in runs for runs in found.values()):
        scales.append(("seconds_at", "seconds of one core"))
    figure, panels = plt.subplots(
        1, len(scales), figsize=(5 * len(scales), 3.2), layout="constrained", squeeze=False
    )
    for axes, (key, label) in zip(panels[0], scales, strict=True):
        for data_step, runs in found.items():
            at = np.mean(runs[key], axis=0)
            point, (low, high) = interval(np.array(runs["scores"], np.float64))
            colour = COLOURS.get(data_step, "#c1272d")
            axes.plot(at, point, label=data_step, color=colour)
            axes.fill_between(at, low, high, alpha=0.15, color=colour, linewidth=0)
        axes.set_xlabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].set_ylabel(score)
    panels[0][0].legend(frameon=False, fontsize=8)
    _save(figure, name)


def dots(domains: dict[str, Any], name: str) -> None:
    """Draw a panel per domain, in it an interval per label; save them as docs/hipi/NAME.svg."""
    figure, panels = plt.subplots(
        1, len(domains), figsize=(2.7 * len(domains) + 1, 2.2), layout="constrained", sharey=True
    )
    for axes, domain in zip(panels, domains.values(), strict=True):
        for at, (label, found) in enumerate(reversed(domain["scores"].items())):
            point, ends = interval(np.array(found["values"], np.float64)[:, None])
            axes.plot(ends[:, 0], [at, at], color=COLOURS[label], linewidth=4, alpha=0.4)
            axes.plot(point, [at], "o", color=COLOURS[label], markersize=5)
        labels = [WORDS.get(label, label) for label in reversed(domain["scores"])]
        axes.set_yticks(range(len(labels)), labels)
        axes.set_title(domain["title"], fontsize=10)
        axes.set_xlabel(domain["score"])
        axes.spines[["top", "right"]].set_visible(False)
    _save(figure, name)


def _save(figure: Any, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    plt.rcParams["svg.hashsalt"] = name  # equal results give equal files
    figure.savefig(PICTURES / f"{name}.svg", metadata={"Date": None})
    plt.close(figure)


def _spread(found: dict[str, float], digits: int = 2) -> str:
    return f"{found['iqm']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def online(report: dict[str, Any]) -> str:
    """Return the table of figures 5 and 6, and draw their curves over steps and over seconds."""
    rows = []
    for name, domain in report["domains"].items():
        curves(domain["curves"], name, domain["score"])
        digits = 2 if domain["score"] == "success" else 1
        rows += [
            (
                domain["title"],
                step,
                f"{domain['settings']['env_steps']:,}",
                _spread(c["final"], digits),
                _spread(c["area"], digits),
                f"{np.mean([seconds[-1] for seconds in c['seconds_at']]):.0f}",
            )
            for step, c in domain["curves"].items()
        ]
    pictures = [
        f"![{domain['title']}: {domain['score']} over environment steps](hipi/{name}.svg)"
        for name, domain in report["domains"].items()
    ]
    header = ("", "tasks of batches", "steps", "after them", "mean over the curve", "core seconds")
    table = common.table(header, rows)
    return "\n".join([table, "", *pictures])


def cloning(report: dict[str, Any]) -> str:
    """Return the table of figure 7."""
    rows = []
    for domain in report["domains"].values():
        digits = 2 if domain["score"].startswith("success") else 1
        rows.append((domain["title"], *(_spread(f, digits) for f in domain["scores"].values())))
    header = [WORDS.get(label, label) for label in domain["scores"]]
    return common.table(("demonstrations", *header), rows)


def bias(report: dict[str, Any]) -> str:
    """Return the table of figure 8."""
    rows = [
        (
            one["labels"],
            f"{one['bias']:g}",
            _spread(one["score"]),
            f"{one['share']['iqm']:.2f}",
        )
        for one in report["figure_8"]
    ]
    header = ("tasks of the clone", "constant", "success", "share of the first task")
    return common.table(header, rows)


def robot_cloning(report: dict[str, Any]) -> str:
    """Return the table of figure 7 on robots, and draw it."""
    dots(report["domains"], "robot_cloning")
    return f"{cloning(report)}\n\n![scores of clones by their tasks](hipi/robot_cloning.svg)"


def robot_bias(report: dict[str, Any]) -> str:
    """Return the table of figure 8 on robots, and draw success over the constant."""
    found: dict[str, Any] = {}
    for one in report["figure_8"]:
        runs = found.setdefault(one["labels"], {"env_steps": [], "scores": []})
        runs["env_steps"].append([one["bias"]] * len(report["seeds"]))
        runs["scores"].append(one["score"]["values"])
    found = {
        label: {key: np.transpose(value) for key, value in runs.items()}
        for label, runs in found.items()
    }
    curves(found, "robot_bias", "success", "constant on the first task")
    return f"{bias(report)}\n\n![success over the constant](hipi/robot_bias.svg)"


def alone(name: str) -> Callable[[dict[str, Any]], str]:
    """Return what makes the table of one learner's curve, and draws it."""

    def make(report: dict[str, Any]) -> str:
        curves(report["curves"], name, "success")
        (runs,) = report["curves"].values()
        steps = np.mean(runs["env_steps"], axis=0)
        rows = [
            (f"{step:,.0f}", _spread(common.summary([s[at] for s in runs["scores"]])._asdict()))
            for at, step in enumerate(steps)
        ]
        table = common.table(("environment steps, mean", "success"), rows)
        return f"{table}\n\n![success over environment steps](hipi/{name}.svg)"

    return make


def crossing(report: dict[str, Any]) -> str:
    """Return the success matrices of figure 4."""
    steps = [name for name, found in report.items() if isinstance(found, dict)]
    rows = [
        (name, *(f"{cell:.2f}" for line in report[name]["success"] for cell in line))
        for name in steps
    ]
    return common.table(("labels", "A to B", "A to D", "C to B", "C to D"), rows)


def commanded(report: dict[str, Any]) -> str:
    """Return the table of return-conditioned policies."""
    rows = [
        (name, _spread(common.summary(found["test"])._asdict(), 0))
        for name, found in report.items()
        if isinstance(found, dict)
    ]
    return common.table(("", "return of 50 test episodes"), rows)


def candidates(report: dict[str, Any]) -> str:
    """Return what few candidates and few rows for log Z cost the posterior."""
    rows = [
        (one["candidates"], one["rows"], f"{one['excess']:.2f}", f"{one['objective']:.2f}")
        for one in report["posterior"]
    ]
    header = ("candidates", "rows for log Z", "excess score, nats", "objective of Lemma 1")
    return common.table(header, rows)


def options(report: dict[str, Any]) -> str:
    """Return what the options beyond the paper bring."""
    units = (("corners", "four corners, success"), ("mass", "point mass, return"))
    rows = [
        (where, one["arm"], f"{one['mean']:.2f}", f"{one['us_per_update'] / 1000:.1f} ms")
        for part, where in units
        for one in report[part]
    ]
    return common.table(("", "tasks of batches", "score", "an update"), rows)


def strength(report: list[dict[str, Any]]) -> str:
    """Return what units and scores of inverse RL do for cloning."""
    rows = [
        (
            *one["name"].split(": ", 1),
            "" if one["perplexity"] is None else f"{one['perplexity']:.1f}",
            f"{one['fulfilled']:.2f}",
            f"{one['mean']:.2f}"
            if one["seeds"] == 1
            else _spread({"iqm": one["mean"], "low": one["low"], "high": one["high"]}),
        )
        for one in report
    ]
    return common.table(("", "tasks of batches", "tasks per row", "fulfilled", "score"), rows)


def supported(report: list[dict[str, Any]]) -> str:
    """Return how many rows are a success for any candidate, by where candidates come from."""
    kinds = ("prior", "reached")
    rows = [
        (one["radius"], one["candidates"], one["rows"], *(f"{one[kind]:.2f}" for kind in kinds))
        for one in report
    ]
    header = ("radius", "candidates", "rows", *(f"`propose: {kind}`" for kind in kinds))
    return common.table(header, rows)


def annotators(report: dict[str, Any]) -> str:
    """Return the table of one policy for several annotators."""
    rows = [(f"cloning, {name}", _spread(one, 1)) for name, one in report["rows"].items()]
    return common.table(("", "return"), rows)


def heart(report: list[dict[str, Any]]) -> str:
    """Return what ways to score cost beside HER at L, and how far they are from the posterior."""
    found = {row["name"]: row for row in report}
    rows = []
    start, end = "total variation: ", ", log"
    for name in (n[len(start) : -len(end)] for n in found if n.startswith(start) and end in n):
        cost = found.get(f"{name} at L")
        apart = (found.get(f"{start}{name}, {propose}") for propose in ("log", "reached"))
        spread = f"{cost['mean']:.2f} [{cost['low']:.2f}, {cost['high']:.2f}]" if cost else ""
        rows.append(
            [name, spread, f"{cost['cpu_ratio']:.2f}" if cost else ""]
            + [f"{row['mean']:.3f}" if row else "" for row in apart]
        )
    header = ("scoring", "cost at L, wall", "CPU", "distance, tasks of the batch", "states reached")
    return common.table(header, rows)


def showcase(report: dict[str, Any]) -> str:
    """Return the table of ``make quickstart``'s second half, and keep its picture."""
    rows = [
        (row["pair"], f"{row['return']:.1f}", f"{row['onnx_return']:.1f}")
        for row in reversed(report["rows"])
    ]
    rows.append(("the log, for its own tasks", f"{report['logged']:.1f}", ""))
    _keep("build/showcase/showcase.png", "showcase.png")
    table = common.table(("", "return", "exported file"), rows)
    return f"{table}\n\n![logged episodes with inferred tasks, and the policy](hipi/showcase.png)"


def wandering(report: dict[str, Any]) -> str:
    """Return the table of goals from aimless wandering, and keep its picture."""
    rows = [
        (row["pair"], f"{row['success']:.2f}", f"{row['onnx_success']:.2f}")
        for row in reversed(report["rows"])
    ]
    rows.append(("scripted shortest path", f"{report['controller']:.2f}", ""))
    _keep("build/four_rooms/rollouts.png", "wandering.png")
    table = common.table(("", "success", "exported file"), rows)
    return f"{table}\n\n![eight episodes of the exported policy](hipi/wandering.png)"


def demonstrated(report: dict[str, Any]) -> str:
    """Return the tables of ten tasks demonstrated by scripted experts, and draw who is who."""
    PICTURES.mkdir(exist_ok=True)
    matrix.picture(report, PICTURES / "meta_world_tasks.svg")
    text = "true tasks by inferred ones"
    return f"{matrix.tables(report)}\n\n![{text}](hipi/meta_world_tasks.svg)"


def _keep(picture: str, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    shutil.copyfile(common.ROOT / picture, PICTURES / name)


PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "showcase": ("../showcase", showcase),
    "wandering": ("../four_rooms", wandering),
    "figure 4": ("fig4", crossing),
    "online": ("online", online),
    "robots": ("robots", online),
    "figure 7": ("cloning", cloning),
    "figure 8": ("cloning", bias),
    "ten tasks": ("meta_world_tasks", demonstrated),
    "figure 7, robots": ("robot_cloning", robot_cloning),
    "figure 8, robots": ("robot_cloning", robot_bias),
    "strength": ("../strength", strength),
    "supported": ("supported", supported),
    "gcsl": ("gcsl", alone("gcsl")),
    "her": ("her", alone("her")),
    "rcp": ("rcp", commanded),
    "candidates": ("options", candidates),
    "annotators": ("annotators", annotators),
    "heart": ("../heart", heart),
    "options": ("options", options),
}


def main() -> int:
    """Rewrite the page."""
    text = PAGE.read_text()
    for part, (name, make) in PARTS.items():
        if not (common.BUILD / f"{name}.json").exists():
            common.say(f"no build/hipi/{name}.json: '{part}' stays as it is")
            continue
        table = make(common.read_json(name))
        pattern = rf"(<!-- {part} -->\n).*?(<!-- end -->)"
        text, count = re.subn(pattern, lambda m, t=table: f"{m[1]}{t}\n{m[2]}", text, flags=re.S)
        if count != 1:
            raise SystemExit(f"docs/hipi.md has {count} places for '{part}', it needs one")
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
