"""Cloning by a latent vector (CVAE): several good answers to one situation, one per draw.

    log pi(a | s) >= E_q[ log N(a; D(s, l), std^2) ] - KL(q(l | s, a) || N(0, 1))
    L = E_log[ w ( |a - D(s, l)|^2 / (2 std^2) + kl_weight KL ) ],   l ~ q(l | s, a)

D is the decoder, which acts; q the encoder, a normal distribution, needed for fitting alone. Both
terms are sums over dimensions. a is the chunk of the next C actions.

Reference: Sohn, Lee and Yan 2015, "Learning structured output representation using deep conditional
generative models"; as a policy of chunks: Zhao et al. 2023, arXiv 2304.13705.

Deviations:
- The spread of the decoder is a constant, not learned: it sets the exchange rate of the two terms.
- Free bits: the first nats of every latent number cost nothing, row by row, so that the encoder
  does not fall back to the prior before the decoder listens to it.
- Latent numbers are never clipped: the tails of the prior are answers of the log, too.

Update order: encoder and decoder are one network, and take one step.
"""

from typing import Any, Literal

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges
from hindsight_rl.maths.draws import normals
from hindsight_rl.maths.losses import weighted_loss
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.latent import LatentPolicy
from hindsight_rl.nets.network import LatentNetwork
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class LatentBC(Learner):
    """Weighted cloning by a decoder of chance.

    Args:
        spec: What the data look like.
        network: Inputs, hidden layers of encoder and decoder, and latent numbers, two per action
            dimension unless said: :class:`LatentNetwork`.
        std: Spread of logged actions about what is decoded, policy units, above 0.
        kl_weight: Weight of the divergence, at least 0. Where latent numbers carry nothing (the
            metric ``actor/kl`` near 0), lower it or give free bits.
        free_bits: Nats of each latent number that cost nothing, at least 0.
        acting: ``"prior"`` draws the latent vector for every answer; ``"zero"`` takes its mean:
            repeatable, and between the answers where there are two.
        chunk: C, actions of an answer, at least 1.
        execute: How many of them are executed before the next answer, in [1, C]; ``None`` for half.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = ("observation", ("chunk", "action"), ("chunk", "valid"))
    optional_keys = ("task", "weight")
    actions = ("continuous",)
    action_windows = {"chunk": "plan"}
    zero_noise = True
    actor: LatentPolicy
    chunk: Chunk

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: LatentNetwork = LatentNetwork(),
        std: float = 0.1,
        kl_weight: float = 1.0,
        free_bits: float = 0.0,
        acting: Literal["prior", "zero"] = "prior",
        chunk: int = 1,
        execute: int | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(above(0, std=std), at_least(0, kl_weight=kl_weight, free_bits=free_bits))
        self.window, self.chunk, self.acting = Window(chunk=chunk), Chunk.of(chunk, execute), acting
        self.actor = LatentPolicy(
            self.spec, network, chunk=chunk, std=std, kl_weight=kl_weight, free_bits=free_bits
        )

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: where in its distribution an encoded action lies."""
        return {"actor": self.actor.row_noise}

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers an answer begins with, L; 0 for the mean."""
        return self.actor.row_noise if self.acting == "prior" else 0

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with chunks of actions; ``weight`` and ``task`` are used where
                they are there.

        Returns:
            Terms and metrics.
        """
        found = self.actor.parts(
            batch["observation"],
            batch["chunk", "action"],
            batch["noise", "actor"],
            batch.get("task"),
            batch["chunk", "valid"],
        )
        weight = batch.get("weight")
        rows = found.loss if weight is None else weighted_loss(found.loss, weight)
        metrics = {
            "actor/kl": found.divergence.detach().mean(),
            "actor/bound": found.bound.detach().mean(),
        }
        return LossTerms({"actor": rows.mean()}, metrics)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the first action that the mean of the prior stands for, ``[N, A]``."""
        return self.decide(observation, task, {}).action[:, 0]

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return first actions, of the prior's mean or of draws, see :meth:`Learner.act`."""
        noise = None if draws is None else normals(draws, self.actor.row_noise)
        return self.decide(observation, task, {}, noise).action[:, 0]

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return chunks of actions.

        Args:
            observation: ``[n, O]``.
            task: ``[n, Z]`` where the spec has a task.
            state: Empty.
            noise: ``[n, L]`` standard normal: the latent vectors. ``None`` for their mean.

        Returns:
            ``[n, C, A]`` in environment units within the bounds, and the empty state.
        """
        if noise is None:
            noise = torch.zeros(rows_of(observation), self.actor.row_noise, device=self.device)
        return Decision(self.actor.decode(observation, noise, task), {})
