"""Files that draw their actions: what is drawn, and how likely the file says that it is."""

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from drawn_policies import KINDS, learner
from json_schema import errors
from policy_files import contract, node, write
from small_fits import LEARNERS, data_for, learner_of, log_for, takes
from stand_ins import StandIn, spec_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.crr import CRR
from hindsight_rl.agents.dqn import DQN
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.agents.sac import SAC
from hindsight_rl.export.checks import ContractError
from hindsight_rl.export.contract import validate
from hindsight_rl.export.draws import counters
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.torch_graph import ExportError
from hindsight_rl.nets.distributions import TanhNormal
from hindsight_rl.nets.network import Head
from hindsight_rl.training.drawn_policy import not_drawn
from hindsight_rl.training.learner import Learner

SCHEMA: dict[str, Any] = json.loads(
    files("hindsight_rl.export").joinpath("contract.schema.json").read_text()
)
ROWS = 300


def written(found: Learner, folder: Path, opset: int = 17, **options: Any) -> OnnxPolicy:
    """Return the file of a learner that draws."""
    export_policy(found, folder / "policy.onnx", opset=opset, drawn=True)
    return OnnxPolicy(folder / "policy.onnx", **options)


def given(policy: OnnxPolicy, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray | None]:
    """Return observations, and tasks where it takes any."""
    draw = np.random.default_rng(1)
    observation = draw.normal(size=(rows, 4)).astype(np.float32)
    task = draw.normal(100.0, 50.0, size=(rows, 2)).astype(np.float32)
    return observation, None if policy.signature.task is None else task


# --- as the learner -------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [17, 18])
@pytest.mark.parametrize("kind", KINDS)
def test_it_draws_and_states_what_the_learner_does(kind: str, opset: int, tmp_path: Path) -> None:
    """The same counters, the same actions and log-probabilities as those that are collected."""
    made = learner(kind)
    policy = written(made, tmp_path, opset)
    observation, task = given(policy)
    noise = counters(5, np.arange(ROWS), 3)
    found = policy.drawn(observation, task, {}, noise)
    expected = made.collecting(True).drawn(observation, task, {}, noise)
    assert found.action.dtype == expected.action.dtype
    clear = slice(None)
    if policy.signature.action.discrete:
        assert len(np.unique(found.action)) > 1
        clear = found.action == expected.action
    elif kind == "mixture":
        clear = (np.abs(found.action - expected.action) < 1e-3).all(-1)
    assert np.mean(clear) > 0.99 if isinstance(clear, np.ndarray) else True
    np.testing.assert_allclose(found.action[clear], expected.action[clear], rtol=0, atol=2e-5)
    low, high = np.float32([-2.0, -1.0, 0.0]), np.float32([2.0, 3.0, 0.5])
    for tighter in (1.0, 0.5):  # an environment may have bounds of its own
        bounds = low * tighter, high * tighter
        executed = expected.action
        if not policy.signature.action.discrete:
            executed = np.clip(executed, *bounds)
            assert kind == "tanh_normal" or 0.1 < (executed == bounds[1]).mean() < 0.8
        np.testing.assert_allclose(
            found.log_prob(executed, *bounds), expected.log_prob(executed, *bounds), atol=1e-4
        )


