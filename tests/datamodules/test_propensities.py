"""The column ``action_log_prob``: right numbers where they are known, else no column."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_fits import fit, learner_of
from small_replays import REACH, WALK, iterated, log_of, online
from specs import changed
from tiny_envs import Walk

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.signed_bc import SignedBC
from hindsight_rl.datamodules.iterated import IteratedDataModule
from hindsight_rl.datamodules.sources.environment import Collector
from hindsight_rl.datamodules.sources.episodes import Collected
from hindsight_rl.keys import ACTION_LOG_PROB
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Head, History
from hindsight_rl.ports import Remembering
from hindsight_rl.relabel.labels import ColumnLabel
from hindsight_rl.spec import Spec
from hindsight_rl.training.learner import Learner


def choosing() -> Walk:
    """Return the walk with two choices."""
    return Walk(discrete=True)


def spec_of(env: Any = WALK) -> Spec:
    return iterated(env, initial_episodes=3).spec


def recorded(
    env: Any, learner: Learner | None, episodes: int = 40, *, sample: bool = True, **options: Any
) -> Collected:
    """Return episodes whose probabilities are stated."""
    collector = Collector(env, **options)
    policy = None if learner is None else learner.collecting(sample)
    assert collector.unstated(policy) == ""
    collector.stating = True
    return collector.collect(policy, 0, episodes, None)


def gaussian(seed: int, **head: Any) -> BC:
    """Return a policy of real numbers in [-1, 1] with a wide spread."""
    plain: dict[str, Any] = {"kind": "gaussian"}
    learner = learner_of(BC, spec_of(), head=Head(**plain | head), weight_seed=seed)
    if learner.actor.log_std is not None:
        learner.actor.log_std.data.fill_(-0.2 - 0.1 * seed)
    return learner


class Alone:
    """A policy asked step by step: its draws are of one counter each, and so is what they say."""

    def __init__(self, learner: Learner, sample: bool = True) -> None:
        self._learner, self._sample = learner, sample
        self.initial_state = learner.collecting(sample).initial_state  # type: ignore[attr-defined]

    def _asked(self) -> Any:
        return self._learner.collecting(self._sample)  # anew: nothing is drawn ahead

    def unstated(self, *given: Any, **named: Any) -> Any:
        return self._asked().unstated(*given, **named)

    def step(self, *given: Any) -> Any:
        return self._asked().step(*given)

    def drawn(self, *given: Any) -> Any:
        found = self._asked().drawn(*given)
        return found._replace(log_prob=lambda *executed: found.log_prob(*executed))

    def with_executed(self, state: Any, action: Any) -> Any:
        asked = self._asked()
        return asked.with_executed(state, action) if isinstance(asked, Remembering) else state


@pytest.mark.parametrize("explore", [0.0, 0.3])
@pytest.mark.parametrize(
    "kind",
    ["gaussian", "tanh_gaussian", "laplace", "mixture", "autoregressive", "choices", "history"],
)
def test_what_is_asked_at_once_has_the_bits_of_single_steps(kind: str, explore: float) -> None:
    env = WALK if kind not in ("choices", "history") else choosing
    own: dict[str, Any] = {"head": Head(kind=kind)} if env is WALK else {}
    if kind == "history":
        own = {"history": History(steps=2)}
    learner = learner_of(BC, spec_of(env), **own)
    whole = recorded(env, learner, 12, explore=explore, num_envs=5)
    collector = Collector(env, explore=explore, num_envs=5)
    collector.stating = True
    alone = collector.collect(Alone(learner), 0, 12, None)
    assert whole.columns.keys() == alone.columns.keys() and ACTION_LOG_PROB in whole.columns
    for key, column in whole.columns.items():
        assert torch.equal(column, alone.columns[key]), key


# --- numbers --------------------------------------------------------------------------------------


def test_random_actions_have_the_density_of_their_range() -> None:
    """Torques in [-2, 2]: 1/4; two numbers in [-1, 1]: 1/4; two choices: 1/2; 4 x 3: 1/12."""
    for env in ("Pendulum-v1", REACH):
        found = recorded(env, None, 2).columns[ACTION_LOG_PROB]
        assert (
            found.dtype == torch.float32
            and found.unique().tolist() == [-math.log(4)]
            or (pytest.approx(found.unique().tolist()) == [-math.log(4)])
        )
    assert recorded(choosing, None, 2).columns[ACTION_LOG_PROB].unique().tolist() == pytest.approx(
        [-math.log(2)]
    )

    def whole() -> Walk:
        env = Walk()
        env.action_space = spaces.Box(np.array([-1, 0]), np.array([2, 2]), (2,), np.int64)
        return env

    found = recorded(whole, None, 2).columns[ACTION_LOG_PROB]
    assert found.unique().tolist() == pytest.approx([-math.log(12)])


@pytest.mark.parametrize("explore", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", [BC, DQN])
def test_choices_with_exploration_to_the_digit(kind: type[Learner], explore: float) -> None:
    """(1 - x) pi + x / 2, pi drawn by the policy's soft-max."""
    learner = learner_of(kind, spec_of(choosing))
    found = recorded(choosing, learner, explore=explore).columns
    pi = torch.softmax(learner.distribution(found["observation"]).logits.detach().double(), -1)
    own = pi.gather(-1, found["action"].unsqueeze(-1)).squeeze(-1)
    expected = ((1 - explore) * own + explore / 2).log()
    torch.testing.assert_close(found[ACTION_LOG_PROB].double(), expected, atol=1e-6, rtol=0)
    assert len(found["action"].unique()) == 2


