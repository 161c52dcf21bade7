"""QLearning: Watkins' rule by gradient descent, and the two crossing trajectories of T8."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import data_for, fit, whole_log
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.agents.q_learning import QLearning
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.maths.posterior import task_posterior
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.scoring import Scoring
from hindsight_rl.tasks.family import GoalReaching

# Two ways cross at X. Action 0 stays, and is what a policy does where it knows nothing.
STATES = "AaXuBCcdD"
WAYS = (("AaXuB", "1111"), ("CcXdD", "1121"))
GOALS = torch.eye(2)  # B and D
FAR = -20.0


def state(names: str) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor([*map(STATES.index, names)]), 9).float()


def crossing(labels: list[tuple[int, int]]) -> Log:
    """Return a log whose episode i is a way under a task: reward 0 where it enters the goal."""
    columns: dict[Any, list[Tensor]] = {}
    for episode, (way, goal) in enumerate(labels):
        cells, actions = WAYS[way]
        reached = torch.tensor([cell == "BD"[goal] for cell in cells[1:]])
        end = torch.tensor([False] * 3 + [True])
        row: dict[Any, Tensor] = {
            "observation": state(cells[:-1]),
            "action": torch.tensor([*map(int, actions)]),
            "task": GOALS[goal].expand(4, 2),
            "episode": torch.full((4,), episode),
            ("next", "observation"): state(cells[1:]),
            ("next", "reward"): reached.float() - 1.0,
            ("next", "terminated"): reached,
            ("next", "truncated"): end & ~reached,
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    info = {"discrete_actions": 3}
    return Log.from_columns({key: torch.cat(parts) for key, parts in columns.items()}, info)


def fitted(log: Log, folder: Path) -> QLearning:
    data = OfflineDataModule(log, batch_size=1, updates_per_step=50)
    learner = QLearning(data.spec, initial_value=FAR, discount=1.0)
    fit(learner, data, folder, 400)
    return learner


def successes(learner: QLearning) -> list[list[int]]:
    """Return whether the greedy policy gets from A and C (rows) to B and D (columns)."""
    step = {(cells[i], int(way[i])): cells[i + 1] for cells, way in WAYS for i in range(4)}

    def arrives(cell: str, goal: int) -> int:
        for _ in range(10):
            action = int(learner(state(cell), GOALS[goal : goal + 1]))
            cell = step.get((cell, action), cell)
        return int(cell == "BD"[goal])

    return [[arrives(start, goal) for goal in (0, 1)] for start in "AC"]


def value(learner: QLearning, cell: str, goal: int) -> Tensor:
    return learner.scores(state(cell), GOALS[goal : goal + 1])[0].detach()


def test_final_state_labels_reach_one_goal_from_each_start(tmp_path: Path) -> None:
    """T8: each way is known under its own end only."""
    learner = fitted(crossing([(0, 0), (1, 1)]), tmp_path)
    assert successes(learner) == [[1, 0], [0, 1]]
    assert value(learner, "A", 0)[1] == -3.0 and value(learner, "C", 1)[1] == -3.0
    assert (value(learner, "A", 1) == FAR).all() and (value(learner, "C", 0) == FAR).all()


def test_inverse_rl_labels_reach_both_goals_from_both_starts(tmp_path: Path) -> None:
    """T8: what leads to X belongs to both goals, by the posterior of the soft values."""
    scores = torch.tensor(
        [[-3.0, -3], [-2, -2], [-1, FAR], [0, FAR], [-3, -3], [-2, -2], [FAR, -1], [FAR, 0]]
    )
    posterior = task_posterior(scores)
    both = [0, 1, 4, 5]
    torch.testing.assert_close(posterior[both], torch.full((4, 2), 0.5))
    torch.testing.assert_close(posterior[[2, 3, 6, 7]].round(), GOALS.repeat_interleave(2, 0))
    # Every row of either way under every goal it may have been for.
    log = crossing([(0, 0), (0, 1), (1, 0), (1, 1)])
    wanted = torch.stack([posterior[:4, 0], posterior[:4, 1], posterior[4:, 0], posterior[4:, 1]])
    learner = fitted(log.with_rows((wanted.flatten() > 0.1).nonzero().squeeze(1)), tmp_path)
    assert successes(learner) == [[1, 1], [1, 1]]
    for goal in (0, 1):
        assert value(learner, "A", goal)[1] == -3.0 and value(learner, "C", goal)[1] == -3.0
        found = value(learner, "X", goal).tolist()
        assert found == ([FAR, -1.0, FAR] if goal == 0 else [FAR, FAR, -1.0])


def test_inverse_rl_by_the_table_itself(tmp_path: Path) -> None:
    """The table judges transitions while it is learned, and ends at the values of T8."""
    log = crossing([(0, 0), (1, 1)])
    log = log.with_columns({("next", "achieved_goal"): log.column(("next", "observation"))})
    goals = [state("B")[0].tolist(), state("D")[0].tolist()]
    relabel = TransitionInverseRL(
        GoalReaching(radius=0.5),
        tasks=goals,
        entropy_scale=0.0,
    )
    data = OfflineDataModule(log, [relabel], batch_size=8, updates_per_step=10)
    rate = 4.0  # of a row in 8: one half
    learner = QLearning(
        data.spec,
        tasks=goals,
        initial_value=FAR,
        discount=1.0,
        optimizer=lambda params: torch.optim.SGD(params, lr=rate),
    )
    fit(learner, data, tmp_path, 400)
    for goal, other in ((0, "D"), (1, "B")):
        task = torch.tensor(goals[goal : goal + 1])
        found = {cell: learner.scores(state(cell), task)[0].max().item() for cell in STATES}
        expected = {"A": -3.0, "a": -2.0, "C": -3.0, "c": -2.0, "X": -1.0, other: FAR}
        for cell, best in expected.items():
            assert found[cell] == pytest.approx(best, abs=1e-4)
    # A table that has converged says by itself what it says one step ahead.
    chunk, found = data._sampler().chunk(0, 50), []
    for by in ("step", "critic"):
        scoring = Scoring(by)  # type: ignore[arg-type]
        judge = TransitionInverseRL(
            GoalReaching(radius=0.5), tasks=goals, entropy_scale=0.0, scoring=scoring
        ).prepare(log)
        judge.use(learner.soft_values)
        found.append(judge.judge(chunk).posterior)
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-4)
    assert 0.1 < float((found[0].amax(-1) < 0.9).float().mean()) < 0.9


def test_soft_values_are_of_the_task_that_is_asked_for() -> None:
    data = OfflineDataModule(crossing([(0, 0)]))
    learner, batch = QLearning(data.spec, temperature=0.5), whole_log(QLearning(data.spec), data)
    with torch.no_grad():
        learner.critic.value[STATES.index("a"), 1] = torch.tensor([1.0, 5.0, 3.0])
        learner.critic.value[STATES.index("A"), 1] = torch.tensor([0.0, 1.0, 0.0])
    found = learner.soft_values(batch[:1], GOALS[1:], torch.zeros(1, 3, dtype=torch.int64))
    assert found.next_value.tolist() == [5.0] and found.temperature == 0.5
    expected = torch.log_softmax(torch.tensor([0.0, 2.0, 0.0]), -1)[1]
    torch.testing.assert_close(found.log_prob, expected.unsqueeze(0))


def test_one_update_is_the_classic_rule(tmp_path: Path) -> None:
    """One row at rate a: Q += a (r + gamma max Q' - Q), here -100 + 0.5 (-1 - 90 + 100)."""
    log = crossing([(0, 0)])
    first = OfflineDataModule(log.with_rows(torch.tensor([0])), batch_size=1, updates_per_step=1)
    learner = QLearning(
        first.spec, discount=0.9, optimizer=lambda params: torch.optim.SGD(params, lr=0.5)
    )
    fit(learner, first, tmp_path, 1)
    assert value(learner, "A", 0).tolist() == [-100.0, pytest.approx(-95.5), -100.0]
    assert (learner.critic.value != -100.0).sum() == 1
    assert learner.target_critic.value.equal(learner.critic.value)


def test_loss_is_half_the_squared_error_and_ends_count() -> None:
    """The last row enters B: target 0, not 0 - 100; one before: -1 - 100 against -100."""
    data = OfflineDataModule(crossing([(0, 0)]))
    learner = QLearning(data.spec, discount=1.0)
    batch = whole_log(learner, data)
    assert learner.losses(batch[3:]).terms["critic"] == 0.5 * 100.0**2
    assert learner.losses(batch[2:3]).terms["critic"] == 0.5
    halved = batch[2:3].copy().set("discount", torch.tensor([0.5]))
    assert learner.losses(halved).terms["critic"] == 0.5 * 49.0**2
    assert learner.losses(batch).metrics["critic/error_max"] == 100.0


def test_tasks_that_are_no_one_hot_vectors_stand_for_the_nearest() -> None:
    data = OfflineDataModule(crossing([(0, 0), (1, 1)]))
    cells = [[0.0, 0.0], [0.0, 5.0], [4.0, 1.0]]
    learner = QLearning(data.spec, tasks=cells)
    assert learner.critic.value.shape == (9, 3, 3)
    with torch.no_grad():
        learner.critic.value[0, 2, 1] = 7.0
    task = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert learner.scores(state("AA"), task)[:, 1].tolist() == [7.0, -100.0]


def test_actions_are_drawn_from_the_softmax_of_values() -> None:
    """Values 0, -log 3 and -100 at temperature 1: three in four, one in four, never."""
    data = OfflineDataModule(crossing([(0, 0)]))
    learner = QLearning(data.spec)
    with torch.no_grad():
        learner.critic.value[0] = torch.tensor([0.0, -1.0986123, -100.0])
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(2000))[0]
    observation, task = state("A").expand(2000, 9), GOALS[:1].expand(2000, 2)
    assert learner.act(observation, task, draws=draws).float().mean() == pytest.approx(
        0.25, abs=0.03
    )
    assert learner.act(observation, task).sum() == 0


