"""``hindsight sweep``: which runs, going on, one table; Optuna and real processes at the end."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from command_fits import cart_log, hindsight, refused

from hindsight_rl.cli.run_lock import locked
from hindsight_rl.cli.sweep import Sweep
from hindsight_rl.cli.sweep_runs import Fit, RunError, execute
from hindsight_rl.cli.sweep_search import Search
from hindsight_rl.cli.sweep_table import markdown, numbers, rows
from hindsight_rl.cli.sweep_values import Grid, Range, name_of, parse_over, words_of


def _settings(plan: Any) -> list[dict[str, Any]]:
    return list(iter(plan.next, None))


def test_over_has_lists_and_ranges() -> None:
    words = [
        "model.expectile=0.7,0.9",
        "model.network.hidden=[[64,64],[256,256]]",
        "model.learning_rate=1e-4..1e-2:log",
        "--data.batch_size=32..256",
        "model.tau=1e-3,5e-3",
        "model.head=gaussian,mixture",
    ]
    assert parse_over(words) == {
        "model.expectile": [0.7, 0.9],
        "model.network.hidden": [[64, 64], [256, 256]],
        "model.learning_rate": Range(1e-4, 1e-2, False, True),
        "data.batch_size": Range(32, 256, True, False),
        "model.tau": [0.001, 0.005],
        "model.head": ["gaussian", "mixture"],
    }


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("model.expectile", "write NAME=VALUES"),
        ("model.expectile=", "write NAME=VALUES"),
        ("model.expectile=[0.7", "no list of values in YAML"),
        ("model.expectile=[]", "no values"),
        ("model.expectile=0.7,0.70", "0.7 is listed twice"),
        ("data.day=2020-01-01", "no number, text, list or mapping; put text in quotes"),
        ("data.day=2020-13-45", "no list of values in YAML"),
        ("model.rate=1..1", "the first end must be below the second"),
        ("model.rate=0..1:log", "begins above 0"),
        ("data.seed=0,1", "differs between the runs of a sweep by itself"),
    ],
)
def test_over_names_what_is_wrong(word: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"--over .*{why}"):
        parse_over([word])


def test_over_may_name_an_option_once() -> None:
    with pytest.raises(ValueError, match="--over a is given twice"):
        parse_over(["a=1", "a=2"])


def test_a_grid_is_every_combination() -> None:
    found = _settings(Grid({"a": [1, 2], "b": ["x", "y"]}))
    assert found == [{"a": 1, "b": "x"}, {"a": 1, "b": "y"}, {"a": 2, "b": "x"}, {"a": 2, "b": "y"}]
    assert _settings(Grid({})) == [{}]


def test_a_setting_becomes_words_and_a_name() -> None:
    setting = {"model.expectile": 0.7, "model.network.hidden": [64, 64], "model.head": "gaussian"}
    words = ["--model.expectile=0.7", "--model.network.hidden=[64, 64]", "--model.head=gaussian"]
    assert words_of(setting) == words
    assert name_of(setting).startswith("expectile=0.7,hidden=-64,-64-,head=gaussian-")
    assert name_of({"a.rate": 1}) != name_of({"b.rate": 1})  # the same readable part


def _result(value: float, seed: int = 0, **setting: Any) -> dict[str, Any]:
    return {"setting": setting, "seed": seed, "seconds": 2.0, "fit": {}, "test": {"return": value}}


def test_rows_have_means_and_students_intervals_best_first() -> None:
    """Of 1, 2 and 3: mean 2, standard error 1 / sqrt(3), t of 2 degrees 4.302653."""
    results = [_result(1.5, rate=1)] + [
        _result(v, seed, rate=2) for seed, v in enumerate((1, 2, 3))
    ]
    best, other = rows(results, "return")
    assert best.setting == {"rate": 2} and best.mean == 2.0 and best.seeds == 3
    assert (best.low, best.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)
    assert (other.low, other.mean, other.high) == (1.5, 1.5, 1.5)
    assert rows(results, "return", least=True)[0].setting == {"rate": 1}
    assert rows([_result(float("nan"), rate=0), *results], "return")[-1].setting == {"rate": 0}
    text = markdown([best, other], "return")
    assert "| 2    | 2 [-0.4841, 4.484] | 3     | 2       |" in text.splitlines()


def test_seeds_of_one_process_count_each() -> None:
    result = _result(2.0)
    result["test"]["seeds"] = [{"return": 1.0}, {"return": 3.0}]
    assert numbers(result, "return") == [1.0, 3.0]


def test_a_number_that_no_report_has_is_named() -> None:
    result = {"fit": {"updates": 3, "train/actor": 0.5, "run": "r"}}
    why = r"--by return: no such number in a run \(no --env, .*there are train/actor, updates"
    with pytest.raises(ValueError, match=why):
        numbers(result, "return")


class Here:
    """Executes runs in this process, by a ``hindsight`` that is made up: the return is the rate."""

    def __init__(self, *failing: str) -> None:
        self.calls: list[list[str]] = []
        self._failing = failing

    def submit(self, fit: Fit) -> "Future[dict[str, Any]]":
        future: Future[dict[str, Any]] = Future()
        try:
            future.set_result(execute(fit, self._call))
        except RunError as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Nothing runs on."""

    def _call(self, words: Sequence[str], fit: Fit) -> bytes:
        self.calls.append(list(words))
        if words[0] in self._failing:
            raise RunError("no")
        if words[0] == "fit":
            (fit.run / "checkpoints").mkdir(parents=True)
            (fit.run / "checkpoints" / "last.ckpt").touch()
            (fit.run / "config.yaml").write_text("env: E\n")
            return b'{"updates": 3}'
        return json.dumps({"return": fit.setting.get("rate", 0) + fit.seed}).encode()


