"""Where the microseconds of one update go, one by one and as one graph (IQL, one thread).

    python benchmarks/where.py [--size S] [--chunks 10]

Operators are grouped by torch.profiler's own time of each, scaled to the wall clock without it. The
rest is Python and dispatch between operators, and in the graph the generated loops (Adam, losses,
activations), which are no operators. The graph is profiled in the variant that calls operators from
Python: in the two that are used, they cannot be seen. The wall clocks of those are the last lines:
the same graph called from C++, and the program that is used wherever it can be written.
"""

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from bench import UPDATES_PER_STEP
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from shared import silent_trainer
from sizes import SIZES, Size, as_log, make_log
from torch.profiler import ProfilerActivity, profile

from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.training.update import engine

GROUPS: dict[str, tuple[str, ...]] = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "Adam": ("aten::_fused_adam", "aten::_fused_adam_"),
    "target step": ("aten::_foreach_lerp",),
    "gradient bookkeeping": ("autograd::", "AccumulateGrad", "aten::detach"),
}


class _Stop(Callback):
    """Ends the fit and leaves the learner ready for further updates."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Stop after the first chunk, which compiles."""
        trainer.should_stop = True


def chunk_of(
    size: Size, compiled: str, *, accelerator: str = "cpu", precision: Any = "32-true", **own: Any
) -> Callable[[], None]:
    """Return a function that makes the updates of one chunk, without the loop around it.

    ``own``: arguments of the learner, where one thread and exact products are not meant.
    """
    module = OfflineDataModule(
        as_log(make_log(size)), batch_size=size.batch_size, updates_per_step=UPDATES_PER_STEP
    )
    learner = IQL(
        module.spec,
        network=Network(hidden=size.hidden),
        compile=compiled,
        **{"threads": 1, "matmul_precision": "highest"} | own,
    )
    with tempfile.TemporaryDirectory() as folder:
        options = {"accelerator": accelerator, "precision": precision, "callbacks": [_Stop()]}
        silent_trainer(10**6, default_root_dir=folder, **options).fit(learner, module)
    torch.set_num_threads(1)
    sampler = module._sampler(seeds=learner.seeds)
    drawn = module.relabel(sampler.chunk(0, UPDATES_PER_STEP))
    chunk = learner.read(drawn).to(learner.device)

    def run() -> None:
        learner.runner.run(chunk, 0)

    return run


def table(run: Callable[[], None], count: int) -> dict[str, float]:
    """Return microseconds per update by group, and of the wall clock."""
    for _ in range(3):
        run()
    start = time.perf_counter()
    for _ in range(count):
        run()
    wall = (time.perf_counter() - start) / count
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        start = time.perf_counter()
        for _ in range(count):
            run()
        profiled = (time.perf_counter() - start) / count
    found = dict.fromkeys(GROUPS, 0.0) | {"other operators": 0.0}
    for event in seen.key_averages():
        if not event.key.startswith(("aten::", "autograd::", "torch::")):
            continue
        group = next((g for g, keys in GROUPS.items() if event.key.startswith(keys)), None)
        found[group or "other operators"] += event.self_cpu_time_total / count * wall / profiled
    named = {name: value / UPDATES_PER_STEP for name, value in found.items()}
    clock = 1e6 * wall / UPDATES_PER_STEP
    return named | {"rest": clock - sum(named.values()), "wall clock": clock}


def main() -> int:
    """Print both tables side by side."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=list(SIZES), default="S")
    parser.add_argument("--chunks", type=int, default=10)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    found = {}
    used, native = engine.OPTIONS, engine.native_class
    engine.native_class = lambda: None
    for compiled in ("off", "update"):
        engine.OPTIONS = {}
        found[compiled] = table(chunk_of(SIZES[options.size], compiled), options.chunks)
    sys.stdout.write(
        f"{'us per update, size ' + options.size:<28}{'one by one':>12}{'one graph':>12}\n"
    )
    engine.OPTIONS = used
    clocks = {"graph from C++": table(chunk_of(SIZES[options.size], "update"), options.chunks)}
    engine.native_class = native
    clocks["program"] = table(chunk_of(SIZES[options.size], "update"), options.chunks)
    for name, value in found["off"].items():
        sys.stdout.write(f"{name:<28}{value:>12.1f}{found['update'][name]:>12.1f}\n")
    for name, found_here in clocks.items():
        sys.stdout.write(f"{'wall clock, ' + name:<28}{'':>12}{found_here['wall clock']:>12.1f}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
