"""Plans: all of them by a plain loop, cuts, ends, slices, and draws of the model."""

import itertools

import pytest
import torch
from episode_logs import episode_log
from torch import Tensor

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.maths.draws import counters
from hindsight_rl.nets.encoders.history import empty_past
from hindsight_rl.nets.network import Attention
from hindsight_rl.nets.trajectory import TrajectoryNet
from hindsight_rl.policies import planning
from hindsight_rl.policies.planning import Search, best_plans, drawn, planned, written

BINS, DISCOUNT = 3, 0.7
ALL = Search(horizon=3, beam=99, candidates=9, cut=0.0)


def made(**options: bool) -> tuple[TrajectoryNet, Tensor, dict[str, Tensor]]:
    """Return a net of random logits, observations ``[4, 3]`` and pasts of 0, 1, 2 and 2 steps."""
    spec = OfflineDataModule(episode_log(**options)).spec
    net = TrajectoryNet(spec, Attention(8, 2, 1), bins=BINS, steps=5)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape))
    net.bins.means[net.bins.part("reward")] = torch.tensor([-1.0, 0.0, 2.0])
    net.bins.means[net.bins.part("return")] = torch.tensor([-3.0, 1.0, 4.0])
    past = empty_past(spec, 2, 4, torch.device("cpu"))
    past["observation"], past["action"] = torch.randn(4, 2, 3), past["action"] + 1
    past["valid"][1:, 1], past["valid"][2:, 0] = 1.0, 1.0
    return net, torch.randn(4, 3), past


def only(past: dict[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return the past of one row."""
    return {name: value[row : row + 1] for name, value in past.items()}


def by_hand(
    net: TrajectoryNet, observation: Tensor, past: dict[str, Tensor], actions: list[list[int]]
) -> float:
    """Return what a plan promises, from whole sequences: no beam, nothing kept."""
    bins, tokens = net.bins, []
    there = int(past["valid"].sum())
    seen = past["observation"][0, 2 - there :]
    done = past["action"][0, 2 - there :]
    for each in range(there):
        numbers = bins.numbers(
            {"observation": seen[each], "action": done[each], "return_to_go": torch.zeros(())}
            | {("next", name): torch.zeros(()) for name in ("reward", "terminated")}
        )
        tokens += bins(numbers).tolist()
    observed = bins.sizes["observation"]
    zero = torch.zeros(bins.slots - observed)
    tokens += bins(torch.cat([observation, zero])).tolist()[:observed]

    def following() -> Tensor:
        count = -(-(len(tokens) + 1) // bins.slots)
        padded = torch.tensor(tokens + [0] * (count * bins.slots - len(tokens)))
        found = net(padded.view(1, count, -1), torch.ones(1, count, dtype=torch.bool))
        return found.flatten(0, 2)[len(tokens)].exp()

    total, factor = 0.0, 1.0
    for step, action in enumerate(actions):
        tokens += action
        reward = float(following() @ bins.means[bins.first["reward"]])
        tokens.append(int(following().argmax()))
        value = float(following() @ bins.means[bins.first["return"]])
        tokens.append(int(following().argmax()))
        if step == len(actions) - 1:
            return total + factor * value
        total, factor = total + factor * reward, factor * DISCOUNT * (1.0 - float(following()[1]))
        tokens.append(0)  # it goes on
        for _ in range(observed):
            tokens.append(int(following().argmax()))
    raise AssertionError


@pytest.mark.parametrize("row", [0, 1, 3])
def test_a_wide_beam_finds_the_best_of_all_plans(row: int) -> None:
    """Three choices, three steps: 27 plans, one by one; none, one and two steps of the past."""
    net, observation, pasts = made(discrete=True)
    past = only(pasts, row)
    with torch.no_grad():
        expected = {
            plan: by_hand(net, observation[row], past, [[choice] for choice in plan])
            for plan in itertools.product(range(3), repeat=3)
        }
    now = written(net, observation[row : row + 1], None, past)
    found = best_plans(net, now, ALL, discount=DISCOUNT)
    torch.testing.assert_close(
        found.score[0], torch.tensor(sorted(expected.values(), reverse=True)), rtol=0, atol=1e-5
    )
    best = max(expected, key=lambda plan: expected[plan])
    assert found.action[0, 0].tolist() == [best[0]]
    action, scores = planned(net, observation[row : row + 1], None, past, ALL, discount=DISCOUNT)
    assert action.tolist() == [best[0]]
    firsts = [max(v for p, v in expected.items() if p[0] == choice) for choice in range(3)]
    torch.testing.assert_close(scores[0], torch.tensor(firsts), rtol=0, atol=1e-5)


def test_actions_of_several_numbers_are_planned_whole() -> None:
    """Two dimensions of three bins, one step: nine actions, the best by its return to go."""
    net, observation, pasts = made()
    past = only(pasts, 0)
    pairs = list(itertools.product(range(3), repeat=2))
    with torch.no_grad():
        expected = [by_hand(net, observation[0], past, [list(pair)]) for pair in pairs]
    search = Search(horizon=1, beam=9, candidates=1, cut=0.0)
    now = written(net, observation[:1], None, past)
    found = best_plans(net, now, search, discount=DISCOUNT)
    torch.testing.assert_close(found.score[0, 0], torch.tensor(max(expected)), rtol=0, atol=1e-5)
    assert tuple(found.action[0, 0].tolist()) == pairs[expected.index(max(expected))]
    action, _ = planned(net, observation[:1], None, past, search, discount=DISCOUNT)
    torch.testing.assert_close(action, net.bins.action(found.action[:, 0]))


def test_unlikely_actions_are_no_candidates() -> None:
    """A share just above a choice's probability leaves it out; the scores of others stay."""
    net, observation, past = made(discrete=True)
    prob = net.next_log_prob(written(net, observation, None, past)).exp().detach()
    least = prob.argmin(-1, keepdim=True)
    assert prob.sort(-1).values[:, :2].sum(-1).min() > prob.amin(-1).max() + 1e-3
    cut = float(prob.amin(-1).max()) + 1e-4  # all rows lose their least likely choice, and no other
    found = [
        planned(net, observation, None, past, Search(1, 9, 1, share), discount=DISCOUNT)[1]
        for share in (0.0, cut)
    ]
    assert found[0].isfinite().all()
    assert found[1].equal(found[0].scatter(1, least, -torch.inf))


def test_many_rows_are_planned_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    net, observation, past = made()
    search = Search(horizon=2, beam=3)
    whole = planned(net, observation, None, past, search, discount=DISCOUNT)
    monkeypatch.setattr(planning, "AT_ONCE", 1)
    alone = planned(net, observation, None, past, search, discount=DISCOUNT)
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_draws_are_those_of_the_model() -> None:
    """Of 4,000 counters, the shares of the three choices are their probabilities."""
    net, observation, pasts = made(discrete=True)
    one, past = observation[:1], only(pasts, 0)
    prob = net.next_log_prob(written(net, one, None, past)).exp()[0]
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(4000))[0]
    many = {name: value.expand(4000, *value.shape[1:]) for name, value in past.items()}
    found = drawn(net, one.expand(4000, -1), None, many, draws)
    torch.testing.assert_close(found.bincount(minlength=3) / 4000, prob.detach(), atol=0.03, rtol=0)


@pytest.mark.parametrize("given", [{"horizon": 0}, {"beam": 0}, {"candidates": 0}, {"cut": 1.0}])
def test_arguments_out_of_range(given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"beam .* must be at least 1 and cut .* in \[0, 1\)"):
        Search(**given)
