"""OfflineDataModule in Lightning's hands: held-out episodes stay held out, rows come on demand."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from episode_logs import episode_log
from jsonargparse import ArgumentParser
from small_fits import fit, learner_of, trainer_in

from hindsight_rl.agents.awr import AWR
from hindsight_rl.agents.bc import BC
from hindsight_rl.datamodules.base import Batches
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.sampler import ChunkSampler
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading.column_map import ColumnMap
from hindsight_rl.training.learner import Learner

SPLIT = {"seed": 3, "validation": 0.4}


def data_of(log: Log | None = None, **options: Any) -> OfflineDataModule:
    log = episode_log() if log is None else log
    return OfflineDataModule(log, **{"batch_size": 16, "updates_per_step": 8} | options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return checkpoints of two learners after 5 updates on a log split by SPLIT."""
    found = {}
    for kind in (BC, AWR):
        folder = tmp_path_factory.mktemp(kind.__name__)
        data = data_of(**SPLIT)
        trainer = fit(learner_of(kind, data.spec), data, folder, 5, val_check_interval=5)
        found[kind.__name__] = folder / "some.ckpt"
        trainer.save_checkpoint(found[kind.__name__])
    return found


def run(
    what: str, path: Path, data: OfflineDataModule, folder: Path, kind: type[Learner] = BC
) -> Any:
    """Validate, predict with or resume from a checkpoint."""
    trainer = trainer_in(folder, 10, val_check_interval=5)
    action = getattr(trainer, what)
    return action(learner_of(kind, data.spec), datamodule=data, ckpt_path=path, weights_only=True)


OTHER_SPLITS = [
    {"seed": 4, "validation": 0.4},
    {"seed": 3, "validation": 0.2},
    {"seed": 3, "validation": 0.0},
]


@pytest.mark.parametrize("split", OTHER_SPLITS)
@pytest.mark.parametrize("what", ["fit", "validate"])
def test_another_split_is_refused(
    what: str, split: dict[str, Any], trained: dict[str, Path], tmp_path: Path
) -> None:
    message = (
        "walk: the checkpoint was trained on other episodes of this log: held-out ones would be "
        "among them. Set --data.seed 3 --data.validation 0.4, as in the run"
    )
    with pytest.raises(LogError, match=message):
        run(what, trained["BC"], data_of(**split), tmp_path)


def test_filtered_rows_are_another_split(trained: dict[str, Path], tmp_path: Path) -> None:
    log = episode_log().with_rows(torch.arange(30))
    with pytest.raises(LogError, match="trained on other episodes of this log"):
        run("validate", trained["BC"], data_of(log, **SPLIT), tmp_path)


@pytest.mark.parametrize("what", ["fit", "validate"])
def test_the_split_of_the_run_is_taken(what: str, trained: dict[str, Path], tmp_path: Path) -> None:
    run(what, trained["BC"], data_of(**SPLIT), tmp_path)


@pytest.mark.parametrize("split", [SPLIT, *OTHER_SPLITS])
@pytest.mark.parametrize("seed", [0, 1])
def test_prediction_goes_anywhere(
    seed: int, split: dict[str, Any], trained: dict[str, Path], tmp_path: Path
) -> None:
    parts = run("predict", trained["BC"], data_of(episode_log(seed=seed), **split), tmp_path)
    assert torch.cat([part["index"] for part in parts]).equal(torch.arange(47))


