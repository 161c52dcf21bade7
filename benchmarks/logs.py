"""Write logs of our own as Minari datasets below build/logs (``make logs``).

    python benchmarks/logs.py [--only pointmaze,halfcheetah,hopper] [--root build/logs]

Point mazes: scripted behaviour of mixed quality, in a minute. HalfCheetah and Hopper: SAC is
trained from scratch on what it collects, about 20 minutes each; what it collected becomes
``replay``, fresh episodes drawn from the policy half way ``medium``, from the last one ``final``.
What is there is kept, and a training that was interrupted goes on from its newest checkpoint:
delete a folder to make it again. In the end every log is read back and described, and every
checkpoint plays evaluation episodes, so the same command prints the numbers again.
"""

import argparse
import contextlib
import functools
import io
import json
import logging
import re
import shutil
import statistics
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import torch
from gymnasium import spaces
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import CSVLogger
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.agents.sac import SAC
from hindsight_rl.cli.main import main as hindsight
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.diagnostics.evaluation import episodes as play
from hindsight_rl.files import whole_folder
from hindsight_rl.keys import key_of
from hindsight_rl.logs.packed import Column, PackedColumns
from hindsight_rl.logs.reading import read_log
from hindsight_rl.training.checkpoints.callbacks import Checkpoints
from hindsight_rl.training.checkpoints.file import read_checkpoint
from hindsight_rl.training.checkpoints.load import load_learner

ROOT = Path(__file__).resolve().parents[1] / "build" / "logs"
MAZES = {"umaze": ("UMaze", 1000), "medium": ("Medium", 600)}
# Environment, and updates of the training: as many as steps in the environment.
ROBOTS = {"halfcheetah": ("HalfCheetah-v5", 200_000), "hopper": ("Hopper-v5", 150_000)}
# Share of the training after which the policy of a part is taken.
POLICIES = {"medium": 0.5, "final": 1.0}
ROWS, EVALUATIONS = 50_000, 10
# Seed of the episodes of ``medium`` and ``final``; the training's is 0.
SEED = 500


# ------------------------------------------------------------------ point mazes


def write_mazes(root: Path, share: float) -> None:
    """Write the logs of the point mazes with the command that users have.

    Args:
        root: Folder of the logs.
        share: Of the episodes that are meant, for a try.
    """
    for name, (maze, count) in MAZES.items():
        target = f"pointmaze/{name}-v0"
        if (root / target).exists():
            continue
        words = ["--env", f"gymnasium_robotics:PointMaze_{maze}-v3", "--good", "0.2"]
        words += ["--env_kwargs", '{"continuing_task": false}', "--root", str(root)]
        words += ["--episodes", str(max(2, round(share * count))), "--output", target]
        with contextlib.redirect_stdout(io.StringIO()):  # described below like all others
            if hindsight(["collect", *words]):
                raise SystemExit("error: 'hindsight collect' failed, see above")


# ------------------------------------------------------------------ training


