"""Adam as a function of flat parameters: for updates that are one graph.

Reference: Kingma and Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; decoupled
weight decay: Loshchilov and Hutter 2019, algorithm 2. Numbers are those of ``torch.optim`` to
rounding.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hindsight_rl.training.update.state import SeedStates, Span


class Rule(NamedTuple):
    """Adam on one run of the parameters; the rate comes with every update.

    Args:
        span: Where.
        betas: Decay of the two averages.
        eps: Added to the root of the second.
        weight_decay: Coefficient.
        decoupled: Whether it shrinks the parameters (AdamW) or adds to the gradient.
        every: It moves at updates whose number, counted from 1, is a multiple.
        name: Of the group: that of its network, where it has one of its own.
        begin: Updates before the first at which it moves.
    """

    span: Span
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    every: int = 1
    name: str = ""
    begin: int = 0


def adam(
    rule: Rule, rates: Tensor, parameters: Tensor, gradient: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return one group's parameters and averages after a step.

    Args:
        rule: The group.
        rates: ``[4]``: learning rate, 1 - beta1^t, sqrt(1 - beta2^t), and 1 where the group is due.
        parameters: ``[P]``, of all groups.
        gradient: ``[P]``.
        first: ``[P]``, mean of gradients.
        second: ``[P]``, mean of squared gradients.

    Returns:
        Parameters and both averages, of the group only.
    """
    cut = slice(rule.span.start, rule.span.stop)
    parameters, gradient, first, second = (x[cut] for x in (parameters, gradient, first, second))
    before = parameters, first, second
    rate, bias, root, due = rates.unbind(0)
    if rule.decoupled:
        parameters = parameters * (1 - rate * rule.weight_decay)
    elif rule.weight_decay:
        gradient = gradient + rule.weight_decay * parameters
    beta1, beta2 = rule.betas
    first = torch.lerp(first, gradient, 1 - beta1)
    second = second * beta2 + (1 - beta2) * gradient * gradient
    parameters = parameters - (rate / bias) * first / (second.sqrt() / root + rule.eps)
    after = parameters, first, second
    if rule.every == 1 and not rule.begin:
        return after
    one, two, three = (torch.where(due > 0, a, b) for a, b in zip(after, before, strict=True))
    return one, two, three


def adam_obstacle(optimizer: torch.optim.Optimizer) -> str:
    """Return why an optimiser cannot be part of the graph, "" if it can."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return f"the optimiser must be Adam or AdamW, not {type(optimizer).__name__}"
    for group in optimizer.param_groups:
        for option in ("amsgrad", "maximize", "differentiable"):
            if group.get(option):
                return f"it does not know {type(optimizer).__name__}'s option {option}"
    return ""


def rules_of(
    optimizer: torch.optim.Optimizer,
    states: SeedStates,
    every: Mapping[str, int],
    begins: Mapping[str, int],
) -> list[Rule]:
    """Return the rules of an optimiser's groups, in the order of the state.

    Args:
        optimizer: Adam or AdamW.
        states: The state.
        every: Interval of groups by name, where they do not move at every update.
        begins: Updates before the first at which groups move, by name.

    Returns:
        One per group.
    """
    groups = {str(number): group["params"] for number, group in enumerate(optimizer.param_groups)}
    decoupled = isinstance(optimizer, torch.optim.AdamW)
    return [
        Rule(
            span,
            group["betas"],
            group["eps"],
            group["weight_decay"],
            decoupled,
            every.get(group.get("name", ""), 1),
            group.get("name", ""),
            begins.get(group.get("name", ""), 0),
        )
        for span, group in zip(states.spans(groups), optimizer.param_groups, strict=True)
    ]


def unmoved(rule: Rule, *rows: Tensor) -> tuple[Tensor, ...]:
    """Return one group's parameters and averages as they are."""
    return tuple(row[rule.span.start : rule.span.stop] for row in rows)
