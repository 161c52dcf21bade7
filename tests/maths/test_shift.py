"""Random shifts: where a bright pixel goes, what fills the border, and which draws decide."""

import pytest
import torch

from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.shift import shift_images, shift_offsets

PAD = 2


def bright(row: int, column: int) -> torch.Tensor:
    """Return a black image ``[6, 8, 3]`` with one bright pixel."""
    image = torch.zeros(6, 8, 3, dtype=torch.uint8)
    image[row, column] = torch.tensor([255, 128, 1], dtype=torch.uint8)
    return image


@pytest.mark.parametrize("down", range(2 * PAD + 1))
@pytest.mark.parametrize("across", range(2 * PAD + 1))
def test_a_bright_pixel_moves_by_the_offset(down: int, across: int) -> None:
    """A crop that begins further down moves what it shows up."""
    moved = shift_images(bright(3, 4), torch.tensor([down, across]), PAD)
    torch.testing.assert_close(moved, bright(3 + PAD - down, 4 + PAD - across), rtol=0, atol=0)


def test_the_border_is_repeated() -> None:
    """Equal to padding with 'replicate' and cropping, to the bit."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (25, 6, 8, 3), generator=generator).to(torch.uint8)
    offsets = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    padded = torch.nn.functional.pad(
        images.permute(0, 3, 1, 2).float(), (PAD, PAD, PAD, PAD), mode="replicate"
    ).to(torch.uint8)
    wanted = [
        padded[i, :, down : down + 6, across : across + 8].permute(1, 2, 0)
        for i, (down, across) in enumerate(offsets.tolist())
    ]
    moved = shift_images(images, offsets, PAD)
    assert moved.dtype == torch.uint8
    assert torch.equal(moved, torch.stack(wanted))


def test_frames_of_a_window_share_their_offset() -> None:
    images = torch.stack([bright(2, 2), bright(3, 5)]).expand(4, 2, 6, 8, 3)
    offsets = torch.tensor([[1, 2], [0, 4], [2, 2], [3, 1]])
    moved = shift_images(images, offsets, PAD)
    for number, offset in enumerate(offsets):
        for frame in range(2):
            assert torch.equal(moved[number, frame], shift_images(images[0, frame], offset, PAD))


def test_offsets_are_uniform_and_depend_on_the_counter_alone() -> None:
    draws = counters(3, torch.arange(40), torch.arange(250))
    offsets = shift_offsets(draws, 4)
    assert offsets.shape == (40, 250, 2)
    for side in offsets.unbind(-1):
        share = side.flatten().bincount(minlength=9) / 10_000
        assert share.shape == (9,)
        # Five standard deviations of a share of 1/9 among 10,000.
        torch.testing.assert_close(share, torch.full((9,), 1 / 9), rtol=0, atol=0.016)
    assert (offsets[..., 0] != offsets[..., 1]).float().mean() > 0.8
    assert torch.equal(shift_offsets(draws[7:9, 100:150], 4), offsets[7:9, 100:150])
    assert torch.equal(shift_offsets(draws, 0), torch.zeros(40, 250, 2, dtype=torch.int64))


def test_compiled_shifts_equal_eager_ones() -> None:
    draws = counters(0, torch.arange(2), torch.arange(3))
    images = (torch.arange(2 * 3 * 6 * 8 * 3) % 251).reshape(2, 3, 6, 8, 3).to(torch.uint8)

    def shifted(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        return shift_images(images, shift_offsets(draws, PAD), PAD)

    compiled = torch.compile(shifted, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(images, draws), shifted(images, draws))
