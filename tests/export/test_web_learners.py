"""The files of learners, loops and layers in fewer bits prove themselves in a real browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, browser, served
from drawn_policies import KINDS as DRAWN
from drawn_policies import learner as drawing
from episode_logs import episode_log
from javascript import ort_web
from memory_policies import POLICIES
from policy_files import leaky_sum
from small_fits import KINDS, LEARNERS, data_for, learner_of, log_for, moved, takes
from variants import OTHERS

from hindsight_rl.agents.bc import BC
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.export.web.write import write_web

EXPORTED = {name: kind for name, kind in LEARNERS.items() if not kind.not_exported}
VERIFY = """(async () => {
  const { Policy } = await import("./reader/policy.mjs");
  const { verify } = await import("./reader/verify.mjs");
  const { bytesOf, runtime } = await import("./runtime.mjs");
  window.ort ??= await runtime();
  const policy = await Policy.load(window.ort, await bytesOf("tried.onnx"), { seed: 3 });
  const found = await verify(policy), answers = [];
  for (const row of ROWS) answers.push([...(await policy.act(row))]);
  return { ...found, answers };
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, Path]]:
    """A browser at a page, and its folder."""
    folder = tmp_path_factory.mktemp("page")
    path = leaky_sum(folder / "policy.onnx")
    write_web(path.read_bytes(), str(path), folder / "page", ort_web())
    with served(folder / "page") as url, browser(tmp_path_factory.mktemp("browser")) as shown:
        shown.visit(f"{url}index.html")
        yield shown, folder / "page"


def tried(page: tuple[Browser, Path], learner: Any, rows: Any = (), **options: Any) -> Any:
    """Export a learner, and return what its file shows in the browser."""
    shown, folder = page
    shown.faults.clear()
    export_policy(learner.eval(), folder / "tried.onnx", **({"opset": 17} | options))
    found = shown.value(VERIFY.replace("ROWS", json.dumps(np.asarray(rows).tolist())))
    assert shown.faults == []
    return found


@pytest.mark.parametrize("name", EXPORTED)
def test_learners(name: str, page: tuple[Browser, Path]) -> None:
    learner = EXPORTED[name]
    kind = next(k for k in ("continuous with task", "discrete") if takes(learner, KINDS[k]))
    data = data_for(learner, log_for(learner, **KINDS[kind]))
    found = tried(page, moved(learner_of(learner, data.spec)))
    assert found["passed"], found


@pytest.mark.parametrize("name", [name for name in OTHERS if not name.startswith("IQL ")])
def test_learners_with_options(name: str, page: tuple[Browser, Path]) -> None:
    chosen = OTHERS[name]
    data = data_for(chosen.kind, chosen.log(), chosen.arguments)
    found = tried(page, moved(learner_of(chosen.kind, data.spec, **chosen.arguments)))
    assert found["passed"], found


@pytest.mark.parametrize("kind", DRAWN)
def test_policies_that_draw(kind: str, page: tuple[Browser, Path]) -> None:
    found = tried(page, drawing(kind), drawn=True)
    assert found["passed"], found


@pytest.mark.parametrize("name", POLICIES)
def test_loops(name: str, page: tuple[Browser, Path]) -> None:
    kind, arguments = POLICIES[name]
    data = data_for(kind, episode_log(), arguments)
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    found = tried(page, moved(learner_of(kind, data.spec, **arguments)), rows)
    assert found["passed"], found
    policy = OnnxPolicy(page[1] / "tried.onnx", seed=3)
    expected = np.stack([policy.act(row) for row in rows])
    np.testing.assert_allclose(found["answers"], expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    "options", [{"opset": 18}, {"precision": "int8"}, {"precision": "float16"}]
)
def test_operator_sets_and_fewer_bits(options: Any, page: tuple[Browser, Path]) -> None:
    learner = moved(learner_of(BC, data_for(BC).spec))
    if "precision" in options:
        options = options | {"opset": 18, "budget": 0.1}
    assert tried(page, learner, **options)["passed"]
