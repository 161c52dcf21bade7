"""The best of several actions: closed form T27, the least of the critics, and ties."""

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.critics import Critic
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.policies.best_of import BestOf, exponential_race, implicit_scores


def noise_of(rows: int, width: int) -> Tensor:
    return normals(counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(rows))[0], width)


def test_best_of_64_meets_a_tenth() -> None:
    """An action of probability .1 is among 64 with 1 - .9^64 = .998821."""
    rows, edge = 50_000, torch.special.ndtri(torch.tensor(0.1, dtype=torch.float64))
    best = BestOf(
        lambda _seen, _task, noise: (noise < edge).double(),
        lambda _seen, action, _task: action[None, ..., 0],
        samples=64,
        width=1,
    )
    assert best.noise == 64
    found = best(torch.zeros(rows, 1), None, noise_of(rows, 64))
    share, spread = 0.998821, (0.998821 * 0.001179 / rows) ** 0.5
    assert found.action.mean().item() == pytest.approx(share, abs=4 * spread)
    assert found.action.dtype == found.scores.dtype == torch.float32


@pytest.mark.parametrize(("expectile", "value"), [(0.5, 3.25), (0.7, 4.9375), (0.9, 7.75)])
def test_implicit_draws_are_worth_the_value(expectile: float, value: float) -> None:
    """T27: of Q = 0, 1, 2, 10 the draws by the expectile's weights average to V itself."""
    rows, q = 50_000, torch.tensor([0.0, 1, 2, 10], dtype=torch.float64)
    noise = noise_of(rows, 8).double().T
    scores = implicit_scores(
        q[:, None].expand(4, rows), torch.full((rows,), value), noise, expectile=expectile
    )
    drawn = q[scores.argmax(0)]
    assert drawn.mean().item() == pytest.approx(value, abs=4 * drawn.std().item() / rows**0.5)


def test_race_is_won_in_proportion_to_weights() -> None:
    rows, share = 50_000, torch.tensor([0.1, 0.2, 0.7], dtype=torch.float64)
    scores = exponential_race(share.log()[:, None].expand(3, rows), noise_of(rows, 6).double().T)
    won = torch.bincount(scores.argmax(0), minlength=3) / rows
    spread = (share * (1 - share) / rows).sqrt()
    assert ((won - share).abs() < 4 * spread).all()
    assert exponential_race(torch.zeros(2, 1), torch.zeros(4, 1)).isfinite().all()


def test_the_least_critic_counts_and_the_first_of_equals_is_taken() -> None:
    """Three proposals; critics say (5, 1, 2) and (0, 1, 1): minima 0, 1, 1, so the second."""
    values = torch.tensor([[5.0, 1, 2], [0, 1, 1]], dtype=torch.float64)[..., None]
    best = BestOf(lambda *given: given[2], lambda *_: values, samples=3, width=1)
    found = best(torch.zeros(1, 2), None, torch.tensor([[-1.0, 0.5, 2.0]]))
    assert found.action.item() == 0.5
    assert found.scores is not None and found.scores.tolist() == [[0, 1, 1]]


def test_further_noise_goes_to_the_rank() -> None:
    """A rank that takes its scores from its own noise chooses by that alone."""
    best = BestOf(
        lambda *given: given[2],
        lambda _seen, action, _task: action[None, ..., 0],
        samples=2,
        width=1,
    ).ranked(lambda value, seen, task, noise: noise, 2)
    found = best(torch.zeros(1, 1), None, torch.tensor([[3.0, 4.0, 9.0, 8.0]]))
    assert best.noise == 4 and found.action.item() == 3


def test_any_policy_and_any_critic_go_together() -> None:
    """Samples of a Gaussian policy, valued by a critic: the value of what is taken is the most."""
    spec = OfflineDataModule(episode_log()).spec
    policy = Policy(spec, Network(hidden=(8,)))
    critic = Critic(spec, Network(hidden=(8,)))

    def propose(seen: Tensor, task: Tensor | None, noise: Tensor) -> Tensor:
        return policy.draw(seen, noise, task)[0]

    best = BestOf(propose, critic, samples=16, width=2)
    seen, noise = torch.randn(5, 3), noise_of(5, 32)
    with torch.no_grad():
        found = best(seen, None, noise)
        every = critic(seen, policy.draw(seen, noise.view(5, 16, 2).movedim(1, 0))[0]).amin(0)
    assert found.scores is not None
    torch.testing.assert_close(found.scores, every.T)
    torch.testing.assert_close(found.scores.amax(-1), critic(seen, found.action).amin(0))
