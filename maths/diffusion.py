"""Diffusion: data dissolved in noise by steps, and the way back by DDIM.

Steps are numbered k = 0, ..., T - 1, from nearly clean to nearly pure noise:

    a_k = sqrt(abar_k) a + sqrt(1 - abar_k) eps,   eps ~ N(0, 1)
    abar_k = (1 - beta_0) ... (1 - beta_k)

abar_k is called the *signal* of step k: the share of the data in the variance.

Reference: Ho, Jain and Abbeel 2020, arXiv 2006.11239; Song, Meng and Ermon 2020, arXiv 2010.02502.
"""

import math
import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Literal

from torch import Tensor

Predict = Literal["velocity", "noise", "sample"]
"""What a network is asked for at a_k: the noise eps in it, the data a, or the velocity
sqrt(abar_k) eps - sqrt(1 - abar_k) a: nearly the noise at first, nearly minus the data at last."""
Prediction = Callable[[Tensor, int], Tensor]
"""``(a_k [..., D], k) -> [..., D]``."""


def single(value: float) -> float:
    """Return the nearest number of float32.

    Exporters write the numbers of a graph in float32, those of a float64 graph too: a file computes
    with what was rounded, and so must a learner whose steps magnify it.
    """
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found


def cosine_betas(
    length: int, *, offset: float = 0.008, largest: float = 0.999
) -> tuple[float, ...]:
    """Return the betas of the squared-cosine schedule.

    Args:
        length: T, at least 1.
        offset: s, keeps the first steps from being too small.
        largest: Cap on a beta, below 1.

    Returns:
        T numbers in (0, 1).

    Reference:
        Nichol and Dhariwal 2021, arXiv 2102.09672, eq. 17.
    """

    def level(time: float) -> float:
        return math.cos((time + offset) / (1.0 + offset) * math.pi / 2) ** 2

    return tuple(
        min(1.0 - level((k + 1) / length) / level(k / length), largest) for k in range(length)
    )


def vp_betas(length: int, *, low: float = 0.1, high: float = 10.0) -> tuple[float, ...]:
    """Return the betas of the variance-preserving schedule, for few steps.

    Args:
        length: T, at least 1.
        low: Rate of noise at the start, above 0.
        high: Rate at the end.

    Returns:
        T numbers in (0, 1).

    Reference:
        Xiao, Kreis and Vahdat 2021, arXiv 2112.07804, appendix; used with T = 5 by Hansen-Estruch
        et al. 2023, arXiv 2304.10573.
    """
    return tuple(
        1.0 - math.exp(-low / length - (high - low) * (2 * k + 1) / (2 * length**2))
        for k in range(length)
    )


def signals(betas: Sequence[float]) -> tuple[float, ...]:
    """Return abar of every step: what is left of the data's variance, falling."""
    return tuple(accumulate((1.0 - beta for beta in betas), lambda one, two: one * two))


