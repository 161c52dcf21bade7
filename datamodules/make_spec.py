"""Makes the spec of a log: what a learner, an exporter and a robot must know of the data."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.float32 import inward
from hindsight_rl.keys import (
    ACHIEVED,
    ACTION,
    ACTION_LOG_PROB,
    EXPERT_ACTION,
    FIRST,
    NEXT_ACHIEVED,
    NEXT_POLICY_ACTION,
    NEXT_POLICY_PROBABILITY,
    OBSERVATION,
    ORIGIN,
    PREFERENCE,
    SECOND,
    TASK,
    Key,
    is_below,
    key_name,
)
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.logs.rows import SPAN
from hindsight_rl.relabel.chain import parts_of
from hindsight_rl.relabel.relabeler import Relabeler, producers
from hindsight_rl.spec import (
    WHOLE,
    ActionSpec,
    Dataset,
    Discrete,
    Entry,
    Image,
    Probe,
    Spec,
    TaskSpec,
    Vector,
)
from hindsight_rl.spec_parts import Ends, Numbers, Words

PROBE_ROWS = 256
_TASK_ROWS = 4096
_QUANTILE_ROWS = 1 << 20
# What a row says of its transition: a policy that sees more is given it as an observation.
_PARTS = {OBSERVATION, ACTION, TASK, ACHIEVED, ACTION_LOG_PROB, EXPERT_ACTION}
_PROBE_BYTES, _FEWEST_ROWS = 1 << 20, 16  # of images, and of rows however large they are


def moments(parts: Callable[[], Iterable[Tensor]]) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per dimension, computed in float64 part by part.

    Args:
        parts: Returns the rows that count, twice asked for: tensors ``[M, D]``.

    Returns:
        Two lists of D numbers; a constant dimension has standard deviation 1.
    """
    count = 0
    total = torch.zeros((), dtype=torch.float64)
    for part in parts():
        total = total + part.double().sum(0)
        count += len(part)
    mean = total / count
    square = torch.zeros_like(total)
    for part in parts():
        square += (part.double() - mean).square().sum(0)
    std = (square / count).sqrt()
    # A dimension that never moves carries rounding noise; dividing by that would blow it up.
    std = torch.where(std <= 1e-6 * mean.abs().clamp_min(1.0), 1.0, std)
    return mean.tolist(), std.tolist()


def _statistics(parts: Callable[[], Iterable[Tensor]]) -> tuple[Numbers, Numbers]:
    """Return :func:`moments` as a spec holds them."""
    mean, std = moments(parts)
    return _frozen(mean), _frozen(std)


def _frozen(numbers: Any) -> Any:
    """Return nested lists as tuples."""
    return tuple(map(_frozen, numbers)) if isinstance(numbers, list) else numbers


