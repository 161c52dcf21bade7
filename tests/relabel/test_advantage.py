"""LinearAdvantage: the return less a linear baseline."""

import pytest
import torch
from episode_logs import bind, episode_log

from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.advantage import LinearAdvantage


def test_returns_that_are_linear_in_time_leave_no_advantage() -> None:
    """Reward 1 for three steps of every episode: the return is 3 - t, which the baseline knows."""
    log = episode_log([3] * 20, reward=[1.0] * 60)
    found = bind(log, LinearAdvantage(discount=1.0, ridge=1e-12))[0].column("advantage")
    torch.testing.assert_close(found, torch.zeros(60), rtol=0, atol=1e-4)


def test_advantage_is_the_residual_of_least_squares() -> None:
    """Against numpy-like least squares on the same features, without a penalty to speak of."""
    log = episode_log([30, 40, 50])
    found = bind(log, LinearAdvantage(discount=0.9, ridge=1e-13))[0].column("advantage").double()
    state = log.column("observation").double()
    time = log.column("step").double().unsqueeze(-1)
    design = torch.cat([torch.ones_like(time), state, state**2, time, time**2, time**3], -1)
    scale = design.abs().amax(0)
    torch.testing.assert_close(
        (design / scale).T @ found / len(log), torch.zeros(10).double(), rtol=0, atol=1e-5
    )
    reward, end = log.column(("next", "reward")).double(), log.column("episode_end")
    total = torch.zeros(len(log), dtype=torch.float64)
    for row in reversed(range(len(log))):
        total[row] = reward[row] + (0.9 * total[row + 1] if row < end[row] else 0.0)
    weights = torch.linalg.lstsq(design / scale, total - found).solution
    torch.testing.assert_close(design / scale @ weights, total - found, rtol=0, atol=1e-5)


def test_the_baseline_is_fitted_to_the_rows_that_may_be_drawn() -> None:
    log = episode_log([20, 20])
    plain = bind(log, LinearAdvantage())[0].column("advantage")
    held_out: Log = log.with_rows(torch.arange(20))
    found = bind(held_out, LinearAdvantage())[0].column("advantage")
    alone = bind(episode_log([20, 20]).with_rows(torch.arange(20)), LinearAdvantage())[0]
    assert found.equal(alone.column("advantage")) and not found.equal(plain)
    assert found[:20].mean().abs() < 1e-3 < found[20:].mean().abs()


def test_a_constant_observation_does_no_harm() -> None:
    log = episode_log([5, 4])
    still = log.with_columns({"observation": torch.ones(9, 3)})
    assert bind(still, LinearAdvantage())[0].column("advantage").isfinite().all()


@pytest.mark.parametrize("arguments", [{"discount": -0.1}, {"discount": 1.1}, {"ridge": 0.0}])
def test_wrong_arguments_are_named(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"discount .* must lie in \[0, 1\] and ridge .* above 0"):
        LinearAdvantage(**arguments)
