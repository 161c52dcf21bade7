"""``fit``, ``validate``, ``test``, ``predict``: from words to a run, a report or one line."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_fits import EPISODES, LENGTH, Ended, cart_log, checkpoints, fit, fit_words, hindsight


def refused(ended: Ended, code: int = 2) -> str:
    """Return what is told of a mistake: one line, nothing else, no traceback."""
    assert ended.code == code and ended.out == "", ended
    assert "Traceback" not in ended.err
    assert ended.err.count("\n") == 1 and ended.err.startswith("error: "), ended.err
    return ended.err


def settings(run: Path) -> dict[str, Any]:
    """Return the configuration a run was made with."""
    return yaml.safe_load((run / "config.yaml").read_text())


# ------------------------------------------------------------------ fit


def test_fit_from_a_packaged_configuration_to_a_run_folder(place: Path) -> None:
    done = fit("--run", "runs/a", "--trainer.log_every_n_steps", 10)
    assert done.code == 0, done.err
    run = place / "runs" / "a"
    assert {path.name for path in run.iterdir()} == {
        *("config.yaml", "checkpoints", "metrics", "tensorboard")
    }
    assert checkpoints(run) == {"last.ckpt": 60, "step=25.ckpt": 25, "step=50.ckpt": 50}
    kept = settings(run)
    assert kept["model"]["class_path"] == "hindsight_rl.agents.iql.IQL"
    assert kept["model"]["init_args"]["expectile"] == 0.7
    assert kept["model"]["init_args"]["hidden"] == [8]
    assert kept["data"]["init_args"]["source"] == "log.npz"
    assert (kept["run"], kept["ckpt_path"]) == ("runs/a", None)
    report = dict(line.split(": ") for line in done.out.splitlines())
    assert (report["run"], report["updates"]) == ("runs/a", "60")
    assert all(np.isfinite(float(report[f"train/{name}"])) for name in ("value", "critic", "actor"))


def test_metrics_count_updates(place: Path) -> None:
    """Chunks hold 8 updates and end early at checkpoints: a line per interval, at chunk ends."""
    assert fit("--run", "a", "--trainer.log_every_n_steps", 10).code == 0
    (path,) = (place / "a" / "metrics").rglob("metrics.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
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
    assert kept["model"]["class_path"] == "hindsight_rl.agents.bc.BC"
    assert kept["data"]["class_path"] == "hindsight_rl.datamodules.offline.OfflineDataModule"


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


# ------------------------------------------------------------------ mistakes

RATE = "--model.init_args.optimizer.init_args.lr"
ENOUGH = "'hindsight fit --help' lists the options."


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--config nope", "--config nope: no such file, and no packaged configuration; there are:"),
        ("--model.init_args.hiden [8]", "Option 'hiden' is not accepted. Did you mean 'hidden'?"),
        ("--data.batchsize 8", "Option 'batchsize' is not accepted. Did you mean 'batch_size'?"),
        ("--trainer.maxsteps 8", "--trainer.maxsteps 8. Did you mean '--trainer.max_steps'?"),
        ("--hiden 8", "unrecognized arguments: --hiden 8. Did you mean '--model.hidden'?"),
        ("--enw A", "unrecognized arguments: --enw A. Did you mean '--env'?"),
        ("--frobnicate 8", f"unrecognized arguments: --frobnicate 8. {ENOUGH}"),
        ("--model BCC", "import path string: BCC. Did you mean 'BC'?"),
        (
            "--model.init_args.expectile high",
            "\"expectile\": Expected a <class 'float'>. Got value",
        ),
        ("--trainer.max_steps many", "\"trainer.max_steps\": Expected a <class 'int'>. Got value"),
        ("--model.init_args.expectile 1.5", "expectile is 1.5, it must lie in (0, 1)"),
        ("--model.init_args.hidden [0]", "hidden is [0]: every layer needs at least 1 unit"),
        ("--data.source none.npz", "none.npz: no such file, folder or local Minari dataset."),
        ("--trainer.accumulate_grad_batches 2", "to updates: raise data.batch_size instead"),
        ("--trainer.gradient_clip_val 1", "to updates: use model.clip_norm, which clips each"),
        ("--trainer.gradient_clip_val 0.5", "to updates: use model.clip_norm, which clips each"),
        ("--trainer.val_check_interval 0.5", "val_check_interval is 0.5: give a whole number of"),
        ("--trainer.val_check_interval 0", "val_check_interval is 0: give a whole number of"),
        ("--trainer.devices 0", "trainer.devices is 0: give at least 1, or auto"),
        ("--trainer.max_steps 0", "trainer.max_steps is 0: give the number of updates"),
        ("--trainer.max_steps -1", "batches never run out: set max_steps (updates) or max_time"),
        ("--checkpoint_every 0", "checkpoint_every is 0 updates, it must be at least 1"),
        ("--keep -3", "save_top_k=-3. Must be >= -1"),
        ("--env NoSuch-v0", "NoSuch-v0: no such environment"),
        ("--env Pendulum-v1", "Pendulum-v1: observes [3], and the policy takes [4]."),
        ("--ckpt_path none.ckpt", "Checkpoint file not found: none.ckpt"),
        ("--resume --ckpt_path a.ckpt", "--resume finds the checkpoint itself: leave out --ckpt_"),
        ("--resume", "runs/a: no readable checkpoint; give a folder that 'fit' wrote"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(words: str, told: str, place: Path) -> None:
    assert told in refused(fit("--run", "runs/a", *words.split()))
    assert not Path("runs/a").exists()


def test_a_learner_without_the_relabeler_it_needs(place: Path) -> None:
    words = ("--data.init_args.relabel", "null", "--run", "runs/a")
    told = refused(fit(*words, config="marwil"))
    assert "needs 'return_to_go', which no batch has. Add ReturnToGo to the relabelers" in told
    assert not Path("runs/a").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fit", "required: fit.data, fit.model. Choose them with --config NAME,"),
        ("fit --config iql", "arguments are required: source."),
        ("fit --model BC --data.source log.npz", "Choose the data first: --config NAME, or --data"),
        ("fit --resume", "no run in runs/ to resume: give --run FOLDER, or start without --resume"),
        ("validate", "or name a finished run with --run FOLDER."),
        ("predict", "or name a finished run with --run FOLDER."),
        ("validate --config iql --data.source log.npz", "validate needs a policy: give --run or"),
        ("predict --config iql --data.source log.npz", "predict needs a policy: give --run or"),
        ("test", "test needs a policy: give --ckpt_path FILE or --run FOLDER"),
        ("test --ckpt_path none.ckpt", "none.ckpt: no such checkpoint; give a file written by"),
        ("test --run none", "none: no readable checkpoint; give a folder that 'fit' wrote"),
        ("validate --run none", "none: no readable checkpoint; give a folder that 'fit' wrote"),
        ("predict --run none", "none: no readable checkpoint; give a folder that 'fit' wrote"),
    ],
)
def test_words_that_are_missing(words: str, told: str, place: Path) -> None:
    assert told in refused(hindsight(*words.split()))
    assert [path.name for path in place.iterdir()] == ["log.npz"]


def test_a_value_that_is_missing(place: Path) -> None:
    done = hindsight("fit", "--config")
    assert done.code == 2 and "argument -c/--config: expected one argument" in done.err


@pytest.mark.parametrize(
    ("reward", "words", "what", "good"),
    [
        (3e38, "", "loss term 'critic' is inf in update 1", "none was saved yet"),
        (1.0, f"{RATE} 1e30", "loss term 'value' is nan in update 2", "none was saved yet"),
        (1.0, f"{RATE} 1e12 --checkpoint_every 1", "loss term '", "a/checkpoints/step=1.ckpt"),
    ],
    ids=["rewards", "learning rate", "learning rate, checkpoint before"],
)
def test_divergence_names_term_and_update(
    reward: float, words: str, what: str, good: str, place: Path
) -> None:
    cart_log(place / "log.npz", rewards=np.full(EPISODES * LENGTH, reward, np.float32))
    told = refused(fit("--run", "a", *words.split()), code=1)
    assert told.startswith(f"error: {what}")
    pattern = r" in update [12]: training stopped\. Last good checkpoint: (\S*/)?"
    assert re.search(rf"{pattern}{re.escape(good)}\. Lower the learning rate, set clip_norm", told)


def test_traceback_on_request(place: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint_every is 0 updates"):
        fit("--run", "a", "--checkpoint_every", 0, "--traceback")


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
    words = ("--model.init_args.test_episodes", 2, "--model.init_args.test_seed", 5)
    done = hindsight("test", "--ckpt_path", alone, "--env", "CartPole-v0", "--json")
    report = json.loads(done.out)
    assert report["env"] == "CartPole-v0"
    told = refused(hindsight("test", "--ckpt_path", alone, "--env", "Pendulum-v1"))
    assert "Pendulum-v1: observes [3], and the policy takes [4]." in told
    done = hindsight("test", "--ckpt_path", alone, "--model", "IQL", *words, "--json")
    report = json.loads(done.out)
    assert (report["episodes"], report["seed"]) == (2, 5)


def test_test_without_an_environment(place: Path) -> None:
    assert fit("--run", "a", updates=5).code == 0
    assert "no environment to run episodes in: give --env ID" in refused(
        hindsight("test", "--run", "a")
    )
    assert hindsight("test", "--run", "a", "--env", "CartPole-v1").code == 0


def test_a_checkpoint_that_is_none(alone: Path) -> None:
    alone.write_bytes(alone.read_bytes()[:1000])
    told = refused(hindsight("test", "--ckpt_path", alone))
    assert "not a readable Hindsight checkpoint" in told and "take the one before" in told


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
