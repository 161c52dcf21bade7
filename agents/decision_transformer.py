"""Decision Transformer: imitate logged actions, given the return that followed them.

    L(theta) = -E_log[ w sum_k log pi_theta(a_k | R_<=k, s_<=k, a_<k) ],   R_k = r_k + r_k+1 + ...

over windows of K steps. A transformer reads returns to go, observations and actions in turn. Acting
asks for a return, and every reward received lowers what is left of it. It imitates whole episodes:
it does not put the good part of one behind the good part of another, as critics do. Beside it,
cloning the best episodes (``filtered_bc``) is the control.

Reference: Chen et al. 2021, "Decision Transformer: reinforcement learning via sequence modeling",
arXiv 2106.01345.

Deviations:
- The head is a Gaussian by default; ``head: deterministic`` gives the paper's squared error.
- No dropout, Adam at 3e-4, width 64. Returns are standardised with the log's statistics; the paper
  divides them by 1,000 (``network.task_scale``).
- The loss is a mean over the valid steps of all windows, which end at uniformly drawn rows.
- Without a task there are no returns: a transformer that clones.

Update order: one network, one step.
"""

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges
from hindsight_rl.keys import Key
from hindsight_rl.nets.encoders.decision import DecisionInputs
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.encoders.history import empty_past, follow
from hindsight_rl.nets.network import Attention, Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.ports import Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, named
from hindsight_rl.windows import Window


class DecisionTransformer(Learner):
    """Weighted negative log-likelihood of the actions of windows, given returns to go.

    Args:
        spec: What the data look like; the first number of its task is the return to go
            (``ReturnTask``).
        network: Inputs, and hidden layers behind the transformer, see :class:`Network`.
        attention: Size of the transformer.
        head: Distribution of continuous actions, by its kind or in full: :class:`Head`.
        context: K, steps of a window, at least 2.
        max_step: Times that are told apart, at least 1; later ones count as the last of them.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys: tuple[Key, ...] = (
        "observation",
        "action",
        "step",
        ("history", "observation"),
        ("history", "action"),
        ("history", "valid"),
    )
    optional_keys = ("task", "weight")
    action_state = "action"
    commanded = True
    actor: Policy

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        network: Network = Network(hidden=()),
        attention: Attention = Attention(layers=3),
        head: HeadKind | Head = "gaussian",
        context: int = 20,
        max_step: int = 1000,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(2, context=context), at_least(1, max_step=max_step))
        self.window = Window(history=context - 1)
        memory = DecisionInputs(self.spec, network, context - 1, attention, max_step=max_step)
        self.actor = Policy(self.spec, network, head=head, memory=memory)
        if self.spec.task is not None:
            self.in_keys = (*type(self).in_keys, "return_to_go", ("history", "return_to_go"))
        self._checked = False

    @property
    def memory(self) -> DecisionInputs:
        """What reads windows."""
        inputs = self.actor.inputs
        if not isinstance(inputs, DecisionInputs):
            raise TypeError("the policy of DecisionTransformer reads windows")
        return inputs

    def complete(self, batch: TensorDict, seed: int | None = None) -> TensorDict:
        """Return a batch with what the losses need; the first is checked.

        Args:
            batch: As :meth:`Learner.complete` takes it.
            seed: Likewise.

        Returns:
            A shallow copy.

        Raises:
            ValueError: The task is something else than the return to go: past returns would be read
                beside a present goal.
        """
        if not self._checked and {"task", "return_to_go"} <= set(batch.keys()):
            if not torch.allclose(batch["task"][..., 0], batch["return_to_go"]):
                raise ValueError(
                    "the first number of the task is not return_to_go: give returns as tasks by "
                    "ReturnTask, with fraction 1"
                )
            self._checked = True
        return super().complete(batch, seed)

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with windows; ``weight`` and ``task`` are those of the row
                that a window ends with.

        Returns:
            Terms and metrics.
        """
        history = batch["history"]
        past = {name: history[name] for name in history.keys()} | {"step": batch["step"]}
        features = self.memory.each(batch["observation"], batch.get("task"), past)
        observation, action = batch["observation"], _window(history["action"], batch["action"])
        if isinstance(observation, Tensor):  # of entries the head reads none
            observation = _window(history["observation"], observation)
        distribution = self.actor.distribution(features, observation)
        log_prob = distribution.log_prob(self.actor.scale.to_policy(action))
        counted = torch.nn.functional.pad(history["valid"].to(log_prob.dtype), (0, 1), value=1.0)
        rows, weight = -(counted * log_prob).sum(-1), batch.get("weight")
        steps = self.batch_mean(counted.sum(-1))
        loss = (rows if weight is None else weight * rows).mean() / steps
        metrics = self.actor.family.metrics(distribution)
        if "entropy" in metrics:  # of the steps that are there
            entropy = counted * distribution.entropy().detach()
            metrics["entropy"] = entropy.sum() / counted.sum()
        return LossTerms({"actor": loss}, named("actor", metrics))

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the deterministic action of an episode's first step."""
        return self.decide(observation, task, self.initial_state(rows_of(observation))).action

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the windows of episodes that begin, ``[n, ...]`` by name."""
        features = self.memory.features
        past = empty_past(self.spec, self.window.history, n, self.device, features=features)
        past["step"] = torch.zeros(n, dtype=torch.int64, device=self.device)
        if self.spec.task is not None:
            past["return_to_go"] = torch.zeros_like(past["valid"])
        return past

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the actions taken, and the windows after them, see :meth:`Acts.decide`."""
        features = self.memory.encode(observation)  # once: for now, and to be remembered
        joined = self.memory.joined(features, task, state)
        action, scores = self.actor.chosen(self.actor.distribution(joined, observation), noise)
        now = {"action": action} | self.memory.kept(observation, features)
        if task is not None and self.spec.task is not None:
            now["return_to_go"] = task[:, 0]
        rings = {name: value for name, value in state.items() if name != "step"}
        moved = follow(rings, **now) | {"step": state["step"] + 1}
        return Decision(action, moved, scores)


def _window(past: Tensor, now: Tensor) -> Tensor:
    """Return the past ``[B, P, ...]`` and the present ``[B, ...]`` as one, ``[B, P + 1, ...]``."""
    return torch.cat([past, now.unsqueeze(1)], dim=1)
