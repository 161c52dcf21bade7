"""Rewrite the tables of docs/policies.md from build/*.json (last step of ``make policies``).

    python benchmarks/policies/document.py

What has no result yet keeps its place in the page as it is.
"""

import json
import sys
from typing import Any

import common

from hindsight_rl.files import write_text

sys.path.append(str(common.ROOT / "tools"))
from documents import placed  # noqa: E402

PAGE = common.ROOT / "docs" / "policies.md"
# Table: digits of its score.
TABLES = {
    "fork": 3,
    "delay": 3,
    "memory": 2,
    "eyes": 2,
    "meta_world": 2,
    "robot": 4,
    "cross": 2,
    "against_robomimic": 0,
}


def rows_of(name: str) -> list[dict[str, Any]]:
    """Return the rows of a script's result, none where it has not run."""
    path = common.BUILD / f"{name}.json"
    return list(json.loads(path.read_text())) if path.exists() else []


def scores(rows: list[dict[str, Any]], digits: int) -> str:
    """Return scores, intervals and seconds of a fit."""
    lines = [
        (
            row["name"],
            f"{row['mean']:.{digits}f}",
            f"[{row['low']:.{digits}f}, {row['high']:.{digits}f}]",
            f"{row['seconds']:.0f}",
        )
        for row in rows
    ]
    return common.table(("policy", "mean", "95 % interval", "seconds"), lines)


def files(rows: list[dict[str, Any]]) -> str:
    """Return what the exported files are like, one per line."""
    lines = [
        (
            row["name"],
            f"{row['kilobytes']:.0f}",
            f"{row['opset']:.0f}",
            f"{row['difference']:.0e}",
            f"{row['p50']:.0f}",
            f"{row['p99']:.0f}",
        )
        for row in rows
    ]
    header = ("policy", "kB", "opset", "difference", "p50, us", "p99, us")
    return common.table(header, lines)


def main() -> int:
    """Rewrite the page."""
    page = PAGE.read_text()
    for name, digits in TABLES.items():
        if rows := rows_of(name):
            page = placed(page, name, scores(rows, digits))
    if rows := rows_of("kinds"):
        page = placed(page, "files", files(rows))
    write_text(PAGE, page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
