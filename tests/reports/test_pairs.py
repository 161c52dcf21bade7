"""The page of pairs: what it holds, that it loads and runs nothing else, frames, escaping."""

import base64
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import torch
from episode_logs import episode_log

from hindsight_rl.keys import OBSERVATION
from hindsight_rl.logs.log import Log
from hindsight_rl.logs.segments import draw_pairs, places
from hindsight_rl.reports.pairs import MOST_STRIPS, _data, page
from hindsight_rl.reports.pairs_script import SCRIPT

SVG = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text.partition("\n")[2])


def facts_of(root: ET.Element) -> dict[str, Any]:
    (found,) = (one for one in root.iter() if "data-facts" in one.attrib)
    facts: dict[str, Any] = json.loads(found.attrib["data-facts"])
    return facts


def with_columns(log: Log, changed: dict[Any, Any], **info: Any) -> Log:
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    return Log.from_columns(columns | changed, log.info | info)


def test_every_pair_is_drawn_and_named() -> None:
    log = episode_log()
    rows = draw_pairs(log, 4, 3, seed=0)
    root = parsed(page(log, rows, 4, annotator="ada"))
    facts = facts_of(root)
    episode, start = places(log, rows)
    assert [pair["episode_2"] for pair in facts["pairs"]] == episode[:, 1].tolist()
    assert [pair["start_1"] for pair in facts["pairs"]] == start[:, 0].tolist()
    assert facts["log_hash"] == log.hash() and facts["length"] == 4
    pairs = [one for one in root.iter() if one.attrib.get("class") == "pair"]
    assert len(pairs) == 3 and ["hidden" in pair.attrib for pair in pairs] == [False, True, True]
    lines = list(pairs[0].iter(f"{SVG}polyline"))
    assert len(lines) == 2 * (3 + 2)  # two segments of three numbers seen and two done
    assert all(len(line.attrib["points"].split()) == 4 for line in lines)


def test_both_segments_have_the_scale_of_the_log() -> None:
    """The same value lies at the same height in every drawing of its number."""
    value = torch.linspace(0, 1, 47)[:, None].repeat(1, 3)
    value[20:24] = value[3:7]
    log = with_columns(episode_log(), {OBSERVATION: value})
    root = parsed(page(log, torch.tensor([[3, 20]]), 4))
    lines = [line.attrib["points"] for line in root.iter(f"{SVG}polyline")]
    assert lines[0] == lines[5] and lines[3] != lines[8]


def test_the_page_runs_its_own_script_and_loads_nothing() -> None:
    log = episode_log()
    text = page(log, draw_pairs(log, 4, 1, seed=0), 4)
    named = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{named}'"
        in text
    )  # noqa: E501
    assert text.count("<script") == 1 and f"<script>{SCRIPT}</script>" in text
    assert not re.search(r"(src|href)=\"(?!data:)", text)
    assert "<" not in SCRIPT and "&" not in SCRIPT


def test_names_of_the_log_are_escaped_and_numbers_that_hardly_move_are_left_out() -> None:
    log = episode_log()
    wide = torch.randn(47, 40, generator=torch.Generator().manual_seed(0))
    wide[:, 20:] = wide[:, 20:].sort(dim=0).values  # slow: little of their scale in four steps
    names = [*(f"n{n}" for n in range(5)), "<b>a&b</b>", *(f"n{n}" for n in range(34))]
    wide[:, 5] = (torch.arange(47) % 2).float()
    log = with_columns(
        log,
        {OBSERVATION: wide, ("next", OBSERVATION): wide},
        names={"observation": names},
        units={"observation": ["rad"] * 40},
        source='<script>alert("1")</script>',
    )
    text = page(log, draw_pairs(log, 4, 1, seed=0), 4, annotator='"><script>')
    root = parsed(text)
    assert text.count("<script") == 1
    shown = [one.text for one in root.iter(f"{SVG}text")]
    assert "<b>a&b</b> [rad]" in shown and "-0.08 to 1.08" in shown
    assert not [one for one in shown if one in {f"n{n} [rad]" for n in range(19, 34)}]
    assert len(list(root.iter(f"{SVG}polyline"))) == 2 * MOST_STRIPS
    assert f"The {MOST_STRIPS} of 42 numbers that move most are drawn." in text


def test_frames_are_shown_where_there_are_images() -> None:
    log = episode_log()
    columns = {key: log.column(key) for key in log.keys() if key not in ("step", "episode_end")}
    for start in ((), ("next",)):
        whole = columns.pop((*start, OBSERVATION) if start else OBSERVATION)
        columns[*start, OBSERVATION, "state"] = whole
        columns[*start, OBSERVATION, "eye"] = torch.zeros(47, 8, 8, 3, dtype=torch.uint8)
    log = Log.from_columns(columns, log.info)
    root = parsed(page(log, draw_pairs(log, 6, 2, seed=0), 6))
    images = [one.attrib["src"] for one in root.iter("img")]
    assert len(images) == 2 * 2 * 6  # every step of so short a segment
    assert all(image.startswith("data:image/png;base64,") for image in images)


def test_time_is_said_in_seconds_where_the_log_knows_them() -> None:
    """Frames follow each other as they did: 40 steps at 20 Hz, 12 frames, 2,000 / 12 ms each."""
    log = episode_log([50, 50])
    rows = draw_pairs(log, 40, 1, seed=0)
    plain = page(with_columns(log, {}, control_rate_hz=None), rows, 40)
    assert "Lines show 40 steps" in plain
    assert facts_of(parsed(plain))["interval"] == 150
    timed = page(with_columns(log, {}, control_rate_hz=20.0), rows, 40)
    assert "Lines show 2 seconds" in timed and facts_of(parsed(timed))["interval"] == 167


def test_photographs_are_written_small() -> None:
    """A frame of noise is smaller as JPEG."""
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    assert _data(noise).startswith("data:image/jpeg;base64,")
