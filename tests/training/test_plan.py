"""How the updates of a run are computed, and what is said about it."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fits import data_for, fit, learner_of
from torch import nn

from hindsight_rl.agents.bc import BC
from hindsight_rl.training.update import native, plan
from hindsight_rl.training.update.engine import CompileError
from hindsight_rl.training.update.lowering import UnknownError
from hindsight_rl.training.update.plan import (
    Plan,
    choose_compile,
    choose_products,
    no_bfloat16,
    no_compiler,
    no_scan,
    widest,
)


@pytest.mark.parametrize(
    ("updates", "refused", "missing", "elsewhere", "expected"),
    [
        (49_999, "", "", "", "off"),
        (50_000, "", "", "", "update"),
        (None, "", "", "", "off"),
        (10**6, "several processes", "", "", "off"),
        (10**6, "", "no compiler", "", "off"),
        (10**6, "", "", "not measured", "off"),
    ],
)
def test_compiling_is_chosen_where_it_pays(
    updates: int | None, refused: str, missing: str, elsewhere: str, expected: str
) -> None:
    chosen, why = choose_compile("auto", updates, refused, missing, elsewhere)
    assert chosen == expected
    assert (refused or missing or elsewhere) in why


@pytest.mark.parametrize(
    ("compiled", "precision", "why"),
    [
        ("off", "32-true", "it is a matter of compiled updates, and compile is 'off'"),
        ("losses", "32-true", "compile is 'losses'"),
        ("update", "bf16-mixed", "the trainer's precision is bf16-mixed, not 32-true"),
    ],
)
def test_what_forbids_bfloat16_is_named(compiled: str, precision: str, why: str) -> None:
    assert why in no_bfloat16(compiled, precision)


def test_a_processor_without_bfloat16_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    assert no_bfloat16("auto", "32-true") == "this processor has no AVX512-BF16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    assert no_bfloat16("auto", "32-true") == ""


def test_bfloat16_that_cannot_be_is_an_error(tmp_path: Path) -> None:
    data = data_for(BC)
    learner = learner_of(BC, data.spec, compile="off", matmul_precision="bfloat16")
    with pytest.raises(ValueError, match=r"'bfloat16' cannot be used here: .*compile is 'off'"):
        fit(learner, data, tmp_path, 3)


def test_bfloat16_compiles_short_runs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)

    def refuse(*_: Any) -> Any:
        raise UnknownError("no")

    monkeypatch.setattr(native, "loaded", refuse)
    data = data_for(BC)
    learner = learner_of(BC, data.spec, compile="auto", matmul_precision="bfloat16")
    why = r"BC cannot be written as C\+\+, and matmul_precision 'bfloat16' is .*: UnknownError: no"
    with pytest.raises(CompileError, match=why):
        fit(learner, data, tmp_path, 3)
    assert learner.plan is not None and learner.plan.compile == "update"


@pytest.mark.parametrize("wanted", ["off", "losses", "update"])
def test_what_is_asked_for_is_done(wanted: Any) -> None:
    assert choose_compile(wanted, 10, "", "", "not measured") == (wanted, "as asked")


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'update' cannot be used here: two.* 'losses' or 'off'"):
        choose_compile("update", 10, "two processes", "", "")
    with pytest.raises(ValueError, match=r"'losses' cannot be used here: no compiler"):
        choose_compile("losses", 10, "two processes", "no compiler", "")
    assert choose_compile("losses", 10, "two processes", "", "")[0] == "losses"


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert "no C++ compiler was found" in no_compiler()


def test_a_release_without_the_scan_only_lacks_compiled_updates(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The module is imported all the same, and runs say why they are not compiled."""
    monkeypatch.setitem(sys.modules, "torch._higher_order_ops.scan", None)  # an ImportError
    spec = importlib.util.find_spec("hindsight_rl.training.update.engine")
    assert spec is not None and spec.loader is not None
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    assert plan.scan is not None and again.scan is None and no_scan() == ""

    monkeypatch.setattr(plan, "scan", None)
    monkeypatch.setattr(plan, "BREAK_EVEN", 1)
    caplog.set_level("INFO", "hindsight_rl")
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 10)
    assert f"compile off (PyTorch {torch.__version__} has no torch._higher" in caplog.text
    with pytest.raises(ValueError, match=r"'update' cannot be used here: PyTorch .* has no torch"):
        fit(learner_of(BC, data.spec, compile="update"), data, tmp_path, 10)


