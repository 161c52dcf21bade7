"""The showcase, second half of ``make quickstart``: unlabelled behaviours become one policy.

    python tools/showcase.py [--fast] [--seed 0] [--episodes 200]

Collects episodes of a point mass that is pushed for many different tasks, each a weighting of
position, velocity and effort, and forgets tasks and rewards. Inverse RL infers for which task each
episode was good. Policies that take the task as an input are fitted to its answer, and for
comparison to no tasks, to random ones, to what is inferred without the log-partition function, and
to the true ones: by cloning, and by SAC. Each is tested on fresh tasks, exported, and run again
from its ONNX file. Prints the commands and one table; writes build/showcase.json,
build/showcase/policy.onnx, a report about the inferred tasks, and a picture. ``--fast`` shrinks
everything: the numbers then mean little.
"""

import argparse
import json
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pairs import TEST_SEED, Pair, begin, played, run_pairs, table, tiled
from quickstart import command, say

FOLDER = Path("build/showcase")
LOG, INFERRED = FOLDER / "log", FOLDER / "log.inferred"
ENV = "Hindsight/PointMass-v0"

# What the log keeps to itself: neither the task nor the reward of the episodes is read.
UNLABELLED = '{"task": null, "reward": 0.0}'
FAMILY = {
    "class_path": "LinearTasks",
    "init_args": {"low": [-1, -1, -1, -1, -1], "high": [1, 1, 1, 1, 0]},
}


def _part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": {"family": FAMILY, **arguments}}


def _cloning(tasks: str, *parts: dict[str, Any], labelled: bool = False) -> Pair:
    options = ("--model.head", "deterministic", "--model.network.hidden", "[128,128]")
    return Pair(f"cloning, {tasks}", "bc", 3000, 200, parts, labelled, options)


def _sac(tasks: str, *parts: dict[str, Any], labelled: bool = False) -> Pair:
    return Pair(f"SAC, {tasks}", "point_mass", 8000, 300, parts, labelled)


BY_INVERSE_RL = _part("InverseRL", candidates=128)
NO_TASK = "bc_none"
PAIRS = {
    "sac_inverse_rl": _sac("half of the tasks by inverse RL"),
    "sac_true": _sac("half of the tasks true", _part("RandomTask", fraction=0.5), labelled=True),
    "sac_random": _sac("random tasks", _part("RandomTask")),
    "bc_true": _cloning("true tasks", labelled=True),
    "bc_inverse_rl": _cloning("tasks by inverse RL", BY_INVERSE_RL),
    "bc_without_z": _cloning(
        "highest reward, no log Z", _part("InverseRL", candidates=128, partition=False)
    ),
    "bc_random": _cloning("random tasks", _part("RandomTask")),
    NO_TASK: _cloning("no task"),
}


