"""``fit`` that collects its own experience: configuration, metrics, resuming and testing."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from command_fits import Ended, cart_log, hindsight, refused
from fit_process import differences

REACH = "tiny_envs:Tiny/Reach-v0"
SETTINGS = f"""
env: ${{data.init_args.env}}
model:
  class_path: BC
  init_args:
    hidden: [8]
    evaluation: {{every: 40, episodes: 2, test_episodes: 3}}
    compile: "off"
data:
  class_path: IteratedDataModule
  init_args:
    env: {REACH}
    relabel: [{{class_path: FutureGoal}}]
    collection: {{initial_episodes: 4, episodes_per_round: 3}}
    batch_size: 8
    updates_per_step: 8
trainer: {{max_steps: 60, accelerator: cpu}}
checkpoint_every: 25
"""
COMMAND = """
import torch
import yaml

from hindsight_rl.ports import LogView


class Return:
    '''A desired return, lowered by what was earned.'''

    def __init__(self, initial: list[float] = [1.0]) -> None:
        self.initial = initial

    def start(self, log: LogView, draws: torch.Tensor) -> torch.Tensor:
        return torch.full((len(draws), 1), 2.0)

    def step(self, task: torch.Tensor, reward: torch.Tensor) -> torch.Tensor:
        return task - reward[:, None]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty but for a configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reach.yaml").write_text(SETTINGS)
    return tmp_path


def fit(*words: object) -> Ended:
    """Run the configuration."""
    return hindsight("fit", "--config", "reach.yaml", *words)


def test_fit_collects_and_test_needs_no_data(place: Path) -> None:
    done = fit("--run", "a", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    assert report["collect/env_steps"] >= 60 > report["collect/episodes"] > 4
    assert {"collect/return", "collect/success", "eval/success"} <= report.keys()
    (path,) = (place / "a" / "metrics").rglob("metrics.csv")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("collect/env_steps")]
    state = torch.load(place / "a/checkpoints/last.ckpt", weights_only=True)["IteratedDataModule"]
    assert [int(row["step"]) for row in rows] == [each["update"] for each in state["history"]]
    tested = hindsight("test", "--run", "a", "--json")
    report = json.loads(tested.out)
    assert (report["env"], report["episodes"], report["seed"]) == (REACH, 3, 2_000_000)


@pytest.mark.parametrize("where", ["null", "replay"])
def test_a_run_goes_on_as_if_it_had_not_stopped(where: str, place: Path) -> None:
    words = ("--data.memory_map", where)
    assert fit("--run", "a", *words).code == 0
    if where != "null":
        (place / where).rename(place / "of_a")
    assert fit("--run", "b", *words, "--trainer.max_steps", 30).code == 0
    done = hindsight("fit", "--run", "b", "--resume", "--trainer.max_steps", 60)
    assert done.code == 0, done.err
    paths = [place / name / "checkpoints" / "last.ckpt" for name in "ab"]
    one, two = (torch.load(path, weights_only=True) for path in paths)
    for key in ("state_dict", "optimizer_states", "global_step"):
        assert differences(one[key], two[key], key) == []
    assert one["IteratedDataModule"]["history"] == two["IteratedDataModule"]["history"]
    if where != "null":
        told = refused(fit("--run", "c", *words))
        assert "replay: holds the replay of another run. Resume that run, choose another" in told


def test_a_command_is_a_class_of_ones_own(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "my_command.py").write_text(COMMAND)
    monkeypatch.syspath_prepend(place)
    words = ("--env", "tiny_envs:Tiny/Walk-v0", "--data.env", "tiny_envs:Tiny/Walk-v0")
    more = ("--data.relabel", "[]", "--model.evaluation.task", "[1.0]")
    done = fit("--run", "a", *words, *more, "--data.collection.command", "my_command.Return")
    assert done.code == 0, done.err
    told = refused(fit("--run", "b", "--data.command", "my_command.Return"))
    assert f"{REACH}: gives tasks of its own, so leave out command" in told


