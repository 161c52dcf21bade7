"""The ``hindsight`` command: finds the subcommand and hands over.

Nothing is imported until a subcommand is known: the help answers at once, and the robot's install,
which has no PyTorch, runs ``hindsight run``.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from hindsight_rl.endings import ENDING, WARNING, Ended, ended, handled
from hindsight_rl.importing import importing


class Command(NamedTuple):
    """A subcommand: the module here whose ``main(argv) -> int`` serves it, and its help line."""

    module: str
    summary: str


GROUPS: dict[str, dict[str, Command]] = {
    "Data": {
        "inspect": Command("inspect", "count, check and plot a log in any format"),
        "collect": Command("collect", "record a log from scripted behaviour of mixed quality"),
        "relabel": Command("relabel", "write a relabeled copy of a log, and a report about it"),
        "convert": Command("convert", "write a log as LeRobot, Minari or parquet"),
        "compare": Command("compare", "ask which of two segments of a log is better"),
    },
    "Policy": {
        "fit": Command("lightning", "choose the data, fit the policy"),
        "validate": Command("lightning", "losses of a checkpoint on held-out episodes"),
        "test": Command("lightning", "returns of a checkpoint in an environment"),
        "predict": Command("lightning", "actions of a checkpoint on a log"),
        "sweep": Command("sweep", "fit over settings and seeds, and one table with intervals"),
        "judge": Command("judge", "what policies are worth by a log, without an environment"),
    },
    "Robot": {
        "adapt": Command("adapt", "adapt a policy to a task by a few episodes, and export it"),
        "export": Command("export", "write a checkpoint as one ONNX file, or verify such a file"),
        "run": Command("run", "run an ONNX file in an environment, without PyTorch"),
        "ros": Command("ros", "run an ONNX file as a node of ROS 2, without PyTorch"),
    },
}
COMMANDS = {name: command for group in GROUPS.values() for name, command in group.items()}

# What the train extra installs, as import names.
TRAINING = frozenset(
    "h5py jsonargparse lightning minari omegaconf onnx onnxscript PIL pyarrow tensorboard "
    "safetensors tensordict torch tqdm yaml".split()
)

_EXAMPLES = """
Examples
  hindsight inspect log.npz --columns my_map.yaml --plot log.png
  hindsight fit --config iql --data.source log.npz --run runs/a
  hindsight test --run runs/a --env Pendulum-v1
  hindsight export --ckpt_path runs/a/checkpoints/last.ckpt --output policy.onnx
  hindsight run policy.onnx --env Pendulum-v1 --episodes 20
"""


def help_text() -> str:
    """Return the text of ``hindsight --help``."""
    lines = [
        "usage: hindsight COMMAND ...",
        "",
        "From a log of mixed quality to a policy in one ONNX file.",
    ]
    for group, commands in GROUPS.items():
        lines += ["", group]
        lines += [f"  {name:<10}{command.summary}" for name, command in commands.items()]
    lines += [
        "",
        "hindsight COMMAND --help lists its options, hindsight --version the version.",
    ]
    return "\n".join(lines) + "\n" + _EXAMPLES


def main(argv: Sequence[str] | None = None) -> int:
    """Run one ``hindsight`` command.

    Args:
        argv: Words after ``hindsight``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller, 130 stopped by SIGINT (Ctrl-C), 143 by
        SIGTERM, 138 by SIGUSR1 (``fit``), 141 the reader of the output went away; others are the
        subcommand's own.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    with handled((*ENDING, *(WARNING if words[:1] == ["fit"] else ())), ended):
        return _guarded(words)


def _guarded(words: list[str]) -> int:
    """Return the exit code of a command, one that was ended from outside included."""
    try:
        code = _dispatch(words)
        # A closed pipe must show here, not while the interpreter shuts down.
        sys.stdout.flush()
    except Ended as stop:
        sys.stderr.write(f"{stop}\n")
        return stop.code
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return code


def _dispatch(words: list[str]) -> int:
    name = words[0] if words else "--help"
    if name in ("--help", "-h", "help"):
        sys.stdout.write(help_text())
        return 0
    if name == "--version":
        sys.stdout.write(f"hindsight {_version()}\n")
        return 0
    if name not in COMMANDS:
        sys.stderr.write(_unknown(name))
        return 2
    return _run(name, words[1:])


def _run(name: str, rest: list[str]) -> int:
    module = COMMANDS[name].module
    # A module that serves several commands is given which.
    words = rest if module == name else [name, *rest]
    try:
        with importing():
            found = import_module(f"hindsight_rl.cli.{module}")
        return int(found.main(words))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in TRAINING:
            raise
        sys.stderr.write(
            f'hindsight {name} needs the training install: pip install "hindsight-rl[train]"\n'
        )
        return 2


def _unknown(name: str) -> str:
    from difflib import get_close_matches  # Only a slip of the finger pays for this import.

    near = get_close_matches(name, COMMANDS, n=1)
    fix = f"Did you mean 'hindsight {near[0]}'?" if near else f"Commands: {', '.join(COMMANDS)}."
    return f"hindsight: no command '{name}'. {fix}\n"


def _version() -> str:
    from importlib.metadata import version  # 20 ms that --help need not wait for.

    return version("hindsight-rl")


if __name__ == "__main__":
    sys.exit(main())
