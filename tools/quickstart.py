"""The main job from end to end on an embedded default (``make quickstart``).

    python tools/quickstart.py [--fast] [--workers 2]

Collects a CartPole log of mixed quality, inspects it, fits plain cloning, filtered cloning and
MARWIL, tests each, exports each to ONNX and runs the exported file in a Gymnasium loop on the same
episodes. Prints the commands it ran and one table; writes build/quickstart.json and
build/quickstart/policy.onnx. ``--fast`` uses one seed and fewer updates.
"""

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import re
import shutil
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

FOLDER = Path("build/quickstart")
LOG = FOLDER / "log"
ENV = "CartPole-v1"
EPISODES, TEST_SEED = 50, 2_000_000
METHODS = {
    "bc": ("BC", "as logged"),
    "filtered_bc": ("filtered BC", "best tenth of the episodes"),
    "marwil": ("MARWIL", "weight by advantage"),
}


def say(line: str) -> None:
    """Show a line of progress, in one piece: other processes write to the same terminal."""
    shown = sys.__stdout__ or sys.stdout
    shown.write(f"  {line}\n")
    shown.flush()


class Progress(io.StringIO):
    """Keeps what is written, and shows the lines of progress, the loss terms left out.

    Args:
        name: Goes in front of each line.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def write(self, text: str) -> int:
        """Keep a text, and show it if it is about updates made."""
        done = re.search(r"update [\d,]+ of [\d,]+, [\d,]+ updates/s", text)
        if done:
            say(f"{self._name}: {done[0]}")
        return super().write(text)


def command(*words: str, show: bool = False, watch: str = "") -> str:
    """Run one ``hindsight`` command in this process and return what it printed.

    Args:
        words: Words after ``hindsight``.
        show: Print the command first.
        watch: Name under which its progress is shown while it works; nothing is shown without.

    Returns:
        Its standard output.

    Raises:
        SystemExit: The command failed; its output has been printed.
    """
    from hindsight_rl.cli.main import main

    if show:
        sys.stdout.write(f"\n$ hindsight {' '.join(words)}\n")
        sys.stdout.flush()
    said, warned = io.StringIO(), Progress(watch) if watch else io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(warned):
        code = main(words)
    if code:
        sys.stderr.write(f"hindsight {' '.join(words)}\n{said.getvalue()}{warned.getvalue()}")
        raise SystemExit(code)
    return said.getvalue()


def one(job: tuple[str, int, int]) -> dict[str, Any]:
    """Fit, test, export and run one method with one seed.

    Args:
        job: Method, training seed, number of updates.

    Returns:
        The method, the seed, and the returns of the PyTorch policy and of the exported file.
    """
    import torch

    torch.set_num_threads(1)
    method, seed, updates = job
    run = FOLDER / "runs" / f"{method}-{seed}"
    policy = FOLDER / f"{method}-{seed}.onnx"
    fit = (
        *("fit", "--config", method, "--data.source", str(LOG), "--env", ENV),
        *("--model.network.hidden", "[64,64]", "--trainer.max_steps", str(updates)),
        *("--seed_everything", str(seed), "--data.seed", str(seed), "--run", str(run)),
    )
    test = ("test", "--run", str(run), "--json")
    export = ("export", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--output", str(policy))
    play = (
        *("run", str(policy), "--env", ENV, "--episodes", str(EPISODES)),
        *("--seed", str(TEST_SEED), "--json"),
    )
    start = time.perf_counter()
    command(*fit)
    seconds = time.perf_counter() - start
    torch_report = json.loads(command(*test))
    command(*export)
    onnx_report = json.loads(command(*play))
    return {
        "method": method,
        "seed": seed,
        "fit_seconds": seconds,
        "torch_returns": torch_report["returns"],
        "onnx_returns": onnx_report["returns"],
        "act_us_median": onnx_report["act_us_median"],
        "commands": [" ".join(("hindsight", *words)) for words in (fit, test, export, play)],
    }


def table(found: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the table as text and as rows."""
    rows = []
    for method, (name, data_step) in METHODS.items():
        runs = [run for run in found if run["method"] == method]
        scores = [statistics.fmean(run["torch_returns"]) for run in runs]
        exported = [statistics.fmean(run["onnx_returns"]) for run in runs]
        rows.append(
            {
                "method": name,
                "data_step": data_step,
                "seeds": len(runs),
                "mean": statistics.fmean(scores),
                "worst_seed": min(scores),
                "best_seed": max(scores),
                "onnx_mean": statistics.fmean(exported),
                "onnx_equals_torch": all(r["torch_returns"] == r["onnx_returns"] for r in runs),
                "fit_seconds": statistics.median(run["fit_seconds"] for run in runs),
            }
        )
    lines = [
        f"{'method':<13}{'data step':<28}{'return (worst, best seed)':<28}{'ONNX':>8}{'equal':>7}",
    ]
    for row in rows:
        spread = f"{row['mean']:.1f} ({row['worst_seed']:.1f}, {row['best_seed']:.1f})"
        equal = "yes" if row["onnx_equals_torch"] else "NO"
        lines.append(
            f"{row['method']:<13}{row['data_step']:<28}{spread:<28}{row['onnx_mean']:>8.1f}{equal:>7}"
        )
    return "\n".join(lines), rows


def main() -> int:
    """Run the whole job."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="one seed, fewer updates")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    sys.stdout.write(
        command("collect", "--env", ENV, "--output", str(LOG), "--seed", "0", show=True)
    )
    picture = FOLDER / "log.png"
    sys.stdout.write(command("inspect", str(LOG), "--plot", str(picture), show=True))
    seeds, updates = (1, 2000) if options.fast else (5, 3000)
    jobs = [(method, seed, updates) for seed in range(seeds) for method in METHODS]
    found = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        for result in pool.map(one, jobs):
            if result["seed"] == 0:
                sys.stdout.write("".join(f"\n$ {line}" for line in result["commands"]) + "\n")
            score = statistics.fmean(result["torch_returns"])
            name = METHODS[result["method"]][0]
            sys.stdout.write(
                f"{name}, seed {result['seed']}: return {score:.1f}, "
                f"fitted in {result['fit_seconds']:.0f} s\n"
            )
            sys.stdout.flush()
            found.append(result)
    text, rows = table(found)
    shutil.copyfile(FOLDER / "marwil-0.onnx", FOLDER / "policy.onnx")
    seconds = time.perf_counter() - begun
    Path("build/quickstart.json").write_text(
        json.dumps({"seconds": seconds, "rows": rows}, indent=1)
    )
    plural = "s" * (seeds > 1)
    sys.stdout.write(
        f"\n{ENV}, {seeds} training seed{plural} x {EPISODES} episodes, {updates} updates\n"
        f"{text}\n\n{FOLDER}/policy.onnx runs without PyTorch: "
        f"hindsight run {FOLDER}/policy.onnx --env {ENV}\n{seconds:.0f} s\n"
    )
    return 0 if all(row["onnx_equals_torch"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
