"""What a model says of plans: P plans of H actions from each of n states, under E futures each."""

import torch
from torch import Tensor

from hindsight_rl.maths.draws import draw_key, fork
from hindsight_rl.maths.planning import pessimistic_score, promised_return
from hindsight_rl.planners.planner import Value, of_tasks
from hindsight_rl.ports import Model


class Futures:
    """Scores plans.

    Args:
        model: Says what actions lead to.
        value: Of what comes after the last step; ``None``: nothing does.
        discount: gamma, in [0, 1].
        particles: E, futures of each plan that are drawn; 0: one, the model's mean.
        pessimism: Standard deviations over the particles that are taken off their mean, at least 0.
    """

    def __init__(
        self, model: Model, value: Value | None, discount: float, particles: int, pessimism: float
    ) -> None:
        self._model, self._value = model, value
        self._discount, self._particles, self._pessimism = discount, particles, pessimism

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
        model, rewards, ends = of_tasks(self._model, task), [], []
        for step in range(horizon):
            action = plans[:, :, None, step].expand(*lanes, -1)
            found = model(seen, action, self._luck(draws, step))
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
