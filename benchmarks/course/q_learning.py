"""Q-learning of one log in variants: plain, double, quantiles, soft, Munchausen, prioritised.

    python benchmarks/course/q_learning.py [--seeds 5] [--document]

CartPole; a log of 300 episodes of random actions for every seed, and a fit on it with the same
network, batch, rate and number of updates for every variant. Each has its paper's constants;
nothing was chosen here. The score is the mean return of 20 episodes of at most 500 steps. Finished
fits are kept in build/course/; writes build/course_q_learning.json and the table of
docs/learners/dqn.md; ``--document`` writes the table alone.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, FIVE_SEEDS, ROOT, interval, quiet, silent_trainer, table  # noqa: E402

from hindsight_rl import DQN, Log, OfflineDataModule, Priorities  # noqa: E402
from hindsight_rl.datamodules.collection import Collection  # noqa: E402
from hindsight_rl.datamodules.iterated import IteratedDataModule  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402

worlds.HOME = BUILD / "course" / "q_learning"
CARTPOLE, EPISODES, UPDATES, BATCH, CHUNK = "CartPole-v1", 300, 2_000, 64, 25
PAGE, FOUND = ROOT / "docs" / "learners" / "dqn.md", BUILD / "course_q_learning.json"
# Arguments of DQN, and of the draws of rows.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {
    "DQN": ({}, None),
    "double": ({"double": True}, None),
    "quantiles": ({"quantiles": 50}, None),
    "soft": ({"soft": 0.03}, None),
    "Munchausen": ({"soft": 0.03, "munchausen": 0.9}, None),
    "double, prioritised": ({"double": True}, {"corrected_after": UPDATES}),
}


@functools.cache
def random_log(seed: int) -> Log:
    """Return episodes of random actions."""
    played = IteratedDataModule(
        CARTPOLE, collection=Collection(initial_episodes=EPISODES), seed=seed
    )
    columns = {key: played.log.column(key) for key in played.log.keys()}
    found = Log.from_columns(columns, played.log.info)
    played.teardown("fit")
    return found


def fitted(options: dict[str, Any], draws: dict[str, Any] | None, seed: int) -> float:
    """Return the score of a variant."""
    seed_everything(seed, verbose=False)
    data = OfflineDataModule(
        random_log(seed),
        batch_size=BATCH,
        updates_per_step=CHUNK,
        seed=seed,
        priorities=None if draws is None else Priorities(**draws),
    )
    learner = DQN(data.spec, network=worlds.SMALL, optimizer=worlds.adam, compile="off", **options)
    silent_trainer(UPDATES).fit(learner, data)
    return worlds.score(learner, CARTPOLE)


def document(rows: list[Any]) -> None:
    """Write the table of the page."""
    cells = []
    for each in rows:
        spread = (each["mean"], each["low"], each["high"]), each["more"]
        means = [f"{mean:.0f} [{low:.0f}, {high:.0f}]" for mean, low, high in spread]
        cells.append([each["name"], *means, f"{each['seconds']:.0f}"])
    header = ["variant", "return, mean [95 %]", "more than DQN, same seeds", "s of a fit"]
    replace_part(PAGE, "course", table(header, cells))


def main() -> None:
    """Fit what is not kept, write, document."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(FIVE_SEEDS), help="how many")
    parser.add_argument("--document", action="store_true", help="write the table alone")
    options = parser.parse_args()
    quiet()
    if options.document:
        document(json.loads(FOUND.read_text()))
        return
    seeds, rows, plain = FIVE_SEEDS[: options.seeds], [], []
    for name, (arguments, draws) in VARIANTS.items():
        found = [
            worlds.kept("cartpole", name, seed, functools.partial(fitted, arguments, draws, seed))
            for seed in seeds
        ]
        values = [each["value"] for each in found]
        plain = plain or values
        more = interval([one - other for one, other in zip(values, plain, strict=True)])
        rows.append(worlds.row(name, found, seeds, more=more))
    write_text(FOUND, json.dumps(rows, indent=1))
    if len(seeds) == len(FIVE_SEEDS):
        document(rows)


if __name__ == "__main__":
    main()
