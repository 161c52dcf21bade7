"""Updates as one function: the same numbers as one by one, for every learner, alone or many."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, equal, fit, learner_of, weights
from tensordict import TensorDict
from variants import EVERY, able
from whole_fits import ARGUMENTS, SWEPT, UPDATES, assert_close, fitted, trained

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.iql import IQL
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.training.learner import Learner, LossTerms
from hindsight_rl.training.update import engine, plan
from hindsight_rl.training.update.engine import CompileError, Engine
from hindsight_rl.training.update.state import SeedStates


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Compile to one graph and run it as it is, which needs seconds less than making C++ of it.

    It is the graph of what :mod:`hindsight_rl.training.update.lowering` cannot write down.
    """
    monkeypatch.setattr(engine, "native_class", lambda: None)
    compile_, seen = torch.compile, []

    def captured(function: Any, *, fullgraph: bool, dynamic: bool, options: Any) -> Any:
        seen.append(fullgraph)
        return compile_(function, fullgraph=fullgraph, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(torch, "compile", captured)
    return seen


@pytest.mark.parametrize("name", able("seeds") | SWEPT)
def test_seeds_together_equal_each_alone(name: str, alone: Any, tmp_path: Path) -> None:
    """Initial weights, batches and draws of copy s are those of a run with seed s; all at once."""
    together = fitted((EVERY | SWEPT)[name], tmp_path, seeds=8)
    assert together.seed_states is not None and together.runner is not None
    assert together.runner.engine is not None and together.runner.engine.why_sequential == ""
    ends = [weights(together) for _ in together.seed_states.each()]
    assert len(ends) == 8 and not any(equal(ends[0], end) for end in ends[1:])
    for seed in (0, 3, 7):
        assert_close(ends[seed], alone(name, seed))


@pytest.mark.parametrize("name", able("update") | SWEPT)
def test_every_learner_is_captured_whole(
    name: str, alone: Any, tmp_path: Path, traced: list[bool]
) -> None:
    """All updates of a chunk are one graph without a break, and end where single updates end."""
    compiled = fitted((EVERY | SWEPT)[name], tmp_path, compile="update")
    assert traced == [True]
    assert_close(weights(compiled), alone(name, 0))


@pytest.mark.slow
def test_compiled_training_resumes_bit_for_bit(tmp_path: Path) -> None:
    """The real compiler: as single updates, and the same bits after a resume with another K."""
    straight = trained(IQL, tmp_path, compile="update", **ARGUMENTS)
    assert_close(weights(straight), weights(trained(IQL, tmp_path, **ARGUMENTS)))
    data = data_for(IQL)
    half = learner_of(IQL, data.spec, compile="update", **ARGUMENTS)
    fit(half, data, tmp_path, 50).save_checkpoint(tmp_path / "half.ckpt")
    # Nothing is asked for now: what was chosen is in the checkpoint.
    data = data_for(IQL, updates_per_step=7)
    resumed = learner_of(IQL, data.spec, **ARGUMENTS)
    fit(resumed, data, tmp_path, UPDATES, ckpt_path=tmp_path / "half.ckpt")
    assert resumed.plan is not None and resumed.plan.compile == "update"
    assert equal(weights(resumed), weights(straight))


@pytest.mark.slow
def test_actions_relative_to_the_observation_compile(tmp_path: Path) -> None:
    """The real compiler: a long index out of a list has no name in the loop that it writes."""
    observation = torch.randn(64, 12, generator=torch.Generator().manual_seed(0))
    terminated = torch.ones(64, dtype=torch.bool)
    log = Log.from_columns(
        {
            "observation": observation,
            "action": observation + 0.1,
            "episode": torch.arange(64),
            ("next", "observation"): observation,
            ("next", "reward"): torch.zeros(64),
            ("next", "terminated"): terminated,
            ("next", "truncated"): ~terminated,
        }
    )
    ends = []
    for compile_ in ("update", "off"):
        data = OfflineDataModule(log, batch_size=16, updates_per_step=8)
        learner = learner_of(
            BC,
            data.spec,
            compile=compile_,
            head=Head(relative_to=list(range(12))),
            network=Network(hidden=(8,)),
        )
        fit(learner, data, tmp_path, 16)
        assert learner.plan is not None and learner.plan.compile == compile_
        ends.append(weights(learner))
    assert_close(*ends)


def test_seeds_resume_bit_for_bit(tmp_path: Path) -> None:
    straight = trained(IQL, tmp_path, seeds=2, **ARGUMENTS)
    data = data_for(IQL)
    half = learner_of(IQL, data.spec, seeds=2, compile="off", **ARGUMENTS)
    fit(half, data, tmp_path, 50).save_checkpoint(tmp_path / "half.ckpt")
    data = data_for(IQL, updates_per_step=7)
    resumed = learner_of(IQL, data.spec, seeds=2, weight_seed=5, **ARGUMENTS)
    fit(resumed, data, tmp_path, UPDATES, ckpt_path=tmp_path / "half.ckpt")
    assert straight.seed_states is not None and resumed.seed_states is not None
    for one, two in zip(straight.seed_states.state, resumed.seed_states.state, strict=True):
        assert torch.equal(one, two)


def test_other_number_of_seeds_is_refused_on_resume(tmp_path: Path) -> None:
    data = data_for(BC)
    two = learner_of(BC, data.spec, seeds=2)
    fit(two, data, tmp_path, 10).save_checkpoint(tmp_path / "two.ckpt")
    three = learner_of(BC, data.spec, seeds=3)
    with pytest.raises(ValueError, match=r"holds 2 seeds, this run has 3: set --model\.seeds 2"):
        fit(three, data, tmp_path, 20, ckpt_path=tmp_path / "two.ckpt")
    one = learner_of(BC, data.spec)
    fit(one, data, tmp_path, 10).save_checkpoint(tmp_path / "one.ckpt")
    with pytest.raises(ValueError, match=r"holds one seed, this run has 3: set --model\.seeds 1"):
        fit(learner_of(BC, data.spec, seeds=3), data, tmp_path, 20, ckpt_path=tmp_path / "one.ckpt")


class Peeking(BC):
    """Looks at a number while it computes, which no vectorised function can."""

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the loss of BC, halved where it is above 0."""
        found = super().losses(batch)
        half = 0.5 if float(found.terms["actor"].detach()) > 0 else 1.0
        return LossTerms({"actor": half * found.terms["actor"]}, found.metrics)


def test_learner_that_cannot_be_vectorised_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hindsight_rl")
    together = trained(Peeking, tmp_path, seeds=2)
    assert "Peeking cannot be vectorised, its 2 seeds run one after another" in caplog.text
    assert together.seed_states is not None
    for seed in together.seed_states.each():
        assert_close(weights(together), weights(trained(Peeking, tmp_path, seed=seed)))


# --- what the compiler cannot do ------------------------------------------------------------------


@pytest.fixture
def asked_by_nobody(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have short runs compiled too, without being asked."""
    monkeypatch.setattr(plan, "BREAK_EVEN", 1)
    return {"compile": "auto"}


class InNumpy(BC):
    """Leaves PyTorch for a moment, which a function whose gradient is taken cannot."""

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return the loss of BC, halved where it is above 0."""
        found = super().losses(batch)
        half = 0.5 if found.terms["actor"].detach().numpy().sum() > 0 else 1.0
        return LossTerms({"actor": half * found.terms["actor"]}, found.metrics)


class Mistaken(BC):
    """Reads what no batch has."""

    in_keys = (*BC.in_keys, ("next", "reward"))

    def losses(self, batch: TensorDict) -> LossTerms:
        """Return nothing."""
        return LossTerms({"actor": batch["next", "regret"].mean()}, {})


@pytest.mark.parametrize("kind", [Peeking, InNumpy])
def test_a_learner_that_cannot_be_compiled_goes_on_uncompiled(
    kind: type[Learner],
    asked_by_nobody: dict[str, Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The bits are those of a run that never tried, and so is what the checkpoint says."""
    data = data_for(Peeking)
    tried = learner_of(kind, data.spec, **asked_by_nobody)
    fit(tried, data, tmp_path, UPDATES).save_checkpoint(tmp_path / "tried.ckpt")
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert f"updates of {kind.__name__} go on uncompiled, the compiler failed: " in told[0]
    assert equal(weights(tried), weights(trained(kind, tmp_path)))
    saved = torch.load(tmp_path / "tried.ckpt", weights_only=True)
    assert saved["hindsight"]["plan"]["compile"] == "off"


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_broken_compiler_costs_nothing_but_time(
    seeds: int,
    asked_by_nobody: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(function: Any, **options: Any) -> Any:
        def call(*_: Any) -> None:
            raise RuntimeError("g++: not found\nand more")

        return call

    monkeypatch.setattr(engine, "native_class", lambda: None)
    monkeypatch.setattr(torch, "compile", broken)
    tried = trained(IQL, tmp_path, seeds=seeds, **asked_by_nobody, **ARGUMENTS)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told == [
        "updates of IQL go on uncompiled, the compiler failed: RuntimeError: g++: not found. "
        "Fix that for more speed, or set compile 'losses' or 'off'"
    ]
    monkeypatch.undo()
    plain = trained(IQL, tmp_path, seeds=seeds, **ARGUMENTS)
    both = zip(tried.each_seed(), plain.each_seed(), strict=True)
    assert [equal(weights(tried), weights(plain)) for _ in both] == [True] * seeds


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        (Peeking, r"UserError: .*data-dependent"),
        (InNumpy, r"RuntimeError: Cannot access data pointer"),
        (Mistaken, r"KeyError: 'key \"regret\" not found"),
    ],
)
def test_compiling_that_was_asked_for_and_failed_is_an_error(
    kind: type[Learner], cause: str, tmp_path: Path
) -> None:
    name = kind.__name__
    problem = rf"updates of {name} cannot be compiled: {cause}.*\. Use compile 'losses' or 'off'"
    with pytest.raises(CompileError, match=problem):
        trained(kind, tmp_path, compile="update")


