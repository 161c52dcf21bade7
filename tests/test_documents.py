"""Every page can be reached, every relative link leads somewhere, the guides' examples run."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/learners/*.md")])

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[tuple[int, str]]:
    """Return the relative links of a page outside code blocks, with their lines."""
    # Blank a code block but keep its lines, so that line numbers stay right.
    text = _CODE.sub(
        lambda block: "\n" * block.group().count("\n"), page.read_text(encoding="utf-8")
    )
    found = [
        (number, link)
        for number, line in enumerate(text.splitlines(), 1)
        for link in _LINK.findall(line)
    ]
    return [(number, link) for number, link in found if not re.match(r"\w+:", link)]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, formed as the usual viewers form them."""
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    faults = []
    for number, link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        where = f"{page.relative_to(ROOT)}:{number}"
        if not target.exists():
            faults.append(f"{where}: '{link}' leads nowhere")
        elif anchor and anchor not in anchors(target):
            faults.append(f"{where}: {target.name} has no heading for '#{anchor}'")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_parts_that_commands_write_begin_and_end_once(page: Path) -> None:
    marks = re.findall(r"^<!-- (.+?) -->$", page.read_text(encoding="utf-8"), re.MULTILINE)
    begun, ended = marks[::2], marks[1::2]
    assert len(begun) == len(ended)
    assert all(end in ("end", f"end of {name}") for name, end in zip(begun, ended, strict=True))
    assert len(set(begun)) == len(begun)


def named(page: Path) -> list[tuple[int, str]]:
    """Return the code of a page that names a file of the repository or a module, with its lines."""
    folders = "|".join(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())
    file = rf"`((?:{folders}|benchmarks|configs|tests|tools)/[\w./]+\w)`"
    pattern = rf"{file}|(hindsight_rl\.[a-z_.]*[a-z_])"
    return [
        (number, path or module)
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        for path, module in re.findall(pattern, line)
    ]


def exists(name: str) -> bool:
    """Return whether a file, or a module or something in it, is there."""
    if "/" in name:
        return (ROOT / name).exists()
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_named_files_and_modules_exist(page: Path) -> None:
    example = "configs/aboveaverage.yaml"  # of the guide on learners
    faults = [
        f"{page.relative_to(ROOT)}:{number}: there is no {name}"
        for number, name in named(page)
        if name != example and not exists(name)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("page", sorted(INDEX.parent.glob("*.md")), ids=lambda page: page.name)
def test_page_is_in_the_index(page: Path) -> None:
    linked = {(INDEX.parent / link.partition("#")[0]).resolve() for _, link in links(INDEX)}
    assert page == INDEX or page in linked, f"docs/README.md:1: does not link {page.name}"


def test_every_learner_has_a_page() -> None:
    folder = INDEX.parent / "learners"
    linked = {link for _, link in links(folder / "README.md")}
    pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert pages <= linked and {link for link in linked if "/" not in link} <= pages


def test_tables_follow_the_docstrings() -> None:
    """README's methods and the index of the learners: ``make docs`` would change nothing."""
    command = [sys.executable, "tools/documents.py", "--check"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "name", ["writing-a-learner.md", "writing-a-relabeler.md", "task-families.md", "plug-ins.md"]
)
def test_examples_run(name: str) -> None:
    page = INDEX.parent / name
    space: dict[str, Any] = {"__name__": f"example_of_{page.stem}"}
    text = page.read_text(encoding="utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        # Empty lines before the block make a traceback name the line of the page.
        lines = "\n" * (text[: block.start()].count("\n") + 1)
        exec(compile(lines + block[1], str(page), "exec"), space)
    tests = [value for key, value in space.items() if key.startswith("test_")]
    assert tests, f"docs/{name}: shows no test"
    for test in tests:
        test()
