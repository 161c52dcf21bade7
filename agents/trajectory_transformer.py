"""Trajectory transformer: a model of whole episodes, and a search for the actions that earn most.

    L(theta) = -E_log[ w sum_k sum_d log p_theta(x_kd | x_k<d, x_<k) ],   x_k = (s, a, r, G, end)
    act: first action of the plan with the largest  sum_{k<H} gamma^k c_k r_k + gamma^H c_H G_H

over windows of K steps. Every number is a token: the bin of the log that it lies in, one of N. A
beam search continues the present by likely actions and by what the model predicts of them, and
keeps the plans that promise most: rewards on the way, and the return to go at their end. c_k is the
probability that a plan goes on for k steps. A baseline: slow to act, and not exported.

Reference: Janner, Li and Levine 2021, "Offline reinforcement learning as one big sequence modeling
problem", arXiv 2106.02039.

Deviations:
- Candidates are the likeliest actions (a beam search of their tokens); the paper draws them.
  Planning needs no random numbers, and ``search.cut`` is 0.2: 0.6 leaves one of two actions.
- The reference masks past returns; here past rewards, too: a policy that acts is not given them.
- The return to go holds its own step's reward, and an end is a token, not a penalty of -100.
- Bins stand for the mean of their numbers, not for their middle.
- Beam 32 and horizon 5 (paper: 128 and 15, and 5 for some), no dropout, Adam at 3e-4.

Update order: one network, one step.
"""

import copy
from typing import Any, cast

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.arguments import above, at_least, check_ranges, within
from hindsight_rl.attached import datamodule_of
from hindsight_rl.keys import Key
from hindsight_rl.nets.encoders.entries import Observation, rows_of
from hindsight_rl.nets.encoders.history import empty_past, follow
from hindsight_rl.nets.network import Attention
from hindsight_rl.nets.trajectory import TrajectoryNet
from hindsight_rl.policies.planning import Search, drawn, planned
from hindsight_rl.ports import Actor, Decision
from hindsight_rl.spec import SpecLike
from hindsight_rl.training.learner import Learner, LossTerms, named
from hindsight_rl.windows import Window

LOG_ROWS = 8192  # evenly spaced, whose quantiles part the bins


