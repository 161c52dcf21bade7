"""Rewrite the tables of docs/judging.md from build/judging/*.json (last step of ``make judging``).

    python benchmarks/judging/document.py

What has no result yet keeps its place in the page as it is.
"""

import sys
from typing import Any

import against_d3rlpy
import checkpoints
import common
import lqr

import policies
from hindsight_rl.files import write_text

sys.path.append(str(common.ROOT / "tools"))
from documents import placed  # noqa: E402

PAGE = common.ROOT / "docs" / "judging.md"
ASKED = {"steps": "drawn actions, the first steps alone", "all": "as exported, without an end"}


def regulator(rows: list[dict[str, Any]]) -> str:
    """Return both sizes of the regulator's logs, and what misses its bar."""
    missed = [row["name"] for row in rows if not row.get("reached", True)]
    verdict = f"Missed: {', '.join(missed)}." if missed else "Every bar is reached."
    return f"{lqr.text_of(rows)}\n\n{verdict}"


def world(rows: list[dict[str, Any]]) -> str:
    """Return the tables of both questions about a world."""
    parts = []
    for asked, title in ASKED.items():
        mine = [row for row in rows if row["asked"] == asked]
        if not mine:
            continue
        logs = len(mine[0]["seeds"])
        seconds = f"{mine[0]['seconds']:.0f} seconds a policy and log"
        facts = f"{mine[0]['policies']} policies worth {mine[0]['worst']:.3g} to "
        facts += f"{mine[0]['best']:.3g}; {logs} {'log' if logs == 1 else 'logs'}, {seconds}"
        parts.append(f"{title.capitalize()} ({facts}):\n\n{policies.text_of(mine)}")
    return "\n\n".join(parts)


def main() -> int:
    """Rewrite the page."""
    page = PAGE.read_text()
    tables = {
        "lqr": regulator,
        "policies-pendulum": world,
        "policies-cartpole": world,
        "policies-halfcheetah": world,
        "checkpoints": checkpoints.text_of,
        "against_d3rlpy": against_d3rlpy.text_of,
    }
    for name, text_of in tables.items():
        if rows := common.rows_of(name):
            page = placed(page, name, text_of(rows))
    write_text(PAGE, page)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