def make_spec(log: Log, sampler: ChunkSampler, relabel: Relabeler, seed_rows: int) -> Spec:
    """Return the spec of a prepared log.

    Args:
        log: The log, its drawable rows those of the training split.
        sampler: Draws the rows that task statistics and probes come from.
        relabel: Bound relabeler.
        seed_rows: B of the sampler.

    Returns:
        The spec.
    """
    chunk = sampler.chunk(0, -(-_TASK_ROWS // seed_rows), stream="probe")
    with torch.no_grad():  # relabelers that learn from batches learn nothing from this one
        sample = relabel(chunk).reshape(-1)
    task = sample["task"] if "task" in sample.keys() else None
    observation = {_label(key): _entry(log, key) for key in log.observed}
    count, observed = _probe_rows(observation), {}
    # A network of a whole image is a learner's own, and is not exported: rows of it would only
    # make checkpoints large.
    if not isinstance(observation.get(WHOLE), Image):
        observed = {_label(key): sample[key][:count].numpy() for key in log.observed}
    return Spec(
        observation=observation,
        action=_action(log),
        task=None if task is None else _task(log, task, relabel),
        control_rate_hz=log.info.get("control_rate_hz"),
        dataset=Dataset(
            log.hash(),
            tuple(source.name for source in log.sources if source.stop > source.start),
            len(log),
            log.episodes,
        ),
        probe=Probe(observed, None if task is None else task[:count].numpy()),
        beside=_beside(log, relabel),
    )


def _beside(log: Log, relabel: Relabeler) -> dict[str, Vector]:
    """Return the log's own columns of real numbers that are no part of a transition."""
    made = {key for part in parts_of(relabel) for key in part.out_keys}
    found = {}
    for key in log.keys():
        shape = tuple(log.shape(key))
        if not isinstance(key, str) or key in _PARTS | made or len(shape) > 1:
            continue
        if log.column(key, slice(1)).is_floating_point():
            found[key] = Vector(shape or (1,), *_statistics(partial(_rows_of, log, key)))
    return found


def _rows_of(log: Log, key: str) -> Iterator[Tensor]:
    """Yield the drawable rows of a column of numbers, ``[M, D]`` at a time."""
    yield from (part.reshape(len(part), -1) for part in log.drawn(key))


def _called(log: Log, part: str) -> tuple[Words | None, Words | None]:
    """Return names and units of a part of the log."""
    found = [(log.info.get(fact) or {}).get(part) for fact in ("names", "units")]
    names, units = (None if words is None else tuple(words) for words in found)
    return names, units


def _label(key: Key) -> str:
    """Return the name of an entry of the observation."""
    return WHOLE if key == OBSERVATION else key[1]


def _probe_rows(observation: Mapping[str, Entry]) -> int:
    """Return how many probe rows there are: those of large images fit a checkpoint and a file."""
    images = [entry for entry in observation.values() if isinstance(entry, Image)]
    size = sum(math.prod(image.shape) for image in images) if WHOLE not in observation else 0
    return min(PROBE_ROWS, max(_FEWEST_ROWS, _PROBE_BYTES // max(1, size)))


def _entry(log: Log, key: Key) -> Entry:
    """Return shape and statistics; of images the shape alone: a network scales them as it likes."""
    shape, called = tuple(log.shape(key)), _called(log, key_name(key))
    if key in log.images:
        stack = (log.frame_stack,) if log.frame_stack > 1 else ()
        return Image((*stack, *shape), *called)
    if key != OBSERVATION and not log.column(key, slice(1)).is_floating_point():
        numbers = [log.column(key, rows) for rows in log.spans()]
        least = min(int(part.min()) for part in numbers)
        if least < 0:
            raise LogError(
                f"whole numbers down to {least} are no choices counted from 0",
                "Give real numbers, or count the choices from 0.",
                column=key_name(key),
            )
        stated = (log.info.get("observation_choices") or {}).get(key[1], 0)
        return Discrete(max(stated, *(int(part.max()) + 1 for part in numbers)), shape, *called)
    return Vector(shape, *_statistics(lambda: log.drawn(key)), *called, _offset(log, key))


def _offset(log: Log, key: Key) -> Numbers | None:
    """Return what was subtracted from the numbers of a key, ``None`` for nothing."""
    given = (log.info.get("offset") or {}).get(key_name(key))
    return None if given is None else _frozen(given)


def _task(log: Log, task: Tensor, relabel: Relabeler) -> TaskSpec:
    # Tasks that a relabeler makes of something else are not in the units of the log's.
    made = [part for part in parts_of(relabel) if TASK in part.out_keys]
    reads = ({*part.in_keys, *part.prepare_reads} for part in made)
    logged = all({TASK, NEXT_ACHIEVED} & keys for keys in reads)
    return TaskSpec(
        tuple(task.shape[1:]),
        *_statistics(lambda: task.split(SPAN)),
        *_called(log, "task"),
        _offset(log, TASK) if logged else None,
        family=log.info.get("task_family", "task"),
    )


def _action(log: Log) -> ActionSpec:
    names, units = _called(log, "action")
    if not log.column(ACTION, slice(1)).is_floating_point():
        start = int(log.info.get("action_start") or 0)
        count = int(log.info.get("discrete_actions") or 0)
        if not count:
            count = max(int(log.column(ACTION, rows).max()) for rows in log.spans()) + 1 - start
        return ActionSpec("discrete", (), n=count, start=start, names=names, units=units)
    bounds = log.info.get("action") or {}
    low, high = (_inside(bounds.get(side), side) for side in ("low", "high"))
    mean, std = _statistics(lambda: log.drawn(ACTION))
    return ActionSpec(
        "continuous",
        tuple(log.shape(ACTION)),
        low=low,
        high=high,
        mean=mean,
        std=std,
        names=names,
        units=units,
        quantiles=None if _closed(low, high) else _quantiles(log),
    )


def _closed(low: Ends | None, high: Ends | None) -> bool:
    """Return whether every action has both bounds, of a width that float32 holds."""
    if low is None or high is None or None in (*low, *high):
        return False
    least, most = (torch.tensor(side, dtype=torch.float32) for side in (low, high))
    return bool(torch.isfinite(most - least).all())


def _quantiles(log: Log) -> tuple[Numbers, ...]:
    """Return the quantiles of each action, of evenly spaced rows where there are very many."""
    apart = max(1, len(log.drawable()) // _QUANTILE_ROWS)
    start, parts = 0, []
    for part in log.drawn(ACTION):
        parts.append(part[(-start) % apart :: apart])
        start += len(part)
    ordered = torch.cat(parts).double().sort(dim=0).values
    place = torch.linspace(0, len(ordered) - 1, 101).round().long()
    found: tuple[Numbers, ...] = _frozen(ordered[place].T.tolist())
    return found


def _inside(ends: list[float | None] | None, side: str) -> Ends | None:
    """Return one side of the bounds as float32 numbers inside it, which a policy can answer."""
    if ends is None:
        return None
    return tuple(None if end is None else inward(end, low=side == "low") for end in ends)


def _line(name: str) -> str:
    """Return what to write into a column map for a key, where it can give one of this name."""
    known = {field.name for field in fields(ColumnMap)}
    line = f"{name}: COLUMN" if name in known else f"extra: {name}"
    return "" if "." in name else f", `{line}` in the column map"


def check_keys(needed: tuple[Key, ...], held: set[Any]) -> None:
    """Check that a batch has every key a learner needs.

    Args:
        needed: The learner's ``in_keys``.
        held: Keys of a relabeled batch.

    Raises:
        LogError: A key is missing; the message names what would produce it.
    """
    # A learner that reads the observation reads all of its entries.
    held = held | {key[:-1] if len(key) > 2 else key[0] for key in held if isinstance(key, tuple)}
    for key in needed:
        if key in held:
            continue
        name = key_name(key)
        if key == ORIGIN:  # a column of a log says nothing of where this run's rows come from
            raise LogError(
                f"the learner needs '{name}', which no batch has",
                "Set data.mix, the share of each origin, of data that are collected "
                "(IteratedDataModule) or imagined (data.imagined).",
            )
        if key == PREFERENCE or any(is_below(key, part) for part in (FIRST, SECOND)):
            raise LogError(
                f"the learner needs '{name}', of pairs of segments, which no row has",
                "Serve pairs: --data PreferenceDataModule --data.preferences FILE.",
            )
        if key in (NEXT_POLICY_ACTION, NEXT_POLICY_PROBABILITY):
            raise LogError(
                f"the learner needs '{name}', what the judged policy does, which no batch has",
                "Name the policy (--model.policy FILE), or give the log its answers as columns.",
            )
        makers = producers(key)
        path = makers[0] if len(makers) == 1 else "NAME"
        fix = (
            f"Add {' or '.join(makers)} to the relabelers: data.init_args.relabel: "
            f"[{{class_path: {path}}}]."
            if makers
            else f"Map a column of the log to '{name}'{_line(name)}."
        )
        raise LogError(f"the learner needs '{name}', which no batch has", fix)
