"""Instructions, bytes and cache misses of one update, and of reading its rows (IQL, one thread).

    python benchmarks/counts.py [--no_document]

Counted by callgrind, a tool of valgrind (``apt install valgrind``), with caches of the sizes of
this machine's; its second-level cache stands where callgrind has the last. It does not know
AVX-512, so the program of an update is built for AVX2: with wider vectors, instructions are about
half as many, and misses the same. Reading rows is PyTorch's and Python's work, counted as it runs
under valgrind. Other work on the machine changes no count: one run is enough. Takes five minutes;
writes a table of docs/speed.md and build/counts.json.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from bench import UPDATES_PER_STEP
from chunks import built, rows_of
from results import BUILD, ROOT, replace_part
from shared import quiet, say, table
from sizes import SIZES, Size
from stamped import KINDS, Written, written
from torch._inductor import config
from torch._inductor.cpp_builder import CppBuilder, CppTorchOptions
from torch._inductor.cpu_vec_isa import pick_vec_isa

from hindsight_rl.files import write_text

EVENTS = ("Ir", "Dr", "Dw", "D1m", "DLm")
READING = "reading the rows"
CACHE = Path("/sys/devices/system/cpu/cpu0/cache")

HEAD = """
#include <valgrind/callgrind.h>
extern "C" int {name}_dumps;
int {name}_dumps = 0;
"""
MAIN = """
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <valgrind/callgrind.h>

// Reads the bytes of every input from a file, makes updates with them, and counts in the last.
int main(int, char** given) {
  void* library = dlopen(given[1], RTLD_NOW);
  if (!library) return std::fprintf(stderr, "%s", dlerror()), 1;
  using Updates = int (*)(int64_t, char**, char**, const int64_t*, char*);
  auto updates = (Updates)dlsym(library, "updates");
  std::FILE* file = std::fopen(given[2], "rb");
  const int64_t inputs = std::atoll(given[3]), moved = std::atoll(given[4]);
  const int64_t room = std::atoll(given[5]);
  auto* in = new char*[inputs];
  auto* out = new char*[moved + 1];
  auto* steps = new int64_t[inputs]();
  for (int64_t n = 0; n < inputs; ++n) {
    int64_t size = 0;
    if (std::fread(&size, 8, 1, file) != 1) return 2;
    in[n] = (char*)std::aligned_alloc(64, (size + 127) / 64 * 64);
    if (n < moved) out[n] = (char*)std::aligned_alloc(64, (size + 127) / 64 * 64);
    if (size && std::fread(in[n], size, 1, file) != 1) return 2;
  }
  out[moved] = (char*)std::calloc(1, 1 << 16);
  char* between = (char*)std::aligned_alloc(64, (room + 127) / 64 * 64);
  for (int64_t n = 0; n < room; ++n) between[n] = 0;
  if (updates(4, in, out, steps, between)) return 3;
  *(int*)dlsym(library, "stamped_dumps") = 1;
  CALLGRIND_ZERO_STATS;
  return updates(1, in, out, steps, between);
}
"""
SWITCH = """
#include <valgrind/callgrind.h>
extern "C" void begin() { CALLGRIND_START_INSTRUMENTATION; }
extern "C" void zero() { CALLGRIND_ZERO_STATS; }
extern "C" void dump() { CALLGRIND_DUMP_STATS_AT("0"); }
"""


def caches() -> list[str]:
    """Return callgrind's options for the caches of this machine."""
    found = {}
    for place in CACHE.glob("index*"):
        level, kind, size, ways, line = (
            (place / name).read_text().strip()
            for name in ("level", "type", "size", "ways_of_associativity", "coherency_line_size")
        )
        name = {"1Data": "D1", "1Instruction": "I1", "2Unified": "LL"}.get(level + kind)
        if name:
            found[name] = f"--{name}={1024 * int(size.rstrip('K'))},{ways},{line}"
    return list(found.values())


def callgrind(command: Sequence[str], folder: Path, *options: str) -> dict[int, dict[str, int]]:
    """Return what was counted up to each dump since the one before, by the number it was given."""
    file = f"--callgrind-out-file={folder / 'out'}"
    valgrind = ["valgrind", "--tool=callgrind", "--cache-sim=yes", *caches(), file, *options]
    torch_at = {"LD_LIBRARY_PATH": str(Path(torch.__file__).parent / "lib")}
    ended = subprocess.run(
        [*valgrind, *command],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | torch_at,
    )
    if ended.returncode:
        raise RuntimeError(f"{shlex.join(command)}: {ended.stderr[-2000:]}")
    found: dict[int, dict[str, int]] = {}
    for path in folder.glob("out.*"):
        text = path.read_text()
        number = re.search(r"^desc: Trigger: Client Request: (\d+)$", text, re.MULTILINE)
        events = re.search(r"^events: (.*)$", text, re.MULTILINE)
        counts = re.search(r"^(?:summary|totals): (.*)$", text, re.MULTILINE)
        if number and events and counts:
            # What is 0 at the end of a line is left out.
            each = zip_longest(events[1].split(), map(int, counts[1].split()), fillvalue=0)
            seen: dict[str, int] = dict(each)
            found[int(number[1])] = {
                "Ir": seen["Ir"], "Dr": seen["Dr"], "Dw": seen["Dw"],
                "D1m": seen["D1mr"] + seen["D1mw"], "DLm": seen["DLmr"] + seen["DLmw"],
            }  # fmt: skip
    return found


