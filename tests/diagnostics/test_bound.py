"""Bound: T5 through a learner and a log, q of each kind of learner, where it is not defined."""

import functools
import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from small_fits import LEARNERS, Kept, data_for, fit, learner_of, log_for, whole_log
from torch import Tensor

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.agents.marwil import MARWIL
from hindsight_rl.agents.signed_bc import SignedBC
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.diagnostics.bound import Bound, Measured, UndefinedBoundError, measure
from hindsight_rl.keys import PREFERENCE
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Network
from hindsight_rl.nets.policy import Policy
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.returns import ReturnToGo, ReturnWeight

POLICY, REWARD = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.0, 2.0, 4.0])


def of_t5(columns: dict[str, Tensor], **options: Any) -> Measured:
    """Return the bound of a policy of .5, .3, .2 on one row of each action, rewards 1, 2, 4."""
    log = episode_log([1] * 3, discrete=True, reward=REWARD.tolist())
    zeros = torch.zeros(3, 3)
    log = log.with_columns(
        {"observation": zeros, ("next", "observation"): zeros, "action": torch.arange(3)} | columns
    )
    data = OfflineDataModule(log, batch_size=16)
    learner = learner_of(BC, data.spec, network=Network(hidden=()))
    with torch.no_grad():
        learner.actor.net[-1].bias.copy_(POLICY.log())
    return measure(learner, data, **options)


# --- T5 -------------------------------------------------------------------------------------------


def test_bound_of_t5() -> None:
    """Here b = 1/3: weights pi R reach log E[R] = .641854, weights pi E[log R] = .485203."""
    acted = {"action_log_prob": torch.full((3,), -math.log(3.0))}
    best = of_t5(acted | {"weight": POLICY * REWARD}, reward="next.reward")
    assert best.bound.value.item() == pytest.approx(0.641854, abs=2e-6)
    assert best.bound.limit.item() == pytest.approx(0.641854, abs=2e-6)
    expected = torch.tensor([0.263158, 0.315789, 0.421053]).double()
    torch.testing.assert_close(best.q, expected, rtol=0, atol=2e-6)
    plain = of_t5(acted | {"weight": POLICY}, reward="next.reward")
    assert plain.bound.value.item() == pytest.approx(0.485203, abs=2e-6)
    assert plain.bound.log_reward.item() == pytest.approx(0.485203, abs=2e-6)


def test_without_the_behavior_the_bound_is_off_by_its_likelihood() -> None:
    """E_q[log b] = -log 3 here, whatever q is."""
    found = of_t5({"weight": POLICY * REWARD}, reward="next.reward")
    assert found.bound.value.item() == pytest.approx(0.641854 - math.log(3.0), abs=2e-6)


def test_the_weight_is_the_reward_where_none_is_named() -> None:
    """Weights R: F is log mean R + E_q[log pi]; by hand with q = 1/7, 2/7, 4/7."""
    found = of_t5({"weight": REWARD})
    expected = math.log(7 / 3) + sum(
        q / 7 * math.log(p) for q, p in zip([1, 2, 4], [0.5, 0.3, 0.2], strict=True)
    )
    assert found.bound.value.item() == pytest.approx(expected, abs=2e-6)
    assert found.effective_sample_size == pytest.approx(49 / (3 * 21), abs=1e-6)


# --- q of data steps and learners -----------------------------------------------------------------


def test_plain_cloning_is_the_log_likelihood() -> None:
    data = data_for(BC)
    learner = learner_of(BC, data.spec)
    found = measure(learner, data)
    loss = learner.losses(whole_log(learner, data)).terms["actor"]
    assert found.bound.value.item() == pytest.approx(-loss.item(), abs=1e-5)
    assert found.bound.log_reward.item() == 0.0
    assert found.effective_sample_size == pytest.approx(1.0)


