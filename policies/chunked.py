"""Chunks of actions from noise: what learners share that fit a sampler to chunks of a log.

Real-time chunking: while an answer is computed, the last D actions of the chunk before it are
executed. They are *committed*: a state of the policy, which the answer repeats and goes on from.
"""

from collections.abc import Callable

import torch
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.maths.flow import valid_sum
from hindsight_rl.maths.inpainting import delays, first_entries, put_in
from hindsight_rl.nets.encoders.entries import Observation
from hindsight_rl.nets.generative import Denoiser, Denoising, Inpainting
from hindsight_rl.policies.samplers import Sampler
from hindsight_rl.ports import Decision
from hindsight_rl.windows import COMMITTED, COMMITTED_COUNT, Chunk


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
        network: What is fitted; one that may be given first actions is given some of the log's.
        batch: TensorDict ``[B]`` with ("chunk", "action") ``[B, C, A]``, ("chunk", "valid") and
            ("noise", "time") ``[B, 1]``, and ("noise", "delay") ``[B, 1]`` for actions that are
            given; ``weight`` and ``task`` are used where they are there.
        stream: Name of the batch's noise ``[B, C * A]``.
        batch_mean: The mean over the batch of all ranks.

    Returns:
        ``[]``, at least 0: the mean over actions within their episodes that are not given, each
        the mean of its numbers.
    """
    data = network.scale.to_policy(batch["chunk", "action"]).flatten(-2)
    noise, when = batch["noise", stream], batch["noise", "time"].squeeze(-1)
    asked: Denoising = network
    fitted = batch["chunk", "valid"]
    if network.committed:
        uniform = torch.special.ndtr(batch["noise", "delay"].squeeze(-1))
        count = delays(uniform, fitted, largest=network.committed)
        asked = Inpainting(network, data, count)
        fitted = fitted & ~first_entries(count, fitted.shape[-1])
    error = sampler.error(asked, data, noise, when, batch["observation"], batch.get("task"))
    rows, weight = valid_sum(error, fitted), batch.get("weight")
    entries = fitted.to(rows.dtype).sum(-1)
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


def nothing_committed(chunk: Chunk, width: int, n: int, device: torch.device) -> dict[str, Tensor]:
    """Return the state with which n episodes begin.

    Args:
        chunk: D in ``committed``.
        width: A.
        n: Number of episodes.
        device: Where it is kept.

    Returns:
        Actions ``[n, D, A]`` and how many of them are committed, ``[n]`` int64; nothing where D
        is 0.
    """
    if not chunk.committed:
        return {}
    return {
        COMMITTED: torch.zeros(n, chunk.committed, width, device=device),
        COMMITTED_COUNT: torch.zeros(n, dtype=torch.int64, device=device),
    }


def decide_onwards(
    sampler: Sampler,
    network: Denoiser,
    observation: Observation,
    task: Tensor | None,
    noise: Tensor | None,
    state: dict[str, Tensor],
    chunk: Chunk,
) -> Decision:
    """Return the chunks of actions that noise becomes, each beginning with what is committed.

    Args:
        sampler: Walks along the network.
        network: What acts.
        observation: ``[n, O]``.
        task: ``[n, Z]`` where the spec has a task.
        noise: ``[n, C * A]`` standard normal.
        state: As :func:`nothing_committed` or the last decision left it.
        chunk: How chunks are executed: asked again, a policy has executed E actions of its answer,
            and the D after them are committed.

    Returns:
        As :func:`decide_chunk`; the first actions equal the committed ones to the bit. And what is
        committed when the policy is asked again.

    Raises:
        ValueError: The noise is missing.
    """
    if not chunk.committed:
        return decide_chunk(sampler, network, observation, task, noise)
    noise = needed(noise, network.outputs)
    count = state[COMMITTED_COUNT].clamp(0, chunk.committed)
    known = network.scale.to_policy(state[COMMITTED]).flatten(-2).to(noise.dtype)
    given = Inpainting(network, known, count)
    made = chunks_of(network, sampler.sample(given, observation, task, noise)).action
    # As they came, not as they return from policy units.
    whole = put_in(made.flatten(-2), state[COMMITTED].flatten(-2), given.mask)
    action = whole.unflatten(-1, (-1, network.width))
    left = action[:, chunk.execute : chunk.execute + chunk.committed]
    after = {COMMITTED: left, COMMITTED_COUNT: torch.full_like(count, chunk.committed)}
    return Decision(action, after)


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
