"""Flow matching: a straight line from noise to data, its velocity, and integration along it.

Time runs from 0 (noise) to 1 (data), everywhere in this package:

    x_t = (1 - t) eps + t a,   velocity = a - eps.

Reference: Lipman et al. 2022, arXiv 2210.02747; Liu, Gong and Liu 2022, arXiv 2209.03003.
"""

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, float], Tensor]
"""``(x [..., D], t) -> velocity [..., D]``: along a path all rows are at one time."""


def interpolate(data: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Return the point of the line from noise to data at a time.

    Args:
        data: ``[..., D]``.
        noise: ``[..., D]``, standard normal.
        time: ``[...]``, in [0, 1]: 0 is the noise, 1 the data.

    Returns:
        ``[..., D]``.
    """
    time = time.unsqueeze(-1)
    return (1.0 - time) * noise + time * data


def early_times(uniform: Tensor, *, concentration: float = 1.5, latest: float = 0.999) -> Tensor:
    """Return times that lean to the noise: 1 - t / latest follows Beta(concentration, 1).

    Near the data a velocity is nearly known; near the noise the answer is decided.

    Args:
        uniform: ``[...]``, uniform numbers in (0, 1).
        concentration: Above 0; 1 gives uniform times.
        latest: Largest time, in (0, 1].

    Returns:
        ``[...]``, in [0, latest]; the mean is latest / (concentration + 1).

    Reference:
        Black et al. 2024, "pi0", arXiv 2410.24164, appendix B.
    """
    # The distribution function of Beta(c, 1) is u^c.
    return latest * (1.0 - uniform ** (1.0 / concentration))


def flow_error(velocity: Tensor, data: Tensor, noise: Tensor) -> Tensor:
    """Return the squared error of a velocity, one number per entry: (v - (a - eps))^2.

    Args:
        velocity: ``[..., D]``, predicted at a point of the line.
        data: ``[..., D]``.
        noise: ``[..., D]``.

    Returns:
        ``[..., D]``.

    Reference:
        Lipman et al. 2022, eq. 23 with sigma_min = 0.
    """
    return (velocity - (data - noise)).square()


def euler_flow(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Return where the noise arrives after so many equal Euler steps from time 0 to 1.

    One step gives the conditional mean of the data, whatever the noise: modes are averaged. Four
    or more keep them apart.

    Args:
        velocity: The field.
        noise: ``[..., D]``, where to start.
        steps: N, at least 1.

    Returns:
        ``[..., D]``.
    """
    point = noise
    for step in range(steps):
        point = point + velocity(point, step / steps) / steps
    return point


def heun_flow(velocity: Velocity, noise: Tensor, steps: int) -> Tensor:
    """Return where the noise arrives after so many Heun steps: two velocities each, averaged.

    Args:
        velocity: The field.
        noise: ``[..., D]``, where to start.
        steps: N, at least 1.

    Returns:
        ``[..., D]``.
    """
    point = noise
    for step in range(steps):
        first = velocity(point, step / steps)
        second = velocity(point + first / steps, (step + 1) / steps)
        point = point + (first + second) / (2 * steps)
    return point


def valid_sum(error: Tensor, valid: Tensor) -> Tensor:
    """Return the sum of each row over its valid entries, each the mean of its numbers.

    Divided by the valid entries of the whole batch, not of the row, rows count by what they hold.

    Args:
        error: ``[..., C * D]``, entry after entry.
        valid: ``[..., C]`` bool.

    Returns:
        ``[...]``.
    """
    entries: Tensor = error.unflatten(-1, (valid.shape[-1], -1)).mean(-1)
    return (entries * valid.to(error.dtype)).sum(-1)
