"""``--planner NAME --planner.OPTION VALUE``: a planner of a command line."""

import argparse
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hindsight_rl.planners.planner import Planner

_OPTION = re.compile(r"--planner\.(\w+)(?:=(.*))?", re.DOTALL)


def apart(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words of a command without the planner's options, and those.

    Args:
        argv: Words after the command.

    Returns:
        Both, in their order; options as ``--planner.NAME=VALUE``.
    """
    rest: list[str] = []
    options: list[str] = []
    words = iter(argv)
    for word in words:
        found = _OPTION.fullmatch(word)
        if found is None:
            rest.append(word)
            continue
        value = found[2] if found[2] is not None else next(words, None)
        options.append(f"--planner.{found[1]}" + ("" if value is None else f"={value}"))
    return rest, options


def named_planner(name: str, options: Sequence[str]) -> "Planner":
    """Return a planner by its name, capital letters or not, and its options.

    Args:
        name: ``cem``, the name of a class, or a dotted one.
        options: Of :func:`apart`.

    Returns:
        The planner.

    Raises:
        ValueError: There is no such planner or option, or a value is out of range.
    """
    from jsonargparse import ArgumentParser

    from hindsight_rl.planners.planner import Planner
    from hindsight_rl.plugins import import_installed, import_rooms

    import_rooms("planners")
    import_installed()
    known = {kind.__name__.lower(): kind.__name__ for kind in Planner.__subclasses__()}
    if "." not in name and name.lower() not in known:
        raise ValueError(
            f"--planner is {name!r}, it must be {' or '.join(sorted(known))} (or a dotted class)"
        )
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--planner", type=Planner, enable_path=False)
    try:
        parsed = parser.parse_args([f"--planner={known.get(name.lower(), name)}", *options])
        made: Planner = parser.instantiate_classes(parsed).planner
    except argparse.ArgumentError as error:
        from hindsight_rl.cli.messages import reduced  # imports every learner, for their names

        raise ValueError(reduced(str(error))) from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"--planner {name}: {error}") from error
    return made
