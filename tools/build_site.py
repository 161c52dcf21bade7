"""Build the documentation as a site with search and pages of the public names: ``make site``.

    python tools/build_site.py [--serve]

Pages are docs/, the documents beside README and, for each room, the public names with their
docstrings (mkdocstrings). Links that leave docs/ lead to those pages, or lose their target where a
reader of the site has none. Zensical builds build/site/out, and a link that leads nowhere ends it
with an error.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "build" / "site"
DEMO = ROOT / "build" / "demo"
"""The demo page: part of the site if it was made before."""
STYLE = Path(__file__).with_name("site.css")
DOCUMENTS = {
    "README.md": "first-steps.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "CHANGELOG.md": "project/changes.md",
    "benchmarks/NOTES.md": "project/what-was-tried.md",
}
"""Pages that lie outside docs/, and where the site has them."""
FIRST = "docs/from-bag-to-robot.md"
"""The page that the site opens with."""
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>(?:[^][]|\[[^]]*\])*)\]\((?P<target>[^)\s]+)\)")
# Code comes first: ``a[0](b)`` in it is no link.
_CODE_OR_LINK = re.compile(rf"```.*?```|`[^`\n]+`|{_LINK.pattern}", re.DOTALL)
_INTERVAL = re.compile(r"-?[\d.,]+(?: %)? \[-?[\d.,]+(?: %)?, -?[\d.,]+(?: %)?\]|\[?\b95 %\]?")
_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc):`~?(?P<name>[\w.]+)`")
_TITLES = {"first-steps.md": "First steps", "contents.md": "All pages"}
_ROOMS = {
    "agents": "Learners",
    "relabel": "Relabelers",
    "tasks": "Tasks",
    "datamodules": "Datamodules",
    "logs": "Logs",
    "nets": "Networks",
    "training": "Training",
    "diagnostics": "Diagnostics",
    "planners": "Planners",
    "envs": "Environments",
    "export": "Export",
    "maths": "Equations",
}


def pages() -> dict[str, str]:
    """Return every page: where it lies in the repository, and where the site has it."""
    found = {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in sorted((ROOT / "docs").rglob("*.md"))
    }
    found["docs/README.md"] = "contents.md"
    found |= DOCUMENTS
    return found | {FIRST: "index.md"}


def moved_links(text: str, source: str, target: str, places: Mapping[str, str]) -> str:
    """Return a page whose links lead to where the site has their targets.

    Args:
        text: Markdown.
        source: Where the page lies in the repository, with slashes.
        target: Where the site has it.
        places: Page of the site by file of the repository; files that are not pages too.

    Returns:
        The page. A link to a file that the site does not have keeps its text.
    """

    def moved(match: "re.Match[str]") -> str:
        path, sharp, anchor = match["target"].partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        meant = _joined(PurePosixPath(source).parent, path)
        if meant not in places:
            return str(match["text"])
        if not places[meant].endswith(".md"):
            sharp = anchor = ""
        here = os.path.relpath(places[meant], PurePosixPath(target).parent)
        return f"{match['image']}[{match['text']}]({here}{sharp}{anchor})"

    def kept_or_moved(match: "re.Match[str]") -> str:
        return moved(match) if match["target"] else match[0]

    return _CODE_OR_LINK.sub(kept_or_moved, text)


def unbroken(text: str) -> str:
    """Return a page in whose tables lines do not break between a number and its interval."""
    lines = text.splitlines(keepends=True)
    return "".join(
        _INTERVAL.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), line)
        if line.startswith("|")
        else line
        for line in lines
    )


def linked_roles(text: str, public: Mapping[str, str]) -> str:
    """Return source whose references to public names are links of the site.

    Args:
        text: Source of a module.
        public: Module (``agents.iql``) by public name.

    Returns:
        The source; references to other names become code.
    """

    def linked(match: "re.Match[str]") -> str:
        name = match["name"].rpartition(".")[2]
        code = f"`{name}`"
        return f"[{code}][hindsight_rl.{public[name]}.{name}]" if name in public else code

    return _ROLE.sub(linked, text)


def reference(room: str, public: Mapping[str, str]) -> str:
    """Return the page of a room's public names.

    Args:
        room: Folder, such as ``agents``.
        public: Module by public name.

    Returns:
        Markdown for mkdocstrings.
    """
    names = sorted(name for name, home in public.items() if home.split(".")[0] == room)
    blocks = [f"::: hindsight_rl.{public[name]}.{name}" for name in names]
    return "\n\n".join(
        [f"# {_ROOMS[room]}", f"`from hindsight_rl import {names[0]}, ...`", *blocks]
    )


def navigation(places: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Return sections of the site, each with its pages in order.

    Args:
        places: Of :func:`pages`.

    Returns:
        Titles and pages. Guides come in the order of docs/README.md.
    """
    table = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    listed = [match["target"] for match in _LINK.finditer(table)]
    learners = sorted(p for p in places.values() if p.startswith("learners/"))
    learners.sort(key=lambda page: page != "learners/README.md")
    start = ["index.md", "first-steps.md", "contents.md", "gallery.md"]
    guides = [page for page in listed if page in places.values() and page not in start + learners]
    return [
        ("Start", start),
        ("Guides", guides),
        ("Learners", learners),
        ("Reference", [f"names/{room}.md" for room in _ROOMS]),
        ("Project", [page for page in places.values() if page.startswith("project/")]),
    ]


