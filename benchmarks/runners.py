"""One policy in every runner: Python, C, C++, Node and WASM, each with the file's own probe.

    python benchmarks/runners.py [--repeats 5] [--calls 3000]

Untrained policies: two layers of 64 units and three choices, two layers of 256 units and six real
actions, a GRU of 128 units, and cameras of 64 x 64 and 84 x 84 pixels, as images are encoded unless
one says otherwise. Every runner plays the probe rows first and
says how far it is from the learner. Then single calls are timed, in blocks that alternate between
the runners, so that a disturbance of the machine meets all; the table has medians over blocks. What
a machine has not (a compiler, Node, Chromium) is left out. The packages onnxruntime-node and
onnxruntime-web are installed by npm into build/runners. The table goes into docs/export.md and
build/runners.json.
"""

import argparse
import http.server
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import act
import numpy as np
from native_runners import HOME, Report, Runner, builds_cpp, in_c, in_cpp, output
from shared import BUILD, ROOT, quiet, say, table

from hindsight_rl.files import write_text

sys.path.append(str(ROOT / "tools"))
from documents import placed  # noqa: E402

MODULES = HOME / "node_modules"
READER = ROOT / "runners" / "js"
PACKAGES = ("onnxruntime-node@1.30.0", "onnxruntime-web@1.30.0")
POLICIES = {
    "choices": "2x64, choices",
    "mlp": "2x256",
    "gru": "GRU 128",
    "camera64": "camera of 64 x 64",
    "camera84": "camera of 84 x 84",
}
CAMERA = "camera"
CAMERAS = {"camera64": 64, "camera84": 84}
ROWS, FRAMES = 256, 16
"""Probe rows, and those that are pictures."""
FEWER = 20
"""A camera's policy takes so many times fewer calls in a block."""
BARE = "Python, onnxruntime alone"
_PAGE = """\
<script type="module">
import * as ort from "/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { Policy } from "/js/policy.mjs";
import { verify } from "/js/verify.mjs";
import { measure } from "/runners.mjs";
ort.env.wasm.wasmPaths = location.origin + "/node_modules/onnxruntime-web/dist/";
ort.env.wasm.numThreads = 1;
const [file, calls] = location.hash.slice(1).split(",");
let report;
try {
  const bytes = new Uint8Array(await (await fetch("/" + file)).arrayBuffer());
  report = await measure(ort, { Policy, verify }, bytes, Number(calls));
} catch (error) { report = { error: String(error) }; }
await fetch("/report", { method: "POST", body: JSON.stringify(report) });
</script>
"""


def export_all(folder: Path) -> dict[str, Path]:
    """Write the policies, and return their files by name."""
    import torch

    from hindsight_rl.agents.bc import BC
    from hindsight_rl.agents.recurrent_bc import RecurrentBC
    from hindsight_rl.export.onnx import export_policy
    from hindsight_rl.nets.network import Network
    from hindsight_rl.spec import WHOLE, ActionSpec, Image, Probe, Spec, Vector

    size, draw = act.OBSERVATION, np.random.default_rng(0)
    rows = draw.normal(size=(ROWS, size)).astype(np.float32)

    def spec(action: ActionSpec) -> Spec:
        seen = Vector((size,), mean=(0.1,) * size, std=(2.0,) * size)
        return Spec({WHOLE: seen}, action, probe=Probe({WHOLE: rows}))

    def seeing(side: int) -> Spec:
        frames = draw.integers(0, 256, (FRAMES, side, side, 3), np.uint8)
        return Spec({CAMERA: Image((side, side, 3))}, bounded, probe=Probe({CAMERA: frames}))

    torch.manual_seed(0)
    bounded = ActionSpec("continuous", (act.ACTION,), (-1.0,) * act.ACTION, (1.0,) * act.ACTION)
    learners = {
        "choices": BC(spec(ActionSpec("discrete", (), n=3)), network=Network(hidden=(64, 64))),
        "mlp": BC(spec(bounded), network=Network(hidden=(256, 256))),
        "gru": RecurrentBC(spec(bounded), units=128, network=Network(hidden=())),
    }
    for name, side in CAMERAS.items():
        learners[name] = BC(seeing(side), network=Network(hidden=(256, 256)))
    for name, learner in learners.items():
        export_policy(learner.eval(), folder / f"{name}.onnx")
    return {name: folder / f"{name}.onnx" for name in learners}


