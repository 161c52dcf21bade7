"""Flow behaviour cloning: chunks of actions from noise, along a learned velocity.

    x_t = (1 - t) eps + t a,   eps ~ N(0, 1),   t ~ U(0, 1)
    L(theta) = E_log[ w |v_theta(x_t, t, s, z) - (a - eps)|^2 ]

a is the chunk of the next C actions. Acting starts at noise and walks N equal steps of v from t = 0
to t = 1, so that several good answers to one situation stay several: a mean of them is none.

Reference: Lipman et al. 2022, arXiv 2210.02747, eq. 23 with sigma_min = 0; chunks: Zhao et al.
2023, arXiv 2304.13705. Time runs from noise (0) to data (1).

Deviations:
- The loss is divided by the number of valid entries: a chunk that an episode's end cuts counts with
  the actions that it has.
- What acts is an average of the network over updates, the target network ``actor_ema``.

Update order: one network, one step, then its average.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.maths.draws import normals
from hindsight_rl.maths.flow import euler_flow, flow_error, interpolate
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.generative import VelocityNet
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class FlowBC(Learner):
    """Weighted flow matching of chunks of logged actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`Network`.
        chunk: C, actions of an answer, at least 1.
        execute: How many of them are executed before the next answer, in [1, C]; ``None`` for half.
        steps: N, at least 1; below 4 modes are averaged.
        tau: Share of the way the acting network moves per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = ("observation", ("chunk", "action"), ("chunk", "valid"))
    optional_keys = ("task", "weight")
    actions = ("continuous",)
    targets = {"actor_ema": "actor"}
    actor: VelocityNet
    actor_ema: VelocityNet
    chunk: Chunk

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=(256, 256, 256)),
        chunk: int = 8,
        execute: int | None = None,
        steps: int = 10,
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        execute = max(1, chunk // 2) if execute is None else execute
        check_ranges(at_least(1, chunk=chunk), within(f"[1, {chunk}]", execute=execute))
        check_ranges(at_least(1, steps=steps), within("(0, 1]", tau=tau))
        self.window, self.chunk = Window(chunk=chunk), Chunk(chunk, execute)
        self.steps, self.tau = steps, tau
        self.actor = VelocityNet(self.spec, network, chunk=chunk)
        self.actor_ema = self.follow(self.actor)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: where the line begins, and the time on it."""
        return {"flow": self.acting_noise, "time": 1}

    @property
    def acting_noise(self) -> int:
        """Return how many normal numbers an answer begins with, C * A."""
        return self.actor.outputs

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with chunks of actions; ``weight`` and ``task`` are used where
                they are there.

        Returns:
            Terms and metrics.
        """
        data = self.actor.scale.to_policy(batch["chunk", "action"]).flatten(-2)
        noise = batch["noise", "flow"]
        time = torch.special.ndtr(batch["noise", "time"].squeeze(-1))  # normal to uniform
        point = interpolate(data, noise, time)
        velocity = self.actor(point, time, batch["observation"], batch.get("task"))
        error = flow_error(velocity, data, noise)
        error = error.unflatten(-1, (self.chunk.length, -1)).mean(-1)
        valid = batch["chunk", "valid"].to(error.dtype)
        rows, weight = (error * valid).sum(-1), batch.get("weight")
        loss = (rows if weight is None else weight * rows).mean() / self.batch_mean(valid.sum(-1))
        return LossTerms({"actor": loss}, {"actor/valid": valid.mean()})

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the first action of the chunk that zero noise leads to, ``[N, A]``.

        A point of reference for the error on held-out rows; to act, noise is needed.
        """
        noise = torch.zeros(rows_of(observation), self.acting_noise, device=self.device)
        return self.decide(observation, task, {}, noise).action[:, 0]

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return the first actions of chunks, from zero noise or from that of the draws.

        Args:
            observation: ``[N, O]``.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]``.
        """
        if draws is None:
            return self.forward(observation, task)
        noise = normals(draws, self.acting_noise)
        return self.decide(observation, task, {}, noise).action[:, 0]

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return chunks of actions out of noise ``[n, C * A]``, see :meth:`Acts.decide`."""
        if noise is None:
            raise ValueError("FlowBC acts from noise: pass noise [n, C * A]")
        network = self.actor_ema
        features = network.inputs(observation, task)

        def velocity(point: Tensor, time: Tensor) -> Tensor:
            return network.at(point, time, features)

        data = euler_flow(velocity, noise, self.steps).unflatten(-1, (self.chunk.length, -1))
        return Decision(self.actor.scale.to_environment(data), {})
