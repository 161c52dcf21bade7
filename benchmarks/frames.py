"""What images cost per update before a network sees them: gathering, shifting, encoding.

    python benchmarks/frames.py [--side 96] [--rows 4000] [--updates 16]

One thread, CPU time, batches of 256 rows: frames are read from a memory-mapped log of the machine's
page cache, now and next; shifts are those of DrQ; the encoder is the one that is built in, one
forward and backward pass.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from hindsight_rl.keys import Key
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.shift import shift_images, shift_offsets
from hindsight_rl.nets.encoders.image import ImageEncoder

BATCH, STEPS = 256, 100


def saved_log(folder: Path, side: int, rows: int) -> Log:
    """Return a memory-mapped log of random frames ``[side, side, 3]`` and a vector of 8."""
    draw, episodes = np.random.default_rng(0), rows // STEPS
    state = draw.normal(size=(rows, 8)).astype(np.float32)
    columns: dict[Key, np.ndarray] = {
        ("observation", "state"): state,
        ("observation", "front"): draw.integers(0, 256, (rows + episodes, side, side, 3), np.uint8),
        ("next", "observation", "state"): state,
        "action": draw.uniform(-1, 1, (rows, 2)).astype(np.float32),
        ("next", "reward"): np.zeros(rows, np.float32),
        ("next", "terminated"): np.zeros(rows, bool),
        ("next", "truncated"): np.arange(rows) % STEPS == STEPS - 1,
        "episode": np.repeat(np.arange(episodes), STEPS),
    }
    Log.from_columns(columns).save(folder / "frames.log")
    return Log.load(folder / "frames.log")


def clock(run: Callable[[], object], times: int) -> float:
    """Return milliseconds of CPU time of one run, the median of several."""
    run()
    spent = []
    for _ in range(times):
        start = time.process_time()
        run()
        spent.append(1e3 * (time.process_time() - start))
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--updates", type=int, default=16)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        log = saved_log(Path(folder), given.side, given.rows)
        index = torch.randint(0, given.rows, (1, BATCH), generator=torch.Generator().manual_seed(0))
        frames = log.gather(index)["observation", "front"]
        draws = counters(0, torch.arange(1), torch.arange(BATCH))
        encoder = ImageEncoder((given.side, given.side, 3))
        costs = {
            "gather, now and next": lambda: log.gather(index),
            "shift by 4 pixels, one of the two": lambda: shift_images(
                frames, shift_offsets(draws, 4), 4
            ),
            "encode, forward and backward": lambda: encoder(frames[0]).square().mean().backward(),
        }
        size = frames.numel() / 2**20
        print(f"frames of {given.side} x {given.side} x 3, batches of {BATCH}: {size:.1f} MiB")
        for name, run in costs.items():
            times = given.updates if "encode" not in name else 3
            print(f"{name:35s} {clock(run, times):8.2f} ms per update")


if __name__ == "__main__":
    main()
