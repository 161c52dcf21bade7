"""Runners without Python that ``runners.py`` measures: generated C, and C++ with OpenVINO."""

import importlib.util
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shared import BUILD

HOME = BUILD / "runners"
Report = dict[str, float]
Runner = Callable[[Path, int], Report]
_TIMER = """\
#define _POSIX_C_SOURCE 199309L
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "policy.h"
#define CALLS {calls}
#define ROWS {rows}
static {given} rows[ROWS][{size}]{values};
static double times[CALLS];
static int by_size(const void *one, const void *two) {{
  const double a = *(const double *)one, b = *(const double *)two;
  return (a > b) - (a < b);
}}
int main(void) {{
  static policy_state state;
  {kind} action[POLICY_ACTION_SIZE];
  struct timespec from, to;
  int call;
{fill}  policy_reset(&state);
  for (call = -CALLS; call < CALLS; ++call) {{
    clock_gettime(CLOCK_MONOTONIC, &from);
    if (policy_act(&state, rows[(call + CALLS) % ROWS], action)) return 1;
    clock_gettime(CLOCK_MONOTONIC, &to);
    if (call < 0) continue;
    times[call] = 1e6 * (double)(to.tv_sec - from.tv_sec);
    times[call] += 1e-3 * (double)(to.tv_nsec - from.tv_nsec);
  }}
  qsort(times, CALLS, sizeof(double), by_size);
  printf("%.4f %.4f\\n", times[CALLS / 2], times[CALLS * 99 / 100]);
  return 0;
}}
"""
_FILL = """\
  for (call = 0; call < POLICY_OBSERVATION_CAMERA_SIZE; ++call)
    rows[0][call] = (uint8_t)(call * 2654435761u >> 24);
"""


def in_c(*flags: str) -> Runner:
    """The generated C, compiled with some flags."""

    def run(path: Path, calls: int) -> Report:
        from hindsight_rl.export.c.compiler import compiler, write_source
        from hindsight_rl.export.c.source import c_source

        folder = HOME / f"{path.stem}{''.join(flags)}"
        program = folder / f"timer{calls}"
        build = [str(compiler()), "-std=c99", *flags, "policy.c", "-lm", "-o"]
        if not program.exists():
            folder.mkdir(exist_ok=True)
            write_source(c_source(path.read_bytes(), str(path), "policy"), folder)
            (folder / "timer.c").write_text(_timer(path, calls))
            subprocess.run([*build, "test", "-DPOLICY_SELF_TEST"], cwd=folder, check=True)
            subprocess.run([*build, program.name, "timer.c"], cwd=folder, check=True)
        said = output([folder / "test"])
        p50, p99 = output([program]).split()
        wrong = int(said.split(": ")[1].split()[0]) if "choices" in said else 0
        apart = 0.0 if "choices" in said else float(said.split("difference ")[1].split()[0])
        return {"wrong": wrong, "difference": apart, "p50": float(p50), "p99": float(p99)}

    return run


def _timer(path: Path, calls: int) -> str:
    """Return the program that times calls of a policy."""
    from hindsight_rl.export.runtime import OnnxPolicy

    contract = OnnxPolicy(path).contract
    kind = "int64_t" if contract["action"]["kind"] == "discrete" else "float"
    if "entries" in contract["observation"]:
        size = "POLICY_OBSERVATION_CAMERA_SIZE"
        image = {"rows": 1, "size": size, "given": "uint8_t", "values": "", "fill": _FILL}
        return _TIMER.format(calls=calls, kind=kind, **image)
    observed = contract["probe"]["observation"]
    rows = ["{" + ", ".join(f"{value:.9g}" for value in row) + "}" for row in observed]
    values = " = {\n" + ",\n".join(rows) + "\n}"
    vectors = {"rows": len(rows), "size": "POLICY_OBSERVATION_SIZE", "given": "const float"}
    return _TIMER.format(calls=calls, kind=kind, values=values, fill="", **vectors)


def in_cpp(path: Path, calls: int) -> Report:
    """The runner in C++, with OpenVINO."""
    difference, wrong, p50, p99 = output([HOME / "cpp" / "timer", path, calls]).split()
    return {
        "wrong": int(wrong),
        "difference": float(difference),
        "p50": float(p50),
        "p99": float(p99),
    }


def builds_cpp() -> bool:
    """Return whether the runner in C++ is there, built at the first call."""
    found = importlib.util.find_spec("openvino")
    if found is None or found.origin is None or not all(map(shutil.which, ("cmake", "c++"))):
        return False
    place = Path(found.origin).parent / "cmake"
    source = Path(__file__).with_name("timer_cpp")
    configure = ["cmake", "-S", source, "-B", HOME / "cpp", f"-DOpenVINO_DIR={place}"]
    output(configure)
    output(["cmake", "--build", HOME / "cpp"])
    return True


def output(words: list[Any]) -> str:
    """Return what a program prints.

    Args:
        words: Of its command line.

    Returns:
        The text.

    Raises:
        RuntimeError: It fails.
    """
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{words[0]}: {done.stdout}{done.stderr}")
    return done.stdout
