"""Networks: what is normalised, what is clipped, what a head gives, what is refused."""

import math
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from specs import changed
from torch import Tensor, nn

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.action_scale import ActionScale
from hindsight_rl.nets.critics import Critic, ValueNet
from hindsight_rl.nets.distributions import (
    Categorical,
    Deterministic,
    DiagonalNormal,
    Laplace,
    Mixture,
    TanhNormal,
)
from hindsight_rl.nets.encoders.vector import Inputs
from hindsight_rl.nets.layers import FlatWeights, LastLayer, mlp
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import WHOLE, ActionSpec, Image, Spec

HEADS = ["deterministic", "gaussian", "laplace", "tanh_gaussian", "mixture"]
SMALL = Network(hidden=(8, 8))


def spec_of(**options: Any) -> Spec:
    return OfflineDataModule(episode_log(**options)).spec


def unbounded() -> Spec:
    spec = spec_of()
    spec = changed(spec, action={"low": None, "high": None})
    return spec


def observations(count: int = 5) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def tasks(count: int = 5) -> Tensor:
    return torch.randn(count, 2, generator=torch.Generator().manual_seed(2))


# --- inputs ---------------------------------------------------------------------------------------


def test_mlp_has_relu_between_layers_and_none_at_the_end() -> None:
    layers = list(mlp(3, (8, 4), 2))
    kinds = [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, LastLayer]
    assert [type(layer) for layer in layers] == kinds
    assert [layer.weight.shape for layer in layers[::2]] == [(8, 3), (4, 8), (2, 4)]
    assert [type(layer) for layer in mlp(3, (), 2)] == [LastLayer]


def test_layer_without_units_is_refused() -> None:
    with pytest.raises(ValueError, match=r"hidden is \[8, 0\]: every layer needs at least 1 unit"):
        mlp(3, (8, 0), 2)


def test_images_are_refused() -> None:
    spec = spec_of()
    spec = changed(spec, observation={"shape": [8, 8, 3]})
    with pytest.raises(ValueError, match=r"observation has shape \[8, 8, 3\].*flat vectors \[O\]"):
        Inputs(spec)
    alone = Spec({WHOLE: Image((8, 8, 3))}, Spec.of(spec_of()).action)
    with pytest.raises(ValueError, match=r"\[8, 8, 3\].*as an entry .*`observation: {camera: COL"):
        Inputs(alone)


# --- action units ---------------------------------------------------------------------------------


def test_bounds_map_to_plus_minus_1_and_back() -> None:
    scale = ActionScale(spec_of().action)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    assert scale.to_policy(low).tolist() == [-1, -1] and scale.to_policy(high).tolist() == [1, 1]
    action = episode_log().column("action")
    torch.testing.assert_close(scale.to_environment(scale.to_policy(action)), action)


def test_actions_are_clipped_at_the_bounds() -> None:
    scale = ActionScale(spec_of().action)
    out = scale.to_environment(torch.tensor([[-1.5, 9.0], [1.0, -1.0]]))
    assert out.tolist() == [[LOW[0], HIGH[1]], [HIGH[0], LOW[1]]]


