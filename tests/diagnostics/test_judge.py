"""A judgement as a whole, on small logs: what is asked, what is refused, what is the same."""

import dataclasses

import numpy as np
import pytest
import torch
from episode_logs import episode_log
from numpy.typing import NDArray

from hindsight_rl import BC, Fitting, Question, judge
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.ope import itself
from hindsight_rl.diagnostics.ope.estimates import by_values
from hindsight_rl.diagnostics.ope.judge import as_dict
from hindsight_rl.diagnostics.ope.question import METHODS
from hindsight_rl.keys import ACTION, EPISODE, NEXT_OBSERVATION, OBSERVATION, REWARD
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network

SHORT = Fitting(updates=20, behavior_updates=20, hidden=(8,), members=2, batch_size=32)
ASKED = Question(fitting=SHORT, discount=0.9)


def coins(episodes: int = 60, steps: int = 4, seed: int = 0) -> Log:
    """Return a log of fair coins and their probabilities: choice 1 pays 1, choice 0 nothing."""
    random = torch.Generator().manual_seed(seed)
    rows = episodes * steps
    step = torch.arange(steps).repeat(episodes)
    choice = torch.randint(2, (rows,), generator=random)
    ends = step == steps - 1
    seen = torch.nn.functional.one_hot(step, steps + 1).float()
    after = torch.nn.functional.one_hot(step + 1, steps + 1).float()
    columns = {
        OBSERVATION: seen,
        ACTION: choice,
        NEXT_OBSERVATION: after,
        REWARD: choice.float(),
        ("next", "terminated"): ends,
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
        EPISODE: torch.arange(episodes).repeat_interleave(steps),
        "action_log_prob": torch.full((rows,), -float(np.log(2.0))),
    }
    return Log.from_columns(columns, {"action_choices": 2})


