"""The words of a Lightning command: short forms spelled out before LightningCLI reads them."""

import argparse
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hindsight_rl.cli.former import current_classes, current_word, is_iterated
from hindsight_rl.cli.learner_words import content, former_words, init_args, learner_words
from hindsight_rl.cli.run_lock import check_free
from hindsight_rl.cli.runs import (
    CHECKPOINTS,
    CONFIG,
    chosen_checkpoint,
    global_rank,
    newest_checkpoint,
    newest_run,
)
from hindsight_rl.training.checkpoints.arguments import MERGED, MOVED, translated
from hindsight_rl.training.checkpoints.load import learner_named

# The learner's environment has a short form, which is the one that is read.
_ENV = re.compile(r"^--model\.(init_args\.)?evaluation\.env(?==|$)")


def spell_out(arguments: list[str]) -> tuple[list[str], bool]:
    """Return arguments with ``--resume``, ``--run`` and packaged names spelled out, and ``--json``.

    Args:
        arguments: Subcommand first.

    Returns:
        Arguments for LightningCLI and whether the report is wanted as JSON.

    Raises:
        ValueError: ``--resume`` together with ``--ckpt_path``.
    """
    command, rest = arguments[0], [_ENV.sub("--env", w) for w in former_words(arguments[1:])]
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--resume", action="store_true")
    early.add_argument("--json", action="store_true")
    found, rest = early.parse_known_args(rest)
    look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    look.add_argument("--run", type=Path)
    look.add_argument("--ckpt_path", type=Path)
    look.add_argument("-c", "--config")
    known, _ = look.parse_known_args(rest)
    if found.resume:
        if known.ckpt_path:
            raise ValueError("--resume finds the checkpoint itself: leave out --ckpt_path")
        run = known.run or newest_run()
        rest += _going_on(run)
        rest += [] if known.run else ["--run", str(run)]
        rest = rest if known.config else ["--config", str(run / CONFIG), *rest]
    elif command != "fit" and known.run is not None:
        if known.ckpt_path is None:
            rest += ["--ckpt_path", str(chosen_checkpoint(known.run))]
        # A configuration names classes to import: it is read from a folder that was named, never
        # because it lies beside a checkpoint. A test needs none.
        if command != "test" and not known.config:
            rest = ["--config", str(known.run / CONFIG), *rest]
    rest = _packaged_configs(rest)
    if is_iterated(_datamodule(rest)):
        rest = [current_word(word) for word in rest]
    rest = learner_words(rest)
    return [command, *rest], found.json


def _datamodule(words: list[str]) -> Any:
    """Return the name of the datamodule's class in the words of a command, the last one given."""
    found: Any = None
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        if before in ("--data", "--data.class_path"):
            found = word
        elif equals and name in ("--data", "--data.class_path"):
            found = value
        elif before in ("-c", "--config"):
            config = content(word)
            data = config.get("data") if isinstance(config, dict) else None
            found = data.get("class_path", found) if isinstance(data, dict) else found
    return found


def _going_on(run: Path) -> list[str]:
    """Return the words for going on from a run's newest checkpoint, and say which it is."""
    if global_rank() == 0:  # further processes of a run share the lock of the first
        check_free(run)
    if (run / CONFIG).exists() and not any((run / CHECKPOINTS).glob("*.ckpt")):
        # Killed before the first one. Its configuration makes the same updates again.
        sys.stderr.write(f"{run} has no checkpoint yet: it starts anew\n")
        return []
    checkpoint = newest_checkpoint(run)
    sys.stderr.write(f"resuming {checkpoint}\n")
    return ["--ckpt_path", str(checkpoint)]


def configured_imports(arguments: list[str]) -> list[str]:
    """Return the modules that configurations want imported (``import: [my_learners]``).

    Args:
        arguments: Words of a command, spelled out.

    Returns:
        Their dotted names.

    Raises:
        ValueError: ``import`` is no list of names.
    """
    modules: list[str] = []
    for before, word in zip(arguments, arguments[1:], strict=False):
        if before not in ("-c", "--config"):
            continue
        found = content(word)
        named = (found.get("import") if isinstance(found, dict) else None) or []
        if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
            raise ValueError(f"{word}: import is {named!r}, it must be a list of modules")
        modules += named
    return modules


def _packaged_configs(arguments: list[str]) -> list[str]:
    """Return arguments in which ``--config iql`` names the packaged ``configs/iql.yaml``."""
    look = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    look.add_argument("--env")
    env = look.parse_known_args(arguments)[0].env
    result, before = [], ""
    for word in arguments:
        if before in ("-c", "--config"):
            path = Path(packaged_config(word))
            found = content(str(path))
            result.append(former_config(found) or str(path))
            result += _shared_env(path, found, env)
        else:
            result.append(word)
        before = word
    return result


def former_config(found: Any) -> str:
    """Return the text of a configuration of an older layout in the spelling of today.

    Args:
        found: What the file holds.

    Returns:
        YAML; nothing where the file is of today's layout, and can be read as it is.
    """
    current = current_classes(found)
    given = init_args(current, "model")
    former = any(name in MOVED or name in MERGED or name == "evaluation" for name in given)
    kind = learner_named(current["model"].get("class_path")) if former else None
    arguments = translated(given, kind)
    if arguments != given:
        current = current | {"model": current["model"] | {"init_args": arguments}}
    return "" if current == found else yaml.safe_dump(current, sort_keys=False)


def _shared_env(config: Path, found: Any, env: str | None) -> list[str]:
    """Return words that bring ``--env`` to data that takes it as ``${env}``.

    The file's own value is filled in when the file is read, before any other word. An environment
    of the learner that stands where it would not be read is an error.
    """
    arguments = init_args(found, "model")
    own = (translated(arguments, None).get("evaluation") or {}).get("env")
    if own is not None:
        name = "env" if "env" in arguments else "evaluation.env"
        raise ValueError(
            f"{config}: model.init_args.{name} is not read: write 'env: {own}' at the top of the "
            "file (data may take it as ${env}), or give --env"
        )
    taken = init_args(found, "data").items()
    return [f"--data.{name}={env}" for name, value in taken if env and value == "${env}"]


def packaged_config(name: str) -> str:
    """Return the path of a configuration.

    Args:
        name: A path, or the name of a packaged configuration (``iql``).

    Returns:
        The path.

    Raises:
        ValueError: It is neither.
    """
    folder = files("hindsight_rl.configs")
    if Path(name).exists():
        return name
    packaged = folder / f"{name}.yaml"
    if not packaged.is_file():
        names = sorted(p.name[:-5] for p in folder.iterdir() if p.name.endswith(".yaml"))
        raise ValueError(
            f"--config {name}: no such file, and no packaged configuration; "
            f"there are: {', '.join(names)}"
        )
    return str(packaged)
