"""Relabeling as inverse RL, transition by transition, with a learner's soft values."""

from typing import Any

import pytest
import torch
from episode_logs import drawn, episode_log
from small_logs import same
from soft_logs import CORNERS, NEXT_ACHIEVED, chunk_for, near, sac_for
from tensordict import TensorDict
from torch import Tensor

from hindsight_rl.keys import DRAWS
from hindsight_rl.maths.draws import fork, uniform
from hindsight_rl.maths.posterior import SoftValues, task_posterior
from hindsight_rl.relabel import soft_scores
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.inverse_trajectory import InverseRL
from hindsight_rl.relabel.inverse_transition import TransitionInverseRL
from hindsight_rl.relabel.random_task import RandomTask
from hindsight_rl.tasks.family import GoalReaching, TaskFamily
from hindsight_rl.tasks.linear import LinearTasks

REWARD, TERMINATED = ("next", "reward"), ("next", "terminated")


def inverse(family: TaskFamily | None = None, **options: Any) -> TransitionInverseRL:
    return TransitionInverseRL(family or GoalReaching(0.5, kind="dense"), **options)


class Table(TaskFamily):
    """Two rows under two tasks, by their numbers: T1c of the published code's form."""

    in_keys = ("index",)
    rewards = torch.tensor([[-1.0, 0.0], [-1.0, -1.0]])
    ends = torch.tensor([[False, True], [False, False]])

    def sample(self, draws: Tensor) -> Tensor:
        return uniform(draws, 7).unsqueeze(-1)

    def log_prior(self, task: Tensor) -> Tensor:
        return torch.zeros(task.shape[:-1])

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        return self.rewards[batch["index"], task[..., 0].long()]

    def terminated(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        return self.ends[batch["index"], task[..., 0].long()]


class Favouring(GoalReaching):
    """Goals right of 1 are three times as likely."""

    def log_prior(self, task: Tensor) -> Tensor:
        return torch.where(task[..., 0] > 1.0, 3.0, 1.0).log()


class Paid(GoalReaching):
    """Goals right of 1 pay 50 for nothing."""

    def reward(self, batch: TensorDict, task: Tensor, *, pairwise: bool = False) -> Tensor:
        plain = super().reward(batch, task, pairwise=pairwise)
        return plain + torch.where(task[..., 0] > 1.0, 50.0, 0.0)


def test_closed_form_of_transitions() -> None:
    """T1c: rewards, log-probabilities, values and ends of a table give its posterior."""
    log_prob = torch.tensor([[-1.0, -0.5], [-0.2, -2.0]])
    values = torch.tensor([[-5.0, -7.0], [-3.0, -9.0]])

    def look_up(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        place = batch["index"], task[..., 0].long()
        return SoftValues(log_prob[place], values[place], torch.tensor(1.0), 0.99)

    chunk, bound = chunk_for(
        inverse(Table(), tasks=[[0.0], [1.0]]), look_up, updates=1, batch_size=2
    )
    chunk.set("index", torch.tensor([[0, 1]]))
    expected = torch.tensor([[[0.190352, 0.809648], [0.999709, 0.000291]]])
    torch.testing.assert_close(bound.judge(chunk).posterior, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("discrete", [False, True])
def test_equals_the_algorithm_box_written_as_a_loop(discrete: bool) -> None:
    """Algorithm 1 of HIPI over B items and the B tasks of the batch, with a SAC, pair by pair."""
    sac, family = sac_for(discrete), GoalReaching(0.5)
    options = {"propose": "log", "candidates": 99}
    chunk, bound = chunk_for(
        inverse(family, **options), sac.soft_values, discrete, updates=1, batch_size=6
    )
    items, tasks = chunk[0], chunk[0]["task"]
    scores = torch.zeros(6, 6)
    noise = fork(items[DRAWS], "next action")
    with torch.no_grad():
        for i in range(6):
            for j in range(6):
                item, task = items[i : i + 1], tasks[j : j + 1]
                ahead = item["next", "observation"]
                chosen = sac.actor(ahead, task)
                if discrete:
                    q = sac.critic(ahead, None, task, members=1)[0]
                    value = (torch.softmax(chosen.logits, -1) * q).sum(-1)
                else:
                    action = sac.actor.scale.to_environment(chosen.sample(noise[i : i + 1]))
                    value = sac.critic(ahead, action, task)[0]
                log_pi = sac.actor.log_prob(item["observation"], item["action"], task)
                going = 1.0 - family.terminated(item, task).float()
                scores[i, j] = (family.reward(item, task) - log_pi + sac.discount * going * value)[
                    0
                ]
    excess = scores - torch.logsumexp(scores, dim=0)
    posterior = torch.softmax(excess, dim=1)
    judged = bound.judge(chunk)
    assert torch.equal(judged.tasks[0], tasks)
    torch.testing.assert_close(judged.posterior[0], posterior, rtol=0, atol=1e-5)
    above = uniform(items[DRAWS]).unsqueeze(1)
    picked = (posterior.cumsum(1) <= above).sum(1)
    result = bound(chunk)[0]
    assert torch.equal(result["task"], tasks[picked])
    torch.testing.assert_close(result[REWARD], family.reward(items, tasks[picked]))
    assert len(picked.unique()) > 1


def test_log_z_is_that_of_the_rows_of_each_update() -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS), updates=3, batch_size=8)
    scores = scores_of(bound, chunk)
    each = torch.stack([task_posterior(update) for update in scores])
    torch.testing.assert_close(bound.judge(chunk).posterior, each)
    joined = task_posterior(scores.flatten(0, 1)).unflatten(0, (3, 8))
    assert float((joined - each).abs().max()) > 0.05


def scores_of(bound: TransitionInverseRL, chunk: TensorDict, scale: float = 1.0) -> Tensor:
    """Return the scores ``[K, B, N]`` under the corners that :func:`near` gives."""
    task = torch.tensor(CORNERS).expand(*chunk.batch_size, 4, 2)
    rows = chunk.select("action", "next").unsqueeze(-1).expand(task.shape[:-1])
    values = near(rows, task, chunk[DRAWS])
    going = (~bound.family.terminated(rows, task)).float()
    reward = bound.family.reward(rows, task)
    return reward - scale * values.log_prob + values.discount * going * values.next_value


@pytest.mark.parametrize(("entropy_scale", "weight"), [(0.0, 0.0), (1.0, 1.0), ("learner", 0.5)])
def test_weight_of_the_log_probability(entropy_scale: Any, weight: float) -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS, entropy_scale=entropy_scale))
    expected = task_posterior(scores_of(bound, chunk, weight))
    torch.testing.assert_close(bound.judge(chunk).posterior, expected)


