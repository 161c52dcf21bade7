"""Every learner and head whose file we export: as C it proves itself on the file's probe rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c_policies import CPolicy, needs_compiler, self_test
from drawn_policies import KINDS as DRAWN
from drawn_policies import learner as drawing
from episode_logs import episode_log
from memory_policies import POLICIES
from small_fits import KINDS, LEARNERS, data_for, learner_of, log_for, moved, takes
from variants import OTHERS

from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.training.learner import Learner

pytestmark = needs_compiler
EXPORTED = {name: kind for name, kind in LEARNERS.items() if not kind.not_exported}
# A task is one more input of the same operators: half of the kinds have one.
SHOWN = ("continuous with task", "discrete")
PLAIN = [(name, kind) for name in EXPORTED for kind in SHOWN if takes(EXPORTED[name], KINDS[kind])]
NEWER = [
    *((name, 18) for name in ("BC", "RecurrentBC", "DecisionTransformer", "DQN")),
    *((name, 23) for name in ("RecurrentBC", "DecisionTransformer")),
]


def check(learner: Learner, folder: Path, opset: int = 17, **options: Any) -> None:
    """Check that the C of a learner's file passes its self test."""
    path = folder / "policy.onnx"
    export_policy(learner, path, opset=opset, **options)
    code, said = self_test(path, folder, "-O0")  # of the compiler's time, half
    assert code == 0, said
    if "range" in said:  # at most 1e-5 of the range, with images too
        assert float(said.split("difference ")[1].split()[0]) <= 1e-5, said


@pytest.mark.parametrize(("name", "kind"), PLAIN)
def test_a_learner(name: str, kind: str, tmp_path: Path) -> None:
    learner = EXPORTED[name]
    data = data_for(learner, log_for(learner, **KINDS[kind]))
    check(moved(learner_of(learner, data.spec)), tmp_path)


@pytest.mark.parametrize("name", [name for name in OTHERS if not name.startswith("IQL ")])
def test_a_learner_with_options(name: str, tmp_path: Path) -> None:
    chosen = OTHERS[name]
    data = data_for(chosen.kind, chosen.log(), chosen.arguments)
    check(moved(learner_of(chosen.kind, data.spec, **chosen.arguments)), tmp_path)


@pytest.mark.parametrize(("name", "opset"), NEWER)
def test_the_newer_exporter(name: str, opset: int, tmp_path: Path) -> None:
    learner = EXPORTED[name]
    data = data_for(learner)
    check(moved(learner_of(learner, data.spec)), tmp_path, opset)


@pytest.mark.parametrize("kind", DRAWN)
def test_a_policy_that_draws(kind: str, tmp_path: Path) -> None:
    check(drawing(kind), tmp_path, drawn=True)


@pytest.mark.parametrize("name", POLICIES)
def test_a_loop_of_its_own(name: str, tmp_path: Path) -> None:
    """States, noise, chunks and delays, as ``OnnxPolicy.act`` plays them; two episodes."""
    kind, arguments = POLICIES[name]
    data = data_for(kind, episode_log(), arguments)
    path = tmp_path / "policy.onnx"
    export_policy(moved(learner_of(kind, data.spec, **arguments)), path, opset=17)
    policy, c = OnnxPolicy(path, seed=3), CPolicy(path, tmp_path)
    seeded = policy.signature.noise is not None
    seen = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    action = np.zeros(2, np.float32)
    for episode in (0, 5):
        policy.reset(episode=episode)
        c.reset(*((3, episode) if seeded else ()))
        for row in seen:
            assert c.act(action, row) == 0
            np.testing.assert_allclose(action, policy.act(row), rtol=0, atol=4e-5)
