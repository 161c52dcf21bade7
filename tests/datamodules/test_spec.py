"""The spec: exact statistics of the training rows, and plain values that a checkpoint can hold."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from episode_logs import HIGH, LOW, episode_log

from hindsight_rl.datamodules.make_spec import moments
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.relabel.filters import TopFraction
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.return_task import ReturnTask
from hindsight_rl.spec import WHOLE, Spec, describe


def with_info(log: Log, **facts: Any) -> Log:
    columns: dict[Any, Any] = {key: log.column(key) for key in log.keys()}
    return Log.from_columns(columns, log.info | facts)


# --- moments --------------------------------------------------------------------------------------


def test_moments_by_hand() -> None:
    """Rows 0, 1 and 3 of (1, 10), (3, 10), (9, 9), (5, 10): mean 3, sd sqrt(8 / 3)."""
    value = torch.tensor([[1.0, 10.0], [3.0, 10.0], [9.0, 9.0], [5.0, 10.0]])
    mean, std = moments(lambda: [value[:2], value[3:]])
    assert mean == [3.0, 10.0]
    assert std == pytest.approx([(8 / 3) ** 0.5, 1.0], abs=1e-15)


def test_moments_are_exact_far_from_zero() -> None:
    """Spread 0.5 at 4,000: in float32 the squares would lose it. Chunks change nothing."""
    generator = torch.Generator().manual_seed(0)
    value = 4000 + 0.5 * torch.randn(1000, 3, generator=generator)
    exact = value.numpy().astype(np.float64)
    mean, std = moments(lambda: value.split(64))
    np.testing.assert_allclose(mean, exact.mean(0), rtol=1e-14)
    np.testing.assert_allclose(std, exact.std(0), rtol=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3.7e6, 1e-9])
def test_constant_dimension_has_standard_deviation_1(constant: float) -> None:
    _, std = moments(lambda: [torch.full((1001, 1), constant)])
    assert std == [1.0]


@pytest.mark.parametrize("constant", [-4.0e6, 4.0e6])
def test_rounding_noise_is_no_spread(constant: float) -> None:
    """Two neighbouring float32 numbers: what moves is the last bit."""
    value = torch.full((1000, 1), constant)
    value[::2] = torch.nextafter(value[::2], torch.tensor(0.0))
    assert value.unique().numel() == 2
    assert moments(lambda: [value])[1] == [1.0]


@pytest.mark.parametrize("spread", [1e-3, 1e6])
def test_small_and_large_spreads_are_kept(spread: float) -> None:
    value = torch.tensor([[-spread], [spread]])
    assert moments(lambda: [value])[1] == pytest.approx([spread])


# --- the dictionary -------------------------------------------------------------------------------


def test_spec_of_a_continuous_log() -> None:
    log = with_info(
        episode_log(),
        names={"observation": ["x", "y", "z"], "action": ["left", "right"]},
        units={"observation": ["m"] * 3},
    )
    spec = OfflineDataModule(log, seed=5).spec.to_dict()
    observation = log.column("observation").numpy().astype(np.float64)
    action = log.column("action").numpy().astype(np.float64)
    probe, statistics = spec.pop("probe"), spec["observation"].pop("mean")
    np.testing.assert_allclose(statistics, observation.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spec["observation"].pop("std"), observation.std(0), rtol=1e-12)
    np.testing.assert_allclose(spec["action"].pop("mean"), action.mean(0), rtol=1e-12)
    np.testing.assert_allclose(spec["action"].pop("std"), action.std(0), rtol=1e-12)
    assert spec == {
        "version": 1,
        "observation": {
            "shape": [3],
            "dtype": "float32",
            "names": ["x", "y", "z"],
            "units": ["m", "m", "m"],
        },
        "action": {
            "kind": "continuous",
            "shape": [2],
            "dtype": "float32",
            "low": LOW,
            "high": HIGH,
            "names": ["left", "right"],
            "units": None,
        },
        "task": None,
        "control_rate_hz": 20.0,
        "dataset": {"hash": log.hash(), "source": ["walk"], "rows": 47, "episodes": 6},
    }
    assert np.shape(probe["observation"]) == (256, 3) and probe["task"] is None


def test_spec_of_a_discrete_log() -> None:
    log = episode_log(discrete=True)
    expected = {"kind": "discrete", "shape": [], "dtype": "int64", "names": None, "units": None}
    assert describe(OfflineDataModule(log).spec.action) == expected | {"n": 3}
    assert OfflineDataModule(with_info(log, discrete_actions=7)).spec.action.n == 7
    assert OfflineDataModule(with_info(log, discrete_actions=None)).spec.action.n == 3


def test_actions_without_bounds() -> None:
    action = OfflineDataModule(with_info(episode_log(), action=None)).spec.action
    assert action.low is action.high is None


def test_statistics_come_from_the_rows_that_are_trained_on() -> None:
    data = OfflineDataModule(episode_log(), [TopFraction(0.5)], validation=0.3)
    rows = data.log.drawable()
    assert len(rows) < 33
    mean, std = moments(lambda: [data.log.column("observation")[rows]])
    assert data.spec.whole.mean == tuple(mean) and data.spec.whole.std == tuple(std)
    seen = {tuple(row) for row in data.log.column("observation")[rows].tolist()}
    assert {tuple(row) for row in data.spec.probe.observation[WHOLE].tolist()} <= seen


def test_task_statistics_come_from_relabeled_rows() -> None:
    """A return to go as task: its mean over draws is the log's within four standard errors."""
    log = with_info(episode_log(), task_family="return_to_go", names={"task": ["return"]})
    data = OfflineDataModule(log, [ReturnTask(discount=0.99)], batch_size=100)
    task, value = data.spec.task, data.log.column("return_to_go").double()
    assert (task.shape, task.dtype, task.default) == ((1,), "float32", None)
    assert (task.family, task.names, task.units) == ("return_to_go", ("return",), None)
    spread = value.std().item()
    assert task.mean == pytest.approx([value.mean().item()], abs=4 * spread / 64)
    assert task.std == pytest.approx([spread], rel=0.1)


def test_probes_pair_observations_with_their_tasks() -> None:
    data = OfflineDataModule(episode_log(), [ReturnTask(discount=0.99)])
    column = data.log.column("return_to_go").tolist()
    number = {tuple(row): at for at, row in enumerate(data.log.column("observation").tolist())}
    probe = data.spec.to_dict()["probe"]
    assert np.shape(probe["task"]) == (256, 1)
    pairs = zip(probe["observation"], probe["task"], strict=True)
    assert all(task == [column[number[tuple(observation)]]] for observation, task in pairs)


@pytest.mark.parametrize("batch_size", [1, 5000])
def test_probes_are_256_whatever_the_batch_size(batch_size: int) -> None:
    data = OfflineDataModule(episode_log(goals=True), [FutureGoal()], batch_size=batch_size)
    assert len(data.spec.probe.observation[WHOLE]) == len(data.spec.probe.task) == 256


def test_spec_is_plain_and_repeatable() -> None:
    log = episode_log(goals=True)
    first, again = (OfflineDataModule(log, [FutureGoal()], seed=1).spec for _ in range(2))
    assert first == again
    plain = first.to_dict()
    assert json.loads(json.dumps(plain)) == plain == again.to_dict()
    assert Spec.from_dict(plain) == first
