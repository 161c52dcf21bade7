"""DPO: the loss by hand, T43 and the weighted step it leads to, its reference, resume, errors."""

from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import check_resumed, equal, fit, learner_of, pairs_of, weights, whole_log
from tensordict import TensorDict

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dpo import DPO
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.keys import FIRST, PREFERENCE, SECOND
from hindsight_rl.maths.preferences import direct_loss
from hindsight_rl.nets.network import Network
from hindsight_rl.training.checkpoints.load import load_learner


def begun(**arguments: Any) -> tuple[Any, DPO]:
    data = pairs_of(episode_log(discrete=True), batch_size=16, updates_per_step=4)
    learner: Any = learner_of(DPO, data.spec, **arguments)
    return data, learner


def sums(model: DPO, batch: TensorDict) -> list[torch.Tensor]:
    """Return the sums of log pi - log ref of both segments, step by step."""
    found = []
    for part in (FIRST, SECOND):
        ratio = torch.zeros(())
        for network, sign in ((model.actor, 1.0), (model.reference, -1.0)):
            logits = network(batch[part, "observation"], None).logits
            chosen = torch.log_softmax(logits, -1).gather(-1, batch[part, "action"][..., None])
            ratio = ratio + sign * chosen.squeeze(-1).sum(-1).detach()
        found.append(ratio)
    return found


def test_loss_is_that_of_sums_of_log_ratios() -> None:
    data, model = begun(beta=0.3)
    batch = whole_log(model, data)
    model.cloned.fill_(2.0)
    with torch.no_grad():
        for value in model.actor.parameters():
            value.add_(0.3 * torch.linspace(-1, 1, value.numel()).view_as(value))
    first, second = sums(model, batch)
    found = model.losses(batch)
    expected = direct_loss(first, second, batch[PREFERENCE], beta=0.3).mean()
    torch.testing.assert_close(found.terms["actor"].detach(), expected)
    better = torch.where(batch[PREFERENCE] > 0.5, second > first, first > second).float().mean()
    torch.testing.assert_close(found.metrics["actor/accuracy"], better)
    ratio = torch.cat([first, second]).mean() / 4
    torch.testing.assert_close(found.metrics["actor/log_ratio"], ratio)
    found.terms["actor"].backward()
    assert all(value.grad is None for value in model.reference.parameters())


@pytest.mark.parametrize(
    ("beta", "optimum"),
    [(1.0, (0.179000, 0.291944, 0.529056)), (2.0, (0.325040, 0.321540, 0.353420))],
)
def test_optimum_is_one_weighted_step_from_the_reference(
    beta: float, optimum: tuple[float, ...]
) -> None:
    """T43: rewards 1, 2, 3, reference (.5, .3, .2), labels sigma(r_2 - r_1) of all ordered pairs.

    The same policy maximises E_ref[ exp(r / beta) log pi ]: one step of reward-weighted
    regression.
    """
    data, model = begun(beta=beta, network=Network(hidden=()))
    reference, reward = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 2.0, 3.0])
    with torch.no_grad():
        for network, policy in (
            (model.reference, reference),
            (model.actor, torch.tensor(optimum)),
        ):
            network.net[-1].weight.zero_()
            network.net[-1].bias.copy_(policy.log())
    first, second = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)
    apart = first != second
    first, second = first[apart], second[apart]
    seen = torch.zeros(len(first), 1, *data.spec.observation["observation"].shape)
    pairs = {
        FIRST: {"observation": seen, "action": first[:, None]},
        SECOND: {"observation": seen, "action": second[:, None]},
        PREFERENCE: torch.sigmoid(reward[second] - reward[first]),
    }
    model.cloned.fill_(2.0)
    loss = model.losses(TensorDict(pairs, batch_size=[len(first)])).terms["actor"]
    bias = model.actor.net[-1].bias
    assert loss.item() == pytest.approx(2 * 0.254957, abs=2e-6)  # T43 halves: both orders of a pair
    slope = torch.autograd.grad(loss, bias)[0]
    torch.testing.assert_close(slope, torch.zeros(3), rtol=0, atol=1e-6)
    step = (reference * (reward / beta).exp() * torch.log_softmax(bias, -1)).sum()
    slope = torch.autograd.grad(step, bias)[0]
    torch.testing.assert_close(slope, torch.zeros(3), rtol=0, atol=1e-5)