def ones(observation: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.ones(len(observation), np.int64)


def test_a_policy_of_which_the_log_knows_the_probabilities() -> None:
    """Always 1: worth 1 + .9 + .81 + .729; a sixteenth of the episodes did that."""
    log = coins()
    found = judge([ones], log, dataclasses.replace(ASKED, behavior="logged"))
    one = found.policies[0]
    truth = (1 - 0.9**4) / 0.1
    assert found.behavior == "logged" and one.name == "ones"
    assert {row.method for row in one.estimates} == set(METHODS) - {"kernel"}
    by_name = {row.method: row for row in one.estimates}
    # Every episode of the policy got just that: relative weights know no other.
    assert by_name["wis"].value == pytest.approx(truth)
    assert by_name["cwpdis"].value == pytest.approx(truth)
    alike = (log.column(ACTION).view(60, 4) == 1).all(-1).sum()
    assert by_name["wis"].effective == pytest.approx(int(alike))
    # Values of one-hot steps and choices are linear in their products.
    assert by_name["lstd"].value == pytest.approx(truth, abs=0.02)
    low, high = by_name["pdis"].interval
    assert low < truth < high
    rewards = log.column(REWARD).view(60, 4).double()
    mean = float((rewards * 0.9 ** torch.arange(4.0, dtype=torch.float64)).sum(-1).mean())
    assert found.logged == pytest.approx(mean)
    assert one.covered == 1.0  # each choice is usual


def test_the_same_question_has_the_same_answer() -> None:
    first, second = (as_dict(judge([ones], coins(20), ASKED)) for _ in range(2))
    assert first == second


def test_a_continuous_policy_without_density_says_so() -> None:
    log = episode_log(lengths=(6, 5, 7, 6, 4, 8, 6, 7, 5, 6, 7, 6))
    learner = BC(OfflineDataModule(log).spec, network=Network(hidden=(8,))).eval()
    found = judge([learner], log, ASKED)
    one = found.policies[0]
    assert {row.method for row in one.estimates} == {"fqe", "lstd", "dualdice"}
    assert "it does one thing only in each state" in one.left_out[0]
    drawn = judge([learner], log, dataclasses.replace(ASKED, drawn=True))
    assert {row.method for row in drawn.policies[0].estimates} == set(METHODS) - {"kernel"}
    assert drawn.behavior == "fitted" and np.isfinite(drawn.held_out)


def shoves(episodes: int = 300, steps: int = 1, seed: int = 0) -> Log:
    """Return a log of actions N(0, 0.5^2) that cost their square, with their probabilities."""
    random = torch.Generator().manual_seed(seed)
    rows = episodes * steps
    action = 0.5 * torch.randn(rows, 1, generator=random)
    columns = {
        OBSERVATION: torch.randn(rows, 2, generator=random),
        ACTION: action,
        NEXT_OBSERVATION: torch.randn(rows, 2, generator=random),
        REWARD: -action.squeeze(-1).square(),
        ("next", "terminated"): torch.arange(rows) % steps == steps - 1,
        ("next", "truncated"): torch.zeros(rows, dtype=torch.bool),
        EPISODE: torch.arange(episodes).repeat_interleave(steps),
        "action_log_prob": torch.distributions.Normal(0.0, 0.5).log_prob(action).squeeze(-1),
    }
    return Log.from_columns(columns)


def pushes(observation: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full((len(observation), 1), 0.3, np.float32)


def test_a_policy_without_chance_is_judged_by_a_kernel_where_steps_are_few() -> None:
    """It costs 0.09, and the square of the bandwidth: 0.5 (4 / 900)^(1/5) = 0.169."""
    asked = dataclasses.replace(ASKED, methods=("kernel",), by="kernel", horizon=1)
    asked = dataclasses.replace(
        asked, fitting=dataclasses.replace(SHORT, behavior_updates=300, hidden=(32,))
    )
    found = judge([pushes, lambda seen: 1.5 + pushes(seen)], shoves(), asked, names=["near", "far"])
    near, far = (one.estimates[0] for one in found.policies)
    assert near.bandwidth == pytest.approx((0.169,), rel=0.15)
    low, high = near.interval
    assert low < -(0.09 + near.bandwidth[0] ** 2) < high and high - low < 0.05
    assert near.effective > 60.0 and near.warnings == ()
    (remark,) = found.policies[0].remarks[1:]
    assert remark.startswith("kernel judges this policy with normal noise of spread [0.1")
    assert remark.endswith("] on its action")
    # No logged action is near 1.8: few episodes carry the weight.
    assert "of the weight of 300: do not believe this row" in far.warnings[0]
    assert found.chosen == "near"
    assert as_dict(found)["policies"][0]["estimates"][0]["bandwidth"] == list(near.bandwidth)


def test_a_kernel_of_many_steps_is_wide_and_says_so() -> None:
    asked = dataclasses.replace(ASKED, methods=("kernel",), by="kernel")
    log = shoves(20, steps=4)
    (left,) = judge([pushes], log, asked).policies[0].left_out
    assert left.startswith("kernel is left out: it takes a horizon")
    found = judge([pushes], log, dataclasses.replace(asked, horizon=4)).policies[0]
    (row,) = found.estimates
    assert any(
        "% of their range in the log: it judges a policy with" in one for one in row.warnings
    )
    assert found.remarks[-1].endswith("on each of its 4 actions; it is made for one step")
    # Where probabilities are known there are better rows.
    choices = dataclasses.replace(asked, behavior="logged", horizon=2)
    (left,) = judge([ones], coins(), choices).policies[0].left_out
    assert left == "kernel is left out: the probabilities of this policy are known"


def test_a_policy_that_the_log_does_not_cover_says_so_first() -> None:
    log = episode_log(lengths=(30,) * 12)
    fitting = dataclasses.replace(SHORT, behavior_updates=400, hidden=(32,), batch_size=128)

    def corner(observation: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.full((len(observation), 2), [2.0, 3.0], np.float32)

    found = judge([corner], log, dataclasses.replace(ASKED, fitting=fitting))
    assert found.policies[0].covered < 0.5
    assert found.policies[0].remarks[0].startswith("The log does not cover this policy")


def test_what_recorded_the_log_is_worth_what_its_episodes_returned() -> None:
    """Fair coins of 4 steps: 0.5 (1 - 0.9^4) / 0.1 = 1.7195, by 60 episodes."""
    fitting = dataclasses.replace(SHORT, updates=600, behavior_updates=200, hidden=(32,))
    asked = Question(fitting=fitting, discount=0.9, methods=("fqe",))
    log = coins()
    said: list[str] = []
    found = judge([ones], log, asked, say=said.append)
    assert found.itself is not None and "fitting the values of what recorded the log" in said[1]
    assert found.itself.value == pytest.approx(found.logged, abs=0.1)
    assert found.itself.returned == found.logged and not found.itself.beyond
    assert found.itself.returned_interval == found.logged_interval
    assert found.itself.warnings == ()
    assert found.itself.sentence.startswith(f"fitted Q evaluation says {found.itself.value:.4g} [")
    assert found.itself.sentence.endswith(
        f"] of what recorded the log, whose episodes returned "
        f"{found.logged:.4g} [{found.logged_interval.low:.4g}, {found.logged_interval.high:.4g}]"
    )
    assert as_dict(found)["check"]["returned"]["value"] == found.logged
    # After two updates values are near their beginning.
    short = dataclasses.replace(asked, fitting=dataclasses.replace(SHORT, updates=2, members=8))
    early = judge([ones], log, short).itself
    assert early is not None and early.warnings[0].startswith("fqe has not arrived")
    left = judge([ones], log, dataclasses.replace(short, check=False))
    assert left.itself is None and as_dict(left)["check"] is None
    assert judge([ones], log, dataclasses.replace(short, methods=("wis",), by="wis")).itself is None


def test_values_behind_time_limits_are_part_of_what_episodes_returned() -> None:
    """The coins again, cut after 4 steps that could have gone on."""
    log = coins()
    last = log.column(("next", "terminated"))
    log = log.with_columns(
        {("next", "terminated"): torch.zeros_like(last), ("next", "truncated"): last}
    )
    whole = judge([ones], log, dataclasses.replace(ASKED, methods=("fqe",))).itself
    assert whole is not None and whole.beyond
    assert whole.sentence.endswith("], fitted values behind time limits included")
    asked = dataclasses.replace(ASKED, methods=("fqe",), horizon=4)
    found = judge([ones], log, asked)
    assert found.itself is not None and not found.itself.beyond
    assert found.itself.returned == found.logged


def test_values_that_miss_the_returns_of_the_log_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        itself, "by_values", lambda found: by_values(found._replace(start=9.0 + found.start))
    )
    asked = dataclasses.replace(ASKED, methods=("fqe",))
    found = judge([ones], coins(), asked).itself
    assert found is not None and found.warnings[-1].startswith("they disagree: fitted values are")


def test_several_policies_are_ranked() -> None:
    def zeros(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.zeros(len(observation), np.int64)

    asked = dataclasses.replace(ASKED, methods=("wis", "lstd"), by="lstd", behavior="logged")
    found = judge([zeros, ones], coins(), asked)
    assert found.chosen == "ones"
    assert found.ranking is not None and found.ranking.gaps[0].low > 0.0
    facts = as_dict(found)
    assert facts["ranking"]["order"] == ["ones", "zeros"]
    assert [one["name"] for one in facts["policies"]] == ["zeros", "ones"]


def test_an_undiscounted_horizon() -> None:
    asked = dataclasses.replace(ASKED, discount=1.0, horizon=2, behavior="logged")
    found = judge([ones], coins(), asked)
    by_name = {row.method: row for row in found.policies[0].estimates}
    assert by_name["wis"].value == pytest.approx(2.0)
    assert "lstd" not in by_name
    assert any("no horizon" in text for text in found.policies[0].left_out)


def test_what_is_left_out_says_why() -> None:
    def zeros(observation: NDArray[np.float32]) -> NDArray[np.int64]:
        return np.zeros(len(observation), np.int64)

    log = coins(20)
    log = log.with_columns({ACTION: torch.ones(len(log), dtype=torch.int64)})
    asked = dataclasses.replace(ASKED, methods=("wdr", "lstd"), by="lstd", behavior="logged")
    (left,) = judge([zeros], log, asked).policies[0].left_out
    assert left.endswith("are left out: no logged episode could have come from this policy")
    (left,) = judge([ones], coins(3), asked).policies[0].left_out
    assert left.endswith("of 3 episodes there are no halves, it takes at least 4")
    # What was not asked for is not missing.
    continuous = episode_log(lengths=(6, 5, 7, 6))
    learner = BC(OfflineDataModule(continuous).spec, network=Network(hidden=(8,))).eval()
    asked = dataclasses.replace(ASKED, methods=("lstd",), by="lstd")
    found = judge([learner], continuous, asked)
    assert found.policies[0].left_out == ()
    assert np.isnan(found.held_out)  # of four episodes none is held out
    assert as_dict(found)["behavior_held_out_log_prob"] is None


def test_policies_of_one_name_are_told_apart() -> None:
    asked = dataclasses.replace(ASKED, methods=("lstd",), by="lstd")
    log = coins(20)
    said: list[str] = []
    found = judge([ones, ones], log.with_rows(torch.arange(60)), asked, say=said.append)
    assert found.episodes == 20 and said[0].startswith("20 rows that a filter keeps")
    assert [one.name for one in found.policies] == ["ones 1", "ones 2"]
    assert set(as_dict(found)["ranking"]["chosen_better_by"]) == {"ones 1", "ones 2"}
    with pytest.raises(ValueError, match="give each policy one of its own"):
        judge([ones, ones], log, asked, names=["a", "a"])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"discount": 1.0}, "give a horizon"),
        ({"discount": 1.5}, "discount"),
        ({"horizon": 0}, "horizon is 0"),
        ({"methods": ("fqe", "luck")}, "no estimator 'luck': there are fqe, lstd"),
        ({"methods": ("wis",)}, "fqe ranks, so that it must be among the methods"),
        ({"samples": 0}, "samples"),
    ],
)
def test_questions_that_make_no_sense(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(Question(), **changed)


def test_logs_that_cannot_judge() -> None:
    log = coins(10)
    with pytest.raises(ValueError, match="there is no policy to judge"):
        judge([], log, ASKED)
    with pytest.raises(ValueError, match="1 episode: an interval needs at least 2"):
        judge([ones], coins(1), ASKED)
    nothing = log.with_columns({REWARD: torch.zeros(len(log))})
    with pytest.raises(ValueError, match="all rewards are 0"):
        judge([ones], nothing, ASKED)
    spanning = log.with_columns({"discount": torch.full((len(log),), 0.81)})
    with pytest.raises(LogError, match="its rows span several steps"):
        judge([ones], spanning, dataclasses.replace(ASKED, methods=("wis",), by="wis"))
    without = Log.from_columns(
        {
            key: log.column(key)
            for key in log.keys()
            if key not in ("step", "episode_end", "action_log_prob")
        },
        log.info,
    )
    with pytest.raises(LogError, match="no column action_log_prob"):
        judge([ones], without, dataclasses.replace(ASKED, behavior="logged"))
    broken = log.column("action_log_prob").clone()
    broken[3] = float("nan")
    with pytest.raises(LogError, match="action_log_prob is nan in row 3"):
        judge([ones], log.with_columns({"action_log_prob": broken}), ASKED)