def test_temperature_and_prior() -> None:
    family = Favouring(0.5, kind="dense")
    chunk, bound = chunk_for(inverse(family, tasks=CORNERS, temperature=4.0))
    prior = torch.tensor([1.0, 3.0, 1.0, 3.0]).log()
    expected = task_posterior(scores_of(bound, chunk), prior, temperature=4.0)
    torch.testing.assert_close(bound.judge(chunk).posterior, expected)


def test_a_constant_per_task_changes_nothing_with_log_z_and_much_without() -> None:
    """Fig. 8: 50 for some tasks; without log Z they take all."""
    found = {}
    for family in (GoalReaching, Paid):
        for partition in (True, False):
            relabeler = inverse(family(0.5, kind="dense"), tasks=CORNERS, partition=partition)
            chunk, bound = chunk_for(relabeler, sac_for().soft_values)
            found[family, partition] = bound.judge(chunk).posterior
    difference = found[Paid, True] - found[GoalReaching, True]
    assert float(difference.abs().max()) <= 1e-5
    assert float(found[Paid, False][..., [1, 3]].sum(-1).min()) > 0.999
    assert float(found[GoalReaching, False][..., [1, 3]].sum(-1).mean()) < 0.9


def test_rows_that_keep_their_task_are_neither_judged_nor_counted() -> None:
    seen = []

    def values(batch: TensorDict, task: Tensor, draws: Tensor) -> SoftValues:
        seen.append(task.shape[0])
        return near(batch, task, draws)

    chunk, bound = chunk_for(inverse(tasks=CORNERS, fraction=0.25), values)
    judged = bound.judge(chunk)
    assert sum(seen) == int(judged.rows.sum()) and 0.15 < float(judged.rows.float().mean()) < 0.35
    expected = task_posterior(scores_of(bound, chunk), mask=judged.rows)
    torch.testing.assert_close(judged.posterior[judged.rows], expected[judged.rows])
    result = bound(chunk)
    kept = ~judged.rows
    assert torch.equal(result["task"][kept], chunk["task"][kept])
    assert torch.equal(result[REWARD][kept], chunk[REWARD][kept])
    moved = (result["task"] != chunk["task"]).any(-1).float().mean()
    assert bound.metrics["changed"] == moved


def test_no_row_to_judge_is_not_nan() -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS, fraction=0.0))
    assert bool((bound.judge(chunk).posterior == 0.25).all())
    assert torch.equal(bound(chunk)["task"], chunk["task"])
    assert all(bool(value.isfinite()) for value in bound.metrics.values())


# --- candidates -----------------------------------------------------------------------------------


