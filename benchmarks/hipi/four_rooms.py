"""From aimless wandering to reaching goals (part of ``make hipi``).

    python benchmarks/hipi/four_rooms.py [--fast] [--seed 0] [--episodes 200]

Collects episodes of wandering through four rooms that nobody labelled or rewarded, and fits
policies that take a goal: cloning with random, final, future and inverse-RL labels, and SAC with
inverse-RL and with future labels, which joins pieces of different episodes. Each is tested on fresh
goals, exported, and run again from its ONNX file; the scripted shortest path is the mark. Prints
the commands and one table; writes build/four_rooms.json, build/four_rooms/policy.onnx and a picture
of its rollouts. ``--fast`` shrinks everything: the numbers then mean little.
"""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[2] / "tools"))
from pairs import TEST_SEED, Pair, begin, played, run_pairs, table, tiled  # noqa: E402
from quickstart import command, say  # noqa: E402

FOLDER = Path("build/four_rooms")
LOG = FOLDER / "log"
ENV = "Hindsight/FourRooms-v0"

FAMILY = {"class_path": "GoalReaching", "init_args": {"radius": 1.0}}
DENSE = {"class_path": "GoalReaching", "init_args": {"radius": 1.0, "kind": "dense"}}


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


def main() -> int:
    """Run it."""
    from PIL import Image

    begun = time.perf_counter()
    options = begin((__doc__ or "").split("\n")[0], "goals", FOLDER)
    walks = 200 if options.fast else 2000
    collect = (
        *("collect", "--env", ENV, "--env_kwargs", '{"ends": false}', "--seed", "0"),
        *("--episodes", str(walks), "--output", str(LOG)),
    )
    sys.stdout.write(command(*collect, show=True))
    found = run_pairs(one, PAIRS, options, "success")
    best = FOLDER / "policy.onnx"
    shutil.copyfile(FOLDER / f"sac_inverse_rl-{options.seed}.onnx", best)
    Image.fromarray(tiled([played(best, ENV, number) for number in range(8)], 4)).save(
        FOLDER / "rollouts.png"
    )
    mark = controller(options.episodes)
    text = table(found, "policy step and data step", "success", 2, ("scripted shortest path", mark))
    seconds = time.perf_counter() - begun
    report = {"seconds": seconds, "controller": mark, "rows": found, "fast": options.fast}
    Path("build/four_rooms.json").write_text(json.dumps(report, indent=1))
    sys.stdout.write(
        f"\n{ENV}: {options.episodes} fresh goals at least 15 away, within 75 steps\n"
        + text
        + f"\n\n{FOLDER}/rollouts.png shows eight of them; the goal is an input of the file: "
        f"hindsight run {best} --env {ENV}\n{seconds:.0f} s\n"
    )
    return 0 if all(row["equal"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
