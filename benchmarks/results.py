"""Fit and test the learners on real logs, and rewrite docs/results.md (``make results``).

    python benchmarks/results.py [--data FOLDER] [--rows TEXT] [--choose] [--workers 2]

Each row: training seeds 0 to 4, and 50 test episodes (the same for every row and seed). Settings
were chosen with ``--choose``, which trains with seeds from 100 on and runs the evaluation episodes
of ``eval_seed``; those reported here were never looked at. Rows run in single-threaded processes.
Finished fits are kept in build/results/, so an interrupted run goes on where it stopped; delete
that folder to start over.
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
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import act

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build"
SEEDS, CHOICE_SEEDS = (0, 1, 2, 3, 4), (100, 101, 102)
# Two-sided 95 % quantiles of Student's t distribution, by number of seeds.
STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
DOOR_RANGE = (-56.5, 2880.6)


@dataclass(frozen=True)
class Row:
    """One line of the table: a log, a data step, a policy step, and what it must reach."""

    log: str
    name: str
    file: str
    columns: str
    learner: str
    updates: int
    env: str | None = None
    model: dict[str, Any] = field(default_factory=dict)
    relabel: tuple[tuple[str, dict[str, Any]], ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    must: str = ""
    compare: str = ""


def _pendulum(name: str, learner: str = "bc.BC", **options: Any) -> Row:
    return Row(
        "rllib_pendulum medium",
        name,
        "rllib_pendulum/pendulum_medium_sac_50eps.npz",
        "rllib_pendulum_sac",
        learner,
        8000,
        "Pendulum-v1",
        **options,
    )


def _top(fraction: float) -> tuple[tuple[str, dict[str, Any]], ...]:
    return (("filters.TopFraction", {"fraction": fraction}),)


CARTPOLE = ("rllib_cartpole", "rllib_cartpole/cartpole-v1_large.parquet", "rllib_cartpole")
EXPERT = "imitation_expert/{}_expert.npz"

ROWS = (
    Row(
        CARTPOLE[0], "BC", *CARTPOLE[1:], "bc.BC", 4000, "CartPole-v1",
        must="450", compare="behaviour 197 (cut at 200); pass mark 350",
    ),
    Row(
        CARTPOLE[0], "MARWIL, beta 1", *CARTPOLE[1:], "marwil.MARWIL", 4000, "CartPole-v1",
        relabel=(("returns.ReturnToGo", {"discount": 0.99}),),
        must="400", compare="pass mark 250",
    ),
    _pendulum("BC", compare="behaviour -524; d3rlpy BC -392 +- 75", must="report"),
    _pendulum("top 50 % + BC", relabel=_top(0.5), must="report"),
    _pendulum("top 25 % + BC", relabel=_top(0.25), must="report"),
    _pendulum("top 10 % + BC", relabel=_top(0.1), must="report"),
    _pendulum("RWR", relabel=(("returns.ReturnWeight", {}),), must="report"),
    _pendulum("AWR", "awr.AWR", must="above BC"),
    _pendulum(
        "MARWIL", "marwil.MARWIL",
        model={"target": "td_lambda", "norm": "batch_std"},
        must="above BC",
    ),
    _pendulum("IQL", "iql.IQL", must="-220", compare="d3rlpy IQL -217 +- 25 in 111 s"),
    Row(
        "imitation_expert CartPole", "BC", EXPERT.format("cartpole"), "imitation_expert_cartpole",
        "bc.BC", 4000, "CartPole-v1", must="480", compare="behaviour 473",
    ),
    Row(
        "imitation_expert Pendulum", "BC", EXPERT.format("pendulum"), "imitation_expert_pendulum",
        "bc.BC", 8000, "Pendulum-v1", must="-200", compare="behaviour -189",
    ),
    Row(
        "adroit_door_human", "BC", "adroit_door_human/door_human.npz", "adroit_door_human",
        "bc.BC", 10000, "gymnasium_robotics:AdroitHandDoor-v1", must="report",
        compare="published BC 2.3 last, 9.4 best (D4RL score)",
    ),
    Row(
        "unitree_g1_pick_bottle", "BC", "unitree_g1_pick_bottle", "unitree_g1", "bc.BC", 600,
        model={"head": "laplace", "relative_to": list(range(26)), "lr": 1e-4},
        data={"validation": 0.2}, must="below repeat", compare="repeat the current position",
    ),
)  # fmt: skip


def load(path: str, package: str) -> Any:
    """Return a class named as ``module.Class`` below a package."""
    module, name = path.rsplit(".", 1)
    return getattr(import_module(f"hindsight_rl.{package}.{module}"), name)


def fit_one(row: Row, seed: int, data: Path, choose: bool) -> dict[str, Any]:
    """Fit and test one row with one seed, in one thread.

    Args:
        row: The row.
        seed: Training seed.
        data: Folder of the logs.
        choose: Use the evaluation episodes instead of the test episodes.

    Returns:
        ``score`` (mean return, or mean absolute action error), ``seconds`` of fitting, and more.
    """
    import torch
    from lightning.pytorch import Trainer, seed_everything

    from hindsight_rl.datamodules.offline import OfflineDataModule

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning").setLevel(logging.ERROR)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    seed_everything(seed, verbose=False)
    module = OfflineDataModule(
        str(data / row.file),
        [load(name, "relabel")(**arguments) for name, arguments in row.relabel],
        columns=row.columns,
        seed=seed,
        **row.data,
    )
    options = dict(row.model)
    rate = options.pop("lr", 3e-4)
    learner = load(row.learner, "agents")(
        module.spec,
        env=row.env,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=rate, fused=True),
        **options,
    )
    trainer = Trainer(
        max_steps=row.updates,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.perf_counter()
    trainer.fit(learner, module)
    seconds = time.perf_counter() - start
    if row.env is None:
        return {"seconds": seconds, **held_out_error(learner, module)}
    if choose:
        learner.test_seed = learner.eval_seed
    trainer.test(learner, verbose=False)
    report = learner.test_report
    return {"score": report["return"], "seconds": seconds, "returns": report["returns"]}


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


def work(job: tuple[Row, int, Path, bool, Path]) -> tuple[str, int, dict[str, Any]]:
    """Run a job unless its result is already there."""
    row, seed, data, choose, folder = job
    settings = json.dumps(asdict(row) | {"must": "", "compare": ""}, sort_keys=True, default=str)
    key = hashlib.sha256(f"{settings}{seed}{choose}{source_hash()}".encode()).hexdigest()[:16]
    path = folder / f"{key}.json"
    if not path.exists():
        result = fit_one(row, seed, data, choose)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(result))
        draft.replace(path)
    return f"{row.log}: {row.name}", seed, json.loads(path.read_text())


def summarize(row: Row, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the line of build/results.json: mean over seeds and its 95 % interval."""
    scores = [result["score"] for result in found]
    mean = statistics.fmean(scores)
    half = STUDENT[len(scores)] * statistics.stdev(scores) / len(scores) ** 0.5
    line = {
        "log": row.log,
        "learner": row.name,
        "seeds": len(scores),
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "seconds": statistics.median(result["seconds"] for result in found),
        "updates": row.updates,
        "must": row.must,
        "compare": row.compare,
        "scores": scores,
    }
    if "repeat" in found[0]:
        line["repeat"] = statistics.fmean(result["repeat"] for result in found)
        line["joints_below"] = min(result["joints_below"] for result in found)
        line["joints"] = found[0]["joints"]
        line["act_p99_us"] = statistics.median(result["act_p99_us"] for result in found)
    return line


