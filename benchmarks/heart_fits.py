"""What inverse RL of transitions costs beside HER: whole updates, in turns (part of heart.py)."""

import statistics
import threading
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback
from sizes import SIZES, Size, as_log, make_log

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.statistics import bootstrap_interval
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.scoring import Scoring
from hindsight_rl.tasks.family import GoalReaching

UPDATES_PER_STEP, CANDIDATES, FRACTION = 64, 32, 0.5
HER = "FutureGoal (HER)"


class Arm(NamedTuple):
    """A way to score, and the passes of a network that a relabeled row costs."""

    scoring: Scoring
    passes: float
    entropy_scale: float = 0.0


ARMS = {
    "as published": Arm(Scoring(), 3 * 32, 1.0),
    "step": Arm(Scoring(), 2 * 32),
    "step, bfloat16": Arm(Scoring(precision="bfloat16"), 2 * 32),
    "critic": Arm(Scoring("critic"), 32),
    "critic, bfloat16": Arm(Scoring("critic", precision="bfloat16"), 32),
    "critic, 4 refined, bfloat16": Arm(Scoring("critic", 4, precision="bfloat16"), 40),
    "critic, 2 refined, bfloat16": Arm(Scoring("critic", 2, precision="bfloat16"), 36),
    "step, 8 of 32, bfloat16": Arm(Scoring(candidates=8, precision="bfloat16"), 16),
    "critic, 16 of 32, bfloat16": Arm(Scoring("critic", 0, 16, "bfloat16"), 16),
    "critic, 8 of 32": Arm(Scoring("critic", 0, 8), 8),
    "critic, 8 of 32, bfloat16": Arm(Scoring("critic", 0, 8, "bfloat16"), 8),
}


class Turn(NamedTuple):
    """Seconds of an update, by the clock on the wall and by that of the processor."""

    wall: float
    cpu: float


class Fit:
    """A fit that goes on when it is its turn.

    Args:
        size: Of the problem.
        relabel: The relabelers.
        steps: Chunks of a turn.
    """

    def __init__(self, size: Size, relabel: list[Relabeler], steps: int) -> None:
        self.size, self.relabel, self.steps = size, relabel, steps
        self.turn = Turn(0.0, 0.0)
        self.error: Exception | None = None
        self._left, self._ends = 0, False
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._fit, daemon=True)
        self._thread.start()

    def take(self, steps: int | None = None) -> Turn:
        """Make the updates of a turn, and return what one took."""
        self._left = steps or self.steps
        self._go.release()
        self._done.acquire()
        if self.error is not None:
            raise self.error
        return self.turn

    def end(self) -> None:
        """End the fit."""
        self._ends = True
        self._go.release()
        self._thread.join()

    def _fit(self) -> None:
        torch.set_num_threads(1)
        try:
            data = OfflineDataModule(
                as_log(make_log(self.size), goals=True),
                self.relabel,
                batch_size=self.size.batch_size,
                updates_per_step=UPDATES_PER_STEP,
                prefetch=False,
            )
            learner = SAC(
                data.spec, network=Network(hidden=self.size.hidden), compile="update", threads=1
            )
            callback = LambdaCallback(
                on_train_start=lambda *_: self._wait(), on_train_batch_end=self._chunk
            )
            silent = ("logger", "enable_checkpointing", "enable_progress_bar")
            Trainer(
                max_steps=10**9,
                max_epochs=-1,
                accelerator="cpu",
                callbacks=[callback],
                enable_model_summary=False,
                **dict.fromkeys(silent, False),
            ).fit(learner, data)
        except Exception as error:
            self.error = error
            self._done.release()

    def _wait(self) -> None:
        self._go.acquire()
        self._began, self._made = Turn(time.perf_counter(), time.process_time()), 0

    def _chunk(self, trainer: Trainer, *_: Any) -> None:
        self._made += 1
        if self._made < self._left:
            return
        now, updates = Turn(time.perf_counter(), time.process_time()), self._made * UPDATES_PER_STEP
        self.turn = Turn(
            *((late - soon) / updates for late, soon in zip(now, self._began, strict=True))
        )
        self._done.release()
        self._wait()
        trainer.should_stop = self._ends