def _sweep(folder: Path, plan: Any, pool: Here, seeds: int = 2) -> Sweep:
    sweep = Sweep(plan, folder, ("--config", "bc"), seeds, "return")
    sweep.run(pool, at_once=1)
    return sweep


def test_runs_get_their_setting_seed_and_folder(tmp_path: Path) -> None:
    pool = Here()
    sweep = _sweep(tmp_path, Grid({"rate": [1, 5]}), pool)
    run = str(tmp_path / "runs" / name_of({"rate": 5}) / "seed-1")
    words = ["--config", "bc", "--rate=5", "--seed_everything=1", "--data.seed=1", "--run", run]
    assert ["fit", *words, "--json"] in pool.calls and [
        "test",
        "--run",
        run,
        "--json",
    ] in pool.calls
    assert [row.mean for row in rows(sweep.results, "return")] == [5.5, 1.5]


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    """The second sweep adds a seed and a value."""
    _sweep(tmp_path, Grid({"rate": [1]}), Here())
    pool = Here()
    sweep = _sweep(tmp_path, Grid({"rate": [1, 2]}), pool, seeds=3)
    assert len(sweep.results) == 6
    fitted = [words[words.index("--run") + 1] for words in pool.calls if words[0] == "fit"]
    assert [run.rpartition("-")[2] for run in fitted] == ["2", "0", "1", "2"]


def test_a_run_that_failed_is_retried_from_its_checkpoint(tmp_path: Path) -> None:
    first = _sweep(tmp_path, Grid({"rate": [1]}), Here("test"), seeds=1)
    assert [str(error) for _, error in first.failed] == ["no"] and not first.results
    pool = Here()
    assert len(_sweep(tmp_path, Grid({"rate": [1]}), pool, seeds=1).results) == 1
    assert [words[0] for words in pool.calls] == ["test"]  # it was fitted
    (run,) = (tmp_path / "runs").glob("*/seed-0")
    (run / "fit.json").unlink()
    (result,) = (tmp_path / "results").glob("*/seed-0.json")
    result.unlink()

    def call(words: Sequence[str], fit: Fit) -> bytes:
        assert words[:1] == ["test"] or words == ["fit", "--resume", "--run", str(run), "--json"]
        return b'{"return": 7.0}' if words[0] == "test" else b'{"train/actor": 1.0}'

    found = execute(Fit(str(tmp_path), ("--config", "bc"), {"rate": 1}, 0, str(tmp_path)), call)
    assert found["test"] == {"return": 7.0}


def test_optuna_draws_most_where_it_was_good(tmp_path: Path) -> None:
    """The return is the rate, up to the seed: of 30 draws from [0, 1] the last ten are high."""
    pytest.importorskip("optuna")
    over = {"rate": Range(0.0, 1.0, False, False)}
    plan = Search(over, tmp_path / "trials.json", 30, least=False)
    _sweep(tmp_path, plan, Here(), seeds=1)
    drawn = [trial["drawn"]["rate"] for trial in plan.trials]
    assert len(drawn) == 30 and all(0 <= rate <= 1 for rate in drawn)
    assert sum(drawn[-10:]) / 10 > 0.8 > sum(drawn[:10]) / 10
    assert all(trial["value"] == trial["drawn"]["rate"] for trial in plan.trials)