def noised(data: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Return data of which a share is noise: sqrt(abar) a + sqrt(1 - abar) eps.

    Args:
        data: ``[..., D]``.
        noise: ``[..., D]``, standard normal.
        signal: abar ``[...]``, in (0, 1).

    Returns:
        ``[..., D]``.
    """
    signal = signal.unsqueeze(-1)
    return signal.sqrt() * data + (1.0 - signal).sqrt() * noise


def wanted(data: Tensor, noise: Tensor, signal: Tensor, predict: Predict) -> Tensor:
    """Return the right answer at a_k.

    Args:
        data: ``[..., D]``.
        noise: ``[..., D]``.
        signal: abar ``[...]``, in (0, 1).
        predict: What is asked for.

    Returns:
        ``[..., D]``.

    Reference:
        Salimans and Ho 2022, arXiv 2202.00512, section 4.
    """
    if predict != "velocity":
        return noise if predict == "noise" else data
    signal = signal.unsqueeze(-1)
    return signal.sqrt() * noise - (1.0 - signal).sqrt() * data


def shares(signal: float) -> tuple[float, float]:
    """Return sqrt(abar) and sqrt(1 - abar), of data and of noise, see :func:`single`."""
    return single(math.sqrt(signal)), single(math.sqrt(1.0 - signal))


def data_implied(point: Tensor, answer: Tensor, signal: float, predict: Predict) -> Tensor:
    """Return the data that an answer at a_k implies.

    Args:
        point: a_k, ``[..., D]``.
        answer: ``[..., D]``.
        signal: abar_k, in (0, 1).
        predict: What was asked for. The noise is divided by sqrt(abar_k): near pure noise its
            errors, those of rounding too, are magnified thousands of times.

    Returns:
        ``[..., D]``.
    """
    kept, lost = shares(signal)
    if predict == "velocity":
        return kept * point - lost * answer
    if predict == "sample":
        return answer
    # Not point - lost * answer: exporters drop factors that are nearly 1, and this is magnified.
    return (point - answer + single(1.0 - math.sqrt(1.0 - signal)) * answer) / kept


def diffusion_error(
    prediction: Tensor, data: Tensor, noise: Tensor, signal: Tensor, predict: Predict
) -> Tensor:
    """Return the squared error of a network, one number per entry.

    Args:
        prediction: ``[..., D]``, what it answers at a_k.
        data: ``[..., D]``.
        noise: ``[..., D]``.
        signal: abar ``[...]``, in (0, 1).
        predict: What it is asked for.

    Returns:
        ``[..., D]``.

    Reference:
        Ho, Jain and Abbeel 2020, eq. 14; of the data and the velocity: Salimans and Ho 2022, arXiv
        2202.00512.
    """
    return (prediction - wanted(data, noise, signal, predict)).square()


def trailing_steps(length: int, steps: int) -> tuple[int, ...]:
    """Return the steps that a sampler visits: equally spaced from the noisiest, T - 1, downwards.

    "Leading" spacing, which begins at 0 and counts upwards, never visits the noisiest step: with
    few steps its answers keep the spread of the noise.

    Args:
        length: T.
        steps: S, in [1, T].

    Returns:
        S falling numbers.

    Raises:
        ValueError: There are more steps than T, or none.

    Reference:
        Lin et al. 2023, arXiv 2305.08891, table 2.
    """
    if not 1 <= steps <= length:
        raise ValueError(
            f"{steps} steps of a diffusion of {length}: give 1 to {length}, each is visited once"
        )
    return tuple(round(length - 1 - i * length / steps) for i in range(steps))


def ddim(
    prediction: Prediction,
    noise: Tensor,
    signal: Sequence[float],
    *,
    steps: int,
    predict: Predict = "noise",
    limits: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the data that noise becomes by DDIM with eta = 0: a function of the noise alone.

    At every step the data are estimated, clipped to the limits, and dissolved again as far as the
    next step asks, with the noise that the clipped estimate implies.

    Args:
        prediction: The network.
        noise: ``[..., D]``, standard normal, where to start.
        signal: abar of each of the T steps.
        steps: S, in [1, T], see :func:`trailing_steps`.
        predict: What the network answers with.
        limits: Smallest and largest data ``[D]``; ``None`` for no clipping.

    Returns:
        ``[..., D]``.

    Raises:
        ValueError: There are more steps than T, or none.

    Reference:
        Song, Meng and Ermon 2020, eq. 12 with sigma = 0.
    """
    visited, point = trailing_steps(len(signal), steps), noise
    for k, following in zip(visited, (*visited[1:], None), strict=True):
        kept, lost = shares(signal[k])
        data = data_implied(point, prediction(point, k), signal[k], predict)
        if limits is not None:
            data = data.clamp(*limits)
        if following is not None:
            rest = (point - kept * data) / lost
            kept, lost = shares(signal[following])
            point = kept * data + lost * rest
    return data
