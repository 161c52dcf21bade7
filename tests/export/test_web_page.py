"""The page of a policy file in a real browser: it proves itself, explains and answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browser import Browser, browser, served
from javascript import ort_web
from policy_files import chunked, components, contract, edit, entries, leaky_sum, node, noisy, write
from small_fits import data_for, learner_of, log_for

from hindsight_rl.agents.bc import BC
from hindsight_rl.agents.flow_bc import FlowBC
from hindsight_rl.agents.recurrent_bc import RecurrentBC
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.web.write import write_web

READY = "!document.getElementById('loaded').hidden && !document.getElementById('again').disabled"
FAILED = "document.getElementById('fault').className === 'failed'"
# Plays rows of a file from the beginning of an episode.
PLAY = """(async () => {
  const { Policy } = await import("./reader/policy.mjs");
  const { bytesOf, runtime } = await import("./runtime.mjs");
  const policy = await Policy.load(await runtime(), await bytesOf("policy.onnx"), { seed: 3 });
  const found = [];
  for (const row of ROWS) found.push(Array.from([await policy.act(row, TASK)].flat(), (each) =>
    ArrayBuffer.isView(each) ? [...each] : each).flat());
  return found;
})()"""


class Shown(NamedTuple):
    """A browser, and the address of a folder on this disk."""

    page: Browser
    url: str
    folder: Path

    def open(self, path: Path, until: str = READY) -> None:
        """Write a file's page, unless it is there, and show it."""
        folder = self.folder / path.stem
        if not folder.exists():
            write_web(path.read_bytes(), str(path), folder, ort_web())
        self.page.faults.clear()
        self.page.visit(f"{self.url}{folder.name}/index.html")
        self.page.until(f"({until}) || ({FAILED})")

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        found: str = self.page.value(f"document.querySelector({selector!r}).textContent")
        return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("pages")
    profile = tmp_path_factory.mktemp("browser")
    ort_web()
    with served(folder) as url, browser(profile) as page:
        yield Shown(page, url, folder)


def fitted(learner: Any, path: Path, **options: Any) -> Path:
    """Export a learner of small_fits."""
    spec = data_for(learner, log_for(learner, **options)).spec
    made = learner_of(learner, spec).eval()
    export_policy(made, path, opset=17)
    return path


def played(shown: Shown, rows: Any, task: Any = None) -> np.ndarray:
    """Return what the file of the page that is shown answers in the browser, row after row."""
    words = PLAY.replace("ROWS", json.dumps(rows))
    words = words.replace("TASK", "undefined" if task is None else json.dumps(task))
    return np.array(shown.page.value(words), np.float32)


@pytest.mark.parametrize("learner", [BC, RecurrentBC, FlowBC])
def test_learners_prove_themselves_and_answer_as_in_python(
    learner: Any, shown: Shown, tmp_path: Path
) -> None:
    path = fitted(learner, tmp_path / f"{learner.__name__}.onnx")
    shown.open(path)
    assert shown.text("#proof").startswith("Passed. The largest difference in 256 rows is ")
    assert " in this browser, on one thread (median of " in shown.text("#speed")
    assert shown.text("#title") == f"Policy: {learner.__name__}"
    policy = OnnxPolicy(path, seed=3)
    rows = policy.contract["probe"]["observation"][:40]
    expected = np.stack([policy.act(np.float32(row)) for row in rows])
    np.testing.assert_allclose(played(shown, rows), expected, rtol=0, atol=2e-5)
    assert shown.page.faults == []


def test_choices_with_a_task(shown: Shown, tmp_path: Path) -> None:
    path = fitted(BC, tmp_path / "choices.onnx", discrete=True, task=True)
    shown.open(path)
    assert shown.text("#proof").startswith("Passed. 0 of 256 choices differ.")
    policy = OnnxPolicy(path)
    probe = policy.contract["probe"]
    shown.page.value("document.getElementById('row').value = 7")
    shown.page.value("document.getElementById('row').dispatchEvent(new Event('change'))")
    number = probe["action"][7] - policy.contract["action"].get("start", 0)
    shown.page.until(
        f"document.querySelectorAll('.choices li')[{number}].className === 'chosen'"
        " && document.querySelectorAll('.choices .chosen').length === 1"
    )
    rows, task = probe["observation"][:20], probe["task"][3]
    expected = [policy.act(np.float32(row), np.float32(task)) for row in rows]
    assert played(shown, rows, task).ravel().tolist() == expected
    assert shown.page.faults == []


def test_a_slider_is_what_the_policy_sees(shown: Shown, tmp_path: Path) -> None:
    path = fitted(BC, tmp_path / "slider.onnx")
    shown.open(path)
    before = shown.text("#answer output")
    shown.page.value("document.getElementById('observation-0').focus()")
    for _ in range(20):
        shown.page.press("ArrowRight")
    shown.page.until(f"document.querySelector('#answer output').textContent !== {before!r}")
    seen = np.float32(OnnxPolicy(path).contract["probe"]["observation"][0])
    moved = shown.page.value("Number(document.getElementById('observation-0').value)")
    assert moved > seen[0]
    seen[0] = moved
    wanted = float(OnnxPolicy(path).act(seen)[0])
    shown.page.until(
        f"Math.abs(document.querySelector('#answer output').textContent - {wanted}) < 1e-3"
    )
    typed = "document.querySelectorAll('#inputs input[type=number]')[1]"
    shown.page.value(f"{typed}.value = '-0.25'; {typed}.dispatchEvent(new Event('change'))")
    seen[1] = -0.25
    wanted = float(OnnxPolicy(path).act(seen)[0])
    shown.page.until(
        f"Math.abs(document.querySelector('#answer output').textContent - {wanted}) < 1e-3"
    )
    assert shown.page.faults == []


