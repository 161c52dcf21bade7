"""Quality of episodes: values by hand on sines, ramps, noise, pauses and one-step episodes."""

import math

import pytest
import torch
from torch import Tensor

from hindsight_rl.maths.quality import (
    Motion,
    differences,
    end_distances,
    episode_means,
    jerk,
    medians,
    motion,
    robust_scores,
    saturation,
    speeds,
)

ONE = torch.ones(1, dtype=torch.float64)


def episodes(*values: Tensor) -> tuple[Tensor, Tensor]:
    """Return episodes ``[T]`` as one column ``[N, 1]``, and the episode of each row."""
    lengths = torch.tensor([len(value) for value in values])
    episode = torch.arange(len(values)).repeat_interleave(lengths)
    return torch.cat(values).double()[:, None], episode


def sine(omega: float, rows: int, amplitude: float = 1.0) -> Tensor:
    return amplitude * torch.sin(omega * torch.arange(rows, dtype=torch.float64))


def noise(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, generator=generator, dtype=torch.float64)


def test_differences_stay_within_episodes() -> None:
    """Squares 0, 1, 4, 9, 16: first differences 1, 3, 5, 7, over two rows 4, 8, 12, second 2."""
    values, episode = episodes(
        torch.arange(5.0) ** 2, torch.tensor([7.0]), torch.tensor([2.0, 5.0])
    )
    step, of = differences(values, episode)
    assert step[:, 0].tolist() == [1, 3, 5, 7, 3] and of.tolist() == [0, 0, 0, 0, 2]
    step, of = differences(values, episode, span=2)
    assert step[:, 0].tolist() == [4, 8, 12] and of.tolist() == [0, 0, 0]
    assert differences(values, episode, 2)[0][:, 0].tolist() == [2, 2, 2]
    assert differences(values[:1], episode[:1], 3)[0].shape == (0, 1)


def test_means_of_episodes_without_rows_are_zero() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 0.0]])
    found = episode_means(values, torch.tensor([0, 0, 2]), 4)
    assert found.tolist() == [[2, 3], [0, 0], [5, 0], [0, 0]]


# --- jerk -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 40.0])
@pytest.mark.parametrize("period", [8, 20])
def test_jerk_of_a_sine(amplitude: float, period: int) -> None:
    """Third differences of sin(w t) have the amplitude (2 sin(w / 2))**3; variance a**2 / 2."""
    omega = 2 * math.pi / period
    values, episode = episodes(sine(omega, 5 * period + 3, amplitude))
    spread = ONE * amplitude / math.sqrt(2)
    found = jerk(values, episode, 1, spread, ONE)
    torch.testing.assert_close(found, ONE * (2 * math.sin(omega / 2)) ** 6)


def test_jerk_by_hand() -> None:
    """Third differences: of t**3 6, of a parabola 0, of +1 and -1 in turn 8, of a jump 1, -2, 1."""
    time = torch.arange(9.0, dtype=torch.float64)
    jump = torch.tensor([0.0, 0, 0, 1, 1, 1])
    rows = (time**3, 3 * time**2 - time, (-1) ** time, jump, torch.tensor([5.0, 9, -2]))
    found = jerk(*episodes(*rows), 5, 2 * ONE, ONE)
    torch.testing.assert_close(found, torch.tensor([9.0, 0, 16, 6 / 3 / 4, 0]).double())


def test_jerk_of_noise_is_20() -> None:
    """1 + 9 + 9 + 1 variances."""
    found = jerk(*episodes(noise(200_000)), 1, ONE, ONE)
    assert found.item() == pytest.approx(20, rel=0.02)


def test_jerk_is_the_weighted_mean_of_the_columns() -> None:
    """The columns t**3 and 2 t**3 have 36 and 144; weights 3 and 1 give 63."""
    cube = torch.arange(6.0, dtype=torch.float64)[:, None] ** 3
    values, episode = torch.cat([cube, 2 * cube], 1), torch.zeros(6, dtype=torch.int64)
    found = jerk(values, episode, 1, torch.ones(2), torch.tensor([3.0, 1.0]).double())
    torch.testing.assert_close(found, ONE * 63)


def test_gradient_of_the_jerk_by_hand() -> None:
    """One third difference d: the gradient of d**2 is 2 d (-1, 3, -3, 1), here d = 6."""
    values, episode = episodes(torch.arange(4.0) ** 3)
    values.requires_grad_()
    jerk(values, episode, 1, ONE, ONE).sum().backward()
    assert values.grad is not None
    assert values.grad[:, 0].tolist() == [-12, 36, -36, 12]


# --- motion ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("span", [1, 3])
def test_a_sine_moves_by_the_cosine_of_its_step(span: int) -> None:
    """Differences of a sine are a sine; the correlation at ``span`` is cos(span * omega)."""
    omega = 2 * math.pi / 40
    found = motion(*episodes(sine(omega, 40 * 50 + 2 * span)), span).steadiness()
    assert found.item() == pytest.approx(math.cos(span * omega), abs=1e-3)


