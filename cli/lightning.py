"""``hindsight fit | validate | test | predict``: LightningCLI, with short names and run folders."""

import argparse
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, get_type_hints

import numpy as np
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from hindsight_rl.cli.errors import run
from hindsight_rl.cli.learner_words import check_groups
from hindsight_rl.cli.messages import OF_A_TEST, first_cause, shorten
from hindsight_rl.cli.progress import UpdateProgress
from hindsight_rl.cli.report import format_summary
from hindsight_rl.cli.run_folder import RunFolder
from hindsight_rl.cli.run_lock import locked
from hindsight_rl.cli.runs import CHECKPOINTS, CONFIG, LAST, global_rank, new_run
from hindsight_rl.cli.words import configured_imports, spell_out
from hindsight_rl.diagnostics.divergence import DivergenceError
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.diagnostics.ope.choosing import ChooseByLog
from hindsight_rl.diagnostics.watch import Watch
from hindsight_rl.endings import Ended
from hindsight_rl.files import write_whole
from hindsight_rl.plugins import OPTION, import_named, import_rooms, take_imports
from hindsight_rl.training.checkpoints.callbacks import Checkpoints
from hindsight_rl.training.checkpoints.endings import SaveOnSignal
from hindsight_rl.training.checkpoints.load import learner_classes, load_learner
from hindsight_rl.training.learner import Learner

# Trainer options with another place here: values that ask for nothing, and what to use instead.
_REPLACED: dict[str, tuple[tuple[Any, ...], str]] = {
    "accumulate_grad_batches": ((None, 1), "raise data.batch_size instead"),
    "gradient_clip_val": ((None,), "use model.clip_norm, which clips each network by itself"),
}
_OVERRIDES = ("env", *OF_A_TEST)
_CHANGES = "in place of what the checkpoint says"
_TRAINER = {
    "max_epochs": -1,
    "max_steps": 10_000,
    "log_every_n_steps": 100,
    "num_sanity_val_steps": 0,
    "accelerator": "auto",
    "devices": 1,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}


