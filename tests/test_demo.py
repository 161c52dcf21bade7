"""The demo page: its world is Python's to the bit, and its policy walks to where one points."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Browser, browser, served
from javascript import NODE, ROOT, needs_node, ort_web

from hindsight_rl.envs.four_rooms import FourRooms, draw_position, is_free, step_many
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.export.runtime import OnnxPolicy

KEPT = ROOT / "docs" / "demo"
WALK = """
import { readFileSync } from "node:fs";
const { Rooms } = await import(process.argv[1]);
const { world, start, actions, noise, goals } = JSON.parse(readFileSync(0, "utf-8"));
const rooms = new Rooms(world), found = [];
let place = Float32Array.from(start);
for (const [step, action] of actions.entries()) {
  place = rooms.step(place, Float32Array.from(action), noise[step]);
  found.push([...place, Number(rooms.isReached(place, Float32Array.from(goals[step])))]);
}
const drawn = Array.from({ length: 200 }, () => rooms.draw(place));
const near = goals.map((goal) => rooms.nearestFree(goal.map((each) => 40 * each / 33 - 3)));
const lists = (places) => places.map((each) => [...each]);
process.stdout.write(JSON.stringify({ found, drawn: lists(drawn), near: lists(near) }));
"""


@pytest.fixture(scope="module")
def demo() -> Any:
    """The script that makes the page."""
    sys.path.append(str(ROOT / "tools"))
    spec = importlib.util.spec_from_file_location("demo", ROOT / "tools" / "demo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_node
@pytest.mark.parametrize("seed", [0, 1])
def test_the_world_is_that_of_python_to_the_bit(seed: int, demo: Any) -> None:
    generator = np.random.default_rng(seed)
    world, steps = demo.world(), 3000
    start = place = draw_position(generator)
    # Long runs into walls and through doors, some of them exactly along an axis.
    actions = np.repeat(generator.uniform(-1.2, 1.2, (steps // 10, 2)), 10, axis=0)
    actions[generator.random(steps) < 0.1, 0] = 0.0
    actions = actions.astype(np.float32)
    noise = generator.standard_normal(steps) * np.where(np.arange(steps) % 3, 1.0, 0.0)
    goals = np.stack([draw_position(generator) for _ in range(steps)])
    goals[::2] += generator.normal(size=(steps // 2, 2)).astype(np.float32)
    expected = []
    for step in range(steps):
        place = step_many(place[None], actions[step][None], noise[step : step + 1])[0]
        goals[step] = place + (0.9 * goals[step] / 33 if step % 4 == 0 else goals[step] - place)
        reached = FourRooms().is_reached(place, goals[step])
        expected.append([*place.tolist(), float(reached)])
    given = {"world": world, "start": start.tolist(), "actions": actions.tolist()}
    given |= {"noise": noise.tolist(), "goals": goals.tolist()}
    script = str(ROOT / "tools" / "demo" / "rooms.mjs")
    done = subprocess.run(
        [str(NODE), "--input-type=module", "-e", WALK, script],
        input=json.dumps(given), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    np.testing.assert_array_equal(found["found"], expected)
    assert 100 < sum(row[2] for row in expected) < steps  # both answers were asked for
    drawn, near = np.array(found["drawn"]), np.array(found["near"])
    assert is_free(drawn).all() and is_free(near).all()
    assert (np.hypot(*(drawn - place).T) >= world["apart"]).all()


def test_the_policy_that_is_kept_reaches_fresh_goals() -> None:
    policy = OnnxPolicy(KEPT / "policy.onnx")
    found = rollout(policy.act, "Hindsight/FourRooms-v0", episodes=100, seed=3_000_000)
    assert np.mean(found.successes) >= 0.95
    stated = json.loads((KEPT / "world.json").read_text())
    assert stated["success_low"] <= stated["success"] <= stated["success_high"]
    assert stated["success"] >= 0.95 and stated["episodes"] >= 200


def test_it_is_made_from_nothing(
    demo: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["--fast", "--walks", "4", "--updates", "3", "--episodes", "2", "--ort", str(ort_web())]
    page, kept = tmp_path / "demo", tmp_path / "kept"
    assert demo.main([*words, "--output", str(page), "--keep", str(kept)]) == 0
    said = capsys.readouterr().out
    assert "$ hindsight fit --config four_rooms" in said and "% of 2 fresh goals reached" in said
    told = json.loads((page / "world.json").read_text())
    assert told["updates"] == 3 and told["rows"] == 300 and told["episodes"] == 2
    assert told["walls"] == demo.world()["walls"] and len(told["walls"]) == 33
    assert sorted(each.name for each in kept.iterdir()) == ["policy.onnx", "world.json"]
    assert (page / "policy" / "ort").is_dir() and (page / "demo.mjs").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["demo", "kept"]


# ------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def site(demo: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the policy that is kept."""
    page = tmp_path_factory.mktemp("site") / "demo"
    assert demo.main(["--ort", str(ort_web()), "--fitted", str(KEPT), "--output", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def opened(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, str]]:
    """A browser, and the address of the page."""
    with served(site) as url, browser(tmp_path_factory.mktemp("browser")) as page:
        yield page, url


@pytest.fixture
def shown(opened: tuple[Browser, str]) -> Browser:
    """The page, just opened."""
    page, url = opened
    page.faults.clear()
    page.sized(1100, 900)
    page.visit("about:blank")
    page.visit(f"{url}index.html")
    page.until("Boolean(window.walk)")
    return page


def hurry(page: Browser) -> None:
    """Take as many steps a second as there are."""
    page.value("document.getElementById('rate').value = 60")


def pointed(page: Browser, place: list[float]) -> list[float]:
    """Return where the window shows a position."""
    found: list[float] = page.value(f"walk.picture.place({place})")
    return found


def test_it_walks_to_where_one_clicks(shown: Browser) -> None:
    hurry(shown)
    for goal in ([3.5, 28.5], [29.5, 29.5], [28.5, 3.5], [4.5, 4.5]):  # one in each room
        before = shown.value("walk.reached")
        x, y = pointed(shown, goal)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            shown.mouse(kind, x, y)
        np.testing.assert_allclose(shown.value("Array.from(walk.goal)"), goal, atol=0.1)
        shown.until(f"walk.reached > {before} && walk.there > 0")
        agent = shown.value("Array.from(walk.agent)")
        assert np.hypot(*np.subtract(agent, goal)) < 4  # noise may have pushed it off again
        assert "goal" in shown.value("document.getElementById('status').textContent")
    assert shown.faults == []


def test_a_goal_in_a_wall_is_moved_out_of_it(shown: Browser) -> None:
    for place in ([0.5, 16.5], [16.0, 1.0], [-0.5, 33.5]):
        shown.mouse("mouseMoved", *pointed(shown, place))
        goal = shown.value("Array.from(walk.goal)")
        assert is_free(np.float32(goal)) and np.hypot(*np.subtract(goal, place)) < 3


def test_keys_do_all_that_the_mouse_does(shown: Browser) -> None:
    shown.value("document.getElementById('rooms').focus()")
    shown.value("walk.aim([10.5, 5.5])")
    for key, by in (("ArrowUp", (-1, 0)), ("ArrowRight", (0, 1)), ("ArrowLeft", (0, -1))):
        before = np.array(shown.value("Array.from(walk.goal)"))
        shown.press(key)
        after = np.array(shown.value("Array.from(walk.goal)"))
        np.testing.assert_allclose(after - before, by, atol=1e-5)
    assert shown.value("walk.chosen && walk.running")
    shown.press(" ")
    assert not shown.value("walk.running")
    assert shown.value("document.getElementById('play').textContent") == "Go on"
    steps = shown.value("walk.steps")
    shown.value("new Promise((done) => setTimeout(done, 300))")
    assert shown.value("walk.steps") == steps
    episode = shown.value("walk.episode")
    shown.press("n")
    assert shown.value("walk.episode") == episode + 1 and shown.value("walk.steps") == 0
    shown.click("#play")
    shown.until("walk.steps > 0")
    assert shown.faults == []


def test_a_finger_moves_the_goal(shown: Browser) -> None:
    shown.sized(390, 800, touch=True)
    assert shown.value("document.documentElement.scrollWidth - innerWidth") <= 0
    x, y = pointed(shown, [5.5, 27.5])
    touch = [{"x": x, "y": y}]
    shown.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch)
    shown.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    np.testing.assert_allclose(shown.value("Array.from(walk.goal)"), [5.5, 27.5], atol=0.2)
    assert shown.faults == []


