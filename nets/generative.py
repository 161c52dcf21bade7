"""Generative networks: actions out of noise."""

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from hindsight_rl.maths.diffusion import single
from hindsight_rl.maths.inpainting import first_entries, inpainted, put_in
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.encoders.entries import Observation, make_inputs
from hindsight_rl.nets.layers import mlp, outputs, residual_mlp
from hindsight_rl.nets.network import Network, NoiseNetwork
from hindsight_rl.spec import Spec

TIME_FREQUENCIES = 4
"""Sines and cosines of the time that a network is given."""
_FACTORS = [math.pi * 2.0**k for k in range(TIME_FREQUENCIES)]


def time_features(time: Tensor) -> Tensor:
    """Return sines and cosines of a time in [0, 1], ``[..., 2 * TIME_FREQUENCIES]``."""
    angles = torch.stack([time * factor for factor in _FACTORS], dim=-1)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Denoising(Protocol):
    """What a sampler asks of a network: an answer at points of any times, or along a walk."""

    def __call__(
        self, point: Tensor, time: Tensor, observation: Observation, task: Tensor | None = None
    ) -> Tensor:
        """Return the answer ``[..., C * A]`` at points, see :meth:`Denoiser.forward`."""

    def given(
        self,
        observation: Observation,
        task: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Callable[[Tensor, float], Tensor]:
        """Return the answer as a function of point and time, see :meth:`Denoiser.given`."""


class Denoiser(nn.Module):
    """f(x, t, s) or f(x, t, s, z): what turns noise into a chunk of actions, step by step.

    What it is asked for is the learner's matter: which way the noise moves (flow matching), the
    noise in a noisy chunk, or the chunk itself (diffusion).

    Args:
        spec: The data's spec; its actions are continuous.
        network: Inputs, of observation and task, and hidden layers.
        chunk: C, actions in a chunk.
        committed: D, how many of its first actions may be given, see :class:`Inpainting`; the
            network is told which of them are.
    """

    def __init__(
        self,
        spec: Spec,
        network: Network = NoiseNetwork(),
        *,
        chunk: int = 1,
        committed: int = 0,
    ) -> None:
        super().__init__()
        self.inputs, hidden = make_inputs(spec, network)
        self.scale = ActionScale(spec.action)
        self.width = spec.action.width
        self.outputs, self.committed = chunk * self.width, committed
        width = self.outputs + 2 * TIME_FREQUENCIES + self.inputs.width + committed
        residual = isinstance(network, NoiseNetwork) and network.residual
        make = residual_mlp if residual else mlp
        self.net = make(width, hidden, self.outputs)

    def data_limits(self, spec: Spec) -> tuple[Tensor, Tensor]:
        """Return the smallest and largest chunks of the data, ``[C * A]`` each, policy units.

        Args:
            spec: What the network was made of.

        Returns:
            Two tensors, see :meth:`hindsight_rl.nets.action_scale.ActionScale.data_limits`.
        """
        low, high = self.scale.data_limits(spec.action)
        chunk = self.outputs // self.width
        return low.repeat(chunk), high.repeat(chunk)

    def forward(
        self,
        point: Tensor,
        time: Tensor,
        observation: Observation,
        task: Tensor | None = None,
        count: Tensor | None = None,
    ) -> Tensor:
        """Return the answer at points of any times: what is fitted.

        Args:
            point: ``[..., C * A]``, policy units.
            time: ``[...]``, in [0, 1].
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task.
            count: ``[...]`` int64, in [0, D], how many first actions of the point are given;
                ``None`` for none.

        Returns:
            ``[..., C * A]``.
        """
        features = self._features(observation, task, count)
        answer: Tensor = self.net(torch.cat([point, time_features(time), features], dim=-1))
        return answer

    def at_once(
        self, noise: Tensor, observation: Observation, task: Tensor | None = None
    ) -> Tensor:
        """Return what a network makes of noise that was fitted to arrive in one step.

        Args:
            noise: ``[..., C * A]``, standard normal.
            observation: ``[..., O]``.
            task: ``[..., Z]`` where the spec has a task.

        Returns:
            ``[..., C * A]``: the answer at time 0.
        """
        answer: Tensor = self(noise, torch.zeros_like(noise[..., 0]), observation, task)
        return answer

    def given(
        self,
        observation: Observation,
        task: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
        count: Tensor | None = None,
    ) -> Callable[[Tensor, float], Tensor]:
        """Return the answer as a function of point and time: what a sampler walks along.

        Observation and task are encoded once, however many steps follow.

        Args:
            observation: ``[B, O]``.
            task: ``[B, Z]`` where the spec has a task.
            dtype: Of the points; in float64, see :func:`hindsight_rl.nets.layers.outputs`.
            count: ``[B]`` int64, in [0, D], how many first actions are given; ``None`` for none.

        Returns:
            ``(x [..., B, C * A], t) -> [..., B, C * A]``; dimensions before those of the
            observation mean several chunks per state.
        """
        # A vector is standardised in float64 too: its rounding would be magnified like any other.
        if isinstance(observation, Tensor):
            observation = observation.to(dtype)
        features = self._features(observation, task, count).to(dtype)

        def answer(point: Tensor, time: float) -> Tensor:
            # Numbers, not sines of a tensor: every runtime is given the same ones.
            angles = [time * factor for factor in _FACTORS]
            waves = [single(wave(angle)) for wave in (math.sin, math.cos) for angle in angles]
            when = torch.stack([point.new_full((), number) for number in waves])
            parts = [part.expand(*point.shape[:-1], part.shape[-1]) for part in (when, features)]
            return outputs(self.net, torch.cat([point, *parts], dim=-1))

        return answer

    def _features(
        self, observation: Observation, task: Tensor | None, count: Tensor | None
    ) -> Tensor:
        """Return observation and task encoded, and which of the first actions are given."""
        features: Tensor = self.inputs(observation, task)
        if not self.committed:
            return features
        if count is None:
            marks = features.new_zeros((*features.shape[:-1], self.committed))
        else:
            marks = first_entries(count, self.committed).to(features.dtype)
        return torch.cat([features, marks], dim=-1)


class Inpainting:
    """A denoiser that is given the first actions of a chunk: samplers take it in its place.

    Args:
        network: Made for D ``committed`` actions, at least 1.
        known: ``[..., D * A]``, policy units, the first actions.
        count: ``[...]`` int64, in [0, D], how many of them are known; behind them ``known`` may
            hold anything.
    """

    def __init__(self, network: Denoiser, known: Tensor, count: Tensor) -> None:
        self.network, self.known, self.count = network, known, count
        self.mask = first_entries(count * network.width, known.shape[-1])

    def __call__(
        self, point: Tensor, time: Tensor, observation: Observation, task: Tensor | None = None
    ) -> Tensor:
        """Return the network's answer at points with what is known, see :class:`Denoising`."""
        seen = put_in(point, self.known, self.mask)
        answer: Tensor = self.network(seen, time, observation, task, self.count)
        return answer

    def given(
        self,
        observation: Observation,
        task: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Callable[[Tensor, float], Tensor]:
        """Return the same as a function of point and time, see :class:`Denoising`."""
        answer = self.network.given(observation, task, dtype, self.count)
        return inpainted(answer, self.known.to(dtype), self.mask)