@pytest.mark.parametrize("learner_kind", ["plain", "history"])
def test_the_likeliest_choice_is_certain_but_for_exploration(learner_kind: str) -> None:
    """0 without; with x = .4: log .8 for the choice of the policy, log .2 for the other one."""
    history = History(steps=2) if learner_kind == "history" else History()
    learner = learner_of(BC, spec_of(choosing), history=history)
    plain = recorded(choosing, learner, sample=False).columns
    assert (plain[ACTION_LOG_PROB] == 0).all()
    mixed = recorded(choosing, learner, sample=False, explore=0.4).columns
    found = mixed[ACTION_LOG_PROB]
    assert sorted(found.unique().tolist()) == pytest.approx([math.log(0.2), math.log(0.8)])
    if learner_kind == "plain":
        taken = learner(mixed["observation"]) == mixed["action"]
        assert torch.equal(taken, found > -0.5)
    assert float((found < -0.5).float().mean()) == pytest.approx(0.2, abs=0.1)


def test_choices_that_the_policy_does_not_know_are_explored_alone() -> None:
    """A policy of choices 1 and 2 among 0 to 3: of the others log(.4 / 4)."""

    def more() -> Walk:
        env = choosing()
        env.action_space = spaces.Discrete(4)
        return env

    spec = changed(spec_of(choosing), action={"start": 1})
    for sample in (True, False):
        learner = learner_of(BC, spec)
        columns = recorded(more, learner, 300, sample=sample, explore=0.4).columns
        unknown = (columns["action"] == 0) | (columns["action"] == 3)
        found = columns[ACTION_LOG_PROB]
        assert found[unknown].tolist() == pytest.approx([math.log(0.1)] * int(unknown.sum()))
        assert float(unknown.float().mean()) == pytest.approx(0.2, abs=0.05)
        assert (found[~unknown].exp() > 0.1 - 1e-6).all()


