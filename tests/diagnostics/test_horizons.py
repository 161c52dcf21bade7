"""Errors by horizon: of models that are right, wrong, unaware, or remember; what inspect says."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fits import hindsight, refused
from episode_logs import episode_log
from small_fits import data_for, fit, learner_of
from torch import Tensor

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.dynamics import Dynamics
from hindsight_rl.cli import inspect
from hindsight_rl.diagnostics.horizons import HorizonErrors, horizon_errors
from hindsight_rl.keys import ACTION, NEXT_OBSERVATION, OBSERVATION, REWARD, STEP
from hindsight_rl.logs.log import Log
from hindsight_rl.maths.draws import normals
from hindsight_rl.ports import Foreseen, Imagined


class Walks:
    """s' = s + a + spread x luck, r = a; two members that are ``apart`` where s is positive.

    Args:
        spread: Of the luck.
        moves: Whether the action counts.
        apart: How far the members are.
        remembers: The action of the step before is what counts, and is in the memory.
    """

    def __init__(
        self, spread: float, moves: bool = True, apart: float = 0.0, remembers: bool = False
    ) -> None:
        self.spread, self.moves, self.apart, self.remembers = spread, moves, apart, remembers

    def initial_memory(self, n: int) -> dict[str, Tensor]:
        """Return the action of the step before: none."""
        return {"before": torch.zeros(n, 1)} if self.remembers else {}

    def foresee(
        self,
        observation: Tensor,
        action: Tensor,
        memory: dict[str, Tensor],
        draws: Tensor | None = None,
    ) -> Foreseen:
        """Return a step."""
        push = memory["before"] if self.remembers else action
        luck = 0.0 if draws is None else self.spread * normals(draws, 1)
        following = observation + (push if self.moves else 0.0) + luck
        zero = torch.zeros(observation.shape[:-1])
        mean = torch.zeros(2, *observation.shape[:-1], 2)
        mean[0, ..., 0] = self.apart * (observation[..., 0] > 0)
        found = Imagined(following, action[..., 0], zero.bool(), zero)
        return Foreseen(
            found, mean, torch.ones_like(mean), {"before": action} if self.remembers else {}
        )


def walk_log(spread: float, lengths: tuple[int, ...] = (30,) * 40, late: bool = False) -> Log:
    """Return what :class:`Walks` would log; ``late``: the action of the step before counts."""
    log = episode_log(lengths)
    columns = {key: log.column(key) for key in log.keys()}  # noqa: SIM118
    generator = torch.Generator().manual_seed(0)
    rows, step = len(log), log.column(STEP)
    action = torch.randn(rows, 1, generator=generator)
    luck = spread * torch.randn(rows, 1, generator=generator)
    here, after = torch.zeros(rows, 1), torch.zeros(rows, 1)
    for row in range(rows):
        first = int(step[row]) == 0
        here[row] = 0.0 if first else after[row - 1]
        push = (0.0 if first else action[row - 1]) if late else action[row]
        after[row] = here[row] + push + luck[row]
    columns |= {OBSERVATION: here, ACTION: action, NEXT_OBSERVATION: after}
    columns[REWARD] = action[:, 0]
    info = {k: v for k, v in log.info.items() if k != "action"}
    return Log.from_columns(columns, info)


def test_a_model_that_is_right_covers_nine_tenths_at_every_horizon() -> None:
    """Error: the luck of h steps, by the variance of s; still: that and h actions of variance 1."""
    log = walk_log(0.5)
    found = horizon_errors(Walks(0.5), log, horizon=5, starts=1000)
    assert [row.steps for row in found] == [1, 2, 3, 4, 5]
    unit = float(log.column(OBSERVATION).var(correction=0))
    for row in found:
        assert row.coverage == pytest.approx(0.9, abs=0.05)
        # The mean of 19 draws errs by a 19th more.
        assert row.error * unit == pytest.approx(row.steps * 0.25 * 20 / 19, rel=0.25)
        assert row.still * unit == pytest.approx(row.steps * 1.25, rel=0.25)
        assert row.reward_error == 0.0
    assert found[0].nll < found[4].nll
    again = horizon_errors(Walks(0.5), log, horizon=5, starts=1000)
    assert again == found


def test_models_that_are_too_sure_or_that_stand_still() -> None:
    log = walk_log(0.5)
    sure = horizon_errors(Walks(0.05), log, horizon=1)[0]
    right = horizon_errors(Walks(0.5), log, horizon=1)[0]
    assert sure.coverage < 0.3 and sure.nll > right.nll
    still = horizon_errors(Walks(1e-6, moves=False), log, horizon=3)
    for row in still:
        assert row.error == pytest.approx(row.still, rel=1e-3)


def test_disagreement_is_compared_with_errors() -> None:
    """Members disagree where s > 0: where the error is, or elsewhere."""
    log = walk_log(0.0)
    after = log.column(NEXT_OBSERVATION).clone()
    positive = log.column(OBSERVATION) > 0
    noise = torch.randn(len(log), 1, generator=torch.Generator().manual_seed(1))
    model = Walks(1e-3, apart=1.0)
    for where, sign in ((positive, 1), (~positive, -1)):
        wrong = log.with_columns({NEXT_OBSERVATION: after + 3.0 * noise * where})
        found = horizon_errors(model, wrong, horizon=1, starts=2000)[0].correlation
        assert set(found) == {
            "aleatoric_max", "mean_deviation", "pairwise", "ensemble_std", "total_std"
        }  # fmt: skip
        assert sign * found["ensemble_std"] > 0.5
        assert found["aleatoric_max"] == 0.0


def test_what_is_remembered_is_of_all_logged_steps_before() -> None:
    """The action of the step before counts, and at the start it is one of the log."""
    log = walk_log(0.0, (5, 9, 1, 12), late=True)
    model = Walks(1e-6, remembers=True)
    for row in horizon_errors(model, log, horizon=4):
        assert row.error < 1e-6 < row.still
    assert horizon_errors(Walks(1e-6), log, horizon=1)[0].error > 0.01


def test_episodes_end_and_rows_are_chosen() -> None:
    log = walk_log(0.1, (3, 5, 2))
    found = horizon_errors(Walks(0.1), log, horizon=10)
    assert [(row.steps, row.rows) for row in found] == [(1, 10), (2, 7), (3, 4), (4, 2)]
    chosen = horizon_errors(Walks(0.1), log, torch.arange(3, 8), horizon=10)
    assert [row.rows for row in chosen] == [5, 4, 3, 2]
    few = horizon_errors(Walks(0.1), log, horizon=1, starts=4)
    assert few[0].rows == 4
    with pytest.raises(ValueError, match="there are no rows to look at"):
        horizon_errors(Walks(0.1), log, torch.arange(0))
    with pytest.raises(ValueError, match="horizon 0 and starts 500 must be at least 1"):
        horizon_errors(Walks(0.1), log, horizon=0)


# --- hindsight inspect ----------------------------------------------------------------------------


@pytest.fixture
def fitted(tmp_path: Path) -> tuple[Path, Path]:
    """A log in a file, and a checkpoint of a model of it with episodes held out."""
    log = episode_log()
    log.save(tmp_path / "log")
    data = data_for(Dynamics, Log.load(tmp_path / "log"), validation=0.4, seed=3)
    model = learner_of(Dynamics, data.spec)
    fit(model, data, tmp_path, 8).save_checkpoint(tmp_path / "model.ckpt")
    return tmp_path / "log", tmp_path / "model.ckpt"


def inspected(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert inspect.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_inspect_judges_a_model_on_episodes_held_out_from_it(
    fitted: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    log, model = fitted
    about: dict[str, Any] = json.loads(
        inspected(capsys, log, "--model", model, "--horizon", 3, "--json")
    )["model"]
    data = data_for(Dynamics, Log.load(log), validation=0.4, seed=3)
    rows = torch.cat([batch[0]["index"] for batch in data.val_dataloader()])
    assert 0 < len(rows) < 47
    assert about["judged_on"] == f"{len(rows)} rows that were held out from it"
    assert about["horizons"][0]["rows"] == len(rows) and about["uncertainty"] == "ensemble_std"
    assert {*about["horizons"][0]} == {*HorizonErrors._fields}
    text = inspected(capsys, log, "--model", model, "--horizon", 3)
    table = next(part for part in text.split("\n\n") if "model.ckpt" in part)
    assert "ensemble_std" in table and "Judged on" in table
    other = log.with_name("other")
    episode_log(seed=5).save(other)
    assert "none of this log are known to have been held out" in inspected(
        capsys, other, "--model", model
    )


def test_inspect_refuses_what_is_no_model(fitted: tuple[Path, Path], tmp_path: Path) -> None:
    log, model = fitted
    data = data_for(BC)
    fit(learner_of(BC, data.spec), data, tmp_path, 1).save_checkpoint(tmp_path / "bc.ckpt")
    text = refused(hindsight("inspect", log, "--model", tmp_path / "bc.ckpt"))
    assert "BC does not say what follows actions: give a checkpoint of Dynamics" in text
    choices = tmp_path / "choices"
    episode_log(discrete=True).save(choices)
    text = refused(hindsight("inspect", choices, "--model", model))
    assert "its action is [2] real numbers, and that of the log one of 3" in text
