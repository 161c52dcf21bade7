"""``hindsight run``: a hand-made CartPole policy, exported, then run from its file."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from specs import changed
from stand_ins import StandIn
from torch import Tensor

from hindsight_rl.cli.run import act_time, main
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy


class Balance(StandIn):
    """Pushes to the side the pole falls to, looking ``task[0]`` seconds ahead."""

    def __init__(self, *, task: bool = False) -> None:
        super().__init__(discrete=True, task=task)
        self.spec = changed(self.spec, action={"n": 2, "names": ["left", "right"]})
        if task:
            self.spec = changed(self.spec, task={"default": [0.0, 0.0]})

    def scores(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return ``[N, 2]``."""
        ahead = 0.3 if task is None else task[:, 0]
        lean = observation[:, 2] + ahead * observation[:, 3]
        return torch.stack([-lean, lean], dim=-1)


@pytest.fixture(scope="module")
def balance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a policy that balances."""
    path = tmp_path_factory.mktemp("balance") / "policy.onnx"
    export_policy(Balance(), path, opset=17)
    return path


@pytest.fixture(scope="module")
def told_to_look_ahead(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a policy that balances if its task tells it to look ahead."""
    path = tmp_path_factory.mktemp("balance") / "policy.onnx"
    export_policy(Balance(task=True), path, opset=17)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    """Return what ``--json`` prints."""
    assert main([str(word) for word in (*words, "--json")]) == 0
    return json.loads(capsys.readouterr().out)


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line of an error."""
    assert main([str(word) for word in words]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def test_json_report(balance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = run(capsys, balance, "--env", "CartPole-v1", "--episodes", 5, "--seed", 3)
    assert report["returns"] == [500.0] * 5 and report["return_iqm"] == 500.0
    assert report["learner"] == "Balance" and report["env"] == "CartPole-v1"
    assert (report["episodes"], report["seed"], report["threads"]) == (5, 3, 1)
    assert 0.0 < report["act_us_median"] <= report["act_us_p99"]


def test_file_and_torch_score_the_same(balance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learner = Balance().eval()

    def act(observation: np.ndarray) -> np.ndarray:
        return learner(torch.from_numpy(observation)).numpy()

    options = ("--max_steps", 300, "--env_kwargs", '{"sutton_barto_reward": true}')
    report = run(capsys, balance, "--env", "CartPole-v1", "--episodes", 8, *options)
    done = rollout(
        act,
        "CartPole-v1",
        episodes=8,
        seed=0,
        max_steps=300,
        env_kwargs={"sutton_barto_reward": True},
    )
    assert report["returns"] == done.returns.tolist() and report["length"] == 300.0


def test_two_files_in_the_same_episodes(
    balance: Path, told_to_look_ahead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against itself there is nothing between them; without looking ahead the pole falls."""
    words = (balance, "--env", "CartPole-v1", "--episodes", 4, "--seed", 1)
    against = run(capsys, *words, "--against", balance)["against"]
    assert against["policy"] == str(balance) and "success" not in against
    assert against["return"] == {
        "difference": 0.0,
        "low": 0.0,
        "high": 0.0,
        "better": 0,
        "worse": 0,
    }
    better = run(capsys, *words, "--against", told_to_look_ahead)
    alone = run(capsys, told_to_look_ahead, *words[1:])
    gap = np.subtract(better["returns"], alone["returns"])
    assert better["against"]["return"]["difference"] == gap.mean() > 100.0
    assert better["against"]["return"]["better"] == 4
    assert main([str(word) for word in (*words, "--against", told_to_look_ahead)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2] == f"against     {told_to_look_ahead}"
    assert re.fullmatch(
        r"return      \+\d+\.\d\d \[[+-]\d+\.\d\d, \+\d+\.\d\d\] \(95 % interval of the paired "
        r"difference\); better in 4 episodes, worse in 0",
        lines[-1],
    )
    assert "no such file" in fail(capsys, *words, "--against", "absent.onnx").lower()


def test_options_may_be_written_with_dashes(
    balance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--max-steps=7", "--num-envs", 1, "--env-kwargs", '{"sutton_barto_reward": false}')
    report = run(capsys, balance, "--env", "CartPole-v1", "--episodes", 2, *words)
    assert report["returns"] == [7.0, 7.0]


def test_help_spells_options_as_every_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert {"--env_kwargs", "--max_steps", "--num_envs"} <= set(shown.split())
    assert not re.search(r"--[a-z]+-[a-z]", shown)


def test_a_task_without_a_default_must_be_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = Balance(task=True)
    policy.spec = changed(policy.spec, task={"default": None})
    export_policy(policy, tmp_path / "policy.onnx", opset=17)
    told = fail(capsys, tmp_path / "policy.onnx", "--env", "CartPole-v1")
    assert told == (
        "error: this policy takes a task [2] and has no default: give one, act(observation, task), "
        "or --task on the command line\n"
    )


def test_report_in_words(balance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(balance), "--env", "CartPole-v1", "--episodes", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"policy      {balance} (Balance)"
    assert lines[3].startswith("return      500.00 +- 0.00")
    assert lines[-1].startswith("act         median ")
    assert lines[-1].endswith("(1 thread, one row at a time; a step at 50 Hz has 20,000 us)")


def test_task(told_to_look_ahead: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (told_to_look_ahead, "--env", "CartPole-v1", "--episodes", 4)
    by_default = run(capsys, *words)
    ahead = run(capsys, *words, "--task", 0.3, 0)
    assert by_default["return"] < 100.0 and ahead["return"] == 500.0


def test_a_command_is_lowered(
    told_to_look_ahead: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CartPole pays 1 a step: the second step is told -0.7, and looks back."""
    words = ("--env", "CartPole-v1", "--episodes", 4)
    lowered = run(capsys, told_to_look_ahead, *words, "--task", 0.3, 9, "--lower")
    assert lowered["return"] < 100.0
    default = run(capsys, told_to_look_ahead, *words, "--lower")
    assert (
        default["return"]
        == run(capsys, told_to_look_ahead, *words, "--task", 0, 0, "--lower")["return"]
    )
    policy = Balance(task=True)
    policy.spec = changed(policy.spec, task={"default": None})
    export_policy(policy, tmp_path / "policy.onnx", opset=17)
    told = fail(capsys, tmp_path / "policy.onnx", "--env", "CartPole-v1", "--lower")
    assert told == "error: --lower: give the command that is lowered, --task\n"


def test_only_a_task_is_lowered(balance: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--lower",), ("--task", 1)):
        told = fail(capsys, balance, "--env", "CartPole-v1", *option)
        assert told == f"error: {option[0]}: this policy takes no task\n"


def test_video(balance: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pygame")
    film = tmp_path / "films" / "pole.gif"
    words = (balance, "--env", "CartPole-v1", "--episodes", 2, "--max_steps", 5, "--num_envs", 1)
    run(capsys, *words, "--video", film)
    assert list(film.parent.iterdir()) == [film]
    with Image.open(film) as image:
        shown = [frame.info["duration"] for frame in ImageSequence.Iterator(image)]
        assert image.size == (600, 400)
    # Frames that look alike are joined; together they last 6 times CartPole's 20 ms.
    assert len(shown) > 1 and sum(shown) == 120


def test_time_of_act_is_measured_with_and_without_task(told_to_look_ahead: Path) -> None:
    policy = OnnxPolicy(told_to_look_ahead)
    for task in (None, [0.3, 0.0]):
        assert 0.0 < act_time(policy, task)["act_us_median"] < 10_000.0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--env", "NoSuch-v0"], "error: NoSuch-v0: no such environment"),
        (["--env", "Pendulum-v1"], "error: Pendulum-v1: observes [3], and the policy takes [4]"),
        (["--env", "CartPole-v1", "--episodes", "0"], "error: episodes is 0"),
        (["--env", "CartPole-v1", "--seed", "-1"], "error: seed is -1"),
        (["--env", "CartPole-v1", "--threads", "0"], "error: threads is 0"),
        (["--env", "CartPole-v1", "--task", "1"], "error: --task: this policy takes no task"),
        (["--env", "CartPole-v1", "--video", "a.mp4"], "error: --video a.mp4: only GIF files"),
        (
            ["--env", "CartPole-v1", "--env_kwargs", '{"g": 1}'],
            "does not take its arguments {'g': 1}",
        ),
    ],
)
def test_mistakes(
    words: list[str], told: str, balance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in fail(capsys, balance, *words)


def test_a_task_of_the_wrong_length(
    told_to_look_ahead: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = fail(capsys, told_to_look_ahead, "--env", "CartPole-v1", "--task", 1)
    assert told == "error: --task: 1 numbers given, and the task is [2]\n"


def test_a_missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, tmp_path / "none.onnx", "--env", "CartPole-v1")
    assert told.endswith(
        "none.onnx: no such file. Give the ONNX file that 'hindsight export' wrote.\n"
    )


def test_video_without_pillow(
    balance: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
    told = fail(capsys, balance, "--env", "CartPole-v1", "--video", "pole.gif")
    assert told == "error: --video needs pillow: pip install pillow\n"


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_environment_arguments_that_are_no_object(
    text: str, balance: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([str(balance), "--env", "CartPole-v1", "--env_kwargs", text])
    assert stop.value.code == 2
    assert "argument --env_kwargs: not " in capsys.readouterr().err
