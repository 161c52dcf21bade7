"""Who corrects the policy while it collects, how often the expert acts, and what that may cost."""

from dataclasses import dataclass, field
from typing import Literal

from hindsight_rl.maths.mixing import linear_share, listed_share, power_share
from hindsight_rl.planners.planner import Planner
from hindsight_rl.relabel.experts import ExpertFunction


@dataclass(frozen=True)
class Beta:
    """The share in which the expert acts, round by round; round 0 is that of the first data.

    Args:
        values: Share of each round, in [0, 1]; the last holds on. Not used with another schedule.
        linear: n, at least 1: the share is max(0, 1 - i / n) in round i.
        power: p, in [0, 1]: the share is p^i in round i.
        per: What one draw decides: a ``"step"``, or an ``"episode"``, whose actions then belong
            together.

    Raises:
        ValueError: A number is out of range, or two schedules are given.
    """

    values: tuple[float, ...] = (1.0, 0.0)
    linear: int | None = None
    power: float | None = None
    per: Literal["step", "episode"] = "step"

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.linear is not None and self.power is not None:
            raise ValueError("beta.linear and beta.power are two schedules: give one of them")
        if not self.values or not all(0 <= value <= 1 for value in self.values):
            raise ValueError(f"beta.values is {list(self.values)}: give shares in [0, 1]")
        if self.linear is not None and self.linear < 1:
            raise ValueError(f"beta.linear is {self.linear}, it must be at least 1")
        if self.power is not None and not 0 <= self.power <= 1:
            raise ValueError(f"beta.power is {self.power}, it must lie in [0, 1]")
        if self.per not in ("step", "episode"):
            raise ValueError(f"beta.per is {self.per!r}, it must be 'step' or 'episode'")

    def share(self, number: int) -> float:
        """Return the share of a round.

        Args:
            number: Of the round, from 0.

        Returns:
            beta_i, in [0, 1].
        """
        if self.linear is not None:
            return linear_share(self.linear, number)
        if self.power is not None:
            return power_share(self.power, number)
        return listed_share(self.values, number)


@dataclass(frozen=True)
class Expert:
    """Who is asked in every state that is visited, and acts in a share of them (DAgger).

    Args:
        act: An exported file (``policy.onnx``); ``module:function`` or from Python a function
            (observations ``[1, O]``, tasks ``[1, Z]`` or ``None``, the environment) -> actions
            ``[1, ...]``, in which the expert may see what the policy does not;
            ``"environment"``: what the environment names in ``metadata["expert"]``; ``None``:
            nobody, states are collected without labels.
        beta: How often it acts.
        noise: Standard deviation, in action units, of normal noise that is added to what the expert
            executes; its label stays the clean action (DART). At least 0.
        max_queries: Questions after which it is asked, and acts, no more; ``None`` for no limit.
        max_rows: No round begins once so many rows were collected; ``None`` for no limit.
        max_episodes: Episodes that are collected at most; ``None`` for no limit.
        demonstrations: What was executed in a source without labels was the expert's action.
        planner: Plans what to do, in the place of ``act``: with ``warm_start: false`` every state
            afresh, as the last plan belongs to what the expert itself would have done.
        model: What the planner plans by: ``"true"``, the environment's own; a checkpoint of
            ``Dynamics``; or ``module:function``.
        sees_context: The expert is shown the numbers that ``randomise`` drew for the episode behind
            the observation, as an environment with ``show_context`` shows them.

    Raises:
        ValueError: A number is out of range, or two experts are given.

    Reference:
        Ross, Gordon and Bagnell 2011, arXiv 1011.0686, algorithm 3.1; Laskey et al. 2017, arXiv
        1703.09327 (``noise``).
    """

    act: str | ExpertFunction | None = None
    beta: Beta = field(default_factory=Beta)
    noise: float = 0.0
    max_queries: int | None = None
    max_rows: int | None = None
    max_episodes: int | None = None
    demonstrations: bool = False
    planner: Planner | None = None
    model: str = "true"
    sees_context: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.planner is not None and self.act is not None:
            raise ValueError("expert.act and expert.planner are two experts: give one of them")
        if self.planner is None and self.model != "true":
            raise ValueError(f"expert.model is {self.model}, and nobody plans: give expert.planner")
        if self.sees_context and not self.act:
            raise ValueError("expert.sees_context is of expert.act: name a teacher that reads it")
        if not self.noise >= 0:
            raise ValueError(f"expert.noise is {self.noise}, it may not be negative")
        for name in ("max_queries", "max_rows", "max_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"expert.{name} is {value}, it must be at least 1")

    def spent(self, rows: int, episodes: int) -> bool:
        """Return whether nothing more is collected.

        Args:
            rows: Collected so far.
            episodes: Collected so far.

        Returns:
            Whether a budget is used up.
        """
        budgets = ((rows, self.max_rows), (episodes, self.max_episodes))
        return any(most is not None and used >= most for used, most in budgets)
