"""Tree search against all sequences, a test of maths that pays to look first, and soft labels."""

import itertools

import numpy as np
import pytest
import torch
from planned_worlds import imagined
from torch import Tensor

from hindsight_rl.maths.draws import integers, uniform
from hindsight_rl.planners.shooting import Shooting
from hindsight_rl.planners.uct import UCT, Searching
from hindsight_rl.ports import Imagined
from hindsight_rl.spec_parts import ActionSpec

THREE = ActionSpec("discrete", (), n=3, start=1)
NOISE = torch.tensor([[5, 0, 0]])
TABLE = torch.randn(40, 3, generator=torch.Generator().manual_seed(3))
"""Rewards of 40 states and three actions."""


def maze(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """State s goes to 3 s + a + 1 (a tree of depth 3); every 7th state is an end."""
    state = observation[..., 0].long()
    following = 3 * state + action + 1
    reward = TABLE[state.clamp(max=39), action]
    return imagined(following.unsqueeze(-1).float(), reward, following % 7 == 0)


def best_of_maze(state: int, horizon: int) -> dict[int, float]:
    """Return the best return of every first action, by following all sequences."""
    best: dict[int, float] = {}
    for sequence in itertools.product(range(3), repeat=horizon):
        here, total = state, 0.0
        for action in sequence:
            total += float(TABLE[here, action])
            here = 3 * here + action + 1
            if here % 7 == 0:
                break
        best[sequence[0]] = max(best.get(sequence[0], -np.inf), total)
    return best


def searching(planner: UCT, model=maze, action: ActionSpec = THREE, **more) -> Searching:  # noqa: ANN001, ANN003
    actor = planner.actor(model, action, **more)
    assert isinstance(actor, Searching)
    return actor


@pytest.mark.parametrize("state", [0, 1, 2, 3])
def test_uct_finds_what_all_sequences_say(state: int) -> None:
    """TB13: 27 sequences; the best return, and the first action that leads to it."""
    actor = searching(UCT(simulations=400, horizon=3))
    expected = best_of_maze(state, 3)
    seen = np.array([[state]], np.float32)
    action, kept = actor.step(seen, None, {}, NOISE.numpy())
    assert action.tolist() == [1 + max(expected, key=lambda a: expected[a])] and kept == {}
    assert action.dtype == np.int64
    visits = actor.searched(torch.from_numpy(seen), None, NOISE).visits[0, 0]
    assert visits.sum().item() == 400 and visits.min().item() > 0


def test_same_counters_same_tree_for_any_number_of_environments() -> None:
    actor = searching(UCT(simulations=60, horizon=3, rollouts=2))
    seen = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    noise = torch.tensor([[5, row, 2] for row in range(4)])
    together = actor.searched(seen, None, noise)
    for row in range(4):
        alone = actor.searched(seen[row : row + 1], None, noise[row : row + 1])
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one[0], all_[row])


