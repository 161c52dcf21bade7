"""``hindsight collect``: a Minari dataset from scripted behaviour, or from a fitted policy."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hindsight_rl.cli.errors import command_parser, json_object, parse, run

if TYPE_CHECKING:
    import gymnasium

    from hindsight_rl.envs.playing import Limit
    from hindsight_rl.envs.recording import Recording

_EXAMPLES = """\
examples:
  hindsight collect --env CartPole-v1 --output build/cartpole-mixed-v0
  hindsight collect --env Pendulum-v1 --root data --output pendulum/mixed-v0 --episodes 100
  hindsight collect --env Hindsight/FourRooms-v0 --env_kwargs '{"ends": false}' --output wander-v0
  hindsight collect --env Pendulum-v1 --policy runs/iql-001 --sample --output drawn-v0
  hindsight collect --env CartPole-v1 --policy policy.onnx --explore 0.1 --output explored-v0

CartPole-v1 and Pendulum-v1 have good and clumsy behaviour, the point mass one that does the task of
the episode and an aimless one, four rooms an aimless one, any other environment a random one. With
{"ends": false} no episode in the rooms ends at the goal that was set, which would give it away. A
name that ends in -v0 can be loaded by its id: MINARI_DATASETS_PATH=data, pendulum/mixed-v0.