# -------------------------------------------------------------------------------------- runners


def in_python(path: Path, calls: int) -> Report:
    """``OnnxPolicy.act``."""
    from hindsight_rl.export.probe import probe_of
    from hindsight_rl.export.runtime import OnnxPolicy
    from hindsight_rl.export.verify import verify_file

    policy, clock = OnnxPolicy(path), time.perf_counter_ns
    (given,) = probe_of(policy.contract, policy.signature).inputs.values()
    rows = [{CAMERA: row} for row in given] if policy.signature.entries else list(given)
    times = np.empty(calls)
    for call in range(-calls, calls):
        row = rows[call % len(rows)]
        start = clock()
        policy.act(row)
        times[max(call, 0)] = (clock() - start) / 1000.0
    found = verify_file(path)["parity"]
    apart = {"wrong": found.get("disagreements", 0), "difference": found.get("max_difference", 0.0)}
    return apart | {"p50": float(np.median(times)), "p99": float(np.percentile(times, 99))}


def in_onnxruntime(path: Path, calls: int) -> Report:
    """The bare session: no checks, no state, what it is fed prepared before."""
    from hindsight_rl.export.probe import probe_of
    from hindsight_rl.export.runtime import OnnxPolicy

    policy, clock = OnnxPolicy(path), time.perf_counter_ns
    session, feed = act._session(path), policy.initial_state(1)
    ((name, rows),) = probe_of(policy.contract, policy.signature).inputs.items()
    feeds = [feed | {name: row[None]} for row in rows]
    outputs = [each.name for each in session.get_outputs()]
    times = np.empty(calls)
    for call in range(-calls, calls):
        given = feeds[call % len(feeds)]
        start = clock()
        session.run(outputs, given)
        times[max(call, 0)] = (clock() - start) / 1000.0
    p50, p99 = float(np.median(times)), float(np.percentile(times, 99))
    return {"wrong": 0, "difference": 0.0, "p50": p50, "p99": p99}


def in_node(package: Path, wasm: Path | None = None) -> Runner:
    """onnxruntime-node, or onnxruntime-web in Node."""

    def run(path: Path, calls: int) -> Report:
        script = Path(__file__).with_suffix(".mjs")
        words = ["node", script, READER, package, wasm or "", path, calls]
        return _of_javascript(json.loads(output(words)))

    return run


