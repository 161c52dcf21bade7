"""Contrastive preference learning (CPL): a policy from comparisons, without a reward.

    s_i = alpha sum_t log pi(a_t | s_t; i)                                                  (eq. 5)
    L   = -E[ y log sigma(s_2 - lambda s_1) + (1 - y) log sigma(s_1 - lambda s_2) ]          (eq. 8)

y: probability that segment 2 is better. Preferences are taken to follow regret, the sum of
advantages, and alpha log pi is the advantage of the best policy: so no reward and no value is
learned. lambda below 1 keeps the loss from being lowered by making both segments unlikely.

With scored segments each of a batch is compared with each other one (``compare="ranks"``), as in
the published runs.

Reference: Hejna, Rafailov, Sikchi, Finn, Niekum, Knox and Sadigh 2023, "Contrastive preference
learning", arXiv 2310.13639.

Deviations:
- The mean over ranked pairs counts those whose loss is 0; the published code leaves them out.
- Cloning first is a run of its own (``contrast: 0, cloning: 1``), and ``weights_from`` goes on from
  it with a new optimiser; there it is the beginning of one run.
- No dropout.

Update order: one network, one step.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND, Key
from hindsight_rl.maths.preferences import (
    by_preference,
    contrastive_loss,
    pair_accuracy,
    ranked_loss,
    segment_sum,
)
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import COMPARISON, COMPARISON_TASKS, Learner, LossTerms


class CPL(Learner):
    """A policy whose better segments are the likelier ones.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        head: Distribution of continuous actions with an exact density, see :class:`Head`.
        alpha: Temperature of the policy that is looked for: what a nat of log-probability is worth
            in nats of preference, above 0.
        bias: lambda, factor of the worse segment's sum, in (0, 1].
        compare: ``"pairs"``: the two segments of each answer; ``"ranks"``: all segments of a batch
            by their scores, which a teacher must have given.
        contrast: Weight of this loss, at least 0.
        cloning: Weight of cloning all actions of the segments, at least 0.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, both weights are 0, or the head has no exact
            density.
    """

    in_keys: tuple[Key, ...] = COMPARISON
    optional_keys = COMPARISON_TASKS
    rates = {"actor": 1e-4}
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(512, 512)),
        head: HeadKind | Head = "gaussian",
        alpha: float = 0.1,
        bias: float = 0.5,
        compare: Literal["pairs", "ranks"] = "pairs",
        contrast: float = 1.0,
        cloning: float = 0.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, alpha=alpha), at_least(0, contrast=contrast, cloning=cloning))
        check_ranges(within("(0, 1]", bias=bias))
        if contrast == cloning == 0:
            raise ValueError("contrast and cloning are both 0: nothing is learned. Set one above 0")
        self.alpha, self.bias, self.compare = alpha, bias, compare
        self.contrast, self.cloning = contrast, cloning
        self.actor = Policy(self.spec, network, head=head)
        check_exact("CPL", self.actor, "preferences are about sums of log-probabilities")
        if compare == "ranks":
            self.in_keys = (*type(self).in_keys, (FIRST, "score"), (SECOND, "score"))

    def on_fit_start(self) -> None:
        """Plan the updates; ranked segments of other processes would not be compared."""
        if self.compare == "ranks" and self.trainer.world_size > 1:
            raise ValueError(
                "compare is ranks, and every segment of a batch is compared with every other one: "
                "use one process (trainer.devices 1), or compare pairs"
            )
        super().on_fit_start()

    def _log_probs(self, batch: TensorDict, part: str) -> Tensor:
        """Return the log-probability of each step of a segment, ``[B, L]``."""
        task = batch.get((part, "task"), None)
        return self.actor.log_prob(batch[part, "observation"], batch[part, "action"], task)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` of pairs.

        Returns:
            The term, and how often the better segment is the likelier one.
        """
        steps = [self._log_probs(batch, part) for part in (FIRST, SECOND)]
        first, second = (self.alpha * segment_sum(one) for one in steps)
        if self.compare == "ranks":
            scores = torch.cat([batch[part, "score"] for part in (FIRST, SECOND)])
            loss = ranked_loss(torch.cat([first, second]), scores, bias=self.bias)
        else:
            loss = contrastive_loss(first, second, batch[PREFERENCE], bias=self.bias)
        log_prob = torch.cat(steps).mean()
        means = [one.detach().mean(-1) for one in steps]
        better, worse = by_preference(means[0], means[1], batch[PREFERENCE])
        metrics = {
            "actor/accuracy": pair_accuracy((second - first).detach(), batch[PREFERENCE]),
            "actor/log_prob": log_prob.detach(),
            "actor/log_prob_better": better.mean(),
            "actor/log_prob_worse": worse.mean(),
        }
        term = self.contrast * loss.mean() - self.cloning * log_prob
        return LossTerms({"actor": term}, metrics)
