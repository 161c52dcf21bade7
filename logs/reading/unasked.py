"""Images among guessed columns, which would be flattened: an error that says what to write."""

from collections.abc import Sequence
from math import prod

from hindsight_rl.entries import PREFIX, is_image
from hindsight_rl.logs.problems import Problems
from hindsight_rl.logs.reading.column_map import LEFT_OUT, ColumnMap
from hindsight_rl.logs.reading.table import Table

_FIELDS = ("observation", "task", "achieved_goal")


def check_unasked_images(given: ColumnMap, table: Table, findings: Problems) -> None:
    """Check that no image is flattened into numbers unless its column was named.

    Args:
        given: The column map as its owner wrote it.
        table: Columns of the source, with the map as it was filled in.
        findings: Where it came from; decides whether the first problem is raised.

    Raises:
        LogError: A field that was left out is filled with several columns, one of them an image.
    """
    for field in _FIELDS:
        named = getattr(table.columns, field)
        if getattr(given, field) != LEFT_OUT or not isinstance(named, list):
            continue
        images = [name for name in named if _looks_like_one(table, name)]
        if images:
            _refuse(field, named, images, table, findings)


def _looks_like_one(table: Table, name: str) -> bool:
    values = table.values[name]
    return is_image(values.shape[1:], str(values.dtype))


def _refuse(
    field: str, named: Sequence[str], images: Sequence[str], table: Table, findings: Problems
) -> None:
    values = table.values[images[0]]
    shape = list(values.shape[1:])
    others = [name for name in named if name not in images]
    frames = [name for name in images if table.values[name].dtype.kind == "u"]
    ways = []
    if field == "observation" and len(frames) == len(images):
        ways.append(f"`observation: {_entries(named)}` to keep each as an entry")
    if others:
        ways.append(f"`{field}: {_yaml(others)}` to leave it out")
    if others and frames:
        ways.append(f"that and `image: {_yaml(frames)}` to keep it beside the {field} as frames")
    if not others:
        ways.append(f"`{field}: {images[0]}` to keep its shape")
    ways.append(f"`{field}: {_yaml(named)}` to flatten it")
    findings.report(
        f"it looks like an image ({values.dtype} {shape}), and would become {prod(shape)} numbers "
        f"of the {field}",
        f"Write in the column map {', or '.join(ways)}.",
        images[0],
    )


def _entries(named: Sequence[str]) -> str:
    """Return the map of one entry for each column, called as in the environment."""
    pairs = (f"{name.removeprefix(f'{PREFIX}/').replace('.', '_')}: {name}" for name in named)
    return f"{{{', '.join(pairs)}}}"


def _yaml(names: Sequence[str]) -> str:
    return f"[{', '.join(names)}]"
