"""What holds for every learner, found by walking the package: none is named here.

A learner's terms bear the names of the networks they train. Whatever it takes from a whole batch it
takes through ``Learner.batch_mean``, so that ranks agree; rows are independent otherwise.
"""

import copy
import functools
import pkgutil
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import HIGH, LOW
from small_fits import (
    LEARNERS,
    data_for,
    equal,
    fit,
    learner_of,
    log_for,
    takes,
    trainer_in,
    weights,
    whole_log,
)
from tensordict import TensorDict
from torch import Tensor, nn

import hindsight_rl.agents
import hindsight_rl.relabel
from hindsight_rl.diagnostics.evaluation import Evaluation
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import counters
from hindsight_rl.training.checkpoints.load import learner_classes, load_learner
from hindsight_rl.training.learner import Learner

Case = tuple[Learner, TensorDict]


@pytest.fixture(params=LEARNERS.values(), ids=LEARNERS.keys())
def kind(request: pytest.FixtureRequest) -> type[Learner]:
    return request.param


@pytest.fixture
def case(kind: type[Learner], options: dict[str, bool]) -> Case:
    """A learner in evaluation mode (running statistics rest) and a batch of every row of a log."""
    data = data_for(kind, suited(kind, options))
    learner = learner_of(kind, data.spec)
    return learner.eval(), whole_log(learner, data)


def suited(kind: type[Learner], options: dict[str, bool]) -> Log:
    """Return a log with these options, or skip where the learner says it takes none such."""
    if not takes(kind, options):
        pytest.skip(f"{kind.__name__} takes {' and '.join(kind.actions)} actions only")
    return log_for(kind, **options)


def gradients(learner: Learner, loss: Tensor) -> dict[str, list[Tensor | None]]:
    """Return what a loss gives to each trained network and each target."""
    names = [*learner.networks(), *learner.targets]
    owned = {name: list(getattr(learner, name).parameters()) for name in names}
    learner.zero_grad()
    loss.backward(retain_graph=True)
    return {name: [p.grad for p in parameters] for name, parameters in owned.items()}


def total(learner: Learner, batch: TensorDict) -> Tensor:
    return torch.stack(list(learner.losses(batch).terms.values())).sum()


def mixes_rows(learner: Learner, batch: TensorDict, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the losses take a statistic of the batch."""
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(learner, "batch_mean", lambda value: asked.append(1) or value.detach().mean())
        learner.losses(batch)
    return bool(asked)


# --- the losses -----------------------------------------------------------------------------------


def test_every_module_of_the_room_is_imported_by_the_walk() -> None:
    """Each learner file is found: one class, at most, of the file's name in capitals."""
    modules = {module.name for module in pkgutil.iter_modules(hindsight_rl.agents.__path__)}
    found = {name.split(".")[-2] for name in learner_classes() if name.startswith("hindsight_rl.")}
    assert found <= modules
    assert {"bc", "iql", "marwil"} <= found
    for name, learner in learner_classes().items():
        assert name == f"{learner.__module__}.{learner.__qualname__}"


def test_terms_and_metrics_are_finite_scalars(case: Case) -> None:
    learner, batch = case
    found = learner.losses(batch)
    assert found.terms
    for value in (*found.terms.values(), *found.metrics.values()):
        assert value.shape == () and bool(torch.isfinite(value))
    assert all(term.requires_grad for term in found.terms.values())
    assert not any(metric.requires_grad for metric in found.metrics.values())


def test_gradient_of_a_term_reaches_its_own_network_and_no_other(case: Case) -> None:
    learner, batch = case
    terms = learner.losses(batch).terms
    assert set(terms) == set(learner.networks())
    for name, term in terms.items():
        for owner, found in gradients(learner, term).items():
            if owner == name:
                assert all(g is not None and bool(torch.isfinite(g).all()) for g in found)
                assert any(bool((g != 0).any()) for g in found if g is not None)
            else:
                assert all(g is None or bool((g == 0).all()) for g in found), f"{name} -> {owner}"


def test_targets_start_as_copies_and_get_no_gradient(case: Case) -> None:
    learner, batch = case
    for target, online in learner.targets.items():
        pair = getattr(learner, target), getattr(learner, online)
        assert equal(pair[0].state_dict(), pair[1].state_dict())
        assert not any(parameter.requires_grad for parameter in pair[0].parameters())
        assert target not in learner.networks() and online in learner.networks()
    found = gradients(learner, total(learner, batch))
    assert all(g is None for target in learner.targets for g in found[target])


def test_batch_is_not_written_to(case: Case) -> None:
    learner, batch = case
    before = batch.clone()
    learner.losses(batch)
    assert set(batch.keys(True)) == set(before.keys(True))
    assert bool((batch == before).all())


def test_order_of_rows_does_not_matter(case: Case) -> None:
    learner, batch = case
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(3))
    found, shuffled = learner.losses(batch).terms, learner.losses(batch[order]).terms
    for name, term in found.items():
        torch.testing.assert_close(shuffled[name], term, rtol=1e-5, atol=1e-6)


