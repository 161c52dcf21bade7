"""What Dynamics imagines: shapes, luck, elites, ranges, disagreement, terminations."""

import sys
from types import ModuleType

import pytest
import torch
from episode_logs import episode_log
from small_dynamics import MEANS, SPREADS, Says, draws_of, model_of
from small_fits import whole_log
from torch import Tensor

from hindsight_rl.keys import (
    ACTION,
    NEXT_OBSERVATION,
    OBSERVATION,
    REWARD,
    TERMINATED,
)
from hindsight_rl.logs.log import Log
from hindsight_rl.ports import Model


@pytest.mark.parametrize("discrete", [False, True])
def test_imagined_steps_have_the_shape_of_their_rows(discrete: bool) -> None:
    model, data = model_of(episode_log(discrete=discrete))
    assert isinstance(model.imagine, Model)
    here, action = (data.log.column(key)[:40] for key in (OBSERVATION, ACTION))
    rows = here.reshape(4, 10, 3), action.reshape(4, 10, *action.shape[1:])
    for draws in (None, draws_of(4, 10)):
        found = model.imagine(*rows, draws)
        assert found.next_observation.shape == (4, 10, 3)
        assert found.reward.shape == found.disagreement.shape == (4, 10)
        assert found.terminated.shape == (4, 10) and found.terminated.dtype == torch.bool
        flat = model.imagine(here, action, None if draws is None else draws.reshape(40, 3))
        for one, other in zip(found, flat, strict=True):
            torch.testing.assert_close(one.flatten(0, 1), other)
        alone = model.imagine(here[7], action[7], None if draws is None else draws[0, 7])
        for one, other in zip(alone, flat, strict=True):
            torch.testing.assert_close(one, other[7])


def test_equal_draws_equal_luck() -> None:
    model, data = model_of()
    here, action = (data.log.column(key)[:8] for key in (OBSERVATION, ACTION))
    one, again = (model.imagine(here, action, draws_of(8)) for _ in range(2))
    assert all(a.equal(b) for a, b in zip(one, again, strict=True))
    other = model.imagine(here, action, draws_of(8, seed=1))
    assert not other.next_observation.equal(one.next_observation)
    # A counter for all rows: common luck.
    alike = model.imagine(here[:1].expand(8, 3), action[:1].expand(8, 2), draws_of(1))
    assert bool((alike.next_observation == alike.next_observation[0]).all())


def test_one_elite_each_imagines_by_its_own_distribution() -> None:
    """A mixture of two normals in every output; the third member is no elite."""
    model, _ = model_of(members=3, elites=2, termination="none")
    model.ensemble = Says([*MEANS, [99.0] * 4], [*SPREADS, [0.0] * 4])
    model.elite.copy_(torch.tensor([1.0, 1.0, 0.0]))
    out = model.outcomes
    for part, number in ((out.mean, 0.0), (out.std, 1.0), (out.low, -100.0), (out.high, 100.0)):
        part.fill_(number)
    here, action = torch.zeros(20_000, 3), torch.zeros(20_000, 2)
    found = model.imagine(here, action, draws_of(20_000))
    # Mixture of two normals: mean of the means, mean of squares less its square.
    mean, variance = torch.tensor(MEANS), torch.tensor(SPREADS).exp()
    both = mean.mean(0)
    spread = (variance + mean.square()).mean(0) - both.square()
    drawn = torch.cat([found.next_observation, found.reward[:, None]], -1)
    torch.testing.assert_close(drawn.mean(0), both, rtol=0, atol=0.06)
    torch.testing.assert_close(drawn.var(0), spread, rtol=0.05, atol=0)
    plain = model.imagine(here[0], action[0])
    torch.testing.assert_close(plain.next_observation, both[:3])
    torch.testing.assert_close(plain.reward, both[3])


def test_imagined_observations_stay_near_the_log_and_on_the_circle() -> None:
    model, data = model_of(members=1, elites=1, termination="none", margin=0.1, angles=((2, 0),))
    model.ensemble = Says([[0.0, 1e4, 3.0, 1e4]], [[-9.0] * 4])
    here, action = (data.log.column(key) for key in (OBSERVATION, ACTION))
    found = model.imagine(here, action)
    low, high = model.outcomes.low[1], model.outcomes.high[1]
    torch.testing.assert_close(found.next_observation[:, 1].amax(), high + 0.1 * (high - low))
    assert bool((found.reward == data.log.column(REWARD).amax()).all())
    pair = found.next_observation[:, [0, 2]]
    torch.testing.assert_close(pair.norm(dim=-1), torch.ones(len(here)))
    tight, _ = model_of(members=1, elites=1, termination="none", margin=0.0)
    tight.ensemble = model.ensemble
    assert tight.imagine(here, action).next_observation[:, 1].amax() == high


