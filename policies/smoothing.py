"""Smoothed targets: critics evaluated beside the action of a policy."""

from collections.abc import Callable

from torch import Tensor

from hindsight_rl.maths.smoothing import smoothed_action
from hindsight_rl.nets.policy import Policy


def smoothed_value(
    policy: Policy,
    critic: Callable[..., Tensor],
    observation: Tensor,
    task: Tensor | None,
    noise: Tensor,
    *,
    std: float,
    limit: float,
) -> Tensor:
    """Return the least that critics say beside the action of a deterministic policy.

    Args:
        policy: The policy.
        critic: ``(observation, action, task) -> [E, ...]``.
        observation: ``[..., O]``.
        task: ``[..., Z]`` where the spec has a task.
        noise: ``[..., A]`` standard normal numbers.
        std: Standard deviation of what is added to the action, policy units, at least 0.
        limit: Largest magnitude of what is added, policy units, at least 0.

    Returns:
        ``[...]``, reward units.

    Reference:
        Fujimoto et al. 2018, arXiv 1802.09477, section 5.3 and eq. 10.
    """
    action = smoothed_action(policy(observation, task).mode, noise, std=std, limit=limit)
    return critic(observation, policy.scale.to_environment(action), task).amin(0)
