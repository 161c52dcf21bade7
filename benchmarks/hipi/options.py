"""Options of transition-level inverse RL: few candidates, log Z, ascent, a learned sampler.

    python benchmarks/hipi/options.py [PART ...] [--updates 3000] [--seeds 2]

``posterior``: what few candidates and few rows for log Z cost the posterior of a SAC that was
trained shortly on wandering in four rooms. ``corners`` and ``mass``: what the options beyond the
paper bring, after equal updates on a log of wandering. Numbers go to build/hipi/options.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from lightning.pytorch import Trainer
from torch import Tensor
from wandering import Floats, mass_log, mass_step, rooms_log

import hindsight_rl.envs  # noqa: F401  registers the environments
from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.four_corners import CORNERS
from hindsight_rl.envs.four_rooms import draw_position, step_many
from hindsight_rl.envs.point_mass import HIGH, LOW
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, uniform
from hindsight_rl.maths.posterior import log_partition, sample_tasks, task_posterior
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.ascent import AscendTask
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.learned_task import LearnedTask
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.soft_scores import SoftScores
from hindsight_rl.tasks.family import DiscreteTasks, GoalReaching
from hindsight_rl.tasks.linear import LinearTasks

OUTPUT = Path("build/hipi/options.json")
GOALS = GoalReaching(1.0)
DISCOUNT = 0.98
SMALL = Network(hidden=(64, 64))
ROOMS: dict[str, Any] = {
    "network": replace(SMALL, frequencies=3),
    "value_range": (-50.0, 0.0),
}
HALF: dict[str, Any] = {"fraction": 0.5, "entropy_scale": 0.0}
COUNTS = (2, 4, 8, 16, 32, 64)


# --- fits -----------------------------------------------------------------------------------------


def fitted(
    log: Log, relabel: list[Relabeler], updates: int, seed: int, **learner: Any
) -> tuple[SAC, OfflineDataModule, float]:
    """Return a SAC of 2 x 64 units after so many updates, its data, and the seconds of CPU time.

    Args:
        log: The log.
        relabel: Relabelers in order.
        updates: Updates of 128 rows.
        seed: Seed of weights and draws.
        **learner: Further options of the SAC.

    Returns:
        SAC, data, seconds.
    """
    data = OfflineDataModule(
        log, relabel, batch_size=128, updates_per_step=8, seed=seed, prefetch=False
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sac = SAC(
            data.spec,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
            compile="off",
            threads=1,
            discount=DISCOUNT,
            tau=0.02,
            **{"network": SMALL} | learner,
        )
    trainer = Trainer(
        max_steps=updates,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    start = time.process_time()
    trainer.fit(sac, data)
    return sac, data, time.process_time() - start


# --- the posterior --------------------------------------------------------------------------------


def posterior_table(updates: int) -> list[dict[str, Any]]:
    """Return what few candidates, and few rows for log Z, leave of the posterior."""
    relabel = [RandomTask(GOALS), TransitionInverseRL(GOALS, candidates=16, **HALF)]
    sac, data, _ = fitted(rooms_log(), relabel, updates, 100, **ROOMS)
    size, batches = 256, 8
    data.batch_size = size
    chunk = data._sampler().chunk(updates, batches)
    soft = SoftScores(GOALS, sac.soft_values, 0.0)
    chunk["task"] = data.relabel.relabelers[1].family.sample(chunk["draws"])
    rows = soft.rows(chunk)
    with torch.no_grad():
        tasks = chunk["task"].repeat_interleave(size, 0)
        scores = soft(rows.reshape(-1), tasks).unflatten(0, (batches, size))
    log_z = log_partition(scores)
    table = []
    for count in (*COUNTS, size):
        table.append({"candidates": count, "rows": size} | _quality(scores, log_z, count, size))
    for scored in COUNTS:
        table.append({"candidates": 32, "rows": scored} | _quality(scores, log_z, 32, scored))
    return table


def _quality(scores: Tensor, exact: Tensor, candidates: int, scored: int) -> dict[str, float]:
    """Return how good the sampled tasks are, judged by log Z of all rows; 20 draws of candidates.

    ``excess``: mean of score - log Z of the tasks that rows get; ``objective``: that plus the
    entropy of the posterior, what relabeling maximises.
    """
    batches, size, _ = scores.shape
    excess, objective = [], []
    for repeat in range(20):
        draws = counters(repeat, torch.arange(batches), torch.arange(size))
        order = uniform(draws, 3).argsort(-1)
        chosen = order[:, :candidates]
        few = scores.gather(2, chosen.unsqueeze(1).expand(batches, size, candidates))
        known = exact.gather(1, chosen)
        speaking = torch.zeros(batches, size, dtype=torch.bool)
        speaking.scatter_(1, uniform(draws, 4).argsort(-1)[:, :scored], True)
        q = task_posterior(few, partition=log_partition(few, speaking))
        drawn = sample_tasks(q, uniform(draws, 5)).unsqueeze(-1)
        over = few - known.unsqueeze(1)
        entropy = -torch.special.xlogy(q, q).sum(-1)
        excess.append(float(over.gather(2, drawn).mean()))
        objective.append(float(((q * over).sum(-1) + entropy).mean()))
    return {"excess": statistics.mean(excess), "objective": statistics.mean(objective)}


# --- what the options bring -----------------------------------------------------------------------


def corners_success(sac: SAC, episodes: int = 400) -> float:
    """Return the share of episodes that reach their corner within 75 steps."""
    generator = np.random.default_rng(555)
    place = np.stack([draw_position(generator) for _ in range(episodes)])
    corner = np.arange(episodes) % 4
    task, done = np.eye(4, dtype=np.float32)[corner], np.zeros(episodes, np.bool_)
    for _ in range(75):
        action = sac.act_numpy(place.astype(np.float32), task)
        place = step_many(place, action, generator.standard_normal(episodes))
        done |= np.linalg.norm(place - CORNERS[corner], axis=1) <= 1.0
    return float(done.mean())


def corners_table(updates: int, seeds: int) -> list[dict[str, Any]]:
    """Return success on four corners after equal updates, by how log Z and tasks are found."""
    family, tasks = DiscreteTasks(GOALS, CORNERS.tolist()), np.eye(4).tolist()
    plain: dict[str, Any] = {"tasks": tasks} | HALF
    arms: dict[str, Callable[[], list[Relabeler]]] = {
        "random tasks": lambda: [RandomTask(family)],
        "log Z of the update": lambda: [
            RandomTask(family),
            TransitionInverseRL(family, **plain),
        ],
        "without log Z": lambda: [
            RandomTask(family),
            TransitionInverseRL(family, **plain, partition=False),
        ],
        "running log Z, rate 0.05": lambda: [
            RandomTask(family),
            TransitionInverseRL(family, **plain, partition="running"),
        ],
        "learned sampler, 32 of 128 rows": lambda: [
            RandomTask(family),
            LearnedTask(tasks, family, scored=32, **HALF),
        ],
    }
    log = rooms_log()
    return _arms(arms, log, corners_success, updates, seeds, ROOMS)


def mass_table(updates: int, seeds: int) -> list[dict[str, Any]]:
    """Return the return on linear tasks of a point mass, with ascent and with whitening."""
    log = mass_log()
    family, whitened = LinearTasks(LOW, HIGH), LinearTasks(LOW, HIGH, whiten=True)
    few: dict[str, Any] = {"candidates": 8} | HALF
    arms: dict[str, Callable[[], list[Relabeler]]] = {
        "random tasks": lambda: [RandomTask(family)],
        "inverse RL, 8 candidates": lambda: [
            RandomTask(family),
            TransitionInverseRL(family, **few),
        ],
        "inverse RL + ascent, 2 steps of 0.2": lambda: [
            RandomTask(family),
            TransitionInverseRL(family, **few),
            AscendTask(family, steps=2, rate=0.2, scored=8, **HALF),
        ],
        "random tasks, whitened": lambda: [RandomTask(whitened)],
        "inverse RL, whitened": lambda: [
            RandomTask(whitened),
            TransitionInverseRL(whitened, **few),
        ],
    }
    matrix = whitened.prepare(log).whitening
    assert matrix is not None
    turn = np.linalg.inv(matrix.numpy().T).astype(np.float32)

    def returns(sac: SAC, turned: bool) -> float:
        return mass_return(sac, turn if turned else np.eye(5, dtype=np.float32))

    found = []
    for name, arm in arms.items():
        measure = lambda sac, name=name: returns(sac, "whitened" in name)  # noqa: E731
        found += _arms({name: arm}, log, measure, updates, seeds, {})
    return found


def mass_return(sac: SAC, turn: Floats, episodes: int = 200) -> float:
    """Return the mean return over 100 steps on tasks of the prior, plain rewards.

    Args:
        sac: The policy.
        turn: ``[5, 5]``, from weights of plain features to those the policy knows.
        episodes: Number of tasks.

    Returns:
        Reward units.
    """
    generator = np.random.default_rng(555)
    weights = generator.uniform(LOW, HIGH, (episodes, 5)).astype(np.float32)
    known = weights @ turn.T
    # Only the direction of weights matters: into the box the policy was trained on.
    known = known / np.maximum(1.0, np.abs(known).max(1, keepdims=True))
    start = np.concatenate([generator.uniform(-1, 1, (episodes, 2)), np.zeros((episodes, 2))], 1)
    state, total = start.astype(np.float32), np.zeros(episodes)
    for _ in range(100):
        action = np.clip(sac.act_numpy(state, known), -1, 1)
        state = mass_step(state, action)
        features = np.concatenate([state, np.square(action).sum(1, keepdims=True)], 1)
        total += (weights * features).sum(1)
    return float(total.mean())


def _arms(
    arms: dict[str, Callable[[], list[Relabeler]]],
    log: Log,
    measure: Callable[[SAC], float],
    updates: int,
    seeds: int,
    learner: dict[str, Any],
) -> list[dict[str, Any]]:
    """Return what each arm reaches, seed by seed."""
    table = []
    for name, arm in arms.items():
        values, seconds = [], []
        for seed in range(100, 100 + seeds):
            sac, _, took = fitted(log, arm(), updates, seed, **learner)
            values.append(measure(sac))
            seconds.append(took)
        row = {"arm": name, "mean": statistics.mean(values), "values": values}
        row["us_per_update"] = statistics.mean(seconds) / updates * 1e6
        table.append(row)
        print(f"  {name}: {row['mean']:.3f}  {[round(v, 3) for v in values]}", flush=True)
    return table


def show(name: str, table: list[dict[str, Any]]) -> None:
    """Print a table and keep it in the file."""
    found = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps(found | {name: table}, indent=1))
    keys = [key for key in table[0] if key != "values"]
    print(f"\n{name}\n| {' | '.join(keys)} |\n|{'---|' * len(keys)}")
    for row in table:
        cells = [f"{row[k]:.3g}" if isinstance(row[k], float) else str(row[k]) for k in keys]
        print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure what is asked for."""
    parts = ("posterior", "corners", "mass")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=parts)
    parser.add_argument("--updates", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    measures: dict[str, Callable[[], list[dict[str, Any]]]] = {
        "posterior": lambda: posterior_table(options.updates),
        "corners": lambda: corners_table(options.updates, options.seeds),
        "mass": lambda: mass_table(options.updates, options.seeds),
    }
    for part in options.parts:
        show(part, measures[part]())


if __name__ == "__main__":
    main()
