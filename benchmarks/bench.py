"""Speed, in one run (``make bench``): updates, sampling, latency of the exported file, memory.

    python benchmarks/bench.py [--repeats 5] [--seconds 4]

Absolute numbers depend on the machine; ratios are taken pair by pair within this run, the rivals in
turn, and their median is printed. d3rlpy is measured where it is installed.
"""

import argparse
import json
import logging
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import act
import torch
from lightning.pytorch import Trainer
from plain_iql import PlainIQL

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.log import Log
from hindsight_rl.datamodules.offline import OfflineDataModule

UPDATES_PER_STEP = 64
ROWS = 200_000


class Size(NamedTuple):
    """A problem size."""

    name: str
    observation: int
    action: int
    hidden: tuple[int, ...]
    batch_size: int


S = Size("S", 11, 2, (64, 64), 32)
L = Size("L", 17, 6, (256, 256), 256)


def make_log(size: Size) -> dict[str, torch.Tensor]:
    """Return random transitions in episodes of 1000 steps."""
    generator = torch.Generator().manual_seed(0)
    return {
        "observation": torch.randn(ROWS, size.observation, generator=generator),
        "action": torch.rand(ROWS, size.action, generator=generator) * 2 - 1,
        "reward": torch.randn(ROWS, generator=generator),
        "next_observation": torch.randn(ROWS, size.observation, generator=generator),
        "terminated": torch.zeros(ROWS),
    }


def plain(data: dict[str, torch.Tensor], size: Size) -> Callable[[int], None]:
    """Return a function that makes so many updates with the plain loop."""
    loop = PlainIQL(data, size.hidden, size.batch_size)

    def run(updates: int) -> None:
        for _ in range(updates):
            loop.update()

    return run


def as_log(data: dict[str, torch.Tensor]) -> Log:
    """Return the transitions as a log."""
    return Log.from_columns(
        {
            "observation": data["observation"],
            "action": data["action"],
            ("next", "observation"): data["next_observation"],
            ("next", "reward"): data["reward"],
            ("next", "terminated"): data["terminated"].bool(),
            ("next", "truncated"): torch.zeros(ROWS, dtype=torch.bool),
            "episode": torch.arange(ROWS) // 1000,
        },
        {
            "action": {
                "low": [-1.0] * data["action"].shape[1],
                "high": [1.0] * data["action"].shape[1],
            }
        },
    )


def ours(data: dict[str, torch.Tensor], size: Size, **options: Any) -> Callable[[int], None]:
    """Return a function that makes so many updates through ``Trainer.fit``, set-up included."""
    module = OfflineDataModule(
        as_log(data), batch_size=size.batch_size, updates_per_step=UPDATES_PER_STEP
    )

    def run(updates: int) -> None:
        learner = IQL(module.spec, hidden=size.hidden, **options)
        Trainer(
            max_steps=updates,
            max_epochs=-1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(learner, module)

    return run


def d3rlpy(data: dict[str, torch.Tensor], size: Size) -> Callable[[int], None] | None:
    """Return a function that makes so many updates with d3rlpy's IQL, its sampling included."""
    try:
        import d3rlpy as rival
    except ImportError:
        return None
    rival.logging.LOG.info = lambda *_, **__: None
    ends = torch.zeros(ROWS)
    ends[999::1000] = 1.0
    dataset = rival.dataset.MDPDataset(
        data["observation"].numpy(),
        data["action"].numpy(),
        data["reward"].numpy(),
        data["terminated"].numpy(),
        ends.numpy(),
    )
    encoder = rival.models.VectorEncoderFactory(list(size.hidden))
    learner = rival.algos.IQLConfig(
        batch_size=size.batch_size,
        actor_encoder_factory=encoder,
        critic_encoder_factory=encoder,
        value_encoder_factory=encoder,
    ).create(device="cpu")
    learner.build_with_dataset(dataset)

    def run(updates: int) -> None:
        for _ in range(updates):
            learner.update(dataset.sample_transition_batch(size.batch_size))

    return run


def rate(run: Callable[[int], None], updates: int) -> float:
    """Return updates per second."""
    start = time.perf_counter()
    run(updates)
    return updates / (time.perf_counter() - start)


def compare(size: Size, threads: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row per rival: median rate and median paired ratio to the plain loop."""
    torch.set_num_threads(threads)
    data = make_log(size)
    rivals: dict[str, Callable[[int], None] | None] = {
        "plain loop": plain(data, size),
        "hindsight eager": ours(data, size),
        "d3rlpy": d3rlpy(data, size),
    }
    if size is L:  # slower on small networks, as its docstring says
        rivals["hindsight medium"] = ours(data, size, matmul_precision="medium")
    runs = {name: run for name, run in rivals.items() if run is not None}
    counts = {}
    for name, run in runs.items():
        run(UPDATES_PER_STEP)
        counts[name] = max(UPDATES_PER_STEP, int(rate(run, 2 * UPDATES_PER_STEP) * seconds))
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(rate(run, counts[name]))
    base = found["plain loop"]
    return [
        {
            "name": name,
            "size": size.name,
            "threads": threads,
            "updates_per_second": statistics.median(rates),
            "ratio_to_plain": statistics.median(r / b for r, b in zip(rates, base, strict=True)),
        }
        for name, rates in found.items()
    ]


def sampling(repeats: int, seconds: float) -> dict[str, float]:
    """Return rows per second of our sampler at L against one bare gather of the same rows."""
    torch.set_num_threads(1)
    module = OfflineDataModule(as_log(make_log(L)), batch_size=L.batch_size)
    sampler, matrix = module._sampler(), module.log.blocks[0].matrix
    index = torch.randint(len(matrix), (UPDATES_PER_STEP * L.batch_size,))
    ratios, rates = [], []
    for _ in range(repeats):
        sampled = rate(
            lambda n: [sampler.chunk(i, UPDATES_PER_STEP) for i in range(n)], int(50 * seconds)
        )
        bare = rate(lambda n: [matrix.index_select(0, index) for _ in range(n)], int(200 * seconds))
        ratios.append(sampled / bare)
        rates.append(sampled * len(index))
    return {
        "rows_per_second": statistics.median(rates),
        "ratio_to_gather": statistics.median(ratios),
    }


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    sys.stdout.write(f"{'IQL':<20}{'size':<6}{'threads':<9}{'updates/s':>10}{'to plain':>10}\n")
    for size, threads in ((S, 1), (L, 1), (L, 2)):
        for row in compare(size, threads, options.repeats, options.seconds):
            rows.append(row)
            sys.stdout.write(
                f"{row['name']:<20}{row['size']:<6}{row['threads']:<9}"
                f"{row['updates_per_second']:>10,.0f}{row['ratio_to_plain']:>10.2f}\n"
            )
            sys.stdout.flush()
    found = sampling(options.repeats, options.seconds / 8)
    sys.stdout.write(
        f"\nsampling at L: {found['rows_per_second']:,.0f} rows/s, "
        f"{found['ratio_to_gather']:.2f} of one index_select on the packed matrix\n"
    )
    latency = act.measure(None)
    sys.stdout.write(f"OnnxPolicy.act: {json.dumps(latency)}\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(f"peak resident memory of this run: {memory:,.0f} MiB\n")
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
