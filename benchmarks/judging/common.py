"""What the scripts of this folder share: results that are kept, ranks, and errors of estimates.

Results lie in build/judging/; what is there is not computed again. Settings were chosen on seeds
from 100 on.
"""

import hashlib
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
from shared import BUILD, FIVE_SEEDS, interval, quiet, say, table  # noqa: E402
from shared import ROOT as ROOT  # noqa: E402

from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.intervals import wilson  # noqa: E402

HOME = BUILD / "judging"


def kept(
    script: str, settings: Mapping[str, Any], work: Callable[[], Any], *, again: bool = False
) -> Any:
    """Return what ``work`` returned, plain values, from build/judging where it was done before.

    Args:
        script: Name of the script.
        settings: What the result depends on, plain data.
        work: Makes the result.
        again: Compute it even so: the code behind it has changed.

    Returns:
        The result, with the seconds it took as ``seconds``.
    """
    text = json.dumps(settings, sort_keys=True)
    path = HOME / f"{script}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if path.exists() and not again:
        return json.loads(path.read_text())["result"]
    start = time.perf_counter()
    result = work()
    result["seconds"] = time.perf_counter() - start
    write_text(path, json.dumps({"settings": settings, "result": result}))
    say(f"{script}: {text[:150]}, {result['seconds']:.0f} s")
    return result


def fitting(settings: Mapping[str, Any], seed: int) -> Any:
    """Return how networks are fitted, from plain data."""
    from hindsight_rl.diagnostics.ope.fitting import Fitting

    return Fitting(**{**settings, "hidden": tuple(settings["hidden"]), "seed": seed})


def write_rows(target: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of a table to build/judging/TARGET.json if all seeds are reported ones."""
    if all(seed in FIVE_SEEDS for row in rows for seed in row.get("seeds", ())):
        write_text(HOME / f"{target}.json", json.dumps(rows, indent=1))


def rows_of(target: str) -> list[dict[str, Any]]:
    """Return the rows of build/judging/TARGET.json, none where it is not there."""
    path = HOME / f"{target}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def root_mean_square(errors: Sequence[float]) -> tuple[float, float, float]:
    """Return the root of the mean squared error, and a 95 % interval by Student's of the squares.

    Args:
        errors: At least one.

    Returns:
        Root, low and high; a squared interval that reaches below 0 begins at 0.
    """
    found = interval([error**2 for error in errors])
    mean, low, high = (math.sqrt(max(0.0, each)) for each in found)
    return mean, low, high


def coverage(ends: Sequence[tuple[float, float]], truths: Sequence[float]) -> dict[str, float]:
    """Return the share of intervals that hold the truth, with Wilson's interval of it."""
    held = sum(low <= truth <= high for (low, high), truth in zip(ends, truths, strict=True))
    low, high = wilson(held, len(truths))
    return {"coverage": held / len(truths), "coverage_low": low, "coverage_high": high}


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Return Spearman's rank correlation; equal numbers share their mean rank.

    Args:
        one: Of every policy.
        other: The same.

    Returns:
        In [-1, 1]; 0 where one of them does not tell policies apart.
    """
    ranks = [_ranks(values) for values in (one, other)]
    if min(float(np.std(rank)) for rank in ranks) == 0.0:
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    given = np.asarray(values, np.float64)
    below = (given[None] < given[:, None]).sum(1)
    equal = (given[None] == given[:, None]).sum(1)
    return below + (equal - 1) / 2.0


def regret(chosen: int, truths: Sequence[float]) -> float:
    """Return by how much the chosen policy is worse than the best, as a share of best to worst."""
    best, worst = max(truths), min(truths)
    return (best - truths[chosen]) / (best - worst) if best > worst else 0.0


def show(title: str, text: str) -> None:
    """Print a table under its title."""
    say(f"\n{title}\n\n{text}")


__all__ = ["FIVE_SEEDS", "HOME", "ROOT", "interval", "quiet", "say", "table"]
