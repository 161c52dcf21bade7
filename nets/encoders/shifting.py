"""Images of a batch, shifted at random before the losses see them."""

from collections.abc import Mapping

from tensordict import TensorDict
from torch import Tensor, nn

from hindsight_rl.keys import DRAWS, Key
from hindsight_rl.maths.draws import fork
from hindsight_rl.maths.shift import shift_images, shift_offsets
from hindsight_rl.nets.encoders.entries import EntryInputs

_NOW: tuple[tuple[str, ...], ...] = (
    ("observation",),
    ("history", "observation"),
    ("chunk", "observation"),
)
_NEXT: tuple[tuple[str, ...], ...] = (("next", "observation"),)


def shifts_of(learner: nn.Module) -> dict[str, int]:
    """Return by how many pixels the networks of a learner want images shifted, by entry."""
    found: dict[str, int] = {}
    for part in learner.modules():
        if isinstance(part, EntryInputs):
            found |= part.shifts
    return found


def shifted(batch: TensorDict, shifts: Mapping[str, int]) -> TensorDict:
    """Return a batch whose images are shifted by whole pixels, drawn from its counters.

    The frames of a row's window and stack share a shift, those of the next step have another, and
    so has every camera.

    Args:
        batch: TensorDict ``[K, B]`` or ``[K, S, B]`` with ``draws``.
        shifts: Pixels by entry.

    Returns:
        A shallow copy; the batch itself where nothing is shifted.
    """
    moved: dict[Key, Tensor] = {}
    held = batch.keys(include_nested=True)
    for entry, pad in shifts.items():
        draws = fork(fork(batch[DRAWS], "shift"), entry)
        for when, outer in (("now", _NOW), ("next", _NEXT)):
            offset = shift_offsets(fork(draws, when), pad)
            for key in ((*part, entry) for part in outer):
                if key in held:
                    moved[key] = shift_images(batch[key], offset, pad)
    return _replaced(batch, moved) if moved else batch


def _replaced(batch: TensorDict, values: Mapping[Key, Tensor]) -> TensorDict:
    """Return a shallow copy with other values; those that hold them are copied, nothing else."""
    found = batch.copy()
    for key, value in values.items():
        inner = found
        for name in key[:-1]:
            inner.set(name, inner[name].copy())
            inner = inner[name]
        inner.set(key[-1], value)
    return found
