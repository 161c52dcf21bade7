"""PPO and TRPO beside stable-baselines3's PPO: returns after equal steps, and seconds.

    python benchmarks/course/on_policy.py [--seeds 5] [--tasks CartPole-v1] [--choose] [--document]
    python benchmarks/course/on_policy.py --time-only

All play 8 environments in one process. PPO has the same networks, rates, batches, passes and steps
of a round as theirs; TRPO has the same rounds, and all else of their contributed TRPO. Ours play
whole episodes, theirs cuts them; ours count the random episodes of their normaliser too. The 50
test episodes are the same for all, and actions are the likeliest. Seconds are those of the
processor, fitting alone. Finished fits are kept in build/course/on_policy; writes
build/course_on_policy.json and the tables of docs/learners/ppo.md and docs/learners/trpo.md.
--choose fits on seeds that are not reported. --document writes what there is and fits nothing.
--time-only takes turns with few steps of ours and of theirs in one process, and prints wall times
and their ratio. Needs the extras ``evidence`` and ``mujoco``.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import (  # noqa: E402
    BUILD,
    CHOICE_SEEDS,
    FIVE_SEEDS,
    ROOT,
    interval,
    quiet,
    say,
    silent_trainer,
    table,
)

from hindsight_rl import PPO, TRPO, IteratedDataModule  # noqa: E402
from hindsight_rl.datamodules.collection import Collection  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402

worlds.HOME = BUILD / "course" / "on_policy"
ENVS, BATCH, PASSES = 8, 64, 10
TESTS, TEST_SEED = 50, 2_000_000
# Steps in all, steps of a round, rate, discount.
TASKS: dict[str, tuple[int, int, float, float]] = {
    "CartPole-v1": (50_000, 2048, 3e-4, 0.99),
    "InvertedPendulum-v5": (50_000, 2048, 3e-4, 0.99),
    "Pendulum-v1": (100_000, 4096, 1e-3, 0.9),
}
METHODS = ("PPO", "TRPO", "PPO of stable-baselines3")
# Steps of a timed fit, and pairs of them.
TIMED, PAIRS = 6_144, 5


class UntilSteps(Callback):
    """Ends a fit with the round in which so many steps were taken."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Stop once the last update of that round is made."""
        last = trainer.datamodule.history[-1]
        trainer.should_stop = last.env_steps >= self._steps and trainer.global_step >= last.end


def ours(task: str, method: str, seed: int) -> tuple[Any, int]:
    """Return a fitted policy of this package as ``act``, and the steps it took."""
    steps, rounds, rate, discount = TASKS[task]
    learn, batch = PPO, BATCH
    own: dict[str, Any] = {
        "optimizer": functools.partial(torch.optim.Adam, lr=rate, eps=1e-5, fused=True)
    }
    if method == "TRPO":
        learn, batch, own = TRPO, 128, {}
    act, history = trained(task, learn, seed, steps, rounds, batch, discount=discount, **own)
    return act, history[-1].env_steps


def trained(
    task: str, learn: Any, seed: int, steps: int, rounds: int, batch: int, **own: Any
) -> tuple[Any, list[Any]]:
    """Return a policy fitted in rounds, as ``act``, and the rounds, the random one first."""
    seed_everything(seed, verbose=False)
    collection = Collection(
        initial_episodes=8, steps_per_round=rounds, epochs=PASSES, num_envs=ENVS
    )
    data = IteratedDataModule(task, collection=collection, batch_size=batch, seed=seed)
    learner = learn(data.spec, compile="off", **own)
    silent_trainer(10**9, callbacks=[UntilSteps(steps)]).fit(learner, data)
    return learner.eval().player(), data.history


def theirs(task: str, seed: int, steps: int = 0) -> tuple[Any, int]:
    """Return a fitted policy of stable-baselines3 as ``act``, and the steps it took."""
    import stable_baselines3
    from stable_baselines3.common.env_util import make_vec_env

    most, rounds, rate, discount = TASKS[task]
    model = stable_baselines3.PPO(
        "MlpPolicy",
        make_vec_env(task, n_envs=ENVS, seed=seed),
        n_steps=rounds // ENVS,
        batch_size=BATCH,
        n_epochs=PASSES,
        learning_rate=rate,
        gamma=discount,
        seed=seed,
        device="cpu",
    ).learn(steps or most)
    return lambda observation: model.predict(observation, deterministic=True)[
        0
    ], model.num_timesteps