def verdict(line: dict[str, Any], lines: list[dict[str, Any]]) -> str:
    """Return whether a line reached what it must, as the table says it."""
    must = line["must"]
    if must == "report":
        return "reported"
    if must == "above BC":
        plain = next(x for x in lines if x["log"] == line["log"] and x["learner"] == "BC")
        return "yes" if line["low"] > plain["high"] else "NO"
    if must == "below repeat":
        return "yes" if line["high"] < line["repeat"] else "NO"
    return "yes" if line["mean"] >= float(must) else "NO"


def cells(line: dict[str, Any], lines: list[dict[str, Any]]) -> list[str]:
    """Return the cells of one line of the table."""
    digits = 4 if "repeat" in line else 1
    low, high = line["low"], line["high"]
    score = f"{line['mean']:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
    compare = line["compare"]
    if "repeat" in line:
        score += " rad or hand units"
        compare = (
            f"repeating the position {line['repeat']:.4f}; {line['joints_below']} of "
            f"{line['joints']} joints below it in every seed; act p99 {line['act_p99_us']:.0f} us"
        )
    if line["log"].startswith("adroit"):
        span = DOOR_RANGE[1] - DOOR_RANGE[0]
        score += f"; D4RL score {100 * (line['mean'] - DOOR_RANGE[0]) / span:.1f}"
    seconds = f"{line['seconds']:.0f}"
    must = f"{line['must']}: {verdict(line, lines)}" if line["must"] != "report" else "report"
    return [line["log"], line["learner"], score, must, f"{line['updates']:,}", seconds, compare]


