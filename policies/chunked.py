"""Chunks of actions from noise: what learners share that fit a sampler to chunks of a log."""

from collections.abc import Callable

from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.flow import valid_sum
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.policies.samplers import Sampler
from hindsight_rl.ports import Decision


def chunk_loss(
    sampler: Sampler,
    network: Denoiser,
    batch: TensorDict,
    stream: str,
    batch_mean: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return the weighted error of a network at noisy chunks of a log, per valid entry.

    Args:
        sampler: What the network is fitted to.
        network: What is fitted.
        batch: TensorDict ``[B]`` with ("chunk", "action") ``[B, C, A]``, ("chunk", "valid") and
            ("noise", "time") ``[B, 1]``; ``weight`` and ``task`` are used where they are there.
        stream: Name of the batch's noise ``[B, C * A]``.
        batch_mean: The mean over the batch of all ranks.

    Returns:
        ``[]``, at least 0: the mean over actions within their episodes, each the mean of its
        numbers.
    """
    data = network.scale.to_policy(batch["chunk", "action"]).flatten(-2)
    noise, when = batch["noise", stream], batch["noise", "time"].squeeze(-1)
    error = sampler.error(network, data, noise, when, batch["observation"], batch.get("task"))
    rows, weight = valid_sum(error, batch["chunk", "valid"]), batch.get("weight")
    entries = batch["chunk", "valid"].to(rows.dtype).sum(-1)
    return (rows if weight is None else weight * rows).mean() / batch_mean(entries)


def decide_chunk(
    sampler: Sampler,
    network: Denoiser,
    observation: Observation,
    task: Tensor | None,
    noise: Tensor | None,
) -> Decision:
    """Return the chunks of actions that noise becomes.

    Args:
        sampler: Walks along the network.
        network: What acts.
        observation: ``[n, O]``.
        task: ``[n, Z]`` where the spec has a task.
        noise: ``[n, C * A]`` standard normal.

    Returns:
        ``[n, C, A]`` in environment units within the bounds, and no state.

    Raises:
        ValueError: The noise is missing.
    """
    data = sampler.sample(network, observation, task, needed(noise, network.outputs))
    return chunks_of(network, data)


def decide_at_once(
    network: Denoiser, observation: Observation, task: Tensor | None, noise: Tensor | None
) -> Decision:
    """Return the chunks of actions that a network makes of noise in one step.

    Args:
        network: What acts.
        observation: ``[n, O]``.
        task: ``[n, Z]`` where the spec has a task.
        noise: ``[n, C * A]`` standard normal.

    Returns:
        As :func:`decide_chunk`.

    Raises:
        ValueError: The noise is missing.
    """
    noise = needed(noise, network.outputs)
    return chunks_of(network, network.at_once(noise, observation, task))


def chunks_of(network: Denoiser, data: Tensor) -> Decision:
    """Return rows ``[n, C * A]`` in policy units as chunks of actions within the bounds."""
    action = data.unflatten(-1, (-1, network.width))
    return Decision(network.scale.to_environment(action).float(), {})


def needed(noise: Tensor | None, width: int) -> Tensor:
    """Return the noise of a policy that cannot act without.

    Args:
        noise: ``[n, S]``.
        width: S.

    Returns:
        The noise.

    Raises:
        ValueError: It is missing.
    """
    if noise is None:
        raise ValueError(f"this policy acts from noise: pass noise [n, {width}]")
    return noise
