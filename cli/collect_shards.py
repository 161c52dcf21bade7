"""Episodes of ``hindsight collect`` played by several processes; each shard is a dataset itself."""

import argparse
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

import torch
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.cli.collect import played_episodes
from hindsight_rl.cli.collect_minari import write_episodes
from hindsight_rl.cli.collect_policy import model_file
from hindsight_rl.cli.runs import chosen_checkpoint
from hindsight_rl.cli.shards import Shared
from hindsight_rl.envs.interface import make
from hindsight_rl.files import whole_folder
from hindsight_rl.plugins import import_named
from hindsight_rl.shards import divided, keep_plan, waiting_folder
from hindsight_rl.workers import each

_ELSEWHERE = ("shards", "ray", "overwrite", "root", "output")  # decide about no episode


class _Shard(NamedTuple):
    """Episodes to play, and the folder they go to."""

    given: argparse.Namespace
    part: range
    folder: str


def shard_episodes(
    given: argparse.Namespace, target: Path, shared: Shared
) -> Iterator[dict[str, Any]]:
    """Yield the columns of all episodes in their order, once all shards are there.

    Args:
        given: The arguments of the command.
        target: What is written.
        shared: Who plays, and in how many shards.

    Yields:
        What one process would have played.

    Raises:
        ValueError: Shards of something else wait there, or a shard cannot be played.
        WorkerError: A process ended without an answer.
    """
    if shared.workers is None:
        raise RuntimeError("nobody shares the work")
    folder = waiting_folder(target).absolute()
    parts = divided(given.episodes, shared.shards)
    keep_plan(folder, _done(given), parts)
    absolute = argparse.Namespace(**vars(given))
    absolute.policy = None if given.policy is None else given.policy.absolute()
    if (file := model_file(given.model)) is not None:
        absolute.model = str(file.absolute())
    shards = [_Shard(absolute, part, str(folder / str(n))) for n, part in enumerate(parts)]
    left = [number for number, shard in enumerate(shards) if not Path(shard.folder).exists()]

    def name(number: int) -> str:
        part = parts[left[number]]
        episodes = f"episodes {part.start} to {part.stop - 1}"
        return f"shard {left[number] + 1} of {len(parts)} ({episodes})"

    for _ in each(shared.workers, play_shard, [shards[number] for number in left], name=name):
        pass
    for shard in shards:
        storage = MinariStorage.read(Path(shard.folder) / "data")
        for episode in storage.get_episodes(range(storage.total_episodes)):
            yield {name: episode[name] for name in _COLUMNS if episode.get(name) is not None}


_COLUMNS = ("observations", "actions", "rewards", "terminations", "truncations", "infos")


def play_shard(shard: _Shard) -> None:
    """Play the episodes of a shard; its folder is whole or absent.

    What is said about the policy or the environment was said by the command already.

    Args:
        shard: Which episodes.
    """
    torch.set_num_threads(1)
    given = shard.given
    import_named(getattr(given, "import") or ())
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        warnings.simplefilter("ignore")
        env = make(given.env, given.env_kwargs, draw=False)
        try:
            with whole_folder(Path(shard.folder)) as draft:
                played = played_episodes(env, given, shard.part)
                write_episodes(draft, env, played, "shard-v0", lossless=True)
        finally:
            env.close()


def _done(given: argparse.Namespace) -> dict[str, Any]:
    """Return what decides about the episodes."""
    found = {name: value for name, value in vars(given).items() if name not in _ELSEWHERE}
    if given.policy is not None:
        file = chosen_checkpoint(given.policy) if given.policy.is_dir() else given.policy
        found["policy_hash"] = hashlib.sha256(file.read_bytes()).hexdigest()
    if (model := model_file(given.model)) is not None:
        found["model_hash"] = hashlib.sha256(model.read_bytes()).hexdigest()
    return found
