"""RecurrentDynamics: segments by hand, memory step by step, and a velocity that nobody observes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_dynamics import MEANS, SPREADS, Says, draws_of
from small_fits import data_for, fit, learner_of, whole_log
from torch import Tensor

from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.agents.recurrent_dynamics import RecurrentDynamics
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.horizons import horizon_errors
from hindsight_rl.keys import (
    ACTION,
    COUNTS,
    EPISODE,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    STEP,
    TERMINATED,
    TRUNCATED,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.episode_weights import episode_weights
from hindsight_rl.nets.dynamics import Said
from hindsight_rl.nets.network import Network
from hindsight_rl.ports import Foresees


class SaysOfSegments(Says):
    """The same of every step of segments."""

    def segment(self, observation: Tensor, action: Tensor) -> Said:
        """Return ``[E, B, L, D]`` twice."""
        return self(observation, action)


def model_of(log: Log | None = None, **arguments: Any) -> tuple[RecurrentDynamics, Any]:
    data = data_for(RecurrentDynamics, log, arguments)
    model = learner_of(RecurrentDynamics, data.spec, **arguments)
    whole_log(model, data)
    return model, data


def test_loss_is_the_mean_over_steps_that_are_fitted() -> None:
    """Of segments of 4 with 2 warmed up, unless an episode begins there; nothing behind its end."""
    model, data = model_of(members=2, elites=1, segment=4, burn_in=2)
    model.ensemble = SaysOfSegments(MEANS, SPREADS)
    batch, log = whole_log(model, data), data.log
    step = log.column(NEXT_OBSERVATION) - log.column(OBSERVATION)
    step = torch.cat([step, log.column(REWARD)[:, None]], -1)
    y = (step - model.outcomes.mean) / model.outcomes.std
    mean, lv = torch.tensor(MEANS)[:, None], torch.tensor(SPREADS)[:, None]
    by_row = ((mean - y).square() / lv.exp() + lv).mean(-1)
    expected, ended, count = torch.zeros(2, 47), [], 0
    for row in range(47):
        for place in range(4):
            inside = (
                row + place < 47
                and log.column(EPISODE)[row] == log.column(EPISODE)[min(row + place, 46)]
            )
            if inside and (place >= 2 or log.column(STEP)[row] == 0):
                expected[:, row] += by_row[:, row + place]
                ended.append(bool(log.column(TERMINATED)[row + place]))
                count += 1
    found = model.eval().losses(batch)
    torch.testing.assert_close(found.terms["ensemble"], expected.sum() / count + 0.53)
    share = sum(ended) / count
    assert float(found.metrics["ending/terminated"]) == pytest.approx(share)
    counts = episode_weights(batch["index"], 2, "segments of a model")
    assert batch[COUNTS].T.equal(counts)
    weighed = model.train().losses(batch).terms["ensemble"]
    torch.testing.assert_close(weighed, (counts * expected).sum() / count + 0.53)
    # Elites are chosen by the same steps.
    mean, _, came = model.judged(batch)
    assert mean.shape == (2, count, 4) and came.shape == (count, 4)


@pytest.mark.parametrize("discrete", [False, True])
def test_memory_step_by_step_is_that_of_a_segment(discrete: bool) -> None:
    """Each member has its own; rows do not touch each other's."""
    log = episode_log((12, 12), discrete=discrete)
    model, _ = model_of(log, members=3, elites=2, segment=4, burn_in=1)
    assert isinstance(model, Foresees)
    here, action = (log.column(key).unflatten(0, (2, 12)) for key in (OBSERVATION, ACTION))
    with torch.no_grad():
        whole = model.ensemble.segment(here, action)
        memory = model.initial_memory(2)
        assert memory["hidden"].shape == (2, 3, 64)
        for step in range(12):
            found = model.foresee(here[:, step], action[:, step], memory, draws_of(2))
            torch.testing.assert_close(found.mean, whole.mean[:, :, step])
            torch.testing.assert_close(found.std, (0.5 * whole.log_variance[:, :, step]).exp())
            assert found.imagined.next_observation.shape == (2, 3)
            memory = found.memory
        # Draws side by side, as the errors by horizon have them.
        many = {name: value.expand(5, *value.shape) for name, value in memory.items()}
        rows = here[:, 0].expand(5, 2, 3), action[:, 0].expand(5, *action[:, 0].shape)
        wide = model.foresee(*rows, many, draws_of(5, 2))
        assert wide.memory["hidden"].shape == (5, 2, 3, 64)
        torch.testing.assert_close(wide.memory["hidden"][3], wide.memory["hidden"][0])


def test_a_step_alone_is_refused() -> None:
    model, data = model_of()
    rows = data.log.column(OBSERVATION), data.log.column(ACTION)
    with pytest.raises(ValueError, match="RecurrentDynamics remembers: .* Carry memory along"):
        model.imagine(*rows)
    with pytest.raises(ValueError, match="these members remember: pass memory"):
        model.foresee(*rows, {})


def test_arguments_out_of_range() -> None:
    spec = OfflineDataModule(episode_log()).spec
    for wrong in (
        {"units": 0},
        {"segment": 1},
        {"burn_in": 16},
        {"elites": 6},
        {"margin": -1.0},
        {"weight_decay": (-1.0,)},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RecurrentDynamics(spec, **wrong)


def coasting(episodes: int, seed: int) -> Log:
    """Return what is seen of carts: where they are, not how fast they go; actions push them."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randn(episodes, generator=generator)
    speed = torch.randn(episodes, generator=generator)
    push = 0.3 * torch.randn(20, episodes, generator=generator)
    seen = [place]
    for step in range(20):
        speed = speed + push[step]
        seen.append(seen[-1] + speed)
    places = torch.stack(seen, 1).unsqueeze(-1)
    rows = episodes * 20
    ended = torch.zeros(episodes, 20, dtype=torch.bool)
    ended[:, -1] = True
    columns: dict[Any, Tensor] = {
        OBSERVATION: places[:, :-1].flatten(0, 1),
        NEXT_OBSERVATION: places[:, 1:].flatten(0, 1),
        ACTION: push.T.reshape(rows, 1),
        EPISODE: torch.arange(episodes).repeat_interleave(20),
        REWARD: torch.zeros(rows),
        TERMINATED: torch.zeros(rows, dtype=torch.bool),
        TRUNCATED: ended.flatten(),
    }
    return Log.from_columns(columns, {})


def test_it_finds_a_speed_that_nobody_observes(tmp_path: Path) -> None:
    """A model of single steps cannot: errors by horizon, after the logged steps before."""
    others, errors = coasting(10, 9), {}
    late = torch.arange(200).reshape(10, 20)[:, 3:].flatten()  # a speed takes two places
    for kind, own in (
        (RecurrentDynamics, {"units": 16, "segment": 8, "burn_in": 2}),
        (Dynamics, {}),
    ):
        data = data_for(kind, coasting(60, 0), {"termination": "none"}, batch_size=32)
        model = learner_of(
            kind,
            data.spec,
            network=Network(hidden=(16,)),
            members=2,
            elites=2,
            termination="none",
            learning_rates={"ensemble": 5e-3},
            **own,
        )
        fit(model, data, tmp_path, 300)
        errors[kind] = horizon_errors(model.eval(), others, late, horizon=3)
    for remembers, forgets in zip(errors[RecurrentDynamics], errors[Dynamics], strict=True):
        assert remembers.error < 0.3 * forgets.error