def test_a_mistake_in_a_loss_shows_as_itself(
    asked_by_nobody: dict[str, Any], tmp_path: Path
) -> None:
    for seeds in (1, 2):
        with pytest.raises(KeyError, match="regret"):
            trained(Mistaken, tmp_path, seeds=seeds, **asked_by_nobody)


class OwnOrder(BC):
    """Has an update of its own."""

    def update(self, batch: TensorDict) -> LossTerms:
        """Return what the usual update returns."""
        return super().update(batch)


@pytest.mark.parametrize(
    ("kind", "optimizer", "problem"),
    [
        (BC, lambda p: torch.optim.SGD(p, lr=0.1), "the optimiser must be Adam or AdamW, not SGD"),
        (BC, lambda p: torch.optim.Adam(p, amsgrad=True), "does not know Adam's option amsgrad"),
        (OwnOrder, torch.optim.Adam, "OwnOrder has an update of its own"),
    ],
)
def test_what_cannot_be_one_function_is_refused(
    kind: type[Learner], optimizer: Any, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"compile 'update' cannot be used here: .*{problem}"):
        trained(kind, tmp_path, compile="update", optimizer=optimizer)
    with pytest.raises(ValueError, match=rf"seeds is 2: several seeds .*{problem}"):
        trained(kind, tmp_path, seeds=2, optimizer=optimizer)
    trained(kind, tmp_path, updates=5, compile="auto", optimizer=optimizer)


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, betas=(0.8, 0.95), eps=1e-5),
        lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    ],
    ids=["adam", "adamw"],
)
def test_every_option_of_adam_is_kept(optimizer: Any, tmp_path: Path) -> None:
    together = trained(IQL, tmp_path, seeds=2, optimizer=optimizer)
    assert together.seed_states is not None
    together.seed_states.select(0)
    assert_close(weights(together), weights(trained(IQL, tmp_path, optimizer=optimizer)))


