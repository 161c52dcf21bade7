"""What tests of JavaScript need: Node, and onnxruntime's packages, which npm installs once.

Imported as ``javascript`` (``tests`` is on pytest's path).
"""

import fcntl
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from hindsight_rl.export.web.ort import TRIED

ROOT = Path(__file__).resolve().parents[1]
READER = ROOT / "runners" / "js"
NODE = shutil.which("node")
_PACKAGES = ("onnxruntime-node", "onnxruntime-web")
_HOME = ROOT / "build" / "runners"
_MODULES, _FAILED = _HOME / "node_modules", _HOME / "failed.txt"
_SECONDS, _AGAIN = 240, 3600  # of an installation, and after one that failed

needs_node = pytest.mark.skipif(NODE is None, reason="this machine has no Node")


def ort_node() -> Path:
    """Return the module onnxruntime-node; skip where it cannot be installed."""
    return _installed("onnxruntime-node") / "dist" / "index.js"


def ort_web() -> Path:
    """Return the folder ``dist`` of onnxruntime-web; skip where it cannot be installed."""
    return _installed("onnxruntime-web") / "dist"


def require() -> None:
    """Install the packages; end the process with the reason where that fails (``make runners``)."""
    _FAILED.unlink(missing_ok=True)
    why = _missing()
    if why is not None:
        raise SystemExit(why)


def _installed(name: str) -> Path:
    """Return the folder of a package of npm, installed by whoever asks first."""
    why = _missing()
    if why is not None:
        pytest.skip(why)
    return _MODULES / name


def _missing() -> str | None:
    """Return why the packages are not there, after trying to install them once."""
    _HOME.mkdir(parents=True, exist_ok=True)
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not all((_MODULES / name / "package.json").exists() for name in _PACKAGES):
            if not _FAILED.exists() or _FAILED.stat().st_mtime < time.time() - _AGAIN:
                why = _install()
                if why is None:
                    _FAILED.unlink(missing_ok=True)
                else:
                    _FAILED.write_text(f"no onnxruntime of npm: {why}")
        return _FAILED.read_text() if _FAILED.exists() else None


def _install() -> str | None:
    """Install the packages; return why that failed, if it did."""
    npm = shutil.which("npm")
    if npm is None:
        return "this machine has no npm"
    # Without scripts: that of onnxruntime-node would download what a GPU needs.
    words = [npm, "install", "--prefix", str(_HOME), "--no-audit", "--no-fund", "--ignore-scripts"]
    words += ["--fetch-retries=1"]
    words += [f"{name}@{TRIED}" for name in _PACKAGES]
    known = os.environ | {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    try:
        done = subprocess.run(words, env=known, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return f"npm did not end in {_SECONDS} s"
    return None if done.returncode == 0 else " ".join(done.stderr.split())[:200]