def relabelers(arm: Arm | None) -> list[Relabeler]:
    """Return the data step of an arm, of HER without one; kept rows have random goals."""
    family = GoalReaching()
    if arm is None:
        return [RandomTask(family), FutureGoal(family, fraction=FRACTION)]
    inverse = TransitionInverseRL(
        family,
        candidates=CANDIDATES,
        fraction=FRACTION,
        entropy_scale=arm.entropy_scale,
        scoring=arm.scoring,
    )
    return [RandomTask(family), inverse]


def costs(size: Size, names: Sequence[str], repeats: int, seconds: float) -> list[dict[str, Any]]:
    """Return one row per arm: ratio of wall clocks to HER's, paired, and seconds of an update."""
    fits, turns = {}, {}
    for name in (HER, *names):
        fits[name] = Fit(size, relabelers(ARMS.get(name)), 1)
        fits[name].take(2)  # compiles, and warms up
        once = fits[name].take(2).wall
        fits[name].steps = max(1, round(seconds / once / UPDATES_PER_STEP))
        turns[name] = []
    for _ in range(repeats):
        for name, fit in fits.items():
            turns[name].append(fit.take())
    for fit in fits.values():
        fit.end()
    rows = []
    for name, found in turns.items():
        pairs = list(zip(found, turns[HER], strict=True))
        wall, cpu = ([one[at] / her[at] for one, her in pairs] for at in (0, 1))
        low, high = bootstrap_interval(wall)
        rows.append(
            {
                "name": f"{name} at {size.name}",
                "mean": statistics.median(wall),
                "low": low,
                "high": high,
                "seeds": repeats,
                "seconds": statistics.median(one.wall for one in found),
                "cpu_ratio": statistics.median(cpu),
                "cpu_seconds": statistics.median(one.cpu for one in found),
            }
        )
    return rows


def wall(size: Size) -> dict[str, float]:
    """Return GFLOP of a pass and GFLOP/s of the critic's layers at rows of a block, by precision.

    Args:
        size: Of the problem.

    Returns:
        ``mflop`` of one row, ``float32`` and ``bfloat16`` in GFLOP/s.
    """
    widths = (size.observation + 3 + size.action, *size.hidden, 1)
    layers: list[torch.nn.Module] = []
    for one, two in zip(widths, widths[1:], strict=False):
        layers += [torch.nn.Linear(one, two), torch.nn.ReLU()]
    net, rows = torch.nn.Sequential(*layers[:-1]), 1 << 13
    flop = 2 * sum(one * two for one, two in zip(widths, widths[1:], strict=False))
    features, found = torch.randn(rows, widths[0]), {"mflop": flop / 1e6}
    for name in ("float32", "bfloat16"):
        times = []
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
            for _ in range(9):
                start = time.process_time()
                net(features)
                times.append(time.process_time() - start)
        found[name] = rows * flop / statistics.median(times) / 1e9
    return found


def cost(
    sizes: Sequence[str], arms: Sequence[str], repeats: int, seconds: float
) -> list[dict[str, Any]]:
    """Print what each arm costs, and the wall that arithmetic sets."""
    rows = []
    for size in (SIZES[name] for name in sizes):
        speed, found = wall(size), costs(size, arms, repeats, seconds)
        her = found[0]["cpu_seconds"]
        print(
            f"\n{size.name}: a pass of a row {speed['mflop']:.3f} MFLOP, layers alone "
            f"{speed['float32']:.0f} GFLOP/s, in bfloat16 {speed['bfloat16']:.0f}\n\n"
            "| scoring | an update, CPU | of HER's, wall | CPU | passes of a row | "
            "HER + passes x FLOP / (FLOP/s) |\n|---|---|---|---|---|---|"
        )
        for row, arm in zip(found, (None, *(ARMS[name] for name in arms)), strict=True):
            passes = arm.passes if arm else 0
            rate = speed[arm.scoring.precision if arm else "float32"]
            bound = 1 + passes * FRACTION * size.batch_size * speed["mflop"] / rate / 1e3 / her
            print(
                f"| {row['name']} | {1e3 * row['cpu_seconds']:.2f} ms | {row['mean']:.2f} "
                f"[{row['low']:.2f}, {row['high']:.2f}] | {row['cpu_ratio']:.2f} | {passes:.0f} | "
                f"{bound:.2f} |",
                flush=True,
            )
        rows += found
    return rows
