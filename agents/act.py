"""Action chunking with transformers (ACT): the next C actions at once, by absolute errors.

    L(theta) = E_log[ w ( |a - D(s, z, l)| + kl_weight KL(q(l | s, a) || N(0, 1)) ) ],   l ~ q

a is the chunk of the next C actions, q a posterior that only training has. Acting decodes l = 0.
Few decisions a second leave little room for errors to add up, and a pause of the demonstrator is
not taken for a state to stay in. The latent vector takes up how it was done: fast, from the left.

Reference: Zhao et al. 2023, "Learning fine-grained bimanual manipulation with low-cost hardware",
arXiv 2304.13705; algorithms 1 and 2.

Deviations:
- The absolute error is a mean over the valid entries of the batch: chunks that an episode's end
  cuts are shorter. The authors' mean counts what they mask.
- The decoder's last layer is read. The authors' code reads its first, whatever their number.
- Half of a chunk is executed before the next answer. The authors average the answers for a step
  (``ensemble``), which often hurts: several ways to do it become none.
- Small: width 64, no dropout, one token for the observation.

Update order: one network, one step.
"""

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges
from hindsight_rl.maths.chunks import chunk_error
from hindsight_rl.maths.divergences import standard_normal_kl
from hindsight_rl.maths.draws import normals
from hindsight_rl.nets.chunk_net import ChunkNet
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.network import Attention, Network
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class ACT(Learner):
    """Weighted absolute error of chunks of logged actions, with a latent style.

    Args:
        spec: What the data look like.
        network: Inputs, and hidden layers between them and their token.
        attention: Size of encoder, decoder and posterior.
        chunk: C, actions of an answer, at least 1; those of 0.3 to 1 second.
        execute: How many of them are executed before the next answer, in [1, C]; ``None`` for half.
        ensemble: Decay m of the weights exp(-m i), i = 0 the oldest, by which all answers for a
            step are averaged, in [-10, 10]; the policy is then asked at every step. ``None``: none.
        latent: L, latent numbers, at least 0; 0 for no posterior.
        kl_weight: Of the divergence, summed over latent numbers, at least 0.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys = ("observation", ("chunk", "action"), ("chunk", "valid"))
    optional_keys = ("task", "weight")
    actions = ("continuous",)
    action_windows = {"chunk": "plan"}
    actor: ChunkNet
    chunk: Chunk

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=()),
        attention: Attention = Attention(),
        chunk: int = 16,
        execute: int | None = None,
        ensemble: float | None = None,
        latent: int = 32,
        kl_weight: float = 10.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(0, latent=latent), at_least(0, kl_weight=kl_weight))
        self.chunk, self.kl_weight = Chunk.of(chunk, execute, ensemble), kl_weight
        self.window = Window(chunk=chunk)
        self.actor = ChunkNet(self.spec, network, attention, chunk=chunk, latent=latent)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: its draw of the posterior."""
        return {"latent": self.actor.latent} if self.actor.latent else {}

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with chunks of actions; ``weight`` and ``task`` are used where
                they are there.

        Returns:
            Terms and metrics.
        """
        action, valid = (
            self.actor.scale.to_policy(batch["chunk", "action"]),
            batch["chunk", "valid"],
        )
        token = self.actor.token(batch["observation"], batch.get("task"))
        weight, latent = batch.get("weight", 1.0), None
        metrics, divergence = {}, action.new_zeros(())
        if self.actor.latent:
            posterior = self.actor.posterior(token, action, valid)
            latent = posterior.mean + posterior.log_std.exp() * batch["noise", "latent"]
            rows = standard_normal_kl(posterior.mean, posterior.log_std)
            divergence = (weight * rows).mean()
            metrics["actor/kl"] = rows.detach().mean()
        rows = chunk_error((self.actor(token, latent) - action).abs(), valid)
        count = self.batch_mean(valid.to(rows.dtype).sum(-1))
        metrics["actor/error"] = rows.detach().mean() / count
        loss = (weight * rows).mean() / count + self.kl_weight * divergence
        return LossTerms({"actor": loss}, metrics)

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the first action of the chunk of latent zeros, ``[N, A]``."""
        return self.decide(observation, task, {}).action[:, 0]

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return the first actions of chunks, of latent zeros or of a style that the draws choose.

        Args:
            observation: ``[N, O]``, or ``[N, ...]`` by entry.
            task: ``[N, Z]`` where the spec has a task.
            draws: ``[N, 3]`` int64 counters.

        Returns:
            ``[N, A]``.
        """
        if draws is None or not self.actor.latent:
            return self.forward(observation, task)
        latent = normals(draws, self.actor.latent)
        chunk = self.actor(self.actor.token(observation, task), latent)
        return self.actor.scale.to_environment(chunk[:, 0])

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return chunks of actions of latent zeros, see :meth:`Acts.decide`."""
        chunk = self.actor(self.actor.token(observation, task))
        return Decision(self.actor.scale.to_environment(chunk), {})