@pytest.mark.parametrize("kind", KINDS)
def test_draws_are_as_frequent_as_it_says(kind: str, tmp_path: Path) -> None:
    """Of 20,000 draws of one state, in each dimension, at bounds and between them."""
    many = 20_000
    policy = written(learner(kind), tmp_path)
    observation, task = given(policy, 1)
    rows = (np.repeat(each, many, axis=0) for each in (observation, task) if each is not None)
    repeated = [*rows, None][:2]
    found = policy.drawn(*repeated, {}, counters(7, np.arange(many), 0))
    assert found.log_prob is not None
    low, high = np.zeros(0), np.zeros(0)
    if policy.signature.action.discrete:
        share = np.bincount(found.action, minlength=3) / many
        stated = [found.log_prob(np.full(many, k), low, high)[0] for k in range(3)]
        np.testing.assert_allclose(share, np.exp(stated), atol=0.015)
        assert (share > 0.02).sum() > 1
        return
    # Over draws of p and of another policy q, the mean of 2 q / (p + q) is 1.
    other = learner(kind)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0.7).add_(0.1)
    (tmp_path / "other").mkdir()
    noise = counters(8, np.arange(many), 0)
    judged = written(other, tmp_path / "other").drawn(*repeated, {}, noise)
    assert judged.log_prob is not None
    low, high = np.float32([-2.0, -1.0, 0.0]), np.float32([2.0, 3.0, 0.5])
    ratios = []
    for action in (found.action, judged.action):
        own, of_other = (each.log_prob(action, low, high) for each in (found, judged))
        assert np.isfinite(own).all() and np.isfinite(of_other).all()
        ratios.append(2.0 / (1.0 + np.exp(own - of_other)))
    error = np.std(ratios) / (2 * many) ** 0.5
    assert 1e-4 < error < 0.005 and abs(np.mean(ratios) - 1.0) < 4 * error
    if kind == "exploring":  # 0.4 of half the range about the mean
        inside = (found.action > low) & (found.action < high)
        for dimension in np.flatnonzero(inside.mean(0) > 0.99):
            assert found.action[:, dimension].std() == pytest.approx(
                0.2 * float(high[dimension] - low[dimension]), rel=0.03
            )


def test_a_mixture_that_takes_the_mean_of_a_drawn_component_may_be_written_too(
    tmp_path: Path,
) -> None:
    head = Head("mixture", acting="sample_mean")
    policy = written(learner_of(BC, spec_of(), head=head).eval(), tmp_path)
    assert policy.signature.noise is not None and policy.signature.noise.width == 4


# --- in a loop ------------------------------------------------------------------------------------


def test_a_loop_draws_by_seed_episode_and_step(tmp_path: Path) -> None:
    made = learner_of(BC, spec_of(), head="gaussian").eval()
    policy = written(made, tmp_path, seed=3)
    observation = given(policy, 4)[0]
    actions = [policy.act(observation[0]) for _ in range(2)]
    stated = policy.log_prob(actions[1])
    seen = torch.from_numpy(observation[:1])
    expected = made.actor.executed_log_prob(seen, torch.from_numpy(actions[1][None]))
    assert isinstance(stated, float) and stated == pytest.approx(expected.item(), abs=1e-4)
    assert policy.log_prob(actions[0]) != stated and not np.array_equal(*actions)
    policy.reset(episode=0)
    np.testing.assert_array_equal(policy.act(observation[0]), actions[0])
    drawn = policy.drawn(observation[:1], None, {}, counters(3, np.array([0]), 1))
    np.testing.assert_array_equal(drawn.action[0], actions[1])
    policy.reset()
    batch = policy.act(observation)
    found = policy.log_prob(batch)
    assert found.shape == (4,) and found.dtype == np.float64
    with pytest.raises(ValueError, match=r"action has shape \[2, 3\], and act answered \[4, 3\]"):
        policy.log_prob(batch[:2])


def test_choices_in_a_loop(tmp_path: Path) -> None:
    made = learner_of(DQN, spec_of(discrete=True), temperature=0.25).eval()
    policy = written(made, tmp_path)
    observation = given(policy, 1)[0][0]
    taken = [policy.act(observation) for _ in range(50)]
    assert all(isinstance(choice, int) for choice in taken) and len(set(taken)) > 1
    logits = made.scores(torch.from_numpy(observation[None]))
    expected = torch.log_softmax(made.distribution(torch.from_numpy(observation[None])).logits, -1)
    assert not torch.allclose(logits, expected)
    for choice in range(3):
        assert policy.log_prob(choice) == pytest.approx(expected[0, choice].item(), abs=1e-5)


