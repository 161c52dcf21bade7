"""What the scripts of this folder share: fits, files that play, tables with intervals.

A policy is fitted, exported, and its file plays the episodes. Results lie in build/policies/;
finished runs are not repeated. Settings were chosen on seeds from 100 on.
"""

import argparse
import functools
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))
from shared import BUILD, CHOICE_SEEDS, FIVE_SEEDS, interval, quiet, say, table  # noqa: E402
from shared import ROOT as ROOT  # noqa: E402

TEST_SEED = 2_000_000


@dataclass(frozen=True)
class Case:
    """A policy on a log, and the environment that it is tried in.

    Attributes:
        name: What the table calls it.
        learner: Its name in ``hindsight_rl``.
        model: Arguments of the learner, plain data; ``network`` and ``head`` are mappings.
        log: Which of the script's logs.
        updates: Updates of the fit.
        batch: Rows of an update.
        rate: Learning rate of Adam; it falls to 0 on a cosine.
        exports: Arguments of the export, by what is added to the name: one row of the table each.
        acting: Arguments of the learner by which the same weights act otherwise, by the name of
            their row of the table.
    """

    name: str
    learner: str
    model: Mapping[str, Any] = field(default_factory=dict)
    log: str = ""
    updates: int = 8000
    batch: int = 256
    rate: float = 1e-3
    exports: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: {"": {}})
    acting: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        """Return what a fit depends on, plain values."""
        kept = ("learner", "log", "updates", "batch", "rate")
        found = {name: getattr(self, name) for name in kept} | {"model": dict(self.model)}
        return found | ({"acting": dict(self.acting)} if self.acting else {})


def fitted(case: Case, log: Any, seed: int, *, relabel: Sequence[Any] = ()) -> Any:
    """Return the learner of a case after its updates."""
    import torch
    from lightning.pytorch import Trainer, seed_everything

    import hindsight_rl

    quiet()
    seed_everything(seed, verbose=False)
    data = hindsight_rl.OfflineDataModule(
        log, list(relabel), batch_size=case.batch, updates_per_step=50, seed=seed
    )
    kind = getattr(hindsight_rl, case.learner)
    learner = kind(
        data.spec,
        optimizer=lambda groups: torch.optim.Adam(groups, lr=case.rate, fused=True),
        decay={"actor": case.updates},
        threads=1,
        **arguments(kind, case.model),
    )
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    Trainer(
        max_steps=case.updates, max_epochs=-1, accelerator="cpu", **dict.fromkeys(silent, False)
    ).fit(learner, data)
    return learner.eval()


def ways_of_acting(case: Case, learner: Any) -> dict[str, Any]:
    """Return the learner of a case, and others with its weights that act otherwise, by name."""
    kind, found = type(learner), {case.name: learner}
    for name, changed in case.acting.items():
        other = kind(learner.spec, threads=1, **arguments(kind, {**case.model, **changed}))
        other.load_state_dict(learner.state_dict())
        found[name] = other.eval()
    return found


