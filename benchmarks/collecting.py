"""What collecting and testing cost, beside a bare loop of the same environments.

    python benchmarks/collecting.py [--repeats 5] [--only collect test overlap replay]

- ``collect``: steps per second of rounds that a policy draws in 8 environments.
- ``test``: steps per second of episodes as ``hindsight test`` plays them, in 16 environments.
- ``overlap``: wall time of a training whose rounds are collected one ahead, at once and while
  updates run, by turns.
- ``replay``: appending to a replay that is full with a million rows.

The bare loop draws random actions, resets what ended and keeps nothing. All but ``overlap`` counts
seconds of the processor, of one thread. Medians; low and high are the least and the largest. Writes
build/collecting.json and the tables of docs/iterated-data.md.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import torch
from lightning.pytorch.callbacks import Callback
from results import BUILD, ROOT, replace_part
from shared import quiet, say, silent_trainer, table

from hindsight_rl import BC, PPO, SAC, IteratedDataModule
from hindsight_rl.datamodules.collection import Collection
from hindsight_rl.datamodules.replay import Replay
from hindsight_rl.envs.rollout import rollout
from hindsight_rl.files import write_text
from hindsight_rl.nets.network import Network
from hindsight_rl.relabel.goals import FutureGoal
from hindsight_rl.tasks.family import GoalReaching

ROWS, LENGTH = 1_000_000, 50
ENVS, TESTED = 8, 16


@dataclass(frozen=True)
class Case:
    """What is played and fitted: two layers of so many units, batches of so many rows."""

    learner: Any
    env: str
    hidden: int
    batch: int
    compiled: str = "off"

    @property
    def name(self) -> str:
        """What the tables say."""
        how = "" if self.compiled == "off" else ", compiled"
        env = self.env.removeprefix("Hindsight/").rpartition("-")[0]
        return f"{self.learner.__name__} 2x{self.hidden}{how}, {env}"

    def data(self, **collection: Any) -> IteratedDataModule:
        """Return a datamodule with two random episodes."""
        goals = [FutureGoal(GoalReaching(radius=1.0))] if "Rooms" in self.env else []
        plain: dict[str, Any] = {"initial_episodes": 2, "num_envs": ENVS, "max_episode_steps": 200}
        if self.learner is PPO:
            plain |= {"epochs": 10, "steps_per_round": 2_048}
        return IteratedDataModule(
            self.env,
            goals,
            batch_size=self.batch,
            collection=Collection(**plain | collection),
            seed=10,
        )

    def model(self, data: IteratedDataModule) -> Any:
        """Return the learner with its first weights."""
        torch.manual_seed(0)
        network = Network(hidden=(self.hidden, self.hidden))
        return self.learner(data.spec, network=network, compile=self.compiled, threads=1)


ROOMS, PENDULUM, CHEETAH = "Hindsight/FourRooms-v0", "Pendulum-v1", "HalfCheetah-v5"
PLAYED = (
    Case(BC, ROOMS, 64, 256),
    Case(SAC, ROOMS, 256, 256),
    Case(SAC, PENDULUM, 256, 256),
    Case(SAC, CHEETAH, 256, 256),
    Case(PPO, "CartPole-v1", 64, 64),
)
OVERLAPPED = (
    Case(SAC, PENDULUM, 64, 64, "update"),
    Case(SAC, CHEETAH, 64, 64, "update"),
    Case(SAC, PENDULUM, 64, 64),
)


def seconds_of(run: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    """Return how long a call takes."""
    start = clock()
    run()
    return clock() - start


def bare(env: str, count: int) -> float:
    """Return steps per second of a loop that draws actions and keeps nothing."""
    envs: Any = gymnasium.make_vec(env, num_envs=count, vectorization_mode="sync")
    envs.reset(seed=0)
    rounds = 4_000 // count

    def play() -> None:
        for _ in range(rounds):
            envs.step(envs.action_space.sample())

    return count * rounds / seconds_of(play)


def collected(case: Case) -> Callable[[], float]:
    """Return what measures steps per second of rounds that are collected."""
    data = case.data()
    learner, collector = case.model(data), data._collector
    policy, first = learner.collecting(True), [100]
    collector.stating = not collector.unstated(policy)

    def measured() -> float:
        steps: list[int] = []

        def play() -> None:
            found = collector.collect(policy, first[0], ENVS, data._replays.real, steps=2_000)
            steps.append(int(found.lengths.sum()))

        seconds = seconds_of(play)
        first[0] += 1_000
        return steps[0] / seconds

    measured()
    return measured


def tested(case: Case) -> Callable[[], float]:
    """Return what measures steps per second of episodes that are tested."""
    learner = case.model(case.data()).eval()
    play = functools.partial(rollout, learner.player(), case.env, spec=learner.spec, max_steps=250)

    def measured() -> float:
        lengths: list[int] = []

        def run() -> None:
            lengths.extend(play(episodes=TESTED, seed=7).lengths.tolist())

        seconds = seconds_of(run)
        return sum(lengths) / seconds

    measured()
    return measured


class Ends(Callback):
    """Notes updates and time at the end of every chunk; the first one compiles.

    Args:
        clock: Gives the time.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.found: list[tuple[int, float]] = []

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Note it."""
        self.found.append((trainer.global_step, self._clock()))


def trained(case: Case, **collection: Any) -> float:
    """Return the wall time of the updates after the first chunk, and of what they wait for."""
    data = case.data(episodes_per_round=ENVS, delayed=True, **collection)
    ends = Ends(time.perf_counter)
    updates = 8_000 if case.compiled == "update" else 2_000
    silent_trainer(updates, callbacks=[ends]).fit(case.model(data), data)
    return ends.found[-1][1] - ends.found[0][1]


def appended() -> Callable[[], float]:
    """Return what measures milliseconds of appending a round to a full replay of a million rows."""
    names: list[Any] = ["observation", ("next", "observation")]
    replay, lengths = Replay(ROWS, {}), torch.full([8], LENGTH)

    def append(count: int) -> None:
        rows = count * LENGTH
        columns = {name: torch.zeros(rows, 11) for name in names} | {"action": torch.zeros(rows, 2)}
        replay.append(columns, lengths.new_full([count], LENGTH))

    for _ in range(21):
        append(ROWS // LENGTH // 20)
    return lambda: 1e3 * seconds_of(lambda: [append(len(lengths)) for _ in range(200)]) / 200


class Rows:
    """What was measured, printed as it comes.

    Args:
        repeats: Of every measurement.
    """

    def __init__(self, repeats: int) -> None:
        self._repeats = repeats
        self.rows: list[dict[str, Any]] = []

    def add(self, part: str, name: str, **measured: Callable[[], float]) -> dict[str, float]:
        """Measure by turns, and return the medians."""
        begun = time.perf_counter()
        found: dict[str, list[float]] = {kind: [] for kind in measured}
        for _ in range(self._repeats):
            for kind, measure in measured.items():
                found[kind].append(measure())
        medians = {kind: statistics.median(values) for kind, values in found.items()}
        for kind, values in found.items():
            self.rows.append(
                {"name": f"{part}: {name}, {kind}", "mean": medians[kind], "low": min(values)}
                | {"high": max(values), "seeds": 1, "seconds": time.perf_counter() - begun}
            )
        say(f"{part}: {name}: " + ", ".join(f"{k} {v:,.4g}" for k, v in medians.items()))
        return medians


def collect_table(rows: Rows) -> str:
    """Measure what is collected."""
    cells = []
    for case in PLAYED:
        beside = functools.partial(bare, case.env, ENVS)
        found = rows.add("collect", case.name, ours=collected(case), bare=beside)
        ratio = f"{found['ours'] / found['bare']:.2f}"
        cells.append((case.name, f"{found['ours']:,.0f}", f"{found['bare']:,.0f}", ratio))
    header = ("policy, environment", "steps collected/s", "bare loop, steps/s", "ratio")
    return table(header, cells)


def test_table(rows: Rows) -> str:
    """Measure what is tested."""
    cells = []
    for case in PLAYED[1:]:
        beside = functools.partial(bare, case.env, TESTED)
        found = rows.add("test", case.name, ours=tested(case), bare=beside)
        ratio = f"{found['ours'] / found['bare']:.2f}"
        cells.append((case.name, f"{found['ours']:,.0f}", f"{found['bare']:,.0f}", ratio))
    return table(("policy, environment", "steps tested/s", "bare loop, steps/s", "ratio"), cells)


def overlap_table(rows: Rows) -> str:
    """Measure trainings that wait for what is collected, and that do not."""
    cells = []
    for case in OVERLAPPED:
        trained(case)  # compiles
        found = rows.add(
            "overlap",
            case.name,
            waiting=functools.partial(trained, case),
            background=functools.partial(trained, case, background=True),
        )
        ratio = f"{found['background'] / found['waiting']:.2f}"
        cells.append((case.name, f"{found['waiting']:.2f}", f"{found['background']:.2f}", ratio))
    return table(("learner, environment", "waiting, s", "in the background, s", "ratio"), cells)


def replay_table(rows: Rows) -> str:
    """Measure a full replay."""
    ms = rows.add("replay", "append 400 rows to a million", ms=appended())["ms"]
    return f"Appending 400 rows to a replay that is full with a million takes {ms:.1f} ms."


PARTS: dict[str, Callable[[Rows], str]] = {
    "collect": collect_table,
    "test": test_table,
    "overlap": overlap_table,
    "replay": replay_table,
}


def main() -> int:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS))
    given = parser.parse_args()
    quiet()
    path = BUILD / "collecting.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for part in given.only:
        rows = Rows(given.repeats)
        text = PARTS[part](rows)
        replace_part(ROOT / "docs" / "iterated-data.md", part, text)
        before = [row for row in before if not row["name"].startswith(f"{part}:")] + rows.rows
        BUILD.mkdir(exist_ok=True)
        write_text(path, json.dumps(before, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
