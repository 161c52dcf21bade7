"""Critics that read what a simulator drew, beside policies that do not, on pendulums that differ.

    python benchmarks/course/asymmetric.py [--seeds 5] [--learners SAC PPO] [--document]

Gravity and mass of Pendulum-v1 are drawn for every episode. SAC takes 6,000 steps and PPO 60,000,
with a critic that reads both numbers and with one that does not; the policy sees the observation
alone. Scores are mean returns of 50 test episodes, whose pendulums are the same for all. Settings
are those of docs/imagined.md's SAC and of benchmarks/course/on_policy.py's PPO: none was chosen
here. Finished fits are kept in build/course/asymmetric; writes build/course_asymmetric.json and the
table of docs/transfer.md. --document writes what there is and fits nothing.
"""

import argparse
import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, FIVE_SEEDS, ROOT, quiet, silent_trainer, spread, table  # noqa: E402

from hindsight_rl import PPO, SAC, IteratedDataModule  # noqa: E402
from hindsight_rl.datamodules.collection import Collection  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402

worlds.HOME = BUILD / "course" / "asymmetric"
WORLD = {"randomise": {"g": [7.0, 13.0], "m": [0.8, 1.2]}}
READS: dict[str, tuple[str, ...]] = {"the observation": (), "g and m, too": ("context",)}
LEARNERS = ("SAC", "PPO")
TESTS, TEST_SEED = 50, 2_000_000


def fitted(learner: str, reads: tuple[str, ...], seed: int) -> float:
    """Return the score of a policy whose critic reads some columns."""
    seed_everything(seed, verbose=False)
    torch.set_num_threads(1)
    options: dict[str, Any] = {"env_kwargs": WORLD, "seed": seed}
    own: dict[str, Any] = {"critic_reads": reads, "compile": "off"}
    if learner == "SAC":
        collection = Collection(initial_episodes=5, episodes_per_round=1, num_envs=1)
        data = IteratedDataModule(worlds.PENDULUM, collection=collection, batch_size=128, **options)
        policy: Any = SAC(data.spec, network=worlds.SMALL, optimizer=worlds.adam, **own)
        updates = 6_000
    else:
        collection = Collection(initial_episodes=8, steps_per_round=4096, epochs=10, num_envs=8)
        data = IteratedDataModule(worlds.PENDULUM, collection=collection, batch_size=64, **options)
        adam = functools.partial(torch.optim.Adam, lr=1e-3, eps=1e-5, fused=True)
        policy = PPO(data.spec, discount=0.9, optimizer=adam, **own)
        updates = 60_000 * 10 // 64
    silent_trainer(updates).fit(policy, data)
    act = policy.eval().player()
    found = rollout(
        act, worlds.PENDULUM, episodes=TESTS, seed=TEST_SEED, env_kwargs=WORLD, spec=policy.spec
    )
    return float(found.returns.mean())


def rows_of(learners: list[str], seeds: tuple[int, ...], *, fit: bool) -> list[Any]:
    """Return a row for every learner and critic, of the seeds that were fitted."""
    rows = [(learner, name, reads) for learner in learners for name, reads in READS.items()]
    found: dict[tuple[str, str], list[tuple[int, Any]]] = {}
    for seed in seeds:  # seed by seed, so that an early end leaves pairs
        for learner, name, reads in rows:
            if fit or worlds.place(learner, name, seed).exists():
                run = functools.partial(fitted, learner, reads, seed)
                one = worlds.kept(learner, name, seed, run)
                found.setdefault((learner, name), []).append((seed, one))
    return [
        worlds.row(
            f"{learner}: critic reads {name}",
            [value for _, value in each],
            [seed for seed, _ in each],
            learner=learner,
            reads=name,
        )
        for (learner, name), each in found.items()
    ]


def document(rows: list[Any]) -> None:
    """Rewrite the table of docs/transfer.md."""
    cells = [
        (
            line["learner"],
            line["reads"],
            len(line["seeds"]),
            spread(line),
            f"{line['seconds']:.0f}",
        )
        for line in rows
    ]
    header = ("learner", "the critic reads", "seeds", "return [95 %]", "s")
    replace_part(ROOT / "docs" / "transfer.md", "asymmetric", table(header, cells))


def main() -> None:
    """Fit what is not kept, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--document", action="store_true")
    options = parser.parse_args()
    quiet()
    seeds = FIVE_SEEDS[: options.seeds]
    rows = rows_of(options.learners, seeds, fit=not options.document)
    write_text(BUILD / "course_asymmetric.json", json.dumps(rows, indent=1))
    document(rows)


if __name__ == "__main__":
    main()
