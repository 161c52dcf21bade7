"""The learned task sampler."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import Kept, fit, learner_of
from small_logs import same
from soft_logs import CORNERS, chunk_for, near

from hindsight_rl.agents.sac import SAC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.learned_task import LearnedTask
from hindsight_rl.tasks.family import GoalReaching

DENSE = GoalReaching(0.5, kind="dense")


def learned(**options: Any) -> LearnedTask:
    return LearnedTask(CORNERS, DENSE, **{"hidden": 16, "scored": 16} | options)


def test_learns_the_posterior_of_rows_it_never_scored() -> None:
    """From no knowledge to a tenth of the divergence; rows fall as by TransitionInverseRL."""
    chunk, bound = chunk_for(learned(learning_rate=0.01, temperature=4.0), updates=400)
    _, exact = chunk_for(TransitionInverseRL(DENSE, tasks=CORNERS, temperature=4.0))
    bound(chunk[:1])
    start = float(bound.metrics["sampler_divergence"])
    bound(chunk[1:])
    assert float(bound.metrics["sampler_divergence"]) < 0.1 * start
    last = chunk[-20:]  # seen before, so nothing is learned from it again
    posterior = exact.judge(last).posterior.flatten(0, 1)
    task = bound(last)["task"].flatten(0, 1)
    share = torch.stack([(task == torch.tensor(c)).all(-1).float() for c in CORNERS], -1)
    torch.testing.assert_close(share.mean(0), posterior.mean(0), rtol=0, atol=0.05)
    hit, chance = (share * posterior).sum(-1).mean(), posterior.square().sum(-1).mean()
    torch.testing.assert_close(hit, chance, rtol=0, atol=0.05)


def test_goes_on_from_its_state_bit_by_bit() -> None:
    chunk, straight = chunk_for(learned(), updates=6)
    whole = straight(chunk)
    _, first = chunk_for(learned())
    first(chunk[:2])
    _, second = chunk_for(learned(seed=5))
    second.load_state_dict(first.state_dict())
    assert same(second(chunk[2:4]), whole[2:4]) and same(second(chunk[4:]), whole[4:])
    state, other = straight.state_dict(), second.state_dict()
    assert all(torch.equal(a, b) for a, b in zip(state["weights"], other["weights"], strict=True))
    assert float(other["adam"]["state"][0]["step"]) == 6


def test_batches_that_are_looked_at_again_teach_nothing() -> None:
    chunk, bound = chunk_for(learned(), updates=3)
    bound(chunk)
    before = [weight.clone() for weight in bound.weights]
    with torch.inference_mode():
        bound(chunk)
    assert all(torch.equal(a, b) for a, b in zip(before, bound.weights, strict=True))


def test_validation_teaches_nothing() -> None:
    chunk, bound = chunk_for(learned())
    with torch.inference_mode():
        bound(chunk.clone())
    assert bound.state_dict() == {}


def test_a_look_at_held_out_rows_before_the_first_update_changes_nothing(tmp_path: Path) -> None:
    states = []
    for checks in (0, 2):
        log = episode_log(task=True, goals=True)
        data = OfflineDataModule(log, [learned()], batch_size=32, validation=0.3)
        learner = learner_of(SAC, data.spec)
        fit(learner, data, tmp_path / str(checks), 8, num_sanity_val_steps=checks)
        states.append(data.relabel.state_dict()["0"])
    one, two = (state["weights"] for state in states)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert states[0]["log_z"]["updates"] == states[1]["log_z"]["updates"] == 8


def test_initial_weights_are_those_of_the_seed() -> None:
    log = episode_log(task=True, goals=True)
    torch.manual_seed(1)
    one = learned().prepare(log).weights
    torch.manual_seed(2)
    same_seed, other = learned().prepare(log).weights, learned(seed=1).prepare(log).weights
    assert all(torch.equal(a, b) for a, b in zip(one, same_seed, strict=True))
    assert not torch.equal(one[0], other[0])
    assert float(one[0].detach().abs().max()) <= one[0].shape[0] ** -0.5
    assert learned().prepare(log).state_dict() == {}


def test_discrete_actions_and_rows_that_keep_their_task() -> None:
    values = learner_of(
        SAC, OfflineDataModule(episode_log(task=True, goals=True, discrete=True)).spec
    ).soft_values
    chunk, bound = chunk_for(learned(fraction=0.5), values, discrete=True)
    result = bound(chunk)
    kept = (result["task"] == chunk["task"]).all(-1)
    assert 0.35 < float(kept.float().mean()) < 0.65
    assert torch.equal(result["next", "reward"][kept], chunk["next", "reward"][kept])


def test_trains_beside_a_learner(tmp_path: Path) -> None:
    log = episode_log(task=True, goals=True)
    data = OfflineDataModule(log, [learned()], batch_size=16, updates_per_step=4, validation=0.3)
    kept = Kept()
    options: dict[str, Any] = {"val_check_interval": 4, "log_every_n_steps": 4, "logger": kept}
    fit(learner_of(SAC, data.spec), data, tmp_path, 8, **options)
    assert kept.steps_of("data/sampler_divergence") == [4, 8]
    assert data.relabel.state_dict()["0"]["log_z"]["updates"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tasks": []}, "0 tasks and hidden 16 must be at least 1"),
        ({"hidden": 0}, "hidden 0 must be at least 1"),
        ({"scored": 1}, "scored 1 at least 2"),
        ({"temperature": 0.0}, "temperature 0.0 and"),
        ({"rate": 0.0}, "rate 0.0 in"),
        ({"fraction": 2.0}, "fraction is 2.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    plain = {"family": DENSE, "tasks": CORNERS, "hidden": 16}
    with pytest.raises(ValueError, match=message):
        LearnedTask(**plain | arguments)


def test_state_of_another_network_is_refused() -> None:
    chunk, bound = chunk_for(learned())
    bound(chunk)
    _, other = chunk_for(learned(hidden=8))
    with pytest.raises(ValueError, match="set tasks and hidden of LearnedTask as in the run"):
        other.load_state_dict(bound.state_dict())


def test_what_it_cannot_do_is_refused() -> None:
    chunk, bound = chunk_for(learned(), near)
    with pytest.raises(ValueError, match="learns from the rows of one process and one learner"):
        bound(chunk.unsqueeze(1).expand(4, 2, 64))
    with pytest.raises(ValueError, match="LearnedTask judges transitions by a critic"):
        bound.use(None)
