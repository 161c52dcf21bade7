"""One-step flow: a flow of chunks of actions, and a network that arrives where it does at once.

    L_v  = E_log[ w |v(x_t, t, s, z) - (a - eps)|^2 ],   x_t = (1 - t) eps + t a
    L_mu = E_log[ |mu(s, z, eps) - F_N(s, z, eps)|^2 ]

F_N walks N Euler steps of v from the noise eps; mu answers alone. One Euler step of v itself is the
conditional mean of the data, whatever the noise; mu keeps the modes, because it is fitted noise by
noise.

Reference: Park, Li and Levine 2025, "Flow Q-learning", arXiv 2502.02538: its one-step policy
without the critics.

Deviations:
- Chunks of actions, where the paper has one.
- The flow that is followed, and the network that acts, are averages over updates.

Update order: both networks together, then their averages; mu follows the average flow before it.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.network import NoiseNetwork
from hindsight_rl.policies.chunked import chunk_loss, decide_at_once
from hindsight_rl.policies.samplers import Flow
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class OneStepFlow(Learner):
    """Flow matching of chunks of logged actions, distilled into one step.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers of both networks, see :class:`NoiseNetwork`.
        chunk: C, actions of an answer, at least 1.
        execute: How many of them are executed before the next answer, in [1, C]; ``None`` for half.
        flow_steps: N, Euler steps of the flow that is followed, at least 1.
        tau: Share of the way the averages move per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = ("observation", ("chunk", "action"), ("chunk", "valid"))
    optional_keys = ("task", "weight")
    actions = ("continuous",)
    action_windows = {"chunk": "plan"}
    targets = {"flow_ema": "flow", "actor_ema": "actor"}
    actor: Denoiser
    actor_ema: Denoiser
    flow: Denoiser
    flow_ema: Denoiser
    chunk: Chunk

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: NoiseNetwork = NoiseNetwork(hidden=(256, 256, 256)),
        chunk: int = 8,
        execute: int | None = None,
        flow_steps: int = 10,
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(1, flow_steps=flow_steps), within("(0, 1]", tau=tau))
        self.window, self.chunk, self.tau = Window(chunk=chunk), Chunk.of(chunk, execute), tau
        self.teacher = Flow(flow_steps)
        self.flow = Denoiser(self.spec, network, chunk=chunk)
        self.actor = Denoiser(self.spec, network, chunk=chunk)
        self.flow_ema, self.actor_ema = self.follow(self.flow), self.follow(self.actor)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: a line and the time on it, and noise to follow."""
        return {"flow": self.acting_noise, "time": 1, "actor": self.acting_noise}

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers an answer begins with, C * A."""
        return self.actor.outputs

    def actor_loss(self, batch: TensorDict) -> Tensor:
        """Return how far the network's answers are from where the flow arrives, ``[]``."""
        given, noise = (batch["observation"], batch.get("task")), batch["noise", "actor"]
        with torch.no_grad():
            arrived = self.teacher.sample(self.flow_ema, *given, noise)
        return (self.actor.at_once(noise, *given) - arrived).square().mean()

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the terms ``flow`` and ``actor``.

        Args:
            batch: TensorDict ``[B]`` with chunks of actions; ``weight`` and ``task`` are used where
                they are there.

        Returns:
            Terms and metrics.
        """
        flow = chunk_loss(self.teacher, self.flow, batch, "flow", self.batch_mean)
        valid = batch["chunk", "valid"].to(flow.dtype)
        terms = {"flow": flow, "actor": self.actor_loss(batch)}
        return LossTerms(terms, {"flow/valid": valid.mean()})

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return chunks ``[n, C, A]`` of actions, in one step from noise ``[n, C * A]``."""
        return decide_at_once(self.actor_ema, observation, task, noise)
