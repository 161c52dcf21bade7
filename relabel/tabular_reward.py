"""The reward of a small world that explains its experts best: maximum causal entropy, by a log.

For one-hot observations and discrete actions. Where steps lead is counted in the log; the reward
maximises the likelihood of what the experts did under a policy that is as random as that reward
allows (:mod:`hindsight_rl.maths.inverse_rl`).
"""

import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from hindsight_rl.arguments import at_least, check_choices, check_ranges, within
from hindsight_rl.keys import (
    ACTION,
    NEXT_OBSERVATION,
    OBSERVATION,
    STEP,
    TERMINATED,
    TRUNCATED,
    Key,
    key_name,
)
from hindsight_rl.maths.inverse_rl import causal_likelihood_loss, demonstrated_visits
from hindsight_rl.maths.soft_value import soft_values
from hindsight_rl.ports import LogView
from hindsight_rl.relabel.learned import choices_of
from hindsight_rl.relabel.sides import two_sides

_ROUNDS = 200  # of L-BFGS, at most


class TabularReward(NamedTuple):
    """What explains experts in a small world, float64."""

    reward: Tensor
    """``[S]``, or ``[S, A]`` where it is one of actions too; nats."""
    policy: Tensor
    """``[H, S, A]``: what the reward lets expect at each step."""
    column: Tensor
    """``[N]`` float32: the reward of every row of the log."""
    loss: float
    """What the experts' actions cost under that policy, nats an episode."""


def tabular_reward(
    log: LogView,
    *,
    expert: str | None = "all",
    reads: Literal["state", "action"] = "state",
    discount: float = 1.0,
    l2: float = 1e-3,
) -> TabularReward:
    """Return the reward that explains the experts of a log best.

        found = tabular_reward(log)
        log = log.with_columns({("next", "reward"): found.column})

    Rewards are known up to what no demonstration tells, see the module; compare policies, or
    rewards without their mean. Actions that the log never shows in a state are not there, and what
    follows a state that nobody acted in is worth 0.

    Args:
        log: One-hot observations and discrete actions.
        expert: ``"all"``: every row that may be drawn is an expert's; ``None``: those of the first
            source; or a column that is above 0 there. The others only say where steps lead.
        reads: Whether the reward is one of states, or of states and actions.
        discount: In [0, 1].
        l2: Weight of half the squared rewards, at least 0: keeps those of what no expert does
            finite.

    Returns:
        The reward, and what follows from it. The horizon is that of the longest expert episode.

    Raises:
        ValueError: The log is of another kind, an argument is out of range, or a side is empty.
    """
    check_choices(tabular_reward, {"reads": reads})
    check_ranges(within("[0, 1]", discount=discount))
    check_ranges(at_least(0, l2=l2))
    state, following = (_states(log, key) for key in (OBSERVATION, NEXT_OBSERVATION))
    action, choices = _actions(log)
    rows = log.drawable()
    shown = rows if expert == "all" else two_sides(log, expert, "tabular_reward", "expert").own
    step, states = log.column(STEP), log.column(OBSERVATION).shape[1]
    _warn_of_cuts(log, shown)
    sizes = {"states": states, "actions": choices}
    horizon = int(step[shown].max()) + 1
    visits = demonstrated_visits(
        state[shown], action[shown], step[shown], **sizes, discount=discount, horizon=horizon
    )
    ends = log.column(TERMINATED)
    moves, there = _moves(state[rows], action[rows], following[rows], ends[rows], **sizes)

    def full(reward: Tensor) -> Tensor:
        wide = reward if reward.ndim == 2 else reward.unsqueeze(-1).expand(states, choices)
        return wide.masked_fill(~there, -torch.inf)

    def loss(reward: Tensor) -> Tensor:
        return causal_likelihood_loss(full(reward), visits, moves, discount=discount)

    shape = (states, choices) if reads == "action" else (states,)
    reward = _minimised(lambda r: loss(r) + 0.5 * l2 * r.square().sum(), shape)
    policy = soft_values(full(reward), moves, horizon, discount=discount).policy
    per_row = reward[state] if reads == "state" else reward[state, action]
    return TabularReward(reward, policy, per_row.float(), float(loss(reward)))


def _states(log: LogView, key: Key) -> Tensor:
    """Return the numbers ``[N]`` of one-hot states."""
    value = log.column(key)
    hot = value == 1
    if value.ndim != 2 or not bool((hot.sum(-1) == 1).all() & (hot | (value == 0)).all()):
        raise ValueError(
            f"'{key_name(key)}' is not one-hot: tabular_reward counts states, and "
            "DiscriminatorReward is for all others"
        )
    return value.argmax(-1)


def _actions(log: LogView) -> tuple[Tensor, int]:
    """Return the choices ``[N]`` from 0, and how many there are."""
    choices = choices_of(log)
    if not choices:
        raise ValueError("actions are no choices: tabular_reward counts them")
    return log.column(ACTION) - int(log.info.get("action_start") or 0), choices


def _moves(
    state: Tensor, action: Tensor, following: Tensor, ends: Tensor, *, states: int, actions: int
) -> tuple[Tensor, Tensor]:
    """Return where steps lead ``[S, A, S]``, and which actions ``[S, A]`` bool the log shows.

    The share of steps that end an episode, or lead where nobody acts, leads nowhere.
    """
    pair = state * actions + action
    count = torch.bincount(pair, minlength=states * actions).double()
    seen = count.reshape(states, actions) > 0
    goes_on = ~ends & seen.any(-1)[following]
    places = (pair * states + following)[goes_on]
    led = torch.bincount(places, minlength=states * actions * states).double()
    moves = led.reshape(states, actions, states)
    moves = moves / count.clamp_min(1.0).reshape(states, actions, 1)
    # A state that nobody acts in is never reached; one action keeps its value finite.
    there = seen.clone()
    there[:, 0] |= ~seen.any(-1)
    return moves, there


def _minimised(loss: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return where a convex function is least."""
    reward = torch.zeros(shape, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [reward], max_iter=_ROUNDS, tolerance_grad=1e-9, line_search_fn="strong_wolfe"
    )

    def value() -> Tensor:
        solver.zero_grad()
        found = loss(reward)
        found.backward()
        return found

    with torch.enable_grad():
        solver.step(value)
    return reward.detach()


def _warn_of_cuts(log: LogView, shown: Tensor) -> None:
    """Say so where expert episodes are cut before the longest one ends."""
    step, cut = log.column(STEP)[shown], log.column(TRUNCATED)[shown]
    if bool((cut & (step < step.max())).any()):
        warnings.warn(
            f"expert episodes are cut at different lengths, and tabular_reward takes what is cut "
            f"before step {int(step.max()) + 1} for an end that the experts chose: give episodes "
            "of one length, or that terminate",
            stacklevel=3,
        )
