"""Samplers: what a network is fitted to so that noise becomes actions, and the walk along it.

A sampler is given chunks of actions in policy units, one after the other as one row of D = C * A
numbers. The number of its steps may be chosen anew when a policy is exported.
"""

from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from hindsight_rl.arguments import at_least, check_choices, check_ranges
from hindsight_rl.maths.diffusion import (
    Predict,
    cosine_betas,
    ddim,
    diffusion_error,
    noised,
    signals,
    trailing_steps,
    vp_betas,
)
from hindsight_rl.maths.flow import early_times, euler_flow, flow_error, heun_flow, interpolate
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoising

Solver = Literal["euler", "heun"]
Times = Literal["uniform", "beta"]
Schedule = Literal["cosine", "vp"]

FEWEST_STEPS = 4
"""Steps below which a flow averages modes."""


class Sampler(Protocol):
    """What learners, and the exporter, ask of either."""

    steps: int

    def error(
        self,
        network: Denoising,
        data: Tensor,
        noise: Tensor,
        when: Tensor,
        observation: Observation,
        task: Tensor | None,
    ) -> Tensor:
        """Return the squared error ``[B, D]`` of a network at noisy data.

        Args:
            network: What is fitted.
            data: ``[B, D]``, policy units.
            noise: ``[B, D]`` standard normal.
            when: ``[B]`` standard normal, of which times are made.
            observation: ``[B, O]``.
            task: ``[B, Z]`` where there is one.

        Returns:
            ``[B, D]``.
        """

    def sample(
        self, network: Denoising, observation: Observation, task: Tensor | None, noise: Tensor
    ) -> Tensor:
        """Return the data ``[..., B, D]`` that noise ``[..., B, D]`` becomes, in its precision."""

    def choose(self, steps: int) -> None:
        """Take another number of steps.

        Args:
            steps: At least 1.

        Raises:
            ValueError: It cannot take so many, or so few.
        """

    def caution(self) -> str | None:
        """Return what is lost with so few steps, in words, if anything."""

    def describe(self) -> dict[str, Any]:
        """Return what a contract says of it."""