def test_what_trembles_or_jumps_has_no_weight() -> None:
    """Noise -1/2, single jumps and a random walk 0, a ramp 1."""
    rows = 4000
    jumps = (torch.arange(rows) // 100 % 2).double()
    columns = [noise(rows), jumps, noise(rows, 1).cumsum(0), torch.arange(rows).double()]
    values, episode = torch.stack(columns, 1), torch.zeros(rows, dtype=torch.int64)
    found = motion(values, episode, 1)
    assert found.steadiness().tolist() == [0, 0, 0, 1]
    correlation = found.product / (found.early * found.late).sqrt()
    torch.testing.assert_close(
        correlation, torch.tensor([-0.5, 0, 0, 1]).double(), rtol=0, atol=0.05
    )


def test_where_nothing_moves_steadily_all_columns_count() -> None:
    values = torch.stack([noise(500), noise(500, 1), torch.zeros(500)], 1)
    assert motion(values, torch.zeros(500, dtype=torch.int64), 1).steadiness().tolist() == [1, 1, 1]


def test_sums_of_parts_are_those_of_the_whole() -> None:
    parts = [sine(0.3, 30), noise(5), noise(1), sine(1.0, 12)]
    values, episode = episodes(*parts)
    one, two, whole = (
        motion(values[cut], episode[cut], 2) for cut in (slice(35), slice(35, None), slice(None))
    )
    for a, b, both in zip(one, two, whole, strict=True):
        torch.testing.assert_close(a + b, both)
    assert whole.rows.tolist() == [28 + 3 + 0 + 10]


def test_usual_motion_of_short_episodes_is_zero() -> None:
    found = motion(*episodes(torch.ones(1), torch.tensor([4.0])), 1)
    assert found.usual().tolist() == [0] and isinstance(found, Motion)


def test_speed_is_in_units_of_the_log() -> None:
    """Steps 3, 4, 0 | 5: usual sqrt(50 / 4); the root mean square of the speeds is 1."""
    values, episode = episodes(torch.tensor([0.0, 3, 7, 7]), torch.tensor([1.0, 6]))
    usual = motion(values, episode, 1).usual()
    torch.testing.assert_close(usual, ONE * math.sqrt(12.5))
    found, of = speeds(values, episode, 1, usual, ONE)
    torch.testing.assert_close(found, torch.tensor([3.0, 4, 0, 5]).double() / math.sqrt(12.5))
    assert of.tolist() == [0, 0, 0, 1] and found.square().mean().item() == pytest.approx(1)


# --- bounds ---------------------------------------------------------------------------------------


def test_share_of_entries_at_a_bound() -> None:
    """Bounds [-1, 1], (-inf, 2] and none: of each episode's 2 * T entries of the first two."""
    action = torch.tensor([[-1.0, 2, 9], [0, 0, 9], [1, 1, 9], [0.999, 2, 9]])
    low = torch.tensor([-1.0, -math.inf, -math.inf])
    high = torch.tensor([1.0, 2.0, math.inf])
    found = saturation(action, torch.tensor([0, 0, 1, 1]), 3, low, high)
    assert found.tolist() == [2 / 4, 2 / 4, 0]
    free = torch.full((3,), math.inf)
    assert saturation(action, torch.tensor([0, 0, 1, 1]), 2, -free, free).tolist() == [0, 0]


# --- robust scores --------------------------------------------------------------------------------


def test_median_and_deviation_by_hand() -> None:
    """Of 1, 2, 3, 4, 100: 3 and 1; of 0, 2, 4, 10: 3 and (1 + 3) / 2 = 2."""
    for values, middle, deviation in ([1, 2, 3, 4, 100], 3, 1), ([0, 2, 4, 10], 3, 2):
        found = medians(torch.tensor(values).double())
        assert found[0] == middle and found[1].item() == pytest.approx(1.4826 * deviation)


def test_robust_scores_by_hand() -> None:
    values = torch.tensor([1.0, 2, 3, 4, 100])
    expected = torch.tensor([-2.0, -1, 0, 1, 97]).double() / 1.4826
    torch.testing.assert_close(robust_scores(values, 0.1), expected)
    torch.testing.assert_close(robust_scores(values, 2.0), expected * 1.4826 / 2)


def test_only_counted_numbers_shape_the_scores() -> None:
    """Of 1, 2, 3: median 2, deviation 1."""
    values = torch.tensor([1.0, 2, 3, 50, 70])
    found = robust_scores(values, 0.0, torch.tensor([True] * 3 + [False] * 2))
    torch.testing.assert_close(found, torch.tensor([-1.0, 0, 1, 48, 68]).double() / 1.4826)


def test_equal_numbers_score_0() -> None:
    assert robust_scores(torch.full((4,), 7.0), 0.5).tolist() == [0, 0, 0, 0]
    assert robust_scores(torch.tensor([7.0]), 0.5).tolist() == [0]


def test_distance_of_ends_by_hand() -> None:
    """The first column as above; the second is 5 but for one 6, four quarters of its spread."""
    last = torch.tensor([[1.0, 5], [2, 5], [3, 5], [4, 5], [100, 6]])
    found = end_distances(last, torch.tensor([1.0, 1.0]).double())
    first = torch.tensor([-2.0, -1, 0, 1, 97]).double() / 1.4826
    second = torch.tensor([0.0, 0, 0, 0, 4]).double()
    torch.testing.assert_close(found, ((first**2 + second**2) / 2).sqrt())
