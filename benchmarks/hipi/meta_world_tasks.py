"""Ten tasks from demonstrations of Meta-World's scripted experts that nobody labelled.

    python benchmarks/hipi/meta_world_tasks.py [--seeds 5] [--choose]

Five scenes have one to three tasks each. The experts record 25 episodes of each task, and the
labels are forgotten. Inverse RL infers the task of each episode. Policies that take the task as an
input are fitted to its answer, by cloning and by IQL, and for comparison to no tasks, to random
ones, to what is inferred without log Z (where starts are shared), and to the true ones. Their
exported files play five episodes of each task, others for every training seed.

Twice: with starts as in Meta-World, which give the task away, and with starts that all tasks of a
scene share. Needs the extra ``robots``. Prints tables, and writes
build/hipi/meta_world_tasks.json; finished runs are kept.
"""

import argparse
import os
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
from arm_tasks import ONE_HOT, TASKS, Doing, confusion, family
from tensordict import TensorDict

from hindsight_rl.files import write_whole
from hindsight_rl.logs.log import Log

EPISODES, TEST_EPISODES, TEST_SEED = 25, 5, 2_000_000
SETTINGS: dict[str, Any] = {"updates": 2000, "batch": 128, "rate": 1e-3, "hidden": [128, 128]}
IQL: dict[str, Any] = {"updates": 1000, "inverse_temperature": 3.0, "discount": 0.99}
LEARNERS: dict[str, dict[str, Any]] = {"BC": {}, "IQL": IQL}
STARTS = {"own": False, "shared": True}
INFERRED = {"highest reward": False, "inverse RL": True}
"""Labels by inverse RL, and whether log Z is subtracted."""
_IQL = [("IQL", labels) for labels in ("random", "inverse RL", "true")]
ARMS = {
    "own": [*(("BC", labels) for labels in ("none", "inverse RL", "true")), *_IQL],
    "shared": [*(("BC", labels) for labels in ("none", "random", *INFERRED, "true")), *_IQL],
}


@cache
def demonstrations(starts: str, seed: int) -> tuple[Log, Log, list[int]]:
    """Return what the experts recorded, kept from before where it was.

    Args:
        starts: Of ``STARTS``.
        seed: Of the recording.

    Returns:
        The log with the true tasks and their rewards, the same without labels, and how many
        episodes of each task were tried.
    """
    path = common.BUILD / "meta_world_tasks" / f"{starts}-{EPISODES}-{seed}.npz"
    if not path.exists():
        import arm_scenes

        columns, counts = arm_scenes.recorded(STARTS[starts], EPISODES, seed)
        plain = {"/".join(key) if isinstance(key, tuple) else key: v for key, v in columns.items()}
        write_whole(path, lambda file: np.savez(file, tried=counts, **plain))
    with np.load(path, allow_pickle=False) as found:
        plain = dict(found)
    counts = plain.pop("tried").tolist()
    columns = {
        tuple(name.split("/")) if "/" in name else name: torch.as_tensor(value)
        for name, value in plain.items()
    }
    return *labelled_and_not(columns), counts


def labelled_and_not(columns: dict[Any, torch.Tensor]) -> tuple[Log, Log]:
    """Return a log with the reward of its tasks, and one that knows neither.

    Args:
        columns: Of a log, with ``task`` and without rewards.

    Returns:
        Both.
    """
    batch = TensorDict(batch_size=[len(columns["task"])])
    for key in Doing.in_keys:
        batch[key] = columns[key]
    reward = family().reward(batch, columns["task"])
    info = {"source": "Meta-World", "action": {"low": [-1.0] * 4, "high": [1.0] * 4}}
    without = {key: value for key, value in columns.items() if key != "task"}
    key = ("next", "reward")
    return (
        Log.from_columns(columns | {key: reward}, info),
        Log.from_columns(without | {key: torch.zeros_like(reward)}, info),
    )


def relabelers(labels: str) -> list[Any]:
    """Return the data step of an arm."""
    from hindsight_rl.relabel.inverse_trajectory import InverseRL
    from hindsight_rl.relabel.random_task import RandomTask

    if labels in INFERRED:
        return [InverseRL(family(), tasks=ONE_HOT, partition=INFERRED[labels])]
    return [RandomTask(family())] if labels == "random" else []


def inferred(starts: str, labels: str, seed: int) -> list[list[float]]:
    """Return the confusion matrix of inverse RL: true tasks by inferred ones."""
    true, log, _ = demonstrations(starts, seed)
    found: Any = relabelers(labels)[0].prepare(log)
    first = true.column("step") == 0
    return confusion(found.posterior, true.column("task")[first].argmax(-1))


