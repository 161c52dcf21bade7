"""Direct preference optimisation (DPO) on segments: a policy from comparisons, near a reference.

    s_i = beta sum_t log( pi(a_t | s_t; i) / ref(a_t | s_t; i) )
    L   = -E[ y log sigma(s_2 - s_1) + (1 - y) log sigma(s_1 - s_2) ]                (eq. 7)

y: probability that segment 2 is better. Where answers follow the reward, beta log(pi / ref) is the
reward, up to a number per state, of the best policy that pays beta for each nat away from the
reference: over all pairs of one state's actions it is ref exp(r / beta), one step of
reward-weighted regression (eq. 4).

The reference is the policy as it clones the steps of the segments, before it is moved by answers.

Reference: Rafailov, Sharma, Mitchell, Ermon, Manning and Finn 2023, "Direct preference
optimization", arXiv 2305.18290; summed over the steps of segments as in Hejna et al. 2023, arXiv
2310.13639, section 3.

Deviations:
- Actions of a robot move its state, which words of an answer do not: the sums are right where both
  segments begin in the same state, or where preferences are about advantages, as CPL's.
- The policy clones in the same run first (``cloning_updates``), or starts from another run's
  (``weights_from``), whose policy is the reference then.

Update order: one network, one step. The reference follows the policy while it clones.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND
from hindsight_rl.maths.preferences import by_preference, direct_loss, pair_accuracy, segment_sum
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.restoring import is_restoring
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import COMPARISON, COMPARISON_TASKS, Learner, LossTerms


class DPO(Learner):
    """A policy whose better segments became likelier than a reference finds them.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions with an exact density, see :class:`Head`.
        beta: Weight of staying with the reference, nats of preference per nat, above 0.
        cloning_updates: Updates, at the start, that clone the steps of the segments. Where they
            end, the policy becomes the reference. 0 with ``weights_from`` alone.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, there is no reference, or the head has no exact
            density.
    """

    in_keys = COMPARISON
    optional_keys = COMPARISON_TASKS
    targets = {"reference": "actor"}
    tau = 1.0
    actor: Policy
    reference: Policy
    cloned: Tensor

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(),
        head: HeadKind | Head = "gaussian",
        beta: float = 0.1,
        cloning_updates: int = 2000,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, beta=beta), at_least(0, cloning_updates=cloning_updates))
        if cloning_updates == 0 and self.start is None and not is_restoring():
            raise ValueError(
                "cloning_updates is 0 and there is no weights_from: the reference would be a "
                "policy that nothing was fitted to. Set cloning_updates, or weights_from to a run "
                "of DPO"
            )
        self.beta, self.cloning_updates = beta, cloning_updates
        self.actor = Policy(self.spec, network, head=head)
        check_exact("DPO", self.actor, "preferences are about sums of log-probabilities")
        self.reference = self.follow(self.actor)
        self.until = {"reference": cloning_updates}
        self.register_buffer("cloned", torch.zeros(()))

    def on_train_start(self) -> None:
        """Begin with the policy as its own reference, whatever it starts from."""
        if not self.updates:
            self.reference.load_state_dict(self.actor.state_dict())
            self.cloned.zero_()
        super().on_train_start()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` of pairs.

        Returns:
            The term, how often the better segment is the one that became likelier, and by how
            much log-probabilities of steps differ from the reference's.
        """
        steps, ratios = [], []
        for part in (FIRST, SECOND):
            task = batch.get((part, "task"), None)
            given = batch[part, "observation"], batch[part, "action"], task
            steps.append(self.actor.log_prob(*given))
            with torch.no_grad():
                reference = self.reference.log_prob(*given)
            ratios.append(steps[-1] - reference)
        first, second = (segment_sum(ratio) for ratio in ratios)
        label, log_prob = batch[PREFERENCE], torch.cat(steps).mean()
        direct = direct_loss(first, second, label, beta=self.beta).mean()
        cloning = self.cloned < self.cloning_updates
        if self.training:
            self.cloned.copy_(self.cloned + 1.0)
        means = [one.detach().mean(-1) for one in steps]
        better, worse = by_preference(means[0], means[1], label)
        metrics = {
            "actor/accuracy": pair_accuracy((second - first).detach(), label),
            "actor/log_prob": log_prob.detach(),
            "actor/log_prob_better": better.mean(),
            "actor/log_prob_worse": worse.mean(),
            "actor/log_ratio": torch.cat(ratios).detach().mean(),
        }
        return LossTerms({"actor": torch.where(cloning, -log_prob, direct)}, metrics)
