"""Rounds of imagining: when a model imagines, with which policy, and what a checkpoint holds."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.datamodules.imagined_rows import ImaginedRows
from hindsight_rl.datamodules.mixture import Replays
from hindsight_rl.datamodules.sources.model import ModelSource
from hindsight_rl.datamodules.sources.opened_model import identity
from hindsight_rl.logs.errors import LogError
from hindsight_rl.ports import LearnerView

_NONE_YET = -1


class Imagining:
    """Imagines anew every so many updates, into the replay of origin ``imagined``.

    Round i begins before update i * ``every``, with the policy and the logged rows as they then
    are. Its episodes are numbered from i * ``rows``.

    Args:
        given: What is imagined.
        replays: Those of the datamodule.
        held_out: Logged rows ``[M]`` int64 that the model was not fitted to; ``None`` for all.
        seed: Of every draw.

    Attributes:
        replays: Those of the datamodule.
        source: What imagines.
    """

    def __init__(
        self, given: ImaginedRows, replays: Replays, held_out: Tensor | None, seed: int
    ) -> None:
        self.given, self.replays = given, replays
        self.source = ModelSource(given, replays.real, held_out, seed=seed)
        self._round = _NONE_YET

    @property
    def marks(self) -> tuple[int, ...]:
        """Updates whose multiples no chunk may cross."""
        return (self.given.every,)

    def due(self, update: int) -> bool:
        """Return whether a round begins before an update."""
        return update // self.given.every != self._round

    def collect(self, learner: LearnerView, update: int) -> None:
        """Imagine a round with the learner's policy as it is.

        Args:
            learner: What acts, and where it is reported.
            update: Updates done.
        """
        self._round = update // self.given.every
        if not self.given.rows:
            return
        if isinstance(self.source.model, torch.nn.Module):
            self.source.model.to(learner.device)
        found = self.source.collect(
            learner.collecting(self.given.sample),
            self._round * self.given.rows,
            self.given.rows,
            self.replays.real,
            horizon=self.given.steps(update),
        )
        self.replays.append("imagined", found)
        learner.report(found.metrics(), update)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds beside the rows: the round, and whose it is."""
        return {"round": self._round, "model": identity(self.given.model, self.source.model)}

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Go on with the round of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned; ``None`` where nothing was imagined.

        Raises:
            LogError: The run had no model, or another one.
        """
        own = self.state_dict()["model"]
        if state is None or state["model"] != own:
            had = "no model" if state is None else f"the model {state['model']}"
            raise LogError(
                f"the run was started with {had}, and this one is {own}",
                "Resume with the model of that run (data.imagined.model), or start a new run.",
                path=self.source.name,
            )
        self._round = int(state["round"])


def check_seeds(learner: LearnerView) -> None:
    """Raise where each of several seeds would need imagined rows of its own.

    Args:
        learner: The learner.

    Raises:
        ValueError: It trains several seeds.
    """
    if learner.seeds > 1:
        raise ValueError(
            f"model.seeds is {learner.seeds}, but each seed's policy would imagine rows of its "
            "own: set it to 1 and start one run per seed"
        )
