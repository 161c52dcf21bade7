"""Success, log-probabilities and further numbers of somebody else's log, from every format."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import foreign_logs as foreign
import numpy as np
import pytest
import torch

from hindsight_rl.agents.signed_bc import SignedBC
from hindsight_rl.datamodules.make_spec import check_keys
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log, survey
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.labels import ColumnLabel

SUCCESS = np.array([0, 0, 1, 0, 0, 0, 0, 0])
LOG_PROB = np.linspace(-2.0, 1.5, foreign.ROWS)  # densities: of any sign
RATING = np.arange(foreign.ROWS) % 3
FURTHER = {"is_success": SUCCESS, "logp": LOG_PROB, "infos/rating": RATING}
MAP = {"success": "is_success", "action_log_prob": "logp", "extra": "infos/rating"}
Write = Callable[[Path, Mapping[str, Any]], Path]
WRITERS: dict[str, Write] = {
    "log.npz": foreign.npz,
    "log.csv": foreign.csv,
    "log.hdf5": foreign.hdf5,
    "log.parquet": foreign.parquet,
}


def read(folder: Path, columns: Mapping[str, Any], **changed: Any) -> Log:
    return read_log(foreign.npz(folder / "log.npz", foreign.columns() | FURTHER | changed), columns)


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_what_the_map_asks_for(name: str, tmp_path: Path) -> None:
    path = WRITERS[name](tmp_path / name, foreign.columns() | FURTHER)
    log = read_log(path, MAP)
    foreign.expect_same(log)
    assert log.column("success").dtype == torch.bool
    assert log.column("success").tolist() == SUCCESS.astype(bool).tolist()
    np.testing.assert_allclose(log.column("action_log_prob"), LOG_PROB, rtol=1e-6)
    assert log.column("rating").dtype == torch.float32
    assert log.column("rating").tolist() == RATING.tolist()
    assert set(read_log(path).keys()) == set(log.keys()) - {"success", "action_log_prob", "rating"}


def test_flags_in_words_and_features_of_lerobot(tmp_path: Path) -> None:
    words = np.where(SUCCESS, "true", "false")
    path = foreign.csv(tmp_path / "log.csv", foreign.columns() | {"success": words})
    assert read_log(path, {"success": "success"}).column("success").tolist() == SUCCESS.tolist()
    folder = foreign.lerobot(tmp_path / "robot", "v2.1")
    log = read_log(folder, {"extra": ["task_index", "frame_index"]})
    assert log.column("task_index").tolist() == [0, 0, 0, 0, 1, 0, 0, 0]
    assert log.column("frame_index").tolist() == [0, 1, 2, 3, 0, 0, 1, 2]


def test_what_is_said_of_an_episode_holds_for_its_rows(tmp_path: Path) -> None:
    """Episodes of 4, 1 and 3 steps."""
    said = {"is_success": np.array([True, False, True]), "stars": np.array([[5.0], [1.0], [3.0]])}
    log = read(tmp_path, {"success": "is_success", "extra": ["stars"]}, **said)
    assert log.column("success").tolist() == [True] * 4 + [False] + [True] * 3
    assert log.column("stars").tolist() == [5] * 4 + [1] + [3] * 3


def test_relabelers_go_by_them(tmp_path: Path) -> None:
    log = read(tmp_path, MAP)
    label = ColumnLabel("success").prepare(log).columns["label"]
    assert label.tolist() == [1] * 4 + [-1] * 4
    # Mean ratings 0.75, 1 and 1: the first of the two best.
    assert TopFraction(0.4, score="rating").prepare(log).rows.tolist() == [4]


@pytest.mark.parametrize(
    ("scale", "log_volume"), [(2.0, math.log(4.0)), ([-2.0, 0.5], 0.0), ([3.0, 1.0], math.log(3.0))]
)
def test_densities_are_those_of_actions_in_environment_units(
    scale: Any, log_volume: float, tmp_path: Path
) -> None:
    """The density of s a at s a is that of a at a, divided by the product of |s|."""
    log = read(tmp_path, MAP | {"action_scale": scale})
    np.testing.assert_allclose(log.column("action_log_prob"), LOG_PROB - log_volume, atol=1e-6)


def test_the_policy_that_acted_weighs_as_logged(tmp_path: Path) -> None:
    """Logged with the learner's own densities, scaled: every ratio is 1 and equals no ratio."""
    bounds = {"action_scale": 2.0, "action_low": -2.0, "action_high": 2.0}
    plain = OfflineDataModule(read(tmp_path, MAP | bounds), [ColumnLabel("success")])
    options = {"network": Network(hidden=(4,)), "ratio": "importance", "behavior": "logged"}
    learner = SignedBC(plain.spec, **options)
    observation = torch.from_numpy(foreign.columns()["observation"])
    with torch.no_grad():  # as executed, masses at bounds; in the file's units of two dimensions
        action = plain.log.column("action")
        log_prob = learner.actor.executed_log_prob(observation, action) + 2 * math.log(2.0)
    assert (action.abs() == 2).any()
    again = OfflineDataModule(
        read(tmp_path, MAP | bounds, logp=log_prob.numpy()), [ColumnLabel("success")]
    )
    batch = again.on_after_batch_transfer(next(again.in_order()), 0)[0]
    found = learner.losses(batch).metrics
    torch.testing.assert_close(found["actor/weight"], torch.tensor(1.0))
    torch.testing.assert_close(found["actor/effective_sample_size"], torch.tensor(1.0))