def test_zeros_are_the_likeliest_action(tmp_path: Path) -> None:
    made = learner_of(BC, spec_of(), head="gaussian").eval()
    policy = written(made, tmp_path, deterministic=True)
    observation = given(policy)[0]
    expected = made(torch.from_numpy(observation)).detach().numpy()
    np.testing.assert_allclose(policy.act(observation), expected, rtol=0, atol=2e-5)
    assert "no density" in policy.unstated(np.float32([-1.0]), np.float32([1.0]), mixed=False)
    with pytest.raises(ValueError, match="hindsight export --drawn"):
        policy.log_prob(expected)
    export_policy(learner("mixture"), tmp_path / "mixture.onnx", opset=17, drawn=True)
    with pytest.raises(ValueError, match="Without --drawn 'hindsight export' writes the likeliest"):
        OnnxPolicy(tmp_path / "mixture.onnx", deterministic=True)


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    policy = written(learner_of(BC, spec_of(), head="gaussian").eval(), tmp_path)
    with pytest.raises(ValueError, match="log_prob follows act"):
        policy.log_prob(np.zeros(3, np.float32))
    low, high = np.float32([-2.0, -1.0, 0.0]), np.float32([2.0, 3.0, 0.5])
    assert policy.unstated(low, high, mixed=True) == ""
    assert policy.unstated(low * 2, high * 2, mixed=False) == ""
    assert "other action bounds" in policy.unstated(low * 2, high * 2, mixed=True)
    assert "other action bounds" in policy.unstated(high + 1, high + 2, mixed=False)
    export_policy(StandIn(), tmp_path / "plain.onnx", opset=17)
    plain = OnnxPolicy(tmp_path / "plain.onnx")
    plain.act(given(plain, 1)[0][0])
    with pytest.raises(ValueError, match="hindsight export --drawn"):
        plain.log_prob(np.zeros(3, np.float32))


# --- what has no such file ------------------------------------------------------------------------

WITHOUT = {
    "its answers are chunks": lambda: learner_of(FlowBC, data_for(FlowBC).spec, chunk=4),
    "it keeps a state": lambda: learner_of(RecurrentBC, data_for(RecurrentBC).spec),
    "no density": lambda: learner_of(BC, spec_of(), head="deterministic"),
    "asks its network again": lambda: learner_of(BC, spec_of(), head="autoregressive"),
    "from a distribution that it states": lambda: learner_of(CRR, spec_of()),
    "has no drawn_policy": StandIn,
}