def test_validation_on_another_log_is_free_without_a_sweep(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    other = data_of(episode_log(seed=1), seed=9, validation=0.2)
    assert len(run("validate", trained["BC"], other, tmp_path)) == 1
    with pytest.raises(LogError, match="columns swept over another log.*Validate on that log"):
        run("validate", trained["AWR"], other, tmp_path, AWR)
    with pytest.raises(LogError, match="checkpoint was trained on a log with hash"):
        run("fit", trained["BC"], other, tmp_path)


def test_checkpoint_from_before_the_split_was_kept_is_taken() -> None:
    data = data_of(**SPLIT)
    data.load_state_dict({"log_hash": data.log_hash})


# --- rows on demand -------------------------------------------------------------------------------


def test_batches_are_gathered_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(**SPLIT)
    asked = []
    gather = ChunkSampler.gather

    def spy(self: Any, index: torch.Tensor, draws: torch.Tensor) -> Any:
        asked.append(index.shape[1])
        return gather(self, index, draws)

    monkeypatch.setattr(ChunkSampler, "gather", spy)
    validation, prediction = data.val_dataloader(), data.predict_dataloader()
    assert asked == [] and len(validation) == len(prediction) == 1
    for _ in range(2):
        assert [len(batch["index"][0]) for batch in prediction] == [47]
    assert asked == [47, 47]


def test_batches_in_order_have_a_length_and_an_end() -> None:
    sampler = data_of()._sampler()
    batches = Batches(sampler, 0, torch.arange(5, 28), "predict", 10)
    assert len(batches) == 3 and [batch.shape[1] for batch in batches] == [10, 10, 3]
    assert torch.cat([batch["index"][0] for batch in batches]).equal(torch.arange(5, 28))


def test_validation_runs_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(**SPLIT)
    learner = learner_of(BC, data.spec)
    step, seen = learner.validation_step, []

    def spy(batch: Any, batch_idx: int = 0) -> None:
        seen.append((learner.updates, batch["index"][0].tolist()))
        step(batch, batch_idx)

    monkeypatch.setattr(learner, "validation_step", spy)
    fit(learner, data, tmp_path, 10, val_check_interval=5)
    assert [update for update, _ in seen] == [5, 10]
    assert seen[0][1] == seen[1][1] == data._held_out.tolist()


# --- a split that nobody looks at -----------------------------------------------------------------


def test_a_split_that_is_never_validated_warns_once(tmp_path: Path) -> None:
    data = data_of(**SPLIT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(learner_of(BC, data.spec), data, tmp_path, 5)
    found = [str(one.message) for one in caught if "held out" in str(one.message)]
    assert found == [
        "episodes are held out (validation 0.4), but val_check_interval is 1.0, not a number of "
        "updates: they are never looked at. Set it, as in --trainer.val_check_interval 1000"
    ]


@pytest.mark.parametrize(("split", "every"), [(SPLIT, 5), ({}, 1.0)])
def test_nothing_else_warns(split: dict[str, Any], every: float, tmp_path: Path) -> None:
    data = data_of(**split)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*held out.*")
        fit(learner_of(BC, data.spec), data, tmp_path, 5, val_check_interval=every)


# --- sources, weights and column maps -------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> list[str]:
    paths = []
    for name, seed in (("one", 0), ("two", 1)):
        episode_log(seed=seed).save(tmp_path / name)
        paths.append(str(tmp_path / name))
    return paths


@pytest.mark.parametrize("weight", [-3.0, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("sources", [1, 2])
def test_weights_must_be_positive(weight: float, sources: int, two: list[str]) -> None:
    source: Any = two[0] if sources == 1 else two
    with pytest.raises(LogError, match="weight .* is not positive. Give a finite number above 0"):
        OfflineDataModule(source, weights=[weight, 1.0][:sources])


@pytest.mark.parametrize("as_list", [True, False])
def test_weights_must_be_as_many_as_sources(as_list: bool, two: list[str]) -> None:
    source: Any = two[:1] if as_list else two[0]
    with pytest.raises(LogError, match="2 weights for 1 sources. Give one for each"):
        OfflineDataModule(source, weights=[1.0, 2.0])
    assert len(OfflineDataModule(source, weights=[2.0]).log) == 47


@pytest.mark.parametrize("given", [{"weights": [1.0]}, {"columns": "minari"}])
def test_a_log_takes_neither_weights_nor_columns(given: dict[str, Any]) -> None:
    with pytest.raises(LogError, match="are for sources that are read, and this is a log"):
        OfflineDataModule(episode_log(), **given)


def table_in(folder: Path, name: str, observation: str) -> str:
    """Write a table whose observation has another name, and return its path."""
    lines = [f"{observation},action,reward,terminated,truncated"]
    lines += [f"{row}.5,0.{row},1.0,{int(row == 3)},0" for row in range(4)]
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


def test_column_maps_may_be_a_list_also_from_yaml(tmp_path: Path) -> None:
    """One map for each source: a map, the path of one, or none."""
    sources = [table_in(tmp_path, f"{n}.csv", n) for n in ("angle", "depth", "observation")]
    (tmp_path / "depth.yaml").write_text("observation: depth\n")
    maps: list[Any] = [ColumnMap(observation="angle"), str(tmp_path / "depth.yaml"), None]
    plain = OfflineDataModule(sources, columns=maps)
    assert len(plain.log) == 12 and [source.stop for source in plain.log.sources] == [4, 8, 12]

    text = f"""
    data:
      class_path: {OfflineDataModule.__module__}.OfflineDataModule
      init_args:
        source: {sources}
        columns: [{{observation: angle}}, {maps[1]}, null]
    """
    (tmp_path / "data.yaml").write_text(text)
    for mode in ("yaml", "omegaconf"):
        parser = ArgumentParser(parser_mode=mode, exit_on_error=False)
        parser.add_argument("--config", action="config")
        parser.add_subclass_arguments(OfflineDataModule, "data")
        config = parser.parse_args(["--config", str(tmp_path / "data.yaml")])
        data = parser.instantiate_classes(config).data
        assert data.log_hash == plain.log_hash
