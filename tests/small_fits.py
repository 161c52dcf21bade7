"""Tiny learners on tiny logs: what every test of ``agents`` fits, in milliseconds per update.

Imported as ``small_fits`` (``tests`` is on pytest's path, and scripts of tests put it there).
"""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from episode_logs import episode_log
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger
from relabelers import WRITERS
from tensordict import TensorDict
from torch import Tensor

import hindsight_rl.relabel
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.keys import (
    ACTION_LOG_PROB,
    FIRST,
    NEXT_ACHIEVED,
    NEXT_POLICY_ACTION,
    TASK,
    is_below,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import Preferences
from hindsight_rl.logs.segments import draw_pairs, places, segment_returns
from hindsight_rl.nets.network import Attention, Network
from hindsight_rl.policies.planning import Search
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.spec import Spec
from hindsight_rl.training.checkpoints.load import learner_classes
from hindsight_rl.training.learner import Learner
from hindsight_rl.windows import CHUNK, HISTORY, QUERY, SUPPORT, window_names

# Kinds of logs, by what `episode_log` takes.
KINDS: dict[str, dict[str, bool]] = {
    "continuous": {},
    "discrete": {"discrete": True},
    "continuous with task": {"task": True},
    "discrete with task": {"discrete": True, "task": True},
}
# Of the house only: tests define learners of their own.
LEARNERS = {
    kind.__name__: kind
    for name, kind in sorted(learner_classes().items())
    if name.startswith("hindsight_rl.")
}

# Those with a network of plain numbers: no table, no bins, no fixed features.
NETWORKED = [n for n, k in LEARNERS.items() if not (k.one_hot or k.binned or k.linear)]


def log_for(learner: type[Learner], **options: Any) -> Log:
    """Return an :func:`episode_log` of the kind a learner takes.

    Args:
        learner: The learner; its class says which actions and observations it takes.
        **options: Of the log; where they say nothing of actions, discrete ones if it must be so.

    Returns:
        The log.
    """
    if "continuous" not in learner.actions:
        options.setdefault("discrete", True)
    options |= {"one_hot": learner.one_hot, "returns": learner.commanded}
    if {TASK, NEXT_ACHIEVED} <= set(learner.in_keys):  # tasks about what is reached
        options |= {"task": True, "goals": True}
    options["tasks"] = hasattr(learner, "adapted")
    # Where values are solved for, those of real actions need a maximum, and choices to be shown.
    costly = learner.linear
    if costly:
        options.setdefault("seed", 2)
    read = learner.in_keys
    stated = ACTION_LOG_PROB in read or (CHUNK, ACTION_LOG_PROB) in read
    options |= {"judged": NEXT_POLICY_ACTION in read, "stated": stated}
    return episode_log(**options, costly=costly)


def takes(learner: type[Learner], options: dict[str, bool]) -> bool:
    """Return whether a learner takes the actions of a log with these options."""
    return ("discrete" if options.get("discrete") else "continuous") in learner.actions


def network_of(learner: type[Learner]) -> str:
    """Return the name of a network that the optimiser moves: ``actor``, or the first there is."""
    made = learner_of(learner, data_for(learner).spec)
    networks = [name for name in made.networks() if made.every.get(name, 1) < 1_000_000]
    return "actor" if "actor" in networks else networks[0]


def _relabeler(name: str) -> Relabeler:
    for module in pkgutil.iter_modules(hindsight_rl.relabel.__path__):
        found = importlib.import_module(f"hindsight_rl.relabel.{module.name}")
        if hasattr(found, name):
            relabeler: Relabeler = getattr(found, name)()
            return relabeler
    raise LookupError(name)


def data_for(
    learner: type[Learner],
    log: Log | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Return a datamodule with the relabelers that write what a learner reads and a log lacks.

    Of a learner of preferences one that serves 47 pairs, as many as the log has rows.
    """
    log = log_for(learner) if log is None else log
    options = {"batch_size": 16, "updates_per_step": 8} | options
    plain = OfflineDataModule(log, **options)
    reader = learner(plain.spec, **arguments or {})
    if any(is_below(key, FIRST) for key in reader.in_keys):
        return pairs_of(log, **options).serve(reader)
    parts = (HISTORY, CHUNK, SUPPORT, QUERY)
    own = [key for key in reader.in_keys if key[0] not in parts]
    windowed = [key for part in parts for key in window_names(reader.in_keys, part)]
    held = plain.batch_keys()  # of rows alone: a window of a column that is not there is an error
    wanted = dict.fromkeys((*own, *windowed))
    missing = [key for key in wanted if not any(is_below(each, key) for each in held)]
    relabel = [_relabeler(WRITERS[key]) for key in missing]
    data = OfflineDataModule(log, relabel, **options) if relabel else plain
    return data.serve(reader)


def pairs_of(log: Log, count: int = 47, length: int = 4, **options: Any) -> PreferenceDataModule:
    """Return a datamodule of pairs that a teacher answered by the log's rewards."""
    rows = draw_pairs(log, length, count, seed=0)
    score = segment_returns(log, rows, length).float()
    label = (score[:, 1] > score[:, 0]).float()
    answers = Preferences(
        log.hash(), length, *places(log, rows), label, score, ("",) * count, ("",) * count
    )
    return PreferenceDataModule(log, answers, **{"validation": 0.0} | options)


def learner_of(learner: type[Learner], spec: Spec, **arguments: Any) -> Learner:
    """Return a learner of two layers of 8 units; equal arguments give equal weights."""
    parameters = inspect.signature(learner).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    small: dict[str, Any] = {
        name: replace(default, hidden=(8, 8))
        for name, default in defaults.items()
        if isinstance(default, Network)
    }
    if isinstance(defaults.get("attention"), Attention):
        small["attention"] = Attention(width=8, heads=2, layers=2)
    if isinstance(defaults.get("search"), Search):
        small["search"] = Search(horizon=2, beam=3)
    if learner.linear:  # more features than so few rows determine
        small["ridge"] = 1.0
    if defaults.get("cloning_updates"):  # then what follows the cloning is tested, too
        small["cloning_updates"] = 2
    arguments = small | arguments
    if "optimizer" in parameters:  # one of its own, and what is tested here is made for Adam
        arguments = {"optimizer": functools.partial(torch.optim.Adam, lr=3e-4)} | arguments
    with torch.random.fork_rng():
        torch.manual_seed(arguments.pop("weight_seed", 0))
        return learner(spec, **arguments)


def whole_log(learner: Learner, data: OfflineDataModule) -> TensorDict:
    """Return every row of the log as one batch ``[N]``, with the columns of a sweep if any."""
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)
    if learner.log_pass is not None:
        learner.log_pass.sweep(data, 0, torch.device("cpu"))
    batch = learner.complete(batch)
    return batch[0]


def trainer_in(folder: Path, updates: int, **options: Any) -> Trainer:
    """Return a quiet trainer on the CPU."""
    plain: dict[str, Any] = {
        "max_steps": updates,
        "accelerator": "cpu",
        "devices": 1,
        "default_root_dir": folder,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**plain | options)


def fit(
    learner: Learner,
    data: OfflineDataModule,
    folder: Path,
    updates: int,
    ckpt_path: Path | None = None,
    **options: Any,
) -> Trainer:
    """Fit, and return the trainer."""
    trainer = trainer_in(folder, updates, **options)
    trainer.fit(learner, data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


class Kept(Logger):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        """Return a name."""
        return "kept"

    @property
    def version(self) -> int:
        """Return a number."""
        return 0

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Keep a line."""
        self.lines.append((step, dict(metrics)))

    def steps_of(self, name: str) -> list[int | None]:
        """Return the steps at which a metric was logged."""
        return [step for step, metrics in self.lines if name in metrics]


def weights(learner: Learner) -> dict[str, Tensor]:
    """Return a copy of every parameter and buffer."""
    return {name: value.clone() for name, value in learner.state_dict().items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Return whether names and bits agree."""
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def check_resumed(begun: Callable[[], tuple[OfflineDataModule, Learner]], folder: Path) -> Any:
    """Check that ten updates, and four and six more from a checkpoint, end with the same bits.

    Args:
        begun: Makes data and learner anew.
        folder: Of the runs.

    Returns:
        State of the data step after ten updates.
    """
    (data, learner), (other, again), (straight, last) = begun(), begun(), begun()
    fit(learner, data, folder, 4).save_checkpoint(folder / "four.ckpt")
    fit(last, straight, folder, 10)
    fit(again, other, folder, 10, ckpt_path=folder / "four.ckpt")
    assert equal(weights(last), weights(again))
    found = straight.relabel.state_dict()
    assert differences(found, other.relabel.state_dict()) == []
    return found


def differences(one: Any, two: Any, place: str = "") -> list[str]:
    """Return where two nested structures differ, tensors by their bits."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [d for key in one for d in differences(one[key], two[key], f"{place}.{key}")]
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [d for number, (a, b) in pairs for d in differences(a, b, f"{place}[{number}]")]
    alike = torch.equal(one, two) if isinstance(one, Tensor) else one == two
    return [] if alike else [place]


def moved(learner: Learner) -> Learner:
    """Return an unfitted learner whose weights were all moved: last layers may begin at zero."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in learner.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=draw))
    return learner.eval()
