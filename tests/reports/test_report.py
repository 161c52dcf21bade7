"""The report: counts by hand, one file that needs nothing else, whatever the log is called."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from episode_logs import LENGTHS, episode_log
from torch import Tensor

from hindsight_rl.datamodules.relabeled import write_relabeled
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import ReturnWeight, ScaleReward
from hindsight_rl.reports import figures as figures
from hindsight_rl.reports import numbers as report_numbers
from hindsight_rl.reports.examples import chosen_episodes
from hindsight_rl.reports.figures import seriation
from hindsight_rl.reports.numbers import Numbers, Posterior, episode_rows, measure
from hindsight_rl.reports.page import task_labels, write_report
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching
from hindsight_rl.tasks.linear import LinearTasks

CORNERS = DiscreteTasks(GoalReaching(1.0, kind="dense"), [[0, 0], [2, 2]])


def line(task: Sequence[float] | None = None) -> Log:
    """Return two episodes on a line, at 1, 2, 3 and at 5, 5 after their steps; no rewards."""
    reached = torch.tensor([[1.0], [2.0], [3.0], [5.0], [5.0]])
    columns: dict[Any, Tensor] = {
        "observation": reached - 1,
        "action": torch.zeros(5, 1),
        ("next", "observation"): reached,
        ("next", "achieved_goal"): reached,
        ("next", "reward"): torch.zeros(5),
        ("next", "terminated"): torch.zeros(5, dtype=torch.bool),
        ("next", "truncated"): torch.tensor([False, False, True, False, True]),
        "episode": torch.tensor([0, 0, 0, 1, 1]),
    }
    if task is not None:
        columns["task"] = torch.tensor(task)[:, None]
    return Log.from_columns(columns, {"source": "line"})


def numbers_of(log: Log, folder: Path, *relabelers: Relabeler) -> tuple[Log, Numbers]:
    bound = write_relabeled(log, list(relabelers), folder / "log")
    written = Log.load(folder / "log")
    return written, measure(written, bound)


def page_of(log: Log, folder: Path, *relabelers: Relabeler) -> tuple[str, ET.Element]:
    """Return the report on a log as text and parsed."""
    bound = write_relabeled(log, list(relabelers), folder / "log")
    write_report(Log.load(folder / "log"), folder / "report.html", bound)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return text, ET.fromstring(text)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the drawings empty: they take most of the time."""
    monkeypatch.setattr("hindsight_rl.reports.page.to_svg", lambda figure, name: "<svg />")


def words(page: ET.Element) -> str:
    """Return the text of a page outside its drawings."""
    return re.sub(r"\s+", " ", " ".join(page.find("body").itertext()))  # type: ignore[union-attr]


# --- numbers --------------------------------------------------------------------------------------


def test_counts_by_hand(tmp_path: Path) -> None:
    """Goals 3, 3, 3 and 5, 5: successes at rows 2, 3 and 4; tasks 3, 3, 9, 5, 9 were another twice.

    Before, rewards were 0 and tasks never ended. After, rewards are -1, -1, 0 and 0, 0.
    """
    _, found = numbers_of(line([3, 3, 9, 5, 9]), tmp_path, FinalGoal(GoalReaching(0.1)))
    assert (found.rows, found.episodes) == (5, 2)
    assert found.moved == 2
    assert found.rewritten == 5  # 0 and 1: reward; 2: task, end; 3: end; 4: task, end
    assert found.before.counts == found.after.counts == (5, 2)
    assert found.before.successes == (0, 0) and found.after.successes == (3, 2)
    assert found.before.rewarded == (0, 0) and found.after.rewarded == (3, 2)
    assert found.useful() == ((0, 0), (3, 2)) and "reaches its task" in found.usefulness()
    assert found.before.returns.tolist() == [0, 0] and found.after.returns.tolist() == [-2, 0]
    assert found.effective_rows is None and found.posteriors == ()


