"""What a given policy does on the rows of a log: learners, files and functions."""

from pathlib import Path

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from numpy.typing import NDArray

from hindsight_rl import BC, CRR, DQN, FQE, DiffusionBC, RecurrentBC, export_policy
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import ACTION, EPISODE, NEXT_OBSERVATION, OBSERVATION
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.spec import Spec
from hindsight_rl.training import shown
from hindsight_rl.training.given import GivenPolicy
from hindsight_rl.training.learner import Learner

SMALL = Network(hidden=(8,))


def spec_of(log: Log) -> Spec:
    return OfflineDataModule(log).spec


def test_a_function_is_asked_on_both_sides_of_every_row() -> None:
    log = episode_log()

    def half(observation: NDArray[np.float32]) -> NDArray[np.float32]:
        return observation[:, :2] / 2

    found = GivenPolicy(half, spec_of(log)).answers(log)
    torch.testing.assert_close(found.here[:, 0], log.column(OBSERVATION)[:, :2] / 2)
    torch.testing.assert_close(found.after[:, 0], log.column(NEXT_OBSERVATION)[:, :2] / 2)


@pytest.mark.parametrize("discrete", [False, True])
def test_a_learner_is_judged_as_it_is_exported(discrete: bool) -> None:
    log = episode_log(discrete=discrete)
    learner = BC(spec_of(log), network=SMALL).eval()
    policy = GivenPolicy(learner, learner.spec)
    found = policy.answers(log, samples=7)
    with torch.inference_mode():
        expected = learner(log.column(OBSERVATION))
    if discrete:
        assert torch.equal(found.here.argmax(-1), expected)
        assert torch.equal(found.here.sum(-1), torch.ones(len(log)))
    else:
        assert found.here.shape == (len(log), 1, 2)  # nothing is drawn: one answer
        torch.testing.assert_close(found.here[:, 0], expected)
    assert policy.no_density == "" if discrete else "one thing only" in policy.no_density


