"""``hindsight compare``: a teacher's answers, pages and theirs; what it refuses, with code 2."""

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fits import LENGTH, Ended, cart_log, hindsight
from small_fits import trainer_in

from hindsight_rl.agents.reward_model import RewardModel
from hindsight_rl.datamodules.preferences import PreferenceDataModule
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import episode_starts, read_preferences
from hindsight_rl.logs.reading import read_log
from hindsight_rl.logs.segments import segment_returns
from hindsight_rl.maths.preferences import disagreement
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.learned_reward import LearnedReward


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return cart_log(tmp_path / "log.npz")


def teach(log: Path, *words: object) -> tuple[Path, str]:
    """Have a teacher answer about segments of five steps; return the file and what was said."""
    path = log.with_name("preferences.npz")
    done = hindsight(
        "compare", "--data.source", log, "--teacher", "return", "--output", path, *words
    )
    assert done.code == 0, done.err
    return path, done.out


def test_a_teacher_answers_by_returns(log: Path) -> None:
    path, said = teach(log, "--pairs", 200, "--length", 5)
    found = read_preferences(path, read_log(log))
    assert said == f"{path}: 200 answers about segments of 5 steps\n"
    assert found.length == 5 and len(found) == 200 and found.annotators == ["teacher return"]
    returns = segment_returns(read_log(log), found.rows(read_log(log)), 5)
    assert found.label.equal((returns[:, 1] > returns[:, 0]).float())
    torch.testing.assert_close(found.score, returns.float())
    assert 60 < float(found.label.sum()) < 140


def test_further_answers_are_about_other_pairs(log: Path) -> None:
    path, _ = teach(log, "--pairs", 30, "--length", 5)
    first = path.read_bytes()
    _, said = teach(log, "--pairs", 20)
    assert said == f"{path}: 50 answers about segments of 5 steps, 20 of them new\n"
    path.unlink()
    again, _ = teach(log, "--pairs", 30, "--length", 5)
    assert again.read_bytes() == first
    found = read_preferences(again, read_log(log))
    teach(log, "--pairs", 20)
    both = read_preferences(again, read_log(log))
    rows = both.rows(read_log(log))
    assert rows[:30].equal(found.rows(read_log(log))) and len(rows.unique(dim=0)) > 48


def test_teachers_that_err_call_ties_or_are_unsure(log: Path) -> None:
    def agreement(*words: object) -> float:
        path, _ = teach(log, "--pairs", 1000, "--length", 5, *words)
        found = read_preferences(path, read_log(log))
        path.unlink()
        better = (found.score[:, 1] > found.score[:, 0]).float()
        decided = found.label != 0.5
        return float((found.label == better)[decided].float().mean())

    assert agreement() == 1.0
    assert agreement("--mistakes", 0.1) == pytest.approx(0.9, abs=0.03)
    margin_sure = agreement("--beta", 100)
    assert margin_sure > 0.97 and 0.5 < agreement("--beta", 0.2) < 0.75
    path, said = teach(log, "--pairs", 100, "--length", 5, "--ties", 1e6)
    assert "100 ties: they say nothing about what is better" in said and set(
        read_preferences(path, read_log(log)).label.tolist()
    ) == {0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--length", LENGTH + 1), "fewer than two segments of 21 steps can be drawn"),
        (("--length", 0), "length is 0, it must be at least 1"),
        (("--pairs", 0), "--pairs 0: at least 1"),
        (("--length", 5, "--beta", 0), "beta 0.0 must be above 0"),
        (("--length", 5, "--mistakes", 2), "mistakes 2.0 in"),
    ],
)
def test_mistakes_of_the_caller(log: Path, words: tuple[object, ...], message: str) -> None:
    path = log.with_name("preferences.npz")
    done = hindsight(
        "compare", "--data.source", log, "--teacher", "return", "--output", path, *words
    )
    assert done.code == 2 and message in done.err and "Traceback" not in done.err
    assert not path.exists()


def test_answers_about_another_log_or_length_stay_as_they_are(log: Path) -> None:
    path, _ = teach(log, "--pairs", 10, "--length", 5)
    before = path.read_bytes()
    other = cart_log(log.with_name("other.npz"), rewards=torch.zeros(200).numpy())
    for words, message in (
        (("--data.source", other), "is about a log with hash"),
        (("--data.source", log, "--length", 4), "holds answers about segments of 5 steps"),
    ):
        done = hindsight("compare", *words, "--teacher", "return", "--output", path)
        assert done.code == 2 and message in done.err
        assert path.read_bytes() == before


# --- pages and answers ----------------------------------------------------------------------------


def asked(log: Path, *words: object) -> tuple[dict[str, Any], Path]:
    """Write a page; return what it says of itself, and the file of preferences beside it."""
    page, path = log.with_name("page.html"), log.with_name("preferences.npz")
    done = hindsight("compare", "--data.source", log, "--page", page, "--output", path, *words)
    assert done.code == 0, done.err
    root = ET.fromstring(page.read_text().partition("\n")[2])
    (found,) = (one for one in root.iter() if "data-facts" in one.attrib)
    return json.loads(found.attrib["data-facts"]), path


def answer(facts: dict[str, Any], log: Path, labels: list[float], **changed: Any) -> Ended:
    """Save answers as the page does, and append them."""
    given = [pair | {"label": label} for pair, label in zip(facts["pairs"], labels, strict=False)]
    kept = {name: facts[name] for name in ("format", "page", "log_hash", "length")}
    file = log.with_name("answers.json")
    file.write_text(json.dumps(kept | {"annotator": "ada", "answers": given} | changed))
    path = log.with_name("preferences.npz")
    return hindsight("compare", "--data.source", log, "--answers", file, "--output", path)


