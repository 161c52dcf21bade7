"""Tokens of steps: who sees whom, padding, one by one against all at once, and bins of a log."""

import pytest
import torch
from episode_logs import HIGH, LOW, episode_log
from torch import Tensor

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.nets.network import Attention
from hindsight_rl.nets.step_bins import StepBins
from hindsight_rl.nets.trajectory import TrajectoryNet

STEPS, BINS = 4, 5
OPTIONS = ({}, {"discrete": True}, {"task": True})


def made(**options: bool) -> tuple[TrajectoryNet, Tensor, Tensor | None]:
    """Return a net whose outputs differ, tokens ``[6, K, D]`` and a task."""
    spec = OfflineDataModule(episode_log(**options)).spec
    net = TrajectoryNet(spec, Attention(8, 2, 2), bins=BINS, steps=STEPS)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    tokens = torch.randint(0, BINS, (6, STEPS, net.slots))
    tokens[..., net.bins.first["end"]] %= 2
    if options.get("discrete"):
        tokens[..., net.bins.part("action")] %= 3
    return net, tokens, torch.randn(6, 2) if options.get("task") else None


def everything(net: TrajectoryNet, tokens: Tensor, task: Tensor | None = None) -> Tensor:
    """Return the log-probabilities ``[6, K D, G]`` where all steps are there."""
    return net(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool), task).flatten(1, 2)


# --- who sees whom --------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
def test_later_tokens_leave_no_trace(options: dict[str, bool]) -> None:
    """Whatever follows token t, its own logits and all before are equal to the bit.

    So a token is not seen by its own prediction; the next one sees it.
    """
    net, tokens, task = made(**options)
    before = everything(net, tokens, task)
    for place in range(STEPS * net.slots):
        changed = tokens.clone().flatten(1)
        other = (changed[:, place:] + 1) % BINS
        small = (~net.bins.open.repeat(STEPS, 1)[place:]).any(-1)
        changed[:, place:] = torch.where(small, 1 - changed[:, place:].clamp(max=1), other)
        after = everything(net, changed.view_as(tokens), task)
        assert torch.equal(after[:, : place + 1], before[:, : place + 1])
        if place + 1 < STEPS * net.slots:
            assert not torch.isclose(after[:, place + 1], before[:, place + 1]).all(-1).any()


def test_an_action_is_not_seen_by_its_own_prediction() -> None:
    net, tokens, _ = made()
    before, changed = everything(net, tokens).unflatten(1, (STEPS, -1)), tokens.clone()
    acted, first = net.bins.part("action"), net.bins.first["action"]
    changed[:, 1, acted] = (changed[:, 1, acted] + 1) % BINS
    after = everything(net, changed).unflatten(1, (STEPS, -1))
    assert torch.equal(after[:, 0], before[:, 0])
    assert torch.equal(after[:, 1, : first + 1], before[:, 1, : first + 1])
    assert not torch.isclose(after[:, 1, first + 1], before[:, 1, first + 1]).all(-1).any()


def test_outcomes_are_seen_by_their_own_step_alone() -> None:
    """By its last token, too, which the first number of the next step is predicted from."""
    net, tokens, _ = made()
    before, changed = everything(net, tokens).unflatten(1, (STEPS, -1)), tokens.clone()
    changed[:, 1, net.bins.first["reward"]] += 1
    changed[:, 1, net.bins.first["reward"]] %= BINS
    after = everything(net, changed).unflatten(1, (STEPS, -1))
    value = net.bins.first["return"]
    assert not torch.isclose(after[:, 1, value], before[:, 1, value]).all(-1).any()
    assert torch.equal(after[:, 2, 1:], before[:, 2, 1:])
    assert torch.equal(after[:, 3, 1:], before[:, 3, 1:])


@pytest.mark.parametrize("options", OPTIONS)
def test_left_padding_is_not_there(options: dict[str, bool]) -> None:
    net, tokens, task = made(**options)
    net, task = net.double(), None if task is None else task.double()
    for there in range(1, STEPS):
        valid = (torch.arange(STEPS) >= STEPS - there).expand(6, -1)
        padded = net(tokens, valid, task)[:, -there:].flatten(1, 2)
        alone = everything(net, tokens[:, -there:], task)
        # The first number of all is given; behind padding its logits mean nothing.
        torch.testing.assert_close(padded[:, 1:], alone[:, 1:], rtol=0, atol=1e-6)
        nats, counted = net.nats(tokens, valid, task)
        short = net.nats(tokens[:, -there:], valid[:, -there:], task)
        torch.testing.assert_close(nats[:, -there:], short[0], rtol=0, atol=1e-6)
        assert counted[:, -there:].equal(short[1]) and not counted[:, :-there].any()
        assert counted.sum() == 6 * (there * net.slots - 1) and not nats[~counted].any()


