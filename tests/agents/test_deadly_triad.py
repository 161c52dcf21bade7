"""The deadly triad of T3: what the real learners make of the smallest log on which values diverge.

Q(s, a) = theta a for the actions 1 and 2 of the only state, no reward; the log holds action 1. One
update of naive Q-learning at rate 1 sets theta to discount * max(theta, 2 theta).
"""

import pytest
import torch
from benchmark_scripts import triad

from hindsight_rl.agents.discrete_bcq import DiscreteBCQ
from hindsight_rl.agents.discrete_cql import DiscreteCQL
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.q_learning import QLearning
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.conservative import conservative_gap
from hindsight_rl.maths.losses import td_target


def close(found: list[float], expected: list[float], tolerance: float = 2e-6) -> None:
    """Compare with numbers of six digits after the point, in float32."""
    count = len(expected)
    assert found[:count] == pytest.approx(expected, rel=tolerance, abs=tolerance)


# --- real learners --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("discount", "rate", "expected"),
    [
        (1.0, 1.0, [1, 2, 4, 8, 16, 32]),
        (0.99, 1.0, [1, 1.98, 3.9204, 7.762392, 15.369536]),
        (0.5, 1.0, [1, 1, 1, 1, 1]),
        (1.0, 0.1, [1.1**update for update in range(6)]),
    ],
)
def test_naive_values_grow_by_the_same_factor(
    discount: float, rate: float, expected: list[float]
) -> None:
    """1 + rate (2 discount - 1) per update: exactly 2 at discount 1 and rate 1."""
    found = triad.thetas(DQN, len(expected) - 1, discount=discount, rate=rate)
    close(found, expected)
    if discount == rate == 1.0:
        assert found == expected


def test_double_q_learning_does_not_help() -> None:
    """Both critics agree on the wrong action."""
    assert triad.thetas(DQN, 5, discount=1.0, double=True) == [1, 2, 4, 8, 16, 32]


def test_values_never_move_among_the_actions_of_the_log() -> None:
    """Discrete BCQ knows that action 2 is not taken: theta is its own target."""
    found = triad.thetas(DiscreteBCQ, 50, prepare=triad.knows_the_log, discount=1.0, huber=None)
    assert found == [1.0] * 51


@pytest.mark.parametrize(
    ("weight", "expected", "last"),
    [
        (1.0, [1, 1.268941, 1.757321, 2.661769], 2.39e14),
        (1.4, [1, 0.976518, 0.936053, 0.866483, 0.747347, 0.544653], -4.09874),
        (5.0, [1, -1.655293, -2.457267], -5.54696),
    ],
)
def test_conservative_values_of_t3(weight: float, expected: list[float], last: float) -> None:
    """Too small a weight only slows the growth; above it values sink, as a logarithm.

    What is near the threshold doubles its rounding errors in every update: 2e-5 after five.
    """
    found = triad.thetas(DiscreteCQL, 50, discount=1.0, double=False, conservative_weight=weight)
    close(found, expected, 2e-5)
    assert found[-1] == pytest.approx(last, rel=2e-3)
    if weight > 1.367879:
        assert max(found) == found[0]


def test_threshold_of_the_conservative_weight() -> None:
    """A first step down needs weight * sigmoid(theta) > theta: 1 + 1/e at theta 1, larger above."""
    for theta, threshold in ((1.0, 1.367879), (3.0, 3.149361)):
        assert theta / torch.sigmoid(torch.tensor(theta)).item() == pytest.approx(threshold)
        for factor in (0.99, 1.01):
            found = triad.thetas(
                DiscreteCQL,
                10,
                theta=theta,
                discount=1.0,
                double=False,
                conservative_weight=factor * threshold,
            )
            assert (found[-1] > theta) == (factor < 1)