def assemble(folder: Path) -> None:
    """Write the pages, the source that they are made from, and the settings of Zensical.

    Args:
        folder: Emptied first.
    """
    from hindsight_rl import _HOME as PUBLIC  # noqa: N812  # a table

    shutil.rmtree(folder, ignore_errors=True)
    places = pages()
    pictures = {
        path.relative_to(ROOT).as_posix(): path.relative_to(ROOT / "docs").as_posix()
        for path in sorted((ROOT / "docs").rglob("*"))
        if path.suffix in (".svg", ".png", ".webp", ".gif", ".html")
    }
    names = {
        f"{home.replace('.', '/')}.py": f"names/{home.split('.')[0]}.md" for home in PUBLIC.values()
    }
    demo = {"tools/demo/index.html": "demo/index.html"} if (DEMO / "index.html").exists() else {}
    targets = places | pictures | names | demo
    for source, target in places.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        page = unbroken(moved_links(text, source, target, targets))
        _write(folder / "pages" / target, page)
    shutil.copyfile(STYLE, folder / "pages" / "site.css")
    for source, target in pictures.items():
        (folder / "pages" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / source, folder / "pages" / target)
    if demo:
        shutil.copytree(DEMO, folder / "pages" / "demo", dirs_exist_ok=True)
    for room in _ROOMS:
        _write(folder / "pages" / "names" / f"{room}.md", reference(room, PUBLIC) + "\n")
        for path in (ROOT / room).rglob("*.py"):
            text = linked_roles(path.read_text(encoding="utf-8"), PUBLIC)
            _write(folder / "source" / "hindsight_rl" / path.relative_to(ROOT), text)
    for path in (ROOT / "hindsight_rl").glob("*.py"):
        text = linked_roles(path.read_text(encoding="utf-8"), PUBLIC)
        _write(folder / "source" / "hindsight_rl" / path.name, text)
    _write(folder / "zensical.toml", _settings(places))


def main() -> int:
    """Build the site, or serve it on this machine; returns Zensical's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="serve it at http://localhost:8000")
    given = parser.parse_args()
    assemble(SITE)
    command = [
        sys.executable,
        "-m",
        "zensical",
        *(["serve"] if given.serve else ["build", "--strict"]),
    ]
    return subprocess.run(command, cwd=SITE, check=False).returncode


def _settings(places: Mapping[str, str]) -> str:
    sections = ",\n  ".join(
        f'{{ "{title}" = [{", ".join(map(_entry, found))}] }}'
        for title, found in navigation(places)
    )
    return f"""[project]
site_name = "Hindsight"
site_description = "From the logs of a robot to a policy in one ONNX file"
docs_dir = "pages"
site_dir = "out"
extra_css = ["site.css"]
nav = [
  {sections}
]

[project.theme]
font = false
features = ["navigation.sections", "navigation.top", "content.code.copy", "search.suggest"]

[project.plugins.mkdocstrings.handlers.python]
paths = ["source"]

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
show_source = false
show_root_heading = true
show_root_full_path = false
show_symbol_type_heading = true
heading_level = 2
members_order = "source"
inherited_members = false
"""


def _entry(page: str) -> str:
    """Return a page of the navigation, with a title where its own heading would not do."""
    return f'{{ "{_TITLES[page]}" = {page!r} }}' if page in _TITLES else repr(page)


def _joined(folder: PurePosixPath, path: str) -> str:
    return os.path.normpath(folder / path)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