def walk(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Places 0 to 5, left or right; 1 at place 5, which is an end."""
    place = (observation + 2 * action.unsqueeze(-1) - 1).clamp(0, 5)
    there = place[..., 0] == 5
    return imagined(place, there.float(), there)


def test_discount_prefers_the_shorter_way() -> None:
    planner = UCT(simulations=300, horizon=8, discount=0.9)
    actor = searching(planner, walk, ActionSpec("discrete", (), n=2))
    places = np.arange(5, dtype=np.float32)[:, None]
    noise = np.array([[1, row, 0] for row in range(5)])
    assert actor.step(places, None, {}, noise)[0].tolist() == [1] * 5


def test_a_value_takes_the_place_of_playing_out() -> None:
    """Two steps are seen, the way is longer: only a value knows where to go."""
    blind = searching(UCT(simulations=60, horizon=1), walk, ActionSpec("discrete", (), n=2))
    guided = searching(
        UCT(simulations=60, horizon=1),
        walk,
        ActionSpec("discrete", (), n=2),
        value=lambda seen, task: seen[..., 0],
    )
    place = torch.tensor([[2.0]])
    assert blind.searched(place, None, NOISE).high.item() == 0.0
    assert guided.soft_labels(place, None, NOISE).tolist() == [[0.0, 1.0]]


def test_a_prior_is_tried_first_and_can_be_wrong() -> None:
    def prior(observation: Tensor) -> Tensor:
        return torch.tensor([0.9, 0.05, 0.05]).log().expand(len(observation), 3)

    few = searching(UCT(simulations=3, horizon=1), prior=prior)
    assert few.searched(torch.zeros(1, 1), None, NOISE).visits[0, 0, 0] >= 2
    many = searching(UCT(simulations=300, horizon=1, exploration=1.25), prior=prior)
    worst = torch.tensor([[float(TABLE[:, 0].argmin())]])  # what the prior likes is bad there
    soft = many.soft_labels(worst, None, NOISE)
    assert soft[0].argmax() == TABLE[int(worst)].argmax() != 0


# --- TB14: a test of maths


class Exam:
    """First look (action 0) or stay home, an end worth 0; then guess: 2 if right, else a loss.

    Looking shows the number, which is drawn then: observation (stage, number).
    """

    def __init__(self, numbers: int, loss: float) -> None:
        self.numbers, self.loss = numbers, loss

    def __call__(
        self, observation: Tensor, action: Tensor, draws: Tensor | None = None
    ) -> Imagined:
        if action.is_floating_point():
            action = action[..., 0].round().long()
        stage, number = observation.unbind(-1)
        shown = torch.zeros_like(number)
        if draws is not None:
            shown = integers(draws, self.numbers).expand_as(number).to(number.dtype)
        looked = (stage == 0) & (action == 0)
        reward = torch.where(action == number, 2.0, -self.loss)
        reward = torch.where(stage == 0, torch.zeros_like(reward), reward)
        following = torch.stack([torch.ones_like(stage), torch.where(looked, shown, 0.0)], -1)
        return imagined(following, reward, ~looked)


START = torch.zeros(1, 2)


def test_a_tree_knows_that_it_will_have_looked() -> None:
    """Closed loop 2: each number that was shown is a node, and the best answer is to say it."""
    search = UCT(simulations=800, horizon=2, outcomes=12)
    actor = searching(search, Exam(3, 2.0), ActionSpec("discrete", (), n=3))
    found = actor.searched(START, None, NOISE)
    assert found.visits[0, 0].argmax().item() == 0
    shown = (found.parent[0] == 0) & ~found.ended[0]
    assert sorted(found.observation[0, shown, 1].tolist()) == [0.0, 1.0, 2.0]
    mean = (found.total[0] / found.visits[0])[shown]
    assert mean.max(-1).values.tolist() == [2.0] * 3
    assert mean.argmax(-1).tolist() == found.observation[0, shown, 1].tolist()


@pytest.mark.parametrize(("numbers", "loss"), [(3, 2.0), (10, 1.0)])
def test_a_plan_of_actions_alone_stays_at_home(numbers: int, loss: float) -> None:
    """TB14: of ten numbers the best guess is worth .1 x 2 - .9 = -.7, of three (2 - 4) / 3."""
    plans = ActionSpec("continuous", (1,), low=(-0.49,), high=(numbers - 0.51,))
    actor = Shooting(horizon=2, samples=600, particles=400).actor(Exam(numbers, loss), plans)
    (first,), _ = actor.step(START.numpy(), None, actor.initial_state(1), NOISE.numpy())
    assert round(float(first[0])) != 0


def test_a_world_whose_luck_is_known_is_too_hopeful() -> None:
    """One outcome: the number that will be shown is known beforehand."""
    search = UCT(simulations=200, horizon=2, outcomes=1)
    actor = searching(search, Exam(3, 2.0), ActionSpec("discrete", (), n=3))
    found = actor.searched(START, None, NOISE)
    shown = (found.parent[0] == 0) & ~found.ended[0]
    assert int(shown.sum()) == 1 and found.high.item() == 2.0


def lottery(observation: Tensor, action: Tensor, draws: Tensor | None = None) -> Imagined:
    """Action 0 pays 1; action 1 pays 5 with .1 (.5 in the mean), and all is over."""
    win = torch.zeros(observation.shape[:-1])
    if draws is not None:
        win = torch.where(uniform(draws) < 0.1, 5.0, 0.0)
    reward = torch.where(action == 0, torch.ones(observation.shape[:-1]), win)
    return imagined(observation, reward, torch.ones(observation.shape[:-1], dtype=torch.bool))


def test_luck_is_averaged_and_not_hoped_for() -> None:
    """TB36: of 0 with .9 and 5 with .1 the mean is .5, and not log E exp = 2.756."""
    actor = searching(
        UCT(simulations=800, horizon=1, outcomes=500, exploration=1.0),
        lottery,
        ActionSpec("discrete", (), n=2),
    )
    found = actor.searched(torch.zeros(1, 1), None, NOISE)
    assert found.visits[0, 0].argmax().item() == 0
    assert (found.total[0, 0, 1] / found.visits[0, 0, 1]).item() == pytest.approx(0.5, abs=0.3)


# --- labels


def test_soft_labels_are_visits_and_actions_are_drawn_from_them() -> None:
    actor = searching(UCT(simulations=50, horizon=3, temperature=1.0))
    seen = torch.zeros(1, 1)
    visits = actor.searched(seen, None, NOISE).visits[0, 0]
    assert torch.allclose(actor.soft_labels(seen, None, NOISE)[0], visits / 50)
    noise = np.array([[5, row, 0] for row in range(300)])
    drawn, _ = actor.step(np.zeros((300, 1), np.float32), None, {}, noise)
    soft = actor.soft_labels(torch.zeros(300, 1), None, torch.from_numpy(noise)).mean(0)
    counts = np.bincount(drawn - 1, minlength=3) / 300
    assert np.abs(counts - soft.numpy()).max() < 4 * np.sqrt(0.25 / 300)


def test_real_numbers_are_an_error() -> None:
    with pytest.raises(ValueError, match="CEM and MPPI plan those"):
        UCT().actor(maze, ActionSpec("continuous", (2,)))


@pytest.mark.parametrize(
    "wrong", [{"simulations": 0}, {"exploration": -1.0}, {"temperature": -1.0}, {"outcomes": -1}]
)
def test_arguments_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        UCT(**wrong)  # type: ignore[arg-type]