Where it is known how likely each executed action was, the dataset has infos/action_log_prob: of
CartPole-v1, Pendulum-v1, the point mass with --good 1 and uniformly random actions, of policies
drawn from their density (--sample) or with choices, --explore included."""

_MAX_STEPS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight collect``.

    Args:
        argv: Words after ``collect``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    given = parse(_parser(), argv)
    # Behind these lie Gymnasium and Minari, which `--help` need not wait for.
    from hindsight_rl.envs.interface import make
    from hindsight_rl.files import whole_folder

    if given.max_steps is not None and given.max_steps < 1:
        raise ValueError(f"max_steps is {given.max_steps}, it must be at least 1")
    target = Path(given.root) / given.output
    _check_target(target, overwrite=given.overwrite)
    env = make(given.env, given.env_kwargs, draw=False)
    try:
        played = _of_policy(env, given) if given.policy else _scripted(env, given)
        with whole_folder(target, overwrite=given.overwrite) as draft:
            written = _write(draft, env, played, given)
    finally:
        env.close()
    sys.stdout.write(f"{target}: {written}\n")
    return 0


class _Played(NamedTuple):
    """What is recorded."""

    episodes: "Iterator[Recording]"
    behaviors: Sequence[str]
    """What played each episode."""
    algorithm: str
    good: int | None
    """How many of them are good, where that is known."""


def _scripted(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace) -> _Played:
    """Return episodes of scripted behaviour; probabilities are kept where all of it states them."""
    from hindsight_rl.envs.behaviors import behaviors_for, record, schedule

    for name in ("sample", "explore"):
        if getattr(given, name):
            raise ValueError(f"--{name} is of a policy: give --policy, or leave it out")
    behaviors = behaviors_for(env)
    good = given.good
    if good is None:
        good = 0.1 if any(behavior.good for behavior in behaviors) else 0.0
    plan = schedule(behaviors, given.episodes, good, given.seed)
    limit, stated = _limit(env, given), all(behavior.stated for behavior in plan)

    def episodes() -> "Iterator[Recording]":
        for number, behavior in enumerate(plan):
            found = record(env, behavior, (given.seed, number + 1), limit)
            yield found if stated else replace(found, log_probs=None)

    names = [behavior.name for behavior in plan]
    count = sum(behavior.good for behavior in plan)
    return _Played(episodes(), names, "scripted behaviour (hindsight collect)", count)


def _of_policy(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace) -> _Played:
    """Return episodes of a policy."""
    from hindsight_rl.cli.collect_policy import PolicyEpisodes

    if given.good is not None:
        raise ValueError("--good is of scripted behaviour: leave it out, or leave out --policy")
    if given.episodes < 1:
        raise ValueError(f"episodes is {given.episodes}, it must be at least 1")
    playing = PolicyEpisodes(
        given.policy,
        env,
        given.env,
        sample=given.sample,
        explore=given.explore,
        seed=given.seed,
        limit=_limit(env, given),
    )
    if playing.unstated:
        sys.stderr.write(f"no action_log_prob is recorded: {playing.unstated}\n")
    names = [str(given.policy)] * given.episodes
    return _Played(
        playing.record(given.episodes), names, f"{given.policy} (hindsight collect)", None
    )


def _limit(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace) -> "Limit":
    from hindsight_rl.envs.playing import Limit

    return Limit(env, given.max_steps, "--max_steps", given.env, longest=_MAX_STEPS)


def _parser() -> argparse.ArgumentParser:
    about = "Record a log from scripted behaviour, or from a fitted policy."
    parser = command_parser("collect", about, _EXAMPLES)
    parser.add_argument("--env", required=True, metavar="ID", help="Gymnasium environment")
    parser.add_argument(
        "--env_kwargs", type=json_object, metavar="JSON", help="arguments of the environment"
    )
    parser.add_argument("--output", required=True, metavar="NAME", help="folder or Minari id")
    parser.add_argument("--root", default=".", metavar="FOLDER", help="where NAME lies (.)")
    parser.add_argument("--episodes", type=int, default=200, metavar="N", help="episodes (200)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed (0)")
    parser.add_argument(
        "--policy",
        type=Path,
        metavar="PATH",
        help="play this: an exported file, a checkpoint, or a run (its best checkpoint)",
    )
    parser.add_argument(
        "--sample", action="store_true", help="draw the policy's actions; default: its likeliest"
    )
    parser.add_argument(
        "--explore",
        type=float,
        default=0.0,
        metavar="X",
        help="share of the policy's actions that are drawn uniformly instead (0)",
    )
    parser.add_argument(
        "--good", type=float, metavar="SHARE", help="share of good episodes (0.1 where there are)"
    )
    parser.add_argument(
        "--max_steps",
        type=int,
        metavar="N",
        help="cut episodes here (default: the environment's limit, and where it has none "
        f"{_MAX_STEPS}, with a warning)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing dataset")
    return parser


def _check_target(target: Path, *, overwrite: bool) -> None:
    from hindsight_rl.logs.errors import LogError

    if not target.exists():
        return
    if not overwrite:
        raise LogError("already exists", "Choose another name or pass --overwrite.", path=target)
    if not (target / "data" / "metadata.json").is_file():
        raise LogError(
            "is no Minari dataset, so it is not overwritten", "Choose another name.", path=target
        )


def _write(
    draft: Path,
    env: "gymnasium.Env[Any, Any]",
    played: _Played,
    given: argparse.Namespace,
) -> str:
    """Record the episodes into a folder and return a line about them."""
    import minari
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_dataset import DATASET_ID_RE
    from minari.dataset.minari_storage import MinariStorage

    from hindsight_rl.files import require_room

    require_room(draft, 0)
    storage = MinariStorage.new(
        draft / "data",
        observation_space=env.observation_space,
        action_space=env.action_space,
        env_spec=env.spec,
    )
    returns: list[float] = []
    steps = 0

    def episodes() -> Iterator[EpisodeBuffer]:
        nonlocal steps
        for number, episode in enumerate(played.episodes):
            returns.append(float(episode.rewards.sum()))
            steps += len(episode.rewards)
            columns = _buffers(env, episode)
            require_room(draft, 2 * _bytes(columns))
            yield EpisodeBuffer(id=number, **columns)

    storage.update_episodes(episodes())
    storage.update_episode_metadata([{"behavior": name} for name in played.behaviors])
    named = DATASET_ID_RE.match(given.output)
    storage.update_metadata(
        {
            "dataset_id": given.output
            if named and named["version"]
            else f"{Path(given.output).name}-v0",
            "minari_version": minari.__version__,
            "algorithm_name": played.algorithm,
        }
    )
    good = "" if played.good is None else f" ({played.good} good)"
    mean = sum(returns) / len(returns)
    return f"{len(returns)} episodes{good}, {steps:,} transitions, mean return {mean:,.1f}"


def _buffers(env: "gymnasium.Env[Any, Any]", episode: "Recording") -> dict[str, Any]:
    import numpy as np

    ends = np.zeros((2, len(episode.rewards)), bool)
    ends[:, -1] = episode.terminated, episode.truncated
    stated = {} if episode.log_probs is None else {"action_log_prob": episode.log_probs}
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
    import numpy as np
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        return {key: _stacked(part, [item[key] for item in items]) for key, part in space.items()}
    if isinstance(space, spaces.Tuple):
        parts = enumerate(space.spaces)
        return tuple(_stacked(part, [item[i] for item in items]) for i, part in parts)
    if isinstance(space, spaces.Text):
        return list(items)
    return np.asarray(items, dtype=space.dtype)