def rewrite(lines: list[dict[str, Any]]) -> None:
    """Replace the table in docs/results.md."""
    head = [
        "log",
        "learner",
        "mean over seeds [95 % interval]",
        "must reach",
        "updates",
        "s",
        "compare",
    ]
    table = [head, ["---"] * len(head), *(cells(line, lines) for line in lines)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in table)
    page = ROOT / "docs" / "results.md"
    before, _, rest = page.read_text().partition("<!-- table -->\n")
    _, _, after = rest.partition("<!-- end of table -->")
    draft = page.with_suffix(".draft")
    draft.write_text(f"{before}<!-- table -->\n{text}\n<!-- end of table -->{after}")
    draft.replace(page)


def run(rows: list[Row], seeds: tuple[int, ...], data: Path, choose: bool, workers: int) -> Any:
    """Run all jobs and return one line per row, in order."""
    folder = BUILD / "results"
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(row, seed, data, choose, folder) for row in rows for seed in seeds]
    found: dict[str, list[dict[str, Any]]] = {}
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, max_tasks_per_child=1) as pool:
        for name, seed, result in pool.map(work, jobs):
            found.setdefault(name, []).append(result)
            sys.stdout.write(
                f"{name}, seed {seed}: {result['score']:.4g} ({result['seconds']:.0f} s)\n"
            )
            sys.stdout.flush()
    return [summarize(row, found[f"{row.log}: {row.name}"]) for row in rows]


def main() -> int:
    """Run the rows and rewrite the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    default = os.environ.get("HINDSIGHT_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument(
        "--choose", action="store_true", help="other seeds, other episodes, no table"
    )
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.stderr.write(
            f"error: no folder {options.data}: set HINDSIGHT_DATA to the folder of real logs\n"
        )
        return 2
    rows = [row for row in ROWS if options.rows.lower() in f"{row.log}: {row.name}".lower()]
    seeds = CHOICE_SEEDS if options.choose else SEEDS
    lines = run(rows, seeds, options.data, options.choose, options.workers)
    for line in lines:
        sys.stdout.write(
            f"{line['log']:<28}{line['learner']:<18}{line['mean']:>10.4g} "
            f"[{line['low']:.4g}, {line['high']:.4g}] {line['seconds']:.0f} s\n"
        )
    if not options.choose and len(rows) == len(ROWS):
        (BUILD / "results.json").write_text(json.dumps(lines, indent=1))
        rewrite(lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
