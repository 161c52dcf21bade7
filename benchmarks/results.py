"""Fit and test the learners on real logs, and rewrite docs/results.md (``make results``).

    python benchmarks/results.py [--data FOLDER] [--rows TEXT] [--choose] [--workers 2]

Each row of rows.py: training seeds 0 to 4 at once (``seeds`` of the learner), and 50 test episodes,
the same for every row and seed. Settings were chosen with ``--choose``, which trains with seeds
from 100 on and runs the episodes of ``evaluation.seed``; those reported here were never looked at.
Rows run in single-threaded processes. Finished rows are kept in build/results/, so an
interrupted run goes on where it stopped; delete that folder to start over.
"""

import argparse
import hashlib
import json
import logging
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import act
import numpy as np
from rows import NETWORK, Row, rows
from shared import silent_trainer

from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.envs.statistics import bootstrap_interval, interquartile_mean
from hindsight_rl.files import write_text

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))
from documents import placed  # noqa: E402

BUILD = ROOT / "build"
SEEDS, CHOICE_SEEDS = (0, 1, 2, 3, 4), (100, 101, 102)
# Two-sided 95 % quantiles of Student's t distribution, by number of seeds
# (degrees of freedom and one).
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}
DOOR_RANGE = (-56.5, 2880.6)


def load(path: str, package: str) -> Any:
    """Return a class named as ``module.Class`` below a package."""
    module, name = path.rsplit(".", 1)
    return getattr(import_module(f"hindsight_rl.{package}.{module}"), name)


def fit(row: Row, seeds: tuple[int, ...], data: Path, choose: bool) -> dict[str, Any]:
    """Fit and test one row with consecutive seeds, in one thread.

    Args:
        row: The row.
        seeds: Training seeds.
        data: Folder of the logs.
        choose: Use the evaluation episodes instead of the test episodes.

    Returns:
        ``scores``, one per seed (mean return, share of success, or mean absolute action error),
        ``seconds`` of fitting all of them, and the last ``metrics`` of the fit, means over seeds;
        of a row without an environment more.
    """
    import torch
    from lightning.pytorch import seed_everything

    from hindsight_rl.datamodules.offline import OfflineDataModule

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    seed_everything(seeds[0], verbose=False)
    log, method = row.log, row.method
    module = OfflineDataModule(
        str((BUILD / "logs" if log.ours else data) / log.file),
        [load(name, "relabel")(**arguments) for name, arguments in row.relabel],
        columns=log.columns,
        seed=seeds[0],
        **row.data,
    )
    evaluation = Evaluation(env=log.env, env_kwargs=log.env_kwargs)
    if choose:
        evaluation = replace(evaluation, test_seed=evaluation.seed)
    options = NETWORK | method.model
    rate = options.pop("lr")
    learner = load(method.learner, "agents")(
        module.spec if row.standardised else as_logged(module.spec),
        evaluation=evaluation,
        seeds=len(seeds),
        threads=1,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=rate, fused=True),
        **{"compile": "update"} | options,
    )
    trainer = silent_trainer(method.updates or log.updates)
    start = time.perf_counter()
    trainer.fit(learner, module)
    seconds = time.perf_counter() - start
    metrics = {key: float(value) for key, value in learner.latest.items()}
    if log.env is None:
        found = [held_out_error(learner, module) for _ in learner.each_seed()]
        return {"scores": [each["score"] for each in found], "seconds": seconds, "found": found}
    trainer.test(learner, verbose=False)
    reports = learner.test_report.get("seeds", [learner.test_report])
    key = "success" if log.success else "return"
    scores = [report[key] for report in reports]
    return {"scores": scores, "seconds": seconds, "metrics": metrics}


def as_logged(spec: Any) -> Any:
    """Return a spec whose observations a network takes as they are in the log."""
    width = spec.vector.width
    facts = spec.to_dict()
    facts["observation"] |= {"mean": [0.0] * width, "std": [1.0] * width}
    return type(spec).from_dict(facts)


def held_out_error(learner: Any, module: Any) -> dict[str, Any]:
    """Return the mean absolute action error on held-out episodes, per joint, beside repeating.

    Args:
        learner: A policy for a log without rewards.
        module: Its datamodule, with a validation split.

    Returns:
        Mean errors of the policy (``score``) and of repeating the position, and both per joint.
    """
    import torch

    from hindsight_rl.export.onnx import export_policy

    policy, repeat = [], []
    with torch.inference_mode():
        for batch in module.val_dataloader():
            action, observation = batch["action"][0], batch["observation"][0]
            policy.append((learner.eval()(observation) - action).abs())
            repeat.append((observation - action).abs())
    per_joint = torch.cat(policy).mean(0)
    repeated = torch.cat(repeat).mean(0)
    with tempfile.TemporaryDirectory() as folder:
        parity = export_policy(learner, Path(folder) / "policy.onnx")
        latency = act.measure(Path(folder) / "policy.onnx")
    return {
        "act_p99_us": latency["act_p99_us"],
        "parity": parity,
        "score": float(per_joint.mean()),
        "repeat": float(repeated.mean()),
        "joints_below": int((per_joint < repeated).sum()),
        "joints": len(per_joint),
        "per_joint": per_joint.tolist(),
        "repeat_per_joint": repeated.tolist(),
    }