def fake(monkeypatch: pytest.MonkeyPatch, **seconds_and_error: tuple[float, float]) -> None:
    """Let every product take the time and have the error that is given for its precision."""

    def measure(rows: int, width: int, options: list[tuple[int, str]]) -> dict[Any, Any]:
        return {
            (count, name): plan._Seen(*seconds_and_error[f"{name}{count}"])
            for count, name in options
        }

    monkeypatch.setattr(plan, "_measure", measure)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


def test_small_products_get_one_thread_and_full_precision() -> None:
    assert choose_products(32, 64, None, "auto")[:2] == (1, "highest")
    assert choose_products(32, 64, 3, "medium")[:2] == (3, "medium")


def test_rows_of_a_table_are_no_width_of_a_product() -> None:
    """Times of 1,000 steps are looked up; before, they made tiny networks wide, and timed."""
    net = nn.Sequential(nn.Embedding(1000, 12), nn.Linear(12, 7))
    assert widest(net) == 12
    assert widest(nn.Sequential(net, nn.Linear(12, 40))) == 40


@pytest.mark.parametrize(
    ("medium2", "expected"),
    [
        ((2.0, 2e-7), (2, "medium")),  # faster, as exact
        ((2.0, 1e-3), (2, "highest")),  # faster, but in bfloat16
        ((5.9, 2e-7), (2, "highest")),  # no faster than noise
    ],
)
def test_faster_products_are_taken_if_they_are_as_exact(
    medium2: tuple[float, float], expected: tuple[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = {"highest1": (10.0, 1e-7), "highest2": (6.0, 1e-7), "medium1": (10.0, 1e-7)}
    fake(monkeypatch, **exact, medium2=medium2)
    assert choose_products(256, 256, None, "auto")[:2] == expected


def test_what_is_asked_of_products_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch)  # a KeyError where something is tried
    assert choose_products(256, 256, 2, "medium")[:2] == (2, "medium")
    assert choose_products(256, 256, None, "auto", on_cpu=False)[:2] == (2, "highest")


def test_real_products_are_measured() -> None:
    threads, precision, why = choose_products(256, 256, None, "auto")
    assert 1 <= threads <= torch.get_num_threads()
    assert precision in ("highest", "medium")
    assert "256 x 256 x 256" in why


def test_threads_and_precision_are_set_for_a_while() -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision()
    with Plan("off", before[0] + 1, "medium").applied():
        assert torch.get_num_threads() == before[0] + 1
        assert torch.get_float32_matmul_precision() == "medium"
    assert before == (torch.get_num_threads(), torch.get_float32_matmul_precision())


def test_choice_is_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "hindsight_rl")
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 3)
    (line,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("updates:")]
    assert "compile off (compiling costs what about 25,000 updates save, this run has 3)" in line
    assert "1 thread(s), matmul_precision highest (small layers)" in line


def test_plan_of_a_checkpoint_is_kept_unless_another_is_asked_for(tmp_path: Path) -> None:
    data = data_for(BC)
    first = learner_of(BC, data.spec, compile="off", threads=2, matmul_precision="medium")
    fit(first, data, tmp_path, 5).save_checkpoint(tmp_path / "some.ckpt")
    second = learner_of(BC, data.spec)
    fit(second, data, tmp_path, 10, ckpt_path=tmp_path / "some.ckpt")
    assert second.plan is not None and second.plan.state_dict() == first.plan.state_dict()
    third = learner_of(BC, data.spec, threads=1)
    fit(third, data, tmp_path, 10, ckpt_path=tmp_path / "some.ckpt")
    assert third.plan is not None and third.plan.threads == 1
