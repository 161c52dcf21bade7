"""Rounds of collecting: what was collected when, and how many updates follow."""

from dataclasses import dataclass

from hindsight_rl.datamodules.sources.episodes import Collected


@dataclass(frozen=True)
class Round:
    """Episodes collected together, and the updates made on the replay they ended.

    Attributes:
        update: Updates done before it.
        updates: Updates until the next one.
        env_steps: Steps taken in the environment, this round included.
        episodes: Episodes collected, this round included.
        mean_return: Mean undiscounted return of the round.
        mean_length: Mean length of its episodes, in steps.
        success: Share of its episodes with success at any step, ``None`` where it is not reported.
        queries: How often the expert was asked, this round included; ``None`` where there is none.
    """

    update: int
    updates: int
    env_steps: int
    episodes: int
    mean_return: float
    mean_length: float
    success: float | None
    queries: int | None = None

    @classmethod
    def after(cls, before: "Round | None", found: Collected, update: int, updates: int) -> "Round":
        """Return the round of some episodes.

        Args:
            before: The round before it, ``None`` for the first one.
            found: Its episodes.
            update: Updates done before it.
            updates: Updates until the next one.

        Returns:
            The round.
        """
        steps = int(found.lengths.sum())
        return cls(
            update=update,
            updates=updates,
            env_steps=steps + (before.env_steps if before else 0),
            episodes=len(found.lengths) + (before.episodes if before else 0),
            mean_return=float(found.returns.mean()),
            mean_length=steps / len(found.lengths),
            success=None if found.successes is None else float(found.successes.mean()),
            queries=None
            if found.queries is None
            else found.queries + ((before.queries or 0) if before else 0),
        )

    @property
    def end(self) -> int:
        """Updates done when the next round is due."""
        return self.update + self.updates

    def metrics(self) -> dict[str, float]:
        """Return what is logged."""
        named = {
            "collect/return": self.mean_return,
            "collect/length": self.mean_length,
            "collect/env_steps": float(self.env_steps),
            "collect/episodes": float(self.episodes),
        }
        named |= {} if self.queries is None else {"collect/queries": float(self.queries)}
        return named | ({} if self.success is None else {"collect/success": self.success})
