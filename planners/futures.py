"""What a model says of plans: P plans of H actions from each of n states, under E futures each."""

import torch
from torch import Tensor

from hindsight_rl.maths.draws import draw_key, fork
from hindsight_rl.maths.planning import pessimistic_score, promised_return
from hindsight_rl.planners.planner import Value, of_tasks
from hindsight_rl.ports import Ensemble, Imagined, Model


class Futures:
    """Scores plans.

    Args:
        model: Says what actions lead to.
        value: Of what comes after the last step; ``None``: nothing does.
        discount: gamma, in [0, 1].
        particles: E, futures of each plan that are drawn; 0: one, the model's mean.
        pessimism: Standard deviations over the particles that are taken off their mean, at least 0.
        lasting: Whether a particle asks one member of the model for its whole plan.

    Raises:
        ValueError: The model has no members that could last.
    """

    def __init__(
        self,
        model: Model | Ensemble,
        value: Value | None,
        discount: float,
        particles: int,
        pessimism: float,
        lasting: bool = False,
    ) -> None:
        self._value, self._discount = value, discount
        self._particles, self._pessimism = particles, pessimism
        self._models: list[Model] = members_of(model, lasting)

    def score(
        self, observation: Tensor, task: Tensor | None, plans: Tensor, draws: Tensor
    ) -> Tensor:
        """Return what plans promise.

        Args:
            observation: ``[n, O]``.
            task: ``[n, Z]``, what model and value are asked for; ``None`` for none.
            plans: ``[n, P, H, A]`` in environment units.
            draws: ``[n, 3]`` int64 counters: plans of one state meet the same luck, so that the
                better plan wins, and not the luckier one.

        Returns:
            ``[n, P]``, reward units; -infinity where the model answers with no number.
        """
        rows, samples, horizon = plans.shape[:3]
        lanes = (rows, samples, max(1, self._particles))
        seen = observation[:, None, None].expand(*lanes, -1)
        models = [of_tasks(model, task) for model in self._models]
        rewards, ends = [], []
        for step in range(horizon):
            action = plans[:, :, None, step].expand(*lanes, -1)
            found = _asked(models, seen, action, self._luck(draws, step))
            rewards.append(found.reward)
            ends.append(found.terminated)
            # Behind the end anything may come: the model is asked about a state that there is.
            seen = torch.where(found.terminated.unsqueeze(-1), seen, found.next_observation)
        end = rewards[-1].new_zeros(lanes)
        if self._value is not None:
            goal = None if task is None else task[:, None, None].expand(*lanes, -1)
            end = self._value(seen, goal)
        total = promised_return(
            torch.stack(rewards, -1), torch.stack(ends, -1), end, discount=self._discount
        )
        return pessimistic_score(total, pessimism=self._pessimism)

    def _luck(self, draws: Tensor, step: int) -> Tensor | None:
        """Return counters ``[n, 1, E, 3]`` of one step, ``None`` for no luck."""
        if not self._particles:
            return None
        here = fork(fork(draws, "future"), step)[:, None, None].repeat(1, 1, self._particles, 1)
        here[..., 0] = draw_key(here[..., 0], torch.arange(self._particles))
        return here


def members_of(model: Model | Ensemble, lasting: bool) -> list[Model]:
    """Return the models that share the particles of a plan.

    Args:
        model: A model, or an ensemble.
        lasting: Whether each particle asks one member for its whole plan.

    Returns:
        One, which draws a member for every step if it has several; or the elites of an ensemble.

    Raises:
        ValueError: Members should last, and it has none.
    """
    if lasting and not isinstance(model, Ensemble):
        raise ValueError(
            "planner.lasting asks one member of an ensemble for a whole plan, and this model has "
            "none: plan by a fitted Dynamics, or leave lasting out"
        )
    if isinstance(model, Ensemble):
        return model.each_elite() if lasting else [model.imagine]
    return [model]


def _asked(models: list[Model], seen: Tensor, action: Tensor, luck: Tensor | None) -> Imagined:
    """Return what follows, ``[n, P, E]``: each model is asked of its share of the particles."""
    if len(models) == 1:
        return models[0](seen, action, luck)
    count = len(models)
    assert luck is not None  # members last over particles, whose luck is drawn
    shares = zip(seen.chunk(count, 2), action.chunk(count, 2), luck.chunk(count, 2), strict=True)
    parts = [model(*share) for model, share in zip(models, shares, strict=False)]
    return Imagined(*(torch.cat(part, 2) for part in zip(*parts, strict=True)))
