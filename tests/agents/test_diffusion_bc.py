"""Diffusion cloning: the loss by hand, where answers are clipped, and two answers kept apart."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, learner_of, whole_log
from specs import changed
from two_answers import answers, fitted

from hindsight_rl.agents.diffusion_bc import DiffusionBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.diffusion import cosine_betas, signals
from hindsight_rl.maths.draws import counters, normals
from hindsight_rl.nets.network import NoiseNetwork

CHUNK = {"chunk": 3}


def made(log: Log, **arguments: Any) -> tuple[DiffusionBC, Any]:
    data = data_for(DiffusionBC, log, CHUNK)
    learner = learner_of(DiffusionBC, data.spec, **CHUNK, **arguments)
    assert isinstance(learner, DiffusionBC)
    data.serve(learner)
    return learner, whole_log(learner, data)


@pytest.mark.parametrize("predict", ["velocity", "noise", "sample"])
@pytest.mark.parametrize("task", [False, True])
def test_loss_is_that_of_a_plain_loop(task: bool, predict: Any) -> None:
    learner, batch = made(episode_log(task=task), predict=predict)
    left = signals(cosine_betas(100))
    total, entries, seen = torch.zeros(()), 0, set()
    for row in range(len(batch)):
        data = learner.actor.scale.to_policy(batch["chunk", "action"][row]).flatten()
        noise = batch["noise", "diffusion"][row]
        uniform = 0.5 * (1 + math.erf(batch["noise", "time"][row, 0].item() / 2**0.5))
        k = int(100 * uniform)
        seen.add(k)
        point = left[k] ** 0.5 * data + (1 - left[k]) ** 0.5 * noise
        asked = batch["task"][row][None] if task else None
        time = torch.tensor([k / 100])
        answer = learner.actor(point[None], time, batch["observation"][row][None], asked)[0]
        velocity = left[k] ** 0.5 * noise - (1 - left[k]) ** 0.5 * data
        right = {"velocity": velocity, "noise": noise, "sample": data}[predict]
        error = (answer - right).square().view(3, 2)
        for place in range(3):
            if batch["chunk", "valid"][row, place]:
                total, entries = total + error[place].mean(), entries + 1
    assert len(seen) > 20 and min(seen) >= 0 and max(seen) <= 99
    found = learner.losses(batch).terms["actor"]
    torch.testing.assert_close(found, total / entries, rtol=1e-4, atol=1e-6)


def unbounded(rows: int = 64) -> Log:
    """A log without bounds, in episodes of 8 rows; actions uniform in [1, 11]."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.arange(rows) % 8 == 7
    return Log.from_columns(
        {
            "observation": torch.randn(rows, 3, generator=generator),
            "action": 1 + 10 * torch.rand(rows, 2, generator=generator),
            "episode": torch.arange(rows) // 8,
            ("next", "observation"): torch.randn(rows, 3, generator=generator),
            ("next", "reward"): torch.zeros(rows),
            ("next", "terminated"): ends,
            ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
        }
    )


def test_unbounded_actions_are_clipped_at_the_ends_of_the_log() -> None:
    """An untrained network's noise is clipped everywhere: at what the log holds, not 1 sigma."""
    learner, batch = made(unbounded(), predict="noise")
    action = batch["action"]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0]
    with torch.no_grad():
        found = learner.act(batch["observation"], draws=draws)
    least, most = action.amin(0), action.amax(0)
    assert (most > action.mean(0) + 1.2 * action.std(0)).all()
    torch.testing.assert_close(found.amax(0), most)
    torch.testing.assert_close(found.amin(0), least)


def test_a_spec_without_ends_is_an_error() -> None:
    spec = changed(OfflineDataModule(episode_log()).spec, action={"low": None, "high": None})
    spec = dataclasses.replace(spec, action=dataclasses.replace(spec.action, quantiles=None))
    with pytest.raises(ValueError, match="the spec does not hold the quantiles of the log"):
        DiffusionBC(spec)


@pytest.mark.parametrize(
    "options",
    [{}, {"predict": "noise"}, {"predict": "sample"}],
    ids=["predicts velocity", "predicts noise", "predicts actions"],
)
def test_two_good_answers_stay_two(options: dict[str, Any], tmp_path: Path) -> None:
    """With ten steps, spaced from the noisiest: both numbers agree, near -1 or 1, both given."""
    small = NoiseNetwork(hidden=(64, 64))
    learner = fitted(DiffusionBC, tmp_path, network=small, chunk=1, tau=0.05, **options)
    agree, off, positive = answers(learner)
    assert agree > 0.95 and off < 0.25 and 0.3 < positive < 0.7
    if options.get("predict") != "noise":  # the data implied at pure noise are the mean
        learner.sampler.choose(1)
        assert answers(learner).off > 0.6


def test_answers_are_functions_of_the_noise_in_float32() -> None:
    learner, batch = made(episode_log(), predict="sample")
    noise = normals(counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0], 6)
    with torch.no_grad():
        found = learner.decide(batch["observation"], None, {}, noise)
        other = learner.decide(batch["observation"], None, {}, -noise)
    assert found.action.dtype == torch.float32 and found.action.shape == (len(batch), 3, 2)
    assert not found.action.equal(other.action)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chunk": 0}, "chunk 0 must be at least 1"),
        ({"chunk": 2, "execute": 3}, r"execute 3 in \[1, 2\]"),
        ({"steps": 101}, "101 steps of a diffusion of 100: give 1 to 100"),
        ({"length": 0}, "length is 0, it must be at least 1"),
        ({"predict": "both"}, "predict is 'both', it must be 'velocity' or 'noise' or 'sample'"),
        ({"tau": 0.0}, "tau is 0.0, it must lie in"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionBC(OfflineDataModule(episode_log()).spec, **arguments)
