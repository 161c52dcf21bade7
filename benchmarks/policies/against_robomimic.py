"""Ours against robomimic's BC-RNN-GMM, on the same log, in the same run (``make policies``).

    python benchmarks/policies/against_robomimic.py [--seeds 5] [--updates 2000]

Pendulum-v1 by an expert without its velocity: a recurrent network of two layers and a mixture of
five, segments of ten steps, the same widths, rate, batch and updates, one thread. robomimic keeps
its own defaults otherwise. It gets a Python of its own in build/robomimic: it pins an old
transformers, which is not used here. For each seed theirs and ours are fitted one after the other;
50 test episodes with the same starts. Seconds are those of the fit with its sampling. Writes
build/against_robomimic.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import common
import h5py
import memory
import numpy as np
from common import Case

from hindsight_rl.envs.rollout import episode_seed
from hindsight_rl.files import write_text

# Without their requirements: robomimic pins versions that are no longer there.
THEIRS = ("robomimic==0.3.0", "torchvision==0.28.0", "egl_probe")
NEEDED = ("six", "h5py", "psutil", "tqdm", "termcolor", "tensorboard", "tensorboardX", "imageio")
NEEDED += ("imageio-ffmpeg", "matplotlib", "diffusers", "huggingface_hub", "transformers", "pillow")
HOME = common.BUILD / "robomimic"
SETTINGS = {"batch": 64, "segment": 10, "components": 5, "units": 128, "layers": 2, "rate": 1e-3}


def python_of_theirs() -> Path:
    """Return a Python that has robomimic, made at the first call."""
    python = HOME / "bin" / "python"
    if not (HOME / "made").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(HOME)], check=True)
        install = [str(python), "-m", "pip", "install", "-q"]
        pins = str(common.ROOT / "constraints.txt")
        needed = ("torch", "numpy", "gymnasium", *NEEDED)
        subprocess.run([*install, "-c", pins, *needed], check=True)
        subprocess.run([*install, "--no-deps", *THEIRS], check=True)
        (HOME / "made").touch()
    return python


def demonstrations() -> Path:
    """Return the log in the layout of robomimic, actions as shares of the torque."""
    path = HOME / "demonstrations.hdf5"
    if path.exists():
        return path
    log = memory.log_of("angles")
    episode = log.column("episode").numpy()
    with h5py.File(path, "w") as file:
        for number in np.unique(episode):
            rows = np.flatnonzero(episode == number)
            group = file.create_group(f"data/demo_{number}")
            group.attrs["num_samples"] = len(rows)
            group["obs/flat"] = log.column("observation")[rows].numpy()
            group["actions"] = log.column("action")[rows].numpy() / 2.0
            group["rewards"] = log.column(("next", "reward"))[rows].numpy()
            group["dones"] = np.arange(len(rows)) == len(rows) - 1
        file["data"].attrs["total"] = len(episode)
    return path


def theirs(seed: int, updates: int) -> dict[str, float]:
    """Return score and seconds of robomimic's learner with one seed."""
    output = HOME / f"found_{updates}_{seed}.json"
    if not output.exists():
        episodes = [episode_seed(common.TEST_SEED, number) for number in range(memory.EPISODES)]
        asked = json.dumps(SETTINGS | {"episodes": episodes})
        script = Path(__file__).with_name("peers_robomimic.py")
        words = [python_of_theirs(), script, demonstrations(), seed, updates, asked, output]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([str(word) for word in words], check=True, env=environment)
    found = json.loads(output.read_text())
    return {"score": statistics.fmean(found["returns"]), "seconds": found["seconds"]}


def ours(seed: int, updates: int) -> dict[str, float]:
    """Return score and seconds of our learner with one seed."""
    case = Case(
        "ours",
        "RecurrentBC",
        {
            "network": {"hidden": []},
            "head": {"kind": "mixture", "components": SETTINGS["components"]},
            "units": SETTINGS["units"],
            "segment": SETTINGS["segment"],
            "cell": "lstm",
            "layers": SETTINGS["layers"],
        },
        updates=updates,
        batch=int(SETTINGS["batch"]),
        rate=float(SETTINGS["rate"]),
    )
    log = memory.log_of("angles")
    start = time.perf_counter()
    learner = common.fitted(case, log, seed)
    seconds = time.perf_counter() - start
    found, _ = common.played(learner, memory.Angle, memory.EPISODES)
    return {"score": float(found.returns.mean()), "seconds": seconds}


def main() -> int:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=2000)
    asked = parser.parse_args()
    python_of_theirs()
    rows: list[dict[str, Any]] = []
    sides = {"robomimic BC-RNN-GMM": theirs, "hindsight RecurrentBC": ours}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for seed in common.FIVE_SEEDS[: asked.seeds]:
        for name, fit in sides.items():
            found[name].append(fit(seed, asked.updates))
            common.say(f"{name}, seed {seed}: {found[name][-1]}")
    for name, runs in found.items():
        mean, low, high = common.interval([run["score"] for run in runs])
        seconds = statistics.median(run["seconds"] for run in runs)
        row = {"name": name, "mean": mean, "low": low, "high": high}
        rows.append(row | {"seeds": list(range(asked.seeds)), "seconds": seconds})
    lines = [
        (r["name"], f"{r['mean']:.0f}", f"[{r['low']:.0f}, {r['high']:.0f}]", f"{r['seconds']:.0f}")
        for r in rows
    ]
    common.say(common.table(("learner", "return", "95 % interval", "seconds"), lines))
    write_text(common.BUILD / "against_robomimic.json", json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
