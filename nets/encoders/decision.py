"""Inputs of a Decision Transformer: returns, observations and actions in turn, as they came."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.encoders.history import Past, PastActions, PastInputs
from hindsight_rl.nets.encoders.transformer import Transformer, causal
from hindsight_rl.nets.encoders.vector import Standardize, task_statistics
from hindsight_rl.nets.network import Attention, Network
from hindsight_rl.spec import Spec


class DecisionInputs(PastInputs):
    """Three tokens a step, through a transformer: the return to go, what is seen, what is done.

    The tokens of a step share an embedding of its time in the episode. The token of what is seen is
    read: it knows the return that is asked for, and no action of its own step. Without a task there
    are no returns, and two tokens a step.

    Beside what a past holds otherwise there are, with a task, ``return_to_go [..., P]``, and
    ``step [...]`` int64, the time of the present.

    Args:
        spec: The data's spec; the first number of its task is the return, the others hold for the
            whole window.
        network: Scale of the task, and how observations are encoded, see :class:`Network`.
        history: P, at least 1.
        attention: Size of the transformer.
        max_step: Times that are told apart, at least 1; later ones count as the last of them.

    Raises:
        ValueError: No encoder takes the observation, or ``history`` is below 1.
    """

    def __init__(
        self, spec: Spec, network: Network, history: int, attention: Attention, *, max_step: int
    ) -> None:
        super().__init__(replace(spec, task=None), network, history)
        self.width, self.max_step = attention.width, max_step
        self.of_seen = nn.Linear(self.now.width, self.width)
        self.acted = PastActions(spec)
        self.of_action = nn.Linear(self.acted.width, self.width)
        self.asked = self.of_asked = None
        if spec.task is not None:
            self.asked = Standardize(*task_statistics(spec.task, network.task_scale))
            self.of_asked = nn.Linear(spec.task.width, self.width)
        self.time = nn.Embedding(max_step, self.width)
        nn.init.normal_(self.time.weight, std=0.02)
        self.norm = nn.LayerNorm(self.width)
        self.transformer = Transformer(attention)

    def joined(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        """Return the features of the present, ``[..., D]``, see :meth:`PastInputs.joined`."""
        return self._read(features, task, past)[..., -1, :]

    def each(
        self, observation: Observation, task: Tensor | None = None, past: Past | None = None
    ) -> Tensor:
        """Return the features of every step of the window, each of what was known by then.

        Args:
            observation: ``[..., O]``, or ``[..., *shape]`` by entry.
            task: ``[..., Z]`` where the spec has a task; the first number is the return to go.
            past: The last P steps.

        Returns:
            ``[..., P + 1, D]``.

        Raises:
            ValueError: The past is missing, or a task.
        """
        return self._read(self.encode(observation), task, past)

    def _read(self, features: Tensor, task: Tensor | None, past: Past | None) -> Tensor:
        past, before = self.before(past)
        observed = torch.cat([before, features.unsqueeze(-2)], dim=-2)
        seen = self.of_seen(self.now.join(observed))
        valid = past["valid"].to(seen.dtype)
        acted = self.of_action(self.acted(past["action"], valid.unsqueeze(-1)))
        # No action of the present yet: its place is cut off below.
        tokens = [seen, nn.functional.pad(acted, (0, 0, 0, 1))]
        if self.asked is not None and self.of_asked is not None:
            tokens.insert(0, self.of_asked(self.asked(_returns(task, past))))
        count = len(tokens)
        time = self.time(self._times(past["step"], observed.shape[-2])).unsqueeze(-2)
        known = (
            nn.functional.pad(valid, (0, 1), value=1.0)
            .unsqueeze(-1)
            .expand(*valid.shape[:-1], -1, count)
        )
        turns = self.norm(torch.stack(tokens, dim=-2) + time).flatten(-3, -2)[..., :-1, :]
        found = self.transformer(turns, causal(known.flatten(-2)[..., :-1] > 0.5))
        read: Tensor = found[..., count - 2 :: count, :]
        return read

    def _times(self, step: Tensor, window: int) -> Tensor:
        """Return the times ``[..., P + 1]`` of a window that ends at ``step``."""
        back = torch.arange(window - 1, -1, -1, device=step.device)
        return (step.unsqueeze(-1) - back).clamp(0, self.max_step - 1)


def _returns(task: Tensor | None, past: Past) -> Tensor:
    """Return the tasks ``[..., P + 1, Z]`` of a window: past returns, then the present task."""
    if task is None:
        raise ValueError("this network is conditioned on a task: pass task [..., Z]")
    before = past["return_to_go"].unsqueeze(-1)
    held = task[..., 1:].unsqueeze(-2).expand(*before.shape[:-1], task.shape[-1] - 1)
    return torch.cat([torch.cat([before, held], dim=-1), task.unsqueeze(-2)], dim=-2)
