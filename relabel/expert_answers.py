"""Answers of a person: a table with what should have been done in some rows of a log."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from hindsight_rl.keys import ACTION, EPISODE, STEP
from hindsight_rl.ports import LogView

_PLACE = ("episode", "step")


def read_answers(path: Path, log: LogView) -> Tensor:
    """Return the answers of a table as labels of a log's rows.

    Its columns are ``episode`` and ``step``, counted from 0, and an action's numbers by their names
    in the log, or ``action[0]``, ``action[1]``, ... (``action`` where there is one); further ones
    are not read. Rows that the table does not have, or whose cells are empty, have no label.

    Args:
        path: A CSV file, separated by commas or semicolons.
        log: The log.

    Returns:
        ``[N, ...]`` float32 in the shape of the actions, NaN where nobody answered.

    Raises:
        ValueError: The file is missing or no such table, names a row that the log does not have or
            the same one twice, or holds half an action.
    """
    header, lines = _lines(path)
    action = log.column(ACTION)
    numbers = math.prod(action.shape[1:])
    columns = [header.index(name) for name in (*_PLACE, *_names(header, numbers, log, path))]
    start, length = _episodes(log)
    found = torch.full((len(action), numbers), torch.nan)
    seen: set[int] = set()
    for number, line in lines:
        if not any(cell.strip() for cell in line):
            continue
        place = f"{path}, line {number}"
        if len(line) != len(header):
            raise ValueError(f"{place}: {len(line)} cells, and the first line has {len(header)}")
        episode, step, *answer = [_number(line[column], place) for column in columns]
        if episode not in start or not 0 <= step < length[episode] or step != int(step):
            raise ValueError(
                f"{place}: the log has no step {step:g} in episode {episode:g}; both count from 0"
            )
        row = start[episode] + int(step)
        if row in seen:
            raise ValueError(f"{place}: episode {episode:g}, step {step:g} is answered twice")
        seen.add(row)
        if len({math.isnan(one) for one in answer}) > 1:
            raise ValueError(f"{place}: half an action: fill all of its cells, or none")
        found[row] = torch.tensor(answer)
    return found.reshape(action.shape)


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the names in the first line, and the others, each behind the number of its last."""
    if not path.is_file():
        raise ValueError(f"expert {path}: no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no text in UTF-8: {error}") from error
    head, _, _ = text.partition("\n")
    reader = csv.reader(text.splitlines(), delimiter=";" if ";" in head else ",")
    lines = [(reader.line_num, line) for line in reader]  # a remark may have several
    header = [cell.strip() for cell in lines[0][1]] if lines else []
    twice = [name for name in header if name and header.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: two columns are called '{twice[0]}'")
    return header, lines[1:]


def _names(header: Sequence[str], numbers: int, log: LogView, path: Path) -> list[str]:
    """Return the names of an action's numbers in a table."""
    plain = ["action"] if numbers == 1 else [f"action[{place}]" for place in range(numbers)]
    stated = (log.info.get("names") or {}).get("action") or plain
    known = [names for names in (stated, plain) if set(names) <= set(header)]
    if not known or not set(_PLACE) <= set(header):
        raise ValueError(
            f"{path}: the first line names {', '.join(header) or 'nothing'}; it needs "
            f"{', '.join([*_PLACE, *stated])}"
        )
    return list(known[0])


def _episodes(log: LogView) -> tuple[dict[float, int], dict[float, int]]:
    """Return first row and steps of each episode, by its number."""
    first = (log.column(STEP) == 0).nonzero()[:, 0]
    ends = torch.cat([first[1:], torch.tensor([len(log)])])
    names = log.column(EPISODE)[first].tolist()
    lengths = (ends - first).tolist()
    return dict(zip(names, first.tolist(), strict=True)), dict(zip(names, lengths, strict=True))


def _number(cell: str, place: str) -> float:
    """Return the number of a cell, NaN of an empty one."""
    if not cell.strip():
        return math.nan
    try:
        found = float(cell)
    except ValueError:
        raise ValueError(f"{place}: {cell!r} is no number") from None
    if math.isinf(found):
        raise ValueError(f"{place}: {cell!r} is not finite: leave the cells empty for no answer")
    return found