@pytest.mark.parametrize("explore", [0.0, 0.25])
@pytest.mark.parametrize("kind", ["gaussian", "mixture", "tanh_gaussian", "exploring"])
def test_whole_episodes_have_the_mean_ratio_one(kind: str, explore: float) -> None:
    """Over recorded episodes the mean of prod_t pi_e / pi_b is 1, many actions being clipped."""
    head: dict[str, Any] = {"kind": kind}
    if kind == "exploring":
        head = {"kind": "deterministic", "exploration": 0.6}
    acted, judged = gaussian(0, **head), gaussian(1, **head)
    with torch.no_grad():  # a little to the side, so that 6 steps keep their weights bounded
        for (_, one), (_, other) in zip(
            acted.actor.named_parameters(), judged.actor.named_parameters(), strict=True
        ):
            other.copy_(one + 0.15 * other)
    found = recorded(WALK, acted, 1200, explore=explore, seed=2, num_envs=200)
    columns = found.columns
    target = judged.actor.executed_log_prob(columns["observation"], columns["action"]).detach()
    if explore:  # the judged policy explores as well: both have the same uniform share
        at_bound = columns["action"][:, 0].abs() == 1
        uniform = torch.where(at_bound, -24 * math.log(2), -math.log(2.0)).double()
        target = torch.logaddexp(math.log1p(-explore) + target, math.log(explore) + uniform)
        assert kind == "tanh_gaussian" or 0.05 < at_bound.float().mean() < 0.6
    step = target - columns[ACTION_LOG_PROB].double()
    number = torch.arange(len(found.lengths)).repeat_interleave(found.lengths)
    total = torch.zeros(len(found.lengths), dtype=torch.float64).index_add_(0, number, step)
    ratio = total.exp()
    error = float(ratio.std()) / len(ratio) ** 0.5
    assert 1e-3 < error < 0.05 and float(ratio.mean()) == pytest.approx(1.0, abs=3.5 * error)


def test_an_environment_may_clip_more_than_the_policy() -> None:
    """Executed in [-0.5, 0.5] of answers in [-1, 1]: the mass is that of tighter bounds."""

    def tight() -> Walk:
        env = Walk()
        env.action_space = spaces.Box(-0.5, 0.5, (1,), np.float32)
        return env

    learner = gaussian(0)
    columns = recorded(tight, learner).columns
    at_bound = columns["action"][:, 0].abs() == 0.5
    assert 0.2 < at_bound.float().mean() < 0.95
    low, high = torch.tensor([-0.5]), torch.tensor([0.5])
    distribution = learner.actor(columns["observation"])
    expected = learner.actor.executed(distribution, columns["action"], low, high)
    torch.testing.assert_close(columns[ACTION_LOG_PROB].double(), expected, atol=1e-5, rtol=0)
    assert (columns[ACTION_LOG_PROB][at_bound] < 0).all()
    collector = Collector(tight, explore=0.1)
    assert collector.unstated(learner.collecting(True)) == ""
    wide = learner_of(BC, changed(spec_of(), action={"low": [-0.3], "high": [0.3]}))
    assert "other action bounds" in collector.unstated(wide.collecting(True))


# --- no column ------------------------------------------------------------------------------------


def test_what_has_no_density_is_named() -> None:
    collector, spec = Collector(WALK), spec_of()
    cases = {
        "no density": [
            learner_of(BC, spec, head="deterministic").collecting(True),
            learner_of(BC, spec).collecting(False),
            learner_of(BC, spec, history=2).collecting(True),
            learner_of(FlowBC, spec).collecting(True),
            learner_of(BC, spec, head=Head("mixture", acting="sample_mean")).collecting(True),
        ],
        "does not say": [lambda observation, task, draws: np.zeros((len(observation), 1))],
    }
    for message, policies in cases.items():
        for policy in policies:
            assert message in collector.unstated(policy)
    assert Collector(WALK, explore=1.0).unstated(cases["no density"][0]) == ""
    found = collector.collect(cases["no density"][0], 0, 2, None)
    assert ACTION_LOG_PROB not in found.columns and ACTION_LOG_PROB not in collector.keys


# --- rounds ---------------------------------------------------------------------------------------


def fitted(data: IteratedDataModule, folder: Path, kind: Any = BC, **arguments: Any) -> Log:
    fit(learner_of(kind, data.spec, **arguments), data, folder, 60)
    assert len(data.history) > 1
    return data.log