def library(source: str, folder: Path) -> Path:
    """Build a program for AVX2, and for no more than that."""
    (folder / "program.cpp").write_text(source)
    options = CppTorchOptions(vec_isa=pick_vec_isa())
    builder = CppBuilder("program", str(folder / "program.cpp"), options, output_dir=str(folder))
    command = builder.get_command_line().replace("-march=native", "-march=haswell -w")
    subprocess.run(shlex.split(command), check=True, cwd=folder)
    return Path(builder.get_target_file_path())


def build(source: str, path: Path, *options: str) -> Path:
    """Build a few lines of C++."""
    path.with_suffix(".cpp").write_text(source)
    command = ["g++", "-O1", *options, str(path.with_suffix(".cpp")), "-o", str(path), "-ldl"]
    subprocess.run(command, check=True)
    return path


def of_update(size: Size, folder: Path) -> dict[str, dict[str, int]]:
    """Return what each kind of operation counts in one update."""

    def counted(number: int, operation: Any) -> str:
        return f'{operation.call}\nif (stamped_dumps) CALLGRIND_DUMP_STATS_AT("{number}");'

    with config.patch({"cpp.simdlen": 256}):
        with written(counted, HEAD) as seen:
            built(size, "update")
        program = library(seen.source, folder)
    command = [str(build(MAIN, folder / "main")), str(program), *_inputs(seen, folder)]
    counts = callgrind(command, folder)
    found = {kind: dict.fromkeys(EVENTS, 0) for kind in KINDS}
    for number, kind in enumerate(seen.kinds()):
        for event in EVENTS:
            found[kind][event] += counts[number][event]
    return found


def _inputs(seen: Written, folder: Path) -> list[str]:
    """Write the bytes of the inputs; return the arguments that say what is there."""
    with (folder / "inputs").open("wb") as file:
        for tensor in seen.inputs:
            span = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
            flat = tensor.detach().as_strided((span if tensor.numel() else 0,), (1,))
            raw = flat.contiguous().view(torch.uint8).numpy().tobytes()
            file.write(len(raw).to_bytes(8, "little") + raw)
    return [str(folder / "inputs"), str(len(seen.inputs)), str(seen.moved), str(seen.room)]


def of_rows(size: Size, folder: Path) -> dict[str, int]:
    """Return what reading the rows of one update counts."""
    switch = build(SWITCH, folder / "switch.so", "-shared", "-fPIC")
    command = [sys.executable, __file__, "--read", size.name, str(switch)]
    found = callgrind(command, folder, "--instr-atstart=no")[0]
    return {event: round(count / UPDATES_PER_STEP) for event, count in found.items()}


def read(size: Size, switch: str) -> None:
    """Read the rows of a chunk, counting the last: what runs under valgrind."""
    import ctypes

    count = ctypes.CDLL(switch)
    quiet()
    chunk = rows_of(size)
    chunk(0)
    count.begin()
    chunk(1)
    count.zero()
    chunk(2)
    count.dump()


def main() -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--no_document", action="store_true", help="write no page")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.read:
        read(SIZES[asked.read[0]], asked.read[1])
        return 0
    if shutil.which("valgrind") is None:
        sys.stderr.write("error: no valgrind: apt install valgrind, or your system's package\n")
        return 2
    quiet()
    rows, cells = [], []
    for size in SIZES.values():
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            found = of_update(size, Path(one)) | {READING: of_rows(size, Path(two))}
        seconds = time.perf_counter() - begun
        for kind, counts in found.items():
            cells.append([f"{size.name}, {kind}", *(f"{count:,}" for count in counts.values())])
            rows += [
                {"name": f"{size.name}, {kind}, {event}", "mean": count, "low": count}
                | {"high": count, "seeds": 1, "seconds": seconds}
                for event, count in counts.items()
            ]
    header = (
        *("counts of an update", "instructions", "reads", "writes"),
        *("misses of the first cache", "of the second"),
    )
    text = table(header, cells)
    say(text)
    BUILD.mkdir(exist_ok=True)
    write_text(BUILD / "counts.json", json.dumps(rows, indent=1))
    if not asked.no_document:
        replace_part(ROOT / "docs" / "speed.md", "counts", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
