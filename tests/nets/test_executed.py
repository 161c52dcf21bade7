"""Every head with a density: what it draws and what it states of executed actions agree."""

from typing import Any, get_args

import pytest
import torch
from episode_logs import episode_log
from specs import changed
from torch import Tensor

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.network import Head, HeadKind, Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.spec import Spec

ROWS = 40_000
KINDS = [kind for kind in get_args(HeadKind) if kind != "deterministic"]
LOW, HIGH = [-1.0, -3.0], [1.0, 2.0]


@pytest.fixture(scope="module")
def spec() -> Spec:
    found = OfflineDataModule(episode_log()).spec
    return changed(found, action={"low": LOW, "high": HIGH, "shape": [2]})


def policy_of(spec: Spec, head: Any, seed: int, wide: float = 0.0) -> Policy:
    """Return a policy whose answer hardly depends on the state, its spread moved by ``wide``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = Policy(spec, Network(hidden=(8,)), head=head)
        if found.log_std is not None:
            found.log_std.data.fill_(wide)
    return found.eval()


def drawn(policy: Policy, observation: Tensor, low: Tensor, high: Tensor) -> tuple[Any, Tensor]:
    """Return the distribution and what an environment with such bounds executes of its draws."""
    distribution = policy(observation)
    draws = counters(3, torch.zeros(1, dtype=torch.int64), torch.arange(ROWS))[0]
    action = policy.scale.to_environment(distribution.sample(draws))
    return distribution, torch.clamp(action, low, high)


@pytest.mark.parametrize("tighter", [False, True])
@pytest.mark.parametrize("kind", [*KINDS, "exploring"])
def test_the_mean_ratio_is_one(kind: str, tighter: bool, spec: Spec) -> None:
    """E_b[pi_e / pi_b] = 1, with many actions at bounds, those of the policy or tighter ones."""
    head = Head("deterministic", exploration=0.8) if kind == "exploring" else Head(kind)  # type: ignore[arg-type]
    low, high = (torch.tensor(ends) * (0.6 if tighter else 1.0) for ends in (LOW, HIGH))
    observation = torch.zeros(ROWS, 3)
    acted = policy_of(spec, head, 0, 0.3 if kind != "tanh_gaussian" else 1.0)
    judged = policy_of(spec, head, 5)
    if acted.unstated(low, high, mixed=False):
        assert kind == "autoregressive" and tighter
        return
    distribution, action = drawn(acted, observation, low, high)
    behavior = acted.executed(distribution, action, low, high)
    target = judged.executed(judged(observation), action, low, high)
    ratio = (target - behavior).exp().detach()
    error = float(ratio.std()) / ROWS**0.5
    assert error < 0.02 and float(ratio.mean()) == pytest.approx(1.0, abs=4 * error)
    at_bound = ((action == low) | (action == high)).float().mean()
    clips = kind in ("gaussian", "laplace", "mixture", "exploring") or tighter
    assert (float(at_bound) > 0.05) == clips, "this case would not show it"


def test_units_are_those_of_the_environment(spec: Spec) -> None:
    """Between bounds the density is that in policy units over the scales 1 and 2.5."""
    policy = policy_of(spec, "gaussian", 0)
    observation, action = torch.zeros(1, 3), torch.tensor([[0.3, -1.0]])
    found = policy.executed_log_prob(observation, action)
    expected = policy.log_prob(observation, action) - torch.tensor(2.5).log()
    torch.testing.assert_close(found, expected.double(), atol=1e-6, rtol=1e-6)


def test_what_is_not_known_is_said(spec: Spec) -> None:
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    point = policy_of(spec, "deterministic", 0)
    assert "no density" in point.unstated(low, high, mixed=False)
    gaussian = policy_of(spec, "gaussian", 0)
    assert gaussian.unstated(low, high, mixed=True) == ""
    assert gaussian.unstated(low * 2, high * 2, mixed=False) == ""
    assert "other action bounds" in gaussian.unstated(low * 2, high * 2, mixed=True)
    assert "other action bounds" in gaussian.unstated(high + 1, high + 2, mixed=False)
    bins = policy_of(spec, "autoregressive", 0)
    assert bins.unstated(low, high, mixed=False) == ""
    assert "clipped" in bins.unstated(low, high * 0.5, mixed=False)
