"""``hindsight collect``: a Minari dataset from scripted behaviour, a policy, or a planner."""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hindsight_rl.cli.errors import command_parser, json_object, parse, run
from hindsight_rl.cli.planner_words import apart
from hindsight_rl.cli.shards import add_shards, sharing
from hindsight_rl.shards import waiting_folder

if TYPE_CHECKING:
    import gymnasium

    from hindsight_rl.cli.collect_minari import Played
    from hindsight_rl.envs.playing import Limit

_EXAMPLES = """\
examples:
  hindsight collect --env CartPole-v1 --output build/cartpole-mixed-v0
  hindsight collect --env Pendulum-v1 --root data --output pendulum/mixed-v0 --episodes 100
  hindsight collect --env Hindsight/FourRooms-v0 --env_kwargs '{"ends": false}' --output wander-v0
  hindsight collect --env Pendulum-v1 --policy runs/iql-001 --sample --output drawn-v0
  hindsight collect --env CartPole-v1 --policy policy.onnx --explore 0.1 --output explored-v0
  hindsight collect --env Pendulum-v1 --planner cem --planner.horizon 20 --output planned-v0
  hindsight collect --env Pendulum-v1 --planner mppi --model runs/dynamics --output planned-v0
  hindsight collect --env HalfCheetah-v5 --episodes 2000 --output runs-v0 --shards 16

CartPole-v1 and Pendulum-v1 have good and clumsy behaviour, the point mass one that does the task of
the episode and an aimless one, four rooms an aimless one, any other environment a random one. With
{"ends": false} no episode in the rooms ends at the goal that was set, which would give it away. A
name that ends in -v0 can be loaded by its id: MINARI_DATASETS_PATH=data, pendulum/mixed-v0.

Where it is known how likely each executed action was, the dataset has infos/action_log_prob: of
CartPole-v1, Pendulum-v1, the point mass with --good 1 and uniformly random actions, of policies
drawn from their density (--sample) or with choices, --explore included. What {"randomise": ...}
drew for an episode is infos/context."""

_MAX_STEPS = 1000
TRUE = "true"
"""In the place of a model: the environment's own."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``hindsight collect``.

    Args:
        argv: Words after ``collect``; ``None`` takes those of the process.

    Returns:
        Exit code: 0 done, 2 a mistake of the caller.
    """
    return run(_main, argv)


def _main(argv: Sequence[str]) -> int:
    words, options = apart(argv)
    given = parse(_parser(), words)
    given.planner_options = options
    # Behind these lie Gymnasium and Minari, which `--help` need not wait for.
    from hindsight_rl.cli.collect_minari import write_episodes
    from hindsight_rl.envs.interface import make
    from hindsight_rl.files import whole_folder

    if given.max_steps is not None and given.max_steps < 1:
        raise ValueError(f"max_steps is {given.max_steps}, it must be at least 1")
    target = Path(given.root) / given.output
    _check_target(target, overwrite=given.overwrite)
    env = make(given.env, given.env_kwargs, draw=False)
    try:
        played = played_episodes(env, given, range(given.episodes))
        with (
            sharing(given, target, "collect") as shared,
            whole_folder(target, overwrite=given.overwrite) as draft,
        ):
            if shared.workers is not None:
                from hindsight_rl.cli.collect_shards import shard_episodes

                played = played._replace(episodes=shard_episodes(given, target, shared))
            written = write_episodes(draft, env, played, given.output)
        if shared.workers is not None:
            shutil.rmtree(waiting_folder(target))
    finally:
        env.close()
    sys.stdout.write(f"{target}: {written}\n")
    return 0


def played_episodes(
    env: "gymnasium.Env[Any, Any]", given: argparse.Namespace, part: range
) -> "Played":
    """Return some episodes of a command; they are played when they are asked for.

    Args:
        env: The environment.
        given: The arguments of the command.
        part: Numbers of the episodes.

    Returns:
        The episodes.

    Raises:
        ValueError: The arguments do not go together, or not with the environment.
    """
    acts = given.policy or given.planner
    return _of_policy(env, given, part) if acts else _scripted(env, given, part)


def _scripted(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace, part: range) -> "Played":
    """Return episodes of scripted behaviour; probabilities are kept where all of it states them."""
    from hindsight_rl.cli.collect_minari import Played, columns_of
    from hindsight_rl.envs.behaviors import behaviors_for, record, schedule

    if given.planner_options or given.model != TRUE:
        option = [*given.planner_options, "--model"][0].partition("=")[0]
        raise ValueError(f"{option} is of a planner: give --planner NAME, or leave it out")
    for name in ("sample", "explore"):
        if getattr(given, name):
            raise ValueError(f"--{name} is of a policy: give --policy, or leave it out")
    behaviors = behaviors_for(env)
    good = given.good
    if good is None:
        good = 0.1 if any(behavior.good for behavior in behaviors) else 0.0
    plan = schedule(behaviors, given.episodes, good, given.seed)
    limit, stated = _limit(env, given), all(behavior.stated for behavior in plan)

    mine = plan[part.start : part.stop]

    def episodes() -> Iterator[dict[str, Any]]:
        for number, behavior in zip(part, mine, strict=True):
            found = record(env, behavior, (given.seed, number + 1), limit)
            yield columns_of(env, found if stated else replace(found, log_probs=None))

    names = [behavior.name for behavior in mine]
    count = sum(behavior.good for behavior in mine)
    return Played(episodes(), names, "scripted behaviour (hindsight collect)", count)


def _of_policy(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace, part: range) -> "Played":
    """Return episodes of a policy, or of a planner."""
    from hindsight_rl.cli.collect_minari import Played, columns_of
    from hindsight_rl.cli.collect_policy import PolicyEpisodes, acting

    if given.good is not None:
        option = "--planner" if given.planner else "--policy"
        raise ValueError(f"--good is of scripted behaviour: leave it out, or leave out {option}")
    if given.episodes < 1:
        raise ValueError(f"episodes is {given.episodes}, it must be at least 1")
    policy, interface, name = acting(given, env)
    playing = PolicyEpisodes(
        policy,
        env,
        interface,
        explore=given.explore,
        seed=given.seed,
        limit=_limit(env, given),
    )
    if playing.unstated:
        sys.stderr.write(f"no action_log_prob is recorded: {playing.unstated}\n")
    names = [name] * len(part)
    episodes = (columns_of(env, episode) for episode in playing.record(part))
    return Played(episodes, names, f"{name} (hindsight collect)", None)


def _limit(env: "gymnasium.Env[Any, Any]", given: argparse.Namespace) -> "Limit":
    from hindsight_rl.envs.playing import Limit

    return Limit(env, given.max_steps, "--max_steps", given.env, longest=_MAX_STEPS)


def _parser() -> argparse.ArgumentParser:
    about = "Record a log from scripted behaviour, from a fitted policy, or from a planner."
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
        "--planner",
        metavar="NAME",
        help="plan every action: cem, mppi, shooting, ilqr, uct or beam; its settings follow as "
        "--planner.horizon 20",
    )
    parser.add_argument(
        "--model",
        default=TRUE,
        metavar="MODEL",
        help="what the planner plans by: 'true', the environment's own (default); a checkpoint or "
        "run of Dynamics (beam: of TrajectoryTransformer); or module:function",
    )
    parser.add_argument(
        "--sample", action="store_true", help="draw the policy's actions; default: its likeliest"
    )
    parser.add_argument(
        "--explore",
        type=float,
        default=0.0,
        metavar="X",
        help="share of its actions that are drawn uniformly instead (0)",
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
    add_shards(parser, "episodes")
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