@pytest.mark.parametrize("propose", ["prior", "log", "reached"])
def test_candidates_are_few_and_come_from_where_they_should(propose: Any) -> None:
    chunk, bound = chunk_for(inverse(propose=propose, candidates=5), updates=3)
    tasks = bound.judge(chunk).tasks
    assert tasks.shape == (3, 5, 2)
    assert not torch.equal(tasks[0], tasks[1])
    for number in range(3):
        source = {
            "prior": episode_log(goals=True).column(NEXT_ACHIEVED),
            "log": chunk["task"][number],
            "reached": chunk[NEXT_ACHIEVED][number],
        }[propose]
        assert bool((tasks[number][:, None] == source).all(-1).any(1).all())


def test_several_proposals_share_the_candidates_evenly() -> None:
    chunk, bound = chunk_for(inverse(propose=["reached", "log"], candidates=7), updates=3)
    tasks = bound.judge(chunk).tasks
    assert tasks.shape == (3, 7, 2)
    for where, found in ((NEXT_ACHIEVED, tasks[:, :4]), ("task", tasks[:, 4:])):
        assert bool((found[:, :, None] == chunk[where][:, None]).all(-1).any(-1).all())
    for propose in ([], ["log", "log"], ["log", "future"]):
        with pytest.raises(ValueError, match="propose is .*: give one or several of .*, each once"):
            inverse(propose=propose)
    with pytest.raises(ValueError, match="candidates is 1, fewer than the 2 proposals"):
        inverse(propose=["log", "reached"], candidates=1)


def test_reached_states_are_tasks_with_a_margin_of_the_prior() -> None:
    family = GoalReaching((0.1, 0.7))
    for kind in (TransitionInverseRL, InverseRL):
        relabeler = kind(family, candidates=40, propose="reached")
        bound = relabeler.prepare(episode_log(goals=True))
        tasks = bound.choices
        if kind is TransitionInverseRL:
            values = lambda b, t, d: near(b, t[..., :2], d)  # noqa: E731
            chunk, bound = chunk_for(relabeler, values, updates=1)
            tasks = bound.judge(chunk).tasks[0]
        margin = tasks[:, 2]
        assert 0.1 <= float(margin.min()) < 0.2 and 0.6 < float(margin.max()) <= 0.7
        reached = episode_log(goals=True).column(NEXT_ACHIEVED)
        assert bool((tasks[:, None, :2] == reached).all(-1).any(1).all())


def test_candidates_are_states_reached_where_those_are_tasks() -> None:
    """Else they come from the prior, as do fixed tasks; what is asked for is what happens."""
    assert inverse().propose == inverse(GoalReaching((0.1, 0.5))).propose == "reached"
    assert inverse(LinearTasks([0, 0], [1, 1])).propose == inverse(Table()).propose == "prior"
    assert inverse(propose="prior").propose == "prior"
    chunk, bound = chunk_for(inverse(candidates=16))
    where = chunk[NEXT_ACHIEVED]
    assert bool((bound.judge(chunk).tasks[:, :, None] == where[:, None]).all(-1).any(-1).all())


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    for fraction in (1.0, 0.5):
        found = []
        for size in (1, 37, 1 << 20):
            monkeypatch.setattr(soft_scores, "_FORWARD", size)
            chunk, bound = chunk_for(
                inverse(candidates=7, fraction=fraction), sac_for().soft_values, batch_size=9
            )
            found.append(bound.judge(chunk).posterior)
        torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-6)
        torch.testing.assert_close(found[1], found[2], rtol=0, atol=1e-6)


def test_same_draws_same_result_and_the_batch_stays_as_it_is() -> None:
    chunk, bound = chunk_for(inverse(candidates=6), sac_for().soft_values)
    before = chunk.clone()
    assert same(bound(chunk), bound(chunk))
    assert same(chunk, before)


def test_rows_of_an_update_do_not_depend_on_the_chunk() -> None:
    chunk, bound = chunk_for(inverse(candidates=6, fraction=0.5), updates=3)
    assert same(bound(chunk)[1:2], bound(chunk[1:2]))


def test_metrics_are_means_over_updates_of_the_judged_rows() -> None:
    chunk, bound = chunk_for(inverse(candidates=6, fraction=0.5), updates=3)
    judged = bound.judge(chunk)
    bound(chunk)
    entropy = -torch.special.xlogy(judged.posterior, judged.posterior).sum(-1)
    each = [entropy[k][judged.rows[k]].mean() for k in range(3)]
    torch.testing.assert_close(bound.metrics["entropy"], torch.stack(each).mean())
    assert 1 <= float(bound.metrics["effective_tasks"]) <= 6


