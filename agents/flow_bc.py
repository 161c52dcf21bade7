"""Flow behaviour cloning: chunks of actions from noise, along a learned velocity.

    x_t = (1 - t) eps + t a,   eps ~ N(0, 1),   t ~ U(0, 1)
    L(theta) = E_log[ w |v_theta(x_t, t, s, z) - (a - eps)|^2 ]

a is the chunk of the next C actions. Acting starts at noise and walks N equal steps of v from t = 0
to t = 1, so that several good answers to one situation stay several: a mean of them is none.

With ``committed`` D (real-time chunking) the first d ~ U{0, ..., D} actions of a chunk are given
while fitting, without noise, and the loss counts the others. Acting, the policy is asked when D
actions of its last answer are still to be executed, and continues them: an answer may take D steps
to compute, and does not jump to another way.

Reference: Lipman et al. 2022, arXiv 2210.02747, eq. 23 with sigma_min = 0; chunks: Zhao et al.
2023, arXiv 2304.13705; times that lean to the noise: Black et al. 2024, arXiv 2410.24164; committed
actions: Black et al. 2025, arXiv 2512.05964. Time runs from noise (0) to data (1).

Deviations:
- The loss is divided by the number of valid entries: a chunk that an episode's end cuts counts with
  the actions that it has.
- What acts is an average of the network over updates, the target network ``actor_ema``.
- Which actions are given is said to the perceptron by a mark for each; the paper's transformer is
  given a time of 1 for them.

Update order: one network, one step, then its average.
"""

from typing import Any

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import check_ranges, within
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.network import NoiseNetwork
from hindsight_rl.policies.chunked import chunk_loss, decide_onwards, nothing_committed
from hindsight_rl.policies.samplers import Flow, Solver, Times
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.windows import Chunk, Window


class FlowBC(Learner):
    """Weighted flow matching of chunks of logged actions.

    Args:
        spec: What the data look like.
        network: Inputs and hidden layers, see :class:`NoiseNetwork`.
        chunk: C, actions of an answer, at least 1.
        execute: E of them are executed before the next answer, in [1, C]; ``None`` for half.
        committed: D, at most E and C - E: actions of the last answer that are executed while the
            policy computes; it continues them. 0: the answer is there at once.
        steps: N, at least 1; below 4 modes are averaged. ``hindsight export --steps`` may choose
            anew.
        solver: ``"euler"``: one velocity a step; ``"heun"``: two, averaged: 4 steps of it are
            closer than 8 of the other.
        time: Times that are fitted: ``"uniform"``, or ``"beta"``, which leans to the noise.
        tau: Share of the way the acting network moves per update, in (0, 1].
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
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
        steps: int = 10,
        solver: Solver = "euler",
        time: Times = "uniform",
        tau: float = 0.005,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(within("(0, 1]", tau=tau))
        self.window, self.tau = Window(chunk=chunk), tau
        self.chunk = Chunk.of(chunk, execute, committed=committed)
        self.sampler = Flow(steps, solver=solver, time=time)
        self.actor = Denoiser(self.spec, network, chunk=chunk, committed=committed)
        self.actor_ema = self.follow(self.actor)

    @property
    def noise(self) -> dict[str, int]:
        """Return the numbers each row needs: a line's beginning, the time on it, the delay."""
        drawn = {"flow": self.acting_noise, "time": 1}
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
        loss = chunk_loss(self.sampler, self.actor, batch, "flow", self.batch_mean)
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
        """Return chunks of actions out of noise ``[n, C * A]``, see :func:`decide_onwards`."""
        given = observation, task, noise, state
        return decide_onwards(self.sampler, self.actor_ema, *given, self.chunk)
