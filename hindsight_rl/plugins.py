"""Plug-ins: importing what is found by name, so that short class names are known.

Learners, relabelers, task families and readers of another distribution are known to every command
once their modules are imported. Two ways lead there: ``--import my_package.my_module``, and an
entry point of the distribution, which needs no word on the command line:

    [project.entry-points."hindsight_rl.plugins"]
    mine = "my_package.my_module"
"""

import importlib
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

GROUP = "hindsight_rl.plugins"
"""Group of entry points; each names a module."""

OPTION = "--import"
_seen: set[str] = set()


def import_rooms(*rooms: str) -> None:
    """Import every module of the named rooms, ``"relabel"`` say, those of folders below included.

    Args:
        *rooms: Names of packages below ``hindsight_rl``.
    """
    for room in rooms:
        package = importlib.import_module(f"hindsight_rl.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)


def import_installed() -> None:
    """Import the plug-ins of installed distributions, each once.

    One that fails is left out with a warning: it must not keep the others from working.
    """
    for point in entry_points(group=GROUP):
        if point.value in _seen:
            continue
        _seen.add(point.value)  # first: a plug-in may ask for the others itself
        try:
            point.load()
        except Exception as error:  # whatever a module of somebody else raises
            whose = point.dist.name if point.dist else "?"
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            warnings.warn(
                f"plug-in {point.name} ({point.value}) of {whose} is left out: it cannot be "
                f"imported ({reason}). Update it, or uninstall it",
                stacklevel=2,
            )


def import_named(modules: Iterable[str]) -> None:
    """Import modules; those of the current folder are found first, as ``python -m`` finds them.

    Args:
        modules: Their dotted names.

    Raises:
        ValueError: There is no such module, or a name is none.
    """
    for module in modules:
        if not is_dotted(module):
            raise ValueError(f"{OPTION} {module}: not the dotted name of a module")
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            # A package that the module itself lacks is another mistake, and named by its own error.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise ValueError(
                f"{OPTION} {module}: no such module, neither in {os.getcwd()} nor installed. Name "
                "it as 'import' does: my_learners for my_learners.py"
            ) from error


def attribute_of(module: str, name: str, what: str) -> Any:
    """Return what a module holds; modules of the current folder are found first.

    Args:
        module: Its dotted name.
        name: Of what it holds.
        what: Begins the errors: what was asked for, and as what.

    Returns:
        The function, class or object.

    Raises:
        ValueError: There is no such module, or it has no such name.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A package that the module itself lacks is another mistake, and named by its own error.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ValueError(
            f"{what}: no module {module}, neither in {os.getcwd()} nor installed"
        ) from error
    if not hasattr(found, name):
        raise ValueError(f"{what}: {module} has no {name}")
    return getattr(found, name)


def take_imports(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command without ``--import``, and the modules that it names.

    Args:
        words: The words; the option may be repeated, and takes a JSON list too.

    Returns:
        The other words, and the modules in the order given, each once.

    Raises:
        ValueError: The last word is the option, without a module.
    """
    others: list[str] = []
    modules: list[str] = []
    waiting = iter(words)
    for word in waiting:
        name, given, value = word.partition("=")
        if name != OPTION:
            others.append(word)
            continue
        value = value if given else next(waiting, "")
        if not value:
            raise ValueError(f"{OPTION} names no module: give one, such as my_learners")
        modules += json.loads(value) if value.startswith("[") else [value]
    return others, list(dict.fromkeys(modules))


def imported(name: str, what: str) -> Callable[..., Any]:
    """Return a function whose module was imported; a name alone, of a checkpoint say, runs no code.

    Args:
        name: ``"module:function"``.
        what: What the name is given for, for messages.

    Returns:
        The function.

    Raises:
        ValueError: It is no such name, the module is not imported, or it has no such function.
    """
    module, _, function = name.partition(":")
    if not function.isidentifier() or not is_dotted(module):
        raise ValueError(f"{what} is {name!r}: give 'module:function', my_robot:fell say")
    if module not in sys.modules:
        raise ValueError(
            f"{what} {name}: {module} is not imported; import it first. Add {OPTION} {module} to a "
            "command: it is looked for in the current folder too."
        )
    found = getattr(sys.modules[module], function, None)
    if not callable(found):
        raise ValueError(f"{what} {name}: {module} has no function {function}")
    return found  # type: ignore[no-any-return]


def is_dotted(text: str) -> bool:
    """Return whether a text is the dotted name of a module."""
    return all(part.isidentifier() for part in text.split("."))
