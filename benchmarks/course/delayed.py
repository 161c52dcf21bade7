"""Rounds collected by the policy of the round before, beside rounds of the newest policy.

    python benchmarks/course/delayed.py [--seeds 5] [--choose]

SAC on a pendulum: 3 episodes of random actions, then rounds of 1 or of 5 episodes, with an update
for each step, up to 6,000 steps. Scores are 20 test episodes after 3,000 steps and at the end. All
values are those of benchmarks/imagined/online.py. Finished fits are kept in build/course/delayed;
writes build/course_delayed.json and a table of docs/iterated-data.md.
"""

import functools
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import evidence  # noqa: E402
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, ROOT, silent_trainer, spread, table  # noqa: E402

from hindsight_rl import SAC, Collection, IteratedDataModule  # noqa: E402

worlds.HOME = BUILD / "course" / "delayed"
MOMENTS = (3_000, 6_000)
METHODS = {
    f"rounds of {count}, {'one round older' if delayed else 'newest policy'}": (count, delayed)
    for count in (1, 5)
    for delayed in (False, True)
}


class Scores(Callback):
    """Keeps the score at some updates."""

    def __init__(self) -> None:
        self.scores: dict[int, float] = {}

    def on_train_batch_end(self, trainer: Any, learner: Any, *rest: Any) -> None:
        """Score, once at or after each of the moments."""
        for moment in MOMENTS:
            if moment not in self.scores and trainer.global_step >= moment:
                self.scores[moment] = worlds.score(learner)
                learner.train()


def scored(count: int, delayed: bool, seed: int) -> dict[str, float]:
    """Return the scores of a fit."""
    seed_everything(seed, verbose=False)
    data = IteratedDataModule(
        worlds.PENDULUM,
        collection=Collection(3, count, num_envs=count, delayed=delayed, background=delayed),
        batch_size=128,
        seed=seed + 10,  # evaluation episodes have seeds of their own
    )
    policy = SAC(data.spec, network=worlds.SMALL, optimizer=worlds.adam, compile="update")
    scores = Scores()
    silent_trainer(MOMENTS[-1], callbacks=[scores]).fit(policy, data)
    return {str(moment): score for moment, score in scores.scores.items()}


def rows_of(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every method and moment."""
    rows = []
    for name, (count, delayed) in METHODS.items():
        fits = [
            worlds.kept("fits", name, seed, functools.partial(scored, count, delayed, seed))
            for seed in seeds
        ]
        for moment in MOMENTS:
            found = [{**fit, "value": fit["value"][str(moment)]} for fit in fits]
            rows.append(worlds.row(f"{name}, {moment:,} steps", found, seeds, method=name))
    return rows


def document(rows: list[Any]) -> None:
    """Rewrite the table."""
    lines = []
    for name in METHODS:
        first, last = (row for row in rows if row["method"] == name)
        lines.append((name, len(first["seeds"]), spread(first), spread(last)))
    header = ("SAC, Pendulum", "seeds", *(f"after {moment:,} steps [95 %]" for moment in MOMENTS))
    replace_part(ROOT / "docs" / "iterated-data.md", "delayed", table(header, lines))


if __name__ == "__main__":
    evidence.run("delayed", __doc__, rows_of, document, lambda: rows_of(CHOICE_SEEDS[:1]))
