"""What a learner says it cannot do is an error to whoever asks for it, and to nobody else."""

import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from command_fits import cart_log, refused
from command_fits import fit as fit_by_command
from small_fits import data_for, fit, learner_of

from hindsight_rl.agents.bc import BC
from hindsight_rl.training.limits import Limits
from hindsight_rl.training.update import plan

WHY = "its loss looks at pairs of rows"


class Limited(BC):
    """A learner that can do nothing but be fitted, in one go."""

    limits: ClassVar[Limits] = {
        "resume": WHY, "ranks": WHY, "update": WHY, "seeds": WHY, "bf16": WHY
    }  # fmt: skip


class Misspelt(BC):
    """Names what is no ability."""

    limits = {"rank": WHY}  # type: ignore[dict-item]


def limited(folder: Path, updates: int = 4, options: Any = (), **arguments: Any) -> Any:
    data = data_for(Limited)
    learner = learner_of(Limited, data.spec, **arguments)
    return fit(learner, data, folder, updates, **dict(options))


def test_a_plain_fit_is_not_concerned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is a long one, which is compiled where that can be done."""
    monkeypatch.setattr(plan, "BREAK_EVEN", 1)
    trainer = limited(tmp_path, compile="auto")
    assert trainer.global_step == 4
    assert trainer.lightning_module.plan.compile == "off"
    assert trainer.lightning_module.plan.why_compile == WHY


@pytest.mark.parametrize(
    ("arguments", "options", "told"),
    [
        ({"compile": "update"}, {}, f"compile 'update' cannot be used here: {WHY}. Use 'losses'"),
        ({"seeds": 2}, {}, f"seeds is 2: several seeds cannot be trained, {WHY}"),
        (
            {},
            {"precision": "bf16-mixed"},
            f"Limited cannot be fitted in half precision: {WHY}. Use 32-true",
        ),
    ],
)
def test_what_is_asked_for_is_an_error(
    arguments: dict[str, Any], options: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        limited(tmp_path, options=options, **arguments)


def test_a_resumed_run_is_an_error(tmp_path: Path) -> None:
    limited(tmp_path).save_checkpoint(tmp_path / "some.ckpt")
    told = rf"Limited cannot be resumed: {WHY}\. Start again"
    with pytest.raises(ValueError, match=told):
        limited(tmp_path, 8, {"ckpt_path": tmp_path / "some.ckpt"})


def test_several_processes_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning import Trainer

    monkeypatch.setattr(Trainer, "world_size", 2)
    told = rf"Limited cannot be fitted by several processes: {WHY}\. Use one \(devices 1\)"
    with pytest.raises(ValueError, match=told):
        limited(tmp_path)


def test_the_command_says_it_on_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cart_log(tmp_path / "log.npz")
    monkeypatch.setattr(BC, "limits", {"bf16": WHY})
    told = refused(fit_by_command("--trainer.precision", "bf16-mixed", config="bc"))
    assert f"BC cannot be fitted in half precision: {WHY}. Use 32-true" in told


def test_a_name_that_limits_nothing_is_an_error() -> None:
    told = r"limits of Misspelt names 'rank', which is none of resume, ranks, update, seeds, bf16"
    with pytest.raises(ValueError, match=told):
        learner_of(Misspelt, data_for(BC).spec)
