"""Bootstrapped DQN: several guesses of all values, one of which is followed for a whole episode.

    Q_k  = q_k + prior p_k,   p_k: q_k as it began, never trained          (Osband et al. 2018)
    y_k  = r + gamma (1 - d) Q'_k(s', argmax_a' Q_k(s', a'))
    L_Q  = sum_k E[ m_k huber(y_k - Q_k(s, a)) ],   m_k = 1: head k learns from the row

K heads on one torso agree where the log has much to say, and by their priors differ where it has
not: to follow one drawn at the start of an episode is to act on a belief that may be true (Thompson
sampling), and to hold on to it for as long as it takes to find out. Without priors they agree where
nothing was seen, and explore nothing. The head is a task, one-hot, that a command gives
(``collection.command`` OneOf); without one the heads vote.

Reference: Osband, Blundell, Pritzel and Van Roy 2016, arXiv 1602.04621, algorithm 1; priors:
Osband, Aslanides and Cassirer 2018, arXiv 1806.03335, equation 4.

Deviations:
- The torso's gradient is not divided by K: Adam divides the size of all gradients out.
- The priors are the heads' own first weights, which share a torso; in the paper each is a network
  that is drawn by itself.
- Equal votes are told apart by the mean of the heads.
- Which heads learn from a row goes by its number, which changes where a replay drops old episodes.

Update order: critic, then, where it is due, the target critic.
"""

from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges, within
from hindsight_rl.keys import COUNTS
from hindsight_rl.maths.ensembles import row_mask, votes
from hindsight_rl.maths.losses import huber_loss
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.nets.critics import Critic, value_of
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Network
from hindsight_rl.policies.action_values import Greedy, value_of_best
from hindsight_rl.spec import Spec, SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class BootstrappedDQN(Learner):
    """Deep Q-learning with several heads and random priors, for discrete actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, which the heads share.
        heads: K, at least 2.
        prior: What random values are multiplied by, at least 0: about the spread of returns.
        share: Of the rows, that a head learns from, in (0, 1].
        task_is_head: The task of a row says which head acted, one of K: it is no input, and
            decides while episodes are collected whose values are followed. ``None``: where tasks
            have K numbers.
        double: Let each head choose its next action, and its target only value it.
        huber: Error, reward units, above 0, beyond which the loss grows linearly; ``None`` for half
            the squared error throughout.
        target_every: Updates between two moves of the target critic, at least 1.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0.
        discount: In [0, 1].
        tau: Share of the way the target critic moves, in (0, 1]; 1 copies.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or tasks are not one of K.
    """

    in_keys = TRANSITION
    actions = ("discrete",)
    targets = {"target_critic": "critic", "prior_critic": "critic"}
    until = {"prior_critic": 0}  # it never moves
    actor: Greedy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        heads: int = 10,
        prior: float = 1.0,
        share: float = 0.5,
        task_is_head: bool | None = None,
        double: bool = True,
        huber: float | None = 1.0,
        target_every: int = 100,
        temperature: float = 1.0,
        discount: float = 0.99,
        tau: float = 1.0,
        **learner: Any,
    ) -> None:
        check_ranges(at_least(2, heads=heads), at_least(0, prior=prior))
        check_ranges(within("(0, 1]", share=share))
        spec, task_is_head = _read(spec, heads, task_is_head)
        super().__init__(spec, **learner)
        check_ranges(above(0, huber=huber), note=", or null for squared errors")
        check_ranges(at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau)
        self.heads, self.prior, self.share, self.task_is_head = heads, prior, share, task_is_head
        self.double_q, self.huber, self.temperature = double, huber, temperature
        self.discount, self.tau = discount, tau
        self.optional_keys = ("discount",) if task_is_head else ("task", "discount")
        self.every = {"target_critic": target_every}
        self.critic = Critic(self.spec, network, members=1, numbers=heads)
        self.target_critic = self.follow(self.critic)
        self.prior_critic = self.follow(self.critic)  # its first weights, for ever
        self.actor = Greedy(self.action_values, temperature)

    @property
    def read_keys(self) -> tuple[Any, ...]:
        """Return the keys the losses may read, with which heads learn from a row."""
        return (*super().read_keys, COUNTS)

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with which heads learn from its rows, see :class:`Learner`."""
        found = super().complete(batch, seed).copy()
        mask = row_mask(found["index"], self.heads, share=self.share)
        return found.set(COUNTS, mask.movedim(0, -1).float())

    def of_heads(self, critic: Critic, observation: Observation, task: Tensor | None) -> Tensor:
        """Return the values ``[..., n, K]`` of every head, its prior among them."""
        given = None if self.task_is_head else task
        prior = self.prior_critic(observation, None, given)
        value: Tensor = critic(observation, None, given) + self.prior * prior
        return value.squeeze(0)

    def action_values(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the values ``[..., n]`` of the head that a task names, else the heads' mean."""
        value = self.of_heads(self.critic, observation, task)
        if task is None or not self.task_is_head:
            return value.mean(-1)
        # A task of zeros, as in the first episodes, names none.
        weight = task + (1.0 - task.sum(-1, keepdim=True)) / self.heads
        return (weight.unsqueeze(-2) * value).sum(-1)

    def scores(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the votes ``[N, n]`` of the heads, or the values of the one a task names."""
        if task is not None and self.task_is_head:
            return self.action_values(observation, task)
        return votes(self.of_heads(self.critic, observation, task))

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the action ``[N]`` with the largest score, see :meth:`Learner.forward`."""
        return self.scores(observation, task).argmax(-1)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the heads, ``[]``, summed, and their values ``[K, B]``."""
        now = Transition(batch, self.discount)

        def values(critic: Critic, observation: Tensor) -> Tensor:
            return self.of_heads(critic, observation, now.task).movedim(-1, 0)

        with torch.no_grad():
            ahead = values(self.target_critic, now.next_observation)
            chooser = values(self.critic, now.next_observation) if self.double_q else ahead
            target = now.target(value_of_best(ahead, chooser))
        q = value_of(values(self.critic, now.observation), now.action)
        loss = huber_loss(target - q, limit=self.huber)
        return (batch[COUNTS].movedim(-1, 0) * loss).mean(-1).sum(), q.detach()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        spread = q.std(0, correction=0).mean()
        return LossTerms(
            {"critic": critic}, {"critic/q_max": q.abs().amax(), "critic/heads_std": spread}
        )

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)


def _read(spec: SpecLike | None, heads: int, is_head: bool | None) -> tuple[Spec | None, bool]:
    """Return the spec, without a task that names a head, and whether tasks do."""
    if spec is None:
        return None, bool(is_head)
    spec = Spec.of(spec)
    task = spec.task
    if is_head is None:  # of a checkpoint the task is gone already
        is_head = task is None or task.shape == (heads,)
    if not is_head:
        return spec, False
    if task is not None and task.shape != (heads,):
        raise ValueError(
            f"task_is_head: tasks have shape {list(task.shape)}, and there are {heads} heads: "
            f"set collection.command to OneOf with count {heads}, or leave task_is_head out"
        )
    return replace(spec, task=None, probe=replace(spec.probe, task=None)), True
