"""Tasks that are linear in features: reward, prior, whitening."""

import math

import pytest
import torch
from episode_logs import episode_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.posterior import log_partition
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.tasks.linear import LinearTasks

NEXT_ACHIEVED = ("next", "achieved_goal")


def steps(*features: list[float]) -> TensorDict:
    """Return a batch of steps with these features."""
    points = torch.tensor(features)
    return TensorDict({"next": {"achieved_goal": points}}, batch_size=[len(points)])


def many_draws(count: int = 4000) -> torch.Tensor:
    """Return the counters of as many rows, ``[count, 3]``."""
    return counters(5, torch.zeros(1, dtype=torch.int64), torch.arange(count))[0]


def feature_log(features: Tensor, lengths: list[int] | None = None) -> Log:
    """Return a log whose steps have these features ``[N, 2]``, one episode unless said."""
    log = episode_log(lengths or [len(features)], goals=True)
    return log.with_columns({NEXT_ACHIEVED: features})


def test_linear_reward_is_the_inner_product() -> None:
    batch, family = steps([1.0, 2.0], [3.0, 4.0]), LinearTasks([-1, -1], [1, 1])
    tasks = torch.tensor([[1.0, 0.5], [-1.0, 1.0]])
    assert family.reward(batch, tasks).tolist() == [2, 1]
    assert family.reward(batch, tasks, pairwise=True).tolist() == [[2, 1], [5, 1]]
    assert family.terminated(batch, tasks, pairwise=True).tolist() == [[False] * 2] * 2
    assert family.terminated(batch, tasks).tolist() == [False] * 2


def test_linear_prior_is_uniform_over_the_box() -> None:
    family = LinearTasks([-1, 2, 0], [1, 2, 4])
    tasks = family.sample(many_draws())
    torch.testing.assert_close(tasks.mean(0), torch.tensor([0.0, 2, 2]), rtol=0, atol=0.08)
    torch.testing.assert_close(
        tasks.std(0), torch.tensor([2.0, 0, 4]) / math.sqrt(12), rtol=0, atol=0.04
    )
    assert abs(float(torch.corrcoef(tasks[:, [0, 2]].T)[0, 1])) < 0.06
    outside = torch.tensor([[0.0, 2, 1], [0, 2, 5], [0, 1, 1]])
    assert family.log_prior(outside).tolist() == [0, -math.inf, -math.inf]
    assert bool((family.log_prior(tasks) == 0).all())


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0], [1, 1], "low has 1 weights and high 2: give as many"),
        ([], [], "low has 0 weights and high 0"),
        ([1.0], [0.0], r"high \[0.0\] is below low \[1.0\]"),
    ],
)
def test_a_box_that_is_none_is_refused(low: list, high: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LinearTasks(low, high)


def test_another_number_of_features_is_refused() -> None:
    log = episode_log(goals=True)
    assert LinearTasks([0, 0], [1, 1]).prepare(log).in_keys == (NEXT_ACHIEVED,)
    with pytest.raises(ValueError, match=r"2 weights for features of shape \[3\]: give"):
        LinearTasks([0, 0], [1, 1], features="observation").prepare(log)


# --- closed form T1d ------------------------------------------------------------------------------

WEIGHTS = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]


def test_posterior_of_linear_tasks_is_the_closed_form() -> None:
    """T1d: feature sums 5 * [[1, 0], [0, 1], [.5, .5]] over five steps each, plain features."""
    each = torch.tensor([[1.0, 0], [0, 1], [0.5, 0.5]])
    log = feature_log(each.repeat_interleave(5, 0), [5, 5, 5])
    bound = InverseRL(LinearTasks([-1, -1], [1, 1]), tasks=WEIGHTS).prepare(log)
    scores = 5 * each @ torch.tensor(WEIGHTS).T
    torch.testing.assert_close(bound.scores(log), scores)
    log_z = log_partition(scores) + math.log(3)  # the sum form
    expected = torch.tensor([5.085097, 5.085097, 0.085097])
    torch.testing.assert_close(log_z, expected, rtol=0, atol=2e-6)
    posterior = torch.tensor(
        [[0.986703, 0.006648, 0.006648], [0.003358, 0.498321, 0.498321], [1 / 3, 1 / 3, 1 / 3]]
    )
    torch.testing.assert_close(bound.posterior, posterior, rtol=0, atol=2e-6)


# --- whitening ------------------------------------------------------------------------------------


def white(log: Log) -> Tensor:
    """Return the features of a log as the rewards of unit weights see them, ``[N, 2]``."""
    family = LinearTasks([-1, -1], [1, 1], whiten=True).prepare(log)
    return family.reward(log.gather(torch.arange(len(log))), torch.eye(2), pairwise=True)


def test_independent_features_are_standardised() -> None:
    """Means 4 and 100, standard deviations 1 and 50, no correlation."""
    log = feature_log(torch.tensor([[3.0, 50], [3, 150], [5, 50], [5, 150]]))
    expected = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    torch.testing.assert_close(white(log), expected)


def test_correlated_features_are_parted_symmetrically() -> None:
    """Correlation r = .6 has R^(-1/2) = [[a, b], [b, a]], a, b = (1/sqrt(1+r) +- 1/sqrt(1-r)) / 2.

    Standard features (x, y) of the four corners (u + v, u - v), u of variance .8, v of .2.
    """
    u, v = math.sqrt(0.8), math.sqrt(0.2)
    standard = torch.tensor([[u + v, u - v], [u - v, u + v], [v - u, -u - v], [-u - v, v - u]])
    scale, shift = torch.tensor([3.0, 0.01]), torch.tensor([7.0, -5.0])
    plus, minus = 1 / math.sqrt(1.6), 1 / math.sqrt(0.4)
    a, b = (plus + minus) / 2, (plus - minus) / 2
    found = white(feature_log(standard * scale + shift))
    expected = standard @ torch.tensor([[a, b], [b, a]])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)  # -5 +- .01 in float32
    torch.testing.assert_close(found.T @ found / 4, torch.eye(2), rtol=0, atol=2e-4)


