"""What a configuration parser says of a mistake, reduced to what its author can use."""

import difflib
import inspect
import re

from lightning.pytorch import Trainer

from hindsight_rl.cli.former import INVERSE_HINT
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sources.episodes import Command
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.planners.planner import Planner
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import TaskFamily
from hindsight_rl.training.checkpoints.arguments import field_names
from hindsight_rl.training.checkpoints.load import learner_classes
from hindsight_rl.training.learner import Learner

_LONGEST = 1000
# What a test changes of the evaluation in a checkpoint, beside the environment.
OF_A_TEST = ("env_kwargs", "task", "command", "max_steps", "test_episodes", "test_seed")
_NOISE = (
    "Does not validate against",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Expected a path but",
    "Given value",
    "Problem with given class_path",
    "Subtypes:",
)
_PROTOCOLS: dict[str, type] = {"Command": Command}
"""Protocols that a class of the user's own may implement for an option."""
_CHOICES = "Expected a typing.Literal["
_KEYS = r'(?:Parser key "[\w.]+": ?)+'
_WORD = r"Expected a typing\.Literal\[[^]]*\]"
# Types alone; or words and the fields that may be given in their place.
_ONLY_EXPECTED = re.compile(
    rf"{_KEYS}(?:(?:(?:{_WORD}|Expected a <class '\w+'>)(?:\. Got value: \S+)?\.? ?)+"
    rf"|{_WORD}.*Got value: [^\s.]\S*)"
)
_GIVEN = re.compile(r"(?:Got|Given) value: (?!NestedArg)(\S.*?)\.?$", re.MULTILINE)
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
}
_OWN = "checkpoint_every ckpt_path config env import json keep print_config resume run".split()


def first_cause(error: BaseException) -> str:
    """Return what a constructor said, out of the parser's account of all types it tried."""
    outer = ""
    while str(error).startswith("Does not validate against") and error.__cause__ is not None:
        outer, error = str(error), error.__cause__
    text = str(error)
    if text.startswith(_CHOICES):  # a head may be a word or have fields; what its fields say counts
        tried = [line.strip(" -") for line in outer.splitlines() if line.startswith("  - ")]
        text = next((line for line in tried if not line.startswith("Expected a")), text)
    return text if len(text) < _LONGEST else f"{text[:_LONGEST]} ..."


def shorten(message: str) -> str:
    """Return what a parser of ``fit`` and the like says is wrong, with the nearest name."""
    nested = "valid subclass of Learner" in message and "NestedArg" in message
    if nested or ".Learner is abstract" in message:
        taken = ", ".join(f"--model.evaluation.{name}" for name in OF_A_TEST)
        return (
            "an argument of the learner, and no learner. Choose it first: --config NAME, or "
            f"--model CLASS. 'test' needs none, and takes {taken}."
        )
    return (
        f"{reduced(message)} 'hindsight fit --help' lists the options, 'hindsight fit --model.help "
        "CLASS' those of a learner."
    )


def reduced(message: str) -> str:
    """Return the lines of a parser's message that say what is wrong, with the nearest name."""
    lines = [line.strip(" -") for line in message.splitlines()]
    if any("is not accepted" in line for line in lines):
        lines = [line for line in lines if not line.startswith(_CHOICES)]
    kept = " ".join(line for line in lines if line and not line.startswith(_NOISE))
    kept += "" if kept.endswith(".") else "."
    return _not_allowed(kept, message) or f"{kept}{_mend(message)}"


def _not_allowed(kept: str, message: str) -> str | None:
    """Return what is said of a value that is none of an option's, with the nearest word.

    Args:
        kept: The lines that say what is wrong.
        message: All lines, with the value.

    Returns:
        One sentence or two; ``None`` where something else is wrong.
    """
    given = _GIVEN.search(message)
    if given is None or not _ONLY_EXPECTED.fullmatch(kept):
        return None
    kinds = [_KINDS.get(kind, kind) for kind in re.findall(r"<class '(\w+)'>", kept)]
    listed = ", ".join(re.findall(r"Literal\[([^]]*)\]", kept))
    words = list(dict.fromkeys(re.findall(r"'([^']*)'", listed)))
    near = difflib.get_close_matches(given[1], words, n=1)
    guess = f" Did you mean '{near[0]}'?" if near else ""
    option = ".".join(re.findall(r'Parser key "([\w.]+)"', kept))
    allowed = " or ".join([*dict.fromkeys(kinds), *(f"'{word}'" for word in words)])
    return f"{option} is '{given[1]}', it must be {allowed}.{guess}"


def _mend(message: str) -> str:
    """Return what to do about a parser's message, after a blank, or nothing."""
    if re.search(r"are required: .*\b(model|data)\b", message):
        return " Choose them with --config NAME, or name a finished run with --run FOLDER."
    if "given class_path 'lightning." in message:
        return " Choose the data first: --config NAME, or --data OfflineDataModule."
    protocol = re.search(r"does not implement protocol (\w+)", message)
    if protocol and protocol[1] in _PROTOCOLS:
        return f" {_annotations(_PROTOCOLS[protocol[1]])}"
    option = re.search(r"unrecognized arguments: --([\w.]+)", message)
    if option:
        known = {name.rpartition(".")[2]: f"--{name}" for name in _options()}
        given = option[1].rpartition(".")[2]
        near = difflib.get_close_matches(given, known, n=9)
        # Of equally near names the one that begins alike.
        near.sort(key=lambda name: (-_likeness(given, name), name[:1] != given[:1]))
        return f" Did you mean '{known[near[0]]}'?" if near else ""
    if "Option 'level' is not accepted" in message:  # once an argument of InverseRL
        return f" {INVERSE_HINT}."
    wrong = re.search(r"(?:Option '|import path string: )(\w+)", message)
    near = difflib.get_close_matches(wrong[1], _words() - {wrong[1]}, n=1) if wrong else []
    return f" Did you mean '{near[0]}'?" if near else ""


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, other, one).ratio()


def _plain(signature: inspect.Signature) -> str:
    """Return a signature with the bare names of its types."""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(signature))


def _annotations(protocol: type) -> str:
    """Return how a class must declare the methods of a protocol, which parsers compare exactly."""
    methods = {n: m for n, m in vars(protocol).items() if inspect.isfunction(m) and n[0] != "_"}
    shown = (f"'def {name}{_plain(inspect.signature(method))}'" for name, method in methods.items())
    return (
        "Annotate its methods exactly so, as the command line compares the annotations: "
        f"{' and '.join(shown)}. LogView is in hindsight_rl.ports, Tensor in torch."
    )


def _options() -> list[str]:
    """Return the options of the command, those without a dot last."""
    found = [f"model.{name}" for kind in learner_classes().values() for name in _names(kind)]
    found += [f"model.{name}" for kind in learner_classes().values() for name in field_names(kind)]
    found += [f"data.{name}" for name in _names(OfflineDataModule)]
    return [*found, *(f"trainer.{name}" for name in _names(Trainer)), *_OWN]


def _words() -> set[str]:
    """Return the names of all classes, and of their arguments, that a configuration can hold."""
    classes: list[type] = [*learner_classes().values(), Learner, Evaluation, OfflineDataModule]
    classes += [*Relabeler.__subclasses__(), *TaskFamily.__subclasses__()]
    classes += Planner.__subclasses__()
    found = {name for kind in classes for name in (kind.__name__, *_names(kind))}
    fields = (name for kind in learner_classes().values() for name in field_names(kind))
    return found | {name.rpartition(".")[2] for name in fields}


def _names(kind: type) -> list[str]:
    return list(inspect.signature(kind).parameters)