def test_rows_do_not_change_each_other(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of a batch is the mean of the losses of its rows, each alone."""
    learner, batch = case
    if mixes_rows(learner, batch, monkeypatch):
        pytest.skip("a batch statistic is declared")
    alone = [learner.losses(batch[row : row + 1]).terms for row in range(len(batch))]
    for name, term in learner.losses(batch).terms.items():
        mean = torch.stack([terms[name] for terms in alone]).mean()
        torch.testing.assert_close(mean, term, rtol=1e-4, atol=1e-6)


def test_two_half_batches_are_one_batch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gradients of the mean of two halves' losses are those of the whole."""
    learner, batch = case
    batch = batch[:40]
    if mixes_rows(learner, batch, monkeypatch):
        pytest.skip("a batch statistic is declared")
    whole = gradients(learner, total(learner, batch))
    halves = 0.5 * (total(learner, batch[:20]) + total(learner, batch[20:]))
    for name, found in gradients(learner, halves).items():
        for one, other in zip(found, whole[name], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_losses_compile_to_one_graph(kind: type[Learner]) -> None:
    """Nothing in the losses breaks the graph; compiled ones give the same numbers."""
    for options in filter(functools.partial(takes, kind), ({}, {"discrete": True, "task": True})):
        torch._dynamo.reset()
        data = data_for(kind, log_for(kind, **options))
        learner = learner_of(kind, data.spec)
        batch, twin = whole_log(learner, data), copy.deepcopy(learner)
        compiled = torch.compile(twin.losses, fullgraph=True, backend="eager", dynamic=False)
        found, expected = compiled(batch).terms, learner.losses(batch).terms
        for name, term in expected.items():
            torch.testing.assert_close(found[name], term)
        assert equal(twin.state_dict(), learner.state_dict())


# --- the policy -----------------------------------------------------------------------------------


def asked(learner: Learner, batch: TensorDict) -> tuple[Tensor, Tensor | None]:
    """Return observation and task; of a learner without a policy check that it says so, and skip.

    Whoever asks for an action gets one sentence.
    """
    observation, task = batch["observation"], batch.get("task", None)
    if learner.acts:
        return observation, task
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0]
    for ask in (
        lambda: learner(observation, task),
        lambda: learner.act(observation, task),
        lambda: learner.act(observation, task, draws=draws),
        lambda: learner.scores(observation, task),
        lambda: learner.decide(observation, task, {}),
        lambda: learner.act_numpy(observation.numpy(), None if task is None else task.numpy()),
        learner.player,
        lambda: learner.collecting(False),
    ):
        with pytest.raises(ValueError, match=f"^{type(learner).__name__} fits no policy: "):
            ask()
    assert learner.not_exported and not learner.follows and learner.density == "none"
    pytest.skip(f"{type(learner).__name__} fits no policy")


def test_policy_answers_in_environment_units(case: Case) -> None:
    learner, batch = case
    observation, task = asked(learner, batch)
    action = learner(observation, task)
    assert action.shape == batch["action"].shape and action.dtype == batch["action"].dtype
    draws = counters(0, torch.zeros(1, dtype=torch.int64), torch.arange(len(batch)))[0]
    sample = learner.act(observation, task, draws=draws)
    assert learner.act(observation, task).equal(action)
    assert sample.shape == action.shape and sample.dtype == action.dtype
    assert not sample.equal(action)
    for answer in (action, sample):
        if answer.is_floating_point():
            assert (answer >= torch.tensor(LOW)).all() and (answer <= torch.tensor(HIGH)).all()
        else:
            assert (answer >= 0).all() and (answer < 3).all()
    if not action.is_floating_point():
        assert learner.scores(observation, task).argmax(-1).equal(action)


def test_rollout_interface_takes_and_gives_arrays(case: Case) -> None:
    learner, batch = case
    observation, task = asked(learner, batch)
    arrays = [observation.numpy()] + ([] if task is None else [task.numpy()])
    expected = learner(observation, task).detach().numpy()
    found = learner.act_numpy(*arrays)
    assert found.dtype == expected.dtype and (found == expected).all()


# --- fitting --------------------------------------------------------------------------------------


def test_every_kind_of_log_can_be_fitted_saved_and_loaded(
    kind: type[Learner], options: dict[str, bool], tmp_path: Path
) -> None:
    """A checkpoint alone, without its data, gives the same learner bit for bit."""
    data = data_for(kind, suited(kind, options))
    learner = learner_of(kind, data.spec, evaluation=Evaluation(test_seed=7))
    first = weights(learner)
    trainer = fit(learner, data, tmp_path, 10)
    for name, network in learner.networks().items():
        moved = {f"{name}.{key}": value for key, value in network.named_parameters()}
        assert all(not torch.equal(first[key], value) for key, value in moved.items()), name
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    env = {"env": "CartPole-v1"} if kind.acts else {}
    loaded = load_learner(tmp_path / "some.ckpt", evaluation=env)
    assert type(loaded) is kind and not loaded.training
    assert equal(loaded.state_dict(), learner.state_dict())
    assert loaded.spec == learner.spec
    assert loaded.evaluation == Evaluation(**env, test_seed=7)
    observation, task = asked(learner, whole_log(learner, data))
    assert loaded(observation, task).equal(learner(observation, task))


def fit_with(
    kind: type[Learner], folder: Path, arguments: dict[str, Any], **options: Any
) -> Learner:
    data = data_for(kind)
    learner = learner_of(kind, data.spec, **arguments)
    fit(learner, data, folder, 20, **options)
    return learner


def assert_nearly_equal_weights(one: Learner, two: Learner, tolerance: float) -> None:
    for name, value in one.state_dict().items():
        torch.testing.assert_close(two.state_dict()[name], value, rtol=tolerance, atol=tolerance)


def test_compiled_losses_give_the_same_weights(
    kind: type[Learner], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the trainer, with Dynamo's graph run as it is."""
    torch._dynamo.reset()
    plain = fit_with(kind, tmp_path, {})
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    assert_nearly_equal_weights(plain, fit_with(kind, tmp_path, {"compile": "losses"}), 1e-6)


def test_validation_and_prediction_cover_the_log(kind: type[Learner], tmp_path: Path) -> None:
    """Before any update, too: what the losses need of a sweep is swept."""
    data = data_for(kind, validation=0.3)
    learner = learner_of(kind, data.spec)
    trainer = trainer_in(tmp_path, 10, num_sanity_val_steps=2, val_check_interval=5)
    trainer.fit(learner, data)
    found = trainer.callback_metrics
    assert {f"validation/{name}" for name in learner.networks()} <= set(found)
    assert not kind.acts or found["validation/action_error"] >= 0
    fresh = learner_of(kind, data.spec)
    metrics = trainer_in(tmp_path, 1).validate(fresh, data, verbose=False)[0]
    assert all(value == value for value in metrics.values())
    if not kind.acts:
        with pytest.raises(ValueError, match="fits no policy: there are no actions to predict"):
            trainer_in(tmp_path, 1).predict(learner, data)
        return
    parts = trainer_in(tmp_path, 1).predict(learner, data)
    rows = torch.cat([part["index"] for part in parts])
    assert rows.equal(torch.arange(47))
    task = data.log.column("task") if "task" in data.log else None
    expected = learner(data.log.column("observation"), task)
    torch.testing.assert_close(torch.cat([part["action"] for part in parts]), expected)
    logged = torch.cat([part["logged_action"] for part in parts])
    assert logged.equal(data.log.column("action"))


# --- arguments of every learner -------------------------------------------------------------------


def test_missing_spec_is_refused(kind: type[Learner]) -> None:
    with pytest.raises(ValueError, match=r"spec is missing: pass datamodule.spec"):
        kind()


def test_missing_columns_are_named(kind: type[Learner]) -> None:
    """A batch without one of the learner's keys fails with that key's name."""
    data = data_for(kind)
    learner = learner_of(kind, data.spec)
    batch = whole_log(learner, data)
    for key in learner.in_keys:
        with pytest.raises(KeyError, match=key if isinstance(key, str) else key[-1]):
            learner.losses(batch.exclude(key))


def test_networks_are_modules_with_parameters(kind: type[Learner]) -> None:
    learner = learner_of(kind, data_for(kind).spec)
    networks = learner.networks()
    assert all(isinstance(network, nn.Module) for network in networks.values())
    owned = {id(p) for network in networks.values() for p in network.parameters()}
    followers = {id(p) for name in learner.targets for p in getattr(learner, name).parameters()}
    assert owned | followers == {id(p) for p in learner.parameters()}
    assert not owned & followers
