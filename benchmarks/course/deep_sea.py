"""Deep exploration: episodes until a reward at the end of a long way is found once.

    python benchmarks/course/deep_sea.py [--seeds 5] [--choose]

DeepSea (Osband et al. 2019, arXiv 1908.03568): eight steps down a grid of 8 x 8 cells, left or
right at each; a step right costs .00125, and 1 waits for eight steps right, which random actions
make once in 256 episodes. Two episodes a round, an update a step; the search ends at the first
success, or after 500 episodes. Settings were chosen on seeds 100 and 101. Fits are kept in
build/course/deep_sea. Writes build/course_deep_sea.json and a table of docs/exploration.md.
"""

import argparse
import functools
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "imagined"), str(HERE.parent)]

import worlds  # noqa: E402
from lightning.pytorch import Callback, seed_everything  # noqa: E402
from results import replace_part  # noqa: E402
from shared import (  # noqa: E402
    BUILD,
    CHOICE_SEEDS,
    FIVE_SEEDS,
    ROOT,
    quiet,
    silent_trainer,
    table,
)

from hindsight_rl import (  # noqa: E402
    DQN,
    RND,
    BootstrappedDQN,
    Collection,
    CountBonus,
    IteratedDataModule,
    Network,
    OneOf,
    QLearning,
)
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import EPISODE, REWARD  # noqa: E402

worlds.HOME = BUILD / "course" / "deep_sea"
PAGE, FOUND = ROOT / "docs" / "exploration.md", BUILD / "course_deep_sea.json"
SIZE, LIMIT, FIRST, ROUND, UPDATES = 8, 500, 2, 2, 1.0
HEADS = 10
PLAIN: dict[str, Any] = {"discount": 0.99, "threads": 1, "matmul_precision": "highest"}
NET: dict[str, Any] = PLAIN | {"network": Network(hidden=(64,)), "optimizer": worlds.adam}
NET |= {"compile": "off", "target_every": 20}
METHODS = (
    "random actions",
    "a tenth at random",
    "counts",
    "counts, values begin high",
    "RND",
    "heads",
)


class DeepSea(gymnasium.Env[Any, Any]):
    """A grid whose diagonal alone leads to the reward. Observation: the cell, one-hot."""

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(0.0, 1.0, (SIZE * SIZE,), np.float32)
        self.action_space = gymnasium.spaces.Discrete(2)
        self._row = self._column = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        """Return the first cell."""
        super().reset(seed=seed)
        self._row = self._column = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go down, and left or right."""
        right, before = int(action) == 1, self._column
        self._row += 1
        self._column = min(before + 1, SIZE - 1) if right else max(before - 1, 0)
        ended = self._row == SIZE
        # In the last row only steps right alone have come to the last column.
        reward = float(ended and right and before == SIZE - 1) - 0.01 / SIZE * right
        return self._seen(), reward, ended, False, {}

    def _seen(self) -> Any:
        cell = np.zeros(SIZE * SIZE, np.float32)
        cell[min(self._row, SIZE - 1) * SIZE + self._column] = 1.0
        return cell


def learner_of(method: str, spec: Any) -> Any:
    """Return the policy step of a method."""
    if method == "heads":
        return BootstrappedDQN(spec, heads=HEADS, prior=1.0, **NET)
    if method == "counts, values begin high":
        return QLearning(spec, initial_value=1.0, temperature=1e-3, **PLAIN)
    return DQN(spec, double=True, temperature=1e-3, **NET)


class Found(Callback):
    """Ends the search at the first success."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Look at what was collected so far."""
        trainer.should_stop = first_success(trainer.datamodule) <= LIMIT


def first_success(data: IteratedDataModule) -> int:
    """Return the number of the first episode that found the reward, else one beyond the limit."""
    found = data.log.column(REWARD) > 0.5
    return int(data.log.column(EPISODE)[found].min()) + 1 if found.any() else LIMIT + 1


def data_of(method: str, seed: int) -> IteratedDataModule:
    """Return the data step of a method, with its first episodes."""
    bonus: dict[str, list[Any]] = {
        "counts": [CountBonus(0.1, by="cell", of="step", scale=False)],
        "counts, values begin high": [CountBonus(0.1, by="cell", of="step", scale=False)],
        "RND": [RND(1.0, hidden=(64, 64), learning_rate=1e-3)],
    }
    plan = Collection(
        initial_episodes=LIMIT if method == "random actions" else FIRST,
        episodes_per_round=ROUND,
        updates_per_env_step=UPDATES,
        explore=0.1 if method == "a tenth at random" else 0.0,
        sample=False,
        command=OneOf(HEADS) if method == "heads" else None,
    )
    return IteratedDataModule(
        DeepSea, bonus.get(method), collection=plan, batch_size=64, updates_per_step=16, seed=seed
    )


def searched(method: str, seed: int) -> int:
    """Return the episode of the first success of a method."""
    seed_everything(seed, verbose=False)
    data = data_of(method, seed)
    if method != "random actions" and first_success(data) > LIMIT:
        updates = round((LIMIT - ROUND) * SIZE * UPDATES) + 1
        silent_trainer(updates, callbacks=[Found()]).fit(learner_of(method, data.spec), data)
    return first_success(data)


def document(rows: list[Any]) -> None:
    """Rewrite the table of the page."""
    lines = []
    for line in rows:
        each = [str(v) if v <= LIMIT else f"> {LIMIT:,}" for v in line["episodes"]]
        middle = statistics.median(line["episodes"])
        lines.append(
            [
                line["name"],
                f"{middle:.0f}" if middle <= LIMIT else f"> {LIMIT:,}",
                ", ".join(each),
            ]
        )
    text = table(["method", "episodes to the first success, median", "each seed"], lines)
    replace_part(
        PAGE, "deep sea", f"{text}\n\nRandom actions find it once in {2**SIZE:,} episodes."
    )


def main() -> None:
    """Search, and rewrite the page."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS), help="how many, from 0 on")
    parser.add_argument("--choose", action="store_true", help="other seeds, and write nothing")
    given = parser.parse_args()
    quiet()
    seeds = CHOICE_SEEDS if given.choose else FIVE_SEEDS[: given.seeds]
    rows = []
    for method in METHODS:
        found = [
            worlds.kept("first", method, seed, functools.partial(searched, method, seed))
            for seed in seeds
        ]
        episodes = [each["value"] for each in found]
        rows.append(worlds.row(method, found, seeds, episodes=episodes))
    if given.choose:
        return
    write_text(FOUND, json.dumps(rows, indent=1))
    document(rows)


if __name__ == "__main__":
    main()