def test_exported_table_answers_as_the_learner(tmp_path: Path) -> None:
    learner = fitted(crossing([(0, 0), (1, 1)]), tmp_path)
    export_policy(learner, tmp_path / "table.onnx")
    policy = OnnxPolicy(tmp_path / "table.onnx")
    for goal in GOALS:
        batch = TensorDict({"o": state(STATES), "z": goal.expand(9, 2)}, batch_size=9)
        found = policy.act(batch["o"].numpy(), batch["z"].numpy())
        assert found.tolist() == learner(batch["o"], batch["z"]).tolist()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"discount": 1.1}, r"discount 1.1 must lie in \[0, 1\] and tau 1.0 in \(0, 1\]"),
        ({"tau": 0.0}, r"tau 0.0 in \(0, 1\]"),
        ({"temperature": 0.0}, r"temperature is 0.0, it must be above 0"),
        ({"tasks": []}, r"tasks must be a list of at least one task of 2 numbers each"),
        ({"tasks": [[1.0]]}, r"tasks must be a list of at least one task of 2 numbers each"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], told: str) -> None:
    spec = OfflineDataModule(crossing([(0, 0)])).spec
    with pytest.raises(ValueError, match=told):
        QLearning(spec, **arguments)


def test_logs_that_no_table_fits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"QLearning chooses discrete actions, and those of the"):
        QLearning(OfflineDataModule(episode_log()).spec)
    with pytest.raises(ValueError, match=r"a table takes one-hot observations \[S\].*shape \[3\]"):
        QLearning(OfflineDataModule(episode_log(discrete=True)).spec)
    spec = data_for(QLearning).spec
    with pytest.raises(ValueError, match=r"1 tasks are given, and the log has no task: leave"):
        QLearning(spec, tasks=[[1.0]])


@pytest.mark.parametrize("arguments", [{"seeds": 2}, {"compile": "update"}])
def test_plain_gradient_descent_is_neither_a_graph_nor_several_seeds(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    """What its page says; with Adam it is both, as the walks of all learners show."""
    data = data_for(QLearning)
    with pytest.raises(ValueError, match="the optimiser must be Adam or AdamW, not SGD"):
        fit(QLearning(data.spec, **arguments), data, tmp_path, 8)
