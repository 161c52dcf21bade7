"""Build the source archive, the wheel from it, and check that it holds and starts what it should.

It is started in an environment made for it, with its base requirements only: PyTorch is absent.
Exit code 1 and one line per fault otherwise.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
PACKED = re.compile(
    r"hindsight_rl/(.*/)?([^/]+(\.py|\.yaml|\.schema\.json)|py\.typed)"
    r"|hindsight_rl-[^/]+\.dist-info/.*"
)


def run(*words: str | Path, code: int = 0) -> str:
    """Return the output of a command; stop with it when the command does not end with ``code``."""
    line = [str(word) for word in words]
    done = subprocess.run(line, capture_output=True, text=True, cwd="/")
    if done.returncode != code:
        sys.exit(f"{' '.join(line)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def build(folder: Path) -> Path:
    """Return the wheel, built from a source archive so that nothing left in build/ gets in."""
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    return wheel


def content_faults(wheel: Path) -> list[str]:
    """Return what the wheel holds and should not, and what it lacks."""
    held = set(ZipFile(wheel).namelist())
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    rooms = settings["tool"]["setuptools"]["package-dir"].values()
    wanted = {
        f"hindsight_rl/{path.relative_to(ROOT).as_posix().removeprefix('hindsight_rl/')}"
        for room in rooms
        for path in (ROOT / room).rglob("*")
        if path.suffix in (".py", ".yaml", ".json") or path.name == "py.typed"
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
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build(Path(scratch, "dist"))
        faults = content_faults(wheel)
        if faults:
            sys.exit("\n".join(faults))
        start_on_robot(wheel, Path(scratch, "robot"))
    sys.stdout.write(f"{wheel.name}: holds what it should and starts without PyTorch\n")


if __name__ == "__main__":
    main()
