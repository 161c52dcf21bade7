"""The demo page: four rooms with the goal under the mouse (``make demo``).

    python tools/demo.py --ort build/runners/node_modules/onnxruntime-web/dist [--seed 0] [--fast]
    python tools/demo.py --ort ... --fitted docs/demo
    python tools/demo.py --ort ... --keep docs/demo

Collects episodes of wandering in four rooms, without goals or rewards, fits a policy that takes a
goal (configuration ``four_rooms``), exports it as a page, plays the exported file on fresh goals,
and writes build/demo: a page in which the policy walks to where one points, and what was measured.
Any server for files serves the folder; it loads nothing from elsewhere. ``--keep`` writes policy
and measurement into a folder too, from which ``--fitted`` makes the page in seconds: docs/demo has
those of ``make demo ARGS="--keep docs/demo"``. ``--fast`` shrinks the log and the fit.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairs import TEST_SEED
from quickstart import command

from hindsight_rl.files import whole_folder

ENV = "Hindsight/FourRooms-v0"
HERE = Path(__file__).parent / "demo"
MEASURED = ("episodes", "seed", "success", "success_low", "success_high")


def world() -> dict[str, Any]:
    """Return what the page has to know of the environment."""
    from hindsight_rl.envs.four_rooms import HORIZON, WALLS, FourRooms

    env = FourRooms()
    walls = ["".join("01"[int(wall)] for wall in row) for row in WALLS]
    numbers = {"radius": env.radius, "noise": env.noise, "apart": env.apart}
    return {"walls": walls, "horizon": HORIZON} | numbers


def fitted(folder: Path, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Collect, fit and measure; return the policy file, and what the page is told.

    Args:
        folder: What is written into.
        options: ``walks``, ``updates``, ``seed``, ``fast`` and ``episodes``.
    """
    log, run, policy = folder / "log", folder / "run", folder / "policy.onnx"
    seed = str(options.seed)
    lines = (
        ("collect", "--env", ENV, "--env_kwargs", '{"ends": false}', "--seed", seed)
        + ("--episodes", str(options.walks), "--output", str(log)),
        ("fit", "--config", "four_rooms", "--data.source", str(log), "--env", ENV)
        + ("--trainer.max_steps", str(options.updates), "--seed_everything", seed)
        + ("--data.seed", seed, "--run", str(run))
        + (("--model.compile", "off") if options.fast else ()),
        ("export", "--run", str(run), "--output", str(policy)),
    )
    for line in lines:
        sys.stdout.write(command(*line, show=True, watch="SAC" if line[0] == "fit" else ""))
    play = ("run", str(policy), "--env", ENV, "--episodes", str(options.episodes))
    found = json.loads(command(*play, "--seed", str(TEST_SEED), "--json", show=True))
    steps = options.walks * world()["horizon"]
    facts = {"learner": found["learner"], "updates": options.updates, "rows": steps}
    return policy, facts | {name: found[name] for name in MEASURED}


def write_page(folder: Path, policy: Path, facts: dict[str, Any], ort: Path) -> None:
    """Write the page, and the policy's own one into ``policy`` beside it."""
    page = ("--target", "web", "--output", str(folder / "policy"), "--ort", str(ort))
    command("export", str(policy), *page)
    for path in sorted(HERE.iterdir()):
        if path.suffix in (".html", ".css", ".mjs"):
            shutil.copyfile(path, folder / path.name)
    (folder / "world.json").write_text(json.dumps(facts | world(), indent=1) + "\n")


def main(words: Sequence[str] | None = None) -> int:
    """Make the page."""
    options = _options(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.perf_counter()
    output: Path = options.output
    work = output.with_name(f"{output.name}.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    if options.fitted is None:
        policy, facts = fitted(work, options)
    else:
        policy = options.fitted / "policy.onnx"
        facts = json.loads((options.fitted / "world.json").read_text())
    with whole_folder(output, overwrite=True) as draft:
        write_page(draft, policy, facts, options.ort)
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        for path in (output / "policy" / "policy.onnx", output / "world.json"):
            shutil.copyfile(path, options.keep / path.name)
    share = " to ".join(f"{100 * facts[name]:.1f}" for name in MEASURED[3:])
    sys.stdout.write(
        f"\n{ENV}: {100 * facts['success']:.1f} % of {facts['episodes']} fresh goals reached "
        f"(95 % interval {share} %)\n{output}/index.html: "
        f"python3 -m http.server 8000 --bind 127.0.0.1 --directory {output}\n"
        f"{time.perf_counter() - begun:.0f} s\n"
    )
    shutil.rmtree(work)
    return 0


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add: Any = parser.add_argument
    add("--ort", type=Path, required=True, help="dist of onnxruntime-web, from npm")
    add("--output", type=Path, default=Path("build/demo"))
    add("--fast", action="store_true", help="a fifth of the log, a tenth of the fit")
    add("--walks", type=int, help="episodes of wandering; default 2000")
    add("--updates", type=int, help="of the fit; default 30000")
    add("--seed", type=int, default=0)
    add("--episodes", type=int, default=1000, help="fresh goals to measure it on")
    add("--fitted", type=Path, metavar="FOLDER", help="policy.onnx and world.json made before")
    add("--keep", type=Path, metavar="FOLDER", help="write those into this folder too")
    options = parser.parse_args(words)
    walks, updates = (400, 3000) if options.fast else (2000, 30_000)
    options.walks = walks if options.walks is None else options.walks
    options.updates = updates if options.updates is None else options.updates
    return options


if __name__ == "__main__":
    sys.exit(main())