def test_goals_change_by_themselves_until_one_points(shown: Browser) -> None:
    hurry(shown)
    shown.until("walk.reached > 1")
    assert not shown.value("walk.chosen") and shown.faults == []


def test_who_wants_less_motion_starts_it(opened: tuple[Browser, str], shown: Browser) -> None:
    wish = [{"name": "prefers-reduced-motion", "value": "reduce"}]
    shown.call("Emulation.setEmulatedMedia", features=wish)
    try:
        shown.visit("about:blank")
        shown.visit(f"{opened[1]}index.html")
        shown.until("Boolean(window.walk)")
        assert not shown.value("walk.running")
        shown.click("#play")
        shown.until("walk.steps > 0")
    finally:
        shown.call("Emulation.setEmulatedMedia", features=[])


def test_nothing_comes_from_elsewhere_and_what_was_measured_is_said(
    opened: tuple[Browser, str], shown: Browser, site: Path
) -> None:
    names = shown.value("performance.getEntriesByType('resource').map((each) => each.name)")
    assert len(names) > 8 and all(name.startswith((opened[1], "data:")) for name in names)
    facts = json.loads((site / "world.json").read_text())
    said = shown.value("document.getElementById('measured').textContent")
    assert f"{100 * facts['success']:.1f} % of {facts['episodes']} fresh goals" in said
    shown.click("section a")
    shown.until("document.title === 'Policy: SAC' && location.pathname === '/policy/index.html'")
    shown.until("document.getElementById('proof')?.textContent.startsWith('Passed')")
    assert shown.faults == []


def test_the_browser_answers_probe_episodes_as_python(shown: Browser) -> None:
    policy = OnnxPolicy(KEPT / "policy.onnx")
    probe = policy.contract["probe"]
    pairs = list(zip(probe["observation"], probe["task"], strict=True))
    shown.press(" ")
    script = "(async () => { const all = []; for (const [seen, task] of PAIRS) "
    script += "all.push([...await walk.policy.act(seen, task)]); return all; })()"
    found = shown.value(script.replace("PAIRS", json.dumps(pairs)))
    expected = [policy.act(np.float32(seen), np.float32(task)) for seen, task in pairs]
    assert len(pairs) == 256
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
