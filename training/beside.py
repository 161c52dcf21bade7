"""What critics read beside the policy: numbers of an episode that no robot knows.

A critic is there while a policy is fitted, and the policy alone is exported. What a simulator drew
for an episode, or what only a laboratory measures, tells a critic what returns are due to; a policy
that is taught by it still sees the observation alone.

Reference: Pinto et al. 2018, "Asymmetric actor critic for image-based robot learning", arXiv
1710.06542.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from hindsight_rl.keys import EPISODE
from hindsight_rl.ports import LogView
from hindsight_rl.spec import WHOLE, Spec

BESIDE = "beside"
"""Of a batch, and of its next states: ``[..., D]`` float32 by the names of columns."""


def with_beside(batch: TensorDict, names: Sequence[str]) -> TensorDict:
    """Return a batch with columns beside its observations.

    Args:
        batch: TensorDict ``[...]`` with the columns.
        names: Columns ``[...]`` or ``[..., D]``, the same in all rows of an episode, so that a next
            state has those of its row.

    Returns:
        A shallow copy, or the batch itself for no names.
    """
    if not names:
        return batch
    rows = len(batch.batch_size)
    columns = {name: batch[name].float() for name in names}
    given = {n: c if c.ndim > rows else c.unsqueeze(-1) for n, c in columns.items()}
    batch = batch.copy()
    for key in (BESIDE, ("next", BESIDE)):
        batch.set(key, TensorDict(given, batch.batch_size))
    return batch


def seen(part: TensorDict) -> Any:
    """Return the observation of a batch, or of its part ``next``, with what is beside it.

    Args:
        part: TensorDict ``[B]``.

    Returns:
        ``observation`` as it is, or by entry with the columns among them: a policy reads its own.
    """
    observation, more = part[WHOLE], part.get(BESIDE, None)
    if more is None:
        return observation
    by_entry = isinstance(observation, TensorDictBase | Mapping)
    entries = dict(observation.items()) if by_entry else {WHOLE: observation}
    return {**entries, **dict(more.items())}


def spec_beside(spec: Spec, names: Sequence[str]) -> Spec:
    """Return the spec of what critics see.

    Args:
        spec: Of the data.
        names: Columns of real numbers.

    Returns:
        The spec with the columns as entries of the observation; as it is for no names.

    Raises:
        ValueError: There is no such column, or an entry has its name.
    """
    for name in names:
        if name in spec.observation:
            raise ValueError(f"critic_reads names '{name}', and the policy observes it already")
        if name not in spec.beside:
            known = ", ".join(spec.beside) or "none"
            raise ValueError(
                f"critic_reads names '{name}', and the columns of real numbers that no policy sees "
                f"are: {known}. A log has those of its column map (context, extra), a collected "
                "one has 'context' where env_kwargs has randomise"
            )
    if not names:
        return spec
    entries = {name: spec.beside[name] for name in names}
    return replace(spec, observation={**spec.observation, **entries})


def check_beside(log: LogView, names: Sequence[str]) -> None:
    """Check that columns say the same in all rows of an episode.

    Args:
        log: The log.
        names: The columns.

    Raises:
        ValueError: One changes within an episode: what it is in the next state is not known.
    """
    for name in names:
        column, episode = log.column(name), log.column(EPISODE)
        other = (column[1:] != column[:-1]).reshape(len(episode) - 1, -1).any(-1)
        changed = torch.nonzero(other & (episode[1:] == episode[:-1])).flatten()
        if len(changed):
            row = int(changed[0]) + 1
            raise ValueError(
                f"critic_reads names '{name}', and it changes within episode {int(episode[row])} "
                f"(row {row}): what it is in next states is not known. Name numbers that an "
                "episode keeps, such as context"
            )
