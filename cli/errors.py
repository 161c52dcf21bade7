"""Mistakes of the caller, and warnings, as one line, for every command.

A command is ``run(body, argv)``: a bad argument, file or environment (a ``ValueError`` of the
house) becomes ``error: ...`` on stderr and exit code 2, a ``UserWarning`` becomes ``warning: ...``;
``--traceback`` shows where they came from.
"""

import argparse
import errno
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TextIO

from hindsight_rl.cli.main import TRAINING
from hindsight_rl.plugins import OPTION, import_named, is_dotted

TRACEBACK = "--traceback"
_FULL = (
    ". Make room on the disk that is written to. Checkpoints written before are whole: "
    "'hindsight fit --resume' goes on from the newest."
)


def command_parser(name: str, description: str, epilog: str = "") -> argparse.ArgumentParser:
    """Return the parser of a subcommand.

    Args:
        name: Word after ``hindsight``.
        description: What it does, one sentence.
        epilog: Examples, printed as they are.

    Returns:
        A parser that knows ``--traceback``.
    """
    parser = argparse.ArgumentParser(
        prog=f"hindsight {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(TRACEBACK, action="store_true", help="show where an error came from")
    parser.add_argument(
        OPTION,
        type=_dotted,
        action="append",
        metavar="MODULE",
        help="import this first: it defines learners, readers, environments, ... of your own, and "
        "its code is run; may be repeated",
    )
    return parser


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments of a command, after importing the modules that they name.

    Args:
        parser: Of :func:`command_parser`.
        argv: Words after the command.

    Returns:
        The arguments.

    Raises:
        ValueError: There is no such module.
    """
    given = parser.parse_args(argv)
    import_named(getattr(given, "import") or ())
    return given


def _dotted(text: str) -> str:
    """Return the dotted name of a module; the ``type`` of an argument."""
    if not is_dotted(text):
        raise argparse.ArgumentTypeError(f"not the dotted name of a module: {text}")
    return text


def json_object(text: str) -> dict[str, Any]:
    """Return the object written in a JSON text; the ``type`` of an argument.

    Args:
        text: What the caller wrote.

    Returns:
        The object.

    Raises:
        argparse.ArgumentTypeError: It is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON ({error}): {text}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f'not a JSON object, such as {{"g": 9.81}}: {text}')
    return value


def add_providers(parser: argparse.ArgumentParser, use: str) -> None:
    """Add the option that names execution providers.

    Args:
        parser: Of the command.
        use: What is done with them, begin of a sentence.
    """
    parser.add_argument(
        "--providers",
        nargs="+",
        metavar="NAME",
        help=f"{use} these execution providers of onnxruntime, in the order in which they are "
        "tried, NAME or NAME:KEY=VALUE,KEY=VALUE; the file's probe rows prove them first. Default: "
        "the processor",
    )


def run(body: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Return the exit code of a command.

    Args:
        body: The command: words in, exit code out.
        argv: Words after the command; ``None`` takes those of the process. ``--traceback`` is taken
            out, so that ``body`` need not know it.

    Returns:
        That of ``body``, or 2 after a mistake of the caller.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if TRACEBACK in words:
        return body([word for word in words if word != TRACEBACK])
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show
            return body(words)
    except ImportError as error:
        missing = _missing(error)
        if missing is None:
            raise
        sys.stderr.write(f"{missing}\n")
    except BrokenPipeError:
        raise  # the reader of the output went away: no mistake, and the entry knows what to do
    except (ValueError, OSError) as error:
        fix = _FULL if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else ""
        sys.stderr.write(f"error: {' '.join(str(error).split())}{fix}\n")
    return 2


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning to stderr: what concerns a user without the place in the code."""
    if issubclass(category, UserWarning):
        text = f"warning: {' '.join(str(message).split())}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    (file or sys.stderr).write(text)


def _missing(error: ImportError) -> str | None:
    """Return what to install, or ``None`` where an extra would not help."""
    package = (error.name or "").partition(".")[0]
    if package in TRAINING:
        return 'This command needs the training install: pip install "hindsight-rl[train]"'
    if package == "matplotlib":
        return 'Plots need matplotlib: pip install "hindsight-rl[report]"'
    return None