class HindsightCLI(LightningCLI):
    """LightningCLI whose runs live in folders and whose ``test`` needs a checkpoint only.

    Args:
        held: Is given the lock of the run folder, to end it.
    """

    def __init__(self, held: ExitStack) -> None:
        self._preparing, self._held = "", held
        self.run: Path | None = None
        super().__init__(
            Learner,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            parser_kwargs={"parser_mode": "omegaconf", "exit_on_error": False},
            trainer_defaults=_TRAINER,
            seed_everything_default=0,
            load_from_checkpoint_support=False,
        )

    # ------------------------------------------------------------------ arguments

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommand of this process: parsers of the others would only cost time.

        Its values are arguments of the trainer's method that are no options.
        """
        known = LightningCLI.subcommands()
        return {name: known[name] for name in sys.argv[1:2] if name in known} or known

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        self._preparing = subcommand
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        # Lightning's own default would unpickle whatever a checkpoint holds.
        parser.set_defaults({"weights_only": True})
        return parser

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add trainer, model and data; ``test`` requires neither model nor data."""
        required = self._preparing != "test"
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.set_defaults({f"trainer.{key}": value for key, value in _TRAINER.items()})
        parser.add_lightning_class_args(Learner, "model", subclass_mode=True, required=required)
        parser.add_lightning_class_args(
            LightningDataModule, "data", subclass_mode=True, required=required
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run folder, the environment and what links data to model."""
        parser.add_argument("--run", type=str | None, default=None, help="folder of this run")
        parser.add_argument("--env", type=str | None, default=None, help="Gymnasium id")
        parser.add_argument(
            OPTION,
            type=list[str],
            default=[],
            help="modules imported first, such as my_learners; their code is run",
        )
        parser.add_argument(
            "--checkpoint_every", type=int, default=1000, help="updates between checkpoints"
        )
        parser.add_argument(
            "--keep", type=int, default=2, help="newest checkpoints kept, -1 for all"
        )
        if self._preparing == "test":
            # Of the learner in the checkpoint: which class it is need not be said.
            hints = get_type_hints(Evaluation)
            for name in OF_A_TEST:
                words = [f"--model.{part}evaluation.{name}" for part in ("", "init_args.")]
                words += ["--max_steps"] if name == "max_steps" else []
                kind = hints[name] | None
                parser.add_argument(*words, dest=name, type=kind, default=None, help=_CHANGES)
        else:
            parser.link_arguments("env", "model.init_args.evaluation.env")
            parser.link_arguments("data.spec", "model.init_args.spec", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Leave the configuration as given: ``load_learner`` reads what a checkpoint holds."""

    # ------------------------------------------------------------------ instantiation

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; for ``test`` the model comes from the checkpoint.

        Raises:
            ValueError: A checkpoint is needed and not given, or a trainer option has no place here.
        """
        config = self.config[self.subcommand]
        _check_trainer(config["trainer"])
        if self.subcommand in ("validate", "predict") and not config.get("ckpt_path"):
            raise ValueError(f"{self.subcommand} needs a policy: give --run or --ckpt_path")
        if self.subcommand == "test":
            model = (config.pop("model", None) or {}).get("init_args", {})
            given = model.get("evaluation") or {}
            config.pop("data", None)
            path = config.get("ckpt_path")
            if not path:
                raise ValueError("test needs a policy: give --ckpt_path FILE or --run FOLDER")
            changed = {name: given[name] for name in _OVERRIDES if given.get(name)}
            changed |= {name: config[name] for name in _OVERRIDES if config[name] is not None}
            self.model, self.datamodule = load_learner(path, evaluation=changed), None
            config["ckpt_path"] = None
            self.config_init = self.parser.instantiate_classes(self.config)
            self.trainer = self.instantiate_trainer()
            return
        for part in ("model", "data"):
            if chosen := config.get(part):
                check_groups(part, resolve_name(chosen["class_path"]), chosen["init_args"])
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer, with loggers, checkpoints and progress where ``fit`` needs them."""
        config = self._get(self.config_init, "trainer")
        callbacks = list(config.get("callbacks") or [])
        if config.get("enable_progress_bar") is not False and self.subcommand == "fit":
            callbacks.append(UpdateProgress())
        elif config.get("enable_progress_bar") is False:
            logging.getLogger("hindsight_rl").setLevel(logging.WARNING)
        if self.subcommand == "fit":
            if not any(isinstance(callback, Watch) for callback in callbacks):
                callbacks.append(Watch())
            callbacks += self._prepare_run()
            if config.get("logger") in (None, True) and self.run is not None:
                kwargs["logger"] = [
                    CSVLogger(self.run, name="metrics", flush_logs_every_n_steps=1),
                    TensorBoardLogger(self.run, name="tensorboard", version=""),
                ]
        else:
            kwargs |= {"logger": False, "enable_progress_bar": False}
        return Trainer(**{**config, **kwargs, "callbacks": callbacks})

    def _prepare_run(self) -> list[Callback]:
        config = self.config["fit"]
        if not config["run"] and _launched_from_outside():
            raise ValueError(
                "several processes were started from outside, and each would name a folder of its "
                "own: give --run FOLDER"
            )
        self.run = Path(config["run"] or new_run(type(self.model).__name__.lower()))
        folder = self.run / CHECKPOINTS
        holds = any(folder.glob("*.ckpt"))
        if holds and not config.get("ckpt_path") and global_rank() == 0:
            raise ValueError(
                f"{self.run} already holds a run: add --resume to go on, or choose another --run"
            )
        # Further processes of this run share the lock of the first.
        new = self._held.enter_context(locked(self.run)) if global_rank() == 0 else False
        if not config["run"]:
            # They are started with the words of this one.
            sys.argv += ["--run", str(self.run)]
        config["run"] = str(self.run)
        saved = config.clone()
        saved["ckpt_path"] = None
        text = self._parser("fit").dump(saved, skip_none=False)
        every, keep = config["checkpoint_every"], config["keep"]
        if every < 1:
            raise ValueError(f"checkpoint_every is {every} updates, it must be at least 1")
        callbacks: list[Callback] = [RunFolder(self.run, text, new=new)]
        best, mode = _best_by(self.model, self._get(self.config_init, "trainer"))
        callbacks.append(Checkpoints(folder, every=every, keep=keep, monitor=best, mode=mode))
        callbacks.append(SaveOnSignal(folder / LAST))
        return callbacks

    # ------------------------------------------------------------------ afterwards

    def validate(self, **arguments: Any) -> None:
        """Run ``validate``; the report is written afterwards."""
        if not self.datamodule.val_dataloader():
            raise ValueError(
                "no episode is held out: fit and validate with data.validation above 0"
            )
        self.trainer.validate(**arguments | {"verbose": False})

    def predict(self, **arguments: Any) -> None:
        """Run ``predict`` and write ``predictions.npz`` beside the checkpoint."""
        path = Path(arguments["ckpt_path"])
        parts: list[Any] = self.trainer.predict(**arguments) or []
        joined: dict[str, Any] = {
            name: torch.cat([p[name] for p in parts]).numpy() for name in parts[0]
        }
        target = path.parent / "predictions.npz"
        write_whole(target, lambda file: np.savez(file, **joined))
        whose = f" by seed 0 of {self.model.seeds}" if self.model.seeds > 1 else ""
        sys.stderr.write(f"wrote {target}{whose}\n")


def _check_trainer(options: Any) -> None:
    """Raise on what Lightning would ignore, misread or explain in terms of its own."""
    for name, (plain, fix) in _REPLACED.items():
        if options.get(name) not in plain:
            raise ValueError(f"trainer.{name} does not apply to updates: {fix}")
    if options["max_steps"] == 0:
        raise ValueError("trainer.max_steps is 0: give the number of updates")
    every = options.get("val_check_interval")
    if every not in (None, 1.0) and not (isinstance(every, int) and every > 0):
        raise ValueError(f"trainer.val_check_interval is {every}: give a whole number of updates")
    if str(options.get("precision")) in ("16", "16-mixed") and not _has_gpu(options):
        raise ValueError(
            "trainer.precision 16-mixed needs a GPU (on the CPU Lightning would take bfloat16 in "
            "its place): ask for bf16-mixed"
        )
    if str(options["devices"]) == "0":
        raise ValueError("trainer.devices is 0: give at least 1, or auto")


def _best_by(model: Any, trainer: Any) -> tuple[str | None, Literal["max", "min"]]:
    """Return what ``best.ckpt`` is chosen by, ``None`` for nothing, and whether most or least."""
    for callback in trainer.get("callbacks") or []:
        if isinstance(callback, ChooseByLog):
            return callback.monitor, callback.mode
    return ("eval/return" if model.evaluation.interval else None), "max"


def _launched_from_outside() -> bool:
    """Return whether torchrun or srun started several processes, each with the same words."""
    if not TorchElasticEnvironment.detect() and not SLURMEnvironment.detect():
        return False
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1) > 1


