"""What is checked before a judgement: that the log can judge, and policies have names."""

from collections.abc import Sequence

from hindsight_rl.diagnostics.ope.episodes import Episodes
from hindsight_rl.keys import REWARD
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.training.given import GivenPolicy


def name_policies(given: Sequence[GivenPolicy], names: Sequence[str] | None) -> None:
    """Give policies names that tell them apart.

    Args:
        given: The policies; those of one name get numbers.
        names: Names of the caller, ``None`` to keep their own.

    Raises:
        ValueError: Two names are alike, or there are more or fewer than policies.
    """
    if names is None:
        own = [policy.name for policy in given]
        for place, policy in enumerate(given):
            if own.count(policy.name) > 1:
                policy.name = f"{policy.name} {own[: place + 1].count(own[place])}"
        return
    if len(names) != len(given) or len(set(names)) < len(names):
        raise ValueError(
            f"names are {list(names)} of {len(given)} policies: give each policy one of its own"
        )
    for policy, name in zip(given, names, strict=True):
        policy.name = name


def check_log(log: Log, episodes: Episodes) -> None:
    """Check that a log can judge.

    Args:
        log: The log.
        episodes: Its episodes.

    Raises:
        LogError: Its rows span several steps.
        ValueError: It has one episode, or no rewards.
    """
    if "discount" in log:
        raise LogError(
            "the log has a column discount, so that its rows span several steps and hold the "
            "rewards of its own actions, not of a policy that is judged",
            "Judge by the log as it was recorded, before NStep relabeled it.",
            path=log.sources[0].name,
        )
    count = len(episodes.first)
    if count < 2:
        raise ValueError(
            f"{log.sources[0].name}: {count} episode: an interval needs at least 2, and is worth "
            "something from about 20"
        )
    if not bool(log.column(REWARD).any()):
        raise ValueError(
            f"{log.sources[0].name}: all rewards are 0, so that every policy is worth 0. Give the "
            "log rewards: relabel it ('hindsight relabel'), or name their column in the column map"
        )
