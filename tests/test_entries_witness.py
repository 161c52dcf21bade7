"""Two entries, one of them an image: from columns to a saved log, a fit, a file and its episodes.

The camera alone shows where to go, the state alone where the hand is: a policy that follows its
demonstrator has read both.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from small_fits import LEARNERS, fit, learner_of
from tiny_envs import HORIZON, Look

from hindsight_rl.agents.bc import BC
from hindsight_rl.cli.run import main as run
from hindsight_rl.datamodules.offline import OfflineDataModule
from hindsight_rl.envs.rollout import RolloutError, rollout
from hindsight_rl.export.onnx import export_policy
from hindsight_rl.export.runtime import OnnxPolicy
from hindsight_rl.keys import Key
from hindsight_rl.logs.errors import LogError
from hindsight_rl.logs.log import Log
from hindsight_rl.nets.network import Head, Network
from hindsight_rl.spec import Image, Spec, Vector
from hindsight_rl.training.checkpoints.load import load_learner

EPISODES = 60
STATE, CAMERA = ("observation", "state"), ("observation", "camera")


def columns(episodes: int = EPISODES) -> dict[Key, np.ndarray]:
    """Return a demonstrator's episodes: one frame more than steps, and both states."""
    env, draw = Look(), np.random.default_rng(0)
    states, frames, after, actions, rewards = [], [], [], [], []
    for number in range(episodes):
        seen, _ = env.reset(seed=number)
        frames.append(seen["camera"])
        for _ in range(HORIZON):
            wanted = np.clip(2 * (env.goal - env.hand) + draw.normal(0, 0.05), -1, 1)
            states.append(seen["state"])
            seen, reward, *_ = env.step([wanted])
            frames.append(seen["camera"])
            after.append(seen["state"])
            actions.append([wanted])
            rewards.append(reward)
    truncated = np.tile(np.arange(HORIZON) == HORIZON - 1, episodes)
    return {
        STATE: np.float32(states),
        CAMERA: np.stack(frames),
        "action": np.float32(actions),
        ("next", "observation", "state"): np.float32(after),
        ("next", "reward"): np.float32(rewards),
        ("next", "terminated"): np.zeros(len(rewards), bool),
        ("next", "truncated"): truncated,
        "episode": np.repeat(np.arange(episodes), HORIZON),
    }


def log() -> Log:
    names = {"observation.state": ["hand", "time"], "action": ["push"]}
    bounds = {"low": [-1.0], "high": [1.0]}
    return Log.from_columns(columns(), {"names": names, "action": bounds})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("log") / "look.log"
    log().save(path)
    return path


def data_of(source: Any, **options: Any) -> OfflineDataModule:
    return OfflineDataModule(source, batch_size=64, updates_per_step=16, seed=1, **options)


@pytest.fixture(scope="module")
def fitted(saved: Path) -> tuple[BC, list[float]]:
    """Return a short fit and the loss on the whole log before and after."""
    data = data_of(str(saved))
    torch.manual_seed(0)
    learner = BC(
        data.spec, network=Network(hidden=(64,)), head="deterministic", compile="off", threads=1
    )
    whole = data.log.gather(torch.arange(len(data.log)))

    def loss() -> float:
        with torch.no_grad():
            return float(learner.losses(whole).terms["actor"])

    losses = [loss()]
    learner.build_optimizer = lambda params: torch.optim.Adam(params, lr=2e-3)
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu", max_steps=400, max_epochs=-1, enable_progress_bar=False, **options
    )
    trainer.fit(learner, data)
    losses.append(loss())
    return learner.eval(), losses