@cache
def source_hash() -> str:
    """Return a hash of the code that a result depends on: a change makes it run again."""
    digest = hashlib.sha256()
    for room in ("maths", "relabel", "agents", "datamodules", "envs"):
        for path in sorted((ROOT / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def kept(row: Row, seeds: tuple[int, ...], choose: bool) -> Path:
    """Return where the result of a row is kept, as long as code and settings are the same."""
    settings = json.dumps([asdict(row), NETWORK], sort_keys=True, default=asdict)
    key = hashlib.sha256(f"{settings}{seeds}{choose}{source_hash()}".encode()).hexdigest()[:16]
    return BUILD / "results" / f"{key}.json"


def work(job: tuple[Row, tuple[int, ...], Path, bool]) -> dict[str, Any]:
    """Run a row unless its result is already there."""
    row, seeds, data, choose = job
    path = kept(row, seeds, choose)
    if not path.exists():
        result = fit(row, seeds, data, choose)
        write_text(path, json.dumps(result))
    return json.loads(path.read_text())


def summarize(row: Row, found: dict[str, Any]) -> dict[str, Any]:
    """Return the line of build/results.json: mean and IQM over seeds, and 95 % intervals."""
    scores, count = found["scores"], len(found["scores"])
    updates = row.method.updates or row.log.updates
    mean = statistics.fmean(scores)
    half = STUDENT[count] * statistics.stdev(scores) / count**0.5
    low, high = bootstrap_interval(np.array(scores))
    line = {
        "log": row.log.name,
        "method": row.method.name,
        "page": row.method.page,
        "seeds": count,
        "iqm": float(interquartile_mean(np.array(scores))),
        "iqm_low": low,
        "iqm_high": high,
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "seconds": found["seconds"],
        "updates": updates,
        "rate": updates * count / found["seconds"],
        "must": row.must,
        "compare": row.log.compare,
        "scores": scores,
    }
    if "found" in found:
        parts = found["found"]
        line["repeat"] = statistics.fmean(part["repeat"] for part in parts)
        line["joints_below"] = min(part["joints_below"] for part in parts)
        line["joints"] = parts[0]["joints"]
        line["act_p99_us"] = statistics.median(part["act_p99_us"] for part in parts)
    return line


def verdict(line: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """Return whether a line reached what it must, as the table says it."""
    must = line["must"]
    if not must:
        return ""
    if must == "above BC":
        plain = [x for x in lines if x["log"] == line["log"] and x["method"] == "BC"]
        if not plain:
            raise SystemExit(f"error: {line['method']} must be above BC: run the row of BC, too")
        reached = line["low"] > plain[0]["high"]
    elif must == "below repeat":
        reached = line["high"] < line["repeat"]
    else:
        reached = line["mean"] >= float(must)
    return f"{must}: {'yes' if reached else 'NO'}"


def cells(line: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """Return the cells of one line of the table."""
    digits = 4 if "repeat" in line else 2 if abs(line["mean"]) <= 1 else 1
    iqm, mean = (
        f"{line[name]:.{digits}f} [{line[low]:.{digits}f}, {line[high]:.{digits}f}]"
        for name, low, high in (("iqm", "iqm_low", "iqm_high"), ("mean", "low", "high"))
    )
    method = line["method"]
    if "repeat" in line:
        mean += (
            f" rad or hand units; repeating the position {line['repeat']:.4f}; "
            f"{line['joints_below']} of {line['joints']} joints below it in every seed; "
            f"act p99 {line['act_p99_us']:.0f} us"
        )
    if line["log"].startswith("adroit"):
        span = DOOR_RANGE[1] - DOOR_RANGE[0]
        mean += f"; D4RL score {100 * (line['mean'] - DOOR_RANGE[0]) / span:.1f}"
    speed = [f"{line['updates']:,}", f"{line['seconds']:.0f}", f"{line['rate']:,.0f}"]
    return [f"[{method}](learners/{line['page']}.md)", iqm, mean, *speed, verdict(line, lines)]


HEAD = ["method", "IQM [95 %]", "mean [95 %]", "updates", "s", "updates/s", "must reach"]


def in_one_line(cells: list[str]) -> str:
    """Return cells as a line of a table."""
    return f"| {' | '.join(cells)} |"


def standing(page: str) -> dict[tuple[str, str], str]:
    """Return the lines of the tables that stand in a page, by log and method."""
    found, log = {}, ""
    tables = page.partition("<!-- tables -->")[2].partition("<!-- end of tables -->")[0]
    for line in tables.split("\n"):
        if line.startswith("### "):
            log = line.removeprefix("### ")
        elif line.startswith("| ["):
            found[log, line[3 : line.index("]")]] = line
    return found


def rewrite(lines: list[dict[str, Any]]) -> None:
    """Replace lines of the tables in docs/results.md, and the numbers on learners' pages.

    Lines of rows that were not run stay as they are.

    Args:
        lines: Of :func:`summarize`.
    """
    document, everything = ROOT / "docs" / "results.md", rows()
    found = standing(document.read_text(encoding="utf-8"))
    found |= {(line["log"], line["method"]): in_one_line(cells(line, lines)) for line in lines}
    known = [row for row in everything if (row.log.name, row.method.name) in found]
    parts = []
    for name, compare in dict.fromkeys((row.log.name, row.log.compare) for row in known):
        own = [found[name, row.method.name] for row in known if row.log.name == name]
        head = [in_one_line(HEAD), in_one_line(["---"] * len(HEAD))]
        parts.append("\n".join([f"### {name}\n\n{compare}.\n", *head, *own]))
    replace_part(document, "tables", "\n\n".join(parts))
    for page in sorted({row.method.page for row in known}):
        numbers = ["| log | method | IQM [95 %] |", "|---|---|---|"]
        for row in known:
            if row.method.page == page:
                iqm = found[row.log.name, row.method.name].split(" | ")[1]
                numbers.append(in_one_line([row.log.name, row.method.name, iqm]))
        replace_part(ROOT / "docs" / "learners" / f"{page}.md", "numbers", "\n".join(numbers))


def replace_part(page: Path, name: str, text: str) -> None:
    """Put a text between the markers of a page."""
    write_text(page, placed(page.read_text(encoding="utf-8"), name, text))


def run(chosen: list[Row], seeds: tuple[int, ...], data: Path, choose: bool, workers: int) -> Any:
    """Run all rows and return one line per row, in order."""
    (BUILD / "results").mkdir(parents=True, exist_ok=True)
    os.environ["OMP_NUM_THREADS"] = "1"
    context, lines = multiprocessing.get_context("spawn"), []
    with ProcessPoolExecutor(workers, context, max_tasks_per_child=1) as pool:
        # A process of its own for every fit, none for what is read.
        missing = [not kept(row, seeds, choose).exists() for row in chosen]
        begun = [
            pool.submit(work, (row, seeds, data, choose)) if needed else None
            for row, needed in zip(chosen, missing, strict=True)
        ]
        for row, future in zip(chosen, begun, strict=True):
            found = future.result() if future else json.loads(kept(row, seeds, choose).read_text())
            line = summarize(row, found)
            lines.append(line)
            sys.stdout.write(
                f"{row.name:<44}{line['mean']:>9.4g} [{line['low']:.4g}, {line['high']:.4g}] "
                f"{line['seconds']:.0f} s\n"
            )
            sys.stdout.flush()
    return lines


def main() -> int:
    """Run the rows and rewrite the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument(
        "--choose", action="store_true", help="other seeds, other episodes, no table"
    )
    parser.add_argument("--finished", action="store_true", help="write what is there, fit nothing")
    parser.add_argument(
        "--document", action="store_true", help="write these rows among those that stand there"
    )
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.stderr.write(
            f"error: no folder {options.data}: set HINDSIGHT_DATA to the folder of real logs\n"
        )
        return 2
    chosen = [row for row in rows() if options.rows.lower() in row.name.lower()]
    absent = [r for r in chosen if r.log.ours and not (BUILD / "logs" / r.log.file).is_dir()]
    if absent:
        sys.stderr.write(f"error: no log build/logs/{absent[0].log.file}: run 'make logs' first\n")
        return 2
    seeds = CHOICE_SEEDS if options.choose else SEEDS
    if options.finished:
        chosen = [row for row in chosen if kept(row, seeds, options.choose).exists()]
    lines = run(chosen, seeds, options.data, options.choose, options.workers)
    whole = options.finished or options.document or len(chosen) == len(rows())
    if whole and not options.choose:
        (BUILD / "results.json").write_text(json.dumps(lines, indent=1))
        rewrite(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