@pytest.mark.parametrize("reason", WITHOUT)
def test_it_is_said_why_there_is_none(reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"{reason}.* [Ll]eave (it|drawn) out"):
        export_policy(WITHOUT[reason]().eval(), tmp_path / "policy.onnx", drawn=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("discrete", [False, True], ids=["continuous", "discrete"])
@pytest.mark.parametrize("kind", LEARNERS.values(), ids=LEARNERS.keys())
def test_every_learner_has_one_or_says_why(
    kind: type[Learner], discrete: bool, tmp_path: Path
) -> None:
    """On the rows of a log: what it collects, and as likely."""
    options = {"discrete": True} if discrete else {}
    if not takes(kind, options):
        pytest.skip(f"{kind.__name__} takes {' and '.join(kind.actions)} actions only")
    made = learner_of(kind, data_for(kind, log := log_for(kind, **options)).spec).eval()
    path = tmp_path / "policy.onnx"
    if kind.not_exported or not_drawn(made):
        with pytest.raises(ExportError, match="is not exported|Leave drawn out"):
            export_policy(made, path, drawn=True)
        assert not path.exists()
        return
    policy, seen = written(made, tmp_path), log.column("observation").numpy()
    task = log.column("task").numpy() if "task" in log else None
    noise = counters(2, np.arange(len(seen)), 1)
    found, expected = (
        each.drawn(seen, task, {}, noise) for each in (policy, made.collecting(True))
    )
    if discrete:
        assert np.mean(found.action == expected.action) > 0.99
    else:
        np.testing.assert_allclose(found.action, expected.action, rtol=0, atol=1e-4)
    ends = np.full(() if discrete else found.action.shape[1], np.inf, np.float32)
    stated = [each.log_prob(expected.action, -ends, ends) for each in (found, expected)]
    np.testing.assert_allclose(*stated, rtol=0, atol=2e-3)


# --- the file -------------------------------------------------------------------------------------


def test_the_contract_says_what_actions_are_drawn_from(tmp_path: Path) -> None:
    policy = written(learner("mixture"), tmp_path)
    found = policy.contract
    assert found["version"] == 3 and found["distribution"] == {"kind": "mixture", "components": 5}
    assert found["noise"] == {"shape": [4], "distribution": "normal", "zero": False}
    assert errors(found, SCHEMA, SCHEMA) == [] and set(found) <= set(SCHEMA["properties"])
    graph = onnx.load(tmp_path / "policy.onnx").graph
    names = [f"distribution.{name}" for name in ("logits", "mean", "std")]
    assert [each.name for each in graph.output] == ["action", "scores", *names]
    export_policy(learner("mixture"), tmp_path / "plain.onnx", opset=17)
    plain = OnnxPolicy(tmp_path / "plain.onnx").contract
    assert plain["version"] == 2 and "distribution" not in plain


class Misstating(SAC):
    """A learner whose graph states a spread that is not the one that it draws with."""

    def distribution(self, observation: Any, task: Any = None) -> Any:
        """Return a distribution that is another one in a graph, with the same draws."""
        found = super().distribution(observation, task)
        return Wider(*found) if torch.onnx.is_in_onnx_export() else found


class Wider:
    def __init__(self, mean: Any, log_std: Any) -> None:
        self._own = TanhNormal(mean, log_std)
        self.noise, self.from_noise = self._own.noise, self._own.from_noise

    def described(self, units: Any) -> Any:
        stated = self._own.described(units)
        return stated._replace(numbers=stated.numbers | {"std": 1.05 * stated.numbers["std"]})


def test_a_file_that_states_another_spread_is_not_written(tmp_path: Path) -> None:
    made = learner_of(Misstating, spec_of()).eval()
    with pytest.raises(ContractError, match=r"differ by .* nats in how likely an action is"):
        export_policy(made, tmp_path / "policy.onnx", opset=17, drawn=True)
    assert list(tmp_path.iterdir()) == []


def by_hand() -> dict[str, Any]:
    """Return a contract of x + noise, drawn from N(x, 1)."""
    rows = [[0.0, 1.0], [2.0, 3.0]]
    return contract(
        version=3,
        noise={"shape": [2], "distribution": "normal", "zero": True},
        distribution={"kind": "normal"},
        probe={
            "observation": rows,
            "noise": [[0.0, 0.0], [1.0, -1.0]],
            "action": [[0.0, 1.0], [3.0, 2.0]],
            "log_prob": [-1.8378771, -2.8378771],
        },
    )


def test_a_file_made_by_hand(tmp_path: Path) -> None:
    nodes = [
        node("Add", "observation noise", "action"),
        node("Identity", "observation", "distribution.mean"),
        node("Sub", "observation observation", "zero"),
        node("Exp", "zero", "distribution.std"),
    ]
    policy = OnnxPolicy(write(tmp_path / "policy.onnx", by_hand(), nodes))
    assert errors(policy.contract, SCHEMA, SCHEMA) == []
    policy.act(np.float32([0.0, 1.0]))
    assert policy.log_prob(np.float32([1.0, 1.0])) == pytest.approx(-2.3378771)


DAMAGE = [
    ("distribution", {"kind": "cauchy"}, "must be one of normal, laplace, tanh_normal, mixture"),
    ("distribution", {"kind": "categorical"}, "must be one of normal"),
    ("distribution", {"kind": "mixture"}, "components is missing"),
    ("distribution", {"kind": "mixture", "components": 0}, "components is 0"),
    ("distribution", {"kind": "tanh_normal"}, "have an open end"),
    ("noise", None, "noise is not"),
    ("chunk", {"length": 2, "execute": 1}, "the density of a chunk is not"),
    ("probe.log_prob", [0.0], "probe.log_prob"),
]


@pytest.mark.parametrize(("place", "value", "message"), DAMAGE)
def test_damage_is_named(place: str, value: Any, message: str) -> None:
    broken = copy.deepcopy(by_hand())
    validate(broken)
    *outer, last = place.split(".")
    within = broken
    for name in outer:
        within = within[name]
    within[last] = value
    with pytest.raises(ContractError, match=message):
        validate(broken)
