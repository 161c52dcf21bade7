"""Half precision: hidden layers only; what follows the last layer is float32."""

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fits import cart_log, refused
from command_fits import fit as fit_by_command
from small_fits import data_for, equal, fit, learner_of, weights, whole_log
from tensordict import TensorDict
from torch import nn
from variants import EVERY, Variant, able

from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.layers import mlp
from hindsight_rl.training.learner import Learner


def half() -> torch.autocast:
    """Return the context of ``bf16-mixed`` on the CPU."""
    return torch.autocast("cpu", torch.bfloat16, cache_enabled=False)


def test_hidden_layers_are_half_and_the_last_is_not() -> None:
    net, seen = mlp(3, (8, 8), 2), []
    for layer in net:
        layer.register_forward_hook(lambda _, __, output: seen.append(output.dtype))
    with half():
        net(torch.randn(4, 3))
    assert seen == [torch.bfloat16] * 4 + [torch.float32]


def test_values_near_a_thousand_keep_their_differences() -> None:
    """256 states whose values lie within 1 of each other; steps of bfloat16 there are 4 or more."""
    net = mlp(3, (64,), 1)
    nn.init.constant_(net[-1].bias, 1000.0)
    states = torch.randn(256, 3)
    with torch.no_grad():
        exact = net(states)
        with half():
            rounded = net(states)
    assert 0.01 < float(exact.std()) < 1.0
    assert float((rounded - exact).abs().max()) < 0.05 * float(exact.std())


def made(variant: Variant, **options: Any) -> tuple[Learner, OfflineDataModule]:
    """Return a learner and its data."""
    data = data_for(variant.kind, variant.log(), variant.arguments, **options)
    adam = functools.partial(torch.optim.Adam, lr=1e-2)
    return learner_of(variant.kind, data.spec, optimizer=adam, **variant.arguments), data


def total(learner: Learner, batch: TensorDict) -> float:
    """Return the sum of the terms."""
    return sum(term.item() for term in learner.losses(batch).terms.values())


@pytest.mark.parametrize("name", able("bf16"))
def test_every_learner_trains_with_losses_in_float32(name: str, tmp_path: Path) -> None:
    """And the weights do not depend on K: no half copy of a weight outlives its update."""
    variant, ended = EVERY[name], []
    for size in (1, 8):
        data = data_for(variant.kind, variant.log(), variant.arguments, updates_per_step=size)
        learner = learner_of(variant.kind, data.spec, **variant.arguments)
        before = weights(learner)
        trainer = fit(learner, data, tmp_path, 24, precision="bf16-mixed")
        assert trainer.global_step == 24 and not equal(before, weights(learner))
        ended.append(weights(learner))
    for key, value in ended[0].items():
        torch.testing.assert_close(ended[1][key], value, rtol=0, atol=1e-6)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)
    batch = learner.complete(batch)
    with half():
        found = learner.losses(batch[0])
    assert {value.dtype for part in found for value in part.values()} == {torch.float32}
    assert {value.dtype for value in ended[0].values() if value.is_floating_point()} == {
        torch.float32
    }


@pytest.mark.parametrize("name", able("bf16"))
def test_mixed_precision_learns(name: str, tmp_path: Path) -> None:
    """In bfloat16 weights stay float32, and the losses go where they go in float32."""
    variant, found = EVERY[name], {}
    for precision in ("32-true", "bf16-mixed"):
        learner, data = made(variant)
        batch = whole_log(learner, data)
        start = total(learner, batch)
        fit(learner, data, tmp_path, 60, precision=precision)
        assert all(parameter.dtype == torch.float32 for parameter in learner.parameters())
        found[precision] = total(learner, batch)
    way = abs(found["32-true"] - start)
    assert way > 0 and abs(found["bf16-mixed"] - found["32-true"]) < 0.3 * way


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_other_precisions_are_refused(precision: Any, tmp_path: Path) -> None:
    data = data_for(BC)
    told = rf"precision is {precision}: use one of 32-true, bf16-mixed, 16-mixed\. Weights, targets"
    with pytest.raises(ValueError, match=told):
        fit(learner_of(BC, data.spec), data, tmp_path, 8, precision=precision)


@pytest.mark.parametrize("precision", ["16-mixed", "16"])
def test_half_without_a_gpu_is_refused_by_the_command(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cart_log(tmp_path / "log.npz")
    told = refused(fit_by_command("--trainer.precision", precision))
    assert "precision 16-mixed needs a GPU" in told and "bf16-mixed" in told
    assert not (tmp_path / "runs").exists()