def test_counts_are_the_same_span_by_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = episode_log(LENGTHS * 3, task=True, goals=True)
    parts = [TopFraction(0.6), ReturnWeight(), FutureGoal(GoalReaching(0.7), fraction=0.5)]
    written, whole = numbers_of(log, tmp_path, *parts)
    monkeypatch.setattr("hindsight_rl.logs.log.SPAN", 5)
    again = measure(written)
    for side in ("before", "after"):
        one, two = getattr(whole, side), getattr(again, side)
        assert torch.equal(one.returns, two.returns)
        assert (one.counts, one.successes, one.rewarded) == (
            two.counts,
            two.successes,
            two.rewarded,
        )
    assert (whole.moved, whole.rewritten) == (again.moved, again.rewritten)
    assert whole.effective_rows == pytest.approx(again.effective_rows)


def test_filters_count_on_the_side_after_only(tmp_path: Path) -> None:
    log = episode_log((3, 4, 5), reward=[1.0] * 3 + [5.0] * 4 + [0.0] * 5)
    _, found = numbers_of(log, tmp_path, TopFraction(0.34))
    assert found.before.counts == (12, 3) and found.after.counts == (4, 1)
    assert found.after.returns.tolist() == [20.0]
    assert found.before.rewarded == (7, 2) and found.after.rewarded == (0, 0)
    assert not found.has_task and found.moved is None and found.rewritten == 0


def test_effective_rows_by_hand(tmp_path: Path) -> None:
    """Weights in proportion 1 : 1 : 2: (4)**2 / 6."""
    log = episode_log((3,), reward=[0.0, 0.0, 0.0]).with_columns(
        {"weight": torch.tensor([1.0, 1.0, 2.0])}
    )
    _, found = numbers_of(log, tmp_path, ScaleReward())
    assert found.effective_rows == pytest.approx(16 / 6)


def test_posterior_by_hand() -> None:
    """Two sure trajectories of task 0, one torn between 1 and 2: shares 2/3, 1/6, 1/6."""
    found = Posterior(torch.tensor([[1.0, 0, 0], [1, 0, 0], [0, 0.5, 0.5]]), torch.zeros(3, 1))
    assert found.entropy == pytest.approx(0.693147 / 3, abs=1e-6)
    assert found.effective_tasks == pytest.approx(1 / (4 / 9 + 2 / 36))
    assert found.effective_trajectories.tolist() == pytest.approx([2, 1, 1])


def test_posterior_is_that_of_drawable_episodes(tmp_path: Path) -> None:
    log = episode_log(goals=True)
    inverse = InverseRL(GoalReaching(1.0, kind="dense"), candidates=4)
    _, found = numbers_of(log, tmp_path, TopFraction(0.5), inverse)
    (posterior,) = found.posteriors
    assert posterior.probability.shape == (3, 4) and posterior.tasks.shape == (4, 2)


