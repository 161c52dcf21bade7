"""Speed, in one run (``make bench``): updates, sampling, latency of the exported file, memory.

    python benchmarks/bench.py [--repeats 5] [--seconds 4] [--no_document]

Absolute numbers depend on the machine; ratios are medians over pairs taken in turns. d3rlpy and JAX
(the extra ``bench``) are measured where they are installed, and left out of the table elsewhere.
"first": the end of the first chunk. Takes a quarter of an hour; writes a table of docs/speed.md and
build/bench.json.
"""

import argparse
import importlib.util
import json
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import act
import bench_page
import relabeling
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from plain_iql import PlainIQL
from shared import say, silent_trainer
from sizes import ROWS, L, S, Size, as_log, make_log

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network

UPDATES_PER_STEP = 64


def plain(data: dict[str, torch.Tensor], size: Size) -> Callable[[int], None]:
    """Return a function that makes so many updates with the plain loop."""
    loop = PlainIQL(data, size.hidden, size.batch_size)

    def run(updates: int) -> None:
        for _ in range(updates):
            loop.update()

    return run


class _Timer(Callback):
    """Measures inside one fit, each time in turn with the plain loop, and ends it.

    Args:
        repeats: Number of pairs.
        seconds: Length of one measurement.
        base: Makes so many updates with the plain loop.
    """

    def __init__(self, repeats: int, seconds: float, base: Callable[[int], None]) -> None:
        self.repeats, self.seconds, self.base = repeats, seconds, base
        self.rates: list[float] = []
        self.ratios: list[float] = []
        self.first = 0.0
        self._begun = self._start = time.perf_counter()
        self._at = -1

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Look at the clock after each chunk; the first two compile and warm up."""
        now, step = time.perf_counter(), trainer.global_step
        if step <= 2 * UPDATES_PER_STEP:
            self.first = self.first or now - self._begun
            self._start, self._at = time.perf_counter(), step
        elif now - self._start >= self.seconds:
            self.rates.append((step - self._at) / (now - self._start))
            base = rate(self.base, max(16, int(self.seconds * 100)))
            self.ratios.append(self.rates[-1] / base)
            trainer.should_stop = len(self.rates) == self.repeats
            self._start, self._at = time.perf_counter(), step


def ours(
    data: dict[str, torch.Tensor],
    size: Size,
    threads: int,
    timer: _Timer,
    *,
    prefetch: bool | None = False,
    **options: Any,
) -> dict[str, Any]:
    """Return the row of one way to train; nothing is read in the background unless it is said."""
    torch.set_num_threads(threads)
    module = OfflineDataModule(
        as_log(data),
        batch_size=size.batch_size,
        updates_per_step=UPDATES_PER_STEP,
        prefetch=prefetch,
    )
    learner = IQL(module.spec, network=Network(hidden=size.hidden), **options)
    silent_trainer(10**9, callbacks=[timer]).fit(learner, module)
    torch.set_num_threads(threads)
    plan = learner.plan
    return {
        "rates": timer.rates,
        "ratio_to_plain": statistics.median(timer.ratios),
        "first_update_seconds": timer.first,
        "plan": f"{plan.compile}, {plan.threads} thread(s), {plan.matmul_precision}",
    }


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


WAYS: dict[str, dict[str, Any]] = {
    "eager": {"compile": "off", "matmul_precision": "highest"},
    "losses compiled": {"compile": "losses"},
    "update compiled": {"compile": "update"},
}


def jax_rate(size: Size, threads: int, seconds: float) -> float | None:
    """Return updates per second of a JAX scan, in a process of its own; ``None`` without JAX.

    Its threads are as many as it may have cores: the flags that name a number are not heeded.
    """
    if importlib.util.find_spec("jax") is None:
        return None
    cores = sorted(os.sched_getaffinity(0))[:threads]
    ended = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("jax_iql.py")), size.name, str(seconds)],
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(ended.stdout)


def compare(size: Size, threads: int, repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row per rival: median rate and median paired ratio to the plain loop."""
    torch.set_num_threads(threads)
    data = make_log(size)
    base = plain(data, size)
    base(UPDATES_PER_STEP)
    where = {"size": size.name, "threads": threads}
    alone = [rate(base, int(seconds * 100)) for _ in range(repeats)]
    rows: list[dict[str, Any]] = [where | {"name": "plain loop", "rates": alone}]
    for name, options in WAYS.items():
        timer = _Timer(repeats, seconds, base)
        rows.append(where | {"name": name} | ours(data, size, threads, timer, **options))
    rival = d3rlpy(data, size)
    if rival is not None:
        count = max(UPDATES_PER_STEP, int(seconds * rate(rival, UPDATES_PER_STEP)))
        pairs = [
            (rate(rival, count), rate(base, max(16, int(seconds * 100)))) for _ in range(repeats)
        ]
        found = {
            "rates": [ours for ours, _ in pairs],
            "ratio_to_plain": statistics.median(ours / theirs for ours, theirs in pairs),
        }
        rows.append(where | {"name": "d3rlpy"} | found)
    scans = [jax_rate(size, threads, seconds) for _ in range(repeats)]
    if None not in scans:
        ratio = statistics.median(scans) / statistics.median(alone)
        rows.append(where | {"name": "JAX scan", "rates": scans, "ratio_to_plain": ratio})
        compiled = next(row["rates"] for row in rows if row["name"] == "update compiled")
        rows[-1]["ours_to_jax"] = statistics.median(compiled) / statistics.median(scans)
    return [row | {"updates_per_second": statistics.median(row["rates"])} for row in rows]


