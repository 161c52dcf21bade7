"""What bench.py says: lines on the screen, a table of docs/speed.md, rows of build/bench.json."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from results import BUILD, ROOT, replace_part
from shared import table
from sizes import L, S, Size

from hindsight_rl.files import write_text

CASES: tuple[tuple[Size, int], ...] = ((S, 1), (L, 1), (L, 2))
# What the page calls each way to train, and what it is called here.
NAMES = {
    "plain loop, three fused Adams": "plain loop",
    "`off`": "eager",
    "`losses`": "losses compiled",
    "`update`": "update compiled",
    "d3rlpy": "d3rlpy",
    "JAX, a jitted scan": "JAX scan",
}


def line(row: Mapping[str, Any]) -> str:
    """Return a row as a line on the screen."""
    first = f"{row['first_update_seconds']:.1f} s" if "plan" in row else ""
    against = f"ours / JAX {row['ours_to_jax']:.2f}" if "ours_to_jax" in row else ""
    return (
        f"{row['name']:<18}{row['size']:<6}{row['threads']:<9}"
        f"{row['updates_per_second']:>10,.0f}{row.get('ratio_to_plain', 1.0):>10.2f}"
        f"{first:>8}  {row.get('plan', '')}{against}"
    )


def of_seeds(seeds: Mapping[str, float]) -> str:
    """Return what eight seeds cost, in words."""
    return (
        f"Eight seeds at S, all cores: {seeds['eight_us']:.0f} us an update of all of them; one "
        f"seed, one thread: {seeds['one_us']:.0f}; ratio {seeds['ratio']:.2f}."
    )


def of_rows(rows: Mapping[str, float]) -> str:
    """Return how fast rows are read, in words."""
    return (
        f"Reading rows at L, one thread: {rows['rows_per_second'] / 1e6:.0f} million a second, "
        f"{rows['ratio_to_gather']:.2f} of one `index_select` on the packed matrix."
    )


def text_of(
    rows: Sequence[Mapping[str, Any]], seeds: Mapping[str, float], reading: Mapping[str, float]
) -> str:
    """Return the part of the page: what was measured, and nothing else."""
    found = {(row["name"], row["size"], row["threads"]): row for row in rows}
    header = ["IQL, updates/s (ratio to the plain loop)"]
    header += [f"{size.name}, {threads} thread{'s'[: threads - 1]}" for size, threads in CASES]
    lines = []
    for said, name in NAMES.items():
        cells = [found.get((name, size.name, threads)) for size, threads in CASES]
        if any(cells):
            lines.append([said, *map(_cell, cells)])
    scans = [found.get(("JAX scan", size.name, threads)) for size, threads in CASES]
    if all(scans):
        lines.append(["`update` / JAX", *(f"{scan['ours_to_jax']:.2f}" for scan in scans if scan)])
    return f"{table(header, lines)}\n\n{of_seeds(seeds)} {of_rows(reading)}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    ratio = f" ({row['ratio_to_plain']:.2f})" if "ratio_to_plain" in row else ""
    return f"{row['updates_per_second']:,.0f}{ratio}"


def write(
    rows: Sequence[Mapping[str, Any]],
    seeds: Mapping[str, float],
    reading: Mapping[str, float],
    *,
    document: bool,
) -> None:
    """Write build/bench.json and, unless that is not wanted, the page."""
    kept = [
        {"name": f"{row['name']}, {row['size']}, {row['threads']} thread(s)"}
        | {"mean": row["updates_per_second"], "low": min(row["rates"]), "high": max(row["rates"])}
        | {"seeds": 1, "seconds": row["seconds"], "ratio": row.get("ratio_to_plain", 1.0)}
        for row in rows
    ]
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "bench.json", json.dumps(kept, indent=1))
    if document:
        replace_part(ROOT / "docs" / "speed.md", "bench", text_of(rows, seeds, reading))
