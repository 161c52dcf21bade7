"""Inputs with a history: the last P observations and actions beside the present ones."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.vector import Inputs
from hindsight_rl.spec import Spec

Past = Mapping[str, Tensor]
"""``observation [..., P, O]``, ``action [..., P, A]`` (or ``[..., P]`` int64), ``valid [..., P]``:
what a batch holds under ``"history"``, and the state of a policy that acts."""


class HistoryInputs(nn.Module):
    """Observation, task, and the last P observations and actions, side by side.

    Observations are standardised, actions are in policy units (one number per choice where they
    are discrete). Steps before the episode's first are 0, and a flag per step says so.

    Args:
        spec: The data's spec.
        history: P, at least 1.
        actions: Whether past actions are seen. A policy that sees them may only repeat them: the
            demonstrator's next action is most often close to the last one.
        task_scale: As in :class:`Inputs`.
        frequencies: Likewise, of the present alone.

    Raises:
        ValueError: The observation is no vector, or ``history`` is below 1.
    """

    def __init__(
        self,
        spec: Spec,
        history: int,
        *,
        actions: bool = True,
        task_scale: Sequence[float] | None = None,
        frequencies: int = 0,
    ) -> None:
        super().__init__()
        if history < 1:
            raise ValueError(f"history is {history}, it must be at least 1")
        self.history, self.actions = history, actions
        self.now = Inputs(spec, task_scale, frequencies=frequencies)
        self.scale = ActionScale(spec.action)
        self.observed = spec.vector.width
        self.acted = spec.action.width
        seen = self.observed + (self.acted if actions else 0) + 1
        self.width = self.now.width + history * seen

    def forward(
        self, observation: Tensor, task: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Return features ``[..., D]``.

        Args:
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task.
            past: The last P steps.

        Returns:
            ``[..., D]``.

        Raises:
            ValueError: The past is missing.
        """
        if past is None:
            raise ValueError(f"this network sees {self.history} past steps: pass past")
        now = self.now(observation, task)
        valid = past["valid"].to(now.dtype).unsqueeze(-1)
        parts = [self.now.observation(past["observation"]) * valid]
        if self.actions:
            parts.append(self._acted(past["action"], now) * valid)
        steps = torch.cat([*parts, valid], dim=-1)
        return torch.cat([now, steps.flatten(-2)], dim=-1)

    def _acted(self, action: Tensor, like: Tensor) -> Tensor:
        if not self.scale.discrete:
            return self.scale.to_policy(action)
        return nn.functional.one_hot(action, self.acted).to(like.dtype)

    def initial(self, count: int) -> dict[str, Tensor]:
        """Return the past of episodes that begin, of so many of them.

        Args:
            count: n.

        Returns:
            A past with leading dimension n, no step of it valid.
        """
        device = self.now.observation.mean.device
        shape = (count, self.history)
        discrete = self.scale.discrete
        action = torch.zeros(
            shape if discrete else (*shape, self.acted),
            dtype=torch.int64 if discrete else torch.float32,
            device=device,
        )
        return {
            "observation": torch.zeros(*shape, self.observed, device=device),
            "action": action,
            "valid": torch.zeros(shape, device=device),
        }

    @staticmethod
    def follow(past: Past, observation: Tensor, action: Tensor) -> dict[str, Tensor]:
        """Return the past one step later.

        Args:
            past: Of ``[n, P, ...]``.
            observation: ``[n, O]``, what was seen.
            action: ``[n, A]`` or ``[n]``, what was done, environment units.

        Returns:
            A past of the same shapes; its oldest step is forgotten.
        """
        now = {
            "observation": observation,
            "action": action,
            "valid": torch.ones_like(past["valid"][:, 0]),
        }
        return {
            name: torch.cat([past[name][:, 1:], value.unsqueeze(1)], dim=1)
            for name, value in now.items()
        }
