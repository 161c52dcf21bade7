"""Damage of a file, chosen by four numbers: of its bytes, or of what they mean in its format.

Every choice is made by the numbers, so that a mutation can be kept as text and made again. This
file is longer than others: it has a section for each format, and they share their odd values.
"""

import io
import json
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet
import torch

from hindsight_rl.export.contract import KEY
from hindsight_rl.training.checkpoints.file import HASH, content_hash

SENTINEL = "HINDSIGHT_FUZZ_SENTINEL"


class Mutation(NamedTuple):
    """What is done (``kind``), where, and with what; any numbers from 0 to 65,535."""

    file: int
    kind: int
    place: int
    value: int


class Sentinel:
    """Makes a folder when it is unpickled: the one thing that must never happen."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (os.environ[SENTINEL],)


def payload() -> bytes:
    """Return a pickle that leaves a trace when it is loaded."""
    return np.array([Sentinel()], object).dumps()


ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 8, 9, 2**31, 2**53, 2**63, 10**30, -(10**30)),
    *(0.5, -0.0, 1e308, -1e39, float("nan"), float("inf"), float("-inf"), 10**400),
    *("", "x", "\0", "../x", "1", "nan", "\u00b2", "a" * 5000, "1" * 5000, "object", "float64"),
    *([], {}, [[]], [1], [None], [0, [], "float32"], {"a": {"b": []}}, [10**12], [8, 10**12]),
)


def mutate(folder: Path, change: Mutation) -> None:
    """Damage one file of a folder; what cannot be done to it leaves it as it is.

    Args:
        folder: The folder.
        change: What is done.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return
    file = files[change.file % len(files)]
    kinds = [*_BYTES, *(3 * _BY_SUFFIX.get(file.suffix or file.name, []))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kinds[change.kind % len(kinds)](file, change.place, change.value)
        except Exception:  # it was damaged before, so that its format cannot be read any more
            _flip(file, change.place, change.value)


# ------------------------------------------------------------------ bytes


def _flip(file: Path, place: int, value: int) -> None:
    content = bytearray(file.read_bytes())
    if content:
        content[place * 7919 % len(content)] ^= 1 << value % 8
        file.write_bytes(bytes(content))


def _overwrite(file: Path, place: int, value: int) -> None:
    content = bytearray(file.read_bytes())
    if content:
        word = [b"\0", b"\xff", b"\x7f", b"\x80"][value % 4] * (1 + value // 4 % 8)
        at = place * 7919 % len(content)
        content[at : at + len(word)] = word
        file.write_bytes(bytes(content))


def _cut(file: Path, place: int, value: int) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: place * len(content) // 65536])


def _drop_block(file: Path, place: int, value: int) -> None:
    content = file.read_bytes()
    at = place * len(content) // 65536
    file.write_bytes(content[:at] + content[at + 1 + value % 512 :])


def _repeat_block(file: Path, place: int, value: int) -> None:
    content = file.read_bytes()
    at = place * len(content) // 65536
    block = content[at : at + 1 + value % 512]
    file.write_bytes(content[:at] + block * (2 + value // 512) + content[at:])


def _pickle(file: Path, place: int, value: int) -> None:
    file.write_bytes(payload())


def _remove(file: Path, place: int, value: int) -> None:
    file.unlink()


def _pipe(file: Path, place: int, value: int) -> None:
    file.unlink()
    os.mkfifo(file)


# ------------------------------------------------------------------ JSON, YAML, text


def _changed(value: Any, place: int, odd: Any) -> Any:
    """Return a JSON value in which one entry is another, is gone, or is there twice."""
    if isinstance(value, dict) and value:
        name = sorted(value)[place % len(value)]
        inner, rest = value[name], place // len(value)
        if isinstance(inner, (dict, list)) and inner and rest % 4:
            return value | {name: _changed(inner, rest // 4, odd)}
        if rest % 16 == 0:
            return {key: entry for key, entry in value.items() if key != name}
        return value | {name: odd}
    if isinstance(value, list) and value:
        at, rest = place % len(value), place // len(value)
        if isinstance(value[at], (dict, list)) and value[at] and rest % 4:
            return [*value[:at], _changed(value[at], rest // 4, odd), *value[at + 1 :]]
        middle = [[], [odd], [value[at], value[at]]][rest % 3]
        return [*value[:at], *middle, *value[at + 1 :]]
    return odd


def _json(file: Path, place: int, value: int) -> None:
    changed = _changed(json.loads(file.read_text()), place, ODD[value % len(ODD)])
    file.write_text(json.dumps(changed))


def _json_inside(file: Path, place: int, value: int) -> None:
    """Change a JSON text that is an entry of a JSON object: Minari's spaces."""
    outer = json.loads(file.read_text())
    texts = [name for name, entry in outer.items() if str(entry).startswith("{")]
    name = texts[place % len(texts)]
    inner = _changed(json.loads(outer[name]), place // 2, ODD[value % len(ODD)])
    file.write_text(json.dumps(outer | {name: json.dumps(inner)}))


def _nest(file: Path, place: int, value: int) -> None:
    depth = 10 ** (1 + value % 5)
    file.write_text(("[" * depth + "]" * depth) if place % 2 else '{"a":' * depth)


def _json_lines(file: Path, place: int, value: int) -> None:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    changed = _changed(lines, place, ODD[value % len(ODD)])
    file.write_text("".join(json.dumps(line) + "\n" for line in changed))


def _lines(file: Path, place: int, value: int) -> None:
    lines = file.read_text().splitlines()
    at = place % len(lines)
    lines[at : at + 1] = [[], [lines[at]] * 2, [lines[at]] * 3000, [lines[at], lines[0]]][value % 4]
    file.write_text("\n".join(lines) + "\n")


def _cell(file: Path, place: int, value: int) -> None:
    lines = file.read_text().splitlines()
    cells = lines[place % len(lines)].split(",")
    cells[place // len(lines) % len(cells)] = str(ODD[value % len(ODD)])
    lines[place % len(lines)] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n")


def _yaml_value(file: Path, place: int, value: int) -> None:
    lines = file.read_text().splitlines()
    at = place % len(lines)
    words = [json.dumps(ODD[value % len(ODD)]), "!!python/object/apply:os.mkdir [$]", "&a [*a]"]
    words += ["obs_*_*_*", ".inf", "2020-13-45", "{a: &b [x], c: [*b, *b]}", "'**'", "time_limit"]
    word = words[value // len(ODD) % len(words)].replace("$", os.environ[SENTINEL])
    lines[at] = f"{lines[at].partition(':')[0]}: {word}"
    file.write_text("\n".join(lines) + "\n")


# ------------------------------------------------------------------ zip: npz, checkpoints


def _zip_entries(file: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(file) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def _write_zip(file: Path, entries: list[tuple[str, bytes]], method: int = 0) -> None:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)


def _zip_entry(file: Path, place: int, value: int) -> None:
    entries = list(_zip_entries(file).items())
    at = place % len(entries)
    name, content = entries[at]
    new = [
        [],
        [(name, content)] * 2,
        [("x" + name, content)],
        [(name, payload())],
        [(name, content[: len(content) // 2])],
        [(name, content + bytes(1 + value % 64))],
        [(name, bytes(300 << 20))],
        [("1" * 5000, content), (name, content)],
    ][value % 8]
    method = zipfile.ZIP_DEFLATED if value % 8 == 6 or value & 64 else zipfile.ZIP_STORED
    _write_zip(file, [*entries[:at], *new, *entries[at + 1 :]], method)


def _zip_header(file: Path, place: int, value: int) -> None:
    """Change flags, method or sizes in the list of entries at the end."""
    content = bytearray(file.read_bytes())
    starts = [i for i in range(len(content) - 46) if content[i : i + 4] == b"PK\x01\x02"]
    at = starts[place % len(starts)] + [8, 10, 20, 24, 27, 42][value % 6]
    content[at] = value // 6 % 256
    file.write_bytes(bytes(content))


_DTYPES = ["<f8", ">f4", "<i8", "|b1", "<U3", "|S2", "<M8[s]", "<c8", "|V4", "|O", "<f2", "<u8"]
_SHAPES = [
    (),
    (0,),
    (8, 0),
    (10**13,),
    (8, 10**12),
    (-8,),
    (4,),
    (16,),
    (8, 1),
    (2, 2, 2),
    (8,) * 9,
]


def _npy(file: Path, place: int, value: int) -> None:
    """Give an array another shape or another type, with or without the bytes for it."""
    entries = _zip_entries(file)
    name = sorted(entries)[place % len(entries)]
    array = np.load(io.BytesIO(entries[name]))
    if value % 3:
        entries[name] = npy(array, place // len(entries), value // 3)
    else:
        header = {
            "descr": _DTYPES[place // 7 % len(_DTYPES)],
            "fortran_order": bool(value & 32),
            "shape": _SHAPES[value // 3 % len(_SHAPES)],
        }
        text = (str(header) + " " * 64).encode() + b"\n"
        length = len(text).to_bytes(2, "little")
        entries[name] = b"\x93NUMPY\x01\x00" + length + text + array.tobytes()
    _write_zip(file, list(entries.items()))


def npy(array: np.ndarray, place: int, value: int) -> bytes:
    """Return a column that is another one, as an .npy file."""
    out = io.BytesIO()
    np.save(out, _other(array, place, value), allow_pickle=True)
    return out.getvalue()


def _other(array: np.ndarray, place: int, value: int) -> np.ndarray:
    flat = array.copy().reshape(-1)
    if value % 8 == 0:
        number = [np.nan, np.inf, -1, 2, 1e300, 2.0**53, 0.5][value // 8 % 7]
        flat = flat.astype(float)
        flat[place % len(flat)] = number
        return flat.reshape(array.shape)
    return [
        lambda: array[: place % (len(array) + 1)],
        lambda: np.concatenate([array, array]),
        lambda: array[::-1].copy(),
        lambda: array.astype(["f2", "f4", "i8", "u8", "U", "S", "?", "c8", ">i4"][place % 9]),
        lambda: array.reshape(-1)[place % array.size],
        lambda: np.broadcast_to(array[..., None], (*array.shape, 3)).copy(),
        lambda: np.zeros_like(array),
    ][value % 8 - 1]()


def _checkpoint(file: Path, place: int, value: int) -> None:
    """Change an entry of a checkpoint, and its hash with it."""
    content = torch.load(file, weights_only=True)
    content.pop(HASH, None)
    names = ["hyper_parameters", "hindsight", "global_step", "state_dict", "loops", "callbacks"]
    name = names[place % len(names)]
    odd = [
        ODD[value % len(ODD)],
        torch.zeros(1).expand(10**12),
        torch.zeros(3),
        (10**5, 10**5),
        (8, 8, 8),
        _laughs(),
    ][value // len(ODD) % 6]
    held = content.get(name)
    if isinstance(held, dict) and held and place % 5:
        key = sorted(held, key=str)[place // 6 % len(held)]
        inner = held[key]
        if isinstance(inner, dict) and inner and place % 7:
            held = dict(held)
            held[key] = _changed(inner, place // 42, odd)
        else:
            held = {**held, key: odd}
        content[name] = held
    else:
        content[name] = odd
    # The hash of what unfolds to 10^12 entries would take as long to find.
    small = value // len(ODD) % 6 not in (1, 5)
    torch.save(content | ({HASH: content_hash(content)} if small and value % 2 else {}), file)


def _laughs() -> list[Any]:
    """Return lists of lists of lists, 10^12 entries in a few bytes."""
    inner: list[Any] = ["ha"]
    for _ in range(12):
        inner = [inner] * 10
    return inner


def _zarr(file: Path, place: int, value: int) -> None:
    """Change type, sides or codecs of an array of Zarr, version 2."""
    said = json.loads(file.read_text())
    pickled = {"id": "pickle", "protocol": 5}
    codecs = [pickled, {"id": "gzip"}, {"id": "blosc"}, {"id": "json2"}, None, {"id": "delta"}]
    odd: list[tuple[str, Any]] = [
        ("dtype", _DTYPES[value % len(_DTYPES)]),
        ("shape", list(_SHAPES[value % len(_SHAPES)])),
        ("chunks", list(_SHAPES[value % len(_SHAPES)])),
        ("compressor", codecs[value % len(codecs)]),
        ("filters", [codecs[value % len(codecs)]]),
    ]
    name, entry = odd[place % len(odd)]
    said[name] = entry
    if entry in (pickled, [pickled]):
        said["dtype"] = "|O"
        for chunk in file.parent.iterdir():
            if chunk.name[0].isdigit() and chunk.is_file():
                chunk.write_bytes(payload())
    file.write_text(json.dumps(said))


# ------------------------------------------------------------------ HDF5, parquet, ONNX


def _hdf5(file: Path, place: int, value: int) -> None:
    with h5py.File(file, "a") as opened:
        names: list[str] = []
        opened.visititems(lambda n, i: names.append(n) if isinstance(i, h5py.Dataset) else None)
        name = names[place % len(names)]
        array = np.asarray(opened[name][()])
        del opened[name]
        kind = value % 9
        if kind == 0:
            opened[name] = h5py.SoftLink("/" + names[0])
        elif kind == 1:
            opened[name] = h5py.ExternalLink("/etc/hostname", "/")
        elif kind == 2:
            shape = [(10**9,), (10**13,), (8, 10**10), (3 * 10**8,)][value // 9 % 4]
            opened.create_dataset(name, shape, "f8", chunks=True, compression="gzip")
        elif kind == 3:
            opened.create_dataset(name, data=["text"] * len(array))
        elif kind == 4:
            opened.create_group(name)
        elif kind == 5:
            group = opened
            for _ in range(40 if value & 16 else 3000):
                group = group.create_group("g")
        elif kind == 6:
            pass
        else:
            opened.create_dataset(name, data=_other(array, place // 8, value // 9))


def _parquet(file: Path, place: int, value: int) -> None:
    table = pa.parquet.read_table(file)
    at = place % table.num_columns
    name, column = table.column_names[at], table.column(at)
    kind = value % 8
    if kind == 0:
        table = table.remove_column(at)
    elif kind == 1:
        table = table.append_column(name, column)
    elif kind == 2:
        table = table.slice(place // 16 % 9)
    elif kind == 3:
        table = pa.concat_tables([table] * (1 + place // 16 % 4))
    elif kind == 4:
        entries = column.to_pylist()
        entries[place // 16 % len(entries)] = [None, [], [1.0], [1, 2, 3]][value // 8 % 4]
        table = table.set_column(at, name, pa.array(entries))
    elif kind == 5:
        odd = [["a"] * 7 + ["b" * 10**6], [{"a": 1}] * 8, [b"x"] * 8, [[[1.0]]] * 8, [[]] * 8]
        table = table.set_column(at, name, pa.array(odd[value // 8 % 5][: len(table)]))
    elif kind == 6:
        rows = 20_000_000 if value & 128 else 3_000_000
        names = table.column_names
        table = pa.table({n: pa.nulls(rows, pa.float64()).fill_null(0.0) for n in names[:4]})
    else:
        types = [pa.float16(), pa.int8(), pa.string(), pa.bool_(), pa.decimal128(9), pa.date32()]
        table = table.set_column(at, name, column.cast(types[value // 8 % 6]))
    pa.parquet.write_table(table, file)


def _onnx(file: Path, place: int, value: int) -> None:
    """Change the contract, or a weight, of a policy."""
    model = onnx.load_from_string(file.read_bytes())
    if value % 4:
        entry = next(e for e in model.metadata_props if e.key == KEY)
        changed = _changed(json.loads(entry.value), place, ODD[value // 4 % len(ODD)])
        entry.value = json.dumps(changed)
    else:
        tensor = model.graph.initializer[place % len(model.graph.initializer)]
        if value & 4:
            tensor.dims[:] = [10**6, 10**6]
        else:
            tensor.raw_data = b"\xff" * len(tensor.raw_data)
    file.write_bytes(model.SerializeToString())


Change = Callable[[Path, int, int], None]
_BYTES: list[Change] = [
    _flip,
    _overwrite,
    _cut,
    _drop_block,
    _repeat_block,
    _pickle,
    _remove,
    _pipe,
]
_BY_SUFFIX: dict[str, list[Change]] = {
    ".json": [_json, _json, _json_inside, _nest],
    ".zarray": [_json, _json, _zarr, _nest],
    ".zgroup": [_json, _nest],
    ".zip": [_zip_entry, _zip_header],
    ".jsonl": [_json_lines, _json_lines, _nest],
    ".csv": [_lines, _cell, _cell],
    ".yaml": [_yaml_value, _yaml_value, _lines],
    ".npz": [_zip_entry, _zip_header, _npy, _npy],
    ".ckpt": [_zip_entry, _zip_header, _checkpoint, _checkpoint],
    ".hdf5": [_hdf5],
    ".parquet": [_parquet],
    ".onnx": [_onnx],
}