def train(env: str, folder: Path, updates: int) -> None:
    """Train SAC on its own episodes, or go on where it was stopped.

    Args:
        env: Gymnasium id.
        folder: Gets ``replay`` and ``checkpoints``, one every quarter.
        updates: As many, and as many steps in the environment.
    """
    there = checkpoints(folder)
    if updates in there:
        return
    if not there and (folder / "replay").exists():  # killed before its first checkpoint
        shutil.rmtree(folder / "replay")
    seed_everything(0, verbose=False)
    data = IteratedDataModule(
        env,
        collection=Collection(initial_episodes=10, episodes_per_round=1, num_envs=1),
        memory_map=str(folder / "replay"),
        seed=0,
    )
    learner = SAC(
        data.spec,
        evaluation=Evaluation(env=env, every=10_000, episodes=5),
        threads=1,
        optimizer=functools.partial(torch.optim.Adam, lr=3e-4, fused=True),
    )
    every = max(1, updates // 4)
    trainer = Trainer(
        max_steps=updates,
        max_epochs=-1,
        accelerator="cpu",
        logger=CSVLogger(folder),
        callbacks=[Checkpoints(folder / "checkpoints", every=every, keep=-1)],
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=5000,
    )
    trainer.fit(learner, data, ckpt_path=there[max(there)] if there else None, weights_only=True)


def checkpoints(folder: Path) -> dict[int, Path]:
    """Return the checkpoints of a training by the number of updates in their names, in order."""
    found = {}
    for path in (folder / "checkpoints").glob("*step=*.ckpt"):
        number = re.search(r"step=(\d+)$", path.stem)
        if number:
            found[int(number[1])] = path
    return dict(sorted(found.items()))


# ------------------------------------------------------------------ logs of a training


def write_robot(name: str, root: Path, updates: int | None, rows: int) -> None:
    """Train, and write the three logs of a robot.

    Args:
        name: The robot.
        root: Folder of the logs.
        updates: Updates in place of those in ``ROBOTS``, for a try.
        rows: Of the logs of a policy; the replay has twice as many.
    """
    folder, (env, usual) = root / "training" / name, ROBOTS[name]
    updates = updates or usual
    train(env, folder, updates)
    there = checkpoints(folder)
    target = root / name / "replay-v0"
    if not target.exists():
        columns, lengths = replay_of(folder, there[updates])
        chosen = spread(lengths, 2 * rows)
        write(target, env, columns, lengths, chosen, f"SAC, replay of {updates} updates")
    for part, share in POLICIES.items():
        target = root / name / f"{part}-v0"
        if target.exists():
            continue
        at = min(there, key=lambda number, share=share: abs(number - share * updates))
        columns, lengths = fresh(there[at], env, rows)
        write(target, env, columns, lengths, range(len(lengths)), f"SAC after {at} updates")


def replay_of(folder: Path, checkpoint: Path) -> tuple[dict[Any, torch.Tensor], torch.Tensor]:
    """Return the columns of the replay of a training, and the length of each episode."""
    state = read_checkpoint(checkpoint)["IteratedDataModule"]["replay"]
    columns = {
        key_of(name): Column(start, tuple(shape), dtype)
        for name, (start, shape, dtype) in state["columns"].items()
    }
    first, stop = state["window"]
    shape = stop, sum(column.width for column in columns.values())
    words = np.memmap(folder / "replay" / "matrix.bin", np.float32, "r", 0, shape)
    block = PackedColumns(torch.from_numpy(np.array(words[first:])), columns)
    return {key: block.column(key) for key in columns}, state["lengths"]


def spread(lengths: torch.Tensor, rows: int) -> list[int]:
    """Return episodes spread evenly over a training, with about so many rows in all."""
    step = max(1.0, float(lengths.sum()) / rows)
    return [int(number * step) for number in range(int(len(lengths) / step))]


def fresh(checkpoint: Path, env: str, rows: int) -> tuple[dict[Any, torch.Tensor], torch.Tensor]:
    """Return episodes of a policy, its actions drawn, with at least so many rows."""
    learner = load_learner(checkpoint)
    collector = Collector(env, seed=SEED, num_envs=1)

    def policy(observation: Any, task: Any, draws: torch.Tensor) -> Any:
        with torch.inference_mode():
            return learner.act(torch.as_tensor(observation), draws=draws).numpy()

    parts, total, number = [], 0, 0
    while total < rows:
        parts.append(collector.collect(policy, number, 1, None))
        total, number = total + int(parts[-1].lengths.sum()), number + 1
    collector.close()
    names = parts[0].columns
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in names}
    return columns, torch.cat([part.lengths for part in parts])


# ------------------------------------------------------------------ Minari


def write(
    target: Path,
    env_id: str,
    columns: Mapping[Any, torch.Tensor],
    lengths: torch.Tensor,
    chosen: Sequence[int],
    who: str,
) -> None:
    """Write episodes as a Minari dataset, under a temporary name that is then renamed.

    Args:
        target: Folder of the dataset, ``.../NAME/PART-v0``.
        env_id: Gymnasium id.
        columns: ``[M, ...]`` by key, all episodes.
        lengths: ``[E]`` int64.
        chosen: Episodes that are written.
        who: Whose episodes they are.
    """
    env = gymnasium.make(env_id)
    try:
        with whole_folder(target) as draft:
            storage = MinariStorage.new(
                draft / "data",
                observation_space=spaces.Box(
                    -np.inf, np.inf, env.observation_space.shape, np.float32
                ),
                action_space=env.action_space,
                env_spec=env.spec,
            )
            storage.update_episodes(buffers(columns, lengths, chosen))
            about = {"dataset_id": f"{target.parent.name}/{target.name}", "algorithm_name": who}
            storage.update_metadata(about | {"minari_version": minari.__version__})
    finally:
        env.close()