@pytest.mark.parametrize("missing", [("low", "high"), ("low",), ("high",)])
def test_actions_without_both_bounds_are_standardised(missing: tuple[str, ...]) -> None:
    log, spec = episode_log(), spec_of()
    spec = changed(spec, action=dict.fromkeys(missing))
    scale = ActionScale(spec.action)
    action = log.column("action")
    policy = scale.to_policy(action)
    torch.testing.assert_close(policy.mean(0), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(policy.std(0, correction=0), torch.ones(2))
    torch.testing.assert_close(scale.to_environment(policy), action)
    far = scale.to_environment(torch.tensor([[50.0, 50.0], [-50.0, -50.0]]))
    assert not scale.bounded and far.isfinite().all()
    for side, row, end in (("high", 0, HIGH), ("low", 1, LOW)):
        assert far[row].equal(torch.tensor(end)) == (side not in missing)


@pytest.mark.parametrize("is_open", [None, "infinite"])
def test_each_bound_that_is_given_is_held(is_open: str | None) -> None:
    """Dimension 0 has a lower bound only, dimension 1 an upper one; both are standardised."""
    ends = [None, None] if is_open is None else [-math.inf, math.inf]
    spec = spec_of()
    spec = changed(spec, action={"low": [0.0, ends[0]], "high": [ends[1], 0.5]})
    spec = changed(spec, action={"mean": [1.0, 2.0], "std": [2.0, 4.0]})
    scale = ActionScale(spec.action)
    assert scale.to_policy(torch.tensor([3.0, -2.0])).tolist() == [1.0, -1.0]
    out = scale.to_environment(torch.tensor([[-9.0, -9.0], [9.0, 9.0]]))
    assert out.tolist() == [[0.0, -34.0], [19.0, 0.5]]
    assert {"low", "high"} <= set(scale.state_dict())
    policy = Policy(spec, SMALL)
    assert not policy.squash_mean
    mode = policy.mode(1000 * observations(50))
    assert (mode[:, 0] >= 0).all() and (mode[:, 1] <= 0.5).all() and mode.isfinite().all()
    with pytest.raises(ValueError, match="head 'tanh_gaussian' needs action bounds"):
        Policy(spec, SMALL, head="tanh_gaussian")


def test_bounds_at_the_ends_of_float32_are_no_scale() -> None:
    most = torch.finfo(torch.float32).max
    spec = spec_of()
    spec = changed(spec, action={"low": [-most] * 2, "high": [most] * 2})
    scale = ActionScale(spec.action)
    action = episode_log().column("action")
    torch.testing.assert_close(scale.to_environment(scale.to_policy(action)), action)


def test_dimension_with_equal_bounds_stays_finite() -> None:
    bounds = {"low": (0.0, 4.0), "high": (2.0, 4.0)}
    scale = ActionScale(ActionSpec("continuous", (2,), **bounds))
    assert scale.to_policy(torch.tensor([2.0, 4.0])).tolist() == [1.0, 0.0]
    assert scale.to_environment(torch.tensor([-1.0, 0.7])).tolist() == [0.0, 4.0]


def test_discrete_actions_pass_through() -> None:
    scale = ActionScale(spec_of(discrete=True).action)
    action = torch.tensor([0, 2, 1])
    assert scale.to_policy(action).equal(action) and scale.to_environment(action).equal(action)


# --- policies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "kind"),
    zip(HEADS, [Deterministic, DiagonalNormal, Laplace, TanhNormal, Mixture], strict=True),
)
@pytest.mark.parametrize("spread", ["shared", "per_state"])
def test_head_gives_its_distribution(head: Any, kind: type, spread: Any) -> None:
    policy = Policy(spec_of(), SMALL, head=Head(head, spread=spread, components=4))
    found = policy(observations())
    assert isinstance(found, kind)
    assert found.mean.shape == ((5, 4, 2) if head == "mixture" else (5, 2))
    action = torch.rand(5, 2)
    expected = found.log_prob(policy.scale.to_policy(action))
    assert expected.shape == (5,)
    torch.testing.assert_close(policy.log_prob(observations(), action), expected)
    torch.testing.assert_close(policy.mode(observations()), policy.scale.to_environment(found.mode))


@pytest.mark.parametrize("head", HEADS)
def test_discrete_actions_always_get_a_categorical_head(head: Any) -> None:
    policy = Policy(spec_of(discrete=True), SMALL, head=head)
    found = policy(observations())
    assert isinstance(found, Categorical) and found.logits.shape == (5, 3)
    assert policy.mode(observations()).dtype == torch.int64
    assert policy.log_std is None


def test_shared_spread_is_one_parameter_and_starts_at_1() -> None:
    policy = Policy(spec_of(), SMALL)
    assert policy.log_std is not None and policy.log_std.tolist() == [0, 0]
    with torch.no_grad():
        policy.log_std.copy_(torch.tensor([-0.5, 0.25]))
    assert policy(observations()).log_std.equal(policy.log_std.expand(5, 2))