def test_entries_are_served_as_they_were_given(saved: Path) -> None:
    given = columns()
    for source in (log(), str(saved)):
        data = data_of(source)
        assert list(data.spec.observation) == ["state", "camera"]
        state, camera = data.spec.observation.values()
        assert isinstance(state, Vector) and state.names == ("hand", "time")
        assert state.mean == pytest.approx(given[STATE].mean(0, dtype=float).tolist())
        assert camera == Image((16, 16, 3))
        rows = torch.tensor([0, HORIZON - 1, HORIZON])
        batch = data.log.gather(rows)
        np.testing.assert_array_equal(batch[STATE], given[STATE][rows])
        # One frame more per episode: row 6 is frame 7, and what follows row 5 is frame 6.
        np.testing.assert_array_equal(batch[CAMERA], given[CAMERA][[0, 5, 7]])
        np.testing.assert_array_equal(batch["next", *CAMERA], given[CAMERA][[1, 6, 8]])
        assert batch[CAMERA].dtype == torch.uint8
        probe = data.spec.probe.observation
        assert {name: rows.shape for name, rows in probe.items()} == {
            "state": (256, 2),
            "camera": (256, 16, 16, 3),
        }


def test_the_policy_learns_from_both_entries(fitted: tuple[BC, list[float]]) -> None:
    learner, (before, after) = fitted
    count = sum(parameter.numel() for parameter in learner.parameters())
    print(f"parameters {count}, loss {before:.4f} -> {after:.4f}")
    assert count < 300_000
    assert after < 0.1 * before
    done = rollout(learner.act_numpy, Look, episodes=20, seed=9, spec=learner.spec)
    # A hand that does not move ends 0.7 away on average, one that goes to the middle 0.4.
    print(f"final success {np.mean(done.final_successes):.2f}, return {done.returns.mean():.3f}")
    assert np.mean(done.final_successes) >= 0.8


