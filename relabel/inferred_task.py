"""Which task a few episodes are about: the posterior of inverse RL, of all of them together.

    p(z | tau_1 .. tau_E)  ~  p(z) prod_e exp( R_z(tau_e) / temperature - log Z_z )

log Z is that of a log of many tasks, as relabeling finds it; the episodes are of one task. A policy
that takes the task as an input is thereby adapted by demonstrations, without a gradient.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.maths.posterior import log_partition, task_posterior
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.inverse_trajectory import InverseRL


class InferredTask(NamedTuple):
    """What episodes say of their task.

    Attributes:
        task: ``[Z]``, the likeliest of the candidates.
        probability: ``[N]``, of each candidate.
        tasks: ``[N, Z]``, the candidates.
    """

    task: Tensor
    probability: Tensor
    tasks: Tensor

    @property
    def perplexity(self) -> float:
        """How many tasks the episodes leave open, exp(entropy); 1 for one."""
        share = self.probability
        return float(torch.exp(-torch.special.xlogy(share, share).sum()))


def inferred_task(rule: InverseRL, reference: LogView, given: LogView) -> InferredTask:
    """Return the task that given episodes are about.

    Args:
        rule: Tasks, scores and temperature, as a log is relabeled with them.
        reference: Log that the tasks are compared by: of it are log Z, and what the candidates and
            the temperature are found from.
        given: Episodes of one task.

    Returns:
        The task.

    Raises:
        ValueError: Units are not episodes, or the episodes are possible under no candidate.
    """
    if rule.unit != "episode":
        raise ValueError(
            f"InverseRL judges by unit {rule.unit!r}, and here whole episodes are of one task: set "
            "unit to episode"
        )
    bound = rule.prepare(reference)
    known = torch.zeros(len(bound.posterior), dtype=torch.bool)
    known[reference.take("episode", reference.drawable())] = True
    scores = bound.scores(given).double()
    log_prior = None if rule.tasks is None else bound.family.log_prior(bound.choices)
    log_z: Tensor | bool = False
    if rule.partition:
        compared = bound.scores(reference).double() / bound.temperature
        log_z = len(scores) * log_partition(compared, known)
    together = scores.sum(0, keepdim=True)
    if not bool(together.isfinite().any()):
        raise ValueError(
            f"the {len(scores)} episodes are possible under none of the {len(bound.choices)} "
            "candidates: propose more or other tasks, or score their rewards (score sum)"
        )
    share = task_posterior(
        together, log_prior, partition=log_z, temperature=bound.temperature
    ).squeeze(0)
    return InferredTask(bound.choices[share.argmax()], share, bound.choices)
