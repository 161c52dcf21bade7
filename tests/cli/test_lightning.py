"""``fit``, ``validate``, ``test``, ``predict``: from words to a run, a report or one line."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import torch
import yaml
from command_fits import EPISODES, LENGTH, cart_log, checkpoints, fit, fit_words, hindsight, refused


def settings(run: Path) -> dict[str, Any]:
    """Return the configuration a run was made with."""
    return yaml.safe_load((run / "config.yaml").read_text())


# ------------------------------------------------------------------ fit


def test_fit_from_a_packaged_configuration_to_a_run_folder(place: Path) -> None:
    done = fit("--run", "runs/a", "--trainer.log_every_n_steps", 10)
    assert done.code == 0, done.err
    run = place / "runs" / "a"
    assert {path.name for path in run.iterdir()} == {
        *(".lock", "config.yaml", "checkpoints", "metrics", "tensorboard")
    }
    assert checkpoints(run) == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}
    kept = settings(run)
    assert kept["model"]["class_path"] == "hindsight_rl.IQL"
    assert kept["model"]["init_args"]["expectile"] == 0.7
    assert kept["model"]["init_args"]["network"]["hidden"] == [8]
    assert kept["data"]["init_args"]["source"] == "log.npz"
    assert (kept["run"], kept["ckpt_path"]) == ("runs/a", None)
    report = dict(line.split(": ") for line in done.out.splitlines())
    assert (report["run"], report["updates"]) == ("runs/a", "60")
    assert all(np.isfinite(float(report[f"train/{name}"])) for name in ("value", "critic", "actor"))


def test_fit_on_text_with_a_map_for_success_and_log_probabilities(place: Path) -> None:
    """A file of text is a log by its name, and is not taken for settings."""
    made = foreign.columns()
    made |= {"action": np.arange(8) % 2, "won": np.arange(8) % 3 == 0, "logp": np.full(8, -0.7)}
    foreign.csv(place / "log.csv", made)
    data = {"columns": {"success": "won", "action_log_prob": "logp"}}
    data["relabel"] = [{"class_path": "ColumnLabel", "init_args": {"column": "success"}}]
    (place / "mine.yaml").write_text(yaml.safe_dump({"data": {"init_args": data}}))
    words = ("--config", "mine.yaml", "--model.ratio", "importance", "--model.behavior", "logged")
    done = fit(*words, "--run", "a", config="signed_bc", log="log.csv", updates=8)
    assert done.code == 0, done.err
    kept = settings(place / "a")["data"]["init_args"]
    assert kept["source"] == "log.csv" and kept["columns"]["action_log_prob"] == "logp"
    told = refused(fit(*words, "--data.columns.success", "wom", config="signed_bc", log="log.csv"))
    assert "log.csv, column 'wom': no such column. Did you mean 'won'?" in told


def test_an_environment_where_it_would_not_be_read_is_refused(place: Path) -> None:
    model = {"class_path": "BC", "init_args": {"env": "CartPole-v1"}}
    (place / "mine.yaml").write_text(yaml.safe_dump({"model": model}))
    told = refused(hindsight("fit", "--config", "mine.yaml", "--data.source", "log.npz"))
    assert "mine.yaml: model.init_args.env is not read: write 'env: CartPole-v1' at the top" in told


def test_metrics_count_updates(place: Path) -> None:
    """Chunks hold 8 updates and end early at checkpoints: a line per interval, at chunk ends."""
    assert fit("--run", "a", "--trainer.log_every_n_steps", 10).code == 0
    (path,) = (place / "a" / "metrics").rglob("metrics.csv")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/critic"]]
    steps = [int(row["step"]) for row in rows]
    assert len(steps) == 6 and steps == sorted(set(steps)) and steps[-1] == 60
    assert [step // 10 for step in steps] == [1, 2, 3, 4, 5, 6]
    assert all(np.isfinite(float(row["train/critic"])) for row in rows)


def test_the_configuration_of_a_run_repeats_it(place: Path) -> None:
    assert fit("--run", "a").code == 0
    assert hindsight("fit", "--config", "a/config.yaml", "--run", "b").code == 0
    ends = [torch.load(f"{name}/checkpoints/last.ckpt", weights_only=True) for name in "ab"]
    one, two = (end["state_dict"] for end in ends)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert fit("--run", "c", "--seed_everything", 1).code == 0
    other = torch.load("c/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_runs_are_numbered_and_named_after_their_learner(place: Path) -> None:
    for number in (1, 2):
        done = fit("--json", updates=5)
        assert json.loads(done.out)["run"] == f"runs/iql-00{number}"
    assert settings(place / "runs" / "iql-002")["run"] == "runs/iql-002"


def test_json_is_all_that_standard_output_holds(place: Path) -> None:
    report = json.loads(fit("--run", "a", "--json").out)
    assert (report["run"], report["updates"]) == ("a", 60)
    assert {"train/value", "train/critic", "train/actor"} <= report.keys()


def test_short_names_without_a_configuration(place: Path) -> None:
    words = ["--model", "BC", "--data", "OfflineDataModule"]
    rest = fit_words("--run", "a", updates=10)
    assert hindsight("fit", *words, *rest[3:]).code == 0
    kept = settings(place / "a")
    assert kept["model"]["class_path"] == "hindsight_rl.BC"
    assert kept["data"]["class_path"] == "hindsight_rl.OfflineDataModule"


@pytest.mark.parametrize(
    "words",
    [
        "--model.evaluation.env CartPole-v1",
        "--model.init_args.evaluation.env=CartPole-v1",
        "--model.env CartPole-v1",
        "--model.init_args.env=CartPole-v1",
    ],
)
def test_environment_of_the_learner_is_that_of_the_run(words: str, place: Path) -> None:
    assert fit("--run", "a", *words.split(), updates=5).code == 0
    assert settings(place / "a")["env"] == "CartPole-v1"


def test_configurations_merge_in_order_and_words_after_them_win(place: Path) -> None:
    one = {"model": {"init_args": {"expectile": 0.6, "inverse_temperature": 1.5}}}
    two = {"model": {"init_args": {"expectile": 0.8}}, "trainer": {"max_steps": 7}}
    Path("one.yaml").write_text(yaml.safe_dump(one))
    Path("two.yaml").write_text(yaml.safe_dump(two))
    first, _, *rest = fit_words("--run", "a")[1:]
    del rest[rest.index("--trainer.max_steps") :][:2]
    given = [first, "iql", first, "one.yaml", first, "two.yaml", *rest]
    done = hindsight("fit", *given, "--model.init_args.tau", 0.1, "--trainer.max_steps", 7)
    assert done.code == 0, done.err
    kept = settings(place / "a")["model"]["init_args"]
    assert (kept["expectile"], kept["inverse_temperature"], kept["tau"]) == (0.8, 1.5, 0.1)
    assert hindsight("fit", *given, "--run", "b", "--model.init_args.expectile", 0.9).code == 0
    assert settings(place / "b")["model"]["init_args"]["expectile"] == 0.9
    assert settings(place / "b")["model"]["init_args"]["discount"] == 0.99  # of the packaged file


def test_references_within_a_configuration(place: Path) -> None:
    text = "data: {init_args: {batch_size: 6, updates_per_step: '${data.init_args.batch_size}'}}"
    Path("more.yaml").write_text(text)
    words = fit_words(updates=6)
    for name in ("--data.batch_size", "--data.updates_per_step"):
        del words[words.index(name) : words.index(name) + 2]
    done = hindsight(*words[:3], "--config", "more.yaml", *words[3:], "--run", "a")
    assert done.code == 0, done.err
    kept = settings(place / "a")["data"]["init_args"]
    assert (kept["batch_size"], kept["updates_per_step"]) == (6, 6)


def test_print_config_shows_and_starts_nothing(place: Path) -> None:
    done = fit("--model.init_args.expectile", 0.9, "--print_config")
    shown = yaml.safe_load(done.out)
    assert done.code == 0 and shown["model"]["init_args"]["expectile"] == 0.9
    assert [path.name for path in place.iterdir()] == ["log.npz"]


def test_help_lists_the_options(place: Path) -> None:
    done = hindsight("fit", "--help")
    assert done.code == 0
    for option in ("--run RUN", "--env ENV", "--checkpoint_every", "--keep", "--trainer.max_steps"):
        assert option in done.out


def test_best_checkpoint_is_that_of_the_best_evaluation(finished: Path) -> None:
    (path,) = (finished / "metrics").rglob("metrics.csv")
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["eval/return"]]
    returns = {int(row["step"]): float(row["eval/return"]) for row in rows}
    assert list(returns) == [20, 40, 60]
    assert checkpoints(finished)["best.ckpt"] == max(returns, key=lambda step: returns[step])


# ------------------------------------------------------------------ test


@pytest.fixture
def alone(finished: Path, place: Path) -> Path:
    """A checkpoint without its run and its log."""
    Path("log.npz").unlink()
    return Path(shutil.copy(finished / "checkpoints" / "last.ckpt", place / "alone.ckpt"))


def test_test_needs_the_checkpoint_only(alone: Path) -> None:
    done = hindsight("test", "--ckpt_path", alone, "--json")
    report = json.loads(done.out)
    assert done.code == 0 and (report["env"], report["episodes"]) == ("CartPole-v1", 3)
    assert report["seed"] == 2_000_000 and len(report["returns"]) == 3
    assert [path.name for path in alone.parent.iterdir()] == [alone.name]


def test_test_cuts_episodes_where_it_is_told(alone: Path) -> None:
    for option in ("--max_steps", "--model.evaluation.max_steps", "--model.eval_max_steps"):
        done = hindsight("test", "--ckpt_path", alone, option, 3, "--json")
        assert done.code == 0 and json.loads(done.out)["returns"] == [3.0] * 3, done.err
    done = hindsight("test", "--ckpt_path", alone, "--max_steps", 0)
    assert done.code == 2 and "evaluation.max_steps is 0, it must be at least 1" in done.err


def test_test_never_reads_a_configuration_beside_a_checkpoint(alone: Path) -> None:
    folder = alone.parent / "run" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(alone, folder / "last.ckpt")
    trap = "raise SystemExit('this module must not be imported')"
    Path("trap.py").write_text(trap)
    (folder.parent / "config.yaml").write_text("model: {class_path: trap.Learner}\n")
    shutil.copy(folder.parent / "config.yaml", folder / "config.yaml")
    for words in (["--ckpt_path", folder / "last.ckpt"], ["--run", folder.parent]):
        done = hindsight("test", *words, "--json")
        assert done.code == 0 and json.loads(done.out)["episodes"] == 3, done.err


def test_test_of_a_run_takes_its_best_checkpoint(finished: Path, place: Path) -> None:
    by_run = json.loads(hindsight("test", "--run", finished, "--json").out)
    best = finished / "checkpoints" / "best.ckpt"
    assert json.loads(hindsight("test", "--ckpt_path", best, "--json").out) == by_run


def test_test_in_words(finished: Path, place: Path) -> None:
    lines = hindsight("test", "--run", finished).out.splitlines()
    assert lines[:2] == ["environment CartPole-v1", "episodes    3, seed 2000000"]


def test_test_overrides_what_the_checkpoint_says(alone: Path) -> None:
    done = hindsight("test", "--ckpt_path", alone, "--env", "CartPole-v0", "--json")
    report = json.loads(done.out)
    assert (report["env"], report["episodes"]) == ("CartPole-v0", 3)
    told = refused(hindsight("test", "--ckpt_path", alone, "--env", "Pendulum-v1"))
    assert "Pendulum-v1: observes [3], and the policy takes [4]." in told
    start = "--model.init_args.evaluation."
    words = (f"{start}test_episodes", 2, f"{start}test_seed", 5)
    done = hindsight("test", "--ckpt_path", alone, "--model", "IQL", *words, "--json")
    report = json.loads(done.out)
    assert (report["episodes"], report["seed"]) == (2, 5)


@pytest.mark.parametrize(
    "start",
    [
        "--model.evaluation.",
        "--model.init_args.evaluation.",
        "--model.",
        "--model.init_args.",
    ],
)
def test_test_needs_no_word_for_the_learner(start: str, alone: Path) -> None:
    words = (f"{start}test_episodes", 2, f"{start}env", "CartPole-v0")
    more = (f"{start}env_kwargs", '{"max_episode_steps": 4}')
    done = hindsight("test", "--ckpt_path", alone, *words, *more, "--json")
    report = json.loads(done.out)
    assert (report["env"], report["episodes"], report["seed"]) == ("CartPole-v0", 2, 2_000_000)
    assert report["length"] <= 4


def test_test_without_an_environment(place: Path) -> None:
    assert fit("--run", "a", updates=5).code == 0
    assert "no environment to run episodes in: give --env ID" in refused(
        hindsight("test", "--run", "a")
    )
    assert hindsight("test", "--run", "a", "--env", "CartPole-v1").code == 0


def test_a_checkpoint_that_is_none(alone: Path) -> None:
    alone.write_bytes(alone.read_bytes()[:1000])
    told = refused(hindsight("test", "--ckpt_path", alone))
    assert "not a readable Hindsight checkpoint" in told and "None beside it is good" in told


# ------------------------------------------------------------------ validate and predict


def test_validate_prints_held_out_numbers(finished: Path, place: Path) -> None:
    done = hindsight("validate", "--run", finished, "--json")
    report = json.loads(done.out)
    assert done.code == 0 and {"value", "critic", "actor", "action_error"} <= {
        name.removeprefix("validation/") for name in report
    }
    assert 0 <= report["validation/action_error"] <= 1
    lines = hindsight("validate", "--run", finished).out.splitlines()
    assert dict(line.split(": ") for line in lines) == {k: str(v) for k, v in report.items()}


def test_validate_refuses_without_held_out_episodes(finished: Path, place: Path) -> None:
    done = hindsight("validate", "--run", finished, "--data.validation", 0)
    assert "no episode is held out: fit and validate with data.validation above 0" in refused(done)


def test_predict_writes_actions_beside_the_logged_ones(finished: Path, place: Path) -> None:
    run = Path(shutil.copytree(finished, place / "run"))
    done = hindsight("predict", "--run", run)
    target = run / "checkpoints" / "predictions.npz"
    assert done.code == 0 and done.err == f"wrote {target}\n" and done.out == ""
    with np.load(finished.parent / "log.npz") as log, np.load(target) as found:
        assert set(found) == {"index", "episode", "action", "logged_action"}
        np.testing.assert_array_equal(found["index"], np.arange(EPISODES * LENGTH))
        np.testing.assert_array_equal(found["logged_action"], log["actions"])
        assert set(found["action"]) <= {0, 1}


def test_predict_on_another_log(finished: Path, place: Path) -> None:
    run = Path(shutil.copytree(finished, place / "run"))
    draw = np.random.default_rng(9)
    actions = draw.integers(0, 2, EPISODES * LENGTH)
    cart_log(place / "other.npz", actions=actions)
    done = hindsight("predict", "--run", run, "--data.source", "other.npz")
    assert done.code == 0, done.err
    with np.load(run / "checkpoints" / "predictions.npz") as found:
        np.testing.assert_array_equal(found["logged_action"], actions)
