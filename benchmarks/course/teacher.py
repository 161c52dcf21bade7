"""A world that differs in every episode: a teacher that sees how, a student that finds out.

    python benchmarks/course/teacher.py [--seeds 5] [--choose]

InvertedPendulum-v5, 200 steps at most, whose motor is drawn in every episode: its gear is uniform
in [-200, 200] (as it is registered: 100), so that nobody knows which way it pushes, or how hard.
The teacher is SAC that is shown the gear, exported; students are cloned from its labels where they
go (DAgger), without the gear. Beside them SAC under the same draws without the gear, and SAC in the
registered world alone. All are scored by 50 episodes of drawn motors. Finished fits are kept in
build/course/teacher; writes build/course_teacher.json and a table of docs/transfer.md. Settings
were chosen with ``--choose``, on a seed that is not reported.
"""

import sys
from pathlib import Path
from typing import Any

from lightning.pytorch import seed_everything

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in ("imagined", ".")]
import evidence  # noqa: E402
import worlds  # noqa: E402
from results import replace_part  # noqa: E402
from shared import BUILD, CHOICE_SEEDS, ROOT, silent_trainer, spread, table  # noqa: E402

from hindsight_rl import BC, SAC, Collection, IteratedDataModule, Network  # noqa: E402
from hindsight_rl.datamodules.expert import Beta, Expert  # noqa: E402
from hindsight_rl.envs.rollout import rollout  # noqa: E402
from hindsight_rl.export.onnx import export_policy  # noqa: E402
from hindsight_rl.relabel.expert_action import ExpertAction  # noqa: E402

worlds.HOME = BUILD / "course" / "teacher"
ENV = "InvertedPendulum-v5"
REGISTERED: dict[str, Any] = {"max_episode_steps": 200}
DRAWN = REGISTERED | {"randomise": {"model.actuator_gear.0.0": [-200.0, 200.0]}}
SHOWN = DRAWN | {"show_context": True}
SAC_UPDATES, CLONE_UPDATES, TESTS = 10_000, 15_000, 50
SACS = {"teacher, sees the gear": SHOWN, "SAC, drawn worlds": DRAWN, "SAC, one world": REGISTERED}
CLONES = {"student, no memory": 0, "student, 8 steps": 8}
LEARNER: dict[str, Any] = {"optimizer": worlds.adam, "compile": "off"}


def score(policy: Any, world: dict[str, Any]) -> float:
    """Return the mean return of the test episodes."""
    seed, act = worlds.TEST_SEED, policy.eval().player()
    return float(rollout(act, ENV, episodes=TESTS, seed=seed, env_kwargs=world).returns.mean())


def taught(seed: int) -> Path:
    """Return where the teacher of a seed is exported."""
    return worlds.HOME / f"teacher-{seed}.onnx"


def soft_actor_critic(name: str, seed: int) -> float:
    """Return the score of SAC trained in some worlds; the teacher is exported."""
    seed_everything(seed, verbose=False)
    collection = Collection(initial_episodes=50, episodes_per_round=8, num_envs=8)
    data = IteratedDataModule(
        ENV, env_kwargs=SACS[name], collection=collection, batch_size=128, seed=seed
    )
    policy = SAC(data.spec, network=worlds.SMALL, **LEARNER)
    silent_trainer(SAC_UPDATES).fit(policy, data)
    if SACS[name] is not SHOWN:
        return score(policy, DRAWN)
    taught(seed).parent.mkdir(parents=True, exist_ok=True)
    export_policy(policy, taught(seed))
    return score(policy, SHOWN)


def student(name: str, seed: int) -> float:
    """Return the score of a clone of the teacher's labels, where the clone goes."""
    seed_everything(seed, verbose=False)
    expert = Expert(str(taught(seed)), Beta((1.0, 0.0)), sees_context=True)
    collection = Collection(
        initial_episodes=10,
        episodes_per_round=10,
        num_envs=10,
        sample=False,
        expert=expert,
        updates_per_env_step=0.5,
    )
    data = IteratedDataModule(
        ENV, [ExpertAction()], env_kwargs=DRAWN, collection=collection, batch_size=64, seed=seed
    )
    wide = Network(hidden=(128, 128))
    policy = BC(data.spec, network=wide, history=CLONES[name], **LEARNER)
    silent_trainer(CLONE_UPDATES).fit(policy, data)
    return score(policy, DRAWN)


def rows_of(seeds: tuple[int, ...]) -> list[Any]:
    """Return a row for every method; one seed after the other is fitted."""
    found: dict[str, list[Any]] = {}
    for seed in seeds:
        for name in (*SACS, *CLONES):
            fit = soft_actor_critic if name in SACS else student
            one = worlds.kept("scores", name, seed, lambda: fit(name, seed))  # noqa: B023
            found.setdefault(name, []).append(one)
    return [worlds.row(name, each, seeds) for name, each in found.items()]


def document(rows: list[Any]) -> None:
    """Rewrite the table of docs/transfer.md."""
    lines = [[line["name"], spread(line), f"{line['seconds']:.0f}"] for line in rows]
    note = (
        f"Mean return (200 at most) of {TESTS} episodes of drawn motors over "
        f"{len(rows[0]['seeds'])} seeds, Student's 95 % intervals."
    )
    shown = table(["policy", "return", "s"], lines)
    replace_part(ROOT / "docs" / "transfer.md", "teacher", f"{note}\n\n{shown}")


if __name__ == "__main__":
    evidence.run("teacher", __doc__, rows_of, document, lambda: rows_of(CHOICE_SEEDS[:1]))
