"""T29: who may see its previous action copies it, and fails; an expert's labels undo that.

A state s of variance 1 follows itself with coefficient c; the expert answers s; the policy sees s
with noise of variance n, and its previous action. In the expert's episodes the previous action is
the previous state, nearly the answer. On its own the policy copies its own mistakes.
"""

import pytest
import torch
from small_fits import learner_of
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import History
from hindsight_rl.relabel.expert_action import ExpertAction

# c, n, weights of what is seen and of the previous action, error while training, and on its own.
CASES = [
    (0.999, 1.0, (0.001995, 0.997007), 0.001995, 0.333777),
    (0.95, 0.25, (0.280576, 0.683453), 0.070144, 0.131629),
]


def cloning_loss(weights: Tensor, c: float, n: float) -> Tensor:
    """Return E (w o_t + v s_(t-1) - s_t)^2."""
    w, v = weights
    return (w - 1) ** 2 + w**2 * n + v**2 + 2 * (w - 1) * v * c


def error_on_its_own(weights: Tensor, c: float, n: float) -> Tensor:
    """Return E (a_t - s_t)^2 of a_t = w o_t + v a_(t-1), stationary: a Lyapunov equation."""
    w, v = weights
    # State (s, a): s' = c s + e, a' = w (s' + noise) + v a.
    zero = torch.zeros((), dtype=torch.float64)
    move = torch.stack([zero + c, zero, w * c, v]).reshape(2, 2)
    e = 1 - c * c
    noise = torch.stack([zero + e, w * e, w * e, w * w * (e + n)]).reshape(2, 2)
    flat = torch.eye(4, dtype=torch.float64) - torch.kron(move, move)
    covariance = torch.linalg.solve(flat, noise.flatten()).reshape(2, 2)
    return covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]


@pytest.mark.parametrize(("c", "n", "weights", "training", "alone"), CASES)
def test_the_best_fit_copies_and_is_worse_on_its_own(
    c: float, n: float, weights: tuple[float, float], training: float, alone: float
) -> None:
    """Values of both errors, a gradient of zero at the fit, and the error without the past."""
    best = torch.linalg.solve(
        torch.tensor([[1 + n, c], [c, 1.0]], dtype=torch.float64),
        torch.tensor([1.0, c], dtype=torch.float64),
    ).requires_grad_()
    assert best.tolist() == pytest.approx(weights, abs=2e-6)
    loss = cloning_loss(best, c, n)
    assert loss.item() == pytest.approx(training, abs=2e-6)
    assert torch.autograd.grad(loss, best)[0].abs().max() < 1e-12
    assert error_on_its_own(best, c, n).item() == pytest.approx(alone, abs=2e-6)
    slope = torch.autograd.grad(error_on_its_own(best, c, n), best)[0]
    assert slope.abs().max() > 0.05  # no optimum of what counts
    blind = torch.tensor([1 / (1 + n), 0.0], dtype=torch.float64)
    assert float(cloning_loss(blind, c, n)) == pytest.approx(n / (1 + n), abs=1e-12)
    assert float(error_on_its_own(blind, c, n)) == pytest.approx(n / (1 + n), abs=1e-12)
    copied = torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert float(cloning_loss(copied, c, n)) == pytest.approx(2 * (1 - c), abs=1e-12)


def filtered(c: float, n: float) -> tuple[list[float], float]:
    """Return weights and error of the Kalman filter: the best that a previous answer can give."""
    variance = 1.0
    for _ in range(1000):
        before = c * c * variance + 1 - c * c
        gain = before / (before + n)
        variance = (1 - gain) * before
    return [gain, (1 - gain) * c], variance


def episode(seed: int, c: float, n: float, weights: list[float] | None, rows: int) -> Tensor:
    """Return state, what is seen and what is executed, ``[rows, 3]``: by a policy or the expert."""
    generator = torch.Generator().manual_seed(seed)
    pushes, noise = torch.randn(2, rows, generator=generator, dtype=torch.float64).tolist()
    state, done, found = pushes[0], 0.0, []
    for push, error in zip(pushes, noise, strict=True):
        state = c * state + (1 - c * c) ** 0.5 * push
        seen = state + n**0.5 * error
        done = state if weights is None else weights[0] * seen + weights[1] * done
        found.append([state, seen, done])
    return torch.tensor(found, dtype=torch.float32)


def fit(episodes: list[Tensor]) -> list[float]:
    """Return the least squares of what BC with a history of actions reads of all episodes."""
    rows = torch.cat(episodes)
    lengths = torch.tensor([len(each) for each in episodes])
    ends = torch.zeros(len(rows), dtype=torch.bool)
    ends[lengths.cumsum(0) - 1] = True
    state, seen, done = (column[:, None] for column in rows.unbind(1))
    log = Log.from_columns(
        {
            "observation": seen,
            "action": done,
            "expert_action": state,
            ("next", "observation"): seen.roll(-1, 0),
            ("next", "reward"): torch.zeros(len(rows)),
            ("next", "terminated"): torch.zeros_like(ends),
            ("next", "truncated"): ends,
            "episode": torch.arange(len(episodes)).repeat_interleave(lengths),
        }
    )
    data = OfflineDataModule(log, [ExpertAction()])
    data.serve(learner_of(BC, data.spec, history=History(1, actions=True)))
    inputs, targets = [], []
    for chunk in data.in_order():
        batch = data.on_after_batch_transfer(chunk, 0)[0]
        there = batch["history", "valid"][:, 0]
        past = batch["history", "action"][there, 0]
        inputs.append(torch.cat([batch["observation"][there], past], -1).double())
        targets.append(batch["action"][there].double())
    solved = torch.linalg.lstsq(torch.cat(inputs), torch.cat(targets)).solution
    found: list[float] = solved[:, 0].tolist()
    return found


def test_labels_where_the_policy_went_teach_it_to_look() -> None:
    """DAgger: the past shows what was executed, and the fit goes to the Kalman filter.

    Exact least squares over the union of rounds 0 to 4: weights .421038, .554881, error .110433.
    """
    c, n, copied, _, alone = CASES[1]
    episodes = [episode(0, c, n, None, 40_000)]
    weights = fit(episodes)
    assert weights == pytest.approx(copied, abs=0.02)
    for seed in range(1, 5):
        episodes.append(episode(seed, c, n, weights, 40_000))
        weights = fit(episodes)
    assert weights == pytest.approx([0.421038, 0.554881], abs=0.015)
    gain, best = filtered(c, n)
    assert gain[0] == pytest.approx(0.440605, abs=2e-6)
    error = error_on_its_own(torch.tensor(weights, dtype=torch.float64), c, n).item()
    assert best <= error < best + 2e-3 < 0.9 * alone