def test_a_search_that_goes_on_draws_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    over = {"rate": [3, 1, 2], "hidden": [[8], [16]]}
    whole = Search(over, tmp_path / "a" / "trials.json", 12, least=True)
    _sweep(tmp_path / "a", whole, Here(), seeds=1)
    _sweep(tmp_path / "b", Search(over, tmp_path / "b.json", 5, least=True), Here(), seeds=1)
    stopped = Search(over, tmp_path / "b.json", 12, least=True)
    stopped.next()  # handed out, never finished
    again = Search(over, tmp_path / "b.json", 12, least=True)
    _sweep(tmp_path / "b", again, Here(), seeds=1)
    assert again.trials == whole.trials
    assert all(trial["value"] in (1, 2, 3) for trial in again.trials)
    with pytest.raises(ValueError, match=r"b\.json is of a search over other values"):
        Search({"rate": [1, 2]}, tmp_path / "b.json", 12, least=True)


def test_mistakes_end_it_before_anything_runs(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("--config", "bc", "--data.source", "log.npz")
    assert "the words of 'fit' are missing" in refused(hindsight("sweep", "--folder", "s"))
    assert "--seeds 0: at least 1" in refused(
        hindsight("sweep", "--folder", "s", "--seeds", 0, *words)
    )
    assert "--trials draws from --over" in refused(
        hindsight("sweep", "--folder", "s", "--trials", 3, *words)
    )
    assert "a is a range: give --trials N" in refused(
        hindsight("sweep", "--folder", "s", "--over", "a=0..1", *words)
    )
    own = refused(hindsight("sweep", "--folder", "s", *words, "--run", "r"))
    assert "--run: each run of a sweep has its own" in own
    assert not Path("s").exists()


def test_one_sweep_at_a_time_has_a_folder(tmp_path: Path, monkeypatch: Any) -> None:
    """The second one reads no trials before it has the folder."""
    monkeypatch.chdir(tmp_path)
    words = ("--folder", "s", "--config", "bc", "--data.source", "log.npz")
    with locked(tmp_path / "s"):
        assert "runs 'sweep' in it. Choose another --folder" in refused(hindsight("sweep", *words))
        (tmp_path / "s" / "trials.json").write_text("no JSON")
        drawn = ("--over", "data.batch_size=1..9", "--trials", 2)
        assert "runs 'sweep' in it" in refused(hindsight("sweep", *words, *drawn))


def test_processes_fit_and_test_fail_and_go_on(tmp_path: Path, monkeypatch: Any) -> None:
    """One value is wrong: the other is fitted, tested and ranked, and not fitted again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cart_log(tmp_path / "log.npz")
    words = ["--folder", "s", "--over", "model.network.hidden=[[8],wide]", "--jobs", "2"]
    words += ["--config", "bc", "--data.source", "log.npz", "--env", "CartPole-v1"]
    words += ["--trainer.max_steps", "20", "--model.evaluation.episodes", "2"]
    first = hindsight("sweep", *words, "--json")
    assert first.code == 1
    assert "failed: hidden=wide" in first.err and "model.network.hidden" in first.err
    (row,) = json.loads(first.out)
    assert row["setting"] == {"model.network.hidden": [8]} and row["mean"] >= 8.0
    (run,) = Path("s/runs").glob("*/seed-0/config.yaml")
    other = hindsight("sweep", *words, "--data.batch_size", 8)
    assert "s holds a sweep of other words: fit --config bc" in refused(other)
    before = run.stat().st_mtime_ns
    fewer = ["[[8]]" if word.endswith("wide]") else word for word in words]
    fewer[3] = "model.network.hidden=[[8]]"
    again = hindsight("sweep", *fewer)
    assert again.code == 0 and again.out == Path("s/table.md").read_text()
    assert run.stat().st_mtime_ns == before


def test_a_sweep_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    cart_log(tmp_path / "log.npz")
    words = ["sweep", "--folder", "s", "--config", "bc", "--data.source", "log.npz"]
    words += [
        "--trainer.max_steps",
        "1000000",
        "--checkpoint_every",
        "50",
        "--model.compile",
        "off",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "hindsight_rl.cli.main", *words]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600  # of one that hangs, however busy the machine
    # After the second: while the first is written, its updates do not count as made yet.
    while not list(tmp_path.glob("s/runs/*/*/checkpoints/step=[!5]*.ckpt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=600)
    assert process.returncode == 130 and b"the same command goes on from what is in s" in err
    log = next(tmp_path.glob("s/logs/*/seed-0.txt")).read_text()
    assert "stopped by SIGTERM" in log and "; go on with: hindsight fit --resume --run" in log
    assert list(tmp_path.glob("s/runs/*/*/checkpoints/last.ckpt"))


# --- eight runs, interrupted and gone on ----------------------------------------------------------


def _started(place: Path, folder: str) -> "subprocess.Popen[bytes]":
    """Start a sweep of two settings with four seeds each."""
    words = ["sweep", "--folder", folder, "--over", "model.discount=0.9,0.99", "--seeds", "4"]
    words += ["--jobs", "2", "--config", "iql", "--data.source", "log.npz", "--by", "train/value"]
    words += ["--trainer.max_steps", "900", "--checkpoint_every", "100", "--model.compile", "off"]
    words += ["--model.network.hidden", "[8]", "--trainer.log_every_n_steps", "300"]
    command = [sys.executable, "-m", "hindsight_rl.cli.main", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=place, env=environment, stderr=subprocess.PIPE)


def _results(folder: Path) -> list[Path]:
    return list(folder.glob("results/*/*.json"))


def _stopped(place: Path, number: signal.Signals, finished: int) -> int:
    """Send a signal once so many runs are finished and one is under way; return the exit code."""
    process = _started(place, "s")
    deadline = time.monotonic() + 1200  # of one that hangs, however busy the machine
    while True:
        if len(_results(place / "s")) >= finished and _under_way(place / "s"):
            break
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    process.communicate(timeout=600)
    return process.returncode


def _under_way(folder: Path) -> bool:
    """Whether a run has a checkpoint and most of its updates still before it."""
    newest: dict[Path, int] = {}
    for path in folder.glob("runs/*/*/checkpoints/step=*.ckpt"):
        step = int(path.stem.removeprefix("step="))
        newest[path.parent] = max(step, newest.get(path.parent, 0))
    return any(step <= 300 for step in newest.values())


def test_eight_runs_that_are_stopped_and_killed_have_the_table_of_eight_that_are_not(
    tmp_path: Path,
) -> None:
    """What runs were under way goes on from its checkpoints; only the time differs."""
    cart_log(tmp_path / "log.npz")
    assert _stopped(tmp_path, signal.SIGINT, finished=1) == 130
    assert 1 <= len(_results(tmp_path / "s")) < 8
    assert _stopped(tmp_path, signal.SIGKILL, finished=3) == -signal.SIGKILL
    assert 3 <= len(_results(tmp_path / "s")) < 8
    tables = []
    for folder in ("s", "whole"):
        process = _started(tmp_path, folder)
        _, err = process.communicate(timeout=1200)
        assert process.returncode == 0, err.decode()
        table = json.loads((tmp_path / folder / "table.json").read_text())
        tables.append([{**row, "seconds": 0} for row in table])
    assert tables[0] == tables[1] and [row["seeds"] for row in tables[0]] == [4, 4]
    logs = "".join(path.read_text() for path in tmp_path.glob("s/logs/*/*.txt"))
    assert "stopped by SIGTERM" in logs


def test_a_fit_killed_behind_its_last_update_is_made_again(tmp_path: Path) -> None:
    """It has nothing left to do when it goes on, and so no numbers to be ranked by."""
    fit = Fit(str(tmp_path), ("--config", "bc"), {"rate": 1}, 0, str(tmp_path))
    (fit.run / "checkpoints").mkdir(parents=True)
    (fit.run / "checkpoints" / "last.ckpt").touch()
    calls = []

    def call(words: Sequence[str], fit: Fit) -> bytes:
        calls.append(words)
        if "--resume" in words:
            return b'{"run": "r", "updates": 3}'
        assert not fit.run.exists()
        fit.run.mkdir()
        (fit.run / "config.yaml").write_text("env: null\n")
        return b'{"run": "r", "updates": 3, "train/actor": 0.5}'

    assert execute(fit, call)["fit"]["train/actor"] == 0.5
    assert ["--resume" in words for words in calls] == [True, False]
    assert "--rate=1" in calls[1]