def test_weights_of_the_data_step_are_q() -> None:
    """Return to go as weight, filtered rows left out: F by hand over the rows that are drawn."""
    log = episode_log(reward=torch.linspace(0.0, 1.0, 47).tolist())
    data = OfflineDataModule(log, [TopFraction(0.5), ReturnWeight("linear")], batch_size=16)
    learner = learner_of(BC, data.spec)
    found, batch = measure(learner, data), whole_log(learner, data)
    rows = data.log.drawable()
    assert found.index.equal(rows) and len(rows) < 47
    weight = batch["weight"][rows].double()
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"])[rows].double()
    expected = weight.mean().log() + (weight * log_prob).sum() / weight.sum()
    assert found.bound.value.item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("kind", [AWR, IQL, MARWIL])
def test_weights_of_the_learner_are_q(kind: Any) -> None:
    """Taken from its losses: the metrics of its weights agree, and nothing is left behind."""
    data = data_for(kind)
    learner = learner_of(kind, data.spec).train()
    batch = whole_log(learner, data)
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    found = measure(learner, data)
    assert learner.training and "actor_loss" not in vars(learner)
    assert all(value.equal(before[name]) for name, value in learner.state_dict().items())
    metrics = learner.eval().losses(batch).metrics
    size = metrics["actor/effective_sample_size"].item()
    assert found.effective_sample_size == pytest.approx(size, abs=1e-5) and size < 0.9999
    assert found.bound.value <= found.bound.limit
    log_prob = learner.actor.log_prob(batch["observation"], batch["action"]).double()
    expected = metrics["actor/weight"].log() + (found.q * log_prob).sum()
    assert found.bound.value.item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_has_a_bound_or_says_why_not(name: str) -> None:
    """Policies that weigh rows have one, of pairs none; that holds for all of them."""
    kind = LEARNERS[name]
    data = data_for(kind, log_for(kind))
    learner = learner_of(kind, data.spec)
    metrics = learner.losses(whole_log(learner, data)).metrics
    weighs = "actor/effective_sample_size" in metrics or "weight" in kind.optional_keys
    acts = isinstance(getattr(learner, "actor", None), Policy)  # not by values, say
    if weighs and acts and not learner.follows and PREFERENCE not in kind.in_keys:
        assert torch.isfinite(measure(learner, data).bound.value)
    else:
        with pytest.raises(UndefinedBoundError, match=f"{name}"):
            measure(learner, data)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(LEARNERS["AWAC"], {"weights": "softmax"}), (MARWIL, {"norm": "batch_std"})],
    ids=["AWAC", "MARWIL"],
)
def test_rows_are_one_batch(
    kind: Any, arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights relative to their batch: q is theirs over all rows, however a datamodule chunks."""
    data = data_for(kind)
    learner = learner_of(kind, data.spec, **arguments)
    expected = measure(learner, data)
    monkeypatch.setattr(data, "in_order", functools.partial(data.in_order, batch_size=16))
    found = measure(learner, data)
    assert found.q.equal(expected.q) and found.bound.value.equal(expected.bound.value)
    assert len(found.q) == 47 and float(found.q.max() - found.q.min()) > 1e-4


def test_rows_of_a_large_log_are_taken_at_even_distances() -> None:
    data = data_for(BC)
    found = measure(learner_of(BC, data.spec), data, rows=4)
    assert found.index.tolist() == [0, 11, 23, 35]


# --- not defined ----------------------------------------------------------------------------------


def undefined(kind: Any, log: Log | None = None, relabel: Any = (), **options: Any) -> str:
    log = log_for(kind) if log is None else log
    data = OfflineDataModule(log, list(relabel), batch_size=16) if relabel else data_for(kind, log)
    arguments = options.pop("arguments", {})
    with pytest.raises(UndefinedBoundError) as found:
        measure(learner_of(kind, data.spec, **arguments), data, **options)
    return str(found.value)


def test_reasons_are_named() -> None:
    assert "SignedBC reads signed labels" in undefined(SignedBC)
    assert "IPL reads compared segments" in undefined(LEARNERS["IPL"])
    said = undefined(LEARNERS["SAC"])
    assert said == "SAC fits its policy to values, not to weighted rows of the log"
    said = undefined(BC, arguments={"head": "deterministic"})
    assert said == "the policy of BC has no likelihood"
    log = episode_log([1] * 3, reward=[1.0, -2.0, 3.0])
    said = undefined(BC, log, [ReturnToGo()], reward="return_to_go")
    assert "'return_to_go' of row 1 is -2, and log R needs rewards above 0" in said
    said = undefined(BC, log.with_columns({"weight": torch.tensor([1.0, 0.0, -0.5])}))
    assert "the weight of row 2 is -0.5" in said
    assert "all rows are 0" in undefined(BC, log.with_columns({"weight": torch.zeros(3)}))


def test_a_column_that_is_not_there_is_refused() -> None:
    data = data_for(BC, episode_log([1] * 3, reward=[1.0, 2.0, 3.0]))
    with pytest.raises(ValueError, match=r"no column 'success' .* name one of .*next\.reward") as f:
        measure(learner_of(BC, data.spec), data, reward="success")
    assert not isinstance(f.value, UndefinedBoundError)


# --- the callback ---------------------------------------------------------------------------------


def watched(kind: Any, folder: Path, **options: Any) -> tuple[Kept, Any]:
    data, logger = data_for(kind, updates_per_step=5), Kept()
    learner = learner_of(kind, data.spec, **options)
    callbacks = [Bound(every=10)]
    fit(learner, data, folder, 32, callbacks=callbacks, logger=logger, log_every_n_steps=10)
    return logger, learner


def test_numbers_are_logged_every_so_many_updates_and_at_the_end(tmp_path: Path) -> None:
    logger, learner = watched(IQL, tmp_path)
    for name in ("value", "log_reward", "log_policy", "limit", "effective_sample_size"):
        assert logger.steps_of(f"bound/{name}") == [10, 20, 30, 32]
    assert logger.steps_of("bound/kl") == [20, 30, 32]
    found = learner.latest
    assert found["bound/kl"] > 0
    parts = found["bound/log_reward"] + found["bound/log_policy"]
    assert found["bound/value"] == pytest.approx(parts)
    assert found["bound/value"] < found["bound/limit"]


def test_looking_changes_no_update(tmp_path: Path) -> None:
    data = data_for(MARWIL)
    found = []
    for callbacks in ([], [Bound(every=8)]):
        learner = learner_of(MARWIL, data.spec)
        fit(learner, data, tmp_path, 24, callbacks=callbacks)
        found.append(learner.state_dict())
    assert all(value.equal(found[1][name]) for name, value in found[0].items())


def test_cloning_raises_the_bound_and_q_stays(tmp_path: Path) -> None:
    """The policy step alone: F rises, KL between successive q is 0."""
    logger, _ = watched(BC, tmp_path, optimizer=lambda params: torch.optim.Adam(params, lr=1e-2))
    values = [line["bound/value"] for _, line in logger.lines if "bound/value" in line]
    assert values == sorted(values) and values[-1] > values[0] + 0.05
    assert all(line["bound/kl"] == 0 for _, line in logger.lines if "bound/kl" in line)


def test_several_seeds_show_the_first(tmp_path: Path) -> None:
    logger, learner = watched(AWR, tmp_path, seeds=2)
    assert logger.steps_of("bound/value") == [10, 20, 30, 32]
    assert learner.seed_states.selected == 0


def test_where_it_is_not_defined_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="hindsight_rl"):
        logger, learner = watched(LEARNERS["SAC"], tmp_path)
    said = [r.getMessage() for r in caplog.records if "bound/" in r.getMessage()]
    assert said == [
        "no bound/... at update 10: SAC fits its policy to values, not to weighted rows of the log"
    ]
    assert logger.steps_of("bound/value") == [] and learner.updates == 32


@pytest.mark.parametrize("arguments", [{"every": 0}, {"rows": 0}])
def test_wrong_arguments_are_named(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"every \d+ and rows \d+ must be at least 1"):
        Bound(**arguments)
