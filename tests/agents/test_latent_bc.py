"""Cloning by a latent vector: the loss by hand, its bound, chunks that are cut, and its file."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.latent_bc import LatentBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import LatentNetwork

CHUNK = {"chunk": 3}


def made(arguments: dict[str, Any] | None = None, **options: Any) -> tuple[LatentBC, Any]:
    arguments = arguments or {}
    data = data_for(LatentBC, episode_log(**options), arguments)
    learner = learner_of(LatentBC, data.spec, **arguments)
    data.serve(learner)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("task", [False, True])
@pytest.mark.parametrize("free", [0.0, 0.3])
def test_loss_is_that_of_a_plain_loop(task: bool, free: float) -> None:
    learner, batch = made({**CHUNK, "std": 0.5, "kl_weight": 2.0, "free_bits": free}, task=task)
    model, scale, total = learner.actor.model, learner.actor.scale, torch.zeros(())
    for row in range(len(batch)):
        action = scale.to_policy(batch["chunk", "action"][row])
        seen = batch["observation"][row][None]
        asked = batch["task"][row][None] if task else None
        code = model.encode(seen, action.flatten()[None], asked)
        mean, std = code.mean[0], code.log_std[0].exp()
        decoded = model(seen, (mean + std * batch["noise", "actor"][row])[None], asked).view(3, 2)
        for place in range(3):
            if batch["chunk", "valid"][row, place]:
                total = total + (action[place] - decoded[place]).square().sum() / (2 * 0.25)
        for k in range(len(mean)):
            kl = 0.5 * (mean[k] ** 2 + std[k] ** 2 - 1) - std[k].log()
            total = total + 2.0 * max(kl, torch.tensor(free))
    torch.testing.assert_close(learner.losses(batch).terms["actor"], total / len(batch))


def test_weights_multiply_rows() -> None:
    learner, batch = made()
    weight = torch.rand(len(batch), generator=torch.Generator().manual_seed(0))
    now, noise = batch["observation"], batch["noise", "actor"]
    rows = learner.actor.row_loss(now, batch["action"], None, noise)
    torch.testing.assert_close(learner.losses(batch).terms["actor"], rows.mean())
    found = learner.losses(batch.copy().set("weight", weight)).terms["actor"]
    torch.testing.assert_close(found, (weight * rows).mean())


def test_bound_is_tight_for_the_exact_encoder_of_t21() -> None:
    """Decoder a = l + N(0, .5^2), prior N(0, 1), a = 1, q = N(.8, .2): -1.430510 on average.

    The two draws of -+ 1 have the moments of a normal number, and the bound is a square in it.
    """
    log = one_number(torch.ones(8, 1))
    learner = LatentBC(
        OfflineDataModule(log).spec, network=LatentNetwork(hidden=(), latent=1), std=0.5
    )
    model = learner.actor.model
    assert not model.squash  # actions without bounds: standardised, here by 0 and 1
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder[-1].weight[0, -1] = 1.0
        model.encoder[-1].bias.copy_(torch.tensor([0.8, 0.5 * math.log(0.2)]))
        learner.actor.scale.centre.zero_()
    ends = torch.tensor([[-1.0], [1.0]])
    parts = learner.actor.parts(torch.zeros(2, 2), torch.ones(2, 1, 1), ends)
    assert parts.bound.mean().item() == pytest.approx(-1.430510, abs=2e-6)
    assert parts.divergence.tolist() == pytest.approx([0.724719] * 2, abs=2e-6)


def test_what_lies_behind_the_end_is_not_imitated() -> None:
    """On last rows the first action of three is there: the others' outputs get no gradient."""
    learner, batch = made(CHUNK)
    ends = batch[batch["episode_end"] == batch["index"]]
    learner.losses(ends).terms["actor"].backward()
    bias = learner.actor.model.decoder[-1].bias.grad
    assert bias[:2].abs().min() > 0 and not bias[2:].any()


def test_answers_are_chunks_within_the_bounds_and_functions_of_the_noise() -> None:
    learner, batch = made(CHUNK)
    seen = batch["observation"]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(seen)))[0]
    noise = normals(draws, learner.acting_noise)
    with torch.no_grad():
        found = learner.decide(seen, None, {}, noise).action
        assert found.equal(learner.decide(seen, None, {}, noise).action)
        assert not found.equal(learner.decide(seen, None, {}, -noise).action)
        assert learner.act(seen, draws=draws).equal(found[:, 0])
        zero = learner.decide(seen, None, {}, torch.zeros_like(noise)).action
        assert learner(seen).equal(zero[:, 0]) and learner.act(seen).equal(zero[:, 0])
    assert found.shape == (len(seen), 3, 2)
    assert (found >= torch.tensor(LOW)).all() and (found <= torch.tensor(HIGH)).all()


def one_number(action: Tensor) -> Log:
    rows = len(action)
    columns: dict[Any, Tensor] = {
        "observation": torch.randn(rows, 2, generator=torch.Generator().manual_seed(0)),
        "action": action,
        "episode": torch.arange(rows),
        ("next", "observation"): torch.zeros(rows, 2),
        ("next", "reward"): torch.zeros(rows),
        ("next", "terminated"): torch.ones(rows, dtype=torch.bool),
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
    }
    return Log.from_columns(columns)


def test_zero_or_prior_acts_and_reaches_the_file(tmp_path: Path) -> None:
    """The file of ``prior`` takes noise, whose zeros are meant; that of ``zero`` takes none."""
    for acting in ("prior", "zero"):
        learner, batch = made({"acting": acting})
        seen = batch["observation"][:5]
        path = tmp_path / f"{acting}.onnx"
        export_policy(learner.eval(), path, opset=17)
        policy = OnnxPolicy(path, seed=3)
        stated = policy.contract["noise"]
        assert (stated is None) == (acting == "zero")
        with torch.no_grad():
            mean = learner(seen).numpy()
        assert stated is None or stated["zero"] is True
        deterministic = OnnxPolicy(path, deterministic=True) if stated else policy
        assert abs(deterministic.act(seen.numpy()) - mean).max() < 1e-5
        if stated:
            assert abs(policy.act(seen.numpy()) - mean).max() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 2, "execute": 3}, r"execute 3 in \[1, 2\]"),
        ({"std": 0.0}, "std 0.0 must be above 0"),
        ({"kl_weight": -1.0}, "kl_weight -1.0 and free_bits 0.0 at least 0"),
        ({"acting": "mode"}, "acting is 'mode', it must be 'prior' or 'zero'"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentBC(OfflineDataModule(episode_log()).spec, **arguments)


def test_loss_without_noise_raises() -> None:
    learner, batch = made()
    with pytest.raises(ValueError, match=r"needs noise: pass noise \[B, L\]"):
        learner.actor.row_loss(batch["observation"], batch["action"])
    assert learner.density == "bound"


def test_policy_of_chunks_learns(tmp_path: Path) -> None:
    """The bound of a log rises by more than half of a nat within 60 updates."""
    learner, batch = made({**CHUNK, "optimizer": lambda p: torch.optim.Adam(p, lr=1e-2)})
    before = learner.losses(batch).metrics["actor/bound"].item()
    fit(learner, data_for(LatentBC, episode_log(), CHUNK), tmp_path, 60)
    assert learner.losses(batch).metrics["actor/bound"].item() > before + 0.5