def test_disagreement_is_of_the_chosen_kind() -> None:
    """TB2 through the learner: three members, two observations and a reward."""
    log = episode_log()
    two = {key: log.column(key)[:, :2] for key in (OBSERVATION, NEXT_OBSERVATION)}
    log = Log.from_columns(
        {key: log.column(key) for key in log.keys()} | two,
        log.info,  # noqa: SIM118
    )
    std = torch.tensor([[0.1, 0.2, 0.2], [0.3, 1e-9, 0.4], [0.2, 0.2, 0.1]])
    means = [[1, 0, 0.5], [1.2, 0.1, 0.5], [0.9, -0.3, 0.8]]
    expected = {
        "aleatoric_max": 0.5,
        "mean_deviation": 0.268742,
        "pairwise": 0.5,
        "ensemble_std": 0.210819,
        "total_std": 0.455826,
    }
    for kind, value in expected.items():
        model, _ = model_of(log, members=3, elites=3, uncertainty=kind)
        model.ensemble = Says(means, (2 * std.log()).tolist())
        found = model.imagine(torch.zeros(5, 2), torch.zeros(5, 2)).disagreement
        torch.testing.assert_close(found, torch.full((5,), value), rtol=0, atol=2e-6)


# --- terminations ---------------------------------------------------------------------------------


def falls(observation: Tensor, action: Tensor, following: Tensor) -> Tensor:
    """Return whether the first number falls below 0."""
    return following[..., 0] < 0


def test_terminations_may_be_given_or_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_robot")
    vars(module).update(falls=falls, wrong=lambda *step: step[0], text="no function")
    monkeypatch.setitem(sys.modules, "my_robot", module)
    model, data = model_of(termination="my_robot:falls")
    assert set(model.networks()) == {"ensemble"} and TERMINATED not in model.in_keys
    here, action = (data.log.column(key) for key in (OBSERVATION, ACTION))
    found = model.imagine(here, action, draws_of(len(here)))
    assert found.terminated.equal(found.next_observation[:, 0] < 0)
    never, _ = model_of(termination="none")
    assert not never.imagine(here, action, draws_of(len(here))).terminated.any()
    wrong, _ = model_of(termination="my_robot:wrong")
    with pytest.raises(ValueError, match=r"my_robot:wrong must return a tensor \[47\] bool, one"):
        wrong.imagine(here, action)
    for name, message in {
        "robot.fell": "termination is 'robot.fell': give 'module:function'",
        "elsewhere:fell": "elsewhere is not imported; import it first. Add --import elsewhere",
        "my_robot:fell": "my_robot has no function fell",
        "my_robot:text": "my_robot has no function text",
    }.items():
        with pytest.raises(ValueError, match=message):
            model_of(termination=name)


def test_a_log_without_terminations_is_refused_unless_there_are_none() -> None:
    log = episode_log()
    log = log.with_columns({TERMINATED: torch.zeros(47, dtype=torch.bool)})
    with pytest.raises(ValueError, match="none of the 47 rows .* set termination to 'none'"):
        model_of(log)
    model_of(log, termination="none")


def test_odds_of_an_ending_are_those_of_the_log() -> None:
    """Rows without a difference, a tenth of them terminated: .1, though each counts nine times."""
    model, data = model_of()
    ending = model.ending
    batch = whole_log(model, data)
    batch[TERMINATED] = (torch.arange(47) % 10) == 0
    ending.weight.fill_(8.4)
    odds = torch.zeros((), requires_grad=True)
    vars(ending)["forward"] = lambda *step: odds.expand(len(step[0]))
    share = batch[TERMINATED].float().mean()
    best = torch.log(8.4 * share / (1 - share))
    with torch.no_grad():
        odds.copy_(best)
    rows = batch[OBSERVATION], batch[ACTION], batch[OBSERVATION], batch[TERMINATED]
    loss, chance = ending.loss(*rows)
    torch.testing.assert_close(torch.autograd.grad(loss.mean(), odds)[0], torch.tensor(0.0))
    torch.testing.assert_close(chance, share.expand(47))
    drawn = ending.ended(*[torch.zeros(20_000, 3)] * 3, draws_of(20_000))
    assert float(drawn.float().mean()) == pytest.approx(float(share), abs=0.01)
    assert not ending.ended(*[torch.zeros(4, 3)] * 3, None).any()
