"""From aimless wandering to reaching goals (part of ``make hipi``).

    python benchmarks/hipi/four_rooms.py [--fast] [--seed 0] [--episodes 200]

Collects episodes of wandering through four rooms that nobody labelled or rewarded, and fits
policies that take a goal: cloning with random, final, future and inverse-RL labels, and SAC with
inverse-RL and with future labels, which joins pieces of different episodes. Each is tested on fresh
goals, exported, and run again from its ONNX file; the scripted shortest path is the mark. Prints
the commands and one table; writes build/four_rooms.json, build/four_rooms/policy.onnx and a picture
of its rollouts. ``--fast`` shrinks everything: the numbers then mean little.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
from quickstart import command, say  # noqa: E402

FOLDER = Path("build/four_rooms")
LOG = FOLDER / "log"
ENV = "Hindsight/FourRooms-v0"
TEST_SEED = 2_000_000

FAMILY = {"class_path": "GoalReaching", "init_args": {"radius": 1.0}}
DENSE = {"class_path": "GoalReaching", "init_args": {"radius": 1.0, "kind": "dense"}}


class Pair(NamedTuple):
    """A data step and a policy step."""

    name: str
    config: str
    updates: int
    fast_updates: int
    relabel: tuple[dict[str, Any], ...] = ()
    options: tuple[str, ...] = ()


def _part(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": {"family": FAMILY, **arguments}}


_CLONE = (
    *("--model.head", "mixture", "--model.network.frequencies", "3"),
    *("--data.batch_size", "512"),
)


def _cloning(labels: str, *parts: dict[str, Any]) -> Pair:
    return Pair(f"cloning, {labels} goals", "bc", 6000, 300, parts, _CLONE)


PAIRS = {
    "sac_inverse_rl": Pair("SAC, inverse-RL goals", "four_rooms", 30_000, 400),
    "sac_future": Pair(
        "SAC, future goals",
        "four_rooms",
        30_000,
        400,
        (_part("RandomTask"), _part("FutureGoal", fraction=0.5)),
    ),
    "bc_random": _cloning("random", _part("RandomTask")),
    "bc_final": _cloning("final", _part("FinalGoal")),
    "bc_future": _cloning("future", _part("FutureGoal")),
    "bc_inverse_rl": _cloning("inverse-RL", _part("InverseRL", family=DENSE, candidates=64)),
}


def one(job: tuple[str, int, int, bool]) -> dict[str, Any]:
    """Fit, test, export and run one pair.

    Args:
        job: Key of the pair, training seed, test episodes, whether to be fast.

    Returns:
        What the PyTorch policy and the exported file reached, and the commands.
    """
    import torch

    torch.set_num_threads(1)
    key, seed, episodes, fast = job
    pair = PAIRS[key]
    run, policy = FOLDER / "runs" / f"{key}-{seed}", FOLDER / f"{key}-{seed}.onnx"
    updates = pair.fast_updates if fast else pair.updates
    fit = [
        *("fit", "--config", pair.config, "--data.source", str(LOG), "--env", ENV),
        *("--trainer.max_steps", str(updates), "--seed_everything", str(seed)),
        *("--data.seed", str(seed), "--run", str(run), *pair.options),
    ]
    fit += ["--model.compile", "off"] if fast else []
    if pair.relabel:
        fit += ["--data.relabel", json.dumps(list(pair.relabel))]
    count = str(episodes)
    test = ("test", "--run", str(run), "--model.evaluation.test_episodes", count, "--json")
    export = ("export", "--ckpt_path", str(run / "checkpoints/last.ckpt"), "--output", str(policy))
    play = (
        *("run", str(policy), "--env", ENV, "--episodes", count),
        *("--seed", str(TEST_SEED), "--json"),
    )
    start = time.perf_counter()
    say(f"{pair.name}: fitting, {updates:,} updates; compiling them comes first")
    command(*fit, watch=pair.name)
    seconds = time.perf_counter() - start
    say(f"{pair.name}: fitted in {seconds:.0f} s, tested on {episodes} fresh goals next")
    tested = json.loads(command(*test))
    command(*export)
    played = json.loads(command(*play))
    return {
        "pair": pair.name,
        "key": key,
        "seed": seed,
        "updates": updates,
        "fit_seconds": seconds,
        "success": tested["success"],
        "onnx_success": played["success"],
        "equal": tested["returns"] == played["returns"],
        "commands": [" ".join(("hindsight", *words)) for words in (fit, test, export, play)],
    }


def controller(episodes: int) -> float:
    """Return the share of the same goals that the scripted shortest path reaches."""
    from hindsight_rl.envs.paths import shortest_path
    from hindsight_rl.envs.rollout import rollout

    found = rollout(shortest_path, ENV, episodes=episodes, seed=TEST_SEED)
    return float(np.mean(found.successes))


def picture(policy: Path, path: Path, rows: int = 2, columns: int = 4) -> None:
    """Draw episodes of an exported policy, each with its way from start to goal, as one PNG."""
    from PIL import Image

    from hindsight_rl.envs.interface import Interface, frame, make
    from hindsight_rl.envs.rollout import episode_seed
    from hindsight_rl.export.runtime import OnnxPolicy

    act, tiles = OnnxPolicy(policy), []
    for episode in range(rows * columns):
        env = make(ENV, draw=True)
        interface = Interface(env, ENV)
        observation, _ = env.reset(seed=episode_seed(TEST_SEED, episode))
        done = False
        while not done:
            seen = interface.see(observation)
            observation, _, terminated, truncated, _ = env.step(act.act(*seen))
            done = terminated or truncated
        tiles.append(frame(env, ENV))
        env.close()
    lines = [np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(lines, 0)).save(path)


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="a tenth of the log, few updates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=200, help="fresh goals to test on")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    walks = 200 if options.fast else 2000
    collect = (
        *("collect", "--env", ENV, "--env_kwargs", '{"ends": false}', "--seed", "0"),
        *("--episodes", str(walks), "--output", str(LOG)),
    )
    sys.stdout.write(command(*collect, show=True))
    jobs = [(key, options.seed, options.episodes, options.fast) for key in PAIRS]
    found = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        for result in pool.map(one, jobs):
            sys.stdout.write("".join(f"\n$ {line}" for line in result["commands"]) + "\n")
            sys.stdout.write(f"{result['pair']}: success {result['success']:.2f}\n")
            sys.stdout.flush()
            found.append(result)
    best = FOLDER / "policy.onnx"
    shutil.copyfile(FOLDER / f"sac_inverse_rl-{options.seed}.onnx", best)
    picture(best, FOLDER / "rollouts.png")
    mark = controller(options.episodes)
    lines = [f"{'policy step and data step':<28}{'success':>9}{'ONNX':>7}{'equal':>7}{'fit':>8}"]
    lines += [
        f"{row['pair']:<28}{row['success']:>9.2f}{row['onnx_success']:>7.2f}"
        f"{'yes' if row['equal'] else 'NO':>7}{row['fit_seconds']:>6.0f} s"
        for row in reversed(found)
    ]
    lines.append(f"{'scripted shortest path':<28}{mark:>9.2f}")
    seconds = time.perf_counter() - begun
    report = {"seconds": seconds, "controller": mark, "rows": found, "fast": options.fast}
    Path("build/four_rooms.json").write_text(json.dumps(report, indent=1))
    sys.stdout.write(
        f"\n{ENV}: {options.episodes} fresh goals at least 15 away, within 75 steps\n"
        + "\n".join(lines)
        + f"\n\n{FOLDER}/rollouts.png shows eight of them; the goal is an input of the file: "
        f"hindsight run {best} --env {ENV}\n{seconds:.0f} s\n"
    )
    return 0 if all(row["equal"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
