"""Errors of chunks by hand."""

import pytest
import torch

from hindsight_rl.maths.chunks import chunk_error

ERROR = torch.tensor([[1.0, 2.0, 9.0, 9.0], [1.0, 1.0, 1.0, 9.0]], dtype=torch.float64)
VALID = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0]], dtype=torch.bool)


def test_only_valid_entries_count() -> None:
    """(1 + 2) and (1 + 1 + 1) over 2 and 3 entries: 6 / 5, not the 0.75 of a mean over all."""
    error = ERROR.unsqueeze(-1).expand(2, 4, 3).clone().requires_grad_()
    rows = chunk_error(error, VALID)
    assert rows.tolist() == [3.0, 3.0]
    loss = rows.mean() / VALID.double().sum(-1).mean()
    assert loss.item() == pytest.approx(1.2, abs=1e-12)
    loss.backward()
    expected = (VALID / (5.0 * 3.0)).unsqueeze(-1).expand(2, 4, 3)
    torch.testing.assert_close(error.grad, expected.double())


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\), valid \(2, 3\)"):
        chunk_error(ERROR.unsqueeze(-1), VALID[:, :3])
