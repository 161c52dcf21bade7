"""Commands: what a policy is asked for while it collects: a return, a goal, one of K.

A policy that was cloned under the returns of a log does what its command says. To improve, it needs
commands above what it has reached. A command is drawn at the start of every episode, as a function
of the replay and the draws alone. Every reward received lowers a return; other commands are held.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from hindsight_rl.envs.rollout import lowered
from hindsight_rl.maths.draws import integers, normal, uniform
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.advantage import LinearAdvantage
from hindsight_rl.tasks.skewed import Skew, SkewedGoals

_SKEW = Skew()


def _lowered(task: Tensor, reward: Tensor) -> Tensor:
    return torch.from_numpy(lowered(task.numpy(), reward.numpy()))


def episode_returns(log: LogView) -> tuple[Tensor, Tensor]:
    """Return the undiscounted return ``[E]`` float64 and the steps ``[E]`` of every episode."""
    reward, episode = log.column(("next", "reward")).double(), log.column("episode")
    steps = (log.column("episode_end") - torch.arange(len(log)) + 1)[log.column("step") == 0]
    return torch.zeros(len(steps), dtype=torch.float64).index_add_(0, episode, reward), steps


class RecentReturn:
    """Commands about the largest recent return: normal around it, with the spread of recent ones.

    Args:
        episodes: How many of the newest episodes are recent, at least 1.
        initial: Task of the first episodes, which are played at random.
        lower: Lower the command by the rewards received; False holds it.

    Raises:
        ValueError: ``episodes`` is below 1.

    Reference:
        Kumar, Peng and Levine 2019, arXiv 1912.13465, section 4.3 (RCP-R).
    """

    def __init__(self, episodes: int = 20, initial: float = 0.0, lower: bool = True) -> None:
        _check_episodes(episodes)
        self.episodes, self.lower = episodes, lower
        self.initial: Sequence[float] = [initial]

    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, 1]``, reward units.
        """
        recent = episode_returns(log)[0][-self.episodes :]
        spread = recent.std(correction=0)
        return (recent.max() + spread * normal(draws)).float().unsqueeze(-1)

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks ``[n, 1]`` after steps that earned ``[n]``."""
        return _lowered(task, reward) if self.lower else task


class BestReturn:
    """Commands a return somewhat above the best ones, in as many steps as those took.

    Args:
        episodes: How many of the best episodes count, at least 1.
        initial: Return and steps of the first episodes, which are played at random.
        horizon: Command the number of steps, too.

    Raises:
        ValueError: ``episodes`` is below 1.

    Reference:
        Srivastava, Shyam, Mutz, Jaskowski and Schmidhuber 2019, arXiv 1912.02877, section 2.2.4:
        return uniform over [M, M + S], mean and standard deviation of the best; their mean length.
    """

    def __init__(
        self,
        episodes: int = 25,
        initial: tuple[float, float] = (0.0, 1.0),
        horizon: bool = True,
    ) -> None:
        _check_episodes(episodes)
        self.episodes, self.horizon = episodes, horizon
        self.initial: Sequence[float] = initial if horizon else initial[:1]

    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, 2]``, reward units and steps; ``[n, 1]`` without a horizon.
        """
        total, steps = episode_returns(log)
        best = total.argsort(descending=True, stable=True)[: self.episodes]
        mean, spread = total[best].mean(), total[best].std(correction=0)
        asked = (mean + spread * uniform(draws)).float()
        if not self.horizon:
            return asked.unsqueeze(-1)
        length = steps[best].double().mean().round().float()
        return torch.stack([asked, length.expand_as(asked)], dim=-1)

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks ``[n, Z]`` after steps that earned ``[n]``."""
        return _lowered(task, reward)


class BestAdvantage:
    """Commands about the largest advantage at every step: normal around it, with their spread.

    Args:
        advantage: How advantages are computed; the relabeler of the data step.
        initial: Task of the first episodes, which are played at random.

    Reference:
        Kumar, Peng and Levine 2019, arXiv 1912.13465, section 4.3 (RCP-A).
    """

    def __init__(self, advantage: LinearAdvantage | None = None, initial: float = 0.0) -> None:
        self.advantage = advantage or LinearAdvantage()
        self.initial: Sequence[float] = [initial]
        self._seen: tuple[LogView | None, Tensor] = (None, torch.empty(0))

    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, 1]``, reward units.
        """
        if self._seen[0] is not log:  # once a round: all rows are looked at
            self._seen = log, self.advantage.prepare(log).columns["advantage"]
        found = self._seen[1]
        return (found.max() + found.std(correction=0) * normal(draws)).unsqueeze(-1)

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks ``[n, 1]``, which stay: every step has the same command."""
        return task


class OneOf:
    """Commands one of K, drawn anew for every episode and held: a skill, or the head that acts.

    The first episodes, which are played at random, are of none: their task is 0 throughout.

    Args:
        count: K, at least 1.
        in_place_of_goals: Where the environment shows goals, let this be the task instead.

    Raises:
        ValueError: ``count`` is below 1.

    Reference:
        Skills: Eysenbach et al. 2019, arXiv 1802.06070; heads: Osband et al. 2016, arXiv
        1602.04621.
    """

    def __init__(self, count: int = 10, in_place_of_goals: bool = False) -> None:
        if count < 1:
            raise ValueError(f"count is {count}, it must be at least 1")
        self.count, self.in_place_of_goals = count, in_place_of_goals
        self.initial: Sequence[float] = [0.0] * count

    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes; not looked at.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, K]``, one-hot.
        """
        return torch.nn.functional.one_hot(integers(draws, self.count), self.count).float()

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks ``[n, K]``, which are held."""
        return task


class RareGoal:
    """Commands places that were rarely reached, in the place of an environment's own goals.

    The reward that the environment gives is then that of another goal: have a relabeler judge all
    rows anew, as ``SkewedGoal`` does. The first episodes, which are played at random, keep the
    goals of the environment.

    Args:
        skew: How much more often rare places are drawn, and their density.

    Reference:
        Pong et al. 2020, arXiv 1903.03698, algorithm 1, line 5.
    """

    in_place_of_goals = True

    def __init__(self, skew: Skew = _SKEW) -> None:
        self.skew = skew
        self.initial: Sequence[float] = []  # those of the environment
        self._seen: tuple[LogView | None, SkewedGoals | None] = (None, None)

    def start(self, log: LogView, draws: Tensor) -> Tensor:
        """Return the tasks of new episodes.

        Args:
            log: The replay before the episodes.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, Z]``, places that were reached.
        """
        known, goals = self._seen
        if goals is None or known is not log:  # once a round: all rows are looked at
            goals = self.skew.goals(log)
            self._seen = log, goals
        return goals.sample(draws)

    def step(self, task: Tensor, reward: Tensor) -> Tensor:
        """Return the tasks ``[n, Z]``, which are held."""
        return task


def _check_episodes(episodes: int) -> None:
    if episodes < 1:
        raise ValueError(f"episodes is {episodes}, it must be at least 1")
