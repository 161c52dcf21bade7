"""``hindsight relabel``: what it writes and says, what it refuses, in one line and with code 2."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from command_fits import fit, hindsight

from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.datamodules.relabeled import PROVENANCE
from hindsight_rl.datamodules.relabeled_rows import original
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.reading import read_log
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.relabel.once import Once
from hindsight_rl.tasks.family import GoalReaching

GOALS = """
relabel:
  - class_path: FutureGoal
    init_args:
      family: {class_path: GoalReaching, init_args: {radius: 0.5}}
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ``log.npz`` of ten episodes and ``goals.yaml``."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    rows, length = 200, 20
    walk = draw.normal(size=(rows + 1, 4)).astype(np.float32).cumsum(0)
    columns: dict[str, Any] = {
        "observations": walk[:-1],
        "actions": draw.integers(0, 2, rows),
        "rewards": np.zeros(rows, np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % length == length - 1,
        "achieved_goal": walk[:-1, :2],
    }
    np.savez(tmp_path / "log.npz", **columns)
    (tmp_path / "goals.yaml").write_text(GOALS)
    (tmp_path / "map.yaml").write_text("achieved_goal: achieved_goal\n")
    return tmp_path


def relabel(*words: object, config: str = "goals.yaml", log: str = "log.npz") -> Any:
    plain = ("relabel", log, "--config", config, "--columns", "map.yaml", "--output", "new")
    return hindsight(*plain, *words)


def test_writes_what_once_decides_and_leaves_the_source(place: Path) -> None:
    before = hashlib.sha256((place / "log.npz").read_bytes()).digest()
    done = relabel("--seed", 3)
    assert done.code == 0, done.err
    assert done.out == (
        "new: 200 rows in 10 episodes; replaced next.reward, next.terminated; added task\n"
    )
    assert done.err == ""
    log = read_log("log.npz", "map.yaml")
    data = OfflineDataModule(log, [Once([FutureGoal(GoalReaching(0.5))], 3)])
    batch = data.on_after_batch_transfer(next(data.in_order()), 0)[0]
    found = Log.load("new")
    for key in ("task", ("next", "reward"), ("next", "terminated")):
        assert torch.equal(found.column(key), batch[key])
    assert hashlib.sha256((place / "log.npz").read_bytes()).digest() == before


def test_columns_and_numbers_are_written_as_for_fit(place: Path) -> None:
    (place / "config.yaml").write_text(
        "relabel: [{class_path: FutureGoal, init_args: {family: {class_path: GoalReaching, "
        "init_args: {radius: .5e0}}}}]\nseed: 3\ncolumns: {reward: 1e-3}\n"
    )
    written_out = json.dumps(yaml.safe_load((place / "map.yaml").read_text()))
    assert relabel("--columns", written_out).code == 0
    assert relabel("--columns", written_out, "--overwrite", config="config.yaml").code == 0
    (done,) = Log.load("new").info[PROVENANCE]
    assert done["rule"][0]["init_args"]["family"]["init_args"]["radius"] == 0.5
    refused = relabel("--columns", "{observaton: obs}", "--overwrite")
    assert refused.code == 2 and "no field 'observaton'" in refused.err


def test_provenance_holds_every_argument(place: Path) -> None:
    assert relabel().code == 0
    (done,) = Log.load("new").info[PROVENANCE]
    (part,) = done["rule"]
    assert part["class_path"] == "hindsight_rl.FutureGoal"
    assert part["init_args"]["family"]["init_args"]["radius"] == 0.5
    assert part["init_args"]["fraction"] == 1.0  # a default
    assert done["source_hash"] == read_log("log.npz", "map.yaml").hash()


def test_written_log_is_read_inspected_and_trained_on(place: Path) -> None:
    assert relabel().code == 0
    looked = hindsight("inspect", "new")
    assert looked.code == 0 and "original.next.reward" in looked.out
    done = fit("--run", "run", config="bc", log="new", updates=8)
    assert done.code == 0, done.err


# A configuration of `fit` counts with its data block; so does a run's own, and flat settings.
CONFIGS = {
    "fit": "model: {class_path: BC}\ndata:\n  class_path: OfflineDataModule\n"
    "  init_args: {seed: 7, batch_size: 8, relabel: [{class_path: FinalGoal}]}\n",
    "short": "data: {seed: 7, relabel: [FinalGoal]}\n",
    "settings": "relabel: [{class_path: FinalGoal}]\nseed: 7\ncolumns: nowhere\n",
    "interpolated": "number: 7\ndata: {seed: '${number}', relabel: [FinalGoal], columns: [a, b]}\n",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_configurations(kind: str, place: Path) -> None:
    (place / "config.yaml").write_text(CONFIGS[kind])
    assert relabel(config="config.yaml").code == 0
    (done,) = Log.load("new").info[PROVENANCE]
    assert done["seed"] == 7 and done["rule"][0]["class_path"].endswith("FinalGoal")


def test_packaged_configuration_and_columns_of_the_file(place: Path) -> None:
    columns = "columns: {achieved_goal: achieved_goal, names: {observation: [a, b, c, d]}}\n"
    (place / "config.yaml").write_text(GOALS + columns)
    words = ("relabel", "log.npz", "--config", "config.yaml", "--output", "new")
    assert hindsight(*words).code == 0
    assert Log.load("new").info["names"]["observation"] == ["a", "b", "c", "d"]
    done = relabel("--overwrite", config="hipi_bc")
    assert done.code == 0, done.err
    assert Log.load("new").info[PROVENANCE][0]["rule"][0]["class_path"].endswith("InverseRL")


def test_report(place: Path) -> None:
    done = relabel("--report", "out/report.html")
    assert done.code == 0, done.err
    assert done.out.endswith("\nout/report.html: report\n")
    page = (place / "out" / "report.html").read_text()
    assert "<title>log.npz, relabeled</title>" in page and page.count("<svg") == 3


def test_report_without_matplotlib_is_refused_before_the_work(place: Path) -> None:
    with patch.dict(sys.modules, {"matplotlib": None}):
        done = relabel("--report", "report.html")
    assert done.code == 2
    assert done.err == 'Plots need matplotlib: pip install "hindsight-rl[report]"\n'
    assert not (place / "new").exists()


def test_relabeling_twice_adds_to_the_provenance(place: Path) -> None:
    assert relabel().code == 0
    words = ("relabel", "new", "--config", "goals.yaml", "--seed", 1, "--output", "newer")
    assert hindsight(*words).code == 0
    found = Log.load("newer")
    assert [done["seed"] for done in found.info[PROVENANCE]] == [0, 1]
    assert torch.equal(found.column(original(("next", "reward"))), torch.zeros(200))


# --- mistakes -------------------------------------------------------------------------------------


def of(name: str, **arguments: object) -> str:
    return f"relabel: [{{class_path: {name}, init_args: {json.dumps(arguments)}}}]"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: BC\ndata: {batch_size: 8}", "has no list of relabelers: add 'relabel: [{class"),
        ("relabel: []", "has no list of relabelers"),
        ("relabel: FutureGoal", "has no list of relabelers"),
        ("relabels: [FutureGoal]", "'relabels' is no setting of a data step: give relabel, col"),
        ("- a\n- b", "holds no settings"),
        ("relabel: [", "not a readable YAML file"),
        ("relabel: [FinalGoal]\nseed: soon", "seed is 'soon': give a whole number"),
        ("data: {relabel: [FinalGoal], seed: '${nowhere}'}", "'nowhere' not found"),
        ("data: {relabel: [FinalGoal], columns: [a, b]}", "of several sources: give --columns"),
        ("relabel: [FutureGaol]", "FutureGaol. Did you mean 'FutureGoal'?"),
        (of("FutureGoal", fractoin=1), "'fractoin' is not accepted. Did you mean 'fraction'?"),
        (of("FutureGoal", fraction=2), "config.yaml: fraction is 2.0, it must lie in [0, 1]"),
        (of("FutureGoal", fraction="x"), "fraction is 'x', it must be a number."),
        (
            of("InverseRL", unit="rst"),
            "unit is 'rst', it must be a whole number or 'episode' or 'rest'. Did",
        ),
        (of("InverseRL", unit=2.5), "unit is '2.5', it must be a whole number or 'episode'"),
        (of("FutureGoal", family="GoalReching"), "Did you mean 'GoalReaching'?"),
        (of("InverseRL", level="steps"), "is not accepted. InverseRL judges trajectories, Transi"),
        (of("TransitionInverseRL"), "a log is relabeled without a learner"),
        (of("InverseRL", level="transition"), "a log is relabeled without a learner"),
        (f"{of('NStep', n=3)[:-1]}, FinalGoal]", "NStep and FinalGoal together have no meaning"),
    ],
)
def test_bad_configurations_are_one_line(text: str, told: str, place: Path) -> None:
    (place / "config.yaml").write_text(text)
    done = hindsight("relabel", "log.npz", "--config", "config.yaml", "--output", "new")
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert told in done.err
    assert not (place / "new").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config", "nowhere"], "--config nowhere: no such file, and no packaged configuration"),
        (["--output", "log.npz"], "log.npz: the output is the source"),
        (["--output", "log.npz/new"], "the output lies in the source"),
        (["--output", "."], "the output holds the source"),
        (["--output", "taken"], "taken: already exists. Choose another name or pass --overwrite"),
        (["--output", "taken", "--overwrite"], "taken: is no saved log, so it is not overwritten"),
        (["--report", "log.npz"], "--report log.npz would write into the source"),
        (["--report", "new/report.html"], "--report new/report.html would write into the copy"),
        (["--report", "taken"], "--report taken is a folder: name a file"),
        (["--columns", "nowhere"], "there is no packaged column map 'nowhere'"),
    ],
)
def test_wrong_words_are_one_line(words: list[str], told: str, place: Path) -> None:
    (place / "taken").mkdir()
    (place / "taken" / "thesis.tex").touch()
    done = relabel(*words)
    assert done.code == 2 and done.out == ""
    assert done.err.startswith("error: ") and done.err.count("\n") == 1
    assert told in done.err
    assert sorted(path.name for path in place.iterdir()) == [
        "goals.yaml",
        "log.npz",
        "map.yaml",
        "taken",
    ]


