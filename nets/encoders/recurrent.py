"""What a network is given instead of the present alone: all that was seen, in one vector."""

from collections.abc import Mapping

from torch import Tensor, nn

from hindsight_rl.nets.encoders.entries import Observation, ungated_inputs
from hindsight_rl.nets.encoders.sequence import CellKind, Recurrence
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec


class RecurrentInputs(nn.Module):
    """Observation, encoded, and task through recurrent cells.

    Args:
        spec: The data's spec.
        network: Scale of the task, and frequencies: see :class:`Inputs`.
        units: H, at least 1.
        cell: Kind of the cells.
        layers: How many lie above each other, at least 1.
        horizon: Steps over which they begin to remember, at least 2; ``None``: a few.

    Raises:
        ValueError: No encoder takes the observation, or an argument is out of range.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network,
        units: int,
        *,
        cell: CellKind = "gru",
        layers: int = 1,
        horizon: int | None = None,
    ) -> None:
        super().__init__()
        self.now = ungated_inputs(spec, network)
        self.cells = Recurrence(self.now.width, units, cell, layers, horizon)
        self.width = units

    def forward(
        self,
        observation: Observation,
        task: Tensor | None = None,
        past: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the features after one more observation.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task.
            past: ``hidden [..., S]``.

        Returns:
            ``[..., H]``.

        Raises:
            ValueError: The past is missing.
        """
        if past is None:
            raise ValueError("this network remembers: pass past, its state")
        return self.step(observation, task, past)[0]

    def step(
        self, observation: Observation, task: Tensor | None, past: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the features after one more observation, and the past after it.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task.
            past: ``hidden [..., S]``.

        Returns:
            ``[..., H]``, and a past.
        """
        features, hidden = self.cells.step(self.now(observation, task), past["hidden"])
        return features, {"hidden": hidden}

    def segment(
        self, observation: Observation, task: Tensor | None = None, past: Tensor | None = None
    ) -> Tensor:
        """Return the features of segments.

        Args:
            observation: ``[..., L, O]``, or ``[..., L, *shape]`` by entry.
            task: ``[..., L, Z]`` where the spec has a task.
            past: ``[..., S]``, what is remembered where they begin; ``None`` for nothing.

        Returns:
            ``[..., L, H]``.
        """
        features: Tensor = self.cells(self.now(observation, task), past)
        return features

    def remembered(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return what is remembered after every step of episodes that begin here.

        Args:
            observation: ``[..., T, O]``, or ``[..., T, *shape]`` by entry.
            task: ``[..., T, Z]`` where the spec has a task.

        Returns:
            ``[..., T, S]``.
        """
        return self.cells.states(self.now(observation, task))

    def initial(self, count: int) -> dict[str, Tensor]:
        """Return the past of so many episodes that begin."""
        return {"hidden": self.cells.initial(count)}
