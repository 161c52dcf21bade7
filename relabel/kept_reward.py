"""What a discriminator learned in a run, as a model of rewards for other logs."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.nets.discriminator import Discriminator, TransitionReward
from hindsight_rl.nets.encoders.entries import Observation

_MADE = "made"  # in the state of a DiscriminatorReward: what its network was made of


class KeptReward:
    """f of a :class:`DiscriminatorReward`, for AIRL g: a reward of states and actions.

    Args:
        state: What the relabeler's ``state_dict`` returned.
        name: Of the checkpoint, for messages.

    Raises:
        ValueError: It reads next states, which a reward of a step does not have.

    Attributes:
        spec: None: widths are checked where rewards are asked for.
        takes_task: Whether the task is part of the state.
    """

    spec = None

    def __init__(self, state: Mapping[str, Any], name: str) -> None:
        made = dict(state[_MADE])
        # A release before a setting existed did not write it.
        options = {
            each.name: made[each.name] for each in fields(Discriminator) if each.name in made
        }
        self.settings, self.name = Discriminator(**options), name
        if self.settings.reads == "next":
            raise ValueError(
                f"{name}: its discriminator reads next states, and this applies rewards of states "
                "and actions: fit one with discriminator.reads action or state"
            )
        self._choices, self.takes_task = int(made["choices"]), bool(made["tasked"])
        observed, acted = int(made["observed"]), int(made["acted"])
        self._net = TransitionReward(
            self.settings, observed, acted, absorbing=made["absorbing"], seed=0
        )
        with torch.no_grad():
            for weight, saved in zip(self._net.parameters(), state["weights"], strict=True):
                weight.copy_(saved)
        self._mean, self._std = state["mean"].cpu(), state["std"].cpu()

    @torch.no_grad()
    def rewards(
        self, observation: Observation, action: Tensor, task: Tensor | None = None
    ) -> Tensor:
        """Return the reward of steps.

        Args:
            observation: ``[N, O]``.
            action: ``[N, A]`` in environment units, or ``[N]`` int64 from 0.
            task: ``[N, Z]`` where the run had tasks.

        Returns:
            ``[1, N]``, nats.

        Raises:
            ValueError: Widths differ from those of the run, or observations are no vector.
        """
        if not isinstance(observation, Tensor):
            raise ValueError(f"{self.name}: its discriminator takes states that are one vector")
        if self._choices:
            action = torch.nn.functional.one_hot(action, self._choices).float()
        state = observation
        if self.takes_task and task is not None:
            state = torch.cat([observation, task], dim=-1)
        widths = (state.shape[-1], action.shape[-1])
        if widths != (self._net.observed, self._net.acted):
            raise ValueError(
                f"{self.name}: its discriminator takes states of {self._net.observed} and actions "
                f"of {self._net.acted} numbers, and those of the log have {widths[0]} and "
                f"{widths[1]}: give one of the same robot and task"
            )
        rows = (torch.cat([state, action, state], dim=-1) - self._mean) / self._std
        found = self._net.unshaped(torch.cat([rows, rows.new_zeros(len(rows), 1)], dim=-1))
        return found.unsqueeze(0)


def kept_reward(payload: Mapping[str, Any], name: str) -> KeptReward | None:
    """Return the reward that a run's data step learned, ``None`` where it learned none.

    Args:
        payload: A checkpoint.
        name: Of it, for messages.

    Returns:
        The model of rewards.

    Raises:
        ValueError: There are several, it reads next states, or it is damaged.
    """
    parts = [part for part in payload.values() if isinstance(part, Mapping)]
    found = [state for part in parts for state in _states(part.get("relabel"))]
    if len(found) > 1:
        raise ValueError(
            f"{name}: {len(found)} discriminators learned in this run: which is meant?"
        )
    if not found:
        return None
    try:
        return KeptReward(found[0], name)
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{name}: its discriminator cannot be made again ({why}): give a whole checkpoint of "
            "this version"
        ) from error


def _states(value: Any) -> list[Mapping[str, Any]]:
    """Return the states of discriminators within that of a chain of relabelers."""
    if not isinstance(value, Mapping):
        return []
    if _MADE in value:
        return [value]
    return [state for part in value.values() for state in _states(part)]
