"""Measure a checkout: its largest classes, constructors and folders, and where keys are defined.

    python tools/measure_code.py [FOLDER]

FOLDER is a checkout of this repository, this one if left out; one of a former layout can be
measured too. Prints a table.
"""

import argparse
import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

KEYS = re.compile(r"^(OBSERVATION|ACTION|REWARD|TERMINATED|TRUNCATED|TASK|ACHIEVED|NEXT_\w+)\b")


def modules(root: Path) -> dict[Path, ast.Module]:
    """Return every module of the package, parsed."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    folders = settings["tool"]["setuptools"]["package-dir"].values()
    files = [path for folder in folders for path in sorted((root / folder).rglob("*.py"))]
    return {path.relative_to(root): ast.parse(path.read_text()) for path in files}


def classes(found: dict[Path, ast.Module]) -> Iterator[tuple[Path, ast.ClassDef]]:
    """Yield every class and its file."""
    for path, tree in found.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield path, node


def arguments(kind: ast.ClassDef) -> int:
    """Return how many arguments a constructor has, ``self`` and ``**`` left out."""
    for node in kind.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            names = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            return len(names) - 1
    return 0


def key_definitions(found: dict[Path, ast.Module]) -> int:
    """Return how many modules give a name to a key of the batch."""

    def defines(tree: ast.Module) -> bool:
        for node in tree.body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
            for target in targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                if any(isinstance(name, ast.Name) and KEYS.match(name.id) for name in names):
                    return True
        return False

    return sum(defines(tree) for tree in found.values())


def strict_folders(root: Path) -> str:
    """Return the folders that mypy holds to its strict rules."""
    makefile = (root / "Makefile").read_text()
    match = re.search(r"^TYPED := (.*)$", makefile, re.MULTILINE)
    return match.group(1) if match else "all" if "mypy -p hindsight_rl" in makefile else "none"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path(__file__).parents[1])
    root = parser.parse_args().folder
    found = modules(root)
    kinds = list(classes(found))
    longest = sorted(kinds, key=lambda k: (k[1].end_lineno or 0) - k[1].lineno, reverse=True)
    widest = sorted(kinds, key=lambda k: arguments(k[1]), reverse=True)
    lines = {path: len((root / path).read_text().splitlines()) for path in found}
    folders: dict[str, int] = {}
    for path, count in lines.items():
        folders[path.parts[0]] = folders.get(path.parts[0], 0) + count
    total = sum(folders.values())
    print("largest classes, lines")
    for path, kind in longest[:5]:
        print(f"  {(kind.end_lineno or 0) - kind.lineno + 1:5} {kind.name} ({path})")
    print("largest constructors, arguments")
    for path, kind in widest[:5]:
        print(f"  {arguments(kind):5} {kind.name} ({path})")
    print("folders, share of lines")
    for folder, count in sorted(folders.items(), key=lambda item: -item[1])[:5]:
        print(f"  {count / total:5.1%} {folder}")
    print(f"lines in all: {total}")
    print(f"lines of agents/iql.py: {lines[Path('agents/iql.py')]}")
    learners = {path: count for path, count in lines.items() if path.parts[0] == "agents"}
    longest_file = max(learners, key=lambda path: learners[path])
    print(f"longest file of agents: {learners[longest_file]} ({longest_file.name})")
    print(f"folders under strict types: {strict_folders(root)}")
    print(f"modules that define a key: {key_definitions(found)}")


if __name__ == "__main__":
    main()
