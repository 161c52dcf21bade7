"""Episodes of ``hindsight collect`` as a Minari dataset."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_dataset import DATASET_ID_RE
from minari.dataset.minari_storage import MinariStorage

from hindsight_rl.envs.recording import Recording
from hindsight_rl.files import require_room


class Played(NamedTuple):
    """What is recorded.

    Attributes:
        episodes: Columns of each episode, as Minari keeps them.
        behaviors: What played each episode.
        algorithm: What played them all.
        good: How many of them are good, where that is known.
    """

    episodes: Iterator[dict[str, Any]]
    behaviors: Sequence[str]
    algorithm: str
    good: int | None


def write_episodes(
    draft: Path,
    env: gymnasium.Env[Any, Any],
    played: Played,
    name: str,
    *,
    lossless: bool = False,
) -> str:
    """Record the episodes into a folder and return a line about them.

    Args:
        draft: The folder.
        env: The environment.
        played: The episodes.
        name: Of the dataset.
        lossless: Keep images as they are; Minari makes JPEGs of them otherwise.

    Returns:
        How many, and their mean return.

    Raises:
        ValueError: The environment cannot be named in a dataset.
    """
    require_room(draft, 0)
    if env.spec is not None and callable(env.spec.entry_point):
        raise ValueError(
            f"{env.spec.id} is registered with an object, which a dataset cannot name: register it "
            "with entry_point='module:Class'"
        )
    storage = MinariStorage.new(
        draft / "data",
        observation_space=env.observation_space,
        action_space=env.action_space,
        env_spec=env.spec,
        jpeg_encoding=not lossless,
    )
    returns: list[float] = []
    steps = 0

    def episodes() -> Iterator[EpisodeBuffer]:
        nonlocal steps
        for number, columns in enumerate(played.episodes):
            returns.append(float(columns["rewards"].sum()))
            steps += len(columns["rewards"])
            require_room(draft, 2 * _bytes(columns))
            yield EpisodeBuffer(id=number, **columns)

    storage.update_episodes(episodes())
    storage.update_episode_metadata([{"behavior": name} for name in played.behaviors])
    named = DATASET_ID_RE.match(name)
    storage.update_metadata(
        {
            "dataset_id": name if named and named["version"] else f"{Path(name).name}-v0",
            "minari_version": minari.__version__,
            "algorithm_name": played.algorithm,
        }
    )
    good = "" if played.good is None else f" ({played.good} good)"
    mean = sum(returns) / len(returns)
    return f"{len(returns)} episodes{good}, {steps:,} transitions, mean return {mean:,.1f}"


def columns_of(env: gymnasium.Env[Any, Any], episode: Recording) -> dict[str, Any]:
    """Return the columns of an episode, as Minari keeps them.

    Args:
        env: Where it was played.
        episode: What was played.

    Returns:
        Arrays, nested where the spaces are.
    """
    ends = np.zeros((2, len(episode.rewards)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    stated = {} if episode.log_probs is None else {"action_log_prob": episode.log_probs}
    if episode.context is not None:
        stated["context"] = np.tile(episode.context, (len(episode.rewards), 1))
    return {
        "observations": _stacked(env.observation_space, episode.observations),
        "actions": _stacked(env.action_space, episode.actions),
        "rewards": episode.rewards,
        "terminations": ends[0],
        "truncations": ends[1],
    } | ({"infos": stated} if stated else {})


def _bytes(columns: Any) -> int:
    """Return the size of arrays, nested ones and texts included."""
    if isinstance(columns, dict):
        return sum(map(_bytes, columns.values()))
    if isinstance(columns, (list, tuple)):
        return sum(map(_bytes, columns))
    return int(getattr(columns, "nbytes", len(str(columns))))


def _stacked(space: Any, items: Sequence[Any]) -> Any:
    """Return observations or actions as Minari keeps them: arrays, structured as the space is."""
    if isinstance(space, spaces.Dict):
        return {key: _stacked(part, [item[key] for item in items]) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
        return tuple(_stacked(part, [item[i] for item in items]) for i, part in parts)
    if isinstance(space, spaces.Text):
        return list(items)
    return np.asarray(items, dtype=space.dtype)