def arguments(kind: Any, model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a learner from plain data."""
    import inspect

    from hindsight_rl.nets.network import Head, History

    taken = inspect.signature(kind).parameters
    made = {"head": Head, "history": History}
    for name in ("network", "critic_network"):
        if name in taken:
            made[name] = type(taken[name].default)
    return {
        name: made[name](**value) if name in made and isinstance(value, Mapping) else value
        for name, value in model.items()
    }


def exported(learner: Any, path: Path, **options: Any) -> dict[str, Any]:
    """Export a learner, and return facts of the file: kB, opset, difference to the learner."""
    import onnx

    from hindsight_rl import OnnxPolicy, export_policy

    export_policy(learner, path, **options)
    opset = next(one.version for one in onnx.load(path).opset_import if not one.domain)
    return {
        "kilobytes": path.stat().st_size / 1000,
        "opset": opset,
        "difference": float(OnnxPolicy(path).contract["parity"].get("max_difference", 0.0)),
    }


Found = dict[str, dict[str, Any]]
"""What a seed of a case gave, by row of the table: ``score`` and further facts."""


def over_seeds(
    script: str, work: Callable[[Case, int], Found], cases: Sequence[Case]
) -> dict[str, list[dict[str, Any]]]:
    """Return what ``work(case, seed)`` returned, by row of the table; finished runs are kept.

    The command line chooses seeds, cases and workers.
    """
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="part of the names of the cases to run")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    numbers = CHOICE_SEEDS if asked.choose else FIVE_SEEDS[: asked.seeds]
    chosen = [case for case in cases if asked.only in case.name]
    jobs = [(case, seed) for case in chosen for seed in numbers]
    with ProcessPoolExecutor(asked.workers, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(functools.partial(_kept, script, work), jobs))
    answers: dict[str, list[dict[str, Any]]] = {}
    for one in found:
        for name, facts in one["rows"].items():
            shared = {"seed": one["seed"], "seconds": one["seconds"]}
            answers.setdefault(name, []).append(facts | shared)
    return answers


def _kept(script: str, work: Callable[[Case, int], Found], job: tuple[Case, int]) -> Any:
    """Return one result, from build/policies where it was made before."""
    from hindsight_rl.files import write_text

    case, seed = job
    exports = {name: dict(options) for name, options in case.exports.items()}
    settings = case.settings() | {"seed": seed, "exports": exports, "script": script}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
    path = BUILD / "policies" / f"{key}.json"
    if path.exists():
        return json.loads(path.read_text())
    start = time.perf_counter()
    rows = work(case, seed)
    seconds = time.perf_counter() - start
    found = {"seed": seed, "rows": rows, "seconds": seconds, "settings": settings}
    write_text(path, json.dumps(found))
    for name, facts in rows.items():
        say(f"{script}, {name}, seed {seed}: {facts['score']:.3f}, {seconds:.0f} s")
    return found


def report(script: str, found: Mapping[str, Sequence[Mapping[str, Any]]], title: str) -> None:
    """Print the table of a script, and write build/SCRIPT.json unless settings are being chosen."""
    from hindsight_rl.files import write_text

    rows, lines = [], []
    for name, runs in found.items():
        mean, low, high = interval([float(run["score"]) for run in runs])
        seconds = statistics.fmean(float(run["seconds"]) for run in runs)
        row: dict[str, Any] = {"name": name, "mean": mean, "low": low, "high": high}
        rows.append(row | {"seeds": [run["seed"] for run in runs], "seconds": seconds})
        lines.append((name, f"{mean:.3f}", f"[{low:.3f}, {high:.3f}]", f"{seconds:.0f}"))
        for fact in ("kilobytes", "opset", "difference", "self_fed"):
            if fact in runs[0]:
                rows[-1][fact] = statistics.median(float(run[fact]) for run in runs)
    say(f"\n{title}\n")
    say(table(("policy", "mean", "95 % interval", "seconds"), lines))
    if all(seed in FIVE_SEEDS for row in rows for seed in row["seeds"]):
        write_text(BUILD / f"{script}.json", json.dumps(rows, indent=1))


def played(learner: Any, env: Any, episodes: int, **options: Any) -> Any:
    """Return the rollout of a learner's exported file, and facts of the file.

    Args:
        learner: The learner.
        env: Gymnasium id, or what makes the environment.
        episodes: How many.
        **options: Of the export.

    Returns:
        Rollout and facts.
    """
    from hindsight_rl import OnnxPolicy, rollout

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policy.onnx")
        facts = exported(learner, path, **options)
        policy = OnnxPolicy(path)
        played = rollout(policy, env, episodes=episodes, seed=TEST_SEED, spec=policy.contract)
        return played, facts


def self_fed(learner: Any, steps: int = 1000, **options: Any) -> float:
    """Return the largest difference of learner and file, each with its own state, over some steps.

    Both see the same numbers, which the file's last action moves; one reset in the middle.
    """
    import numpy as np

    from hindsight_rl import OnnxPolicy, export_policy
    from hindsight_rl.export.draws import counters
    from hindsight_rl.policies.torch_actor import TorchActor

    with tempfile.TemporaryDirectory() as folder:
        export_policy(learner, Path(folder, "policy.onnx"), **options)
        players = (TorchActor(learner), OnnxPolicy(Path(folder, "policy.onnx")))
    most, states = 0.0, [player.initial_state(1) for player in players]
    seen = np.zeros((1, learner.spec.vector.width), np.float32)
    for step in range(steps):
        half = 2 * step // steps
        noise = counters(0, np.array([half]), step - half * steps // 2)
        if step == steps // 2:
            states = [player.initial_state(1) for player in players]
        actions = []
        for at, player in enumerate(players):
            action, states[at] = player.step(seen, None, states[at], noise)
            actions.append(np.asarray(action, np.float64))
        most = max(most, float(np.abs(actions[0] - actions[1]).max()))
        seen = np.tanh(seen + 0.3 * np.sin(actions[1].sum() + step)).astype(np.float32)
    return most
