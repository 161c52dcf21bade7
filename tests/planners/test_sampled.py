"""Planners that draw plans: they find what is best, and the same whoever else is planned for."""

import dataclasses
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from planned_worlds import PUSH, broken, cliff, gamble, reach, track
from torch import Tensor

from hindsight_rl.maths.draws import fork, integers
from hindsight_rl.planners.cem import CEM
from hindsight_rl.planners.futures import Futures
from hindsight_rl.planners.mppi import MPPI
from hindsight_rl.planners.planner import Planner
from hindsight_rl.planners.shooting import Shooting
from hindsight_rl.ports import Actor, Imagined, Model
from hindsight_rl.spec_parts import ActionSpec

Array = NDArray[Any]
ICEM = CEM(horizon=4, samples=60, iterations=10, colour=2.0, keep=0.3, shrink=1.25)
PLANNERS = {
    "shooting": Shooting(horizon=1, samples=400),
    "cem": CEM(horizon=4, samples=100, iterations=8),
    "icem": ICEM,
    "mppi": MPPI(horizon=4, samples=400, iterations=4, temperature=0.02),
}
EACH = pytest.mark.parametrize("planner", PLANNERS.values(), ids=PLANNERS)


def acted(actor: Actor, places: list[float], steps: int = 1, first: int = 0) -> list[Array]:
    """Return the actions of some steps in which the world stands still."""
    seen = np.array(places, np.float32)[:, None]
    state, found = actor.initial_state(len(places)), []
    for step in range(steps):
        noise = np.array([[7, first + row, step] for row in range(len(places))], np.int64)
        action, state = actor.step(seen, None, state, noise)
        found.append(action)
    return found


@EACH
def test_the_best_action_is_found(planner: Planner) -> None:
    """The reward is -(u - x)^2 in every step: u = x, and the nearest bound where x is outside."""
    (found,) = acted(planner.actor(track, PUSH), [-0.5, 0.0, 2.2, 9.0])
    assert found.shape == (4, 1) and found.dtype == np.float32
    assert np.abs(found[:, 0] - [-0.5, 0.0, 2.2, 3.0]).max() < 0.25


def test_a_longer_look_ahead_than_the_bounds_reach() -> None:
    """From 0 to 5 by steps of at most 3: first 3; the plan then is 2, 0, 0."""
    actor = CEM(horizon=4, samples=200, iterations=8).actor(reach, PUSH)
    found, state = actor.step(
        np.zeros((1, 1), np.float32), None, actor.initial_state(1), np.zeros((1, 3), np.int64)
    )
    assert found[0, 0] == pytest.approx(3.0, abs=0.15)
    rest = 1.0 + 2.0 * state["plan"][0, :, 0]
    assert rest[0] == pytest.approx(2.0, abs=0.2) and rest[-1] == 1.0  # the centre comes last


@EACH
def test_same_counters_same_plan_for_any_number_of_environments(planner: Planner) -> None:
    """TB37: bit for bit, over steps, so that the state is a row's own too."""
    actor = planner.actor(track, PUSH)
    places = [-0.5, 0.4, 1.1, 2.0, 2.9]
    together = np.stack(acted(actor, places, steps=3))
    for row, place in enumerate(places):
        alone = np.stack(acted(actor, [place], steps=3, first=row))
        assert np.array_equal(alone[:, 0], together[:, row])
    assert not np.array_equal(together, np.stack(acted(actor, places, steps=3, first=1)))


@EACH
def test_actions_stay_inside_the_bounds(planner: Planner) -> None:
    for found in acted(planner.actor(track, PUSH), [-9.0, 50.0], steps=2):
        assert (found >= -1.0).all() and (found <= 3.0).all()


def test_a_warm_start_needs_fewer_iterations() -> None:
    """One iteration a step: the plan goes on from the last one, or begins at the centre again."""
    warm = CEM(horizon=1, samples=30, iterations=1, momentum=0.0, floor=0.1)
    cold = dataclasses.replace(warm, warm_start=False)
    places = np.linspace(-1, 3, 20).tolist()
    for planner in (warm, cold):
        found = acted(planner.actor(track, PUSH), places, steps=4)
        assert not np.array_equal(found[0], found[1])
    state = warm.actor(track, PUSH).initial_state(2)
    assert set(state) == {"plan"} and state["plan"].shape == (2, 1, 1)
    shifted = CEM(horizon=3, samples=50, iterations=6).actor(track, PUSH)
    _, state = shifted.step(
        np.full((1, 1), 0.5, np.float32), None, shifted.initial_state(1), np.zeros((1, 3), np.int64)
    )
    # x, x + .3, x + .6 without its first: .8, 1.1, and the centre, 1.
    assert (1.0 + 2.0 * state["plan"][0, :, 0]).tolist() == pytest.approx([0.8, 1.1, 1.0], abs=0.15)


