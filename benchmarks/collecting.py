"""What collecting costs: environment steps per second, its share of training, a full replay.

CPU seconds of one thread, so that whatever else runs on the machine changes little.

    python benchmarks/collecting.py
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium
import torch
from lightning.pytorch.callbacks import Callback
from shared import silent_trainer

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.tasks.family import GoalReaching
from hindsight_rl.training.learner import Learner

UPDATES = 2000
ROWS, LENGTH = 1_000_000, 50


def bare(env: str) -> float:
    """Return environment steps per second of a loop that draws actions and keeps nothing."""
    envs: Any = gymnasium.make_vec(env, num_envs=8, vectorization_mode="sync")
    envs.reset(seed=0)
    rounds = 500
    start = time.process_time()
    for _ in range(rounds):
        envs.step(envs.action_space.sample())
    return 8 * rounds / (time.process_time() - start)


def train(
    learner: type[Learner],
    env: str,
    relabel: list[Relabeler],
    hidden: int,
    batch_size: int,
    compiled: str = "off",
) -> dict[str, Any]:
    """Return the cost of one update for each environment step.

    Args:
        learner: Its class.
        env: Gymnasium id.
        relabel: Relabelers.
        hidden: Units of each of two layers.
        batch_size: B.
        compiled: What is compiled; the first chunk, which compiles, is not counted.

    Returns:
        ``collected_per_s``, ``bare_per_s`` of a loop that draws actions and keeps nothing,
        ``updates_per_s`` (all else), ``share`` of the time that collects.
    """
    data = IteratedDataModule(
        env, relabel, batch_size=batch_size, collection=Collection(initial_episodes=2)
    )
    torch.manual_seed(0)
    network = Network(hidden=(hidden, hidden))
    model = learner(data.spec, network=network, compile=compiled, threads=1)
    spent, play = [0.0], data._collector.collect

    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        found = play(*given, **named)
        spent[0] += time.process_time() - start
        return found

    data._collector.collect = timed  # type: ignore[method-assign]
    begun = _Begun(spent, data)
    with tempfile.TemporaryDirectory() as folder:
        trainer = silent_trainer(UPDATES, default_root_dir=Path(folder), callbacks=[begun])
        trainer.fit(model, data)
        total = time.process_time() - begun.at
    collecting = spent[0] - begun.spent
    steps = data.history[-1].env_steps - begun.steps
    how = "" if compiled == "off" else ", compiled"
    return {
        "name": f"{learner.__name__} 2x{hidden}, batch {batch_size}, {env}{how}",
        "collected_per_s": round(steps / collecting),
        "bare_per_s": round(bare(env)),
        "updates_per_s": round((UPDATES - begun.updates) / (total - collecting)),
        "share": round(collecting / total, 3),
    }


class _Begun(Callback):
    """Notes where a fit is after its first chunk, which compiles."""

    def __init__(self, spent: list[float], data: IteratedDataModule) -> None:
        self._spent, self._data = spent, data
        self.at, self.spent, self.steps, self.updates = 0.0, 0.0, 0, 0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Note it once."""
        if not self.at:
            self.updates, self.steps = trainer.global_step, self._data.history[-1].env_steps
            self.spent, self.at = self._spent[0], time.process_time()


def fill() -> dict[str, Any]:
    """Return milliseconds of appending a round of 400 rows to a full replay of a million rows."""
    names: list[Any] = ["observation", ("next", "observation")]
    replay, lengths = Replay(ROWS, {}), torch.full([8], LENGTH)

    def append(count: int) -> None:
        rows = count * LENGTH
        columns = {name: torch.zeros(rows, 11) for name in names} | {"action": torch.zeros(rows, 2)}
        replay.append(columns, lengths.new_full([count], LENGTH))

    for _ in range(21):
        append(ROWS // LENGTH // 20)
    start, rounds = time.process_time(), 1000
    for _ in range(rounds):
        append(len(lengths))
    spent = time.process_time() - start
    return {"name": "append 400 rows to a million", "ms": round(1000 * spent / rounds, 2)}


def main() -> None:
    """Print one line of JSON per measurement."""
    torch.set_num_threads(1)
    goals: list[Relabeler] = [FutureGoal(GoalReaching(radius=1.0))]
    cases = [
        (BC, "Hindsight/FourRooms-v0", goals, 64, 256),
        (SAC, "Hindsight/FourRooms-v0", goals, 64, 64),
        (SAC, "Hindsight/FourRooms-v0", goals, 256, 256),
        (SAC, "Pendulum-v1", [], 256, 256),
    ]
    for case in cases:
        sys.stdout.write(json.dumps(train(*case)) + "\n")
    sys.stdout.write(json.dumps(train(*cases[-1], compiled="update")) + "\n")
    sys.stdout.write(json.dumps(fill()) + "\n")


if __name__ == "__main__":
    main()
