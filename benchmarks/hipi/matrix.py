"""The tables and the picture of meta_world_tasks.py in docs/hipi.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import matplotlib.pyplot as plt
import numpy as np

WORDS = {"shared": "shared starts", "own": "starts as in Meta-World"}


def heat(axes: Any, matrix: Sequence[Sequence[float]], names: Sequence[str]) -> None:
    """Draw a matrix of shares, true tasks downwards and inferred ones to the right."""
    axes.imshow(matrix, cmap="Blues", vmin=0.0, vmax=1.0)
    for (row, column), share in np.ndenumerate(np.asarray(matrix)):
        if share >= 0.005:
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", color=colour, size=7)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)


def picture(report: dict[str, Any], path: Path) -> None:
    """Draw how inverse RL shares the episodes out, one panel for each kind of starts."""
    figure, panels = plt.subplots(1, 2, figsize=(10.5, 5), layout="constrained", sharey=True)
    for axes, (starts, part) in zip(panels, report["starts"].items(), strict=True):
        heat(axes, part["confusion"]["inverse RL"], report["tasks"])
        axes.set_title(WORDS[starts], fontsize=10)
        axes.set_xlabel("inferred")
    panels[0].set_ylabel("true")
    plt.rcParams["svg.hashsalt"] = path.stem  # equal results give equal files
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def tables(report: dict[str, Any]) -> str:
    """Return the tables: episodes by inferred task, success, and success of each task."""
    names, parts = report["tasks"], report["starts"]
    shares = []
    for starts, part in parts.items():
        for labels, matrix in part["confusion"].items():
            diagonal = np.diag(matrix)
            cells = [f"{share:.2f}" for share in (*diagonal, diagonal.mean())]
            shares.append([f"{WORDS[starts]}, {labels}", *cells])
    matrix = parts["shared"]["confusion"]["inverse RL"]
    rows = [[name, *(f"{x:.2f}" for x in row)] for name, row in zip(names, matrix, strict=True)]
    confused = common.table(["true, inferred:", *names], rows)
    right = common.table(["share that is right", *names, "mean"], shares)
    scores = [
        [WORDS[starts], named(arm), common.summary(np.mean(arm["success"], axis=1))]
        for starts, part in parts.items()
        for arm in part["arms"]
    ]
    success = common.table(["", "policy step, labels", "success"], scores)
    return "\n\n".join([confused, right, success, each_task(names, parts["shared"])])


def each_task(names: Sequence[str], part: dict[str, Any]) -> str:
    """Return the success of every policy on each task, means over the seeds."""
    columns = [np.mean(arm["success"], axis=0) for arm in part["arms"]]
    columns.append(part["recorded"] / np.array(part["tried"]))
    rows = [[name, *(f"{x:.2f}" for x in row)] for name, *row in zip(names, *columns, strict=True)]
    header = [f"{WORDS['shared']}: success", *map(named, part["arms"]), "the experts"]
    return common.table(header, rows)


def named(arm: dict[str, Any]) -> str:
    """Return what tables call a policy."""
    words = {"none": "no labels", "random": "random labels", "true": "true labels"}
    labels = arm["labels"]
    return f"{arm['learner']}, {words.get(labels, f'labels by {labels}')}"