def test_a_cold_start_forgets() -> None:
    actor = CEM(horizon=2, samples=30, warm_start=False).actor(track, PUSH)
    seen, noise = np.full((1, 1), 2.0, np.float32), np.array([[1, 2, 3]], np.int64)
    fresh, state = actor.step(seen, None, actor.initial_state(1), noise)
    again, _ = actor.step(seen, None, state, noise)
    assert np.array_equal(fresh, again)


def test_elites_are_kept_for_the_next_step() -> None:
    actor = ICEM.actor(track, PUSH)
    state = actor.initial_state(2)
    assert state["elites"].shape == (2, 1, 4, 1)
    _, state = actor.step(np.full((2, 1), 2.0, np.float32), None, state, np.zeros((2, 3), np.int64))
    assert np.abs(state["elites"]).max() > 0


def test_pessimism_prefers_what_is_sure() -> None:
    """Reward u (1 + luck), luck uniform on [-4, 4]: the mean says 3, two deviations say no."""
    bold = CEM(horizon=1, samples=100, particles=32).actor(gamble, PUSH)
    careful = CEM(horizon=1, samples=100, particles=32, pessimism=2.0).actor(gamble, PUSH)
    mean = CEM(horizon=1, samples=100).actor(gamble, PUSH)
    places = [0.0] * 8
    assert acted(bold, places)[0].mean() > 1.5
    assert np.abs(acted(careful, places)[0]).max() < 0.25
    assert acted(mean, places)[0].min() > 2.5


