"""``hindsight inspect``: what it prints, its exit codes, its picture."""

import json
import subprocess
import sys
from pathlib import Path

import foreign_logs as foreign
import numpy as np
import pytest
from PIL import Image

from hindsight_rl.cli.inspect import main

BOUNDED = "action_low: -1.0\naction_high: 1.0\ncontrol_rate_hz: 4\n"


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(foreign.npz(tmp_path / "log.npz", foreign.columns()))


def test_text(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "map.yaml").write_text(BOUNDED)
    assert main([log, "--columns", str(tmp_path / "map.yaml")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"{log}  (npz)"
    assert shown[2:7] == [
        "transitions   8",
        "episodes      3",
        "ends          2 terminated, 1 truncated",
        "actions       2 real numbers in [-1, 1]",
        "control rate  4 Hz, 2 s in all",
    ]
    table = [line.split() for line in shown]
    assert ["return", "9.33", "6.18", "4.00", "5.00", "6.00", "12.00", "18.00"] in table
    assert ["observation[0]", "0", "202", "88.62", "92.46"] in table
    bound = [line for line in shown if line.startswith("action[1]")]
    assert bound[0].endswith("12.5 % at the high bound")
    assert all(line == line.rstrip() and "\x1b" not in line for line in shown)


def test_a_map_that_is_written_out(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As `fit` takes it; one action is bounded above, the other on both sides."""
    given = "{action_low: [-.inf, -1e0], action_high: 1, names: {action: [left, right]}}"
    assert main([log, "--columns", given]) == 0
    shown = capsys.readouterr().out
    assert "2 real numbers in [per dimension, 1]" in shown
    assert "% at the lowest value" in next(row for row in shown.splitlines() if "left" in row)
    assert "clipped to what is" in shown and "No action bounds" not in shown
    assert main([log, "--columns", "{actoin: action}"]) == 2
    assert "no field 'actoin'. Did you mean 'action'?" in capsys.readouterr().err


def test_json(log: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([log, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["episodes"] == 3 and shown["returns"]["median"] == 6
    assert [column["name"] for column in shown["columns"]][:2] == [
        "observation[0]",
        "observation[1]",
    ]


def test_discrete_actions_and_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = foreign.columns() | {"action": np.array([0, 1, 0, 1, 1, 0, 1, 1])}
    (tmp_path / "map.yaml").write_text(
        "names: {observation: [x, v]}\nunits: {observation: [m, m/s]}\n"
    )
    path = foreign.npz(tmp_path / "log.npz", values)
    assert main([str(path), "--columns", str(tmp_path / "map.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "one of 2 (0: 37.5 %, 1: 62.5 %)" in shown
    assert "\nobservation\n  x [m]" in shown and "\n  v [m/s]" in shown


def test_every_problem_is_shown_and_the_code_is_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = foreign.columns()
    values["observation"][2, 1] = np.nan
    values["reward"][3] = np.inf
    path = foreign.npz(tmp_path / "log.npz", values)
    assert main([str(path)]) == 1
    shown = capsys.readouterr().out
    assert "1 NaN or infinite" in shown
    assert "column 'observation', row 2: NaN" in shown and "column 'reward', row 3: inf" in shown
    assert shown.endswith("2 problems: fit would stop here.\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["none.npz"], "error: none.npz: no such file"),
        (["{log}", "--columns", "rllib"], "error: there is no packaged column map 'rllib'"),
        (["{log}", "--plot", "log.docx"], "a plot cannot be a '.docx' file. Name a .png file."),
    ],
)
def test_mistakes(
    words: list[str], told: str, log: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(log=log) for word in words]) == 2
    shown = capsys.readouterr()
    assert told in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_plot_of_actions_bounded_on_one_side(log: str, tmp_path: Path) -> None:
    columns = "{action_low: [null, -1], action_high: [1, .inf]}"
    assert main([log, "--columns", columns, "--plot", str(tmp_path / "log.png")]) == 0
    assert (tmp_path / "log.png").stat().st_size > 1000


def test_plot(log: str, tmp_path: Path) -> None:
    assert main([log, "--plot", str(tmp_path / "log.png")]) == 0
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


def test_help_imports_neither_torch_nor_numpy() -> None:
    script = (
        "import sys; from hindsight_rl.cli.inspect import main\n"
        "try:\n    main(['--help'])\n"
        "except SystemExit:\n    print({'torch', 'numpy', 'matplotlib'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_a_real_log(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(data / "rllib_cartpole"), "--columns", "rllib_cartpole"]) == 0
    shown = capsys.readouterr().out
    assert "transitions   4,137" in shown and "1 terminated, 20 truncated" in shown
    assert ["return", "197.0", "13.4", "137.0"] in [line.split()[:4] for line in shown.splitlines()]


def test_frames_of_some_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three episodes of two cameras: nine frames each, in the order of the rows."""
    side, whole = np.arange(8, dtype=np.uint8), np.arange(11, dtype=np.uint8)
    frames = np.broadcast_to(20 * side[:, None, None, None], (8, 8, 8, 3))
    more = np.broadcast_to(20 * whole[:, None, None], (11, 8, 8))
    path = foreign.npz(tmp_path / "log.npz", foreign.columns() | {"front": frames, "top": more})
    sheet = tmp_path / "sheet.png"
    assert main([str(path), "--columns", "{image: [front, top]}", "--frames", str(sheet)]) == 0
    with Image.open(sheet) as picture:
        assert picture.size == (6 * 166 + 6, 16 + 3 * (160 + 22) + 6)
        seen = [
            [picture.getpixel((6 + 166 * place + 80, 32 + 182 * line + 80)) for place in range(6)]
            for line in range(3)
        ]
    rows = [[0, 1, 3], [4, 4, 4], [5, 6, 7]]
    wanted = [
        [(20 * row,) * 3 for row in line] + [(20 * (row + episode),) * 3 for row in line]
        for episode, line in enumerate(rows)
    ]
    assert seen == wanted
    capsys.readouterr()
    assert main([str(path), "--frames", str(sheet)]) == 2
    assert "no images that could be shown. Name its cameras" in capsys.readouterr().err
    assert main([str(path), "--columns", "{image: top}", "--frames", str(tmp_path / "a.txt")]) == 2
    assert "a picture cannot be a '.txt' file" in capsys.readouterr().err


# --- the reward as a task -------------------------------------------------------------------------


def labelled(path: Path, reward: list[float]) -> str:
    """Write four steps, cut at their end, that lead to points."""
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], np.float32)
    np.savez(
        path,
        observations=points[:-1],
        next_observations=points[1:],
        achieved_goal=points[:-1],
        next_achieved_goal=points[1:],
        actions=np.array([[0.1], [0.2], [0.3], [0.4]], np.float32),
        rewards=np.array(reward, np.float32),
        terminals=np.zeros(4, bool),
        timeouts=np.array([0, 0, 0, 1], bool),
    )
    return str(path)


def test_reward_is_named_as_weights_of_features(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reward is 3 x - y + 1."""
    log = labelled(tmp_path / "log.npz", [4.0, 0.0, 3.0, 6.0])
    assert main([log, "--reward_of", "next.achieved_goal"]) == 0
    shown = capsys.readouterr().out.splitlines()[-1]
    assert shown == "task  [3, -1] of next.achieved_goal, explains 100% (R^2)"
    assert main([log, "--reward_of", "next.achieved_goal", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["reward_of"]
    assert found["task"] == pytest.approx([3.0, -1.0], abs=1e-4)
    assert found["constant"] == pytest.approx(1.0, abs=1e-4)


def test_a_reward_that_the_features_do_not_explain_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = labelled(tmp_path / "log.npz", [0.0, 1.0, -2.0, 1.0])
    assert main([log, "--reward_of", "next.achieved_goal"]) == 0
    assert "(R^2): too little" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("features", "reward", "message"),
    [
        ("next.goal", [1.0, 2.0, 3.0, 4.0], "is no column of features"),
        ("next.achieved_goal", [1.0] * 4, "all 4 labelled rewards are equal"),
    ],
)
def test_what_names_no_task_is_an_error(
    features: str,
    reward: list[float],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([labelled(tmp_path / "log.npz", reward), "--reward_of", features]) == 2
    assert message in capsys.readouterr().err
