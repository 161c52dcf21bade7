"""The generated parts of a learner's page: what its paper says, its arguments, its configurations.

A page is written by hand between these parts: the idea, when to use the learner, what to watch. The
parts come from the learner's module and class docstrings, its signature and ``configs/``.
"""

import dataclasses
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from hindsight_rl.nets.network import Head
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.limits import Ability
from hindsight_rl.training.update.adam import adam_obstacle
from hindsight_rl.training.update.plan import own_update

ROOT = Path(__file__).resolve().parents[1]
ABILITY: dict[Ability, str] = {
    "resume": "resume",
    "ranks": "two processes",
    "update": "one graph",
    "seeds": "seeds at once",
    "bf16": "bf16",
}
SECTIONS = ("Reference", "Deviations", "Update order")
_ARGUMENT = re.compile(r"^    (\*{0,2}\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)


def markdown(text: str) -> str:
    """Return a piece of a docstring as Markdown: literals and references become code."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)


def sections(docstring: str) -> dict[str, str]:
    """Return the parts of a learner's module docstring by name; ``Objective`` is what precedes."""
    _, _, body = docstring.partition("\n\n")
    names = "|".join(SECTIONS)
    pieces = re.split(rf"^({names}):\s", body, flags=re.MULTILINE)
    found = {"Objective": pieces[0]} | dict(zip(pieces[1::2], pieces[2::2], strict=True))
    return {name: text.strip("\n") for name, text in found.items()}


def source(learner: type, line: str) -> str:
    """Return where a learner is written, its paper's objective, reference and deviations."""
    doc = inspect.getdoc(sys.modules[learner.__module__]) or ""
    said = {name: markdown(text) for name, text in sections(doc).items()}
    file = f"agents/{learner.__module__.rpartition('.')[2]}.py"
    blocks = [f"{line}. Source: [{file}](../../{file}).", "## Objective", said["Objective"]]
    for name in SECTIONS:
        if name in said:
            text = said[name]
            blocks += [f"## {name}", text[:1].upper() + text[1:]]
    return "\n\n".join(blocks)


def argument_lines(kind: type) -> dict[str, str]:
    """Return what a class's docstring says of each argument, on one line."""
    doc = inspect.getdoc(kind) or ""
    args = re.search(r"^(?:Args|Attributes):\n((?: {4}.*\n?|\n)+)", doc, re.MULTILINE)
    found = _ARGUMENT.findall(args[1]) if args else []
    return {name: re.sub(r"\s+", " ", markdown(text)) for name, text in found}


def written(value: Any) -> str:
    """Return a default as a configuration writes it."""
    if value is inspect.Parameter.empty:
        return "required"
    if callable(value):  # builds the optimiser
        optimizer = value([torch.nn.Parameter(torch.zeros(()))])
        return f"`{type(optimizer).__name__}`, rate {optimizer.defaults['lr']:g}"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "`.inf`" if value > 0 else "`-.inf`"
    if isinstance(value, tuple):
        value = list(value)
    named = {None: "null", True: "true", False: "false"}
    plain = named[value] if value is None or isinstance(value, bool) else str(value)
    return f"`{plain}`"


def arguments(kind: type, prefix: str = "", defaults: object = None) -> str:
    """Return the rows of a class's arguments: name, default, meaning.

    Args:
        kind: The class.
        prefix: Of the names, where it is itself an argument.
        defaults: Holds the defaults as attributes, in place of the signature.
    """
    meaning, rows = argument_lines(kind), []
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "spec" or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        text = meaning[name].replace("|", "\\|")
        default = getattr(defaults, name, parameter.default)
        if dataclasses.is_dataclass(default):
            rows.append(arguments(type(default), f"{name}.", default))
        else:
            rows.append(f"| `{prefix}{name}` | {written(default)} | {text} |")
    return "\n".join(rows)


def table(kind: type) -> str:
    """Return the table of a class's arguments, or that it has none of its own."""
    rows = arguments(kind)
    return f"| argument | default | what |\n|---|---|---|\n{rows}" if rows else "None of its own."


def configurations(learner: type) -> str:
    """Return the packaged configurations of a learner; the one of its name is shown."""
    stem = learner.__module__.rpartition(".")[2]
    names = [
        path.stem
        for path in sorted((ROOT / "configs").glob("*.yaml"))
        if OmegaConf.load(path)["model"]["class_path"] == learner.__name__
    ]
    own = f"```yaml\n{(ROOT / 'configs' / f'{stem}.yaml').read_text('utf-8').strip()}\n```"
    links = [f"[{name}](../../configs/{name}.yaml)" for name in names if name != stem]
    also = [f"Other configurations: {', '.join(links)}."] if links else []
    return "\n\n".join([f"`--config {stem}`:", own, *also])


def settings(learner: type) -> str:
    """Return the arguments of a learner and its configurations."""
    shared = "[those of every learner](README.md#arguments-of-every-learner)"
    return "\n\n".join(
        [
            f"## Arguments\n\nBeside {shared}:",
            table(learner),
            *([unable(learner)] if unable(learner) else []),
            "## Configuration",
            configurations(learner),
        ]
    )


def limits(learner: type[Learner]) -> dict[Ability, str]:
    """Return what a learner cannot do as it is, and why, in the words of the error."""
    found = dict(learner.limits)
    takes = {**inspect.signature(Learner).parameters, **inspect.signature(learner).parameters}
    obstacle = adam_obstacle(takes["optimizer"].default([torch.nn.Parameter(torch.zeros(()))]))
    if learner.update is not Learner.update:
        obstacle = own_update(learner)
    if obstacle:
        found = {"update": obstacle, "seeds": obstacle} | found
    return found


def unable(learner: type[Learner]) -> str:
    """Return the section on what a learner cannot do, nothing where it can do all."""
    lines = [f"- {ABILITY[name]}: {why}." for name, why in limits(learner).items()]
    return "\n".join(["## What it cannot do as it is\n", *lines]) if lines else ""


def shared() -> str:
    """Return the arguments that every learner takes, and the fields of a head."""
    head = (
        "Learners that choose a distribution take `head`, its kind or all of it "
        "(`--model.head mixture`, `--model.head.components 3`):"
    )
    fields = f"| argument | default | what |\n|---|---|---|\n{arguments(Head, 'head.', Head())}"
    return "\n\n".join([table(Learner), head, fields])


def blank(learner: type) -> str:
    """Return the page of a learner that has none yet: the places of the generated parts."""
    places = [f"<!-- {name} -->\n<!-- end of {name} -->" for name in ("source", "settings")]
    numbers = "## Numbers\n\n<!-- numbers -->\n<!-- end of numbers -->"
    return "\n\n".join([f"# {learner.__name__}", *places, numbers]) + "\n"
