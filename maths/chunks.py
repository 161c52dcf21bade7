"""Chunks: errors of several actions at once, some of which an episode's end cuts off."""

from torch import Tensor

from hindsight_rl.maths.losses import same_shape


def chunk_error(error: Tensor, valid: Tensor) -> Tensor:
    """Return the error of each chunk: the sum over its valid entries of means over numbers.

    Divided by the mean number of valid entries of a batch it is their mean. A mean over all entries
    would shrink loss and gradient wherever episodes end.

    Args:
        error: ``[..., C, A]``.
        valid: ``[..., C]`` bool.

    Returns:
        ``[...]``.
    """
    entries = error.mean(-1)
    same_shape(error=entries, valid=valid)
    return (entries * valid.to(entries.dtype)).sum(-1)
