"""The page of pairs in a real browser: clicked, keyed, saved, appended and fitted."""

import json
from pathlib import Path

import torch
from browser import browser
from command_fits import cart_log, hindsight
from episode_logs import episode_log

from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.preferences import read_preferences
from hindsight_rl.logs.reading import read_log
from hindsight_rl.reports.pairs import page as page_of

PAIR = ".pair:not([hidden])"
# Twenty answers: by a click into the segment, by its button, by a key, or by Enter on a segment.
ANSWERS = (
    *(("click .side[data-side='1']", 0.0), ("click .side[data-side='2']", 1.0)) * 3,
    *(("press 1", 0.0), ("press 2", 1.0), ("press s", 0.5), ("press S", 0.5)) * 2,
    *(("click #first", 0.0), ("click #second", 1.0), ("click #same", 0.5)),
    *(("enter .side[data-side='2']", 1.0),) * 3,
)


def test_twenty_answers_by_mouse_and_keys_become_a_reward(tmp_path: Path) -> None:
    log = cart_log(tmp_path / "log.npz")
    page, path = tmp_path / "page.html", tmp_path / "preferences.npz"
    words = ("compare", "--data.source", log)
    done = hindsight(*words, "--pairs", 22, "--length", 5, "--page", page, "--output", path)
    assert done.code == 0, done.err
    with browser(tmp_path) as shown:
        shown.open(page)
        place = "document.getElementById('place').textContent"
        assert shown.value(place) == "pair 1 of 22, 0 answered"
        shown.click("#annotator")
        for letter in "bk 1":  # letters of a name are no answers
            shown.press(letter)
        assert shown.value(place) == "pair 1 of 22, 0 answered"
        shown.click("h1")
        shown.press("k")  # nobody knows
        shown.press("2")
        shown.press("b")  # a mistake: again
        assert shown.value(f"document.querySelectorAll('{PAIR} .chosen').length") == 1
        for how, _ in ANSWERS:
            kind, _, what = how.partition(" ")
            if kind == "enter":
                shown.value(f'document.querySelector(".pair:not([hidden]) {what}").focus()')
                shown.press("Enter")
            else:
                getattr(shown, kind)(what)
        assert shown.value(place) == "pair 22 of 22, 20 answered"
        shown.click("#skip")
        assert shown.value(place) == "end, 20 answered"
        assert not shown.value("document.getElementById('done').hidden")
        shown.click("#back")
        shown.click("#save")
        saved = shown.saved("answers-*.json")
    answers = json.loads(saved.read_text())
    assert answers["annotator"] == "bk 1"
    done = hindsight(*words, "--answers", saved, "--output", path)
    assert done.out == f"{path}: 20 answers about segments of 5 steps, 5 ties\n", done.err
    found = read_preferences(path, read_log(log))
    assert found.label.tolist() == [label for _, label in ANSWERS]
    assert found.annotators == ["bk 1"]
    fit = ("fit", "--config", "reward_model", "--data.source", log, "--data.preferences", path)
    small = ("--trainer.max_steps", 20, "--model.network.hidden", "[8]", "--run", tmp_path / "run")
    done = hindsight(*fit, *small, "--data.batch_size", 8, "--model.compile", "off")
    assert done.code == 0, done.err
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 20


def test_frames_play_one_after_the_other(tmp_path: Path) -> None:
    log = episode_log()
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    shades = torch.arange(47, dtype=torch.uint8).mul(5)[:, None, None, None].expand(47, 8, 8, 3)
    for start in ((), ("next",)):
        columns.pop((*start, OBSERVATION) if start else OBSERVATION)
        columns[*start, OBSERVATION, "eye"] = shades.contiguous()
    page = tmp_path / "page.html"
    log = Log.from_columns(columns, {"control_rate_hz": 20.0})
    page.write_text(page_of(log, torch.tensor([[0, 9], [0, 21]]), 6))
    with browser(tmp_path) as shown:
        shown.open(page)
        frames = f"Array.from(document.querySelectorAll('{PAIR} .film'), function (film) {{ return "
        frames += "Array.from(film.children).findIndex(function (one) { return !one.hidden; }); })"
        visible = f"Array.from(document.querySelectorAll('{PAIR} img')).filter("
        visible += "function (one) { return one.offsetParent !== null; }).length"
        assert shown.value(visible) == 2
        first, second = shown.value(frames)
        assert first == second
        shown.until(f"({frames})[0] !== {first}")
        shown.until(f"({frames})[0] === 5")
        shown.press("1")
        shown.until(f"({frames})[0] === 0")
        assert shown.value(visible) == 2
