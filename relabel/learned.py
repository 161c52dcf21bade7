"""The base of data steps that learn from the batches of a fit."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.keys import ACTION, DRAWS, NEXT_OBSERVATION, OBSERVATION, TASK
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.relabeler import Relabeler
from hindsight_rl.relabel.soft_scores import gathered, ranks

STATISTICS = 4096  # rows that inputs are standardised by


class LearnedStep(Relabeler):
    """Base class of relabelers with a network of their own and an Adam of its own.

    An update teaches once, the first time its number is seen; validation (where gradients are off)
    teaches nothing. The state goes into the checkpoint.

    Attributes:
        learned: What is learned, for messages.
        net: The network, once bound.
    """

    learns = True
    learned: ClassVar[str]
    settings: ClassVar[str]
    """The arguments that its weights depend on, for messages."""
    shared: ClassVar[bool] = False
    """Whether it learns from rows that processes share."""
    net: nn.Module | None = None
    _adam: torch.optim.Adam

    @property
    def weights(self) -> list[Tensor]:
        """The parameters of the network; none before it is bound."""
        return [] if self.net is None else list(self.net.parameters())

    @property
    @abstractmethod
    def updates(self) -> int:
        """Updates seen: the number after the last one that taught."""

    def state_dict(self) -> dict[str, Any]:
        """Return weights, Adam's averages and what a class adds; nothing before the first update.

        Returns:
            Tensors and numbers by name, nested.
        """
        if not self.updates:
            return {}
        weights = [weight.detach() for weight in self.weights]
        return {"weights": weights, "adam": self._adam.state_dict()} | self._further_state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the state of a checkpoint.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            ValueError: It is that of another network.
        """
        if not state:
            return
        there, here = ([list(w.shape) for w in ws] for ws in (state["weights"], self.weights))
        if there != here:
            name = type(self).__name__
            raise ValueError(
                f"the checkpoint holds a {self.learned} with weights {there}, this one has {here}: "
                f"set {self.settings} of {name} as in the run"
            )
        with torch.no_grad():
            for weight, saved in zip(self.weights, state["weights"], strict=True):
                weight.copy_(saved)
        self._adam.load_state_dict(state["adam"])
        self._load_further_state(state)

    @abstractmethod
    def _further_state(self) -> dict[str, Any]:
        """Return what else a checkpoint must hold."""

    @abstractmethod
    def _load_further_state(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`_further_state` returned."""

    def _begin(self, net: nn.Module, learning_rate: float) -> None:
        """Start with a network at its first weights."""
        self.net = net
        self._adam = torch.optim.Adam(self.weights, lr=learning_rate)

    def _teaching(self, batch: TensorDict) -> list[bool]:
        """Return which updates of a chunk ``[K, B]`` teach; the network goes where the rows are.

        Args:
            batch: With ``draws``.

        Returns:
            K flags.

        Raises:
            ValueError: Rows are shared by processes or seeds.
        """
        if len(batch.batch_size) != 2 or (ranks() > 1 and not self.shared):
            one, what = ("one learner", "model.seeds")
            if not self.shared:
                one, what = ("one process and one learner", "trainer.devices and model.seeds")
            raise ValueError(
                f"{type(self).__name__} learns from the rows of {one}: set {what} to 1"
                f"{self._instead()}"
            )
        self._move(batch[DRAWS].device)
        learns = torch.is_grad_enabled()
        return [learns and number >= self.updates for number in batch[DRAWS][:, 0, 1].tolist()]

    def _instead(self) -> str:
        """Return what to use where rows are shared, for the end of a message."""
        return ""

    def _move(self, device: torch.device) -> None:
        if self.net is None or self.weights[0].device == device:
            return
        self.net.to(device)
        for state in self._adam.state.values():
            # Adam counts its steps on the CPU.
            state |= {key: v.to(device) for key, v in state.items() if key != "step"}

    def _descend(self, loss: Tensor) -> None:
        """Take a step of Adam.

        Args:
            loss: ``[]``; of several processes each has its part of a sum.
        """
        slopes = torch.autograd.grad(loss, self.weights)
        flat = summed(torch.cat([slope.flatten() for slope in slopes]))
        parts = flat.split([slope.numel() for slope in slopes])
        for weight, part in zip(self.weights, parts, strict=True):
            weight.grad = part.view_as(weight)
        self._adam.step()


def summed(value: Tensor) -> Tensor:
    """Return the sum over all ranks of what each holds, ``[...]``."""
    if ranks() == 1:
        return value
    total: Tensor = gathered(value[None, None]).sum(1)[0]
    return total


def choices_of(log: LogView) -> int:
    """Return the number of discrete actions of a log, 0 where actions are real numbers."""
    return int(log.info.get("discrete_actions", 0))


def transition_rows(batch: TensorDict, choices: int, *, tasked: bool = False) -> Tensor:
    """Return state, action and next state side by side, ``[..., S + A + S]``.

    Args:
        batch: Transitions ``[...]``; choices are numbered from 0.
        choices: Number of discrete actions, which become one-hot; 0 for real numbers.
        tasked: Whether the task is part of both states, beside the observation.

    Returns:
        Float32.
    """
    action, states = batch[ACTION], [batch[OBSERVATION], batch[NEXT_OBSERVATION]]
    if choices:
        action = torch.nn.functional.one_hot(action, choices).float()
    if tasked:
        states = [torch.cat([state, batch[TASK]], dim=-1) for state in states]
    return torch.cat([states[0], action, states[1]], dim=-1)


def logged_rows(log: LogView, rows: Tensor, *, tasked: bool = False) -> Tensor:
    """Return what :func:`transition_rows` gives for some rows of a log, spread over all of them.

    Args:
        log: The log.
        rows: ``[M]`` int64 row numbers.
        tasked: Whether the task is part of both states.

    Returns:
        ``[N, S + A + S]``, N about :data:`STATISTICS` at most.
    """
    rows = rows[:: max(1, len(rows) // STATISTICS)]
    few = TensorDict(batch_size=[len(rows)])
    for key in (OBSERVATION, ACTION, NEXT_OBSERVATION, *([TASK] if tasked else [])):
        few.set(key, log.column(key)[rows])
    if choices := choices_of(log):  # batches number them from 0
        few.set(ACTION, few[ACTION] - int(log.info.get("action_start") or 0))
    return transition_rows(few, choices, tasked=tasked)
