"""Flow Q-learning (FQL): a one-step policy climbs critics and stays near a flow of the log.

    L_v  = E[ |v(x_t, t, s) - (a - eps)|^2 ],   x_t = (1 - t) eps + t a
    L_mu = E[ -Q(s, mu(s, eps)) / E|Q| + alpha |mu(s, eps) - F_N(s, eps)|^2 ]
    L_Q  = sum_k E[ (r + gamma (1 - d) Q'(s', mu(s', eps')) - Q_k(s, a))^2 ]

F_N walks N Euler steps of v from the noise eps; Q and Q' are means over critics. The flow is cloned
and never sees a critic; the policy is led by the critics in one step, without a gradient through
the walk. Actions and errors are in policy units, [-1, 1] per dimension.

Reference: Park, Li and Levine 2025, "Flow Q-learning", arXiv 2502.02538, algorithm 1.

Deviations:
- Q is divided by its mean magnitude, so that alpha does not depend on the unit of rewards; in the
  authors' code that is an option (``normalize=False`` is their default).
- Networks are perceptrons with ReLU; the authors' have GELU, and layer norm in the critics.

Update order: flow, policy and critics together, then the target critics. The online critics lead
the policy, and the online policy makes the next action of the target.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_bootstrap, check_ranges
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Network, NoiseNetwork
from hindsight_rl.policies.chunked import needed
from hindsight_rl.policies.samplers import Flow
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition


class FQL(Learner):
    """Climb critics with a one-step policy that is distilled from a flow of the log.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers of flow and policy, see :class:`NoiseNetwork`.
        critic_network: Those of the critics.
        alpha: Weight of the distance to the flow, at least 0; the one to choose by task.
        normalize: Divide Q by its mean magnitude.
        flow_steps: N, Euler steps of the flow, at least 1.
        discount: In [0, 1].
        tau: Share of the way the target critics move per update, in (0, 1].
        critics: Number of critics whose mean is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic"}
    actions = ("continuous",)
    actor: Denoiser
    flow: Denoiser

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: NoiseNetwork = NoiseNetwork(hidden=(512, 512, 512, 512)),
        critic_network: Network = Network(hidden=(512, 512, 512, 512)),
        alpha: float = 10.0,
        normalize: bool = True,
        flow_steps: int = 10,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, alpha=alpha), at_least(1, flow_steps=flow_steps))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.alpha, self.normalize = alpha, normalize
        self.discount, self.tau = discount, tau
        self.teacher = Flow(flow_steps)
        self.flow, self.actor = Denoiser(self.spec, network), Denoiser(self.spec, network)
        self.critic = Critic(self.spec, critic_network, members=critics)
        self.target_critic = self.follow(self.critic)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: a line and a time on it, and noise of two actions."""
        width = self.actor.outputs
        return {"flow": width, "time": 1, "actor": width, "next": width}

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers an action needs, A."""
        return self.actor.outputs

    def flow_loss(self, batch: TensorDict) -> Tensor:
        """Return the error of the flow of the log, ``[]``."""
        now, when = Transition(batch), batch["noise", "time"].squeeze(-1)
        action = self.flow.scale.to_policy(now.action)
        given = (now.noise("flow"), when, now.observation, now.task)
        return self.teacher.error(self.flow, action, *given).mean()

    def actor_loss(self, batch: TensorDict) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the policy, ``[]``, and its parts."""
        now, noise = Transition(batch), batch["noise", "actor"]
        scale, given = self.actor.scale, (now.observation, now.task)
        with torch.no_grad():
            arrived = self.teacher.sample(self.flow, *given, noise)
            arrived = scale.to_policy(scale.to_environment(arrived))  # within the bounds
        action = self.actor.at_once(noise, *given)
        distance = (action - arrived).square().mean(-1)
        q = frozen(self.critic)(now.observation, scale.to_environment(action), now.task).mean(0)
        unit = self.batch_mean(q.abs()).clamp(min=1e-6) if self.normalize else 1.0
        loss = (self.alpha * distance - q / unit).mean()
        return loss, {"actor/distance": distance.mean().detach(), "actor/q": q.mean().detach()}

    def critic_loss(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return the loss of the critics, ``[]``, summed, and their values ``[E, B]``."""
        now = Transition(batch, self.discount)
        with torch.no_grad():
            made = self.actor.at_once(now.noise("next"), now.next_observation, now.task)
            action = self.actor.scale.to_environment(made)
            value = self.target_critic(now.next_observation, action, now.task).mean(0)
        return now.regress(self.critic, now.target(value))

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``flow``, ``actor`` and ``critic``, see :meth:`Learner.losses`."""
        actor, metrics = self.actor_loss(batch)
        critic, q = self.critic_loss(batch)
        terms = {"flow": self.flow_loss(batch), "actor": actor, "critic": critic}
        return LossTerms(terms, metrics | {"critic/q_max": q.abs().amax()})

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return actions ``[n, A]``, in one step from noise ``[n, A]``."""
        made = self.actor.at_once(needed(noise, self.acting_noise), observation, task)
        return Decision(self.actor.scale.to_environment(made), {})