def test_it_clones_first_as_cloning_does(tmp_path: Path) -> None:
    """The term is -log pi of all steps, as BC's of the same rows."""
    data, model = begun()
    batch = whole_log(model, data)
    found = model.losses(batch).terms["actor"]
    rows = OfflineDataModule(episode_log(discrete=True), batch_size=8)
    clone = learner_of(BC, rows.spec)
    clone.actor.load_state_dict(model.actor.state_dict())
    parts = [batch[part].select("observation", "action") for part in (FIRST, SECOND)]
    steps = TensorDict.cat([TensorDict(dict(p.items()), p["action"].shape) for p in parts])
    torch.testing.assert_close(found, clone.losses(steps.flatten()).terms["actor"])


@pytest.mark.parametrize("seeds", [1, 2])
def test_reference_is_the_policy_at_the_end_of_cloning(seeds: int, tmp_path: Path) -> None:
    """Whether updates are made one by one, or as one function for several seeds."""
    data, cloned = begun(cloning_updates=6)
    fit(cloned, data, tmp_path, 6)
    data, whole = begun(cloning_updates=6, seeds=seeds)
    fit(whole, data, tmp_path, 11)
    if seeds > 1:
        whole.seed_states.select(0)
    for name, value in cloned.actor.state_dict().items():
        torch.testing.assert_close(whole.reference.state_dict()[name], value, rtol=0, atol=1e-6)
        assert name.endswith(("mean", "std")) or not torch.equal(
            whole.actor.state_dict()[name], value
        )


@pytest.mark.parametrize("updates", [3, 7])
def test_it_goes_on_to_the_bit(updates: int, tmp_path: Path) -> None:
    """A checkpoint after four updates, where three or seven clone."""
    check_resumed(lambda: begun(cloning_updates=updates), tmp_path)


def test_policy_of_another_run_is_the_reference(tmp_path: Path) -> None:
    data, cloned = begun(cloning_updates=20)
    fit(cloned, data, tmp_path, 5).save_checkpoint(tmp_path / "clone.ckpt")
    start = {"weights_from": str(tmp_path / "clone.ckpt"), "cloning_updates": 0}
    data, model = begun(**start)
    fit(model, data, tmp_path, 4).save_checkpoint(tmp_path / "dpo.ckpt")
    assert equal(weights(model.reference), weights(cloned.actor))
    assert not equal(weights(model.actor), weights(cloned.actor))
    again = load_learner(tmp_path / "dpo.ckpt")
    assert equal(weights(again), weights(model))


def test_the_policy_comes_to_prefer_what_is_preferred(tmp_path: Path) -> None:
    """The teacher likes action 0: reward 1 there, 0 elsewhere."""
    log = episode_log((30,) * 12, discrete=True, one_hot=True)
    reward = (log.column("action") == 0).float()
    log = episode_log((30,) * 12, discrete=True, one_hot=True, reward=reward.tolist())
    data = pairs_of(log, 300, 4, batch_size=32, updates_per_step=20)
    rates, network = {"actor": 1e-2}, Network(hidden=(16,))
    model = DPO(data.spec, network=network, learning_rates=rates, cloning_updates=60)
    fit(model, data, tmp_path, 200)
    seen = log.column("observation")
    with torch.no_grad():
        before, after = (
            torch.softmax(part(seen, None).logits, -1)[:, 0].mean()
            for part in (model.reference, model.actor)
        )
    assert abs(float(before - reward.mean())) < 0.1  # as often as in the log
    assert after > before + 0.2


def test_wrong_arguments() -> None:
    data = pairs_of(episode_log())
    with pytest.raises(ValueError, match="cloning_updates is 0 and there is no weights_from"):
        DPO(data.spec, cloning_updates=0)
    with pytest.raises(ValueError, match="DPO needs an exact density, and head 'deterministic'"):
        DPO(data.spec, head="deterministic")
    for wrong in ({"beta": 0.0}, {"cloning_updates": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            DPO(data.spec, **wrong)