def in_chromium(path: Path, calls: int) -> Report:
    """onnxruntime-web in a page of headless Chromium."""
    reports: list[Any] = []
    done = threading.Event()

    class Pages(http.server.SimpleHTTPRequestHandler):
        extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
            ".mjs": "text/javascript", ".wasm": "application/wasm",
        }  # fmt: skip

        def translate_path(self, url: str) -> str:
            places = {"js": READER, "node_modules": MODULES}
            first, _, rest = url.lstrip("/").partition("/")
            if first == "runners.mjs":
                return str(Path(__file__).with_suffix(".mjs"))
            return str(places[first] / rest) if first in places else str(path.parent / first)

        def end_headers(self) -> None:  # isolated pages have clocks of 5 us
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            super().end_headers()

        def do_POST(self) -> None:  # noqa: N802
            reports.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *words: Any) -> None:
            """Say nothing."""

    (path.parent / "page.html").write_text(_PAGE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/page.html#{path.name},{calls}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        words = [_chromium() or "", "--headless=new", "--no-sandbox", "--disable-gpu"]
        browser = subprocess.Popen(
            [*words, f"--user-data-dir={profile}", url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            if not done.wait(120.0):
                raise RuntimeError("Chromium did not answer in 120 s")
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()
    if "error" in reports[0]:
        raise RuntimeError(reports[0]["error"])
    return _of_javascript(reports[0])


def _of_javascript(found: dict[str, float]) -> Report:
    """Return a report with the difference as a share of the range, which is 2."""
    return found | {"difference": found["difference"] / 2.0}


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def runners() -> dict[str, Runner]:
    """Return what this machine has, by the names of the table."""
    from hindsight_rl.export.c.compiler import compiler

    found: dict[str, Runner] = {
        "Python, `OnnxPolicy.act`": in_python,
        BARE: in_onnxruntime,
    }
    if compiler() is not None:
        found["C, `-O3 -march=native`"] = in_c("-O3", "-march=native")
        found["C, `-O2`"] = in_c("-O2")
    if builds_cpp():
        found["C++, OpenVINO"] = in_cpp
    if shutil.which("node") is None or not _installed():
        return found
    web = MODULES / "onnxruntime-web" / "dist"
    found["Node, onnxruntime-node"] = in_node(MODULES / "onnxruntime-node" / "dist" / "index.js")
    found["Node, WASM"] = in_node(web / "ort.wasm.bundle.min.mjs", web)
    if _chromium() is not None:
        found["Chromium, WASM"] = in_chromium
    return found


def _installed() -> bool:
    """Return whether the packages of npm are there, installed at the first call."""
    if MODULES.exists():
        return True
    if shutil.which("npm") is None:
        return False
    words = ["npm", "install", "--prefix", str(HOME), "--no-audit", "--no-fund", *PACKAGES]
    environment = {"ONNXRUNTIME_NODE_INSTALL": "skip"}
    with_it = ["env", *(f"{name}={value}" for name, value in environment.items()), *words]
    return subprocess.run(with_it).returncode == 0


# --------------------------------------------------------------------------------------- report


def measured(files: dict[str, Path], repeats: int, calls: int) -> dict[tuple[str, str], Report]:
    """Return medians over blocks of every runner and policy; the runners take turns."""
    blocks: dict[tuple[str, str], list[Report]] = {}
    chosen = runners()
    for repeat in range(repeats):
        for policy, path in files.items():
            several = calls // FEWER if policy in CAMERAS else calls
            for name, run in chosen.items():
                blocks.setdefault((name, policy), []).append(run(path, several))
        say(f"block {repeat + 1} of {repeats}")
    return {
        key: {
            "wrong": max(each["wrong"] for each in found),
            "difference": max(each["difference"] for each in found),
            **{q: statistics.median(each[q] for each in found) for q in ("p50", "p99")},
        }
        for key, found in blocks.items()
    }


def main() -> None:
    """Measure, print the table, and put it into docs/export.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--calls", type=int, default=3000)
    given = parser.parse_args()
    quiet()
    HOME.mkdir(parents=True, exist_ok=True)
    begun = time.perf_counter()
    found = measured(export_all(HOME), given.repeats, given.calls)
    seconds = time.perf_counter() - begun
    names = list(dict.fromkeys(name for name, _ in found))
    lines = []
    for name in names:
        mine = {policy: found[name, policy] for policy in POLICIES}
        apart = max(each["difference"] for each in mine.values())
        wrong = sum(int(each["wrong"]) for each in mine.values())
        times = [f"{mine[p]['p50']:.2f} / {mine[p]['p99']:.2f}" for p in POLICIES]
        proof = ["", ""] if name == BARE else [f"{apart:.1e}", wrong]
        lines.append([name, *proof, *times])
    header = ["runner", "difference", "wrong", *(f"{each}, µs" for each in POLICIES.values())]
    text = table(header, lines)
    say(text)
    rows = [
        {"name": f"{name}: {POLICIES[policy]}", "mean": each["p50"], "low": each["p50"],
         "high": each["p99"], "seeds": given.repeats, "seconds": seconds} | each
        for (name, policy), each in found.items()
    ]  # fmt: skip
    write_text(BUILD / "runners.json", json.dumps(rows, indent=1))
    page = ROOT / "docs" / "export.md"
    write_text(page, placed(page.read_text(encoding="utf-8"), "runners", text))


if __name__ == "__main__":
    main()