@pytest.mark.parametrize("kind", [BC, DQN])  # a policy network, and values under a temperature
def test_drawn_choices_are_the_distribution_itself(kind: type[Learner]) -> None:
    log = episode_log(discrete=True)
    learner = kind(spec_of(log), network=SMALL).eval()
    policy = GivenPolicy(learner, learner.spec, drawn=True)
    found = policy.answers(log)
    with torch.inference_mode():
        expected = learner.scores(log.column(NEXT_OBSERVATION)).softmax(-1)
    torch.testing.assert_close(found.after, expected)
    log_prob = policy.log_prob(log)
    assert log_prob is not None
    chosen = found.here.gather(-1, log.column(ACTION).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(log_prob, chosen.double().log())


def test_a_draw_after_a_row_is_that_of_the_next_row() -> None:
    log = episode_log()
    learner = BC(spec_of(log), network=SMALL).eval()
    found = GivenPolicy(learner, learner.spec, drawn=True).answers(log, samples=3)
    assert found.here.shape == (len(log), 3, 2)
    within = log.column(EPISODE)[:-1] == log.column(EPISODE)[1:]
    torch.testing.assert_close(found.after[:-1][within], found.here[1:][within])
    assert not torch.equal(found.here[:, 0], found.here[:, 1])


def test_a_state_follows_the_logged_episode() -> None:
    """A recurrent policy, step by step by hand: its state begins anew where an episode does."""
    log = episode_log()
    learner = RecurrentBC(spec_of(log), network=SMALL).eval()
    policy = GivenPolicy(learner, learner.spec)
    assert policy.follows
    found = policy.answers(log)
    state, seen = learner.initial_state(1), log.column(EPISODE)
    for row in range(len(log)):
        if row and seen[row] != seen[row - 1]:
            state = learner.initial_state(1)
        with torch.inference_mode():
            decision = learner.decide(log.column(OBSERVATION)[row : row + 1], None, state)
            state = decision.state
            torch.testing.assert_close(found.here[row, 0], decision.action[0])
            last = row + 1 == len(log) or seen[row + 1] != seen[row]
            if last:
                after = learner.decide(log.column(NEXT_OBSERVATION)[row : row + 1], None, state)
                torch.testing.assert_close(found.after[row, 0], after.action[0])
            elif row:
                within = found.after[row, 0]
                torch.testing.assert_close(within, found.here[row + 1, 0])


def test_images_are_shown_fewer_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    log, rows = episode_log(), torch.arange(20, 31)
    assert [len(part) for part in shown.spans(log, [OBSERVATION], rows)] == [11]
    monkeypatch.setattr(shown, "NUMBERS", 13)  # of three each: four rows
    parts = shown.spans(log, [OBSERVATION], rows)
    assert [len(part) for part in parts] == [4, 4, 3] and torch.equal(torch.cat(parts), rows)
    monkeypatch.setattr(shown, "NUMBERS", 1)
    assert len(shown.spans(log, [OBSERVATION], rows)) == 11
    learner = BC(spec_of(log), network=SMALL).eval()
    found = GivenPolicy(learner, learner.spec).answers(log)
    with torch.inference_mode():
        torch.testing.assert_close(found.here[:, 0], learner(log.column(OBSERVATION)))


def test_a_history_holds_what_was_executed() -> None:
    """The past that a policy sees on a log is the log's own, not what it would have done."""
    log = episode_log()
    learner = BC(spec_of(log), network=SMALL, history=3).eval()
    found = GivenPolicy(learner, learner.spec).answers(log)
    state = learner.initial_state(1)
    for row in range(5):  # of the first episode
        with torch.inference_mode():
            decision = learner.decide(log.column(OBSERVATION)[row : row + 1], None, state)
        torch.testing.assert_close(found.here[row, 0], decision.action[0])
        state = decision.state
        past = state[learner.action_state or ""].clone()
        past[:, -1] = log.column(ACTION)[row]
        state = {**state, learner.action_state or "": past}


def test_a_file_answers_as_its_learner(tmp_path: Path) -> None:
    log = episode_log()
    learner = BC(spec_of(log), network=SMALL).eval()
    path = tmp_path / "policy.onnx"
    export_policy(learner, path)
    file = GivenPolicy(path, learner.spec)
    assert file.name == str(path)
    torch.testing.assert_close(
        file.answers(log).after,
        GivenPolicy(learner, learner.spec).answers(log).after,
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("discrete", [False, True])
def test_a_file_that_draws_has_the_density_of_its_learner(discrete: bool, tmp_path: Path) -> None:
    """As the learner that draws: the same actions of the same seed, probabilities of choices."""
    log = episode_log(discrete=discrete)
    learner = BC(spec_of(log), network=SMALL).eval()
    export_policy(learner, tmp_path / "policy.onnx", opset=17, drawn=True)
    file = GivenPolicy(tmp_path / "policy.onnx", learner.spec, seed=4)
    own = GivenPolicy(learner, learner.spec, drawn=True, seed=4)
    assert file.chance and not file.no_density and not file.follows
    answers, expected = (policy.answers(log, samples=2) for policy in (file, own))
    for found, wanted in ((answers.here, expected.here), (answers.after, expected.after)):
        torch.testing.assert_close(found.float(), wanted, atol=2e-5, rtol=1e-5)
    stated, expected_log_prob = file.log_prob(log), own.log_prob(log)
    assert stated is not None and stated.dtype == torch.float64
    torch.testing.assert_close(stated, expected_log_prob, atol=1e-4, rtol=1e-5)


def test_choices_of_an_environment_that_counts_from_elsewhere() -> None:
    log = episode_log(discrete=True)
    shifted = Log.from_columns(
        {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
        | {ACTION: log.column(ACTION) + 5},
        {**log.info, "action_start": 5},
    )

    def second(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.full(len(observation), 6)

    policy = GivenPolicy(second, spec_of(shifted))
    assert torch.equal(policy.answers(shifted).here, torch.eye(3)[1].expand(len(log), 3))
    log_prob = policy.log_prob(shifted)
    assert log_prob is not None
    assert torch.equal(log_prob.exp().long(), (shifted.column(ACTION) == 6).long())


def test_why_there_is_no_density() -> None:
    log = episode_log()
    spec = spec_of(log)
    for learner, why in (
        (DiffusionBC(spec, network=SMALL, chunk=1, execute=1), "keeps a state"),
        (RecurrentBC(spec, network=SMALL), "keeps a state"),
    ):
        policy = GivenPolicy(learner.eval(), spec, drawn=True)
        assert why in policy.no_density
        assert policy.log_prob(log) is None


def test_draws_of_something_else_than_the_actor_have_no_density() -> None:
    """CRR draws from its actor weighted by its critic."""
    spec = spec_of(episode_log())
    policy = GivenPolicy(CRR(spec, network=SMALL).eval(), spec, drawn=True)
    assert policy.no_density == "it does not draw its actions from a distribution that it states"


def test_a_choice_too_rare_for_float32_has_a_probability() -> None:
    log = episode_log(discrete=True)
    learner = BC(spec_of(log), network=SMALL).eval()
    with torch.no_grad():
        learner.actor.net[-1].weight.zero_()
        learner.actor.net[-1].bias.copy_(torch.tensor([0.0, 0.0, -200.0]))
    found = GivenPolicy(learner, learner.spec, drawn=True).log_prob(log)
    assert found is not None
    expected = torch.where(log.column(ACTION) == 2, -200.0, 0.0).double() - np.log(2.0)
    torch.testing.assert_close(found, expected)


def test_what_does_not_go_with_the_log() -> None:
    log = episode_log()
    spec = spec_of(log)
    other = BC(spec_of(episode_log(discrete=True)), network=SMALL).eval()
    with pytest.raises(ValueError, match=r"its action is one of 3, and that of the log \[2\]"):
        GivenPolicy(other, spec)
    elsewhere = Log.from_columns(
        {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
        | {ACTION: torch.arange(len(log)) % 3 + 5},
        {"discrete_actions": 3, "action_start": 5},
    )
    with pytest.raises(ValueError, match="one of 3, and that of the log one of 3, counted from 5"):
        GivenPolicy(other, spec_of(elsewhere))
    with_task = BC(spec_of(episode_log(task=True)), network=SMALL).eval()
    with pytest.raises(ValueError, match="takes a task, and the log has none"):
        GivenPolicy(with_task, spec).answers(log)
    wide = log.with_columns({"task": torch.zeros(len(log), 4)})
    with pytest.raises(ValueError, match=r"its task is \[2\], and that of the log \[4\]. Judge"):
        GivenPolicy(with_task, spec_of(wide))
    with pytest.raises(ValueError, match=r"answers 47 observations with shape \[47, 3\]"):
        GivenPolicy(lambda observation: observation, spec, name="me").answers(log)
    with pytest.raises(ValueError, match="not finite"):
        GivenPolicy(lambda observation: np.full_like(observation[:, :2], np.nan), spec).answers(log)
    with pytest.raises(ValueError, match="FQE fits no policy"):
        GivenPolicy(FQE(spec, network=SMALL), spec)
