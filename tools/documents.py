"""Rewrite what documents say of code: README's table of methods, the learners' pages and index.

    python tools/documents.py [--check]

A row of README's table is a packaged configuration: its data step is the first line of its
relabelers' docstrings, its policy step that of its learner's module. A learner's page has generated
parts (:mod:`learner_pages`); a learner without a page gets one. ``--check`` writes nothing and
fails where a document is behind the code.
"""

import argparse
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import learner_pages
from omegaconf import OmegaConf

from hindsight_rl.diagnostics.ope.estimates import BELIEVE
from hindsight_rl.files import write_text
from hindsight_rl.plugins import import_rooms
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.training.checkpoints.load import learner_classes
from hindsight_rl.training.learner import Learner
from hindsight_rl.training.limits import ABILITIES

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "learners"
sys.path.insert(0, str(ROOT / "tests"))  # variants: what is tested of each learner


def first_line(kind: type) -> str:
    """Return the first line of a class's docstring, without its full stop."""
    return (inspect.getdoc(kind) or "").split("\n", 1)[0].rstrip(".").replace("``", "`")


def title(learner: type) -> str:
    """Return the first line of a learner's module: its name in full and the idea."""
    return (sys.modules[learner.__module__].__doc__ or "").split("\n", 1)[0].rstrip(".")


def idea(learner: type) -> str:
    """Return what the first line of a learner's module says after its name."""
    return title(learner).partition(": ")[2]


def relabelers() -> dict[str, type[Relabeler]]:
    """Return every relabeler by name."""
    import_rooms("relabel", "tasks")
    found, todo = {}, Relabeler.__subclasses__()
    while todo:
        kind = todo.pop()
        todo += kind.__subclasses__()
        found[kind.__name__] = kind
    return found


def learners() -> dict[str, type[Learner]]:
    """Return every learner of this package by name."""
    found = learner_classes().items()
    return {kind.__name__: kind for name, kind in found if name.startswith("hindsight_rl.")}


def data_step(name: str, data: Any) -> str:
    """Return what a configuration does to its data, in words."""
    known, options = relabelers(), data["init_args"]
    names = [entry["class_path"] for entry in options.get("relabel", None) or []]
    source = "as collected" if data["class_path"].startswith("Iterated") else "as logged"
    if data["class_path"].startswith("Preference"):
        source = "pairs of segments, compared"
    if name.endswith("_online"):
        source = "as logged, then as collected"
    if options.get("priorities"):
        source += ", rows of large errors more often"
    if options.get("imagined"):
        source += ", and [imagined](docs/imagined.md) by a model from there"
    return "<br>".join(f"`{name}`: {first_line(known[name])}" for name in names) or source


def methods() -> str:
    """Return README's table."""
    rows = []
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        config = OmegaConf.load(path)
        learner = learners()[config["model"]["class_path"]]
        page = f"docs/learners/{learner.__module__.rpartition('.')[2]}.md"
        policy = f"[{learner.__name__}]({page}): {idea(learner)}"
        rows.append(f"| `{path.stem}` | {data_step(path.stem, config['data'])} | {policy} |")
    return "\n".join(["| `--config` | data step | policy step |", "|---|---|---|", *rows])


def index() -> str:
    """Return the table of the learners: what each is, what it takes, where it is explained."""
    rows = []
    for name, kind in sorted(learners().items()):
        stem = kind.__module__.rpartition(".")[2]
        takes = " and ".join(kind.actions) + ("" if kind.acts else "; fits no policy")
        rows.append(f"| [{name}]({stem}.md) | {idea(kind)} | {takes} |")
    return "\n".join(["| learner | idea | actions |", "|---|---|---|", *rows])


def abilities() -> str:
    """Return what every learner can do, with the options that it is tested with.

    The cells come from learners' ``limits`` and default optimisers; tests fit each row.
    """
    variants = importlib.import_module("variants")
    options: dict[str, list[str]] = {name: [] for name in variants.PLAIN}
    for name, variant in variants.OTHERS.items():
        options[variant.learner].append(name.removeprefix(variant.learner).strip())
    rows = []
    for name, kind in sorted(learners().items()):
        limits = learner_pages.limits(kind)
        cells = [name, ", ".join(options[name]), *(limits.get(each, "yes") for each in ABILITIES)]
        rows.append(f"| {' | '.join(cells)} |")
    titles = ["learner", "also with", *(learner_pages.ABILITY[each] for each in ABILITIES)]
    return "\n".join([f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}", *rows])


def placed(page: str, name: str, text: str) -> str:
    """Return a page with a text between its markers.

    Args:
        page: The page.
        name: Of the markers, ``<!-- name -->`` and ``<!-- end of name -->``.
        text: What to put there.

    Returns:
        The whole page.

    Raises:
        ValueError: A marker is missing.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(page):
        raise ValueError(f"no place {begin} ... {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def believe() -> str:
    """Return when to believe each estimator of ``hindsight judge``."""
    rows = [f"| `{name}` | {when} |" for name, when in BELIEVE.items()]
    return "\n".join(["| estimator | believe it |", "|---|---|", *rows])


def documents() -> dict[Path, tuple[str, dict[str, str]]]:
    """Return every document with generated parts: its page if it has none yet, and its parts."""
    found = {
        ROOT / "README.md": ("", {"methods": methods()}),
        ROOT / "docs" / "judging.md": ("", {"believe": believe()}),
        PAGES / "README.md": (
            "",
            {
                "learners": index(),
                "abilities": abilities(),
                "arguments": learner_pages.shared(),
            },
        ),
    }
    for kind in learners().values():
        # Markers stand on lines of their own, so that Markdown sees what is between them.
        parts = {
            "source": f"\n{learner_pages.source(kind, title(kind))}\n",
            "settings": f"\n{learner_pages.settings(kind)}\n",
        }
        page = PAGES / f"{kind.__module__.rpartition('.')[2]}.md"
        found[page] = (learner_pages.blank(kind), parts)
    return found


def main() -> int:
    """Rewrite, or check."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail where a document is behind")
    check = parser.parse_args().check
    behind = []
    for page, (blank, parts) in documents().items():
        old = page.read_text(encoding="utf-8") if page.exists() else ""
        new = old or blank
        try:
            for name, text in parts.items():
                new = placed(new, name, text)
        except ValueError as fault:
            raise SystemExit(f"{page.relative_to(ROOT)}: {fault}") from None
        if new == old:
            continue
        behind.append(page)
        if not check:
            write_text(page, new)
    for page in behind:
        verb = "is behind the code: run make docs" if check else "was rewritten"
        sys.stdout.write(f"{page.relative_to(ROOT)} {verb}\n")
    return 1 if check and behind else 0


if __name__ == "__main__":
    sys.exit(main())
