"""Trajectories of a relabeled log, drawn with the task they had and the one they have now."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import EPISODE, REWARD, Key
from hindsight_rl.logs.checks import Array
from hindsight_rl.logs.log import Log
from hindsight_rl.reports.figures import (
    AFTER,
    BEFORE,
    INK,
    TASK,
    draw_ground,
    frame_map,
    ground_of,
    is_one_hot,
    new_figure,
)
from hindsight_rl.reports.numbers import Numbers, before, episode_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_EXAMPLES = 6
_GOALS = 5  # of the tasks of one trajectory, drawn at most
_LINES = 3  # numbers of a task, drawn at most


def chosen_episodes(log: Log, numbers: Numbers) -> list[int]:
    """Return episodes from the best return to the worst (as relabeled), evenly spaced.

    Args:
        log: A relabeled log.
        numbers: Of it.

    Returns:
        Numbers of episodes, at most six.
    """
    seen = torch.zeros(log.episodes, dtype=torch.bool)
    for span in log.spans():
        seen[log.column(EPISODE, span)[numbers.drawn[span]]] = True
    order = numbers.after.returns.argsort(descending=True, stable=True)
    ranked = seen.nonzero().squeeze(1)[order]
    places = torch.linspace(0, len(ranked) - 1, min(_EXAMPLES, len(ranked))).round().long()
    return [int(episode) for episode in ranked[places]]


def draw_examples(log: Log, numbers: Numbers, labels: Sequence[str]) -> "Figure":
    """Return some trajectories with old and new tasks: on a map where it has two dimensions.

    Args:
        log: A relabeled log.
        numbers: Of it.
        labels: Names of the numbers of a task.

    Returns:
        The figure.
    """
    episodes = chosen_episodes(log, numbers)
    sample = numbers.after.sample
    on_map = numbers.places or (numbers.meant is not None and sample["achieved"].shape[1] == 2)
    down = -(-len(episodes) // 3)
    figure = new_figure((3.35 if on_map else 2.2) * down + 0.35)
    names: dict[str, Any] = {}
    for number, episode in enumerate(episodes):
        axes = figure.add_subplot(down, 3, number + 1)
        rows = episode_rows(log, episode)
        if on_map:
            _on_map(axes, log, rows, numbers)
        else:
            _over_time(axes, log, rows, labels)
        axes.set_title(_title(log, rows, episode), fontsize=8.5)
        handles, words = axes.get_legend_handles_labels()
        names |= dict(zip(words, handles, strict=True))
    figure.legend(
        list(names.values()), list(names), loc="outside upper left", ncols=min(len(names), 4)
    )
    return figure


def _title(log: Log, rows: TensorDict, episode: int) -> str:
    was = before(log, REWARD) or REWARD
    old, new = (float(rows[key].double().sum()) for key in (was, REWARD))
    label = (
        f"return {new:.4g}" if old == new else f"return {old:.4g} \N{RIGHTWARDS ARROW} {new:.4g}"
    )
    task = rows.get("task", None)
    if task is not None and is_one_hot(task):
        label += f", task {' '.join(str(int(n)) for n in task.argmax(-1).unique()[:3])}"
    return f"episode {episode}: {label}"


def _on_map(axes: "Axes", log: Log, rows: TensorDict, numbers: Numbers) -> None:
    ground, limits = ground_of(numbers)
    draw_ground(axes, ground, limits)
    path = _path(log, rows)
    axes.plot(*path.T, color=AFTER, linewidth=1.3, label="trajectory", zorder=2)
    axes.plot(*path[0], "o", color="white", markeredgecolor=AFTER, markersize=6, label="start")
    was, now = before(log, "task"), rows.get("task", None)
    if was not in (None, "task"):
        _old_goals(axes, _places(rows[was], numbers))
    if now is not None:
        _goals(axes, _places(now, numbers), path)
    frame_map(axes, limits, [], "")
    axes.tick_params(labelsize=7.5)


def _path(log: Log, rows: TensorDict) -> Array:
    """Return where the episode was ``[T + 1, 2]``, or ``[T, 2]`` if only one of both is known."""
    after: Key = ("next", "achieved_goal")
    if "achieved_goal" in log and after in log:
        found = torch.cat([rows["achieved_goal"][:1], rows[after]])
    else:
        found = rows[after if after in log else "achieved_goal"]
    path: Array = found.reshape(len(found), -1).numpy()
    return path


def _places(task: Tensor, numbers: Numbers) -> Array | None:
    """Return where tasks ``[T, Z]`` lie on the map, ``[T, 2]``; ``None`` if they are no places."""
    if is_one_hot(task):
        meant = numbers.meant
        if meant is None or meant.shape != (task.shape[-1], 2):
            return None
        task = meant[task.argmax(-1)]
    elif not numbers.places or task.shape[-1] < 2:
        return None
    found: Array = task[:, :2].numpy()  # a third number is the margin of a goal
    return found


def _old_goals(axes: "Axes", task: Array | None) -> None:
    if task is not None:
        places = np.unique(task, axis=0)[:_GOALS]
        across, up = places[:, 0], places[:, 1]
        axes.plot(
            across, up, "x", color=INK, markersize=7, markeredgewidth=1.6, label="task before"
        )


def _goals(axes: "Axes", task: Array | None, path: Array) -> None:
    """Draw the new tasks of a trajectory; where there are many, each tied to the row it is of."""
    if task is None:
        return
    many = len(np.unique(task, axis=0)) > 1
    at = np.unique(np.linspace(0, len(task) - 1, _GOALS if many else 1).astype(int))
    for row in at if many else []:
        ends = np.stack([path[row], task[row]])
        axes.plot(*ends.T, ":", color=TASK, linewidth=1.1, zorder=3)
        axes.plot(*ends[0], ".", color=TASK, markersize=5, zorder=3)
    axes.plot(
        *task[at].T,
        linestyle="",
        marker="*",
        color=TASK,
        markeredgecolor="white",
        markeredgewidth=0.6,
        markersize=13,
        label="task now",
        zorder=4,
    )


def _over_time(axes: "Axes", log: Log, rows: TensorDict, labels: Sequence[str]) -> None:
    """Draw task (or, without one, reward) of each step, before and after."""
    key: Key = "task" if "task" in log else REWARD
    what = "task" if key == "task" else "reward"
    was = before(log, key)
    if was is not None and was != key:
        _lines(axes, rows, was, BEFORE, f"{what} before", labels)
    goal = next((k for k in (("next", "achieved_goal"), "achieved_goal") if k in log), None)
    if key == "task" and goal is not None and log.shape(goal) == log.shape(key):
        _lines(axes, rows, goal, AFTER, "achieved", labels)
    _lines(axes, rows, key, TASK, f"{what} now", labels)
    axes.set_xlabel("step", fontsize=8)
    if len(labels) == 1 and key == "task":
        axes.set_ylabel(labels[0], fontsize=8)
    axes.tick_params(labelsize=7.5)


def _lines(
    axes: "Axes", rows: TensorDict, key: Key, color: str, name: str, labels: Sequence[str]
) -> None:
    values = rows[key].reshape(len(rows), -1)[:, :_LINES].double().numpy()
    marker = "." if len(values) == 1 else ""
    for number, (line, dashes) in enumerate(zip(values.T, ("-", "--", ":"), strict=False)):
        label = f"{name}: {labels[number]}" if values.shape[1] > 1 else name
        axes.plot(line, dashes, color=color, linewidth=1.4, marker=marker, label=label)
