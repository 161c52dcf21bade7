"""What a configuration parser says of a mistake, reduced to what its author can use."""

import difflib
import inspect
import re

from hindsight_rl.agents.learner import Learner, learner_classes
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.relabel.relabeler import Relabeler

_LONGEST = 1000


def first_cause(error: BaseException) -> str:
    """Return what a constructor said, out of the parser's account of all types it tried."""
    while str(error).startswith("Does not validate against") and error.__cause__ is not None:
        error = error.__cause__
    text = str(error)
    return text if len(text) < _LONGEST else f"{text[:_LONGEST]} ..."


def shorten(message: str) -> str:
    """Return the lines of a parser's message that say what is wrong, with the nearest name."""
    noise = (
        "Does not validate against",
        "Errors:",
        "Expected a <class 'NoneType'>",
        "Given value",
        "Problem with given class_path",
        "Subtypes:",
    )
    lines = [line.strip(" -") for line in message.splitlines()]
    kept = " ".join(line for line in lines if line and not line.startswith(noise))
    kept += "" if kept.endswith(".") else "."
    wrong = re.search(r"Option '(\w+)' is not accepted", message)
    if wrong:
        known = set(re.findall(r"\w+", " ".join(_arguments())))
        near = difflib.get_close_matches(wrong[1], known, n=1)
        kept += f" Did you mean '{near[0]}'?" if near else ""
    return f"{kept} 'hindsight fit --help' lists the options."


def _arguments() -> list[str]:
    """Return the names of all constructor arguments that a configuration can hold."""
    classes = [*learner_classes().values(), Learner, OfflineDataModule, *Relabeler.__subclasses__()]
    return [name for kind in classes for name in inspect.signature(kind).parameters]