def test_optimizer_of_a_checkpoint_is_torchs_own(tmp_path: Path) -> None:
    """Adam's averages and counts are in the place where Adam looks for them."""
    data = data_for(BC)
    states = []
    for seeds in (1, 2):
        learner = learner_of(BC, data.spec, seeds=seeds, compile="off")
        states.append(fit(learner, data, tmp_path, 20).optimizers[0].state_dict()["state"])
    assert states[0].keys() == states[1].keys()
    for number, entry in states[0].items():
        assert float(states[1][number]["step"]) == float(entry["step"]) == 20
        for key in ("exp_avg", "exp_avg_sq"):
            torch.testing.assert_close(states[1][number][key], entry[key], rtol=0, atol=1e-6)


def test_copies_are_shared_among_threads_without_a_trace(traced: list[bool]) -> None:
    """Four copies in two threads, two at a time: what four in one thread come to."""
    data = data_for(IQL)
    ends = []
    for threads in (1, 2):
        learner = learner_of(IQL, data.spec, clip_norm=1.0)
        optimizer = learner.configure_optimizers()
        copies = SeedStates.of(learner, 4, optimizer)
        copies.adopt(optimizer)
        networks = {name: list(n.parameters()) for name, n in learner.networks().items()}
        engine = Engine(learner, optimizer, copies, networks, clip_norm=1.0, threads=threads)
        for first in (0, 8, 16):
            chunk = data.relabel(data._sampler(seeds=4).chunk(first, 8))
            seen = engine.run(chunk, None, first)
        assert seen.values.shape[:2] == (8, 4)
        assert (engine._pool is not None) == (threads == 2)
        ends.append(copies.state)
    assert traced == [True, True]
    for one, two in zip(*ends, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-7)


@pytest.mark.parametrize("arguments", [{"seeds": 0}, {"threads": 0}])
def test_counts_below_one_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1"):
        learner_of(BC, data_for(BC).spec, **arguments)