def many_seeds(repeats: int, seconds: float) -> dict[str, float]:
    """Return what eight seeds at S cost against one, both compiled, in turns.

    One seed has one thread, which is its fastest; eight share all cores, as they would.
    """
    data, cores = make_log(S), os.cpu_count() or 1
    base = plain(data, S)
    costs = []
    for _ in range(repeats):
        each = []
        for seeds, threads in ((1, 1), (8, cores)):
            timer = _Timer(1, seconds, base)
            row = ours(data, S, threads, timer, prefetch=None, compile="update", seeds=seeds)
            each.append(1 / row["rates"][0])
        costs.append(each)
    return {
        "one_us": 1e6 * statistics.median(one for one, _ in costs),
        "eight_us": 1e6 * statistics.median(eight for _, eight in costs),
        "ratio": statistics.median(eight / one for one, eight in costs),
    }


def sampling(repeats: int, seconds: float) -> dict[str, float]:
    """Return rows per second of our sampler at L against one bare gather of the same rows."""
    torch.set_num_threads(1)
    module = OfflineDataModule(as_log(make_log(L)), batch_size=L.batch_size)
    sampler, matrix = module._sampler(), module.log.blocks[0].matrix
    # Fresh rows each time, as a sampler reads them: the same ones again would lie in the cache.
    count = UPDATES_PER_STEP * L.batch_size
    indices = torch.randint(len(matrix), (64, count)).unbind(0)
    ratios, rates = [], []

    def chunks(count: int) -> None:
        for number in range(count):
            sampler.chunk(number, UPDATES_PER_STEP)

    def gathers(count: int) -> None:
        for number in range(count):
            matrix.index_select(0, indices[number % 64])

    for _ in range(repeats):
        sampled, bare = rate(chunks, int(200 * seconds)), rate(gathers, int(200 * seconds))
        ratios.append(sampled / bare)
        rates.append(sampled * count)
    return {
        "rows_per_second": statistics.median(rates),
        "ratio_to_gather": statistics.median(ratios),
    }


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of one measurement")
    parser.add_argument("--no_document", action="store_true", help="write no page")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows: list[dict[str, Any]] = []
    say(f"{'IQL':<18}{'size':<6}{'threads':<9}{'updates/s':>10}{'to plain':>10}{'first':>8}")
    for size, threads in bench_page.CASES:
        begun = time.perf_counter()
        found = compare(size, threads, options.repeats, options.seconds)
        seconds = (time.perf_counter() - begun) / len(found)
        rows += [row | {"seconds": seconds} for row in found]
        for row in found:
            say(bench_page.line(row))
    for name, extra in {"jax": " (extra bench)", "d3rlpy": ""}.items():
        if importlib.util.find_spec(name) is None:
            say(f"{name}{extra} is not installed: left out")
    seeds = many_seeds(options.repeats, options.seconds)
    say("\n" + bench_page.of_seeds(seeds))
    updates = {
        row["size"]: 1e6 / row["updates_per_second"]
        for row in rows
        if row["name"] == "update compiled" and row["threads"] == 1
    }
    say("\n" + relabeling.tables(options.repeats, updates))
    rate_of_rows = sampling(options.repeats, options.seconds / 8)
    say(bench_page.of_rows(rate_of_rows))
    say(f"OnnxPolicy.act: {json.dumps(act.measure(None))}")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    say(f"peak resident memory of this run: {memory:,.0f} MiB")
    bench_page.write(rows, seeds, rate_of_rows, document=not options.no_document)
    return 0


if __name__ == "__main__":
    sys.exit(main())