class TrajectoryTransformer(Learner):
    """Weighted cross entropy of the tokens of windows; acts by a beam search for returns.

    Args:
        spec: What the data look like.
        attention: Size of the transformer.
        bins: N, bins of every number, at least 2, and at least as many as there are choices.
        context: K, steps of a window, above H; acting sees the last K - H steps.
        search: How plans are sought, and their length H.
        discount: Of plans, and the one of ``return_to_go``, in [0, 1].
        action_weight: Weight of the cross entropy of actions, above 0; others have 1.
        **learner: Arguments of :class:`Learner`.

    Raises:
        ValueError: An argument is out of range.
    """

    in_keys: tuple[Key, ...] = (
        "observation",
        "action",
        ("next", "reward"),
        "return_to_go",
        ("next", "terminated"),
        ("history", "observation"),
        ("history", "action"),
        ("history", "next", "reward"),
        ("history", "return_to_go"),
        ("history", "next", "terminated"),
        ("history", "valid"),
    )
    optional_keys = ("task", "weight")
    action_state = "action"
    binned = True
    not_exported = (
        "one action takes thousands of passes through its transformer, which meets no control "
        "rate. Play it in PyTorch (hindsight test), and export IQL, or DecisionTransformer, of the "
        "same log"
    )
    actor: TrajectoryNet

    def __init__(
        self,
        spec: SpecLike | None = None,
        *,
        attention: Attention = Attention(width=128, heads=4, layers=4),
        bins: int = 100,
        context: int = 10,
        search: Search = Search(),
        discount: float = 0.99,
        action_weight: float = 5.0,
        **learner: Any,
    ) -> None:
        super().__init__(spec, **learner)
        check_ranges(at_least(2, bins=bins), above(0, action_weight=action_weight))
        check_ranges(at_least(search.horizon + 1, context=context), note=", above the horizon")
        check_ranges(within("[0, 1]", discount=discount))
        self.window, self.past = Window(history=context - 1), context - search.horizon
        self.search, self.discount, self.action_weight = search, discount, action_weight
        self.actor = TrajectoryNet(self.spec, attention, bins=bins, steps=context)

    def on_fit_start(self) -> None:
        """Part the bins by quantiles of the log, once, and plan the updates."""
        data, bins = datamodule_of(self.trainer), self.actor.bins
        rows = data.log.drawable()
        some = data.in_order(rows[:: -(-len(rows) // LOG_ROWS)])
        with torch.no_grad():  # relabelers that learn from batches learn nothing from these
            steps = [data.on_after_batch_transfer(part.to(self.device), 0)[0] for part in some]
        self._check_returns(torch.cat(steps))
        if not bins.fitted:
            bins.fit(torch.cat([bins.numbers(part) for part in steps]))
        super().on_fit_start()

    def _check_returns(self, batch: TensorDict) -> None:
        """Raise on returns to go of another discount, or of other rewards."""
        past, discount = batch["history"], self.discount
        to_go = torch.cat([past["return_to_go"], batch["return_to_go"].unsqueeze(-1)], dim=-1)
        off = to_go[:, :-1] - past["next", "reward"] - discount * to_go[:, 1:]
        if (off * past["valid"]).abs().max() > 1e-3 * to_go.abs().max():
            raise ValueError(
                f"return_to_go is not the reward and {discount} times the next one: give "
                "ReturnToGo the discount of the learner, behind what changes rewards"
            )

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the term ``actor``.

        Args:
            batch: TensorDict ``[B]`` with windows; ``weight`` and ``task`` are those of the row
                that a window ends with.

        Returns:
            Terms, and as metrics the cross entropy of each part of a step, nats.
        """
        bins, past, weight = self.actor.bins, batch["history"], batch.get("weight")
        steps = torch.cat([bins.numbers(past), bins.numbers(batch).unsqueeze(1)], dim=1)
        valid = torch.nn.functional.pad(past["valid"], (0, 1), value=True)
        nats, counted = self.actor.nats(bins(steps), valid, batch.get("task"))
        acted = nats[..., bins.part("action")].sum((-2, -1))
        rows = nats.sum((-2, -1)) + (self.action_weight - 1.0) * acted
        tokens = self.batch_mean(counted.sum((-2, -1)).to(rows.dtype))
        loss = (rows if weight is None else weight * rows).mean() / tokens
        metrics = {}
        for name in bins.sizes:
            there = counted[..., bins.part(name)].sum().clamp(min=1)
            metrics[f"{name}_nats"] = nats[..., bins.part(name)].detach().sum() / there
        return LossTerms({"actor": loss}, named("actor", metrics))

    def forward(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return the action that is planned at an episode's first step."""
        return self.decide(observation, task, self.initial_state(rows_of(observation))).action

    def scores(self, observation: Observation, task: Tensor | None = None) -> Tensor:
        """Return what the best plan from each choice promises, see :meth:`Acts.scores`."""
        found = self.decide(observation, task, self.initial_state(rows_of(observation))).scores
        return cast(Tensor, found)

    def act(
        self, observation: Observation, task: Tensor | None = None, *, draws: Tensor | None = None
    ) -> Tensor:
        """Return planned actions, or draws from the model of the log, see :meth:`Acts.act`."""
        if draws is None:
            return self.forward(observation, task)
        seen = _vector(observation)
        return drawn(self.actor, seen, task, self.initial_state(len(seen)), draws)

    def searching(self, *, horizon: int, beam: int, candidates: int, cut: float) -> Actor:
        """Return what acts by plans that are sought in another way than this learner's own.

        Args:
            horizon: Steps of a plan, below the context.
            beam: Plans that are kept after every step.
            candidates: Actions that each of them is continued with.
            cut: Share of the probability of bins that are no candidates, in [0, 1).

        Returns:
            An actor with the weights of this learner.

        Raises:
            ValueError: An argument is out of range.
        """
        search, context = Search(horizon, beam, candidates, cut), self.past + self.search.horizon
        check_ranges(at_least(horizon + 1, context=context), note=", above the horizon")
        other = copy.copy(self)
        other.search, other.past = search, context - horizon
        return other.collecting(False)

    def initial_state(self, n: int) -> dict[str, Tensor]:
        """Return the past of episodes that begin, ``[n, K - H, ...]`` by name."""
        return empty_past(self.spec, self.past, n, self.device)

    def decide(
        self,
        observation: Observation,
        task: Tensor | None,
        state: dict[str, Tensor],
        noise: Tensor | None = None,
    ) -> Decision:
        """Return the actions planned, and the past after them, see :meth:`Acts.decide`."""
        seen = _vector(observation)
        action, scores = planned(self.actor, seen, task, state, self.search, discount=self.discount)
        return Decision(action, follow(state, observation=seen, action=action), scores)


def _vector(observation: Observation) -> Tensor:
    if not isinstance(observation, Tensor):
        raise ValueError("TrajectoryTransformer takes one flat vector, not entries")
    return observation
