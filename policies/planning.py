"""Plans: actions that a model of episodes takes for likely, and the best of what they lead to.

    score = sum_{k<h} gamma^k c_k r_k + gamma^h c_h G_h        (``maths.search.planned_return``)

Probability limits the candidates, rewards and returns to go rank them. Everything is the model's:
rewards and returns are means over their bins, what is observed next is its likeliest token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_ranges, within
from hindsight_rl.keys import Key
from hindsight_rl.maths.bins import drawn_bin, without_unlikely
from hindsight_rl.maths.draws import uniform
from hindsight_rl.maths.search import beam_search, flat_rows, of_parents, planned_return
from hindsight_rl.nets.step_bins import OUTCOMES
from hindsight_rl.nets.trajectory import TrajectoryNet, Written

AT_ONCE = 512
"""Plans that are written on at once: each keeps what all of its tokens offer."""


@dataclass(frozen=True)
class Search:
    """How plans are sought.

    Args:
        horizon: H, steps of a plan, at least 1.
        beam: Plans that are kept after every step, at least 1.
        candidates: Actions that each of them is continued with, at least 1.
        cut: Share of the probability that the least likely bins of an action hold, which are no
            candidates, in [0, 1).

    Raises:
        ValueError: An argument is out of range.
    """

    horizon: int = 5
    beam: int = 32
    candidates: int = 2
    cut: float = 0.2

    def __post_init__(self) -> None:
        """Check the arguments."""
        sizes = {"horizon": self.horizon, "beam": self.beam, "candidates": self.candidates}
        check_ranges(at_least(1, **sizes), within("[0, 1)", cut=self.cut))


class Plans(NamedTuple):
    """The best plans, the best first.

    Attributes:
        action: ``[n, W, size]`` int64, tokens of the first action.
        score: ``[n, W]``, what each promises, reward units; -infinity where there was no candidate.
    """

    action: Tensor
    score: Tensor


Past = Mapping[str, Tensor]
"""``observation [n, P, O]``, ``action [n, P, A]`` (or ``[n, P]`` int64), ``valid [n, P]``."""


def planned(
    net: TrajectoryNet,
    observation: Tensor,
    task: Tensor | None,
    past: Past,
    search: Search,
    *,
    discount: float,
) -> tuple[Tensor, Tensor]:
    """Return the first action of the best plan, and the scores that it is the best of.

    Args:
        net: The model.
        observation: ``[n, O]``.
        task: ``[n, Z]`` where the model has a task.
        past: The last steps.
        search: How plans are sought.
        discount: In [0, 1].

    Returns:
        Actions ``[n, A]`` in environment units and scores of plans ``[n, W]``; or ``[n]`` int64
        from 0 and the best score of each choice, ``[n, choices]``, -infinity where none was
        followed.
    """
    found = []
    for rows in torch.arange(len(observation), device=observation.device).split(
        max(1, AT_ONCE // (search.beam * search.candidates))
    ):
        goal = None if task is None else task[rows]
        some = {name: value[rows] for name, value in past.items()}
        now = written(net, observation[rows], goal, some)
        found.append(best_plans(net, now, search, discount=discount))
    action, score = (torch.cat(parts) for parts in zip(*found, strict=True))
    if not net.bins.choices:
        return net.bins.action(action[:, 0]), score
    none = score.new_full((len(score), net.bins.choices), -torch.inf)
    choice = torch.where(score.isneginf(), 0, action[..., 0])
    best = none.scatter_reduce(1, choice, score, "amax")
    return best.argmax(-1), best


@torch.no_grad()
def drawn(
    net: TrajectoryNet, observation: Tensor, task: Tensor | None, past: Past, draws: Tensor
) -> Tensor:
    """Return actions drawn from the model of the log, without a plan.

    Args:
        net: The model.
        observation: ``[n, O]``.
        task: ``[n, Z]`` where the model has a task.
        past: The last steps.
        draws: ``[n, 3]`` int64 counters.

    Returns:
        ``[n, A]`` in environment units, or ``[n]`` int64 from 0.
    """
    state = written(net, observation, task, past)
    tokens: list[Tensor] = []
    for place in range(net.bins.sizes["action"]):
        state = net.more(tokens[-1], state) if tokens else state
        tokens.append(drawn_bin(net.next_log_prob(state), uniform(draws, place))[0])
    return net.bins.action(torch.stack(tokens, dim=-1))


def written(net: TrajectoryNet, observation: Tensor, task: Tensor | None, past: Past) -> Written:
    """Return episodes up to what is observed now; outcomes of the past are not known."""
    present = {"observation": observation, "action": past["action"][:, -1]}  # it is not seen
    unknown = observation.new_zeros(past["valid"].shape[0], past["valid"].shape[1] + 1)
    steps: dict[Key, Tensor] = {key: unknown for key in OUTCOMES.values()}
    for name, now in present.items():
        steps[name] = torch.cat([past[name], now.unsqueeze(1)], dim=1)
    numbers = net.bins.numbers(steps)
    return net.begin(net.bins(numbers), past["valid"], task)


class _Branches(NamedTuple):
    """Plans so far, ``[n, W, ...]``, and what is written of them, n W rows."""

    action: Tensor
    dead: Tensor
    reward: Tensor
    ended: Tensor
    written: Written


@torch.no_grad()
def best_plans(net: TrajectoryNet, written: Written, search: Search, *, discount: float) -> Plans:
    """Return the best plans from a present.

    Args:
        net: The model.
        written: Episodes up to what is observed now, n rows.
        search: How plans are sought.
        discount: In [0, 1].

    Returns:
        ``search.beam`` of them, fewer where there are fewer sequences of tokens.
    """
    count, device = len(written.features), written.features.device
    none = torch.zeros(count, 1, 0, device=device)
    dead = torch.zeros(count, 1, dtype=torch.bool, device=device)
    now = _Branches(none.long(), dead, none, none, written)
    for step in range(search.horizon):
        width = search.candidates * (1 if step else search.beam)
        now, score = _ranked(net, _acted(net, now, width, search.cut), search.beam, discount)
        if step < search.horizon - 1:
            now = now._replace(written=_observed(net, now.written))
    return Plans(now.action, score)


def _acted(net: TrajectoryNet, now: _Branches, width: int, cut: float) -> _Branches:
    """Return each plan with its likeliest actions."""

    def step(state: Written, token: Tensor | None) -> tuple[Tensor, Written]:
        state = state if token is None else net.more(token, state)
        return without_unlikely(net.next_log_prob(state), cut), state

    length = net.bins.sizes["action"]
    found = beam_search(now.written, step, Written.rows, length=length, width=width)
    each = found.tokens.shape[1]
    count, plans = now.dead.shape
    parent = torch.arange(plans, device=now.dead.device).repeat_interleave(each).expand(count, -1)
    tokens = found.tokens.unflatten(0, (count, plans)).flatten(1, 2)
    return _Branches(
        of_parents(now.action, parent) if now.action.shape[-1] else tokens,
        of_parents(now.dead, parent) | found.score.isneginf().view(count, -1),
        of_parents(now.reward, parent),
        of_parents(now.ended, parent),
        net.more(tokens[..., -1].flatten(), found.state),
    )


def _ranked(
    net: TrajectoryNet, now: _Branches, beam: int, discount: float
) -> tuple[_Branches, Tensor]:
    """Return the best plans with the outcome of their last step, and their scores ``[n, W]``."""
    shape = now.dead.shape
    reward, likeliest = _predicted(net, now.written)
    value, likely = _predicted(net, written := net.more(likeliest, now.written))
    end, _ = _predicted(net, written := net.more(likely, written))
    score = planned_return(now.reward, now.ended, value.view(shape), discount=discount)
    score = score.masked_fill(now.dead, -torch.inf)
    score, chosen = score.topk(min(beam, shape[1]), dim=-1)
    rewards = torch.cat([now.reward, reward.view(*shape, 1)], dim=-1)
    ends = torch.cat([now.ended, end.view(*shape, 1)], dim=-1)
    return _Branches(
        of_parents(now.action, chosen),
        of_parents(now.dead, chosen),
        of_parents(rewards, chosen),
        of_parents(ends, chosen),
        written.rows(flat_rows(chosen, shape[1])),
    ), score


def _observed(net: TrajectoryNet, written: Written) -> Written:
    """Return episodes that go on, with what is likely to be observed next."""
    written = net.more(torch.zeros_like(written.place), written)
    for _ in range(net.bins.sizes["observation"]):
        written = net.more(net.next_log_prob(written).argmax(-1), written)
    return written


def _predicted(net: TrajectoryNet, written: Written) -> tuple[Tensor, Tensor]:
    """Return the mean ``[R]`` of the next number, and its likeliest token ``[R]``."""
    log_prob = net.next_log_prob(written)
    return (log_prob.exp() * net.bins.means[written.slot]).sum(-1), log_prob.argmax(-1)