def test_the_file_takes_bytes_and_equals_the_policy(
    fitted: tuple[BC, list[float]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learner, _ = fitted
    path = tmp_path / "look.onnx"
    report = export_policy(learner, path)
    assert report["parity"]["tolerance"] == 1e-4  # convolutions add more rounding up
    policy = OnnxPolicy(path)
    inputs = policy.signature.inputs()
    assert inputs == {
        "observation.state": ("float32", (2,)),
        "observation.camera": ("uint8", (16, 16, 3)),
    }
    draw = np.random.default_rng(3)
    seen = {
        "state": draw.uniform(-1, 1, (50, 2)).astype(np.float32),
        "camera": draw.integers(0, 256, (50, 16, 16, 3)).astype(np.uint8),
    }
    ours = learner.act_numpy(seen)
    found = policy.act(seen)
    with capsys.disabled():
        print(
            f"\nparity {report['parity']['max_difference']:.2e}, {np.abs(found - ours).max():.2e}"
        )
    np.testing.assert_allclose(found, ours, rtol=0, atol=1e-5)
    one = policy.act({name: value[0] for name, value in seen.items()})
    np.testing.assert_allclose(one, ours[0], rtol=0, atol=1e-5)
    played = [
        rollout(act, Look, episodes=5, seed=2, spec=spec)
        for act, spec in ((learner.act_numpy, learner.spec), (policy, policy.contract))
    ]
    np.testing.assert_allclose(played[0].returns, played[1].returns, rtol=0, atol=1e-4)
    assert run([str(path), "--env", "tiny_envs:Tiny/Look-v0", "--episodes", "3"]) == 0


def test_a_checkpoint_acts_without_its_data(fitted: tuple[BC, list[float]], tmp_path: Path) -> None:
    learner, _ = fitted
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(learner)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = load_learner(tmp_path / "last.ckpt")
    assert again.spec == learner.spec
    seen, _ = Look().reset(seed=1)
    batch = {name: value[None] for name, value in seen.items()}
    np.testing.assert_array_equal(again.act_numpy(batch), learner.act_numpy(batch))


@pytest.mark.parametrize(
    ("name", "entry", "told"),
    [
        ("image", Image((16, 16, 3)), r"shows the entries .*'camera'\], .* takes .*'image'\]"),
        ("camera", Image((8, 8, 3)), r"'camera' is an image \[16, 16, 3\], .* image \[8, 8, 3\]"),
        ("camera", Vector((768,)), r"'camera' is an image .*, .* takes real numbers \[768\]"),
    ],
)
def test_other_entries_are_refused(name: str, entry: Any, told: str, saved: Path) -> None:
    spec = data_of(str(saved)).spec
    other = Spec({"state": spec.observation["state"], name: entry}, spec.action)
    with pytest.raises(RolloutError, match=told):
        rollout(lambda seen: np.zeros((1, 1)), Look, episodes=1, seed=0, spec=other)


def test_an_observation_is_one_column_or_entries() -> None:
    given = columns(2)
    with pytest.raises(LogError, match="one column, or entries by their name"):
        Log.from_columns(given | {"observation": given[STATE]})
    with pytest.raises(LogError, match="next.observation.state"):
        Log.from_columns({k: v for k, v in given.items() if k != ("next", *STATE)})


def test_logs_with_the_entries_in_another_order_are_not_joined() -> None:
    given = columns(2)
    other = {CAMERA: given[CAMERA], **{k: v for k, v in given.items() if k != CAMERA}}
    logs = [Log.from_columns(each) for each in (given, other)]
    with pytest.raises(LogError, match="entries"):
        Log.concatenate(logs, [1.0, 1.0])


def test_learners_of_flat_vectors_name_the_entries(saved: Path) -> None:
    with pytest.raises(ValueError, match="frequencies are of one flat vector"):
        BC(data_of(str(saved)).spec, network=Network(frequencies=2))
    with pytest.raises(ValueError, match="observation has the entries state, camera: these"):
        BC(data_of(str(saved)).spec, head=Head(relative_to=[0]))


@pytest.mark.parametrize("name", ["IQL", "SAC", "CRR"])
def test_learners_of_these_networks_take_entries(name: str, saved: Path, tmp_path: Path) -> None:
    """One update chunk, and a file that equals the policy."""
    data = data_of(str(saved))
    learner = learner_of(LEARNERS[name], data.spec, compile="off", threads=1)
    fit(learner, data, tmp_path, 2)
    report = export_policy(learner.eval(), tmp_path / "policy.onnx")
    assert report["parity"]["max_difference"] <= 1e-5


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("FlowBC", {"chunk": 2, "steps": 4}),
        ("DiffusionBC", {"chunk": 2, "steps": 4, "predict": "sample"}),
        ("OneStepFlow", {"chunk": 2}),
        ("IDQL", {"samples": 3, "steps": 4}),
        ("FQL", {}),
    ],
)
def test_policies_from_noise_take_entries(
    name: str, arguments: dict[str, Any], saved: Path, tmp_path: Path
) -> None:
    data = data_of(str(saved))
    learner = learner_of(LEARNERS[name], data.spec, compile="off", threads=1, **arguments)
    fit(learner, data, tmp_path, 2)
    report = export_policy(learner.eval(), tmp_path / "policy.onnx", opset=17)
    assert report["parity"]["max_difference"] <= 1e-5
    assert report["parity"].get("close", 0) < report["parity"]["rows"] / 2


def test_proposals_take_entries(saved: Path, tmp_path: Path) -> None:
    data = data_of(str(saved))
    learner = learner_of(LEARNERS["BCQ"], data.spec, compile="off", threads=1)
    fit(learner, data, tmp_path, 2)
    seen = {name: rows[:5] for name, rows in data.spec.probe.observation.items()}
    action = learner.act_numpy(seen)
    assert action.shape == (5, 1) and (np.abs(action) <= 1).all()


@pytest.mark.parametrize("compiled", ["losses", "update"])
def test_compiled_updates_equal_eager_ones(compiled: str, saved: Path, tmp_path: Path) -> None:
    made = []
    for mode in ("off", compiled):
        data = data_of(str(saved))
        learner = learner_of(BC, data.spec, network=Network(hidden=(8,)), compile=mode, threads=1)
        fit(learner, data, tmp_path / mode, 3)
        made.append(learner)
    for one, two in zip(made[0].parameters(), made[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