def test_large_logs_are_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_numbers, "_SAMPLE", 10)
    _, found = numbers_of(episode_log(goals=True), tmp_path, FinalGoal())
    assert len(found.after.sample["task"]) == len(range(0, sum(LENGTHS), sum(LENGTHS) // 10))


def test_episode_rows_finds_every_episode(tmp_path: Path) -> None:
    log = episode_log()
    for number, length in enumerate(LENGTHS):
        rows = episode_rows(log, number)
        assert rows["episode"].tolist() == [number] * length
        assert rows["step"].tolist() == list(range(length))


def test_plain_log_has_no_report(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="was not relabeled.*hindsight relabel"):
        measure(episode_log())


# --- pictures -------------------------------------------------------------------------------------


def test_seriation_gathers_blocks() -> None:
    """Three blocks, rows and columns shuffled: each block's rows and columns come out adjacent."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.arange(3).repeat_interleave(4)
    table = (blocks[:, None] == blocks).double() + 0.02 * torch.rand(12, 12, generator=generator)
    mixed_rows, mixed = (torch.randperm(12, generator=generator) for _ in range(2))
    table = (table / table.sum(1, keepdim=True))[mixed_rows][:, mixed]
    rows, columns = seriation(table)
    for order, of in ((rows, blocks[mixed_rows]), (columns, blocks[mixed])):
        assert len(torch.unique_consecutive(of[order])) == 3


def test_seriation_of_one_task() -> None:
    rows, columns = seriation(torch.ones(3, 1, dtype=torch.float64))
    assert rows.tolist() == [0, 1, 2] and columns.tolist() == [0]


def test_examples_run_from_best_to_worst(tmp_path: Path) -> None:
    written, found = numbers_of(episode_log(goals=True), tmp_path, FinalGoal())
    returns = dict(enumerate(found.after.returns.tolist()))
    shown = [returns[episode] for episode in chosen_episodes(written, found)]
    assert shown == sorted(returns.values(), reverse=True)


# What is drawn of what kind of log: relabelers, and words of the drawings.
KINDS: dict[str, tuple[dict[str, bool], Relabeler, list[str]]] = {
    "places": (
        {"goals": True, "task": True},
        FutureGoal(GoalReaching(0.7), fraction=0.5),
        ["tasks before", "tasks after", "task before", "task now", "trajectory"],
    ),
    "places, none before": (
        {"goals": True},
        InverseRL(GoalReaching(0.7, kind="dense"), candidates=5),
        ["no task before; states reached", "probability", "before: all", "task now"],
    ),
    "discrete": (
        {"goals": True},
        InverseRL(CORNERS, tasks=[[1, 0], [0, 1]]),
        ["2 candidate tasks, ordered by the trajectories they share", "task now"],
    ),
    "goals with a margin": (
        {"goals": True},
        FinalGoal(GoalReaching((0.2, 0.9))),
        ["task[2]", "task now"],
    ),
    "weights": (
        {"goals": True},
        InverseRL(LinearTasks([-1, -1], [1, 1]), candidates=5),
        ["task now: task[0]", "task now: task[1]"],
    ),
    "returns": ({}, ReturnTask(), ["task now", "reward of a row"]),
    "no task": ({}, ScaleReward(2.0), ["reward before", "reward now"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_page_stands_alone_and_has_its_pictures(kind: str, tmp_path: Path) -> None:
    options, relabeler, told = KINDS[kind]
    log = episode_log(reward=[0.0] * sum(LENGTHS), **options)
    text, page = page_of(log, tmp_path, relabeler)
    assert not re.search(r"""(src|href|url)\s*[=(]\s*["']?\s*(https?:|//|file:)""", text)
    assert "<script" not in text and "@import" not in text and "<link" not in text
    names = [node.get("id") for node in page.iter() if node.get("id")]
    assert len(names) == len(set(names))
    pointed = re.findall(r"(?:href=\"#|url\(#)([^\")]+)", text)
    assert pointed and set(pointed) <= set(names)
    drawings = [node for node in page.iter() if node.tag.endswith("}svg")]
    assert len(drawings) == 2 + (kind != "no task") + ("Posterior over tasks" in text)
    assert all(len(list(node.iter())) > 50 and node.get("viewBox") for node in drawings)
    drawn = " ".join("".join(node.itertext()) for node in drawings)
    for phrase in told:
        assert phrase in drawn, phrase
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.usefixtures("undrawn")
def test_headline_numbers(tmp_path: Path) -> None:
    _, page = page_of(line([3, 3, 9, 5, 9]), tmp_path, FinalGoal(GoalReaching(0.1)))
    told = words(page)
    assert "5 rows in 2 episodes, relabeled by FinalGoal with seed 0" in told
    assert "useful episodes 0 % \N{RIGHTWARDS ARROW} 100 %" in told
    assert "rows with another task 40.0 %" in told
    assert "rows at which the task ends 0 (0 %) 3 (60.0 %)" in told
    assert "mean return of an episode 0 -1" in told
    assert line([3, 3, 9, 5, 9]).hash() in told
    assert "class_path: hindsight_rl.relabel.goals.FinalGoal" in told
    assert "task is kept as original.task" in told


@pytest.mark.usefixtures("undrawn")
def test_no_task_before_is_said(tmp_path: Path) -> None:
    _, page = page_of(line(), tmp_path, FinalGoal())
    assert "tasks before none the log had no task; all rows have one now" in words(page)
    assert "The log had no task before." in words(page)


@pytest.mark.usefixtures("undrawn")
def test_numbers_of_the_posterior_are_shown(tmp_path: Path) -> None:
    inverse = InverseRL(GoalReaching(1.0, kind="dense"), tasks=[[2.0], [5.0]], temperature=1e6)
    _, page = page_of(line(), tmp_path, inverse)
    told = words(page)
    assert "entropy of the posterior 0.69 nats of at most 0.69" in told
    assert "effective sample size 2.0 trajectories a task" in told
    assert "effective tasks 2.0 of 2" in told


@pytest.mark.usefixtures("undrawn")
def test_filter_and_weights_are_shown(tmp_path: Path) -> None:
    log = episode_log((3, 4, 5), reward=[1.0] * 3 + [5.0] * 4 + [0.0] * 5)
    _, page = page_of(log, tmp_path, TopFraction(0.34), ReturnWeight("linear", "episode"))
    told = words(page)
    assert "rows that may be drawn 33.3 % 4 of 12" in told
    assert "effective rows 4 of 4" in told
    assert "mean return 7.667 \N{RIGHTWARDS ARROW} 20 of an episode, rewards as logged" in told
    assert "The log has no task, before or after." in told


def test_equal_logs_give_equal_pages(tmp_path: Path) -> None:
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        texts.append(page_of(episode_log(), tmp_path / name, ScaleReward(2.0))[0])
    assert texts[0] == texts[1]


# --- what a log may be called ---------------------------------------------------------------------

NASTY = "</svg><script>alert('x')</script> & \"$^2_$\" \x07\ud83d\N{SNOWMAN}.npz"


def test_whatever_a_log_is_called_is_text(tmp_path: Path) -> None:
    names = {"task": [NASTY, "$\\frac{$"]}
    log = episode_log(goals=True)
    columns: dict[Any, Any] = {key: log.column(key) for key in log.keys()}
    log = Log.from_columns(
        columns, {"source": NASTY, "names": names, "units": {"task": ["<m>"] * 2}}
    )
    text, page = page_of(log, tmp_path, FinalGoal())
    assert "<script" not in text
    assert "<script>alert('x')</script>" in " ".join(page.itertext())
    labels = [node.text for node in page.iter() if node.tag.endswith("}text")]
    assert "$\\frac{$ [<m>]" in labels


@pytest.mark.parametrize(
    ("info", "labels"),
    [
        ({}, ["task[0]", "task[1]"]),
        ({"names": {"task": ["x", "y"]}, "units": {"task": ["m", ""]}}, ["x [m]", "y"]),
        ({"names": {"task": ["x"]}}, ["task[0]", "task[1]"]),
        ({"task_names": ["pick", "place"]}, ["pick", "place"]),
    ],
)
def test_labels_of_tasks(info: dict[str, Any], labels: list[str]) -> None:
    log = episode_log(task=True)
    columns: dict[Any, Any] = {key: log.column(key) for key in log.keys()}
    assert task_labels(Log.from_columns(columns, info), 2) == labels


def test_users_style_is_left_alone() -> None:
    with matplotlib.rc_context({"axes.titlesize": 33, "svg.fonttype": "path"}):
        with figures.drawing():
            figure = figures.new_figure(1.0)
            figure.add_subplot().set_title("words")
            text = figures.to_svg(figure, "one")
        assert matplotlib.rcParams["axes.titlesize"] == 33
    assert ">words</text>" in text and "33px" not in text


def test_many_trajectories_are_thinned() -> None:
    probability = torch.full((figures._MOST_TRAJECTORIES * 3 + 1, 2), 0.5)
    with figures.drawing():
        figure = figures.draw_posterior(Posterior(probability, torch.zeros(2, 1)))
        assert "trajectories, one in 4" in figures.to_svg(figure, "p")
