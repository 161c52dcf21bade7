"""ExpertAction and ExpertLabels: whose action is imitated, in which rows, and by whom."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import policy_files
import pytest
import torch
from episode_logs import HIGH, LOW, bind, episode_log
from small_fits import LEARNERS, data_for, learner_of
from small_logs import small

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.chain import Compose
from hindsight_rl.relabel.expert_action import ExpertAction
from hindsight_rl.relabel.expert_labels import ExpertLabels
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.windows import Window

NAN = float("nan")
# Of five rows, episodes of 3 and 2: the second and the last have no label.
LABELS = torch.tensor([[0.1], [NAN], [0.3], [0.4], [NAN]])


def labelled(**more: Any) -> Log:
    """Return five rows whose executed action is 9 and whose labels are ``LABELS``."""
    return small(action=torch.full((5, 1), 9.0), expert_action=LABELS, **more)


def seconds(observation: Any, task: Any, env: Any) -> Any:
    """Return the last two of three numbers, beyond the bounds where the first is above 1."""
    assert env is None
    return np.where(observation[:, :1] > 1, 99.0, observation[:, 1:])


# --- which action, which rows --------------------------------------------------------------------


def test_the_action_of_a_batch_is_the_experts_and_rows_without_are_never_drawn() -> None:
    ready, bound = bind(labelled(), ExpertAction())
    assert ready.drawable().tolist() == [0, 2, 3]
    assert ready.column("action")[[0, 2, 3], 0].tolist() == pytest.approx([0.1, 0.3, 0.4])
    assert bound.labelled.tolist() == [True, False, True, True, False]
    data = OfflineDataModule(labelled(), [ExpertAction()], batch_size=64, updates_per_step=2)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 2), 0)
    assert set(batch["index"].flatten().tolist()) == {0, 2, 3}
    assert torch.equal(batch["action"], LABELS[batch["index"]])


def test_statistics_of_actions_are_those_of_the_expert() -> None:
    """An executed 9 neither shifts the mean nor widens the range that a policy is given."""
    spec = OfflineDataModule(labelled(), [ExpertAction()]).spec
    assert spec.action.mean == pytest.approx(((0.1 + 0.3 + 0.4) / 3,), abs=1e-6)
    assert max(spec.action.quantiles[0]) == pytest.approx(0.4)


def test_choices_keep_the_numbers_of_the_log() -> None:
    log = small(action=torch.tensor([3, 3, 4, 3, 4]), expert_action=torch.tensor([4, NAN, 3, 4, 4]))
    log = Log.from_columns({k: log.column(k) for k in log.keys()}, {"action_start": 3})
    ready, _ = bind(log, ExpertAction())
    assert ready.column("action").dtype == torch.int64
    assert ready.column("action")[ready.drawable()].tolist() == [4, 3, 4, 4]
    data = OfflineDataModule(log, [ExpertAction()], batch_size=8)
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
    chosen = torch.tensor([1, -1, 0, 1, 1])[batch["index"]]
    assert torch.equal(batch["action"], chosen)


def test_takeovers_are_what_was_executed_where_somebody_intervened() -> None:
    """HG-DAgger: labels 'action', only 'intervened'."""
    log = labelled(intervened=torch.tensor([0.0, 1.0, 1.0, 0.0, 0.0]))
    ready, _ = bind(log, ExpertAction("action", only="intervened"))
    assert ready.drawable().tolist() == [1, 2]
    assert ready.column("action").flatten().tolist() == [9.0] * 5
    ready, _ = bind(log, ExpertAction(only="intervened"))
    assert ready.drawable().tolist() == [2]


def test_filters_before_and_behind_choose_among_the_labelled() -> None:
    log = labelled()
    ready, _ = bind(log, Compose([TopFraction(0.5), ExpertAction()]))
    assert set(ready.drawable().tolist()) <= {0, 2, 3} and len(ready.drawable())


def test_held_out_rows_without_a_label_are_not_validated() -> None:
    log = episode_log()
    label = log.column("action").clone() * 0.5
    label[::2] = NAN
    data = OfflineDataModule(log.with_columns({"expert_action": label}), [ExpertAction()], seed=1)
    assert not len(data._held_out)
    data = OfflineDataModule(
        log.with_columns({"expert_action": label}), [ExpertAction()], validation=0.4, seed=1
    )
    (batch,) = list(data.val_dataloader())
    assert (batch["index"] % 2 == 1).all() and batch["index"].numel() > 3
    seen = data.on_after_batch_transfer(batch, 0)
    assert torch.equal(seen["action"], label[batch["index"]])
    training = log.column("episode")[data.log.drawable()].unique()
    label[~torch.isin(log.column("episode"), training)] = NAN
    with pytest.raises(LogError, match=r"none of the \d+ held-out rows has a label"):
        OfflineDataModule(
            log.with_columns({"expert_action": label}), [ExpertAction()], validation=0.4, seed=1
        )


@pytest.mark.parametrize(
    ("columns", "relabeler", "message"),
    [
        ({}, ExpertAction(), r"no column 'expert_action' .*'hindsight relabel LOG --expert EXPERT"),
        (
            {"expert_action": LABELS * NAN},
            ExpertAction(),
            "no row has an action in 'expert_action'",
        ),
        ({"expert_action": LABELS[:, 0]}, ExpertAction(), r"has shape \[\], and actions \[1\]"),
        ({"expert_action": LABELS / 0.0}, ExpertAction(), r"row 0 of 'expert_action' is \[inf\]"),
        ({"expert_action": LABELS}, ExpertAction(only="odd"), "no column 'odd' that says which"),
    ],
)
def test_labels_that_are_none_are_errors(
    columns: dict[str, Any], relabeler: ExpertAction, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        relabeler.prepare(small(action=torch.full((5, 1), 9.0), **columns))


def test_half_an_action_is_an_error() -> None:
    log = episode_log()
    label = log.column("action").clone()
    label[4, 1] = NAN
    with pytest.raises(ValueError, match=r"row 4 of 'expert_action' is \[.*nan\]: give an action"):
        ExpertAction().prepare(log.with_columns({"expert_action": label}))


# --- what does not go with it --------------------------------------------------------------------


def test_learners_that_read_what_the_executed_action_led_to_are_refused() -> None:
    log = episode_log().with_columns({"expert_action": episode_log().column("action")})
    data = OfflineDataModule(log, [ExpertAction()])
    message = (
        r"^IQL reads 'next\.\w+', which belongs to the executed action, and ExpertAction puts the "
        r"expert's in its place: clone with BC or LatentBC, or leave ExpertAction out$"
    )
    with pytest.raises(ValueError, match=message):
        data.serve(learner_of(IQL, data.spec)).batch_keys()
    assert "action" in data.serve(learner_of(BC, data.spec)).batch_keys()


@pytest.mark.parametrize("name", LEARNERS)
def test_of_all_learners_only_those_that_clone_are_let_in(name: str) -> None:
    """By name: what each reads is its own; nobody is let in by what this test computes."""
    let_in = {"BC", "LatentBC", "FlowBC", "DiffusionBC", "OneStepFlow", "ACT", "RecurrentBC"}
    let_in |= {"MAMLBC"}
    kind = LEARNERS[name]
    learner = learner_of(kind, data_for(kind).spec)
    try:
        ExpertAction().check_learner(learner)
        found = True
    except ValueError:
        found = False
    assert found == (name in let_in)


def test_windows_of_actions_are_refused() -> None:
    keys = {"history": ("history", "action"), "chunk": ("chunk", "action")}
    for part, window in (("history", Window(history=2)), ("chunk", Window(chunk=3))):
        learner: Any = SimpleNamespace(
            acts=True, read_keys=("action", keys[part]), window=window, action_windows={}
        )
        with pytest.raises(ValueError, match=f"reads a {part} of actions, those that were"):
            ExpertAction().check_learner(learner)
    alone: Any = SimpleNamespace(
        acts=True, read_keys=("action", keys["chunk"]), window=Window(), log_pass=None
    )
    ExpertAction().check_learner(alone)


@pytest.mark.parametrize("turned", [False, True])
def test_another_task_is_not_the_one_that_the_expert_answered(turned: bool) -> None:
    log = episode_log(task=True, goals=True)
    log = log.with_columns({"expert_action": log.column("action")})
    parts = [ExpertAction(), FutureGoal()]
    with pytest.raises(
        ValueError, match=r"together have no meaning: what the one writes belongs to"
    ):
        Compose(parts[::-1] if turned else parts).prepare(log)


# --- who labels ----------------------------------------------------------------------------------


def test_a_function_labels_every_row_within_the_bounds() -> None:
    log = episode_log()
    ready, bound = bind(log, ExpertLabels(seconds))
    seen = log.column("observation")
    expected = torch.where(seen[:, :1] > 1, 99.0, seen[:, 1:])
    expected = expected.clamp(torch.tensor(LOW), torch.tensor(HIGH))
    assert (expected == torch.tensor(HIGH)).all(1).any()
    assert torch.equal(ready.column("expert_action"), expected)
    assert torch.equal(ready.column("action"), log.column("action"))
    assert bound.provenance["expert"] == f"{__name__}:seconds"
    assert bound.provenance["expert_hash"].startswith("sha256:")


def test_an_expert_may_see_other_columns_than_the_policy() -> None:
    log = episode_log(goals=True)
    mass = torch.arange(len(log)) / 100
    log = log.with_columns({"mass": mass})

    def sees(observation: Any, task: Any, env: Any) -> Any:
        assert observation.shape[1] == 3
        return observation[:, [0, 2]]

    ready, _ = bind(log, ExpertLabels(sees, reads=["achieved_goal", "mass"]))
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    expected = torch.stack([log.column("achieved_goal")[:, 0], mass], 1).clamp(low, high)
    assert torch.equal(ready.column("expert_action"), expected)
    assert "expert_action" not in ready.observed
    with pytest.raises(
        ValueError, match="the expert reads 'force', and the log has no such column"
    ):
        ExpertLabels(sees, reads=["force"]).prepare(log)


def test_a_file_with_a_state_follows_each_episode(tmp_path: Path) -> None:
    """Its answer is its state h' = h / 2 + observation; h = (1, -1) where an episode begins."""
    path = policy_files.leaky_sum(tmp_path / "policy.onnx")
    log = episode_log([3, 5, 1, 2])
    log = log.with_columns({"place": log.column("observation")[:, :2].contiguous()})
    log = Log.from_columns({k: log.column(k) for k in log.keys()})
    ready, bound = bind(log, ExpertLabels(path, reads=["place"]))
    kept = torch.zeros(2)
    for row in range(len(log)):
        kept = torch.tensor([1.0, -1.0]) if log.column("step")[row] == 0 else kept
        kept = kept / 2 + log.column("place")[row]
        torch.testing.assert_close(ready.column("expert_action")[row], kept)
    assert bound.provenance["expert"] == str(path)