def test_a_learner_without_its_column_is_told_the_field(tmp_path: Path) -> None:
    data = OfflineDataModule(read(tmp_path, {"success": "is_success"}), [ColumnLabel("success")])
    learner = SignedBC(data.spec, ratio="importance", behavior="logged")
    with pytest.raises(LogError, match=r"needs 'action_log_prob', .*`action_log_prob: COLUMN` in"):
        check_keys(learner.in_keys, data.batch_keys())
    with pytest.raises(LogError, match=r"to 'rating', `extra: rating` in the column map\."):
        check_keys(("rating",), data.batch_keys())


NAN = np.where(np.arange(8) == 5, np.nan, LOG_PROB)
DISCRETE = {"action": np.arange(8) % 2, "logp": np.full(8, 0.25)}


@pytest.mark.parametrize(
    ("columns", "changed", "told"),
    [
        ({"success": "is_succes"}, {}, r"'is_succes': no such column. Did you mean 'is_success'\?"),
        ({"success": "is_success"}, {"is_success": RATING}, r"is_success', row 2: 2 is no flag"),
        ({"success": "is_success"}, {"is_success": SUCCESS[:5]}, r"5 rows where the .* 8 \(or 3\)"),
        ({"success": "is_success"}, {"is_success": np.ones((8, 2))}, "2 entries per row where one"),
        ({"success": "is_success"}, {"is_success": np.array(1)}, "a single value, no column"),
        ({"success": "s_*"}, {"s_0": SUCCESS, "s_1": SUCCESS}, r"success: 's_\*' stands for 2 col"),
        ({"action_log_prob": "logq"}, {}, r"'logq': no such column. Did you mean 'logp'\?"),
        ({"action_log_prob": "logp"}, {"logp": NAN}, r"column 'logp', row 5: NaN \(1 such entry"),
        ({"action_log_prob": "logp"}, {"logp": np.full(8, -np.inf)}, r"row 0: infinity \(8 such"),
        ({"action_log_prob": "logp"}, {"logp": LOG_PROB[:3]}, r"3 rows where the actions have 8\."),
        (
            {"action_log_prob": "logp"},
            DISCRETE,
            "0.25 is above 0, .*discrete action. Store the nat",
        ),
        ({"action_log_prob": "logp", "action_scale": 0.0}, {}, "action_scale has a 0: scaled act"),
        ({"extra": "rating"}, {}, r"'rating': no such column. Did you mean 'infos/rating'\?"),
        ({"extra": "words"}, {"words": np.array(["a"] * 8)}, "text 'a' where a number is needed"),
        ({"extra": "x"}, {"x": np.full(8, np.inf)}, "column 'x', row 0: infinity"),
        ({"extra": "x"}, {"x": np.ones((8, 2))}, "column 'x': 2 entries per row where one"),
        ({"extra": ["a/x", "b.x"]}, {"a/x": RATING, "b.x": RATING}, "it would be called 'x', as"),
        ({"extra": "infos/task"}, {"infos/task": RATING}, "it would be called 'task', as another"),
        ({"extra": "draws"}, {"draws": RATING}, "it would be called 'draws', as another column"),
    ],
)
def test_wrong_columns_are_refused(
    columns: dict[str, Any], changed: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(LogError, match=told):
        read(tmp_path, columns, **changed)


def test_a_pattern_for_one_column_is_that_column(tmp_path: Path) -> None:
    log = read(tmp_path, {"success": "s_*", "extra": "r_*"}, s_0=SUCCESS, r_1=RATING, r_2=RATING)
    assert log.column("success").tolist() == SUCCESS.tolist()
    assert {"r_1", "r_2"} <= set(log.keys())


def test_looking_at_a_log_tells_all_that_is_wrong_with_them(tmp_path: Path) -> None:
    path = foreign.npz(
        tmp_path / "log.npz", foreign.columns() | {"is_success": RATING, "logp": NAN}
    )
    _, problems = survey(path, {"success": "is_success", "action_log_prob": "logp"})
    assert ["is no flag" in str(problems[0]), "NaN" in str(problems[1])] == [True, True]
    assert len(problems) == 2
