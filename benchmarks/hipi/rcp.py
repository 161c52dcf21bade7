"""Return-conditioned policies learn CartPole from scratch: RCP by return and advantage, and UDRL.

    python benchmarks/hipi/rcp.py [--methods RCP-R RCP-A UDRL] [--seeds 0 1 2 3 4] [--choose]

Cloning alone: every episode is relabeled with what it achieved, the next ones are commanded to do a
bit better. Prints the greedy return while it learns (interquartile means over seeds; about two
environment steps for each update) and at the end over 50 test episodes with its 95 % interval, and
writes build/hipi/rcp.json with the exact steps. ``--choose`` uses the seeds settings were chosen
on. Finished runs are kept in build/hipi/rcp/.
"""

import argparse
from dataclasses import asdict, dataclass
from typing import Any

import common
import torch
from lightning.pytorch import Callback

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.sources.episodes import Command
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.advantage import LinearAdvantage
from hindsight_rl.relabel.column_weight import ColumnWeight
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.tasks.commands import BestAdvantage, BestReturn, RecentReturn

ENV, STEPS, EVERY = "CartPole-v1", 30_000, 5_000


@dataclass(frozen=True)
class Settings:
    """What all three share, and what they are asked for in evaluation."""

    ask: tuple[float, ...]
    command: str = "lowered"
    task_scale: tuple[float, ...] = (100.0,)
    hidden: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    batch_size: int = 256
    updates_per_env_step: float = 0.5
    episodes_per_round: int = 20
    capacity: int = 10_000


METHODS = {
    "RCP-R": Settings((500.0,)),
    "RCP-A": Settings((30.0,), "held", (10.0,)),
    "UDRL": Settings((500.0, 500.0), task_scale=(100.0, 100.0)),
}


def data_step(name: str) -> tuple[list[Relabeler], Command]:
    """Return the relabelers and the command of a method."""
    if name == "RCP-R":
        return [ReturnTask(), ColumnWeight()], RecentReturn()
    if name == "UDRL":
        return [ReturnTask(horizon=True)], BestReturn()
    steps = [LinearAdvantage(), ReturnTask(of="advantage"), ColumnWeight("advantage")]
    return steps, BestAdvantage()


class Greedy(Callback):
    """Keeps the return of the evaluation episodes, by environment steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.returns: list[float] = []

    def on_train_batch_end(self, trainer: Any, learner: Any, *_: Any) -> None:
        """Note an evaluation that was just made."""
        if trainer.global_step % learner.evaluation.every == 0:
            self.steps.append(trainer.datamodule.history[-1].env_steps)
            self.returns.append(learner.latest["eval/return"])


def learn(name: str, seed: int) -> dict[str, Any]:
    """Return the learning curve and the test of one run."""
    common.quiet(seed)
    chosen = METHODS[name]
    relabel, command = data_step(name)
    data = IteratedDataModule(
        ENV,
        relabel,
        capacity=chosen.capacity,
        batch_size=chosen.batch_size,
        seed=seed,
        collection=Collection(
            episodes_per_round=chosen.episodes_per_round,
            updates_per_env_step=chosen.updates_per_env_step,
            command=command,
        ),
    )
    learner = BC(
        data.spec,
        network=Network(hidden=chosen.hidden, task_scale=chosen.task_scale, gate_task=True),
        optimizer=lambda groups: torch.optim.Adam(groups, lr=chosen.learning_rate, fused=True),
        compile="off",
        evaluation=Evaluation(
            env=ENV,
            task=list(chosen.ask),
            command=chosen.command,
            every=round(chosen.updates_per_env_step * EVERY),
        ),
    )
    greedy = Greedy()
    trainer = common.silent_trainer(round(chosen.updates_per_env_step * STEPS), callbacks=[greedy])
    trainer.fit(learner, data)
    trainer.test(learner, verbose=False)
    return {
        "env_steps": data.history[-1].env_steps,
        "steps": greedy.steps,
        "greedy": greedy.returns,
        "collected": [[each.env_steps, each.mean_return] for each in data.history],
        "test": learner.test_report["return"],
    }


def main() -> None:
    """Run what is not kept yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(common.FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true")
    given = parser.parse_args()
    seeds = list(common.CHOICE_SEEDS) if given.choose else given.seeds
    grid = list(range(EVERY, STEPS + 1, EVERY))
    report: dict[str, Any] = {"env": ENV, "grid": grid, "seeds": seeds}
    rows = []
    for name in given.methods:
        runs = []
        for seed in seeds:
            settings = {"method": name, "seed": seed, "steps": STEPS, **asdict(METHODS[name])}
            runs.append(common.kept("rcp", settings, lambda n=name, s=seed: learn(n, s)))
        points = [run["greedy"] for run in runs]
        test = common.summary([run["test"] for run in runs])
        report[name] = {"greedy": points, "test": [run["test"] for run in runs], "runs": runs}
        cells = [f"{common.summary(column).iqm:.0f}" for column in zip(*points, strict=True)]
        taken = sum(run["env_steps"] for run in runs) / len(runs)
        rows.append([name, *cells, f"{taken:,.0f}", str(test)])
    updates = [f"{round(METHODS[given.methods[0]].updates_per_env_step * at):,}" for at in grid]
    header = ["greedy return after updates", *updates, "environment steps", "test, 95 % interval"]
    common.say(common.table(header, rows))
    common.say(str(common.write_json("rcp", report)))


_Raw = argparse.RawDescriptionHelpFormatter

if __name__ == "__main__":
    main()
