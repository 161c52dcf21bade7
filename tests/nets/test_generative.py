"""The network of flows and diffusions: at a time or along a walk, in float32 and in float64."""

from typing import Any

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.generative import Denoiser
from hindsight_rl.nets.layers import ResidualBlock, outputs, residual_mlp
from hindsight_rl.nets.network import Network, NoiseNetwork
from hindsight_rl.spec import ActionSpec, Image, Spec, Vector

NETWORKS = {
    "plain": NoiseNetwork(hidden=(8, 8)),
    "residual": NoiseNetwork(hidden=(8, 8), residual=True),
    "waves": NoiseNetwork(hidden=(8, 8), frequencies=2),
    "no layers": Network(hidden=()),
}


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.parametrize("task", [False, True])
def test_what_is_walked_along_is_what_is_fitted(network: Any, task: bool) -> None:
    """One encoding for all steps, several chunks per state, and float64 beside float32."""
    spec = OfflineDataModule(episode_log(task=task)).spec
    net = Denoiser(spec, network, chunk=3)
    width = spec.task.width if spec.task is not None else 0
    given = rows(5, 3), rows(5, width) if task else None
    point = rows(4, 5, 6)
    with torch.no_grad():
        walk, precise = net.given(*given), net.given(*given, torch.float64)
        for time in (0.0, 0.3, 0.99):
            for chunk in range(4):
                expected = net(point[chunk], torch.full((5,), time), *given)
                torch.testing.assert_close(walk(point[chunk], time), expected)
                torch.testing.assert_close(walk(point, time)[chunk], expected)
            found = precise(point.double(), time)
            assert found.dtype == torch.float64
            torch.testing.assert_close(found.float(), walk(point, time))
        torch.testing.assert_close(net.at_once(point[0], *given), walk(point[0], 0.0))


def test_a_residual_block_by_hand() -> None:
    """Of (1, 3) the norm is (-1, 1); V sums and subtracts: relu (0, 2); W doubles."""
    block = ResidualBlock(2, wider=1)
    _, first, _, second = block.path
    assert isinstance(first, nn.Linear) and isinstance(second, nn.Linear)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
        second.weight.copy_(2 * torch.eye(2))
        first.bias.zero_(), second.bias.zero_()
    found = block(torch.tensor([[1.0, 3.0]]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 7.0]]), atol=1e-4, rtol=0)


def test_residual_blocks_in_float64() -> None:
    network = residual_mlp(3, (8, 8), 2)
    seen = rows(5, 3)
    found = outputs(network, seen.double())
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, network.double()(seen.double()))


def test_residual_blocks_need_one_width() -> None:
    for hidden in ((8, 4), ()):
        with pytest.raises(ValueError, match="residual blocks need one width"):
            NoiseNetwork(hidden=hidden, residual=True)


def test_values_of_precise_actions_are_precise() -> None:
    """And those of others what they were."""
    spec = OfflineDataModule(episode_log()).spec
    critic, value = Critic(spec, Network(hidden=(8,))), ValueNet(spec, Network(hidden=(8,)))
    seen, action = rows(5, 3), rows(7, 5, 2)
    with torch.no_grad():
        found = critic(seen, action.double())
        assert found.dtype == torch.float64
        torch.testing.assert_close(found.float(), critic(seen, action))
        assert value.precise(seen).dtype == torch.float64
        torch.testing.assert_close(value.precise(seen).float(), value(seen))


def test_images_are_encoded_once_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = Spec(
        {"camera": Image((16, 16, 3)), "state": Vector((2,), (0.0, 0.0), (1.0, 1.0))},
        ActionSpec("continuous", (2,), low=(-1.0, -1.0), high=(1.0, 1.0)),
    )
    net, seen = Denoiser(spec, NETWORKS["plain"], chunk=2), []
    monkeypatch.setattr(net.inputs, "forward", _counted(net.inputs.forward, seen))
    camera = torch.randint(0, 256, (5, 16, 16, 3), generator=torch.Generator().manual_seed(0))
    observation = {"camera": camera.to(torch.uint8), "state": rows(5, 2)}
    with torch.no_grad():
        walk = net.given(observation)
        assert walk(rows(5, 4), 0.0).shape == walk(rows(5, 4), 0.5).shape == (5, 4)
    assert len(seen) == 1


def _counted(function: Any, seen: list[int]) -> Any:
    def call(*given: Any) -> Any:
        seen.append(1)
        return function(*given)

    return call
