"""Tabular Q-learning: one number for every state, task and action.

    L = E[ (y - Q(s, a, z))^2 ] / 2,   y = r + gamma (1 - d) max_a' Q'(s', a', z)

Plain gradient descent on it with one row per update is Watkins' rule, Q += alpha (y - Q), alpha
being the learning rate; of B rows per update each moves its entry by alpha / B. For worlds small
enough to look at every number; the policy is the greedy one.

Reference: Watkins and Dayan 1992, "Q-learning", eq. 1; with a task as one more index: Eysenbach,
Geng, Levine and Salakhutdinov 2020, arXiv 2002.11089, figure 4.

Deviations:
- Rows come from a log, in random order, not from the policy's own steps; the fixed point is the
  same where the log shows every transition.
- Entries start low, not at 0: a log shows few of them, and a greedy policy must not prefer what is
  unknown to what is known.

Update order: the table, then the target table, which at ``tau`` 1 is its copy.
"""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.arguments import above, check_bootstrap, check_ranges
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import value_of
from hindsight_rl.policies.action_values import Greedy
from hindsight_rl.spec import WHOLE, Spec, SpecLike, TaskSpec
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class Table(nn.Module):
    """Q[s, z, a]: states and tasks in, the values of all actions out.

    Args:
        states: S, the width of a one-hot observation.
        tasks: ``[N, Z]``, the tasks there are; ``[1, 0]`` where there is no task.
        actions: A.
        initial_value: Every entry's first value, reward units.
    """

    tasks: Tensor

    def __init__(self, states: int, tasks: Tensor, actions: int, initial_value: float) -> None:
        super().__init__()
        self.register_buffer("tasks", tasks)
        self.value = nn.Parameter(torch.full((states, len(tasks), actions), initial_value))

    def forward(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return the values of all actions.

        Args:
            observation: ``[..., S]``, one-hot.
            task: ``[..., Z]``; the nearest of the tasks there are is meant.

        Returns:
            ``[..., A]``, reward units.
        """
        row = observation.argmax(-1) * len(self.tasks)
        if task is not None:
            row = row + (task.unsqueeze(-2) - self.tasks).square().sum(-1).argmin(-1)
        return self.value.flatten(0, 1)[row]


class QLearning(Learner):
    """Tabular Q-learning for one-hot observations and discrete actions, with or without a task.

    Args:
        spec: What the data look like.
        tasks: The tasks there are, Z numbers each, where tasks are no one-hot vectors: the cells
            that are goals, say. A task stands for the nearest of them.
        initial_value: First value of every entry, reward units. Below every return that can occur
            (here: reward -1 for ever), or the greedy policy prefers what it knows nothing of.
        discount: In [0, 1].
        tau: Share of the way the target table moves per update, in (0, 1].
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0.
        optimizer: Builds the optimiser; plain gradient descent at rate 1 fits a deterministic world
            with one row per update.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or observations are not one-hot.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    actions = ("discrete",)
    one_hot = True
    actor: Greedy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        tasks: list[list[float]] | None = None,
        initial_value: float = -100.0,
        discount: float = 0.99,
        tau: float = 1.0,
        temperature: float = 1.0,
        optimizer: OptimizerCallable = lambda params: torch.optim.SGD(params, lr=1.0),
        **learner: Any,
    ) -> None:
        super().__init__(spec, optimizer=optimizer, **learner)
        check_bootstrap(discount=discount, tau=tau)
        check_ranges(above(0, temperature=temperature))
        _check_one_hot(self.spec)
        self.discount, self.tau, self.temperature = discount, tau, temperature
        self.critic = Table(
            self.spec.vector.width,
            _tasks(self.spec.task, tasks),
            self.spec.action.n,
            initial_value,
        )
        self.target_critic = self.follow(self.critic)
        self.actor = Greedy(self.critic, temperature)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the table, ``[]``, and the error of each row's entry ``[B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            next_value = self.target_critic(now.next_observation, now.task).amax(-1)
        target = now.target(next_value)
        values = self.critic(now.observation, now.task)
        error = target - value_of(values, now.action)
        return 0.5 * error.square().mean(), error.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        loss, error = self.critic_loss(batch)
        return LossTerms({"critic": loss}, {"critic/error_max": error.abs().amax()})

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)


def _tasks(entry: TaskSpec | None, given: list[list[float]] | None) -> Tensor:
    """Return the tasks there are ``[N, Z]``, one-hot vectors unless others are given.

    Args:
        entry: The task part of the spec, ``None`` where there is none.
        given: Tasks of Z numbers.

    Returns:
        float32, ``[1, 0]`` without a task.

    Raises:
        ValueError: Given tasks and the log's differ in width.
    """
    if entry is None:
        if given is not None:
            raise ValueError(
                f"{len(given)} tasks are given, and the log has no task: leave them out"
            )
        return torch.empty(1, 0)
    width = entry.width
    if given is None:
        return torch.eye(width)
    if not given or any(len(task) != width for task in given):
        raise ValueError(f"tasks must be a list of at least one task of {width} numbers each")
    return torch.tensor(given, dtype=torch.float32)


def _check_one_hot(spec: Spec) -> None:
    """Check that observations are one-hot vectors, by the rows of the log in the spec."""
    # Without rows, as of images, nothing is known.
    rows = torch.as_tensor(spec.probe.observation.get(WHOLE, [[]]), dtype=torch.float32)
    one_hot = ((rows == 1).sum(-1) == 1) & (rows.sum(-1) == 1)
    if rows.ndim != 2 or not bool(one_hot.all()):
        shapes = [list(entry.shape) for entry in spec.observation.values()]
        raise ValueError(
            "a table takes one-hot observations [S], one entry per state, and this log has others "
            f"(shape {', '.join(map(str, shapes))}): number the states, or use a learner with a "
            "network"
        )
