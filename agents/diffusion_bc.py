"""Diffusion behaviour cloning: chunks of actions from noise, which a network takes out by steps.

    a_k = sqrt(abar_k) a + sqrt(1 - abar_k) eps,   eps ~ N(0, 1),   k ~ U{0, ..., T - 1}
    v_k = sqrt(abar_k) eps - sqrt(1 - abar_k) a
    L(theta) = E_log[ w |v_theta(a_k, k, s, z) - v_k|^2 ]

a is the chunk of the next C actions, abar the squared-cosine schedule, v the velocity. Acting
starts at noise and visits S of the T steps, equally spaced from the noisiest ("trailing"), by DDIM:
the data estimated at a step are clipped to where data can be, and dissolved again in the noise that
they imply.

With ``committed`` D (real-time chunking) the first d ~ U{0, ..., D} actions of a chunk are given
while fitting, without noise, and the loss counts the others. Acting, the policy is asked when D
actions of its last answer are still to be executed, and continues them.

Reference: Chi et al. 2023, "Diffusion policy", arXiv 2303.04137; Song, Meng and Ermon 2020, arXiv
2010.02502, eq. 12 with eta = 0; committed actions: Black et al. 2025, arXiv 2512.05964, for flows.

Deviations:
- The network is a perceptron of the whole chunk, the paper's a convolution or transformer over it.
- Bounded actions are clipped to their bounds, others to the log's smallest and largest; the paper's
  are scaled to [-1, 1] and clipped there.
- The loss is divided by the number of valid entries: a chunk that an episode's end cuts counts with
  the actions that it has.
- The network predicts the velocity, the paper's the noise (``predict``). From the noise the first
  steps divide by sqrt(abar), 5e-4, and magnify the network's errors and every runtime's rounding;
  acting then computes in float64. The velocity needs no division (Salimans and Ho 2022, arXiv
  2202.00512; with trailing steps: Lin et al. 2023, arXiv 2305.08891).

Update order: one network, one step, then its average ``actor_ema``, which acts.
"""

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_ranges, within
from hindsight_rl.maths.diffusion import Predict
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.network import NoiseNetwork
from hindsight_rl.policies.chunked import chunk_loss, decide_onwards, nothing_committed
from hindsight_rl.policies.samplers import Diffusion
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class DiffusionBC(Learner):
    """Weighted diffusion of chunks of logged actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`NoiseNetwork`.
        chunk: C, actions of an answer, at least 1.
        execute: E of them are executed before the next answer, in [1, C]; ``None`` for half.
        committed: D, at most E and C - E: actions of the last answer that are executed while the
            policy computes; it continues them. 0: the answer is there at once.
        length: T, steps of the diffusion that is fitted, at least 1.
        steps: S of them that are visited when acting, in [1, T]. ``hindsight export --steps`` may
            choose anew.
        predict: What the network answers with: ``"velocity"``, ``"noise"``, or ``"sample"`` for the
            actions themselves.
        tau: Share of the way the acting network moves per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range; or actions have no bounds, and the spec does not
            say what the log holds.
    """

    in_keys = ("observation", ("chunk", "action"), ("chunk", "valid"))
    optional_keys = ("task", "weight")
    actions = ("continuous",)
    action_windows = {"chunk": "plan"}
    targets = {"actor_ema": "actor"}
    actor: Denoiser
    actor_ema: Denoiser
    chunk: Chunk

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: NoiseNetwork = NoiseNetwork(hidden=(256, 256, 256)),
        chunk: int = 8,
        execute: int | None = None,
        committed: int = 0,
        length: int = 100,
        steps: int = 10,
        predict: Predict = "velocity",
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("(0, 1]", tau=tau))
        self.window, self.tau = Window(chunk=chunk), tau
        self.chunk = Chunk.of(chunk, execute, committed=committed)
        self.actor = Denoiser(self.spec, network, chunk=chunk, committed=committed)
        self.actor_ema = self.follow(self.actor)
        limits = self.actor.data_limits(self.spec)
        self.sampler = Diffusion(limits, length=length, steps=steps, predict=predict)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: the noise in it, which step it is, the delay."""
        drawn = {"diffusion": self.acting_noise, "time": 1}
        return drawn | ({"delay": 1} if self.chunk.committed else {})

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
        loss = chunk_loss(self.sampler, self.actor, batch, "diffusion", self.batch_mean)
        valid = batch["chunk", "valid"].to(loss.dtype)
        return LossTerms({"actor": loss}, {"actor/valid": valid.mean()})

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return what is committed where n episodes begin: nothing."""
        return nothing_committed(self.chunk, self.actor.width, n, self.device)

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return chunks of actions, see :func:`decide_onwards`."""
        given = observation, task, noise, state
        return decide_onwards(self.sampler, self.actor_ema, *given, self.chunk)
