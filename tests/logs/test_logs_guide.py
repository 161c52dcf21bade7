"""docs/logs.md: its examples are valid column maps, and nothing is left out."""

import re
from pathlib import Path

import pytest
import yaml

from hindsight_rl.logs.reading import _MARKS
from hindsight_rl.logs.reading.column_map import ColumnMap, short_names
from hindsight_rl.logs.reading.own import SUFFIXES

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("example", re.findall(r"^```yaml\n(.*?)^```", TEXT, re.M | re.S))
def test_examples_are_column_maps(example: str) -> None:
    assert ColumnMap.load(yaml.safe_load(example)).given()


@pytest.mark.parametrize("field", ColumnMap.__dataclass_fields__)
def test_every_field_is_in_a_table(field: str) -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    assert any(f"`{field}`" in row.split("|")[1] for row in rows)


def test_every_format_and_packaged_map_is_named() -> None:
    for name in {*SUFFIXES, *SUFFIXES.values(), *_MARKS.values(), *short_names()}:
        assert f"`{name}`" in TEXT, name
