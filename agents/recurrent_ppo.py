"""Recurrent PPO: proximal policy optimization of a policy that remembers; on trials it is RL^2.

    h_t = RNN(h_{t-1}, [s_t, z]),   L_pi = -E[ min(rho A, clip(rho, 1 - clip, 1 + clip) A) ]
    L_V = E[ ((G - V(h'_t)) / value_scale)^2 ] / 2,   rho = pi(a_t | h_t) / pi_old(a_t | h_t)

over segments of L steps that lie side by side in an episode. The value has a memory h' of its own.
What both remembered where a segment begins is that of the round's start, found by the sweep that
finds G and A; within the segment it is found anew, and the gradient flows back to its start.

An environment with ``trial: n`` plays n episodes of one task as one, and shows what was done and
paid before. Memory, return and value then go on over the ends of these episodes, and what the
policy learns is how to find a task out: RL^2.

Reference: Schulman et al. 2017, "Proximal policy optimization algorithms", arXiv 1707.06347;
Duan, Schulman, Chen, Bartlett, Sutskever and Abbeel 2016, "RL^2: fast reinforcement learning via
slow reinforcement learning", arXiv 1611.02779. States carried from the collection: Kapturowski et
al. 2019, "Recurrent experience replay in distributed reinforcement learning" (stored state).

Deviations:
- RL^2 was published with trust regions (TRPO) and a baseline linear in features of time; here both
  are PPO's.
- Segments of L steps, where RL^2 goes back to the start of a trial: so it is with L as long.
- Advantages, clipped gradients and actions at their bounds are those of PPO in this package.
- Gates begin with biases that keep what is remembered for 1 to L steps (Tallec and Ollivier 2018,
  arXiv 1804.11188).

Update order: sweep, when a round begins; then value and policy together, batch by batch.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.nets.cloning import check_exact
from hindsight_rl.nets.critics import ValueNet
from hindsight_rl.nets.encoders.recurrent import RecurrentInputs
from hindsight_rl.nets.encoders.sequence import CellKind
from hindsight_rl.nets.layers import start_orthogonal
from hindsight_rl.nets.network import Head, HeadKind, TanhNetwork
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Actor
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.drawing import Drawing
from hindsight_rl.training.learner import Learner, LossTerms, named
from hindsight_rl.training.proximal import Proximal
from hindsight_rl.training.recurrent import Remembers, memory_of
from hindsight_rl.training.remembered import RememberedPass
from hindsight_rl.training.sweep import Scaling
from hindsight_rl.windows import Window


class RecurrentPPO(Remembers, Learner):
    """A policy that remembers, and climbs the advantages of its own episodes.

    Args:
        spec: What the data look like.
        units: Width of the features of a layer of cells, H.
        cell: Kind of the recurrent cells.
        layers: Layers of cells, at least 1.
        segment: L, steps through which gradients flow back, at least 2.
        network: Inputs, and hidden layers behind what is remembered, see :class:`TanhNetwork`.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        clip: Ratios beyond [1 - clip, 1 + clip] gain nothing; in (0, 1), ``None`` for no clip.
        entropy_weight: Of the policy's entropy, at least 0.
        target_kl: The policy rests where its batch is 1.5 times as far from the policy that
            collected, nats, above 0; ``None`` for never.
        discount: In [0, 1].
        lambda_: In [0, 1]; 0 is the error of one step, 1 the return less the value.
        scaling: ``"standardised"`` gives the advantages of the round mean 0 and standard deviation
            1, ``"raw"`` leaves them in reward units.
        value_scale: Unit of the value network's output, reward units, above 0.
        sweep_every: Updates between sweeps; 0 for one whenever rows have changed, as every round
            does.
        clip_norm: Largest gradient norm of each network, clipped separately; ``None`` for no limit.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range, or the head has no exact density.
    """

    in_keys = (
        ("chunk", "observation"),
        ("chunk", "action"),
        ("chunk", "action_log_prob"),
        ("chunk", "valid"),
    )
    optional_keys = ("task",)

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        units: int = 64,
        cell: CellKind = "gru",
        layers: int = 1,
        segment: int = 16,
        network: TanhNetwork = TanhNetwork(hidden=(64,)),
        head: HeadKind | Head = Head(squash_mean=False),
        clip: float | None = 0.2,
        entropy_weight: float = 0.0,
        target_kl: float | None = None,
        discount: float = 0.99,
        lambda_: float = 0.95,
        scaling: Scaling = "standardised",
        value_scale: float = 1.0,
        sweep_every: int = 0,
        clip_norm: float | None = 0.5,
        **learner: Any,
    ) -> None:
        super().__init__(spec, clip_norm=clip_norm, **learner)
        self.proximal = Proximal(clip, entropy_weight, target_kl)
        self.proximal.check()
        check_ranges(above(0, value_scale=value_scale))
        check_ranges(at_least(1, units=units), at_least(2, segment=segment))
        self.window = Window(chunk=segment, stride=segment)

        def memory() -> RecurrentInputs:
            return RecurrentInputs(
                self.spec, network, units, cell=cell, layers=layers, horizon=segment
            )

        self.actor = Policy(self.spec, network, head=head, memory=memory())
        check_exact("RecurrentPPO", self.actor, "ratios of two policies are ratios of densities")
        self.value = ValueNet(self.spec, network, scale=value_scale, memory=memory())
        start_orthogonal(self.actor.net, 0.01)
        start_orthogonal(self.value.net, 1.0)
        self.log_pass = RememberedPass(
            value=self.value,
            actor=self.memory,
            segment=segment,
            every=sweep_every,
            discount=discount,
            lambda_=lambda_,
            scaling=scaling,
        )

    def value_loss(self, batch: TensorDict, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of V, ``[]``, in units of its scale, and by how much G exceeds V."""
        task, past = _task(batch), batch["past", "value"]
        features = memory_of(self.value).segment(batch["chunk", "observation"], task, past)
        error = batch["segment", "lambda_return"] - self.value.of(features)
        rows = 0.5 * (error / self.value.scale).square()
        return (weight * rows).sum(-1).mean(), (weight * error.detach()).sum(-1).mean()

    def log_ratio(self, batch: TensorDict) -> tuple[Tensor, Tensor]:
        """Return log pi - log pi_old of the actions, and the entropy of pi, ``[B, L]``, nats.

        Before a sweep (``Watch``) memory is known where episodes begin alone: elsewhere it is 0.
        """
        observation, counted = batch["chunk", "observation"], batch["chunk", "valid"]
        past = batch.get(("past", "actor"), None)
        if past is None:
            counted = counted & (batch["step"] == 0).unsqueeze(-1)
        features = self.memory.segment(observation, _task(batch), past)
        distribution = self.actor.distribution(features, observation)
        log_prob = self.actor.executed(distribution, batch["chunk", "action"])
        log_ratio = (log_prob - batch["chunk", "action_log_prob"]).to(torch.float32)
        return torch.where(counted, log_ratio, 0.0), distribution.entropy()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``value`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with segments and the columns of a sweep; ``task`` is that of
                the row that a segment begins with, and holds for all of it.

        Returns:
            Terms and metrics.
        """
        counted = batch["chunk", "valid"].float()
        weight = counted / self.batch_mean(counted.sum(-1)).clamp_min(1e-6)
        value, advantage = self.value_loss(batch, weight)
        actor, metrics = self.proximal.loss(
            *self.log_ratio(batch), batch["segment", "advantage"], self.batch_mean, weight
        )
        metrics = named("actor", metrics) | {"value/advantage": advantage}
        return LossTerms({"value": value, "actor": actor}, metrics)

    def collecting(self, sample: bool) -> Actor:
        """Return what the collector asks: draws, and how likely they were, as memory goes on."""
        return Drawing(self, sample) if sample else super().collecting(sample)


def _task(batch: TensorDict) -> Tensor | None:
    """Return the task of each step ``[B, L, Z]``, ``None`` where there is none."""
    task, valid = batch.get("task", None), batch["chunk", "valid"]
    return None if task is None else task.unsqueeze(-2).expand(*valid.shape, task.shape[-1])
