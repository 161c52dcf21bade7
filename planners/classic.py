"""Gymnasium's classic control as models: its equations for many states at once, differentiable.

Each is made from an environment and has its numbers: a pendulum of another length is another model.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from hindsight_rl.ports import Imagined, Model


def known(observation: Tensor, reward: Tensor, terminated: Tensor) -> Imagined:
    """Return what a known model says: it leaves nothing open."""
    return Imagined(observation, reward, terminated, torch.zeros_like(reward))


class Pendulum:
    """``Pendulum-v1``: observation (cos, sin, angular velocity), torque; nothing ends.

    Args:
        env: ``PendulumEnv``.
    """

    def __init__(self, env: Any) -> None:
        self._gravity, self._mass, self._length = float(env.g), float(env.m), float(env.l)
        self._step, self._fastest = float(env.dt), float(env.max_speed)
        self._strongest = float(env.max_torque)

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        """Return what follows; see :class:`hindsight_rl.ports.Model`."""
        cosine, sine, speed = observation.unbind(-1)
        angle = torch.atan2(sine, cosine)
        torque = action[..., 0].clamp(-self._strongest, self._strongest)
        cost = angle.square() + 0.1 * speed.square() + 0.001 * torque.square()
        fall = 3.0 * self._gravity / (2.0 * self._length) * angle.sin()
        pushed = fall + 3.0 / (self._mass * self._length**2) * torque
        speed = (speed + pushed * self._step).clamp(-self._fastest, self._fastest)
        angle = angle + speed * self._step
        following = torch.stack([angle.cos(), angle.sin(), speed], dim=-1)
        return known(following, -cost, torch.zeros_like(cost, dtype=torch.bool))


class CartPole:
    """``CartPole-v1``: observation (place, speed, angle, its speed); push left 0 or right 1.

    Args:
        env: ``CartPoleEnv``.
    """

    def __init__(self, env: Any) -> None:
        self._env_numbers = (float(env.gravity), float(env.masspole), float(env.length))
        self._mass, self._moment = float(env.total_mass), float(env.polemass_length)
        self._force, self._step = float(env.force_mag), float(env.tau)
        self._edge, self._tilt = float(env.x_threshold), float(env.theta_threshold_radians)
        self._first = env.kinematics_integrator == "euler"
        self._only_falls = bool(getattr(env, "_sutton_barto_reward", False))

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        """Return what follows; see :class:`hindsight_rl.ports.Model`."""
        place, speed, angle, turn = observation.unbind(-1)
        gravity, pole, length = self._env_numbers
        push = self._force * (2.0 * action - 1.0)
        pull = (push + self._moment * turn.square() * angle.sin()) / self._mass
        resist = length * (4.0 / 3.0 - pole * angle.cos().square() / self._mass)
        turned = (gravity * angle.sin() - angle.cos() * pull) / resist
        moved = pull - self._moment * turned * angle.cos() / self._mass
        next_speed, next_turn = speed + self._step * moved, turn + self._step * turned
        used = (speed, turn) if self._first else (next_speed, next_turn)
        place, angle = place + self._step * used[0], angle + self._step * used[1]
        fallen = (place.abs() > self._edge) | (angle.abs() > self._tilt)
        following = torch.stack([place, next_speed, angle, next_turn], dim=-1)
        reward = torch.where(fallen, -1.0, 0.0) if self._only_falls else torch.ones_like(place)
        return known(following, reward, fallen)


class MountainCar:
    """``MountainCar-v0`` and ``MountainCarContinuous-v0``: observation (place, speed).

    Args:
        env: ``MountainCarEnv`` or ``Continuous_MountainCarEnv``.
    """

    def __init__(self, env: Any) -> None:
        self._choices = hasattr(env, "force")
        self._power = float(env.force if self._choices else env.power)
        self._gravity = float(env.gravity) if self._choices else 0.0025
        self._low, self._high = float(env.min_position), float(env.max_position)
        self._fastest = float(env.max_speed)
        self._goal, self._arrival = float(env.goal_position), float(env.goal_velocity)

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        """Return what follows; see :class:`hindsight_rl.ports.Model`."""
        place, speed = observation.unbind(-1)
        push = action - 1.0 if self._choices else action[..., 0]
        speed = speed + push.clamp(-1.0, 1.0) * self._power - self._gravity * (3.0 * place).cos()
        speed = speed.clamp(-self._fastest, self._fastest)
        place = (place + speed).clamp(self._low, self._high)
        speed = torch.where((place == self._low) & (speed < 0), 0.0, speed)
        there = (place >= self._goal) & (speed >= self._arrival)
        reward = -torch.ones_like(place)
        if not self._choices:
            reward = torch.where(there, 100.0, 0.0) - 0.1 * push.square()
        return known(torch.stack([place, speed], dim=-1), reward, there)


MODELS: dict[str, Callable[[Any], Model]] = {
    "PendulumEnv": Pendulum,
    "CartPoleEnv": CartPole,
    "MountainCarEnv": MountainCar,
    "Continuous_MountainCarEnv": MountainCar,
}
"""Models by the class of the environment."""