def fitted(settings: dict[str, Any]) -> Any:
    """Return the learner of a run after its updates."""
    import hindsight_rl

    common.quiet(settings["seed"])
    true, without, _ = demonstrations(settings["starts"], settings["recording"])
    labels, updates = settings["labels"], settings["updates"]
    data = hindsight_rl.OfflineDataModule(
        true if labels == "true" else without,
        relabelers(labels),
        batch_size=settings["batch"],
        updates_per_step=50,
        seed=settings["seed"],
    )
    learner = getattr(hindsight_rl, settings["learner"])(
        data.spec,
        network=hindsight_rl.Network(hidden=tuple(settings["hidden"])),
        head="deterministic",
        optimizer=partial(torch.optim.Adam, lr=settings["rate"], fused=True),
        decay={"actor": updates},
        **{
            name: settings[name] for name in ("inverse_temperature", "discount") if name in settings
        },
    )
    common.silent_trainer(updates).fit(learner, data)
    return learner.eval()


def played(learner: Any, starts: str, seed: int) -> list[float]:
    """Return the share of successes of a learner's file on each task."""
    from arm_scenes import Scene

    from hindsight_rl import OnnxPolicy, export_policy
    from hindsight_rl.envs.rollout import rollout

    with tempfile.TemporaryDirectory() as folder:
        export_policy(learner, Path(folder) / "policy.onnx")
        policy = OnnxPolicy(Path(folder) / "policy.onnx")
    told = learner.spec.task is not None
    found = []
    for task in TASKS:
        outcome = rollout(
            policy.act if told else lambda seen, task: policy.act(seen),
            partial(Scene, task, STARTS[starts]),
            episodes=TEST_EPISODES,
            seed=TEST_SEED + seed,
            num_envs=1,
        )
        assert outcome.successes is not None
        found.append(float(outcome.successes.mean()))
    return found


def run(starts: str, learner: str, labels: str, seed: int) -> list[float]:
    """Return the success of one policy on each task, kept from before where it was made."""
    recording = 0 if seed < min(common.CHOICE_SEEDS) else common.CHOICE_SEEDS[0]
    settings = SETTINGS | LEARNERS[learner]
    settings |= {"starts": starts, "learner": learner, "labels": labels}
    settings |= {"seed": seed, "recording": recording, "episodes": [EPISODES, TEST_EPISODES]}
    found = common.kept(
        "meta_world_tasks",
        settings,
        lambda: {"success": played(fitted(settings), starts, seed)},
    )
    return list(found["success"])


def show(starts: str, shares: dict[str, list[list[float]]]) -> None:
    """Print confusion matrices."""
    for labels, matrix in shares.items():
        right = float(np.trace(matrix)) / len(matrix)
        common.say(f"\n{starts} starts, {labels}: {right:.2f} of the posterior is right\n")
        rows = [[task, *(f"{x:.2f}" for x in row)] for task, row in zip(TASKS, matrix, strict=True)]
        common.say(common.table(["true, inferred:", *TASKS], rows))


def main() -> int:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=len(common.FIVE_SEEDS))
    parser.add_argument("--choose", action="store_true", help="seeds that are not reported")
    options = parser.parse_args()
    os.environ.setdefault("MUJOCO_GL", "disabled")  # nothing is drawn
    seeds = list(common.CHOICE_SEEDS[: options.seeds] if options.choose else range(options.seeds))
    recording = common.CHOICE_SEEDS[0] if options.choose else 0
    report: dict[str, Any] = {"seeds": seeds, "tasks": list(TASKS), "starts": {}}
    for starts in STARTS:
        shares = {labels: inferred(starts, labels, recording) for labels in INFERRED}
        tried = demonstrations(starts, recording)[2]
        part = {"recorded": EPISODES, "tried": tried, "confusion": shares}
        report["starts"][starts] = part
        show(starts, shares)
    for starts, arms in ARMS.items():
        found = {(arm, seed): run(starts, *arm, seed) for seed in seeds for arm in arms}
        report["starts"][starts]["arms"] = [
            {"learner": arm[0], "labels": arm[1], "success": [found[arm, seed] for seed in seeds]}
            for arm in arms
        ]
    for starts, part in report["starts"].items():
        common.say(f"\n{starts} starts: success, {len(seeds)} seeds\n")
        rows = [
            [arm["learner"], arm["labels"], common.summary(np.mean(arm["success"], axis=1))]
            for arm in part["arms"]
        ]
        common.say(common.table(["policy step", "labels", "success"], rows))
    if not options.choose:
        common.write_json("meta_world_tasks", report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