def test_units_of_features_do_not_matter() -> None:
    log = episode_log(goals=True)
    plain = log.column(NEXT_ACHIEVED)
    scaled = log.with_columns({NEXT_ACHIEVED: plain * torch.tensor([1000.0, 0.1]) + 3.0})
    torch.testing.assert_close(white(scaled), white(log), rtol=0, atol=1e-4)


def test_white_reward_is_that_of_plain_weights_up_to_a_constant() -> None:
    log = episode_log(goals=True)
    family = LinearTasks([-1, -1], [1, 1], whiten=True).prepare(log)
    task, plain = torch.tensor([[0.5, -2.0]]), LinearTasks([-1, -1], [1, 1])
    batch = log.gather(torch.arange(len(log)))
    reward = family.reward(batch, task)
    assert family.whitening is not None
    difference = reward - plain.reward(batch, task @ family.whitening)
    torch.testing.assert_close(difference, difference[:1].expand(len(log)))
    assert reward.mean().item() == pytest.approx(0, abs=1e-5)
    assert reward.std(correction=0).item() == pytest.approx(math.hypot(0.5, 2.0), rel=1e-4)


def test_features_that_never_vary_count_0() -> None:
    """A constant feature; and two that are one: both get an equal share of it."""
    varied = torch.tensor([0.1, 0.3, 0.2, 0.4])
    constant = white(feature_log(torch.stack([varied, torch.full((4,), 0.7)], -1)))
    assert constant[:, 1].tolist() == [0] * 4
    assert constant[:, 0].square().mean().item() == pytest.approx(1, abs=1e-5)
    twice = white(feature_log(torch.stack([varied, 10 * varied - 3], -1)))
    torch.testing.assert_close(twice[:, 0], twice[:, 1], rtol=0, atol=1e-4)
    assert twice.sum(-1).square().mean().item() == pytest.approx(2, abs=1e-3)


def test_rows_that_may_not_be_drawn_do_not_whiten() -> None:
    log = episode_log([4, 6], goals=True)
    inside = log.with_rows(torch.arange(4, 10))
    torch.testing.assert_close(white(inside)[4:].mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    assert white(log)[4:].mean(0).abs().max() > 0.01


def test_a_family_that_whitens_needs_a_log() -> None:
    family = LinearTasks([-1, -1], [1, 1], whiten=True)
    with pytest.raises(ValueError, match="LinearTasks whitens by the features of a log: call prep"):
        family.reward(steps([1.0, 2.0]), torch.ones(1, 2))


# --- rewards named by a few rows ------------------------------------------------------------------


def labelled_log(reward: Tensor, features: Tensor) -> Log:
    """Return a log of one episode, cut at its end, with these rewards and features."""
    log = episode_log([1, len(reward)], goals=True, reward=[0.0, *reward.tolist()])
    return log.with_columns({NEXT_ACHIEVED: torch.cat([torch.zeros(1, 2), features])})


def test_rows_with_a_reward_name_a_task() -> None:
    """R = 2 f1 - f2 + 0.5 on 100 rows: the constant is no preference where nothing ends."""
    features = torch.randn(120, 2, generator=torch.Generator().manual_seed(0))
    log = labelled_log(features @ torch.tensor([2.0, -1.0]) + 0.5, features)
    family = LinearTasks([-3, -3], [3, 3])
    found = family.named(log, torch.arange(1, 101))
    torch.testing.assert_close(found.weights.float(), torch.tensor([2.0, -1.0]), atol=1e-4, rtol=0)
    assert float(found.constant) == pytest.approx(0.5, abs=1e-5)
    assert float(found.explained) == pytest.approx(1.0, abs=1e-6)


def test_where_steps_terminate_there_is_no_constant() -> None:
    """To end pays then or costs: row 0 ends."""
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    log = labelled_log(features @ torch.tensor([1.0, 1.0]), features)
    assert LinearTasks([-3, -3], [3, 3]).named(log).constant == 0


def test_a_named_task_weighs_what_the_family_weighs() -> None:
    """Whitened: its rewards differ from the named ones by a constant."""
    features = torch.randn(200, 2, generator=torch.Generator().manual_seed(2)) * torch.tensor(
        [5.0, 0.1]
    )
    reward = features @ torch.tensor([0.3, 4.0])
    log = labelled_log(reward, features)
    family = LinearTasks([-3, -3], [3, 3], whiten=True).prepare(log)
    task = family.named(log, torch.arange(1, 201)).weights.float()
    batch = steps(*features.tolist())
    difference = family.reward(batch, task.expand(200, 2)) - reward
    assert float(difference.std()) < 1e-4


def test_a_reward_that_is_about_something_else_is_refused() -> None:
    features = torch.randn(100, 2, generator=torch.Generator().manual_seed(3))
    log = labelled_log((features[:, 0] * features[:, 1]).sign(), features)
    family = LinearTasks([-3, -3], [3, 3])
    with pytest.raises(ValueError, match=r"'next.achieved_goal' explains .* of 101 rewards"):
        family.named(log)
    assert family.named(log, least=0.0).explained < 0.5
    with pytest.raises(ValueError, match="least is 2"):
        family.named(log, least=2.0)
