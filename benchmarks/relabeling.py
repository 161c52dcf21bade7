"""What relabeling costs (part of ``make bench``), beside one compiled update of IQL.

    python benchmarks/relabeling.py [--repeats 5]

One thread, CPU time. Transition-level inverse RL is compared with its own bare forward passes: the
policy at s and at s', and the first critic, for every pair of a row and a candidate.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from sizes import L, S, Size, as_log, make_log

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FinalGoal, FutureGoal
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.relabel.returns import NStep, ReturnToGo, ScaleReward
from hindsight_rl.tasks.family import GoalReaching

UPDATES_PER_STEP = 64
CANDIDATES = (4, 8, 16, 32)


def clock(run: Callable[[], Any], updates: int) -> float:
    """Return microseconds of CPU time per update."""
    start = time.process_time()
    run()
    return (time.process_time() - start) / updates * 1e6


def costs(size: Size, repeats: int) -> dict[str, float]:
    """Return what each relabeler adds to an update's rows, microseconds.

    Medians of differences between chunks drawn with it and without, in turns.
    """
    log = as_log(make_log(size), goals=True)
    chains: dict[str, list[Relabeler]] = {
        "FinalGoal": [FinalGoal()],
        "FutureGoal": [FutureGoal()],
        "ReturnTask": [ReturnTask()],
        "InverseRL": [InverseRL(GoalReaching(kind="dense"), candidates=32)],
        "ReturnToGo": [ReturnToGo()],
        "NStep": [NStep(3)],
        "ScaleReward": [ScaleReward(return_range=1000.0)],
        "TopFraction": [TopFraction(0.5)],
    }
    bare = _chunks(OfflineDataModule(log, batch_size=size.batch_size))
    found = {}
    for name, chain in chains.items():
        one = _chunks(OfflineDataModule(log, chain, batch_size=size.batch_size))
        times = [(_spent(bare, number), _spent(one, number)) for number in range(10 * repeats)]
        found[name] = statistics.median(two - alone for alone, two in times)
    return found


def _spent(chunk: Callable[[int], Any], number: int) -> float:
    return clock(lambda: chunk(number), UPDATES_PER_STEP)


def _chunks(module: OfflineDataModule) -> Callable[[int], Any]:
    sampler = module._sampler()

    def chunk(number: int) -> Any:
        drawn = sampler.chunk(UPDATES_PER_STEP * number, UPDATES_PER_STEP)
        return module.on_after_batch_transfer(drawn, 0)

    return chunk


def transitions(size: Size, candidates: int, repeats: int) -> tuple[float, float, float]:
    """Return bare forward passes and relabeling, microseconds per update, and their ratio."""
    updates = 32 if size is S else 4
    relabeler = TransitionInverseRL(GoalReaching(), candidates=candidates)
    log = as_log(make_log(size), goals=True)
    data = OfflineDataModule(log, [relabeler], batch_size=size.batch_size, prefetch=False)
    sac = SAC(data.spec, network=Network(hidden=size.hidden))
    data.relabel.use(sac.soft_values)
    chunk = data._sampler().chunk(0, updates)
    widths = (size.observation, size.observation, 3, size.action)
    rows = size.batch_size * candidates
    state, following, task, action = (torch.randn(rows, width) for width in widths)

    def bare() -> None:
        with torch.no_grad():
            for _ in range(updates):
                sac.actor(state, task)
                sac.actor(following, task)
                sac.critic(following, action, task, members=1)

    def relabel() -> None:
        data.relabel(chunk)

    bare()
    relabel()
    pairs = [(clock(bare, updates), clock(relabel, updates)) for _ in range(repeats)]
    return (
        statistics.median(one for one, _ in pairs),
        statistics.median(two for _, two in pairs),
        statistics.median(two / one for one, two in pairs),
    )


def tables(repeats: int, updates: dict[str, float] | None = None) -> str:
    """Return the tables as text.

    Args:
        repeats: Pairs of each measurement; relabelers get ten times as many.
        updates: Microseconds of an update by size, to give shares of it.
    """
    torch.set_num_threads(1)
    lines = []
    for size in (S, L):
        for name, cost in costs(size, repeats).items():
            share = f", {cost / updates[size.name]:.1%} of it" if updates else ""
            lines.append(f"{name} at {size.name}: {cost:.1f} us an update{share}")
    lines.append("")
    for size in (S, L):
        for candidates in CANDIDATES:
            bare, relabel, ratio = transitions(size, candidates, repeats)
            lines.append(
                f"TransitionInverseRL, {candidates} candidates at {size.name}: {relabel:,.0f} us "
                f"an update, bare forward passes {bare:,.0f}, ratio {ratio:.2f}"
            )
    return "\n".join(lines) + "\n"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    sys.stdout.write(tables(parser.parse_args().repeats))
    return 0


if __name__ == "__main__":
    sys.exit(main())