# --- one by one -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("there", [0, 1, 2])
def test_written_on_token_by_token_equals_all_at_once(options: dict[str, bool], there: int) -> None:
    """From two past steps, some of them padding, through the present and the step after it."""
    net, tokens, task = made(**options)
    valid = (torch.arange(STEPS) >= 2 - there).expand(6, -1)
    expected = net(tokens, valid, task).flatten(1, 2)
    begun = tokens[:, :3].clone()
    begun[:, 2, net.bins.sizes["observation"] :] = 0  # not known yet, and not looked at
    begun[:, :2, net.seen_later :] = 0
    written = net.begin(begun, valid[:, :2], task)
    start = 2 * net.slots + net.bins.sizes["observation"]
    for place in range(start, STEPS * net.slots):
        found = net.next_log_prob(written)
        torch.testing.assert_close(found, expected[:, place], rtol=1e-5, atol=1e-5)
        written = net.more(tokens.flatten(1)[:, place], written)


def test_rows_of_what_is_written_may_repeat() -> None:
    net, tokens, _ = made()
    written = net.begin(tokens[:, :2], torch.ones(6, 1))
    some = torch.tensor([4, 0, 4])
    found = net.next_log_prob(net.more(tokens[some, 1, 3], written.rows(some)))
    alone = net.next_log_prob(net.more(tokens[:, 1, 3], written))[some]
    torch.testing.assert_close(found, alone)


# --- bins -----------------------------------------------------------------------------------------


def steps_of(bins: StepBins, **options: bool) -> Tensor:
    log = episode_log(**options)
    columns = {key: log.column(key) for key in ("observation", "action", ("next", "reward"))}
    end = log.column(("next", "terminated"))
    reward = columns["next", "reward"]
    return bins.numbers(columns | {"return_to_go": reward + 7.0, ("next", "terminated"): end})


def test_bins_of_a_log_hold_as_many_rows_each() -> None:
    bins = StepBins(OfflineDataModule(episode_log()).spec, 4)
    steps = steps_of(bins)
    assert not bins.fitted
    bins.fit(steps)
    assert bins.fitted and bins.slots == 8 and list(bins.sizes.values()) == [3, 2, 1, 1, 1]
    tokens = bins(steps)
    for slot in range(bins.slots - 1):
        count = tokens[:, slot].bincount(minlength=4)
        assert count.sum() == 47 and 11 <= count.min() and count.max() <= 13
        for token in range(4):
            mean = steps[tokens[:, slot] == token, slot].mean()
            torch.testing.assert_close(bins.means[slot, token], mean)
    assert tokens[:, -1].equal(steps[:, -1].long())


def test_choices_are_bins_of_their_own() -> None:
    bins = StepBins(OfflineDataModule(episode_log(discrete=True)).spec, 4)
    steps = steps_of(bins, discrete=True)
    bins.fit(steps)
    action = steps[:, bins.first["action"]].long()
    tokens = bins(steps)
    assert tokens[:, bins.first["action"]].equal(action)
    assert bins.action(tokens[:, bins.part("action")]).equal(action)
    assert bins.open.sum(-1).tolist() == [4, 4, 4, 3, 4, 4, 2]
    with pytest.raises(ValueError, match="bins is 2, and there are 3 actions: give as many"):
        StepBins(OfflineDataModule(episode_log(discrete=True)).spec, 2)


def test_actions_keep_the_bounds() -> None:
    """A log that leaves its bounds by far: what a bin stands for is clipped."""
    bins = StepBins(OfflineDataModule(episode_log()).spec, 4)
    bins.fit(10.0 * steps_of(bins))
    found = bins.action(torch.tensor([[0, 0], [3, 3]]))
    assert found[0].tolist() == [
        max(LOW[0], bins.means[3, 0].item()),
        max(LOW[1], bins.means[4, 0]),
    ]
    assert found[1].tolist() == pytest.approx(HIGH)
