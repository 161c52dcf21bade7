"""What scripts share that compare pairs of a data step and a policy step."""

import argparse
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

TEST_SEED = 2_000_000


class Pair(NamedTuple):
    """A data step and a policy step.

    Attributes:
        name: In tables.
        config: Packaged configuration.
        updates: Of the fit.
        fast_updates: Of the fit with ``--fast``.
        relabel: The data step, plain data; that of the configuration where it is empty.
        labelled: Whether the fit sees the tasks and rewards of the log.
        options: Further words of the fit.
    """

    name: str
    config: str
    updates: int
    fast_updates: int
    relabel: tuple[dict[str, Any], ...] = ()
    labelled: bool = False
    options: tuple[str, ...] = ()


def begin(description: str, tested_on: str, folder: Path) -> argparse.Namespace:
    """Return the options of the command, and empty its folder.

    Args:
        description: Of the command.
        tested_on: What an episode of a test has fresh, plural.
        folder: What the command writes into.

    Returns:
        ``fast``, ``seed``, ``episodes`` and ``workers``.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--fast", action="store_true", help="a tenth of the log, few updates")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=200, help=f"fresh {tested_on} to test on")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return options


def run_pairs(
    one: Callable[[tuple[str, int, int, bool]], dict[str, Any]],
    keys: Iterable[str],
    options: argparse.Namespace,
    score: str,
) -> list[dict[str, Any]]:
    """Return what each pair reached, in order; its commands and score are printed as it ends.

    Args:
        one: Runs the pair of a job: key, training seed, test episodes, whether to be fast.
        keys: Of the pairs.
        options: Of the command.
        score: Name of the score in a result.

    Returns:
        One result per pair.
    """
    jobs = [(key, options.seed, options.episodes, options.fast) for key in keys]
    found = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        for result in pool.map(one, jobs):
            sys.stdout.write("".join(f"\n$ {line}" for line in result["commands"]) + "\n")
            sys.stdout.write(f"{result['pair']}: {score} {result[score]:.2f}\n")
            sys.stdout.flush()
            found.append(result)
    return found


def table(
    found: Sequence[dict[str, Any]], title: str, score: str, digits: int, mark: tuple[str, float]
) -> str:
    """Return the scores of all pairs, the last first, and one more line to compare them with."""
    width = 2 + max(len(title), len(mark[0]), *(len(row["pair"]) for row in found))
    lines = [f"{title:<{width}}{score:>9}{'ONNX':>8}{'equal':>7}{'fit':>8}"]
    lines += [
        f"{row['pair']:<{width}}{row[score]:>9.{digits}f}{row[f'onnx_{score}']:>8.{digits}f}"
        f"{'yes' if row['equal'] else 'NO':>7}{row['fit_seconds']:>6.0f} s"
        for row in reversed(found)
    ]
    return "\n".join([*lines, f"{mark[0]:<{width}}{mark[1]:>9.{digits}f}"])


def played(policy: Path, env_id: str, number: int) -> np.ndarray:
    """Return the last frame of a test episode of an exported policy."""
    from hindsight_rl.envs.interface import Interface, frame, make
    from hindsight_rl.envs.rollout import episode_seed
    from hindsight_rl.export.runtime import OnnxPolicy

    act, env = OnnxPolicy(policy), make(env_id, draw=True)
    interface = Interface(env, env_id)
    observation, _ = env.reset(seed=episode_seed(TEST_SEED, number))
    done = False
    while not done:
        observation, _, terminated, truncated, _ = env.step(act.act(*interface.see(observation)))
        done = terminated or truncated
    found = frame(env, env_id)
    env.close()
    return found


def tiled(tiles: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Return pictures of one size as one, row by row."""
    lines = [np.concatenate(tiles[at : at + columns], 1) for at in range(0, len(tiles), columns)]
    return np.concatenate(lines, 0)