def test_spread_per_state_differs_between_states() -> None:
    policy = Policy(spec_of(), SMALL, head=Head(spread="per_state"))
    assert policy.log_std is None
    assert len(policy(observations()).log_std[:, 0].unique()) == 5


@pytest.mark.parametrize("head", ["gaussian", "laplace", "tanh_gaussian", "mixture"])
def test_log_std_is_kept_in_its_range(head: Any) -> None:
    policy = Policy(
        spec_of(), SMALL, head=Head(head, spread="per_state", log_std_range=(-0.01, 0.01))
    )
    log_std = policy(100 * observations()).log_std.detach()
    assert [log_std.min().item(), log_std.max().item()] == pytest.approx([-0.01, 0.01])


@pytest.mark.parametrize("head", ["deterministic", "gaussian", "laplace", "mixture"])
def test_means_are_squashed_only_where_asked_and_bounded(head: Any) -> None:
    far = 100 * observations()
    assert Policy(spec_of(), SMALL, head=head)(far).mean.abs().max() <= 1
    assert Policy(spec_of(), SMALL, head=Head(head, squash_mean=False))(far).mean.abs().max() > 1
    assert Policy(unbounded(), SMALL, head=head)(far).mean.abs().max() > 1


@pytest.mark.parametrize("head", HEADS)
def test_mode_lies_within_the_bounds(head: Any) -> None:
    policy = Policy(spec_of(), SMALL, head=Head(head, squash_mean=False))
    mode = policy.mode(1000 * observations(50))
    assert (mode >= torch.tensor(LOW)).all() and (mode <= torch.tensor(HIGH)).all()


def test_exploration_stays_within_the_bounds() -> None:
    """Samples of a deterministic head differ from its mode, and none leaves the bounds."""
    policy = Policy(spec_of(), SMALL, head=Head("deterministic", exploration=0.5))
    counter = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(50))[0]
    seen = 1000 * observations(50)
    sample = policy.scale.to_environment(policy(seen).sample(counter))
    assert (sample >= torch.tensor(LOW)).all() and (sample <= torch.tensor(HIGH)).all()
    assert (sample != policy.mode(seen)).any(-1).float().mean() > 0.5


