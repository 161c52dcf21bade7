"""Recurrent behaviour cloning: imitate logged actions, given all that was seen before them.

    h_t = RNN(h_{t-1}, [s_t, z]),   L(theta) = -E_log[ w log pi_theta(a_t | h_t, s_t) ]

over segments of L steps. A log of what sensors see rarely shows the whole state: velocities, what
lies behind a corner, which phase of a task it is. The vector h, the state of a GRU or an LSTM,
carries what was seen so far.

Reference: Mandlekar et al. 2021, "What matters in learning from offline human demonstrations for
robot manipulation", arXiv 2108.03298 (BC-RNN).

Deviations:
- A segment may begin anywhere in an episode, and its first h is 0: the steps of a burn-in update h
  and are not imitated (Kapturowski et al. 2019, R2D2), unless the episode begins with them. The
  authors reset h every L steps while acting instead; here it is reset where an episode begins.
- The loss is divided by the number of steps imitated, not by the length of the segments.
- Gates begin with biases that keep what is remembered for 1 to L steps (Tallec and Ollivier 2018,
  arXiv 1804.11188).

Update order: one network, one step.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.nets.encoders.sequence import CellKind
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, named
from hindsight_rl.training.recurrent import Remembers
from hindsight_rl.windows import Window


class RecurrentBC(Remembers, Learner):
    """Weighted negative log-likelihood of logged actions, by a policy that remembers.

    Args:
        spec: What the data look like.
        units: Width of the features of a layer, H.
        cell: Kind of the recurrent cells; an LSTM remembers 2 H numbers a layer, a GRU H.
        layers: Layers of cells, at least 1.
        network: Inputs, and hidden layers behind what is remembered, see :class:`Network`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        segment: L, steps of a segment, at least 2.
        burn_in: Steps at the start of a segment that are not imitated, in [0, L), unless the
            episode begins there.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = (
        "step",
        ("chunk", "observation"),
        ("chunk", "action"),
        ("chunk", "valid"),
    )
    optional_keys = ("task", "weight")
    action_windows = {"chunk": "answers"}

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        units: int = 128,
        cell: CellKind = "gru",
        layers: int = 1,
        network: Network = Network(hidden=(128,)),
        head: HeadKind | Head = "gaussian",
        segment: int = 16,
        burn_in: int = 4,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(1, units=units))
        check_ranges(at_least(2, segment=segment), within(f"[0, {segment})", burn_in=burn_in))
        self.burn_in = burn_in
        self.window = Window(chunk=segment)
        memory = RecurrentInputs(
            self.spec, network, units, cell=cell, layers=layers, horizon=segment
        )
        self.actor = Policy(self.spec, network, head=head, memory=memory)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with segments; ``weight`` and ``task`` are those of the row
                that a segment begins with, and hold for all of it.

        Returns:
            Terms and metrics.
        """
        segment = batch["chunk"]
        observation, action, task = segment["observation"], segment["action"], batch.get("task")
        if task is not None:
            task = task.unsqueeze(-2).expand(*segment["valid"].shape, task.shape[-1])
        distribution = self.actor.distribution(self.memory.segment(observation, task), observation)
        log_prob = distribution.log_prob(self.actor.scale.to_policy(action))
        counted = (segment["valid"] & self._warm(batch["step"])).to(log_prob.dtype)
        rows = -(counted * log_prob).sum(-1)
        weight = batch.get("weight")
        mean_steps = self.batch_mean(counted.sum(-1)).clamp_min(1e-6)
        loss = (rows if weight is None else weight * rows).mean() / mean_steps
        metrics = self.actor.family.metrics(distribution)
        if "entropy" in metrics:  # of the steps that are imitated
            entropy = counted * distribution.entropy().detach()
            metrics["entropy"] = entropy.sum() / counted.sum().clamp_min(1.0)
        return LossTerms({"actor": loss}, named("actor", metrics))

    def _warm(self, step: Tensor) -> Tensor:
        """Return ``[B, L]``, which steps of segments that begin at ``step`` are imitated."""
        place = torch.arange(self.window.chunk, device=step.device)
        return (place >= self.burn_in) | (step.unsqueeze(-1) == 0)