def test_a_page_is_answered_appended_and_changed(log: Path) -> None:
    facts, path = asked(log, "--pairs", 6, "--length", 5)
    assert len(facts["pairs"]) == 6 and not path.exists()
    done = answer(facts, log, [1, 0, 0.5])
    assert done.out == f"{path}: 3 answers about segments of 5 steps, 1 tie\n", done.err
    found = read_preferences(path, read_log(log))
    assert found.label.tolist() == [1, 0, 0.5] and found.annotators == ["ada"]
    assert answer(facts, log, [0, 0, 0.5, 1]).code == 0
    again = read_preferences(path, read_log(log))
    assert again.label.tolist() == [0, 0, 0.5, 1]
    next_facts, _ = asked(log, "--pairs", 6)
    segments = [
        sorted(((p["episode_1"], p["start_1"]), (p["episode_2"], p["start_2"])))
        for facts in (facts, next_facts)
        for p in facts["pairs"]
    ]
    assert not [one for one in segments[:4] if one in segments[6:]]
    assert next_facts["page"] != facts["page"] and next_facts["length"] == 5


def test_answers_of_another_log_are_refused(log: Path) -> None:
    facts, path = asked(log, "--pairs", 2, "--length", 5)
    done = answer(facts, log, [1, 1], log_hash="0" * 16)
    assert done.code == 2 and "is about a log with hash 0000" in done.err and not path.exists()


def test_the_command_of_a_page_reads_the_log_as_it_was_read(log: Path) -> None:
    """What it says to enter can be entered, a column map included."""
    given = "{observation: seen}"
    with np.load(log) as held:
        columns = {name: held[name] for name in held.files}
    columns["seen"] = columns.pop("observations")
    np.savez(log, **columns)
    page, path = log.with_name("page.html"), log.with_name("preferences.npz")
    words = ["--data.source", log, "--data.columns", given, "--page", page, "--output", path]
    done = hindsight("compare", *words, "--pairs", 2, "--length", 5)
    assert done.code == 0, done.err
    said = shlex.split(done.out.partition("append the answers: ")[2])
    assert said == [
        *("hindsight", "compare", "--data.source", str(log), "--data.columns", given),
        *("--answers", "FILE", "--output", str(path)),
    ]


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_a_model_chooses_what_it_doubts(discount: float, log: Path, tmp_path: Path) -> None:
    """Also where it knows answers badly: then more of them are what is missing."""
    path, _ = teach(log, "--pairs", 20, "--length", 5)
    data = PreferenceDataModule(log, path, batch_size=8, validation=0.0)
    torch.manual_seed(0)  # of its weights
    small = Network(hidden=(8,))
    model = RewardModel(data.spec, network=small, bounded=False, discount=discount)
    model.accuracy = 0.5
    trainer = trainer_in(tmp_path, 2)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "reward.ckpt")
    page = log.with_name("page.html")
    words = ("compare", "--data.source", log, "--page", page, "--output", path, "--pairs", 5)
    assert hindsight(*words, "--active", tmp_path / "reward.ckpt", "--pool", 10).code == 0
    doubted = spread_of(page, model, read_log(log))
    assert hindsight(*words, "--pairs", 50).code == 0
    plain = spread_of(page, model, read_log(log))
    best = plain.sort(descending=True).values[:5]
    torch.testing.assert_close(doubted, best, rtol=1e-9, atol=1e-12)


def test_one_reward_alone_doubts_nothing(log: Path, tmp_path: Path) -> None:
    path, _ = teach(log, "--pairs", 20, "--length", 5)
    data = PreferenceDataModule(log, path, batch_size=8, validation=0.0)
    model = RewardModel(data.spec, network=Network(hidden=(8,)), members=1, few=True)
    trainer = trainer_in(tmp_path, 2)
    trainer.fit(model, data)
    trainer.save_checkpoint(tmp_path / "reward.ckpt")
    page = log.with_name("page.html")
    words = ("compare", "--data.source", log, "--page", page, "--output", path)
    done = hindsight(*words, "--active", tmp_path / "reward.ckpt")
    assert done.code == 2 and "one reward alone cannot disagree" in done.err
    assert not page.exists()


def spread_of(page: Path, model: RewardModel, log: Log) -> torch.Tensor:
    """Return how much members disagree about the pairs of a page, in its order."""
    root = ET.fromstring(page.read_text().partition("\n")[2])
    (found,) = (one for one in root.iter() if "data-facts" in one.attrib)
    starts = episode_starts(log)
    sums = []
    members = LearnedReward(model.eval(), least_accuracy=0.0).members(log)
    faded = model.discount ** torch.arange(5.0, dtype=torch.float64)
    for pair in json.loads(found.attrib["data-facts"])["pairs"]:
        rows = [int(starts[pair[f"episode_{n}"]]) + pair[f"start_{n}"] for n in (1, 2)]
        sums.append([(members[:, row : row + 5] * faded).sum(-1) for row in rows])
    return disagreement(torch.stack([second - first for first, second in sums], dim=1))


def test_words_that_do_not_go_together(log: Path) -> None:
    for words, message in (
        (("--teacher", "return", "--answers", "x"), "--answers and --teacher both answer"),
        (("--teacher", "return", "--active", "x"), "--active chooses pairs for a page"),
        (("--pool", 0), "--pool 0: at least 1"),
        (("--length", 5, "--active", "none.ckpt"), "none.ckpt"),
    ):
        done = hindsight("compare", "--data.source", log, *words)
        assert done.code == 2 and message in done.err and "Traceback" not in done.err
