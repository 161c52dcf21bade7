"""What the scripts of several folders share: places, lines on the screen, tables, intervals."""

import logging
import statistics
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
# Results are reported of the first, settings are chosen on the second.
FIVE_SEEDS, CHOICE_SEEDS = (0, 1, 2, 3, 4), (100, 101)
D3RLPY = "d3rlpy==2.8.1"


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def quiet() -> None:
    """Take one thread, and have Lightning say nothing."""
    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def silent_trainer(updates: int = -1, **options: Any) -> Any:
    """Return a trainer on the CPU that says nothing and writes nothing.

    Args:
        updates: After which it stops; -1 for no limit.
        **options: Further arguments, or others.

    Returns:
        The trainer.
    """
    from lightning.pytorch import Trainer

    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    plain: dict[str, Any] = dict.fromkeys(silent, False)
    plain |= {"max_steps": updates, "max_epochs": -1, "accelerator": "cpu"}
    return Trainer(**plain | options)


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, low and high of one number per seed: Student's 95 % interval."""
    from hindsight_rl.intervals import student_interval

    mean = statistics.fmean(values)
    low, high = student_interval(values) if len(values) > 1 else (mean, mean)
    return mean, low, high


def spread(row: Mapping[str, Any]) -> str:
    """Return a row's mean and interval as whole numbers."""
    return f"{row['mean']:,.0f} [{row['low']:,.0f}, {row['high']:,.0f}]"


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table in Markdown, columns aligned."""
    lines = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = ([cell.ljust(width) for cell, width in zip(r, widths, strict=True)] for r in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in padded)


def python_of_d3rlpy() -> Path:
    """Return a Python that has d3rlpy, made at the first call."""
    home = BUILD / "d3rlpy"
    python = home / "bin" / "python"
    if not (home / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        pins = (ROOT / "constraints.txt").read_text().splitlines()
        torch = next(pin for pin in pins if pin.startswith("torch=="))
        install = [str(python), "-m", "pip", "install", "-q", torch, D3RLPY]
        subprocess.run(install, check=True)
        (home / "made").touch()
    return python