def buffers(
    columns: Mapping[Any, torch.Tensor], lengths: torch.Tensor, chosen: Sequence[int]
) -> Iterator[EpisodeBuffer]:
    """Yield episodes as Minari keeps them: one observation more than actions."""
    stops = lengths.cumsum(0).tolist()
    for number, episode in enumerate(chosen):
        rows = slice(stops[episode] - int(lengths[episode]), stops[episode])
        held = {key: value[rows].numpy() for key, value in columns.items()}
        last = held["next", "observation"][-1:]
        yield EpisodeBuffer(
            id=number,
            observations=np.concatenate([held["observation"], last]),
            actions=held["action"],
            rewards=held["next", "reward"],
            terminations=held["next", "terminated"],
            truncations=held["next", "truncated"],
        )


# ------------------------------------------------------------------ what came of it


def describe(path: Path) -> dict[str, Any]:
    """Return what a log holds: rows, episodes, returns, how they ended, megabytes."""
    log = read_log(path)
    rewards, episode = log.column(("next", "reward")), log.column("episode")
    returns = torch.zeros(log.episodes).index_add_(0, episode, rewards)
    ended = log.column(("next", "terminated"))[log.episode_ends()]
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return {
        "log": f"{path.parent.name}/{path.name}",
        "rows": len(log),
        "episodes": log.episodes,
        "return": round(float(returns.mean()), 2),
        "quartiles": [
            round(float(q), 2) for q in returns.quantile(torch.tensor([0.25, 0.5, 0.75]))
        ],
        "terminated": round(float(ended.float().mean()), 3),
        "mean_length": round(len(log) / log.episodes, 1),
        "megabytes": round(size / 1e6, 1),
    }


def behaviours(path: Path) -> dict[str, list[float]]:
    """Return episodes, share that reached the goal and mean length by scripted behaviour."""
    log, storage = read_log(path), MinariStorage.read(path / "data")
    names = [facts["behavior"] for facts in storage.get_episode_metadata(range(log.episodes))]
    ends = log.episode_ends()
    reached = log.column(("next", "terminated"))[ends].tolist()
    lengths = (log.column("step")[ends] + 1).tolist()
    found = {}
    for name in dict.fromkeys(names):
        mine = [number for number, other in enumerate(names) if other == name]
        share = statistics.fmean(reached[number] for number in mine)
        length = statistics.fmean(lengths[number] for number in mine)
        found[name] = [len(mine), round(share, 3), round(length, 1)]
    return found


def how_far(name: str, root: Path) -> Iterator[dict[str, Any]]:
    """Yield the mean return of every checkpoint of a training over evaluation episodes."""
    for updates, path in checkpoints(root / "training" / name).items():
        learner = load_learner(path, evaluation={"env": ROBOTS[name][0]})
        returns = play(learner, EVALUATIONS, learner.evaluation.seed).returns
        mean, std = round(float(returns.mean()), 1), round(float(returns.std()), 1)
        yield {"sac": name, "updates": updates, "return": mean, "std": std}


def tell(line: Mapping[str, Any]) -> None:
    """Print a line of JSON."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Write what is missing and describe everything."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = ["pointmaze", *ROBOTS]
    parser.add_argument("--only", default=",".join(names), help=f"some of {', '.join(names)}")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the logs")
    parser.add_argument("--updates", type=int, help="of each training, for a try")
    parser.add_argument("--rows", type=int, default=ROWS, help="of each policy; replay: twice that")
    parser.add_argument("--share", type=float, default=1.0, help="of maze episodes, for a try")
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := [name for name in chosen if name not in names]:
        sys.stderr.write(f"error: --only {unknown[0]}: choose of {', '.join(names)}\n")
        return 2
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    for part in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{part}").setLevel(logging.ERROR)
    for name in chosen:
        if name == "pointmaze":
            write_mazes(given.root, given.share)
        else:
            write_robot(name, given.root, given.updates, given.rows)
        for path in sorted((given.root / name).iterdir()):
            tell(describe(path) | ({"behaviours": behaviours(path)} if name == "pointmaze" else {}))
        for line in how_far(name, given.root) if name in ROBOTS else ():
            tell(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
