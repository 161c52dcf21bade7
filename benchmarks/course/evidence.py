"""What the scripts of the course have in common that fit seeds, keep them and rewrite a table."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from shared import BUILD, FIVE_SEEDS, quiet  # noqa: E402

from hindsight_rl.files import write_text  # noqa: E402


def run(
    name: str,
    about: str | None,
    rows_of: Callable[[tuple[int, ...]], list[Any]],
    document: Callable[[list[Any]], None],
    choose: Callable[[], object],
) -> None:
    """Fit what is not kept, write build/course_NAME.json, and rewrite the table.

    Args:
        name: Of the part.
        about: Docstring of the script, whose first line is its description.
        rows_of: Returns the rows of seeds, a row for every method.
        document: Rewrites the table.
        choose: Fits seeds that are not reported.
    """
    parser = argparse.ArgumentParser(description=(about or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    options = parser.parse_args()
    quiet()
    if options.choose:
        choose()
        return
    rows = rows_of(FIVE_SEEDS[: options.seeds])
    write_text(BUILD / f"course_{name}.json", json.dumps(rows, indent=1))
    document(rows)