@pytest.mark.parametrize(
    ("head", "exploration", "bounded", "message"),
    [
        ("deterministic", 0.0, False, "exploration needs .* bounds: give action_low and action_h"),
        ("gaussian", 0.1, True, "exploration needs head 'deterministic' and action bounds"),
        ("deterministic", -0.1, True, "exploration is -0.1, it must be at least 0"),
    ],
)
def test_exploration_is_refused(
    head: HeadKind, exploration: float, bounded: bool, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(
            spec_of() if bounded else unbounded(), SMALL, head=Head(head, exploration=exploration)
        )


def test_squashed_density_needs_bounds() -> None:
    with pytest.raises(
        ValueError, match="head 'tanh_gaussian' needs action bounds: give .* in the column map "
    ):
        Policy(unbounded(), SMALL, head="tanh_gaussian")


@pytest.mark.parametrize("head", ["deterministic", "gaussian", "laplace"])
def test_actions_relative_to_the_observation(head: Any) -> None:
    """The mean is the chosen entries, in policy units, plus the network's answer, about 0 at first.

    Nothing is squashed, so that a target may lie as far as the bounds allow.
    """
    policy = Policy(spec_of(), SMALL, head=Head(head, relative_to=[2, 0]))
    seen = observations()
    answer = policy.net(policy.inputs(seen))
    expected = policy.scale.to_policy(seen[:, [2, 0]]) + answer
    torch.testing.assert_close(policy(seen).mean, expected)
    assert answer.abs().max() < 0.05
    inside = seen.clamp(-0.9, 0.9)
    torch.testing.assert_close(policy.mode(inside), inside[:, [2, 0]], rtol=0, atol=0.1)
    far = policy.mode(100 * seen)
    assert (far >= torch.tensor(LOW)).all() and (far <= torch.tensor(HIGH)).all()


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (Head(relative_to=(0,)), r"relative_to is \[0\]: give 2 entries of the observation"),
        (Head(relative_to=(0, 3)), r"relative_to is \[0, 3\].*each in \[0, 3\)"),
        (Head(relative_to=(-1, 0)), r"relative_to is \[-1, 0\]"),
        (Head("mixture", relative_to=(0, 1)), "needs continuous actions and an unsquashed"),
        (Head("tanh_gaussian", relative_to=(0, 1)), "an unsquashed, single head"),
    ],
)
def test_bad_relative_entries_raise(head: Head, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Policy(spec_of(), SMALL, head=head)


def test_discrete_actions_are_relative_to_nothing() -> None:
    with pytest.raises(ValueError, match="relative_to needs continuous actions"):
        Policy(spec_of(discrete=True), SMALL, head=Head(relative_to=[0]))


def test_task_changes_the_answer(options: dict[str, bool]) -> None:
    spec = spec_of(**options | {"task": True})
    policy, value = Policy(spec, SMALL), ValueNet(spec, SMALL)
    one, two = policy(observations(), tasks())[0], policy(observations(), tasks() + 1)[0]
    assert (one != two).any(-1).all()
    assert (value(observations(), tasks()) != value(observations(), tasks() + 1)).all()


def test_leading_dimensions_are_kept(spec: Spec) -> None:
    """[K, B, O] gives what [K * B, O] gives, for every network."""
    many, goal = observations(6).view(2, 3, 3), tasks(6).view(2, 3, 2)
    flat = (many.flatten(0, 1), goal.flatten(0, 1))
    policy, value = Policy(spec, SMALL), ValueNet(spec, SMALL)
    action = policy.mode(many, goal)
    torch.testing.assert_close(action.flatten(0, 1), policy.mode(*flat))
    torch.testing.assert_close(value(many, goal).flatten(), value(*flat))
    critic = Critic(spec, SMALL)
    q = critic(many, action, goal)
    assert q.shape == (2, 2, 3)  # [E, K, B]
    torch.testing.assert_close(q.flatten(1), critic(flat[0], action.flatten(0, 1), flat[1]))


# --- values ---------------------------------------------------------------------------------------


def test_value_is_in_units_of_its_scale() -> None:
    plain = ValueNet(spec_of(), SMALL)
    scaled = ValueNet(spec_of(), SMALL, scale=100.0)
    scaled.load_state_dict(plain.state_dict())
    assert plain(observations()).shape == (5,)
    torch.testing.assert_close(scaled(observations()), 100 * plain(observations()))


def test_statistics_travel_with_the_weights(options: dict[str, bool]) -> None:
    """A network built for other data answers the same once it has the weights: buffers included."""
    policy = Policy(spec_of(**options), SMALL)
    other = Policy(spec_of(**options, seed=5), SMALL)
    other.load_state_dict(policy.state_dict())
    found, expected = (p(observations(), tasks()) for p in (other, policy))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_a_network_is_a_function_of_one_vector() -> None:
    """As it is, with another vector, and after a step; what is frozen is in none."""
    network = mlp(3, (4,), 2)
    network[0].bias.requires_grad_(False)
    features, flat = torch.randn(5, 3), FlatWeights(network)
    vector = flat.vector
    assert vector.shape == (3 * 4 + 4 * 2 + 2,)
    torch.testing.assert_close(flat(vector, features), network(features))
    moved = flat(2.0 * vector, features)
    slope = torch.func.grad(lambda v: flat(v, features).sum())(vector)
    torch.testing.assert_close(slope[-2:], torch.full((2,), 5.0))
    flat.move(vector)
    torch.testing.assert_close(flat.vector, 2.0 * vector)
    torch.testing.assert_close(network(features), moved)