def one(job: tuple[str, int, int, bool]) -> dict[str, Any]:
    """Fit, test, export and run one pair.

    Args:
        job: Key of the pair, training seed, test episodes, whether to be fast.

    Returns:
        Mean returns of the PyTorch policy and of the exported file, and the commands.
    """
    import torch

    torch.set_num_threads(1)
    key, seed, episodes, fast = job
    pair = PAIRS[key]
    run, policy = FOLDER / "runs" / f"{key}-{seed}", FOLDER / f"{key}-{seed}.onnx"
    updates = pair.fast_updates if fast else pair.updates
    fit = ["fit", "--config", pair.config, "--data.source", str(LOG)]
    fit += ["--data.columns", UNLABELLED] if not pair.labelled else []
    fit += ["--data.relabel", json.dumps(list(pair.relabel))] if pair.relabel else []
    # A policy without a task cannot be tested where a task is asked, but for by hand.
    fit += ["--env", ENV] if key != NO_TASK else []
    fit += ["--trainer.max_steps", str(updates), "--seed_everything", str(seed)]
    fit += ["--data.seed", str(seed), "--run", str(run), *pair.options]
    fit += ["--model.compile", "off"] if fast else []
    count = str(episodes)
    test = ("test", "--run", str(run), "--model.evaluation.test_episodes", count, "--json")
    export = ("export", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--output", str(policy))
    play = (
        *("run", str(policy), "--env", ENV, "--episodes", count),
        *("--seed", str(TEST_SEED), "--json"),
    )
    start = time.perf_counter()
    say(f"{pair.name}: fitting, {updates:,} updates")
    command(*fit, watch=pair.name)
    seconds = time.perf_counter() - start
    say(f"{pair.name}: fitted in {seconds:.0f} s, tested on {episodes} fresh tasks next")
    command(*export)
    if key == NO_TASK:
        tested, played = without_task(run / "checkpoints/last.ckpt", policy, episodes)
        lines: tuple[Sequence[str], ...] = (fit, export)
    else:
        tested, played = (json.loads(command(*words))["returns"] for words in (test, play))
        lines = (fit, test, export, play)
    return {
        "pair": pair.name,
        "key": key,
        "seed": seed,
        "updates": updates,
        "fit_seconds": seconds,
        "return": float(np.mean(tested)),
        "onnx_return": float(np.mean(played)),
        "equal": bool(np.allclose(tested, played, rtol=0.0, atol=1e-3)),
        "commands": [shlex.join(("hindsight", *words)) for words in lines],
    }


def without_task(checkpoint: Path, policy: Path, episodes: int) -> list[list[float]]:
    """Return the returns of a learner and of its file, which are not shown the task."""
    from hindsight_rl import load_learner
    from hindsight_rl.envs.rollout import rollout
    from hindsight_rl.export.runtime import OnnxPolicy

    acts = (load_learner(checkpoint).act_numpy, OnnxPolicy(policy).act)
    return [
        rollout(
            lambda seen, task, act=act: act(seen), ENV, episodes=episodes, seed=TEST_SEED
        ).returns.tolist()
        for act in acts
    ]


def logged() -> float:
    """Return the mean return of the log, under the tasks that its episodes were played for."""
    from hindsight_rl import read_log

    log = read_log(LOG)
    return float(log.column(("next", "reward")).sum()) / log.episodes


def picture(policy: Path, path: Path, columns: int = 4) -> None:
    """Draw logged episodes with the tasks inferred of them, and episodes of the policy, as one PNG.

    Green lines are the weights of the position, in the upper half the inferred ones.
    """
    from PIL import Image

    from hindsight_rl import Log
    from hindsight_rl.envs.interface import frame, make

    log, tiles = Log.load(INFERRED), []
    episode = log.column("episode")
    for number in range(2 * columns):
        rows = (episode == number).nonzero().flatten()
        env = make(ENV, draw=True)
        start, task = (log.column(name)[rows[0]].numpy() for name in ("observation", "task"))
        env.reset(options={"start": start, "task": task})
        for action in log.column("action")[rows].numpy():
            env.step(action)
        tiles.append(frame(env, ENV))
        env.close()
    above = tiled(tiles, columns)
    below = tiled([played(policy, ENV, number) for number in range(2 * columns)], columns)
    gap = np.full((40, *above.shape[1:]), 255, np.uint8)
    Image.fromarray(np.concatenate([above, gap, below], 0)).save(path)


def agreement() -> list[float]:
    """Return the correlation of inferred and true weights over the episodes, weight by weight."""
    from hindsight_rl import Log, read_log

    inferred, true = Log.load(INFERRED), read_log(LOG)
    first = np.flatnonzero(np.diff(inferred.column("episode").numpy(), prepend=-1))
    pair = [log.column("task").numpy()[first].T for log in (true, inferred)]
    return [float(np.corrcoef(one, other)[0, 1]) for one, other in zip(*pair, strict=True)]


def main() -> int:
    """Run the showcase."""
    begun = time.perf_counter()
    options = begin((__doc__ or "").split("\n")[0], "tasks", FOLDER)
    collect = (
        *("collect", "--env", ENV, "--good", "1", "--seed", str(options.seed)),
        *("--episodes", str(60 if options.fast else 500), "--output", str(LOG)),
    )
    sys.stdout.write(command(*collect, show=True))
    rule = FOLDER / "inverse_rl.json"
    rule.write_text(json.dumps({"relabel": [BY_INVERSE_RL], "seed": options.seed}))
    relabel = (
        *("relabel", str(LOG), "--columns", UNLABELLED, "--config", str(rule)),
        *("--output", str(INFERRED), "--report", str(FOLDER / "report.html")),
    )
    sys.stdout.write(command(*relabel, show=True))
    found = run_pairs(one, PAIRS, options, "return")
    best = FOLDER / "policy.onnx"
    shutil.copyfile(FOLDER / f"bc_inverse_rl-{options.seed}.onnx", best)
    picture(best, FOLDER / "showcase.png")
    return _reported(found, options, time.perf_counter() - begun)


def _reported(found: list[dict[str, Any]], options: argparse.Namespace, seconds: float) -> int:
    """Write build/showcase.json, print the table, and return the exit code."""
    mark, agreed = logged(), agreement()
    text = table(
        found, "policy step, tasks of the log", "return", 1, ("the log, for its own tasks", mark)
    )
    report = {
        "seconds": seconds,
        "logged": mark,
        "agreement": agreed,
        "rows": found,
        "fast": options.fast,
    }
    Path("build/showcase.json").write_text(json.dumps(report, indent=1))
    weights = ", ".join(
        f"{name} {value:.2f}"
        for name, value in zip(("x", "y", "speed in x", "in y", "effort"), agreed, strict=True)
    )
    policy = FOLDER / "policy.onnx"
    sys.stdout.write(
        f"\n{ENV}: {options.episodes} fresh tasks of 100 steps\n"
        + text
        + f"\n\nInferred and true weights correlate over the episodes: {weights}.\n"
        "SAC computes the reward of any task for any step, so that random tasks serve it "
        "too; where it gains by inverse RL: docs/hipi.md\n"
        f"{FOLDER}/showcase.png shows eight logged episodes with the inferred weights of the "
        f"position, and below eight of the policy; {FOLDER}/report.html what was inferred.\n"
        f"The task is an input of the file: hindsight run {policy} --env {ENV}\n{seconds:.0f} s\n"
    )
    return 0 if all(row["equal"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
