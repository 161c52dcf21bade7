"""Rounds of imagining: when a model imagines, with which policy, and what a checkpoint holds."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from hindsight_rl.datamodules.imagined_rows import ImaginedRows, Refit
from hindsight_rl.datamodules.mixture import Replays
from hindsight_rl.datamodules.sources.model import ModelSource
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import LearnerView

Fitting = Callable[[nn.Module, Log, Refit, int], None]

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
        refit: Fits the model of a learner on, from (learner, log, how, seed).

    Raises:
        ValueError: The model is to be fitted on, and there is no learner or nothing that fits it.

    Attributes:
        replays: Those of the datamodule.
        source: What imagines.
    """

    def __init__(
        self,
        given: ImaginedRows,
        replays: Replays,
        held_out: Tensor | None,
        seed: int,
        refit: Fitting | None = None,
    ) -> None:
        self.given, self.replays, self._seed, self._refit = given, replays, seed, refit
        self.source = ModelSource(given, replays.real, held_out, seed=seed)
        self._round = _NONE_YET
        if given.refit is not None and (refit is None or self.source.model.learner is None):
            why = "the log stays as it is" if refit is None else "it is no learner's"
            raise ValueError(
                f"imagined.refit fits the model {self.source.name} on, and {why}: leave it out"
            )

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
        model = self.source.model.learner
        if model is not None:
            model.to(learner.device)
        if model is not None and self._refit is not None and self.given.refit is not None:
            real = self.replays.real
            self._refit(model, real, self.given.refit, self._seed + self._round)
            self.source.look(real)
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
        state: dict[str, Any] = {"round": self._round, "model": self.source.model.identity}
        if self.given.refit is not None and self.source.model.learner is not None:
            weights = self.source.model.learner.state_dict()
            state["weights"] = {name: value.clone() for name, value in weights.items()}
        return state

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
        if "weights" in state and self.source.model.learner is not None:
            self.source.model.learner.load_state_dict(state["weights"])


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
