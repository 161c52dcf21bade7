"""What is collected in rounds, and how."""

from dataclasses import dataclass

from hindsight_rl.datamodules.expert import Expert
from hindsight_rl.datamodules.sources.episodes import Command


@dataclass(frozen=True)
class Collection:
    """Episodes that a policy plays while it is trained.

    Args:
        initial_episodes: Episodes of the first round, at least 1, or 0 where there is a source: the
            policy then collects from the first round on.
        episodes_per_round: Episodes of every further round, at least 1.
        steps_per_round: Steps, at least 1, in the place of ``episodes_per_round``: further episodes
            begin until a round has taken so many, and all that begin are played to their end. How
            many that are depends on ``num_envs``. ``None``: the episodes are counted.
        updates_per_env_step: Updates after a round for each step it took, above 0.
        epochs: Makes rounds on-policy: only the last one's rows are in the replay, and they are
            served in so many shuffled passes, at least 1, in the place of updates by
            ``updates_per_env_step``. Episodes played at random are for the normaliser alone.
            ``None``: off-policy.
        explore: Share of uniformly random actions in the further rounds, in [0, 1].
        sample: Draw the policy's actions; False takes their mode.
        num_envs: Environments in lockstep, at least 1.
        max_episode_steps: Steps after which an episode is cut (truncated), at least 1; ``None``:
            the environment's own limit, and 10,000 steps, with a warning, where it has none.
        command: Gives tasks where the environment does not, and changes them after each step.
        expert: Who is asked what to do in every state that is visited, and acts in a share of them;
            rows then have ``expert_action`` and ``by_expert``. ``None`` for nobody.
        max_stuck: Steps, at least 1, after which an episode is cut (truncated) that stayed within
            ``stuck_radius`` of where they began; ``None``: none is.
        stuck_radius: In the units of what was achieved, or else of the observation; at least 0.
        delayed: Collect each round when the one before it is added, by the policy as it is then:
            one round of updates older than it would be.
        background: Collect such rounds while updates run, with the same bits; needs ``delayed``.

    Raises:
        ValueError: An argument is out of range.
    """

    initial_episodes: int = 20
    episodes_per_round: int = 8
    steps_per_round: int | None = None
    updates_per_env_step: float = 1.0
    epochs: int | None = None
    explore: float = 0.0
    sample: bool = True
    num_envs: int = 8
    max_episode_steps: int | None = None
    command: Command | None = None
    expert: Expert | None = None
    max_stuck: int | None = None
    stuck_radius: float = 0.0
    delayed: bool = False
    background: bool = False

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, least in (
            ("initial_episodes", 0),
            ("episodes_per_round", 1),
            ("steps_per_round", 1),
            ("epochs", 1),
            ("num_envs", 1),
            ("max_episode_steps", 1),
            ("max_stuck", 1),
            ("stuck_radius", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"collection.{name} is {value}, it must be at least {least}")
        if not self.updates_per_env_step > 0:
            raise ValueError(
                f"collection.updates_per_env_step is {self.updates_per_env_step}, it must be "
                "above 0"
            )
        most = None if self.expert is None else self.expert.max_episodes
        if most is not None and self.initial_episodes > most:
            raise ValueError(
                f"collection.initial_episodes is {self.initial_episodes}, and the expert's "
                f"max_episodes {most}: give fewer, or a larger budget"
            )
        if not 0 <= self.explore <= 1:
            raise ValueError(f"collection.explore is {self.explore}, it must lie in [0, 1]")
        if self.epochs is not None and self.explore:
            raise ValueError(
                f"collection.explore is {self.explore}, and rounds of epochs are on-policy: set it "
                "to 0, or epochs to null"
            )
        if self.epochs is not None and self.delayed:
            raise ValueError(
                "collection.delayed is true, and rounds of epochs are on-policy: set it to false, "
                "or epochs to null"
            )
        if self.background and not self.delayed:
            raise ValueError(
                "collection.background is true, and what is collected while updates run is a round "
                "older: set collection.delayed to true"
            )
        if self.steps_per_round is not None and most is not None:
            raise ValueError(
                "collection.steps_per_round may begin more episodes than the expert's max_episodes "
                "allow: give episodes_per_round in its place"
            )

    def updates(self, steps: int, batch_size: int) -> int:
        """Return the updates after a round of the policy.

        Args:
            steps: That the round took, at least 1; with ``epochs`` rows that are drawn.
            batch_size: Rows per update.

        Returns:
            At least 1.
        """
        if self.epochs is not None:
            return max(1, self.epochs * steps // batch_size)
        return max(1, round(self.updates_per_env_step * steps))

    @property
    def stuck(self) -> tuple[int, float] | None:
        """Return the steps and the radius by which an episode is stuck, ``None`` where none is."""
        return None if self.max_stuck is None else (self.max_stuck, self.stuck_radius)