def test_an_expert_that_does_not_know_labels_nothing() -> None:
    def only_right(observation: Any, task: Any, env: Any) -> Any:
        return np.where(observation[:, :1] > 0, observation[:, :2], NAN)

    log = episode_log()
    ready, _ = bind(log, Compose([ExpertLabels(only_right), ExpertAction()]))
    assert torch.equal(ready.drawable(), (log.column("observation")[:, 0] > 0).nonzero()[:, 0])


@pytest.mark.parametrize(
    ("expert", "message"),
    [
        ("nowhere.onnx", r"expert nowhere\.onnx: no such file"),
        ("policy", r"'policy' is neither an exported file \(policy\.onnx\) nor module:function"),
        ("no_such_module:f", "no module no_such_module, neither in"),
        ("stand_ins:nobody", "stand_ins has no nobody"),
        ("stand_ins:LOW", "list is no function"),
    ],
)
def test_nobody_is_no_expert(expert: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ExpertLabels(expert)


def test_answers_that_are_no_actions_are_errors() -> None:
    log = episode_log()
    with pytest.raises(ValueError, match=r"answers \d+ rows with shape \[\d+, 3\]"):
        ExpertLabels(lambda observation, task, env: observation).prepare(log)
    with pytest.raises(ValueError, match="answers with numbers that are not finite: give NaN"):
        ExpertLabels(lambda o, task, env: np.full((len(o), 2), np.inf)).prepare(log)
    choices = episode_log(discrete=True)
    with pytest.raises(ValueError, match="chooses 7, and the choices are 0 to 2"):
        ExpertLabels(lambda o, task, env: np.full(len(o), 7)).prepare(choices)


def test_a_file_of_another_robot_is_refused(tmp_path: Path) -> None:
    path = policy_files.leaky_sum(tmp_path / "policy.onnx")
    with pytest.raises(
        ValueError, match=r"takes observation of shape \[2\], and the log has \[3\]"
    ):
        ExpertLabels(path).prepare(episode_log())
    log = episode_log(goals=True, discrete=True)
    with pytest.raises(ValueError, match="gives real numbers, and the log's actions are choices"):
        ExpertLabels(path, reads=["achieved_goal"]).prepare(log)
    bounded = {
        "kind": "continuous",
        "shape": [2],
        "dtype": "float32",
        "low": [-1, -1],
        "high": None,
    }
    other = policy_files.leaky_sum(tmp_path / "other.onnx", action=bounded)
    with pytest.raises(ValueError, match="low bound of the expert's actions .*their units differ"):
        ExpertLabels(other, reads=["achieved_goal"]).prepare(episode_log(goals=True))


def test_cloning_an_expert_moves_the_mean_to_it() -> None:
    """The gradient of the loss is zero at the expert's actions, and is not at the executed ones."""
    data = OfflineDataModule(labelled(), [ExpertAction()], batch_size=32)
    learner = BC(data.spec, network=Network(hidden=(8,)))
    batch = data.on_after_batch_transfer(data._sampler().chunk(0, 1), 0)[0]
    scale = learner.actor.scale
    target = scale.to_policy(batch["action"])
    mean = target.clone().requires_grad_()
    ((mean - target).square().mean()).backward()
    assert float(mean.grad.abs().max()) == 0.0
    distribution = learner.actor(batch["observation"])
    loss = -distribution.log_prob(target).mean()
    read = learner.losses(learner.read(learner.complete(batch))).terms["actor"]
    torch.testing.assert_close(read, loss)
