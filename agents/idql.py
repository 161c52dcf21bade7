"""Implicit diffusion Q-learning (IDQL): a model of the log proposes actions, IQL's critics choose.

    L_V  = E[ |expectile - 1(u < 0)| u^2 ],   u = min_k Q'_k(s, a) - V(s)
    L_Q  = sum_k E[ (r + gamma (1 - d) V(s') - Q_k(s, a))^2 ]
    L_pi = E[ |v(x_t, t, s) - (a - eps)|^2 ],   x_t = (1 - t) eps + t a
    a    = argmax_i min_k Q'_k(s, a_i),   a_i sampled from the model,   i = 1 ... N          (best)
    P(a = a_i) ~ expectile if min_k Q'_k(s, a_i) > V(s), else 1 - expectile              (implicit)

The model is fitted with weight 1: it never sees the critics, and they never an action outside the
log. The expectile's value is that of the second policy exactly; the first is greedier with N, and
exploits the critics' errors with it: compare N = 1, 8 and 64.

Reference: Hansen-Estruch, Kostrikov, Janner, Kuba and Levine 2023, "IDQL: implicit Q-learning as an
actor-critic method with diffusion policies", arXiv 2304.10573.

Deviations:
- The model is a flow; ``generator="diffusion"`` is the paper's: noise of T = 5 steps of the
  variance-preserving schedule, walked by DDIM instead of DDPM, so that noise is drawn once.
- One rate ``tau`` for target critics and the average of the model; the authors' are .005 and .001.
- Rates are constant unless ``decay`` is given; the authors' fall to 0 on a cosine.

Update order: V, Q and model together, then target critics and average, which act.
"""

from functools import partial
from typing import Any, Literal

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_bootstrap, check_ranges, within
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.network import Network, NoiseNetwork
from hindsight_rl.policies.best_of import BestOf, implicit_scores
from hindsight_rl.policies.chunked import needed
from hindsight_rl.policies.samplers import Diffusion, Flow, Sampler
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import TRANSITION, Learner, LossTerms, Transition
from hindsight_rl.training.policy_values import expectile_value_loss, implicit_critic_loss

DIFFUSION_STEPS = 5


class IDQL(Learner):
    """Take one of the actions that a model of the log proposes, by the values of IQL.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers of the model, see :class:`NoiseNetwork`.
        critic_network: Those of critics and value.
        generator: ``"flow"``, or ``"diffusion"`` of 5 steps.
        steps: From noise to a proposal, at least 1; at most 5 of a diffusion. ``hindsight export
            --steps`` may choose anew.
        samples: N, actions proposed where the policy acts, at least 1.
        extraction: ``"best"`` takes the best of them, ``"implicit"`` draws one.
        expectile: In (0, 1); larger leans to the best logged actions.
        discount: In [0, 1].
        tau: Share of the way target critics and the average move per update, in (0, 1].
        critics: Number of critics whose minimum is taken.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    in_keys = TRANSITION
    targets = {"target_critic": "critic", "actor_ema": "actor"}
    actions = ("continuous",)
    actor: Denoiser
    actor_ema: Denoiser

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: NoiseNetwork = NoiseNetwork(hidden=(256, 256, 256)),
        critic_network: Network = Network(),
        generator: Literal["flow", "diffusion"] = "flow",
        steps: int = 5,
        samples: int = 64,
        extraction: Literal["best", "implicit"] = "best",
        expectile: float = 0.7,
        discount: float = 0.99,
        tau: float = 0.005,
        critics: int = 2,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("(0, 1)", expectile=expectile), at_least(1, samples=samples))
        check_bootstrap(discount=discount, tau=tau, critics=critics)
        self.samples, self.extraction, self.expectile = samples, extraction, expectile
        self.discount, self.tau = discount, tau
        self.actor = Denoiser(self.spec, network)
        self.value = ValueNet(self.spec, critic_network)
        self.critic = Critic(self.spec, critic_network, members=critics)
        self.target_critic, self.actor_ema = self.follow(self.critic), self.follow(self.actor)
        limits = partial(self.actor.data_limits, self.spec)
        self.sampler: Sampler = (
            Flow(steps) if generator == "flow"
            else Diffusion(limits(), length=DIFFUSION_STEPS, steps=steps, schedule="vp")
        )  # fmt: skip

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: where the way to its action begins, and a time."""
        return {"flow": self.actor.outputs, "time": 1}

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return the error of the model of the log, ``[]``."""
        now, when = Transition(batch), batch["noise", "time"].squeeze(-1)
        action = self.actor.scale.to_policy(now.action)
        given = (now.noise("flow"), when, now.observation, now.task)
        return self.sampler.error(self.actor, action, *given).mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value``, ``critic`` and ``actor``, see :meth:`Learner.losses`."""
        value, advantage = expectile_value_loss(
            batch, self.value, self.target_critic, expectile=self.expectile
        )
        critic, q = implicit_critic_loss(batch, self.critic, self.value, discount=self.discount)
        terms = {"value": value, "critic": critic, "actor": self.actor_loss(batch)}
        metrics = {"value/advantage": advantage.mean(), "critic/q_max": q.abs().amax()}
        return LossTerms(terms, metrics)

    def propose(self, observation: Observation, task: Tensor | None, noise: Tensor) -> Tensor:
        """Return actions ``[N, n, A]`` of the model in environment units, of as much noise."""
        made = self.sampler.sample(self.actor_ema, observation, task, noise)
        return self.actor.scale.to_environment(made)

    def race(
        self, value: Tensor, observation: Observation, task: Tensor | None, noise: Tensor
    ) -> Tensor:
        """Return scores ``[n, N]`` whose largest is drawn from the implicit policy."""
        level = self.value.precise(observation, task)
        return implicit_scores(value, level, noise, expectile=self.expectile)

    @property
    def policy(self) -> BestOf:
        """Return what takes one of the proposals."""
        made = BestOf(
            self.propose, self.target_critic, samples=self.samples, width=self.actor.outputs
        )
        return made if self.extraction == "best" else made.ranked(self.race, 2 * self.samples)

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers N proposals, and the choice among them, need."""
        return self.policy.noise

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return one of the proposals, and the scores by which it is taken."""
        found = self.policy(observation, task, needed(noise, self.acting_noise))
        # A traced graph would not know how wide an action of one number is.
        return found._replace(action=found.action.reshape(-1, self.actor.width))
