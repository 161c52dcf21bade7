"""Build the source archive, the wheel from it, and check what they hold and that the wheel starts.

    python .ci/wheel.py [--output dist]

The wheel is started in an environment made for it, with its base requirements only: PyTorch is
absent. Exit code 1 and one line per fault otherwise; ``--output`` keeps both files where there is
none.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from email.parser import BytesParser
from pathlib import Path
from zipfile import ZipFile

from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parents[1]
PACKED = re.compile(
    r"hindsight_rl/(.*/)?([^/]+(\.py|\.yaml|\.schema\.json)|py\.typed)"
    r"|hindsight_rl/(export/web/page|runners/js)/[^/]+\.(html|css|mjs)"
    r"|hindsight_rl/training/update/[^/]+\.h"
    r"|hindsight_rl-[^/]+\.dist-info/.*"
)


def run(*words: str | Path, code: int = 0) -> str:
    """Return the output of a command; stop with it when the command does not end with ``code``."""
    line = [str(word) for word in words]
    done = subprocess.run(line, capture_output=True, text=True, cwd="/")
    if done.returncode != code:
        sys.exit(f"{' '.join(line)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(folder: Path) -> tuple[Path, Path]:
    """Return archive and wheel, built from that archive so that nothing left in build/ gets in."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (archive,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return archive, wheel


def archive_faults(archive: Path) -> list[str]:
    """Return what the source archive lacks, and folders that it should not hold."""
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    wanted = ("CHANGELOG.md", "LICENSE", "README.md", "constraints.txt", "pyproject.toml")
    stray = {name.split("/")[0] for name in held} & {"tests", "build", "docs", "benchmarks"}
    return [f"the source archive lacks {name}" for name in wanted if name not in held] + [
        f"the source archive should not hold {name}/" for name in sorted(stray)
    ]


def release_faults(wheel: Path) -> list[str]:
    """Return what is wrong with the metadata, and whether CHANGELOG has no part for the version."""
    with ZipFile(wheel) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith(".dist-info/METADATA"))
        text = opened.read(name)
    version = BytesParser().parsebytes(text)["Version"]
    Metadata.from_email(text, validate=True)  # Raises a group of errors, one per field.
    heading = re.compile(rf"^## {re.escape(version)}( - |$)", re.MULTILINE)
    found = heading.search((ROOT / "CHANGELOG.md").read_text())
    return [] if found else [f"CHANGELOG.md has no part for version {version}"]


def content_faults(wheel: Path) -> list[str]:
    """Return what the wheel holds and should not, and what it lacks."""
    held = set(ZipFile(wheel).namelist())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = settings["tool"]["setuptools"]["package-dir"].values()
    wanted = {
        f"hindsight_rl/{path.relative_to(ROOT).as_posix().removeprefix('hindsight_rl/')}"
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".json", ".html", ".css", ".mjs")
        or path.name == "py.typed"
    }
    stray = sorted(name for name in held if not PACKED.fullmatch(name))
    lost = sorted(wanted - held)
    return [f"the wheel should not hold {name}" for name in stray] + [
        f"the wheel lacks {name}: is its folder listed in pyproject.toml?" for name in lost
    ]


def start_on_robot(wheel: Path, folder: Path) -> None:
    """Import the runtime and start the command with the base requirements only."""
    venv.create(folder, with_pip=False, symlinks=True)
    python, command = folder / "bin" / "python", folder / "bin" / "hindsight"
    pins = ROOT / "constraints.txt"
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "-c", pins, wheel)
    run(python, "-c", "import torch", code=1)
    run(python, "-c", "import hindsight_rl.export.runtime, hindsight_rl.envs.rollout")
    run(command, "run", "--help")


def main() -> None:
    """Build and check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="folder that keeps archive and wheel")
    kept = parser.parse_args().output
    with tempfile.TemporaryDirectory() as scratch:
        archive, wheel = build(Path(scratch, "dist"))
        faults = archive_faults(archive) + content_faults(wheel) + release_faults(wheel)
        if faults:
            sys.exit("\n".join(faults))
        start_on_robot(wheel, Path(scratch, "robot"))
        if kept is not None:
            kept.mkdir(parents=True, exist_ok=True)
            for path in (archive, wheel):
                shutil.copy2(path, kept)
    sys.stdout.write(f"{wheel.name}: holds what it should and starts without PyTorch\n")


if __name__ == "__main__":
    main()