def test_missing_source(place: Path) -> None:
    done = relabel(log="lag.npz")
    assert done.code == 2 and "lag.npz: no such file" in done.err and "log.npz" in done.err


def test_log_without_goals_names_the_column(place: Path) -> None:
    done = hindsight("relabel", "log.npz", "--config", "goals.yaml", "--output", "new")
    # The usual name is found without a map.
    assert done.code == 0, done.err
    columns = dict(np.load("log.npz"))
    del columns["achieved_goal"]
    np.savez("plain.npz", **columns)
    done = hindsight("relabel", "plain.npz", "--config", "goals.yaml", "--output", "other")
    assert done.code == 2
    assert "the log has no 'next.achieved_goal'" in done.err


# --- an expert labels -----------------------------------------------------------------------------

EXPERT = """
import numpy as np

CALLS = []


def balance(observation, task, env):
    CALLS.append(len(observation))
    return (observation[:, 2] > 0).astype(np.int64)


def places(observation, task, env):
    assert observation.shape[1] == 2
    return (observation[:, 0] > 0).astype(np.int64)
"""


@pytest.fixture
def experts(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder with a module of experts, whose name no other test uses."""
    name = f"experts_of_{place.name}".replace("-", "_")
    (place / f"{name}.py").write_text(EXPERT)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return place / f"{name}.py"


def test_an_expert_labels_a_log_that_is_then_trained_on(experts: Path) -> None:
    who = f"{experts.stem}:balance"
    done = hindsight("relabel", "log.npz", "--expert", who, "--output", "labelled")
    assert done.code == 0, done.err
    assert done.out == "labelled: 200 rows in 10 episodes; added expert_action\n"
    assert sum(sys.modules[experts.stem].CALLS) == 200  # each row once
    log = Log.load("labelled")
    assert torch.equal(log.column("expert_action"), (log.column("observation")[:, 2] > 0).float())
    (made,) = log.info[PROVENANCE]
    digest = hashlib.sha256(experts.read_bytes()).hexdigest()
    assert (made["expert"], made["expert_hash"]) == (who, f"sha256:{digest}")
    assert made["rule"][0]["init_args"]["expert"] == who
    trained = fit(
        *("--data.relabel", "[{class_path: ExpertAction}]", "--run", "a"),
        config="bc",
        log="labelled",
    )
    assert trained.code == 0, trained.err
    told = fit(
        "--data.relabel", "[{class_path: ExpertAction}]", config="discrete_cql", log="labelled"
    )
    assert told.code == 2
    assert "DiscreteCQL reads 'next.observation', which belongs to the executed action" in told.err


def test_an_exported_policy_labels_and_its_hash_is_kept(experts: Path) -> None:
    assert fit("--run", "a", config="bc").code == 0
    words = ("export", "--run", "a", "--output", "policy.onnx")
    assert hindsight(*words).code == 0
    done = hindsight("relabel", "log.npz", "--expert", "policy.onnx", "--output", "labelled")
    assert done.code == 0, done.err
    log = Log.load("labelled")
    policy = OnnxPolicy("policy.onnx")
    answers = policy.act(log.column("observation").numpy())
    assert log.column("expert_action").tolist() == answers.tolist()
    digest = hashlib.sha256(Path("policy.onnx").read_bytes()).hexdigest()
    assert log.info[PROVENANCE][0]["expert_hash"] == f"sha256:{digest}"


def test_an_expert_sees_the_columns_it_is_given(experts: Path) -> None:
    who = f"{experts.stem}:places"
    words = ("relabel", "log.npz", "--expert", who, "--output", "labelled", "--columns", "map.yaml")
    done = hindsight(*words, "--expert_reads", "achieved_goal", "--config", "goals.yaml")
    assert done.code == 0, done.err
    log = Log.load("labelled")
    expected = (log.column("achieved_goal")[:, 0] > 0).float()
    assert torch.equal(log.column("expert_action"), expected) and "task" in log


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "there is nothing to do: give --config FILE, --expert WHO, or both"),
        (("--expert_reads", "x", "--config", "goals.yaml"), "give --expert WHO too"),
        (("--expert", "gone.onnx"), "expert gone.onnx: no such file"),
        (("--expert", "nobody"), "neither an exported file (policy.onnx) nor module:function"),
    ],
)
def test_mistakes_about_experts_are_one_line(
    words: tuple[str, ...], message: str, place: Path
) -> None:
    done = hindsight("relabel", "log.npz", "--output", "new", *words)
    assert done.code == 2 and message in done.err and done.err.count("\n") == 1
    assert not (place / "new").exists()
