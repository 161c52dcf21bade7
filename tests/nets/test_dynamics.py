"""The ensemble's network: bounds, decay by layer, inputs; what a member does not share."""

import pytest
import torch
from episode_logs import episode_log

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.dynamics import soft_bounds
from hindsight_rl.nets.dynamics import GaussianEnsemble
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec


@pytest.fixture
def spec() -> Spec:
    return OfflineDataModule(episode_log(task=True)).spec


def test_members_answer_within_bounds_that_are_learned(spec: Spec) -> None:
    ensemble = GaussianEnsemble(spec, Network(hidden=(8,)), members=3)
    assert ensemble.low.tolist() == [-10.0] * 4 and ensemble.high.tolist() == [0.5] * 4
    assert ensemble.width_of_bounds().item() == 42.0
    rows = torch.randn(5, 3), torch.randn(5, 2)
    mean, log_variance, _ = ensemble(*rows)
    assert mean.shape == log_variance.shape == (3, 5, 4)
    member = ensemble.members[1]
    with torch.no_grad():
        member[-1].weight.zero_()
        member[-1].bias.copy_(torch.tensor([1.0, 2, 3, 4, -99, 0, 9, 99]))
    mean, log_variance, _ = ensemble(*rows)
    assert mean[1].unique(dim=0).tolist() == [[1.0, 2.0, 3.0, 4.0]]
    expected = soft_bounds(torch.tensor([-99.0, 0, 9, 99]), ensemble.low, ensemble.high)
    torch.testing.assert_close(log_variance[1, 0], expected)
    slope = torch.autograd.grad(log_variance.sum(), [ensemble.low, ensemble.high])
    assert all(bool((part > 0).all()) for part in slope)


def test_each_layer_decays_by_its_rate(spec: Spec) -> None:
    """Half the squared weights; five rates of three layers are the first, third and last."""
    ensemble = GaussianEnsemble(spec, Network(hidden=(8, 8)), members=2)
    squares = [
        sum(member[place].weight.square().sum().item() for member in ensemble.members)
        for place in (0, 2, 4)
    ]
    for rates, each in (((1.0, 2.0, 4.0), (1, 2, 4)), ((3.0,), (3, 3, 3)), ((1.0, 2.0), (1, 1, 2))):
        expected = 0.5 * sum(rate * square for rate, square in zip(each, squares, strict=True))
        assert ensemble.decay(rates).item() == pytest.approx(expected, rel=1e-6)
    five = ensemble.decay((1.0, 9.0, 2.0, 9.0, 4.0))
    torch.testing.assert_close(five, ensemble.decay((1.0, 2.0, 4.0)))
    ensemble.decay((0.1,)).backward()
    weight = ensemble.members[0][2].weight
    torch.testing.assert_close(weight.grad, 0.1 * weight)
    assert ensemble.members[0][2].bias.grad is None


def test_choices_are_one_hot() -> None:
    spec = OfflineDataModule(episode_log(discrete=True)).spec
    ensemble = GaussianEnsemble(spec, Network(hidden=()), members=1)
    with torch.no_grad():
        ensemble.members[0][0].weight.zero_()
        ensemble.members[0][0].bias.zero_()
        ensemble.members[0][0].weight[0, 3:] = torch.tensor([5.0, 6.0, 7.0])
    mean, *_ = ensemble(torch.randn(3, 3), torch.tensor([2, 0, 1]))
    assert mean[0, :, 0].tolist() == [7.0, 5.0, 6.0]
