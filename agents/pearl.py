"""PEARL: soft actor-critic for a task that is found out from a few rows of it.

    q(z | C)  ~  N(z; 0, 1) prod_n N(z; mu(c_n), sigma(c_n)^2),   c = (s, a, r)          (sec. 4.2)
    L_Q  = sum_k E[ (y - Q_k(s, a, z))^2 ] / 2 + kl_weight KL(q(z | C) || N(0, 1)),   z ~ q(z | C)
    y    = r + gamma (1 - d) (min_k Q'_k(s', a', z) - alpha log pi(a' | s', z)),   a' ~ pi(s', z)
    L_pi = E[ alpha log pi(a | s, z) - min_k Q_k(s, a, z) ],   a ~ pi(s, z)

C are rows of other episodes of the row's task. The encoder (mu, sigma) is taught by the critics and
the divergence alone: in y and L_pi its z is a constant. No policy is told which task it is in:
``hindsight adapt`` encodes the rows of a few episodes and exports the policy with their z; before,
it acts on z = 0, the mean of the prior.

Reference: Rakelly, Zhou, Quillen, Finn and Levine 2019, "Efficient off-policy meta-reinforcement
learning via probabilistic context variables", arXiv 1903.08254; the authors' code: oyster.

Deviations:
- The prior is a factor of q, so that no context gives the prior; the authors leave it out.
- A context has 0 to N rows, in equal shares: the policy learns what to do before it knows much.
- Every row of a batch has a context of its own; the authors draw 16 tasks, and share one among the
  rows of a task.
- The context is of any logged episode of the task; theirs is of recently collected ones.
- Two critics and a learned temperature, as in the later SAC; theirs has a value network.
- The policy acts on the mean of q where theirs draws z once an episode.

Update order: critics and encoder, policy and temperature in one step, then the target critics.
"""

from typing import Any, Self

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_bootstrap, check_ranges, within
from hindsight_rl.keys import Key
from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.losses import temperature_loss
from hindsight_rl.maths.normal_products import Evidence
from hindsight_rl.nets.context import Context, ContextCritic, ContextPolicy
from hindsight_rl.nets.critics import Temperature
from hindsight_rl.nets.layers import frozen
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.policies.action_values import choices
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.windows import SUPPORT, Shots


class PEARL(Learner):
    """Soft actor-critic beside an encoder of context.

    What it says of rows before it has adapted (``validation/action_error``, ``predict``) is of no
    task in particular.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers of policy and critics, see :class:`Network`.
        encoder: Hidden layers of the encoder.
        latent: L, numbers that stand for a task, at least 1.
        following: Whether a row of context holds the next observation: needed where tasks differ
            in their dynamics, not only in their rewards.
        kl_weight: Weight of the divergence from the prior, at least 0.
        context: N, rows of context at most, at least 1.
        episodes: Episodes that they are of, in [1, ``context``].
        discount: In [0, 1].
        tau: Share of the way a target critic moves per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        target_entropy: Entropy that the temperature holds, nats in policy units; ``None`` for minus
            the number of action dimensions, or 98 % of the largest for discrete actions.
        initial_temperature: alpha at the start, above 0.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or continuous actions have no bounds.
    """

    in_keys: tuple[Key, ...] = TRANSITION
    targets = {"target_critic": "critic"}
    actor: ContextPolicy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        encoder: Network = Network(hidden=(64, 64)),
        latent: int = 5,
        following: bool = False,
        kl_weight: float = 0.1,
        context: int = 32,
        episodes: int = 1,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        target_entropy: float | None = None,
        initial_temperature: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        check_ranges(above(0, initial_temperature=initial_temperature))
        check_ranges(at_least(0, kl_weight=kl_weight), at_least(1, latent=latent, context=context))
        check_ranges(within(f"[1, {context}]", episodes=episodes))
        self.discount, self.tau, self.kl_weight, self.latent = discount, tau, kl_weight, latent
        self.shots = Shots(context, 0, episodes)
        head = Head("tanh_gaussian", spread="per_state")
        self.actor = ContextPolicy(self.spec, network, head, latent)
        encoded = Context(encoder, latent, following)
        self.critic = ContextCritic(self.spec, network, encoded, critics)
        self.temperature = Temperature(initial_temperature)
        self.target_critic = self.follow(self.critic)
        width = self.actor.width
        largest = 0.98 * torch.tensor(width).log().item() if self.actor.discrete else -float(width)
        self.target_entropy = largest if target_entropy is None else target_entropy
        read: tuple[Key, ...] = (
            (SUPPORT, "observation"),
            (SUPPORT, "action"),
            (SUPPORT, "next", "reward"),
        )
        following_key: tuple[Key, ...] = ((SUPPORT, "next", "observation"),) if following else ()
        self.in_keys = (*type(self).in_keys, *read, *following_key)

    @property
    def noise(self) -> dict[str, int]:
        """Return what z, and an action now and one next need, and the length of the context."""
        width = {} if self.actor.discrete else dict.fromkeys(("now", "next"), self.actor.width)
        return width | {"latent": self.latent, "length": 1}

    def posterior(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return mean and log-spread of q(z | C), ``[B, L]`` each, of a part of the context."""
        rows, most = batch[SUPPORT], batch[SUPPORT, "next", "reward"].shape[-1]
        share = torch.special.ndtr(batch["noise", "length"])  # uniform
        place = torch.arange(most, device=share.device)
        seen = (place < share * (most + 1) - 1).to(share.dtype).unsqueeze(-1)
        evidence = self.critic.encoder(rows)
        return Evidence(*(seen * part for part in evidence)).sum(-2).product()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``critic``, ``actor`` and ``temperature``."""
        now = Transition(batch, self.discount)
        mean, log_std = self.posterior(batch)
        latent = mean + log_std.exp() * now.noise("latent")
        task, still = (
            part if now.task is None else torch.cat([now.task, part], dim=-1)
            for part in (latent, latent.detach())
        )
        q = self.critic(now.observation, now.action, task)
        error = 0.5 * (self._target(now, still) - q).square().mean(-1).sum()
        divergence = standard_normal_kl(mean, log_std).mean()
        own = choices(
            self.actor, frozen(self.critic), now.observation, still, now.noise_of(self.actor, "now")
        )
        log_prob = own.mean(own.log_prob)
        actor = self.temperature().detach() * log_prob - own.expected()
        temperature = temperature_loss(self.temperature.log, log_prob.detach(), self.target_entropy)
        terms = {"critic": error + self.kl_weight * divergence, "actor": actor.mean()}
        terms |= {"temperature": temperature.mean()}
        metrics = {
            "critic/q_max": q.detach().abs().amax(),
            "critic/divergence": divergence.detach(),
            "actor/entropy": -log_prob.detach().mean(),
            "temperature/alpha": self.temperature().detach(),
        }
        return LossTerms(terms, metrics)

    def _target(self, now: Transition, task: Tensor) -> Tensor:
        """Return what critics regress to, ``[B]``, reward units."""
        noise = now.noise_of(self.actor, "next")
        with torch.no_grad():
            ahead = choices(self.actor, self.target_critic, now.next_observation, task, noise)
            entropy = -ahead.mean(ahead.log_prob)
            return now.target(ahead.expected() + self.temperature() * entropy)

    def adapted(self, rows: TensorDict) -> Self:
        """Return this learner with the z of the rows ``[N]`` of one task, see ``Adapts``."""
        other = self.fresh(0)
        other.load_state_dict(self.state_dict())
        with torch.no_grad():
            mean, _ = self.critic.encoder(rows).sum(-2).product()
            other.actor.latent.copy_(mean)
        return other.eval()
