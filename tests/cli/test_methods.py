"""README's table of methods: every row of it runs from the command line, as it is.

A row is a file of ``configs/``, and its words here are those that its first lines name: a log, an
environment, a model fitted before. Only what takes long is made small: updates, episodes, rows.
"""

import re
from pathlib import Path
from typing import Any

import pytest
from command_fits import hindsight
from configured_logs import CONFIGS, TWO_SIDED, played_log, saved_log, settings

from hindsight_rl.logs.log import Log

ROOT = Path(__file__).resolve().parents[2]
UPDATES = ("--trainer.max_steps", 3, "--trainer.accelerator", "cpu")


def fitted(*words: object) -> None:
    """Run ``hindsight fit`` for three updates, or fail with what it says."""
    done = hindsight("fit", *words, *UPDATES)
    assert done.code == 0, done.err
    report = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert report["updates"] == "3"


def collected(name: str, data: dict[str, Any]) -> list[object]:
    """Return the words for a configuration that plays episodes; two at first, then one a round.

    Where none are played at first, a log of the environment takes their place.
    """
    words: list[object] = ["--data.collection.episodes_per_round", 1]
    if data["collection"]["initial_episodes"]:
        words += ["--data.collection.initial_episodes", 2]
    if not data["collection"]["initial_episodes"] or "log" in (data.get("mix") or {}):
        words += ["--data.source", played_log(settings(name)["env"], Path("log"))]
    return words


def imagined(log: Path, validation: float) -> list[object]:
    """Fit the model that a configuration asks for, and return the words that make its rows few."""
    ends = bool(Log.load(log).column(("next", "terminated")).any())
    fitted(
        *("--config", "dynamics", "--data.source", log, "--data.validation", validation),
        *("--run", "runs/model", "--model.network.hidden", "[8]"),
        *(() if ends else ("--model.termination", "none")),
    )
    return ["--data.imagined.rows", 16]


def words_of(name: str) -> list[object]:
    """Return the words of a configuration, with its files in the current folder."""
    data = settings(name)["data"]
    options = data["init_args"]
    if data["class_path"] == "IteratedDataModule":
        words = collected(name, options)
        if "imagined" in options:
            played = played_log(settings(name)["env"], Path("played"), episodes=4)
            words += [*imagined(played, 0.25), "--data.imagined.refit.updates", 2]
        return words
    env = settings(name).get("env")
    log = saved_log(name, Path()) if env is None else played_log(env, Path("log"))
    source = f"[{log}, {log}]" if name in TWO_SIDED else log
    words: list[object] = ["--data.source", source]
    if data["class_path"] == "PreferenceDataModule":
        words += ["--data.preferences", "preferences.npz"]
    if "imagined" in options:
        words += imagined(log, options["validation"])
    if name == "p_iql":
        fitted(
            *("--config", "reward_model", "--data.source", log, "--data.validation", 0),
            *("--data.preferences", "preferences.npz", "--run", "runs/reward"),
        )
    return words


def test_the_table_has_a_row_for_every_configuration() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("<!-- methods -->")[2].partition("<!-- end of methods -->")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == CONFIGS


@pytest.mark.parametrize("name", CONFIGS)
def test_a_row_of_the_table_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = settings(name).get("env", "")
    if ":" in env:  # of a package that is an extra
        pytest.importorskip(env.partition(":")[0])
    monkeypatch.chdir(tmp_path)
    words = words_of(name)
    if "compile" in settings(name)["model"]["init_args"]:  # it pays after some thousand updates
        words += ["--model.compile", "off"]
    fitted("--config", name, *words, "--run", "runs/row")
    assert Path("runs/row/checkpoints/last.ckpt").is_file()
