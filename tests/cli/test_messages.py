"""Mistakes in the words of ``fit`` and its like: one line says what and how to fix it."""

import re
from pathlib import Path

import numpy as np
import pytest
from command_fits import EPISODES, LENGTH, cart_log, fit, hindsight, refused

RATE = "--model.init_args.optimizer.init_args.lr"
ENOUGH = "'hindsight fit --help' lists the options, 'hindsight fit --model.help CLASS' those of a"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--config nope", "--config nope: no such file, and no packaged configuration; there are:"),
        ("--model.init_args.hidde [8]", "Option 'hidde' is not accepted. Did you mean 'hidden'?"),
        ("--data.batchsize 8", "Option 'batchsize' is not accepted. Did you mean 'batch_size'?"),
        ("--trainer.maxsteps 8", "--trainer.maxsteps 8. Did you mean '--trainer.max_steps'?"),
        ("--hidde 8", "unrecognized arguments: --hidde 8. Did you mean '--model.network.hidden'?"),
        ("--enw A", "unrecognized arguments: --enw A. Did you mean '--env'?"),
        ("--frobnicate 8", f"unrecognized arguments: --frobnicate 8. {ENOUGH}"),
        ("--model BCC", "import path string: BCC. Did you mean 'BC'?"),
        ("--model.init_args.expectile high", "expectile is 'high', it must be a number."),
        ("--trainer.max_steps many", "trainer.max_steps is 'many', it must be a whole number"),
        ("--model.init_args.expectile 1.5", "expectile is 1.5, it must lie in (0, 1)"),
        (
            "--model.init_args.network.hidden [0]",
            "hidden is [0]: every layer needs at least 1 unit",
        ),
        (
            "--model.network [64,64]",
            "network is [64, 64], and it has fields: give --model.n",
        ),
        (
            "--model.network null",
            "model.network is null, and it has fields: leave it out for their defaults, or give "
            "--model.network.FIELD for one or more of hidden, ",
        ),
        (
            "--model.network.hiddn [8]",
            "hiddn=[8]. Did you mean '--model.network.hidden'?",
        ),
        ("--model.network.frequencies -1", "error: frequencies is -1, it must be at least 0"),
        ("--model.head mixtur", "'autoregressive'. Did you mean 'mixture'?"),
        (
            "--model.head.kind gaussia",
            "model.head.kind is 'gaussia', it must be 'deterministic' or ",
        ),
        ("--model.compile nope", "model.compile is 'nope', it must be 'auto' or 'off' or "),
        ("--model.head.components 0", "error: components is 0, it must be at least 1"),
        (
            "--model.head.component 2",
            "\"head\": Option 'component' is not accepted. Did you mean 'components'?",
        ),
        ("--data.source none.npz", "none.npz: no such file, folder or local Minari dataset."),
        ("--data.source *.npz", "Patterns are not looked up: list the files"),
        ("--trainer.accumulate_grad_batches 2", "to updates: raise data.batch_size instead"),
        ("--trainer.gradient_clip_val 1", "to updates: use model.clip_norm, which clips each"),
        ("--trainer.gradient_clip_val 0.5", "to updates: use model.clip_norm, which clips each"),
        ("--trainer.val_check_interval 0.5", "val_check_interval is 0.5: give a whole number of"),
        ("--trainer.val_check_interval 0", "val_check_interval is 0: give a whole number of"),
        ("--trainer.devices 0", "trainer.devices is 0: give at least 1, or auto"),
        ("--trainer.max_steps 0", "trainer.max_steps is 0: give the number of updates"),
        ("--trainer.max_steps -1", "batches never run out: set max_steps (updates) or max_time"),
        ("--checkpoint_every 0", "checkpoint_every is 0 updates, it must be at least 1"),
        ("--keep -3", "keep is -3, it must be at least 0, or -1 for all"),
        ("--env NoSuch-v0", "NoSuch-v0: no such environment"),
        ("--env Pendulum-v1", "Pendulum-v1: observes [3], and the policy takes [4]."),
        ("--ckpt_path none.ckpt", "none.ckpt: no such checkpoint; give a file written by 'fit'"),
        ("--resume --ckpt_path a.ckpt", "--resume finds the checkpoint itself: leave out --ckpt_"),
        ("--resume", "runs/a: no readable checkpoint; give a folder that 'fit' wrote"),
    ],
)
def test_mistakes_are_reported_in_a_line_and_leave_nothing(
    words: str, expected: str, place: Path
) -> None:
    assert expected in refused(fit("--run", "runs/a", *words.split()))
    assert not Path("runs/a").exists()


def test_a_learner_without_the_relabeler_it_needs(place: Path) -> None:
    words = ("--data.init_args.relabel", "null", "--run", "runs/a")
    told = refused(fit(*words, config="marwil"))
    assert "needs 'return_to_go', which no batch has. Add ReturnToGo to the relabelers" in told
    assert not Path("runs/a").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fit", "required: fit.data, fit.model. Choose them with --config NAME,"),
        ("fit --config iql", "arguments are required: source."),
        ("fit --model BC --data.source log.npz", "Choose the data first: --config NAME, or --data"),
        ("fit --resume", "no run in runs/ to resume: give --run FOLDER, or start without --resume"),
        (
            "fit --data OfflineDataModule --model.tau 1",
            "Choose it first: --config NAME, or --model",
        ),
        (
            "test --model.tau 1",
            "'test' needs none, and takes --model.evaluation.env_kwargs, --model.evaluation.task",
        ),
        ("test --model.evaluation.episodes 3", "and takes --model.evaluation.env_kwargs"),
        (
            "fit --data OfflineDataModule --model.network.hidden [8]",
            "an argument of the learner, and no learner. Choose it first: --config NAME",
        ),
        (
            "test --model.evaluation.test_episodes x",
            "test_episodes is 'x', it must be a whole number",
        ),
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
def test_words_that_are_missing(words: str, expected: str, place: Path) -> None:
    assert expected in refused(hindsight(*words.split()))
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
