"""C-learning (CLearning): a classifier of the states ahead, and a policy that makes a goal one.

    ratio = min_k C'_k / (1 - C'_k) (s', a', g),  a' ~ pi(s', g)
    L_C   = -sum_k E[ (1 - gamma) log C_k(s, a, g') + gamma (1 - d) ratio log C_k(s, a, g)
                      + log(1 - C_k(s, a, g)) ]                                         (eq. 8)
    L_pi  = -E[ min_k log C_k(s, a, g) ],  a ~ pi(s, g)                                (eq. 11)

g' is what the step reached, and g a state drawn from all that the log reached, whatever the row:
``RandomTask`` with ``GoalReaching`` draws it. C tells states ahead of (s, a) from such states, so
that C / (1 - C) is by how much an action makes g likelier than it is anyway: a value of reaching g
that knows no reward, no radius and no unit. C' are target classifiers. For discrete actions a' and
the policy take the action with the largest min_k C_k.

Reference: Eysenbach, Salakhutdinov and Levine 2021, "C-Learning: Learning to achieve goals via
recursive classification", arXiv 2011.08909, algorithms 1 and 2; google-research/c_learning.

Deviations:
- Each row counts on both sides, with its g' and with its g; the published code has half of a batch
  for either.
- Steps that terminate have nothing ahead; the published code ignores ends.
- L_pi is that of the paper; the published code climbs C itself and found no difference.
- One joint step from the same parameters; the terms touch disjoint networks.

Update order: classifiers and policy together, then the target classifiers. The online classifiers
lead the policy.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from torch.nn import functional

from hindsight_rl.arguments import above, check_bootstrap, check_ranges
from hindsight_rl.keys import NEXT_ACHIEVED, NEXT_OBSERVATION, TASK, TERMINATED
from hindsight_rl.maths.future_states import future_loss, future_ratio
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.action_values import Greedy
from hindsight_rl.spec import SpecError, SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition


class CLearning(Learner):
    """A policy that reaches goals, by a classifier of what is ahead; tasks are goals.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        discount: In [0, 1): how far ahead states count.
        tau: Share of the way a target classifier moves per update, in (0, 1].
        critics: Number of classifiers whose minimum is taken.
        max_ratio: Largest ratio in a target, above 0; ``None`` for 1 / (1 - discount). Where goals
            are few, ratios are as large as one goal is rare.
        temperature: Of the soft-max that discrete actions are drawn from where they are drawn,
            nats, above 0.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, rows have no task, or continuous actions have no
            bounds.
    """

    in_keys = ("observation", "action", TASK, NEXT_OBSERVATION, NEXT_ACHIEVED, TERMINATED)
    optional_keys = ()
    targets = {"target_critic": "critic"}
    actor: Policy | Greedy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        max_ratio: float | None = None,
        temperature: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        check_ranges(above(0, temperature=temperature))
        check_ranges(above(0, max_ratio=max_ratio), note=", or null for 1 / (1 - discount)")
        if discount == 1:
            raise ValueError("discount is 1, it must be below 1: what is ahead never ends")
        if self.spec.task is None:
            raise SpecError(
                "C-learning needs goals as tasks, and rows have none: add RandomTask with a family "
                "GoalReaching to data.relabel"
            )
        self.discount, self.tau = discount, tau
        self.max_ratio = 1.0 / (1.0 - discount) if max_ratio is None else max_ratio
        self.critic = Critic(self.spec, network, members=critics)
        self.target_critic = self.follow(self.critic)
        if self.spec.action.discrete:
            self.actor = Greedy(self.logits, temperature)
        else:
            self.actor = Policy(self.spec, network, head=Head("tanh_gaussian", spread="per_state"))

    @property
    def noise(self) -> dict[str, int]:
        """Return what one action now and one next needs; none for discrete ones."""
        policy = self.actor
        return dict.fromkeys(("now", "next"), policy.width) if isinstance(policy, Policy) else {}

    def logits(self, observation: Tensor, task: Tensor | None = None) -> Tensor:
        """Return log C / (1 - C) of every discrete action ``[..., n]``, the least, nats."""
        value: Tensor = self.critic(observation, None, task).amin(0)
        return value

    def ahead(self, batch: TensorDict) -> Tensor:
        """Return the ratio of each row's goal from its next state on, ``[B]``."""
        now, goal = Transition(batch), batch[TASK]
        with torch.no_grad():
            if isinstance(self.actor, Policy):
                action, _ = self.actor.draw(now.next_observation, now.noise("next"), goal)
            else:
                action = self.actor.mode(now.next_observation, goal)
            logit = self.target_critic(now.next_observation, action, goal).amin(0)
        return future_ratio(logit, limit=self.max_ratio)

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the classifiers, ``[]``, summed, and what is to be looked at."""
        now, goal, reached = Transition(batch), batch[TASK], batch[NEXT_ACHIEVED]
        if goal.shape != reached.shape:
            raise ValueError(
                f"goals have shape {list(goal.shape[1:])}, and what is reached has "
                f"{list(reached.shape[1:])}: C-learning takes states themselves as goals, without "
                "a margin or an effort"
            )
        ratio = self.ahead(batch)
        met, other = (self.critic(now.observation, now.action, each) for each in (reached, goal))
        loss = future_loss(
            met,
            other,
            ratio.expand_as(other),
            now.terminated.expand(other.shape),
            discount=self.discount,
        )
        right = 0.5 * ((met > 0).float().mean() + (other < 0).float().mean())
        metrics = {"critic/accuracy": right, "critic/ratio": ratio.mean()}
        return loss.mean(-1).sum(), metrics

    def actor_loss(self, batch: TensorDict, actor: Policy) -> Tensor:
        """Return the loss of the policy, ``[]``."""
        now = Transition(batch)
        action, _ = actor.draw(now.observation, now.noise("now"), now.task)
        logit = frozen(self.critic)(now.observation, action, now.task).amin(0)
        return functional.softplus(-logit).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``critic`` and, of continuous actions, ``actor``."""
        critic, metrics = self.critic_loss(batch)
        terms = {"critic": critic}
        if isinstance(self.actor, Policy):
            terms["actor"] = self.actor_loss(batch, self.actor)
        return LossTerms(terms, metrics)