def test_a_state_steps_and_begins_anew(shown: Shown, tmp_path: Path) -> None:
    shown.open(leaky_sum(tmp_path / "sum.onnx"))
    shown.page.until("document.getElementById('count').textContent === 'step 1'")
    # h' = h / 2 + observation from (1, -1), and the first row of the probe is (0, 0).
    assert float(shown.text("#answer output")) == 0.5
    shown.page.click("#step")
    shown.page.until("document.getElementById('count').textContent === 'step 2'")
    assert float(shown.text("#answer output")) == 0.25
    shown.page.click("#reset")
    shown.page.until("document.getElementById('count').textContent === 'step 1'")
    assert float(shown.text("#answer output")) == 0.5
    assert "it remembers" in shown.text("#memory") and shown.page.faults == []


@pytest.mark.parametrize(
    ("make", "why"), [(noisy, "it draws noise"), (lambda p: chunked(p, 3, 2), "it plans several")]
)
def test_what_an_action_depends_on_is_said(
    make: Any, why: str, shown: Shown, tmp_path: Path
) -> None:
    shown.open(make(tmp_path / f"{why.split()[1]}.onnx"))
    assert shown.text("#proof").startswith("Passed") and why in shown.text("#memory")


def test_entries_images_and_choices(shown: Shown, tmp_path: Path) -> None:
    shown.open(entries(tmp_path / "entries.onnx"))
    assert shown.text("#proof").startswith("Passed")
    assert shown.page.value("document.querySelector('canvas').width") == 4
    mode = "document.querySelector('select')"
    shown.page.value(f"{mode}.value = 2; {mode}.dispatchEvent(new Event('change'))")
    shown.page.until("Number(document.querySelectorAll('#answer output')[1].textContent) === 2")
    names = shown.page.value(
        "Array.from(document.querySelectorAll('#contract h3'), (each) => each.textContent)"
    )
    assert names == ["camera", "arm", "mode", "action", "Further"]
    assert shown.page.faults == []


def test_names_units_bounds_and_robot_are_shown_as_text(shown: Shown, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    vector = {"kind": "vector", "shape": [2], "dtype": "float32"}
    vector |= {"names": ["elbow", hostile], "units": ["rad", None]}
    action = {"kind": "continuous", "shape": [2], "dtype": "float32", "names": ["lift", "grip"]}
    action |= {"low": [-4.5, None], "high": [4.0, None], "rate_limit": [2.5, None]}
    joints = {"joints": ["j1", "j2"], "command": "position", "stiffness": [40.0, None]}
    path = tmp_path / "arm.onnx"
    rows = [[0.0, 1.0], [2.0, 3.0], [4.0, -5.0]]
    stated = contract(
        observation=vector | {"units": ["rad", "m"]},
        action=action,
        robot=joints,
        probe={"observation": rows, "action": rows},
    )
    write(path, stated, [node("Identity", "observation", "action")])
    shown.open(path)
    text = shown.text("#contract")
    for said in ("elbow", "rad", hostile, "-4.5", "2.5", "none", "j2", "stiffness", "40", "10"):
        assert said in text
    labels = shown.page.value(
        "Array.from(document.querySelectorAll('#inputs label'), (each) => each.textContent)"
    )
    assert labels == ["elbow (rad)", f"{hostile} (m)"]
    assert shown.page.value("document.querySelectorAll('#contract img, #inputs img').length") == 0
    assert shown.page.faults == []


def test_ties_and_failures_are_said(shown: Shown, tmp_path: Path) -> None:
    path = components(tmp_path / "tie.onnx", [[0.5, 0.5], [0.0, 1.0], [3.0, 2.0]])
    shown.open(path)
    assert shown.text("#proof").endswith("1 rows tie and were not compared.")
    wrong = [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    probe = OnnxPolicy(path).contract["probe"]
    edit(shown.folder / "tie" / "policy.onnx", probe=probe | {"action": wrong})
    shown.page.visit(f"{shown.url}tie/index.html?again")
    shown.page.until(READY)
    assert shown.text("#proof").startswith("FAILED. The largest difference in 3 rows is 2.0e+0")


def test_a_changed_file_and_a_missing_runtime_are_named(shown: Shown, tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "changed.onnx")
    shown.open(path)
    copy = shown.folder / "changed" / "policy.onnx"
    copy.write_bytes(copy.read_bytes().replace(b"state.h", b"state.g", 1))
    shown.page.visit(f"{shown.url}changed/index.html?again")
    shown.page.until(FAILED)
    assert "graph or weights changed after the export" in shown.text("#fault")
    write_web(path.read_bytes(), str(path), shown.folder / "bare")
    shown.page.visit(f"{shown.url}bare/index.html")
    shown.page.until(FAILED)
    assert "'npm install onnxruntime-web'" in shown.text("#fault")


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_is_wider_than_the_page(width: int, shown: Shown, tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "wide.onnx")
    shown.page.sized(width, 800, touch=width < 600)
    shown.open(path)
    assert shown.page.value("document.documentElement.scrollWidth - innerWidth") <= 0
    shown.page.sized(1200, 800)


def test_without_a_server_it_says_what_to_do(shown: Shown, tmp_path: Path) -> None:
    path = leaky_sum(tmp_path / "file.onnx")
    shown.open(path)
    shown.page.open(shown.folder / "file" / "index.html")
    assert "python3 -m http.server" in shown.text("#fault")
    assert not shown.page.value("document.getElementById('fault').hidden")
