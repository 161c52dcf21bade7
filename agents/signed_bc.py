"""Signed-label cloning: imitate what is labelled above 0, avoid what is labelled below.

    L(theta) = -E_log[ rho y log pi_theta(a | s, z) ],   y: +1, -1 or any real number

With rho = 1 and a log of the policy's own actions this is the score-based policy gradient
(REINFORCE) with y as reward; of a log of other actions it is that after weighing by their ratio
rho = sg(pi_theta / pi_b) to the policy pi_b that acted. z is the task (absent where there is none).

The part of y < 0 has no lower bound. Remedies, of which the first is on: a floor on log pi of what
is avoided; a smaller scale of negative labels; the policy's entropy as a bonus; PPO's clip, which
ends the gradient where pi has left [1 - clip, 1 + clip] times pi_b; and, for discrete actions,
-log(1 - pi) in place of log pi (unlikelihood).

Reference: Williams 1992, "Simple statistical gradient-following algorithms for connectionist
reinforcement learning" (REINFORCE). The scale: Hejna et al. 2023, arXiv 2310.13639; the clip:
Schulman et al. 2017, arXiv 1707.06347; unlikelihood: Welleck et al. 2019, arXiv 1908.04319.

Deviations:
- A floor is part of the loss as long as it is not set to minus infinity. It takes its value from Oh
  et al. 2018, arXiv 1806.05635, whose cap passes the gradient through; here it ends it.
- States are those of the log: rho corrects which actions were taken in them, not how often each
  state was visited.

Update order: one step; pi_b, where it is cloned, moves with the policy and weighs it as it was.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.keys import Key
from hindsight_rl.maths.signed import importance_ratio, signed_nll, unlikelihood, within_clip
from hindsight_rl.maths.weights import weight_metrics
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.distributions import Distribution
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, Transition, named


class SignedBC(Learner):
    """Cloning of actions labelled above 0, and the reverse of those labelled below.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        floor: Log-probability below which an action labelled negative is left alone, nats per
            action dimension; minus infinity for none.
        negative_scale: Factor of negative labels, at least 0; 0 clones the positive ones alone.
        entropy_weight: Of the policy's entropy, at least 0.
        avoid: How actions labelled negative are made unlikely: by ``"likelihood"``, as above, or
            for discrete actions by ``"unlikelihood"``, which is bounded.
        ratio: ``"none"`` takes the log as it is; ``"importance"`` weighs by pi / pi_b,
            ``"clipped"`` likewise, with PPO's clip.
        behavior: Where pi_b is from: ``"cloned"`` by a network of its own, or ``"logged"``, the
            column ``action_log_prob`` (nats, of actions in environment units; at a bound to which
            they were clipped the mass of what was clipped).
        clip: For ``ratio="clipped"``, in (0, 1).
        max_ratio: Cap on pi / pi_b, above 0.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or does not go with the actions or with another.
    """

    in_keys: tuple[Key, ...] = ("observation", "action", "label")
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        floor: float = -5.0,
        negative_scale: float = 1.0,
        entropy_weight: float = 0.0,
        avoid: Literal["likelihood", "unlikelihood"] = "likelihood",
        ratio: Literal["none", "importance", "clipped"] = "none",
        behavior: Literal["cloned", "logged"] = "cloned",
        clip: float = 0.2,
        max_ratio: float = 10.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, negative_scale=negative_scale, entropy_weight=entropy_weight))
        check_ranges(within("(0, 1)", clip=clip), above(0, max_ratio=max_ratio))
        self.negative_scale, self.entropy_weight = negative_scale, entropy_weight
        self.avoid, self.ratio, self.clip, self.max_ratio = avoid, ratio, clip, max_ratio
        self.actor = Policy(self.spec, network, head=head)
        if avoid == "unlikelihood" and (not self.actor.discrete or ratio != "none"):
            raise ValueError(
                "avoid 'unlikelihood' is for discrete actions and ratio 'none': there is no bound "
                "to hold otherwise"
            )
        check_exact("SignedBC", self.actor, "what is avoided must become less likely")
        self.floor = floor if self.actor.discrete else floor * self.actor.width
        self.behavior: Policy | None = None
        self.logged = ratio != "none" and behavior == "logged"
        if self.logged:
            self.in_keys = (*self.in_keys, "action_log_prob")
        elif ratio != "none":
            self.behavior = Policy(self.spec, network, head=head)
            # Where both start alike no ratio is far from 1.
            self.behavior.load_state_dict(self.actor.state_dict())

    def behavior_log_prob(self, batch: TensorDict) -> Tensor:
        """Return the log-probability of the logged actions under pi_b, ``[B]``, as the actor's."""
        if self.behavior is not None:
            return Transition(batch).log_prob(self.behavior)
        return self.actor.scale.to_policy_density(batch["action_log_prob"])

    def log_prob(self, distribution: Distribution, action: Tensor) -> Tensor:
        """Return that of the actor: at bounds a mass where the log has one there, ``[B]``."""
        if self.logged:
            executed = self.actor.executed(distribution, action).to(torch.float32)
            return self.actor.scale.to_policy_density(executed)
        return distribution.log_prob(self.actor.scale.to_policy(action))

    def weigh(self, log_prob: Tensor, behavior_log_prob: Tensor, label: Tensor) -> Tensor:
        """Return rho, 0 where PPO's clip ends the gradient, ``[B]``."""
        rho = importance_ratio(log_prob, behavior_log_prob, max_ratio=self.max_ratio)
        return rho if self.ratio == "importance" else rho * within_clip(rho, label, clip=self.clip)

    def actor_loss(
        self, batch: TensorDict, behavior_log_prob: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of the policy, ``[]``, and its metrics."""
        now, label = Transition(batch), batch["label"]
        distribution = self.actor(now.observation, now.task)
        log_prob, entropy = self.log_prob(distribution, now.action), distribution.entropy()
        metrics = _by_label(log_prob.detach(), label, self.floor)
        metrics["entropy"] = entropy.detach().mean()
        weight = label
        if behavior_log_prob is not None:
            rho = self.weigh(log_prob, behavior_log_prob, label)
            weight = rho * label
            metrics |= weight_metrics(rho, max_weight=self.max_ratio)
        loss = signed_nll(log_prob, weight, floor=self.floor, negative_scale=self.negative_scale)
        if self.avoid == "unlikelihood":
            bounded = -self.negative_scale * label * unlikelihood(now.action, distribution.logits)
            loss = torch.where(label < 0, bounded, loss)
        return (loss - self.entropy_weight * entropy).mean(), metrics

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``, and ``behavior`` where pi_b is cloned.

        Args:
            batch: TensorDict ``[B]`` with ``label``; ``task`` is used where it is there.

        Returns:
            Terms and metrics.
        """
        if self.ratio == "none":
            actor, found = self.actor_loss(batch, None)
        else:
            behavior_log_prob = self.behavior_log_prob(batch)
            actor, found = self.actor_loss(batch, behavior_log_prob)
        terms = {"actor": actor}
        if self.behavior is not None:
            terms["behavior"] = -behavior_log_prob.mean()
        return LossTerms(terms, named("actor", found))


def _by_label(log_prob: Tensor, label: Tensor, floor: float) -> dict[str, Tensor]:
    """Return how likely actions are by the sign of their label, and the share at the floor."""
    metrics = {}
    for name, chosen in (("positive", label > 0), ("negative", label < 0)):
        chosen = chosen.to(log_prob.dtype)
        metrics[f"log_prob_{name}"] = (chosen * log_prob).sum() / chosen.sum().clamp(min=1.0)
    metrics["negative"] = chosen.mean()
    metrics["floored"] = (chosen * (log_prob < floor)).sum() / chosen.sum().clamp(min=1.0)
    return metrics
