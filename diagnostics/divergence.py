"""Numbers that are not finite: training stops, and says which, where from, and what is left."""

from typing import Protocol

import torch
from lightning.pytorch import Trainer
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import key_name
from hindsight_rl.ports import LearnerView


class _State(Protocol):
    @property
    def parameters(self) -> Tensor:
        """Of all seeds, ``[S, P]``."""


class _Seeds(Protocol):
    @property
    def state(self) -> _State:
        """What updates move."""


class Trained(LearnerView, Protocol):
    """What is asked of a learner after the updates of a chunk."""

    at_hand: TensorDict | None

    @property
    def seed_states(self) -> _Seeds | None:
        """The state of all seeds where it is packed."""

    @property
    def trainer(self) -> Trainer:
        """Its trainer."""


class DivergenceError(RuntimeError):
    """Training produced a number that is not finite."""


def check_finite(learner: Trained, terms: dict[str, Tensor], first: int) -> None:
    """Raise an error for loss terms and parameters that are not finite.

    Args:
        learner: The learner after the updates of a chunk.
        terms: Its loss terms, ``[K]`` or ``[K, S]``.
        first: Number of updates done before the chunk.

    Raises:
        DivergenceError: One is not finite.
    """
    seen = torch.stack(
        [term.flatten(1).sum(1) if term.ndim > 1 else term for term in terms.values()], dim=1
    )
    if not bool(torch.isfinite(seen).all()):
        row, column = (~torch.isfinite(seen)).nonzero()[0].tolist()
        what = f"loss term '{list(terms)[column]}' is {float(seen[row, column])}"
        raise DivergenceError(_message(learner, what, first + row + 1))
    # A sum is finite if all are, unless it overflows; it costs a tenth of looking at each.
    if learner.seed_states and bool(torch.isfinite(learner.seed_states.state.parameters.sum())):
        return
    for _ in learner.each_seed():
        for name, network in learner.networks().items():
            norms = torch.stack(torch._foreach_norm(list(network.parameters())))
            if not bool(torch.isfinite(norms).all()):
                what = f"a parameter of network '{name}' is not finite"
                raise DivergenceError(_message(learner, what, first + len(seen)))


def _message(learner: Trained, what: str, update: int) -> str:
    saved = [
        (getattr(callback, "_last_global_step_saved", 0), path)
        for callback in learner.trainer.checkpoint_callbacks
        if (path := getattr(callback, "_last_checkpoint_saved", ""))
    ]
    good = max(saved)[1] if saved else learner.trainer.ckpt_path or "none was saved yet"
    broken = "" if learner.at_hand is None else broken_rows(learner.at_hand)
    fix = broken or (
        "Lower the learning rate, set clip_norm, or look at the rewards: 'hindsight inspect'."
    )
    return f"{what} in update {update}: training stopped. Last good checkpoint: {good}. {fix}"


def broken_rows(chunk: TensorDict) -> str:
    """Return which entry of the data is not finite, and in which row of the log.

    Args:
        chunk: TensorDict ``[...]`` as the losses read it, with ``index`` where it is known.

    Returns:
        A sentence, or nothing where the data are in order.
    """
    for key in chunk.keys(include_nested=True, leaves_only=True):
        value = chunk[key]
        if not value.is_floating_point() or bool(value.isfinite().all()):
            continue
        name = key_name(key)
        at = tuple((~value.isfinite()).nonzero()[0].tolist())
        row = at[: chunk.ndim]
        entry = "" if len(at) == chunk.ndim else f"[{', '.join(map(str, at[chunk.ndim :]))}]"
        what = f"'{name}'{entry} is {value[at].item()}"
        if "index" not in chunk.keys():
            return f"In the data {what}."
        return f"In the data {what} in row {int(chunk['index'][row])} of the log."
    return ""
