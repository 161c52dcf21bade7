"""Successor features (SuccessorFeatures): values for rewards that are named after the log was made.

    y     = phi(s, a, s') + gamma (1 - d) psi'_k(s', a', z)                               (eq. 4)
    a'    = argmax_b min_k z' psi_k(s', b, z)
    L_psi = sum_k E[ ||(y - psi_k(s, a, z)) / unit||^2 ] / 2
    pi(s, w) = argmax_a max_{z in Z + {w}} min_k w' psi_k(s, a, z)              (GPI, theorem 1)

psi are the discounted sums of K features of each step that the policy of task z will meet. A
reward that is linear in them, r = w' phi, is valued by w' psi without another update, for every w:
the policy takes w as its task. It improves on several policies at once, Z and w's own: none of them
alone need be good for w. No reward of the log is read. Beside ``RandomTask`` with ``LinearTasks``
the z are drawn from a box, beside ``TransitionInverseRL`` they suit the step.

Reference: Barreto et al. 2017, "Successor features for transfer in reinforcement learning", arXiv
1606.05312; one network for all z: Borsa et al. 2019, "Universal successor features approximators",
arXiv 1812.07626, algorithm 1.

Deviations:
- Features are columns of the log and not learned; their spread over the log is the unit of a
  network's outputs and errors.
- The next action is chosen by the online critic (double Q-learning), of several by the least.
- Z are tasks that the log's rows were given, where Borsa et al. draw around w: a file has no draws.

Update order: critics, then, where it is due, the target critics.
"""

from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges
from hindsight_rl.keys import NEXT_ACHIEVED, NEXT_OBSERVATION, TASK, TERMINATED, Key, key_of
from hindsight_rl.maths.posterior import SoftValues
from hindsight_rl.maths.successors import improved_values, policy_values, successor_target
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.successor_critic import SuccessorCritic
from hindsight_rl.policies.action_values import Greedy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.features import FeaturePass
from hindsight_rl.training.learner import Learner, LossTerms, Transition

_STEP: tuple[Key, ...] = ("observation", "action", TASK, NEXT_OBSERVATION, TERMINATED)


class SuccessorFeatures(Learner):
    """What features each policy will meet, and the best of several policies for a given reward.

    Args:
        spec: What the data look like; tasks are the weights of K features.
        network: Inputs and hidden layers, see :class:`Network`.
        features: Column with the features ``[K]``, as it is printed: that of ``LinearTasks``.
        policies: How many policies Z improvement has beside that of the task: those of the first
            tasks that rows were given; at least 0.
        tasks: Tasks whose policies are taken in their place, K numbers each.
        target_every: Updates between two moves of the target critics, at least 1.
        temperature: Of the soft-max that actions are drawn from where they are drawn, reward units,
            above 0.
        discount: In [0, 1).
        tau: Share of the way the target critics move, in (0, 1]; 1 copies.
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or rows have no task.
    """

    in_keys = (*_STEP, NEXT_ACHIEVED)
    optional_keys = ()
    actions = ("discrete",)
    targets = {"target_critic": "critic"}
    actor: Greedy
    others: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        features: str = "next.achieved_goal",
        policies: int = 8,
        tasks: Sequence[Sequence[float]] | None = None,
        target_every: int = 100,
        temperature: float = 1.0,
        discount: float = 0.95,
        tau: float = 1.0,
        critics: int = 1,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, policies=policies), at_least(1, target_every=target_every))
        check_ranges(above(0, temperature=temperature))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        if discount == 1:
            raise ValueError("discount is 1, it must be below 1: features are met for ever")
        self.discount, self.tau = discount, tau
        self.every = {"target_critic": target_every}
        self.features = key_of(features)
        self.in_keys = (*_STEP, self.features)
        self.critic = SuccessorCritic(self.spec, network, members=critics, discount=discount)
        self.target_critic = self.follow(self.critic)
        self.register_buffer("others", self._policies(policies, tasks))
        self.actor = Greedy(self.action_values, temperature)
        self.log_pass = FeaturePass(self.features, self.critic.width, self.take_unit)

    def _policies(self, count: int, tasks: Sequence[Sequence[float]] | None) -> Tensor:
        """Return the tasks Z ``[P, K]`` whose policies are improved on."""
        width = self.critic.width
        if tasks is None:
            known = torch.as_tensor(self.spec.probe.task, dtype=torch.float32)
            return known.reshape(-1, width)[:count].clone()
        if any(len(task) != width for task in tasks):
            raise ValueError(f"tasks must have {width} numbers each, as those of the log")
        return torch.tensor(tasks, dtype=torch.float32).reshape(-1, width)

    def take_unit(self, mean: Tensor, spread: Tensor) -> None:
        """Take what the first pass over a log knows of features, ``[K]`` each."""
        self.critic.take(mean, spread)
        self.target_critic.take(mean, spread)

    def action_values(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return what every action is worth ``[..., n]`` where the best of the policies follows.

        Args:
            observation: ``[..., O]``.
            task: ``[..., K]``, the weights w.

        Returns:
            Reward units, by the least of the critics.

        Raises:
            ValueError: There is no task.
        """
        if task is None:
            raise ValueError("SuccessorFeatures acts for a reward: pass its weights, task [..., K]")
        shape = (len(self.others), *task.shape)
        others = self.others.view(-1, *(1,) * (task.ndim - 1), task.shape[-1]).expand(shape)
        psi = self.critic(observation, None, torch.cat([others, task.unsqueeze(0)]))
        return improved_values(psi, task)

    def own_values(self, observation: Tensor, task: Tensor) -> Tensor:
        """Return what every action is worth ``[..., n]`` under the policy of the task itself."""
        return policy_values(self.critic(observation, None, task), task).amin(0)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and values z' psi ``[E, B]``."""
        now = Transition(batch)
        task, following = batch[TASK], now.next_observation
        with torch.no_grad():
            best = self.own_values(following, task).argmax(-1)
            ahead = self.target_critic(following, best, task)
        phi, ends = batch[self.features].expand_as(ahead), now.terminated.expand(ahead.shape[:-1])
        target = successor_target(phi, ends, ahead, self.discount)
        psi = self.critic(now.observation, now.action, task)
        error = (target - psi) / self.critic.scale
        return 0.5 * error.square().sum(-1).mean(-1).sum(), (psi.detach() * task).sum(-1)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic``, see :meth:`Learner.losses`."""
        critic, q = self.critic_loss(batch)
        return LossTerms({"critic": critic}, {"critic/q_max": q.abs().amax()})

    def soft_values(self, batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        """Return :meth:`Greedy.soft_values`; draws are not used: it knows no chance."""
        return self.actor.soft_values(batch, task, self.discount)