def fitted(task: str, method: str, seed: int) -> dict[str, float]:
    """Return mean return of the test episodes, steps, and seconds of the fit."""
    begun = time.process_time()
    act, steps = theirs(task, seed) if method == METHODS[-1] else ours(task, method, seed)
    seconds = time.process_time() - begun
    found = rollout(act, task, episodes=TESTS, seed=TEST_SEED)
    return {"score": float(found.returns.mean()), "steps": steps, "seconds": seconds}


def row_of(
    task: str, method: str, seeds: tuple[int, ...], *, fitted_only: bool = False
) -> dict[str, Any] | None:
    """Return a row of the evidence; of the seeds that were fitted, ``None`` for no seed, if so."""
    if fitted_only:
        seeds = tuple(seed for seed in seeds if worlds.place(task, method, seed).exists())
    values = [
        worlds.kept(task, method, s, functools.partial(fitted, task, method, s))["value"]
        for s in seeds
    ]
    if not values:
        return None
    mean, low, high = interval([each["score"] for each in values])
    seconds = sum(each["seconds"] for each in values) / len(values)
    steps = sum(each["steps"] for each in values) / len(values)
    spread = {"mean": mean, "low": low, "high": high, "seeds": list(seeds), "seconds": seconds}
    return {"name": f"{task}: {method}", "task": task, "method": method, **spread, "steps": steps}


def written(rows: list[dict[str, Any]]) -> None:
    """Write the file of the evidence and the tables of the pages."""
    path = BUILD / "course_on_policy.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))
    header = ("task", "learner", "seeds", "steps", "return [95 %]", "s")
    for page, shown in (("ppo", METHODS), ("trpo", METHODS[:2])):
        cells = [
            (
                row["task"],
                row["method"],
                len(row["seeds"]),
                f"{row['steps']:,.0f}",
                f"{row['mean']:.0f} [{row['low']:.0f}, {row['high']:.0f}]",
                f"{row['seconds']:.0f}",
            )
            for row in rows
            if row["method"] in shown
        ]
        replace_part(ROOT / "docs" / "learners" / f"{page}.md", "course", table(header, cells))


def timed(tasks: list[str]) -> None:
    """Print wall times of few steps, ours and theirs by turns, and their ratio."""
    torch.set_num_threads(1)
    for task in tasks:
        _, rounds, rate, discount = TASKS[task]
        adam = functools.partial(torch.optim.Adam, lr=rate, eps=1e-5, fused=True)
        found: list[tuple[float, float]] = []
        for seed in range(PAIRS + 1):  # the first pair warms up
            begun = time.perf_counter()
            _, history = trained(
                task, PPO, seed, TIMED, rounds, BATCH, discount=discount, optimizer=adam
            )
            between = time.perf_counter()
            _, steps = theirs(task, seed, TIMED)
            ended = time.perf_counter()
            own = history[-1].env_steps - history[0].env_steps  # of those that are learned from
            found.append(((between - begun) / own * 1e3, (ended - between) / steps * 1e3))
        ms, their = (statistics.median(each) for each in zip(*found[1:], strict=True))
        ratio = statistics.median(ours / theirs for ours, theirs in found[1:])
        say(
            f"{task}: ms of a step {ms:.3f}, stable-baselines3 {their:.3f}; ratio {ratio:.2f} "
            f"(medians of {PAIRS} pairs of {TIMED:,} steps)"
        )


def main() -> int:
    """Run what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--document", action="store_true")
    parser.add_argument("--time-only", action="store_true")
    given = parser.parse_args()
    quiet()
    if given.time_only:
        timed(given.tasks)
        return 0
    seeds = CHOICE_SEEDS if given.choose else FIVE_SEEDS[: given.seeds]
    pairs = [(task, method) for task in given.tasks for method in METHODS]
    if not given.document:  # seed by seed, so that an early end leaves a bit of everything
        for seed in seeds:
            for pair in pairs:
                row_of(*pair, (seed,))
    rows = [row_of(*pair, seeds, fitted_only=True) for pair in pairs]
    if not given.choose:
        written([row for row in rows if row is not None])
    return 0


if __name__ == "__main__":
    sys.exit(main())
