"""What the scripts on imagined rows share: logs of a pendulum, models, fits that are kept."""

import functools
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(BENCHMARKS))

from lightning.pytorch import seed_everything  # noqa: E402
from shared import BUILD, interval, say, silent_trainer  # noqa: E402

from hindsight_rl import Dynamics, Log, Network, OfflineDataModule, read_log  # noqa: E402
from hindsight_rl.cli.main import main as hindsight  # noqa: E402
from hindsight_rl.datamodules.sources.environment import Collector  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402
from hindsight_rl.files import write_text  # noqa: E402
from hindsight_rl.keys import EPISODE  # noqa: E402
from hindsight_rl.training.checkpoints.load import load_learner  # noqa: E402

PENDULUM = "Pendulum-v1"
HOME = BUILD / "imagined"
TESTS, TEST_SEED = 20, 2_000_000
SMALL = Network(hidden=(64, 64))
EPISODES = 5  # of 200 steps
MODEL_UPDATES = 1_000


def adam(parameters: Any) -> torch.optim.Optimizer:
    """Return the optimizer of all policies."""
    return torch.optim.Adam(parameters, lr=1e-3, fused=True)


def pendulum_log(kind: str, seed: int) -> Log:
    """Return 1,000 steps of a pendulum: ``random`` torques, or ``mixed``, half of it good."""
    if kind == "random":
        collector = Collector(PENDULUM, seed=seed)
        found = collector.collect(None, 0, EPISODES, None)
        collector.close()
        number = torch.arange(EPISODES).repeat_interleave(found.lengths)
        return Log.from_columns(found.columns | {EPISODE: number}, collector.info)
    folder = HOME / "logs" / f"{kind}-{seed}"
    words = ["collect", "--env", PENDULUM, "--good", "0.5", "--episodes", str(EPISODES)]
    if not folder.exists() and hindsight([*words, "--seed", str(seed), "--output", str(folder)]):
        raise SystemExit(1)
    return read_log(folder)


def model_of(
    log: Log, name: str, seed: int, updates: int = MODEL_UPDATES, **options: Any
) -> tuple[str, Any]:
    """Return the checkpoint of a model of a log and the model; it is fitted at the first call."""
    path = HOME / "models" / f"{name}-{seed}.ckpt"
    if not path.exists():
        seed_everything(seed, verbose=False)
        data = OfflineDataModule(log, seed=seed, validation=0.1)
        plain = {"network": SMALL, "members": 5, "elites": 3, "termination": "none"}
        model = Dynamics(data.spec, **plain | options)
        trainer = silent_trainer(updates, val_check_interval=updates, num_sanity_val_steps=0)
        trainer.fit(model, data)
        trainer.save_checkpoint(path)
    return str(path), load_learner(str(path))


def score(learner: Any, env: Any = PENDULUM, episodes: int = TESTS) -> float:
    """Return the mean return of the test episodes."""
    found = rollout(learner.eval().player(), env, episodes=episodes, seed=TEST_SEED)
    return float(found.returns.mean())


def place(part: str, name: str, seed: int) -> Path:
    """Return where what a fit found is kept."""
    return HOME / part / f"{name.replace(' ', '-').replace('/', '-')}-{seed}.json"


def kept(part: str, name: str, seed: int, fit: Callable[[], Any]) -> dict[str, Any]:
    """Return what a fit found and its seconds, found at the first call and kept in build/imagined.

    Args:
        part: Of the evidence.
        name: Of the row.
        seed: Of the fit.
        fit: Returns a number, or a dictionary of them.

    Returns:
        ``value`` and ``seconds``.
    """
    path = place(part, name, seed)
    if not path.exists():
        begun = time.process_time()
        value = fit()
        seconds = time.process_time() - begun
        write_text(path, json.dumps({"value": value, "seconds": seconds}))
        say(f"{part}: {name}, seed {seed}: {value} ({seconds:.0f} s)")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def row(name: str, found: Sequence[dict[str, Any]], seeds: Sequence[int], **more: Any) -> Any:
    """Return a row of the evidence: mean, Student's interval, seeds, seconds of a fit."""
    mean, low, high = interval([each["value"] for each in found])
    seconds = sum(each["seconds"] for each in found) / len(found)
    spread = {"mean": mean, "low": low, "high": high, "seeds": list(seeds), "seconds": seconds}
    return {"name": name, **spread, **more}


def written(name: str, rows: Sequence[Any]) -> None:
    """Write build/imagined_NAME.json."""
    write_text(BUILD / f"imagined_{name}.json", json.dumps(list(rows), indent=1))


cached_log = functools.cache(pendulum_log)
