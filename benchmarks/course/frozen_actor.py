"""Going on from a cloned policy with new critics: at once, or with the actor frozen at first.

    python benchmarks/course/frozen_actor.py [--seeds 5] [--choose]

A policy is cloned from 10 good episodes of a pendulum (TD3+BC with value_weight 0), its critics are
left as they were drawn. Then TD3 goes on from it in the environment, 5,000 steps with an update for
each: with the actor frozen for the first 1,000 updates or not, with layer norm in the critics or
not. Scores are 20 episodes, before and after every 500 updates. Finished fits are kept in
build/course/frozen_actor; writes build/course_frozen_actor.json and a table of docs/transfer.md.
Settings were chosen with ``--choose``, on a seed that is not reported.
"""

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import evidence  # noqa: E402
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, ROOT, silent_trainer, spread, table  # noqa: E402

from hindsight_rl import (  # noqa: E402
    TD3BC,
    Collection,
    IteratedDataModule,
    Network,
    OfflineDataModule,
    read_log,
)
from hindsight_rl.cli.main import main as hindsight  # noqa: E402
from hindsight_rl.training.checkpoints.load import load_learner  # noqa: E402

worlds.HOME = BUILD / "course" / "frozen_actor"
CLONING, GOING_ON, EVERY, FROZEN = 3_000, 5_000, 500, 1_000
VALUES = 1e3  # beside which cloning is nothing: TD3
METHODS = {
    f"{'actor frozen at first' if frozen else 'at once'}{', layer norm' if norm else ''}": (
        frozen,
        norm,
    )
    for norm in (False, True)
    for frozen in (0, FROZEN)
}
LEARNER: dict[str, Any] = {"optimizer": worlds.adam, "compile": "off"}


def network(norm: bool) -> Network:
    """Return the networks, with layer norm in the critics or not."""
    return Network(hidden=(64, 64), critic_norm=norm)


def cloned(norm: bool, seed: int) -> Path:
    """Return the checkpoint of a clone of good episodes, its critics as they were drawn."""
    path = worlds.HOME / f"clone{'-norm' if norm else ''}-{seed}.ckpt"
    if path.exists():
        return path
    folder = worlds.HOME / "logs" / f"good-{seed}"
    words = ["collect", "--env", worlds.PENDULUM, "--good", "1", "--episodes", "10"]
    if not folder.exists() and hindsight([*words, "--seed", str(seed), "--output", str(folder)]):
        raise SystemExit(1)
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(read_log(folder), batch_size=128, seed=seed)
    never = {"critic": CLONING}
    clone = TD3BC(data.spec, network=network(norm), value_weight=0, freeze=never, **LEARNER)
    trainer = silent_trainer(CLONING)
    trainer.fit(clone, data)
    trainer.save_checkpoint(path)
    return path


class Curve(Callback):
    """Keeps the scores during a fit."""

    def __init__(self) -> None:
        self.scores: list[float] = []

    def on_train_batch_end(self, trainer: Any, learner: Any, *rest: Any) -> None:
        """Score, every so many updates."""
        if trainer.global_step >= EVERY * (len(self.scores) + 1):
            self.scores.append(worlds.score(learner))
            learner.train()


def gone_on(frozen: int, norm: bool, seed: int) -> dict[str, float]:
    """Return the scores of the clone, of the worst and mean moment after it, and of the end."""
    start = cloned(norm, seed)
    seed_everything(seed, verbose=False)
    collection = Collection(initial_episodes=1, episodes_per_round=1, num_envs=1)
    data = IteratedDataModule(
        worlds.PENDULUM, collection=collection, batch_size=128, updates_per_step=50, seed=seed
    )
    policy = TD3BC(
        data.spec,
        network=network(norm),
        value_weight=VALUES,
        weights_from=str(start),
        freeze={"actor": frozen} if frozen else None,
        **LEARNER,
    )
    before, curve = worlds.score(load_learner(start)), Curve()
    silent_trainer(GOING_ON, callbacks=[curve]).fit(policy, data)
    scores = curve.scores
    return {
        "before": before,
        "worst": min(scores),
        "mean": sum(scores) / len(scores),
        "end": scores[-1],
    }


def rows_of(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every method; one seed after the other is fitted."""
    found: dict[str, list[Any]] = {}
    for seed in seeds:
        for name, (frozen, norm) in METHODS.items():
            one = worlds.kept("scores", name, seed, lambda: gone_on(frozen, norm, seed))  # noqa: B023
            found.setdefault(name, []).append(one)
    return [
        worlds.row(
            f"{name}: {part}",
            [{"value": one["value"][part], "seconds": one["seconds"]} for one in each],
            seeds,
            method=name,
            part=part,
        )
        for name, each in found.items()
        for part in ("before", "worst", "mean", "end")
    ]


def document(rows: list[Any]) -> None:
    """Rewrite the table of docs/transfer.md."""
    found = {(line["method"], line["part"]): line for line in rows}
    lines = []
    for name in METHODS:
        cells = [found[name, part] for part in ("before", "worst", "mean", "end")]
        lines.append([name, *map(spread, cells), f"{cells[0]['seconds']:.0f}"])
    note = (
        f"Mean return of {worlds.TESTS} episodes over {len(rows[0]['seeds'])} seeds, Student's "
        f"95 % intervals: of the clone, of the worst of the {GOING_ON // EVERY} moments after it, "
        "of their mean, and of the last."
    )
    shown_table = table(["TD3 goes on", "clone", "worst", "mean", "end", "s"], lines)
    replace_part(ROOT / "docs" / "transfer.md", "frozen", f"{note}\n\n{shown_table}")


if __name__ == "__main__":
    evidence.run("frozen_actor", __doc__, rows_of, document, lambda: rows_of(CHOICE_SEEDS[:1]))