def _has_gpu(options: Any) -> bool:
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    return there and options["accelerator"] != "cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the four Lightning commands.

    Args:
        argv: The subcommand and its arguments.

    Returns:
        Exit code: 0 done, 1 training diverged, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, modules = take_imports(argv)
    arguments, as_json = spell_out(words)
    modules = list(dict.fromkeys([*configured_imports(arguments), *modules]))
    import_rooms("datamodules", "relabel", "tasks", "planners", "diagnostics")
    import_named(modules)
    if modules:  # for further processes, and kept in the configuration of the run
        arguments += [OPTION, json.dumps(modules)]
    learner_classes()
    _quiet()
    # Lightning reads the words of the process, and starts further processes with them.
    sys.argv[1:] = arguments
    with ExitStack() as held:
        return _run(arguments, as_json, held)


def _run(arguments: Sequence[str], as_json: bool, held: ExitStack) -> int:
    """Run a command, spelled out, and return its exit code."""
    try:
        cli = HindsightCLI(held)
    except DivergenceError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except Ended as stop:
        return _stopped(arguments, stop)
    except argparse.ArgumentError as error:
        raise ValueError(shorten(str(error))) from error
    except (ValueError, TypeError, MisconfigurationException) as error:
        raise ValueError(first_cause(error)) from error
    if global_rank() == 0:
        _say(cli, as_json)
    return 0


def _stopped(arguments: Sequence[str], stop: Ended) -> int:
    """Say how to go on after a signal, and return the exit code."""
    if global_rank() != 0:
        # Where the first rank has started this one, another code than 0 would have it killed.
        return stop.code if _launched_from_outside() else 0
    look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    look.add_argument("--run", type=Path)
    # The words of the process name the folder, one that was made up included.
    run = look.parse_known_args(sys.argv[1:])[0].run
    going_on = ""
    if arguments[0] == "fit" and run is not None and (run / CONFIG).exists():
        going_on = f"; go on with: hindsight fit --resume --run {shlex.quote(str(run))}"
    sys.stderr.write(f"{stop}{going_on}\n")
    return stop.code


def _quiet() -> None:
    """Silence what Lightning says that does not concern a user here."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    ours = logging.getLogger("hindsight_rl")
    ours.setLevel(logging.INFO if global_rank() == 0 else logging.WARNING)
    ours.handlers = [logging.StreamHandler(sys.stderr)]
    for text in (
        ".*does not have many workers.*",
        ".*Total length of `list` across ranks is zero.*",  # no validation split
        ".*treespec, LeafSpec.*",
        ".*exists and is not empty.*",  # resuming
        "Be aware that when using `ckpt_path`, callbacks.*",  # only fit needs them
    ):
        warnings.filterwarnings("ignore", message=text)


def _say(cli: HindsightCLI, as_json: bool) -> None:
    """Write the report of the command to standard output."""
    if cli.subcommand == "test":
        report = cli.model.test_report
    elif cli.subcommand == "validate":
        report = {k: float(v) for k, v in cli.trainer.callback_metrics.items() if k != "step"}
    elif cli.subcommand == "fit":
        report = {"run": str(cli.run), "updates": cli.trainer.global_step, **cli.model.latest}
    else:
        return
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    elif cli.subcommand == "test":
        sys.stdout.write(format_summary(report) + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in report.items()))