def test_an_error_says_how_to_annotate_a_command(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = re.sub(r": (LogView|torch.Tensor)\b|(?<=\)) -> [\w.]+", "", COMMAND)
    assert plain != COMMAND
    (place / "plain_command.py").write_text(plain)
    monkeypatch.syspath_prepend(place)
    told = refused(fit("--run", "a", "--data.collection.command", "plain_command.Return"))
    assert "does not implement protocol Command. Annotate its methods exactly so" in told
    assert "'def start(self, log: LogView, draws: Tensor) -> Tensor'" in told
    assert "'def step(self, task: Tensor, reward: Tensor) -> Tensor'" in told
    assert "LogView is in hindsight_rl.ports" in told


def test_a_run_of_a_former_layout_goes_on(place: Path) -> None:
    own = place / "former.yaml"
    flat = "initial_episodes: 4\n    episodes_per_round: 3\n    command: null\n    num_envs: 2"
    today = "collection: {initial_episodes: 4, episodes_per_round: 3}"
    own.write_text((place / "reach.yaml").read_text().replace(today, flat))
    assert flat in own.read_text()
    words = ("fit", "--config", own, "--run", "a", "--data.explore", 0.5)
    assert hindsight(*words, "--trainer.max_steps", 30).code == 0
    saved = yaml.safe_load((place / "a" / "config.yaml").read_text())["data"]["init_args"]
    named = ("initial_episodes", "episodes_per_round", "num_envs", "explore")
    assert [saved["collection"][name] for name in named] == [4, 3, 2, 0.5]
    # As a release wrote it that had them flat.
    run = yaml.safe_load((place / "a" / "config.yaml").read_text())
    run["data"]["init_args"] |= run["data"]["init_args"].pop("collection")
    (place / "a" / "config.yaml").write_text(yaml.safe_dump(run))
    done = hindsight("fit", "--run", "a", "--resume", "--trainer.max_steps", 60)
    assert done.code == 0, done.err


def test_mistakes_are_one_line(place: Path) -> None:
    assert "Nowhere-v1: no such environment" in refused(fit("--data.env", "Nowhere-v1"))
    assert "does not fit a capacity of 3 rows" in refused(fit("--data.capacity", 3))
    told = refused(fit("--model.seeds", 2))
    assert "model.seeds is 2, but each seed would need experience of its own" in told


def test_a_log_for_another_environment_is_refused_where_episodes_are_collected(place: Path) -> None:
    cart_log(place / "log.npz")
    told = refused(hindsight("fit", "--config", "gcsl", "--data.source", "log.npz"))
    assert "'observation' has shape [4], that of Hindsight/FourRooms-v0 [2]. Set data.env" in told
    assert "one for logs (bc, iql, sac) reads it alone" in told
    told = refused(hindsight("fit", "--config", "sac_online"))
    assert "it must be at least 1, or 0 with a source (give --data.source LOG)" in told


def test_fine_tuning_is_two_commands(place: Path) -> None:
    words = ("--root", place, "--output", "swing-v0", "--episodes", 2)
    assert hindsight("collect", "--env", "Pendulum-v1", *words).code == 0
    small = (
        "--data.source",
        "swing-v0",
        "--model.network.hidden",
        "[8]",
        "--trainer.accelerator",
        "cpu",
    )
    small += ("--data.batch_size", 8, "--model.compile", "off", "--json")
    first = hindsight("fit", "--config", "iql", *small, "--run", "a", "--trainer.max_steps", 50)
    assert first.code == 0, first.err
    start = ("--model.weights_from", "a/checkpoints/last.ckpt", "--model.evaluation.every", 0)
    more = ("--config", "iql_online", *small, *start, "--trainer.max_steps", 210)
    second = hindsight("fit", *more, "--run", "b")
    assert second.code == 0, second.err
    report = json.loads(second.out)
    assert (report["updates"], report["collect/env_steps"]) == (210, 400)
    told = refused(hindsight("fit", *more, "--run", "c", "--model.network.hidden", "[9]"))
    assert "a/checkpoints/last.ckpt: its networks are others" in told and not Path("c").exists()
    # What the run goes on with, and what is tested, does not need the first checkpoint's counters.
    done = hindsight("fit", "--run", "b", "--resume", "--trainer.max_steps", 230, "--json")
    assert done.code == 0 and json.loads(done.out)["updates"] == 230, done.err
    (place / "a/checkpoints/last.ckpt").unlink()
    tested = hindsight("test", "--run", "b", "--model.evaluation.test_episodes", 1)
    assert tested.code == 0, tested.err


def test_a_log_with_a_share_of_every_batch(place: Path) -> None:
    words = ("--root", place, "--output", "swing-v0", "--episodes", 2)
    assert hindsight("collect", "--env", "Pendulum-v1", *words).code == 0
    small = (
        "--config",
        "iql_online",
        "--model.network.hidden",
        "[8]",
        "--trainer.accelerator",
        "cpu",
    )
    small += ("--data.batch_size", 8, "--model.compile", "off", "--model.eval_every", 0, "--json")
    mix = ("--data.mix", '{"log": 0.5, "collected": 0.5}')
    told = refused(
        hindsight("fit", *small, *mix, "--data.collection.initial_episodes", 1, "--run", "a")
    )
    assert "mix names 'log', and rows come from 'collected' here: give --data.source LOG" in told
    log = ("--data.source", "swing-v0")
    wrong = ("--data.mix", '{"log": 0.5, "collected": 0.4}')
    told = refused(hindsight("fit", *small, *log, *wrong, "--run", "a"))
    assert "the shares of mix sum to 0.9, they must sum to 1" in told
    done = hindsight("fit", *small, *log, *mix, "--trainer.max_steps", 210, "--run", "a")
    assert done.code == 0, done.err
    assert json.loads(done.out)["collect/env_steps"] == 400
    state = torch.load("a/checkpoints/last.ckpt", weights_only=True)["IteratedDataModule"]
    lengths = {origin: held["lengths"].tolist() for origin, held in state["replay"].items()}
    assert lengths == {"log": [200, 200], "collected": [200, 200]}
    done = hindsight("fit", "--run", "a", "--resume", "--trainer.max_steps", 230, "--json")
    assert done.code == 0 and json.loads(done.out)["updates"] == 230, done.err
    other = hindsight("fit", "--run", "a", "--resume", "--data.mix", "null")
    assert other.code == 2 and "with mix {'log': 0.5, 'collected': 0.5}, and this is" in other.err


EXPERT = """
env: tiny_envs:Tiny/Drift-v0
model: {class_path: BC, init_args: {hidden: [8], compile: "off"}}
data:
  class_path: IteratedDataModule
  init_args:
    env: ${env}
    relabel: [{class_path: ExpertAction}]
    collection:
      initial_episodes: 4
      episodes_per_round: 3
      sample: false
      expert: {act: "tiny_envs:Counting", beta: {power: 0.5}, max_queries: 100}
    batch_size: 8
    updates_per_step: 8
trainer: {max_steps: 120, accelerator: cpu}
checkpoint_every: 25
"""


def test_an_expert_corrects_and_a_run_with_it_goes_on(place: Path) -> None:
    (place / "expert.yaml").write_text(EXPERT)
    done = hindsight("fit", "--config", "expert.yaml", "--run", "a", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["collect/queries"] == 100
    words = ("fit", "--config", "expert.yaml", "--run", "b")
    assert hindsight(*words, "--trainer.max_steps", 60).code == 0
    more = hindsight("fit", "--run", "b", "--resume", "--trainer.max_steps", 120)
    assert more.code == 0, more.err
    paths = [place / name / "checkpoints" / "last.ckpt" for name in "ab"]
    one, two = (torch.load(path, weights_only=True) for path in paths)
    for key in ("state_dict", "optimizer_states", "global_step"):
        assert differences(one[key], two[key], key) == []
    states = [each["IteratedDataModule"] for each in (one, two)]
    assert states[0]["history"] == states[1]["history"]
    assert states[0]["expert"] == states[1]["expert"] == {"count": 100}


def test_mistakes_about_experts_are_one_line(place: Path) -> None:
    (place / "expert.yaml").write_text(EXPERT)

    def told(*words: object) -> str:
        return refused(hindsight("fit", "--config", "expert.yaml", *words))

    expert = "--data.collection.expert"
    assert "expert gone.onnx: no such file" in told(f"{expert}.act", "gone.onnx")
    assert "beta.power is 2.0, it must lie in" in told(f"{expert}.beta.power", 2)
    walk = ("--env", "tiny_envs:Tiny/Walk-v0", f"{expert}.act", "environment")
    assert "Walk-v0: names no expert (metadata['expert']" in told(*walk)
    assert "IQL reads 'next." in told("--model", "IQL")