@pytest.mark.parametrize("mix", [None, {"log": 0.5, "collected": 0.5}])
@pytest.mark.parametrize("stated", [True, False])
def test_rounds_have_it_where_the_log_before_them_has_it(
    mix: Any, stated: bool, tmp_path: Path
) -> None:
    log = log_of()
    if stated:
        log = log.with_columns({ACTION_LOG_PROB: torch.full((len(log),), -math.log(2))})
    found = fitted(online(log, mix=mix), tmp_path)
    assert (ACTION_LOG_PROB in found) == stated and len(found) > len(log)
    if stated:
        column = found.column(ACTION_LOG_PROB)
        assert torch.isfinite(column).all() and len(column[len(log) :].unique()) > 10


@pytest.mark.parametrize("where", ["memory", "file"])
def test_a_policy_without_a_density_leaves_it_out_of_the_first_round_too(
    where: str, tmp_path: Path
) -> None:
    folder = str(tmp_path / "replay") if where == "file" else None
    data = iterated(WALK, initial_episodes=4, batch_size=8, memory_map=folder)
    before = data.log.column("action").clone()
    assert data.log.column(ACTION_LOG_PROB).unique().tolist() == pytest.approx([-math.log(2)])
    found = fitted(data, tmp_path, head="deterministic")
    assert ACTION_LOG_PROB not in found
    assert torch.equal(found.column("action", slice(len(before))), before)


@pytest.mark.parametrize("mix", [None, {"log": 0.5, "collected": 0.5}])
def test_a_checkpoint_without_it_goes_on_without_it(mix: Any) -> None:
    """Those of earlier releases, and those of policies without a density."""
    log = log_of()
    log = log.with_columns({ACTION_LOG_PROB: torch.full((len(log),), -math.log(2))})
    old, new = (online(log, mix=mix, initial_episodes=4) for _ in range(2))
    old._state_with(learner_of(BC, old.spec, head="deterministic").collecting(True), ())
    assert ACTION_LOG_PROB in new.log and ACTION_LOG_PROB not in old.log
    new.load_state_dict(old.state_dict())
    assert ACTION_LOG_PROB not in new.log and not new._collector.stating
    for key in old.log.keys():
        assert torch.equal(new.log.column(key), old.log.column(key))


def test_signed_cloning_reads_what_was_recorded(tmp_path: Path) -> None:
    """The ratio of a policy to itself is 1, at bounds too; after updates it is another."""
    relabel = [ColumnLabel("next.reward", threshold=None, over="row")]
    data = iterated(WALK, relabel, initial_episodes=3, episodes_per_round=2, batch_size=64)
    learner = learner_of(
        SignedBC, data.spec, ratio="importance", behavior="logged", floor=-math.inf
    )
    learner.actor.log_std.data.fill_(0.0)
    columns = recorded(WALK, learner, 100).columns
    distribution = learner.actor(columns["observation"])
    now = learner.log_prob(distribution, columns["action"])
    then = learner.actor.scale.to_policy_density(columns[ACTION_LOG_PROB])
    torch.testing.assert_close(now, then, atol=1e-5, rtol=0)
    assert (columns["action"].abs() == 1).float().mean() > 0.2
    fit(learner, data, tmp_path, 60)
    assert len(data.history) > 2 and all(p.isfinite().all() for p in learner.parameters())


def test_a_learner_that_reads_it_is_told_why_it_is_not_there(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"ratio": "importance", "behavior": "logged"}
    relabel = [ColumnLabel("next.reward", threshold=None, over="row")]
    data = iterated(WALK, relabel, initial_episodes=4, sample=False)
    with pytest.raises(LogError, match=r"needs 'action_log_prob', .*: a deterministic policy of r"):
        fit(learner_of(SignedBC, data.spec, **arguments), data, tmp_path, 20)
    data = online(log_of(), relabel=relabel)
    with pytest.raises(LogError, match=r"needs 'action_log_prob', .*Tiny/Walk-v0 has no such c"):
        fit(learner_of(SignedBC, data.spec, **arguments), data, tmp_path, 20)