def test_plans_of_a_state_meet_the_same_luck() -> None:
    seen: list[Tensor] = []

    def spy(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Any:
        assert draws is not None
        seen.append(draws.expand(*observation.shape[:-1], 3))
        return gamble(observation, action, draws)

    acted(CEM(horizon=2, samples=5, iterations=1, particles=3).actor(spy, PUSH), [0.0, 1.0])
    assert [draws.shape for draws in seen] == [(2, 5, 3, 3)] * 2
    assert all(torch.equal(draws[:, 0], draws[:, 4]) for draws in seen)
    keys = torch.stack(seen)[:, :, 0, :, 0].flatten()
    assert len(keys.unique()) == 2 * 3  # of each step and particle


class Undecided:
    """Two members: pushes move right or left; what is earned is the place, squared."""

    def imagine(self, observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
        """Return a step of a member that is drawn for it."""
        assert draws is not None
        right = integers(fork(draws, "member"), torch.tensor(2)).bool().expand(action.shape[:-1])
        return self._moved(observation, action, torch.where(right, 1.0, -1.0))

    def each_elite(self) -> list[Model]:
        """Return both."""
        return [partial(self._of, sign) for sign in (1.0, -1.0)]

    def _of(
        self, sign: float, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        return self._moved(observation, action, torch.full(action.shape[:-1], sign))

    def _moved(self, observation: Tensor, action: Tensor, sign: Tensor) -> Imagined:
        place = observation + sign.unsqueeze(-1) * action
        still = torch.zeros_like(sign)
        return Imagined(place, place[..., 0].square(), still.bool(), still)


def test_a_member_lasts_for_a_whole_plan() -> None:
    """From 0 by 1 and 1: each member goes 2 far and earns 1 + 4; drawn anew, some go back."""
    plans, draws = torch.ones(1, 1, 2, 1), torch.zeros(1, 3, dtype=torch.int64)
    for particles in (1, 2, 5):
        futures = Futures(Undecided(), None, 1.0, particles, 1.0, lasting=True)
        assert futures.score(torch.zeros(1, 1), None, plans, draws).tolist() == [[5.0]]
    anew = Futures(Undecided(), None, 1.0, 64, 0.0).score(torch.zeros(1, 1), None, plans, draws)
    assert 1.0 < float(anew) < 5.0 and float(anew) == pytest.approx(3.0, abs=0.75)


def test_members_that_cannot_last() -> None:
    with pytest.raises(ValueError, match="lasting asks one member .* this model has none"):
        CEM(particles=2, lasting=True).actor(gamble, PUSH)
    with pytest.raises(ValueError, match="lasting is of particles, and there are none"):
        CEM(lasting=True)


def test_an_end_is_worth_nothing_more() -> None:
    """Staying pays 1 a step, the cliff 1.5 once: over 4 steps it is left alone, over 1 taken."""
    far = CEM(horizon=4, samples=200).actor(cliff, PUSH)
    near = CEM(horizon=1, samples=200).actor(cliff, PUSH)
    assert acted(far, [0.0])[0][0, 0] < 1.0 < acted(near, [0.0])[0][0, 0]


def test_value_at_the_horizon_counts_unless_it_ended() -> None:
    def value(observation: Tensor, task: Tensor | None) -> Tensor:
        return 2.0 * (observation[..., 0] <= 1.0)

    one = CEM(horizon=1, samples=200)
    assert acted(one.actor(cliff, PUSH, value=value), [0.0])[0][0, 0] < 1.0
    paid = one.actor(cliff, PUSH, value=lambda seen, task: 9.0 * seen[..., 0])
    assert acted(paid, [0.0])[0][0, 0] < 1.0  # an end has no value, however far it goes


def test_value_is_given_the_task() -> None:
    def value(observation: Tensor, task: Tensor | None) -> Tensor:
        assert task is not None
        return -(observation - task).square().sum(-1)

    def drift(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Any:
        return reach(observation, action)._replace(reward=torch.zeros(observation.shape[:-1]))

    actor = CEM(horizon=1).actor(drift, PUSH, value=value)
    goal = np.array([[2.0], [-0.5]], np.float32)
    found, _ = actor.step(
        np.zeros((2, 1), np.float32), goal, actor.initial_state(2), np.zeros((2, 3), np.int64)
    )
    assert np.abs(found - goal).max() < 0.2


@EACH
def test_states_that_nobody_can_judge_keep_their_plan_and_leave_others_alone(
    planner: Planner,
) -> None:
    actor = planner.actor(broken, PUSH)
    with pytest.warns(UserWarning, match="no finite score for any plan of 1 of 2 states"):
        (found,) = acted(actor, [-1.0, 1.0])
    assert found[0, 0] == 1.0  # the centre: no plan was made
    assert found[1, 0] == pytest.approx(1.0, abs=0.2)
    with pytest.warns(UserWarning, match="no finite score"):
        _, state = actor.step(
            np.array([[-1.0]], np.float32),
            None,
            actor.initial_state(1),
            np.zeros((1, 3), np.int64),
        )
    assert not state["plan"].any()


def half_broken(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Any:
    """No number for u > 1, where the reward would be best."""
    found = track(observation, action)
    return found._replace(reward=torch.where(action[..., 0] > 1.0, torch.nan, found.reward))


@EACH
def test_a_plan_without_a_number_never_wins(planner: Planner) -> None:
    (found,) = acted(planner.actor(half_broken, PUSH), [2.5, 0.2])
    assert found[0, 0] <= 1.01 and found[1, 0] == pytest.approx(0.2, abs=0.35)


def test_best_plan_or_mean_plan() -> None:
    best = dataclasses.replace(CEM(horizon=1, samples=50, iterations=1), answer="best")
    mean = CEM(horizon=1, samples=50, iterations=1)
    places = np.linspace(-1, 3, 30)
    error = [
        np.abs(acted(planner.actor(track, PUSH), places.tolist())[0][:, 0] - places).mean()
        for planner in (best, mean)
    ]
    assert error[0] < error[1]


@pytest.mark.parametrize("cost", [False, True])
def test_the_control_cost_pulls_to_the_centre(cost: bool) -> None:
    planner = MPPI(horizon=1, samples=500, iterations=6, temperature=1.0, relative=False, cost=cost)
    (found,) = acted(planner.actor(track, PUSH), [2.5])
    assert (found[0, 0] < 2.2) == cost


WRONG = [
    (lambda: CEM(horizon=0), "horizon 0"),
    (lambda: CEM(elites=0.0), "elites 0.0"),
    (lambda: CEM(momentum=1.0), "momentum 1.0"),
    (lambda: CEM(shrink=0.5), "shrink"),
    (lambda: CEM(answer="median"), "answer is 'median'"),  # type: ignore[arg-type]
    (lambda: MPPI(temperature=0.0), "temperature 0.0"),
    (lambda: MPPI(discount=1.5), "discount is 1.5"),
    (lambda: Shooting(samples=0), "samples 0"),
    (lambda: MPPI(pessimism=-1.0), "pessimism"),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[message for _, message in WRONG])
def test_arguments_out_of_range(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


UNFIT = [
    (ActionSpec("discrete", (), n=3), "one of 3 choices"),
    (ActionSpec("continuous", (1,)), "actions have none"),
    (ActionSpec("continuous", (1,), low=(None,), high=(1.0,)), "actions have none"),
    (ActionSpec("continuous", (2, 2), low=(0.0,), high=(1.0,)), r"actions \[A\]"),
]


@pytest.mark.parametrize(("action", "message"), UNFIT, ids=[message for _, message in UNFIT])
def test_actions_that_cannot_be_sampled(action: ActionSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CEM().actor(reach, action)


def test_observations_by_entry_are_an_error() -> None:
    actor = CEM().actor(reach, PUSH)
    with pytest.raises(ValueError, match="was shown"):
        actor.step({"x": np.zeros((1, 1))}, None, actor.initial_state(1), np.zeros((1, 3)))


def test_planners_are_actors_and_worlds_are_models() -> None:
    assert isinstance(CEM().actor(reach, PUSH), Actor) and isinstance(reach, Model)