class Flow:
    """Flow matching: the velocity a - eps at x_t = (1 - t) eps + t a, walked from t = 0 to 1.

    Args:
        steps: N, at least 1.
        solver: ``"euler"``: one velocity a step; ``"heun"``: two, averaged.
        time: Times that are fitted: ``"uniform"``, or ``"beta"``, which leans to the noise.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    def __init__(
        self, steps: int = 10, *, solver: Solver = "euler", time: Times = "uniform"
    ) -> None:
        check_choices(Flow.__init__, {"solver": solver, "time": time})
        self.solver, self.time = solver, time
        self.choose(steps)

    def error(
        self,
        network: Denoising,
        data: Tensor,
        noise: Tensor,
        when: Tensor,
        observation: Observation,
        task: Tensor | None,
    ) -> Tensor:
        """Return (v(x_t, t, s) - (a - eps))^2, see :meth:`Sampler.error`."""
        time = torch.special.ndtr(when)  # normal to uniform
        time = early_times(time) if self.time == "beta" else time
        velocity = network(interpolate(data, noise, time), time, observation, task)
        return flow_error(velocity, data, noise)

    def sample(
        self, network: Denoising, observation: Observation, task: Tensor | None, noise: Tensor
    ) -> Tensor:
        """Return where the noise arrives, see :meth:`Sampler.sample`."""
        walk = euler_flow if self.solver == "euler" else heun_flow
        return walk(network.given(observation, task, noise.dtype), noise, self.steps)

    def choose(self, steps: int) -> None:
        """Take another number of steps, see :meth:`Sampler.choose`."""
        check_ranges(at_least(1, steps=steps))
        self.steps = steps

    def caution(self) -> str | None:
        """Return what is lost with so few steps, if anything."""
        if self.solver == "euler" and self.steps == 1:
            return "one Euler step is exactly the conditional mean of the data: modes are averaged"
        if self.steps >= FEWEST_STEPS:
            return None
        few = "1 step" if self.steps == 1 else f"{self.steps} steps"
        return f"with {few} ({self.solver}) a flow averages modes: take {FEWEST_STEPS} or more"

    def describe(self) -> dict[str, Any]:
        """Return what a contract says of it."""
        return {"kind": "flow", "solver": self.solver, "steps": self.steps}


class Diffusion(nn.Module):
    """Diffusion: the noise in a_k, or the data, walked from the noisiest step by DDIM.

    Args:
        limits: Smallest and largest data ``[D]``, to which every estimate is clipped.
        length: T, steps of the diffusion, at least 1.
        steps: S of them that are visited, in [1, T], equally spaced from the noisiest.
        schedule: ``"cosine"`` (squared cosine), or ``"vp"`` for a T of few steps.
        predict: What the network answers with.

    Raises:
        ValueError: An argument is out of range or none of its choices.
    """

    signal: Tensor
    low: Tensor
    high: Tensor

    def __init__(
        self,
        limits: tuple[Tensor, Tensor],
        *,
        length: int = 100,
        steps: int = 10,
        schedule: Schedule = "cosine",
        predict: Predict = "noise",
    ) -> None:
        super().__init__()
        check_choices(Diffusion.__init__, {"schedule": schedule, "predict": predict})
        check_ranges(at_least(1, length=length))
        betas = cosine_betas(length) if schedule == "cosine" else vp_betas(length)
        self.schedule, self.predict, self.signals = schedule, predict, signals(betas)
        # Made of the arguments again wherever a learner is: no part of its weights.
        self.register_buffer("signal", torch.tensor(self.signals), persistent=False)
        for name, end in zip(("low", "high"), limits, strict=True):
            self.register_buffer(name, end, persistent=False)
        self.choose(steps)

    def error(
        self,
        network: Denoising,
        data: Tensor,
        noise: Tensor,
        when: Tensor,
        observation: Observation,
        task: Tensor | None,
    ) -> Tensor:
        """Return the squared error of what is asked for at a_k, see :meth:`Sampler.error`."""
        length = len(self.signals)
        k = (torch.special.ndtr(when) * length).long().clamp(max=length - 1)
        signal = self.signal[k]
        point = noised(data, noise, signal)
        answer = network(point, k.to(data.dtype) / length, observation, task)
        return diffusion_error(answer, data, noise, signal, self.predict)

    def sample(
        self, network: Denoising, observation: Observation, task: Tensor | None, noise: Tensor
    ) -> Tensor:
        """Return what the noise becomes, in the limits, see :meth:`Sampler.sample`.

        A network that predicts the noise is asked in float64: see :func:`data_implied`.
        """
        if self.predict == "noise":
            noise = noise.double()
        answer = network.given(observation, task, noise.dtype)
        length = len(self.signals)

        def prediction(point: Tensor, k: int) -> Tensor:
            return answer(point, k / length)

        limits = self.low.to(noise.dtype), self.high.to(noise.dtype)
        return ddim(
            prediction,
            noise,
            self.signals,
            steps=self.steps,
            predict=self.predict,
            limits=limits,
        )

    def choose(self, steps: int) -> None:
        """Take another number of steps, see :meth:`Sampler.choose`."""
        self.steps = len(trailing_steps(len(self.signals), steps))

    def caution(self) -> str | None:
        """Return what is lost with so few steps, if anything."""
        if self.steps > 1:
            return None
        if self.predict != "noise":
            return "one DDIM step is the mean of the data: modes are averaged"
        return "one DDIM step magnifies the network's error by 1 / sqrt(abar): take 5 or more"

    def describe(self) -> dict[str, Any]:
        """Return what a contract says of it."""
        return {"kind": "diffusion", "solver": "ddim", "steps": self.steps,
                "length": len(self.signals)}  # fmt: skip
