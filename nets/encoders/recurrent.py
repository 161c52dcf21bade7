"""What a network is given instead of the present alone: all that was seen, in one vector."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hindsight_rl.nets.encoders.sequence import GRU
from hindsight_rl.nets.encoders.vector import Inputs
from hindsight_rl.spec import Spec


class RecurrentInputs(nn.Module):
    """Standardised observation and task through a GRU, whose state is the features.

    Args:
        spec: The data's spec.
        units: H, at least 1.
        task_scale: As in :class:`Inputs`.
        frequencies: Likewise.

    Raises:
        ValueError: The observation is no vector, or ``units`` is below 1.
    """

    def __init__(
        self,
        spec: Spec,
        units: int,
        *,
        task_scale: Sequence[float] | None = None,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        self.now = Inputs(spec, task_scale, frequencies=frequencies)
        self.gru = GRU(self.now.width, units)
        self.width = units

    def forward(
        self,
        observation: Tensor,
        task: Tensor | None = None,
        past: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the state after one more observation, ``[..., H]``.

        Args:
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task.
            past: ``hidden [..., H]``.

        Returns:
            ``[..., H]``: features, and the next ``hidden``.

        Raises:
            ValueError: The past is missing.
        """
        if past is None:
            raise ValueError("this network remembers: pass past, its state")
        return self.gru.step(self.now(observation, task), past["hidden"])

    def segment(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the features of segments that begin with nothing remembered.

        Args:
            observation: ``[..., L, O]``.
            task: ``[..., L, Z]`` where the spec has a task.

        Returns:
            ``[..., L, H]``.
        """
        features: Tensor = self.gru(self.now(observation, task))
        return features

    def initial(self, count: int) -> dict[str, Tensor]:
        """Return the past of so many episodes that begin."""
        return {"hidden": self.gru.initial(count)}
