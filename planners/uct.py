"""Tree search for choices: try what looked good or was rarely tried, and average what came of it.

    follow the children by score -> add one node -> play it out -> add the return along the path

The tree of every state is arrays of its nodes. Where a step has luck an action leads to several
nodes, told apart by what is observed there: unlike plans of actions alone, a tree knows that it
will have seen more by then.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.maths import tree
from hindsight_rl.maths.draws import draw_key, fork, integers, uniforms
from hindsight_rl.planners.planner import Array, Planner, Value, flat_observation, of_tasks
from hindsight_rl.ports import Actor, Imagined, Model
from hindsight_rl.spec_parts import ActionSpec

Prior = Callable[[Tensor], Tensor]
"""``prior(observation [n, O]) -> log-probabilities [n, A]`` of a policy, nats."""
UNTRIED = 1e3
"""Stands for an infinite score, beside which a draw decides between the actions never tried."""


class Tree(NamedTuple):
    """Nodes of n trees; node 0 is the present. M nodes, A choices.

    Attributes:
        observation: ``[n, M, O]``.
        parent: ``[n, M]`` int64, -1 for none.
        choice: ``[n, M]`` int64, the action that led there.
        link: ``[n, M, A, K]`` int64, the node that each luck of an action leads to, -1: not known.
        reward: ``[n, M]``, of the step that led there.
        ended: ``[n, M]`` bool, whether it ended the episode.
        visits: ``[n, M, A]``, of its actions.
        total: ``[n, M, A]``, sum of the returns seen through them.
        prior: ``[n, M, A]``, probabilities of a policy.
        low: ``[n]``, the least return seen.
        high: ``[n]``, the largest one.
    """

    observation: Tensor
    parent: Tensor
    choice: Tensor
    link: Tensor
    reward: Tensor
    ended: Tensor
    visits: Tensor
    total: Tensor
    prior: Tensor
    low: Tensor
    high: Tensor


@dataclass(frozen=True)
class UCT(Planner):
    """Monte-Carlo tree search for actions that are choices; with a prior it is PUCT.

    Args:
        simulations: Paths that are followed in every state, at least 1.
        horizon: Steps that a path looks ahead, tree and play-out together, at least 1.
        exploration: c, at least 0; returns are scaled to [0, 1].
        discount: gamma, in [0, 1].
        outcomes: Lucks of a step that the tree knows; 0: one, the model's mean.
        rollouts: Play-outs of a new node by uniformly random actions, at least 1; none where there
            is a value.
        temperature: 0: the most visited action; T above it: one drawn in proportion to
            visits^(1 / T), whose log-likelihood has the soft labels' cross-entropy as its mean.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Kocsis and Szepesvari 2006, "Bandit based Monte-Carlo planning"; PUCT: Silver et al. 2017.
    """

    simulations: int = 100
    horizon: int = 20
    exploration: float = 2**-0.5
    discount: float = 1.0
    outcomes: int = 0
    rollouts: int = 1
    temperature: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        sizes = {"simulations": self.simulations, "horizon": self.horizon}
        check_ranges(at_least(1, **sizes, rollouts=self.rollouts))
        least = {"exploration": self.exploration, "outcomes": self.outcomes}
        check_ranges(at_least(0, **least, temperature=self.temperature))
        check_ranges(within("[0, 1]", discount=self.discount))

    def actor(
        self,
        model: Model,
        action: ActionSpec,
        *,
        value: Value | None = None,
        prior: Prior | None = None,
    ) -> Actor:
        """Return what acts by searching.

        Args:
            model: Says what actions lead to; they are counted from 0.
            action: What is chosen: one of n choices.
            value: Of a new node, in the place of playing it out.
            prior: Log-probabilities of a policy: which actions to try first.

        Returns:
            An actor for observations ``[n, O]``.

        Raises:
            ValueError: Actions are real numbers.
        """
        if not action.discrete:
            raise ValueError(
                f"UCT searches choices, and actions are real numbers {list(action.shape)}: CEM and "
                "MPPI plan those"
            )
        return Searching(self, model, action, value, prior)


class Searching:
    """Acts by searching, anew in every state.

    Args:
        search: How.
        model: Says what actions lead to.
        action: What is chosen.
        value: Of a new node, ``None``: it is played out.
        prior: Of the actions, ``None`` for none.
    """

    def __init__(
        self,
        search: UCT,
        model: Model,
        action: ActionSpec,
        value: Value | None,
        prior: Prior | None,
    ) -> None:
        self._search, self._model, self._value, self._prior = search, model, value, prior
        self._choices, self._first = action.n, action.start

    def initial_state(self, n: int) -> dict[str, Array]:
        """Return nothing: a tree is not kept."""
        return {}

    def step(
        self, observation: object, task: Array | None, state: dict[str, Array], noise: Array
    ) -> tuple[Array, dict[str, Array]]:
        """Return actions in the environment's numbers.

        Args:
            observation: ``[n, O]`` float32.
            task: ``[n, Z]`` where there is one.
            state: Nothing.
            noise: ``[n, 3]`` int64 counters.

        Returns:
            ``[n]`` int64, and nothing.
        """
        seen, draws = flat_observation(observation, "UCT"), torch.from_numpy(noise)
        goal = None if task is None else torch.from_numpy(np.asarray(task, np.float32))
        share = self.soft_labels(seen, goal, draws)
        drawn = uniforms(fork(draws, "answer"), 1)
        # Rounding may leave the sum below 1: the last choice with a share takes what is missing.
        chosen = (share.cumsum(-1) < drawn * share.sum(-1, keepdim=True)).sum(-1)
        return chosen.numpy() + self._first, {}

    def soft_labels(self, observation: Tensor, task: Tensor | None, draws: Tensor) -> Tensor:
        """Return what the search says of every action.

        Args:
            observation: ``[n, O]``.
            task: ``[n, Z]``, or ``None``.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            ``[n, A]``: visits^(1 / T) over their sum; at T = 0 the best of the most visited.
        """
        found = self.searched(observation, task, draws)
        visits, total = found.visits[:, 0], found.total[:, 0]
        if not self._search.temperature:  # of equally many visits the higher mean decides
            mean = total / visits.clamp(min=1)
            best = tree.scaled_returns(mean, found.low[:, None], found.high[:, None])
            visits = visits + 0.5 * best.clamp(0.0, 1.0) * (visits > 0)
        return tree.visit_distribution(visits, self._search.temperature)

    @torch.no_grad()
    def searched(self, observation: Tensor, task: Tensor | None, draws: Tensor) -> Tree:
        """Return the trees after all simulations.

        Args:
            observation: ``[n, O]``.
            task: ``[n, Z]``, or ``None``.
            draws: ``[n, 3]`` int64 counters.

        Returns:
            The trees.
        """
        now = self._planted(observation)
        for number in range(1, self._search.simulations + 1):
            here = fork(fork(draws, "simulation"), number)
            path = self._followed(now, number, task, here, fork(draws, "outcome"))
            left = self._search.horizon - path.going.sum(-1)
            rows = torch.arange(len(observation))
            seen = now.observation[rows, path.last]
            end = self._worth(seen, task, left, fork(here, "play out"))
            end = end.masked_fill(now.ended[rows, path.last], 0.0)
            _backed_up(now, path, end, self._search.discount)
        return now

    def _planted(self, observation: Tensor) -> Tree:
        count, nodes = len(observation), self._search.simulations + 1
        like, each = observation.new_zeros(count, nodes), (count, nodes, self._choices)
        seen = observation.new_zeros(count, nodes, observation.shape[-1])
        seen[:, 0] = observation
        prior = observation.new_full(each, 1.0 / self._choices)
        if self._prior is not None:
            prior[:, 0] = self._prior(observation).exp()
        whole = torch.full((count, nodes), -1, dtype=torch.int64)
        lucks = max(1, self._search.outcomes)
        return Tree(
            seen,
            whole,
            whole.clone(),
            torch.full((*each, lucks), -1, dtype=torch.int64),
            like,
            torch.zeros(count, nodes, dtype=torch.bool),
            observation.new_zeros(each),
            observation.new_zeros(each),
            prior,
            observation.new_full((count,), torch.inf),
            observation.new_full((count,), -torch.inf),
        )

    def _followed(
        self, now: Tree, number: int, task: Tensor | None, draws: Tensor, luck: Tensor
    ) -> "_Path":
        """Return a path down every tree, to a node that is new, an end, or the horizon."""
        count = len(now.low)
        node, rows = torch.zeros(count, dtype=torch.int64), torch.arange(count)
        going, steps = torch.ones(count, dtype=torch.bool), []
        untried = UNTRIED + uniforms(draws, self._choices)  # in which order a path tries actions
        for _ in range(self._search.horizon):
            action = self._chosen(now, node, untried)
            known = now.visits[rows, node, action].long() % now.link.shape[-1]
            child = now.link[rows, node, action, known]
            new = going & (child < 0)
            if new.any():
                edge = (rows[new], node[new], action[new], known[new])
                model = of_tasks(self._model, None if task is None else task[new])
                found = model(now.observation[edge[:2]], edge[2], self._luck(luck[new], edge))
                child[new] = self._led(now, number, found, edge)
            fresh = child == number
            steps.append((node, action, child, going))
            node = torch.where(going, child, node)
            going = going & ~fresh & ~now.ended[rows, node]
            if not going.any():
                break
        nodes, actions, children, taken = (
            torch.stack(part, -1) for part in zip(*steps, strict=True)
        )
        return _Path(nodes, actions, children, taken, node)

    def _chosen(self, now: Tree, node: Tensor, untried: Tensor) -> Tensor:
        """Return the action ``[n]`` that is followed from nodes ``[n]``."""
        rows = torch.arange(len(node))
        visits, total = now.visits[rows, node], now.total[rows, node]
        parent = visits.sum(-1).clamp(min=1.0)
        # What was never tried is taken to be as good as the node is on average.
        mean = torch.where(visits > 0, total / visits, (total.sum(-1) / parent).unsqueeze(-1))
        mean = tree.scaled_returns(mean, now.low[:, None], now.high[:, None])
        weight = self._search.exploration
        if self._prior is not None:
            prior = now.prior[rows, node]
            return tree.puct_score(mean, visits, parent, prior, exploration=weight).argmax(-1)
        score = tree.uct_score(mean, visits, parent, exploration=weight)
        return torch.where(visits > 0, score, untried).argmax(-1)

    def _led(
        self, now: Tree, number: int, found: Imagined, edge: tuple[Tensor, Tensor, Tensor, Tensor]
    ) -> Tensor:
        """Return the node ``[m]`` that actions lead to, an old one that is equal or a new one."""
        rows, node, action, known = edge
        same = (now.parent[rows] == node[:, None]) & (now.choice[rows] == action[:, None])
        same = same & (now.observation[rows] == found.next_observation[:, None]).all(-1)
        same = same & (now.reward[rows] == found.reward[:, None])
        same = same & (now.ended[rows] == found.terminated[:, None])
        child = torch.where(same.any(-1), same.to(torch.int8).argmax(-1), number)
        now.link[rows, node, action, known] = child
        made = ~same.any(-1)
        new = rows[made]
        now.observation[new, number] = found.next_observation[made]
        now.parent[new, number], now.choice[new, number] = node[made], action[made]
        now.reward[new, number], now.ended[new, number] = found.reward[made], found.terminated[made]
        if self._prior is not None and len(new):
            now.prior[new, number] = self._prior(found.next_observation[made]).exp()
        return child

    def _luck(self, draws: Tensor, edge: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor | None:
        """Return counters ``[m, 3]`` of a step, ``None`` for no luck."""
        if not self._search.outcomes:
            return None
        _, node, action, known = edge
        number = (node * self._choices + action) * self._search.outcomes + known
        return torch.stack([draw_key(draws[:, 0], number), draws[:, 1], draws[:, 2]], dim=-1)

    def _worth(self, seen: Tensor, task: Tensor | None, left: Tensor, draws: Tensor) -> Tensor:
        """Return what comes after nodes ``[n]`` within the steps that are left."""
        if self._value is not None:
            return self._value(seen, task)
        search, lanes = self._search, (len(seen), self._search.rollouts)
        model = of_tasks(self._model, task)
        seen, steps = seen[:, None].expand(*lanes, -1), int(left.max())
        total, going = seen.new_zeros(lanes), torch.ones(lanes, dtype=torch.bool)
        luck = draws[:, None, None].repeat(1, search.rollouts, steps, 1)
        number = torch.arange(search.rollouts)[:, None] * search.horizon + torch.arange(steps)
        luck[..., 0] = draw_key(luck[..., 0], number)
        actions = integers(fork(luck, "action"), self._choices)
        for step in range(steps):
            going = going & (step < left)[:, None]
            found = model(seen, actions[..., step], luck[:, :, step] if search.outcomes else None)
            total = total + search.discount**step * torch.where(going, found.reward, 0.0)
            going = going & ~found.terminated
            seen = torch.where(going.unsqueeze(-1), found.next_observation, seen)
        return total.mean(-1)


class _Path(NamedTuple):
    """Ways down n trees, of at most D steps.

    Attributes:
        nodes: ``[n, D]`` int64.
        actions: ``[n, D]`` int64, taken there.
        children: ``[n, D]`` int64, where they led.
        going: ``[n, D]`` bool, whether the step was taken.
        last: ``[n]`` int64, the node at the end.
    """

    nodes: Tensor
    actions: Tensor
    children: Tensor
    going: Tensor
    last: Tensor


def _backed_up(now: Tree, path: _Path, end: Tensor, discount: float) -> None:
    """Add what came of a path to the nodes on it."""
    returns, rows = end, torch.arange(len(end))
    for step in reversed(range(path.going.shape[1])):
        on = path.going[:, step]
        node, action, child = (part[:, step] for part in (path.nodes, path.actions, path.children))
        returns = torch.where(on, now.reward[rows, child] + discount * returns, returns)
        at = (rows[on], node[on], action[on])
        now.visits[at] += 1.0
        now.total[at] += returns[on]
        now.low.copy_(torch.where(on, torch.minimum(now.low, returns), now.low))
        now.high.copy_(torch.where(on, torch.maximum(now.high, returns), now.high))