# --- fitted Q iteration ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "factor"), [((1, 2), 6 * 0.99 / 5), ((2,), 0.99), ((1,), 1.98)], ids=str
)
def test_each_fit_multiplies_by_the_factor_of_its_log(
    actions: tuple[int, ...], factor: float
) -> None:
    """Features 1 and 2 share a target of 2 discount theta: the fit has (1 + 2) 2 / (1 + 4) of it.

    Exact fits do not help: it is the log that decides. With action 2 alone the target is its own.
    """
    found = triad.fitted_thetas(*actions, fits=5, discount=0.99)
    close(found, [factor**fit for fit in range(6)])


# --- take one of the three away -------------------------------------------------------------------


def test_without_a_shared_number_nothing_grows() -> None:
    """A table: Q(1) becomes what Q(2) is, and nothing moves Q(2)."""
    data = OfflineDataModule(triad.one_state(1), batch_size=1, updates_per_step=1)
    learner = QLearning(data.spec, initial_value=2.0, discount=1.0)
    with torch.no_grad():
        learner.critic.value[..., 0] = 1.0
    learner.target_critic.load_state_dict(learner.critic.state_dict())
    triad.fit(learner, data, 20)
    assert learner.critic.value.flatten().tolist() == [2.0, 2.0]


def test_where_the_log_holds_the_greedy_action_values_shrink() -> None:
    """On action 2: theta <- theta - rate 2 (2 theta - discount 2 theta)."""
    found = triad.thetas(DQN, 3, actions=(2,), discount=0.9, rate=0.1)
    close(found, [(1 - 0.1 * 4 * 0.1) ** update for update in range(4)])


def test_without_bootstrapping_the_rewards_are_learned_at_once() -> None:
    assert triad.thetas(DQN, 3, discount=0.0) == [1, 0, 0, 0]


# --- the loops of T3, in double precision ---------------------------------------------------------


def descend(weight: float, squared: bool, updates: int = 50) -> list[float]:
    """Return theta under half the squared error and the gap, or half its square, by autograd."""
    theta = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    one, going_on = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.bool)
    found = [1.0]
    for _ in range(updates):
        both = theta * torch.tensor([[1.0, 2.0]], dtype=torch.float64)
        target = td_target(0 * one, going_on, both.detach().amax(-1), one)
        gap = conservative_gap(both, both[:, 0])
        penalty = 0.5 * gap.square() if squared else gap
        loss = (0.5 * (target - both[:, 0]).square() + weight * penalty).sum()
        (gradient,) = torch.autograd.grad(loss, theta)
        theta = (theta - gradient).detach().requires_grad_()
        found.append(theta.item())
    return found


@pytest.mark.parametrize(
    ("weight", "squared", "expected", "last"),
    [
        (1.0, False, [1.268941, 1.757321, 2.661769], None),
        (1.4, False, [0.976518, 0.936053, 0.866483, 0.747347, 0.544653], -4.09874),
        (5.0, False, [-1.655293, -2.457267], -5.54696),
        (1.0, True, [1.039929, 1.087890, 1.144861, 1.211656, 1.288807], 4.70067),
        (1.5, True, [0.559893, 0.153901, -0.316517], -2.38605),
        (2.0, True, [0.079858, -0.603445], -2.56052),
    ],
)
def test_penalties_of_t3(
    weight: float, squared: bool, expected: list[float], last: float | None
) -> None:
    """The gap is softplus(theta), its gradient sigmoid(theta); squared, growth is slow."""
    found = descend(weight, squared)
    assert found[1 : len(expected) + 1] == pytest.approx(expected, abs=2e-6)
    if last is None:
        assert found[-1] == pytest.approx(2.39e14, rel=2e-3)
    else:
        assert found[-1] == pytest.approx(last, abs=1e-5)


def test_gap_of_t3_and_its_gradient() -> None:
    for value in (-2.0, 0.0, 3.0):
        theta = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        gap = conservative_gap(torch.stack([theta, 2 * theta])[None], theta[None]).sum()
        gap.backward()
        torch.testing.assert_close(gap, torch.nn.functional.softplus(theta))
        torch.testing.assert_close(theta.grad, torch.sigmoid(theta.detach()))