def test_metrics_say_how_many_steps_are_a_success() -> None:
    """For the task of their row, and for any of the candidates; of the rows that are judged."""
    family = GoalReaching(radius=0.4)
    relabeler = TransitionInverseRL(family, candidates=6, fraction=0.5)
    log = episode_log(task=True, goals=True)
    chunk, chain = drawn(log, relabeler, updates=3, batch_size=40)
    bound = chain.relabelers[0]
    judged, result = bound.judge(chunk), bound(chunk)
    ended = result[TERMINATED][judged.rows].float().mean()
    assert 0 < float(ended) < 1
    torch.testing.assert_close(bound.metrics["fulfilled"], ended)
    near = torch.cdist(chunk[0][NEXT_ACHIEVED], judged.tasks[0]) <= 0.4
    supported = near.any(-1)[judged.rows[0]].float().mean()
    assert 0 < float(supported) < 1
    torch.testing.assert_close(bound.metrics["supported"], supported)


# --- log Z over updates ---------------------------------------------------------------------------


def test_running_log_z_by_hand() -> None:
    """Rate 1/4: the average of Z is 3/4 of the last one and 1/4 of the new one."""
    running = soft_scores.RunningLogZ(0.25)
    z = torch.tensor([[1.0, 8.0], [5.0, 4.0], [2.0, 0.0]])
    found = running(z.log(), torch.arange(3)).exp()
    torch.testing.assert_close(found, torch.tensor([[1.0, 8.0], [2.0, 7.0], [2.0, 5.25]]))
    again = running(torch.full((1, 2), 9.0), torch.tensor([1]))
    torch.testing.assert_close(again.exp(), found[2:])


def test_running_log_z_goes_on_from_its_state_bit_by_bit() -> None:
    options = {"tasks": CORNERS, "partition": "running", "rate": 0.3}
    chunk, straight = chunk_for(inverse(**options), updates=6, batch_size=8)
    whole = straight.judge(chunk).posterior
    _, first = chunk_for(inverse(**options))
    first.judge(chunk[:2])
    _, second = chunk_for(inverse(**options))
    second.load_state_dict(first.state_dict())
    rest = [second.judge(chunk[2:5]).posterior, second.judge(chunk[5:]).posterior]
    assert torch.equal(torch.cat(rest), whole[2:])
    assert torch.equal(second.state_dict()["log_z"], straight.state_dict()["log_z"])
    assert inverse(**options).state_dict() == {}
    own = inverse(tasks=CORNERS).prepare(episode_log(task=True, goals=True))
    own.use(near)
    assert not torch.equal(own.judge(chunk).posterior, whole)
    assert own.state_dict() == {}


def test_running_log_z_of_other_tasks_is_refused() -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS, partition="running"))
    bound(chunk)
    _, other = chunk_for(inverse(tasks=CORNERS[:3], partition="running"))
    with pytest.raises(
        ValueError, match="a running log Z of 4 tasks, this TransitionInverseRL has 3"
    ):
        other.load_state_dict(bound.state_dict())


def test_running_log_z_of_a_rate_of_one_is_that_of_the_update() -> None:
    chunk, plain = chunk_for(inverse(tasks=CORNERS))
    _, running = chunk_for(inverse(tasks=CORNERS, partition="running", rate=1.0))
    torch.testing.assert_close(running.judge(chunk).posterior, plain.judge(chunk).posterior)


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0.0}, "rate is 0.0, it must lie in"),
        ({"partition": "running"}, "a running log Z is for transitions and tasks that stay"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        inverse(**arguments)
    with pytest.raises(ValueError, match="a running log Z"):
        InverseRL(tasks=CORNERS, partition="running")


def test_tasks_to_choose_from_must_be_there() -> None:
    chunk, bound = chunk_for(inverse(propose="log"))
    with pytest.raises(ValueError, match="the log has no 'task' to choose from"):
        bound(chunk.exclude("task"))
    with pytest.raises(ValueError, match="the log has no 'task' to choose from"):
        InverseRL(propose="log").prepare(episode_log(goals=True))


def test_tasks_of_an_earlier_relabeler_are_chosen_from() -> None:
    random = RandomTask(GoalReaching(0.5))
    chunk, chain = chunk_for(Compose([random, inverse(propose="log", candidates=64)]))
    result = chain(chunk)["task"]
    places = episode_log(task=True, goals=True).column(NEXT_ACHIEVED)  # the prior of goals
    assert bool((result.unsqueeze(-2) == places).all(-1).any(-1).all())
    assert not bool((chunk["task"].unsqueeze(-2) == places).all(-1).any(-1).all())


def test_validation_leaves_a_running_log_z_as_it_is() -> None:
    chunk, bound = chunk_for(inverse(tasks=CORNERS, partition="running"))
    with torch.no_grad():
        bound(chunk)
    assert bound.state_dict() == {}
    bound(chunk)
    before = bound.running.log_z.clone()
    with torch.inference_mode():
        later = chunk.copy().set(DRAWS, chunk[DRAWS] + torch.tensor([0, 100, 0]))
        bound(later)
    assert torch.equal(bound.running.log_z, before) and bound.running.updates == 4
